"""Random patterns for property tests."""

from dataclasses import replace

from hypothesis.strategies import SearchStrategy, booleans, builds, composite, integers, just, lists, none, sampled_from
from hypothesis.strategies import one_of as any_of

from vitreous.models.pattern_language import (
    Activation,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalPool,
    Pattern,
    Pool,
    Repeat,
    Residual,
    Unshuffle,
)

activations = sampled_from(["lin", "relu", "tanh", "gelu", "silu"])
modes = sampled_from(["max", "avg"])


def some_blurred(nodes: SearchStrategy) -> SearchStrategy:
    """Some of those with a stride give it to a blur."""
    return builds(lambda node, is_blurred: replace(node, is_blurred=is_blurred and node.stride > 1), nodes, booleans())


plain_convs = builds(
    Conv,
    filters=sampled_from([2, 4, 6]),
    kernel=sampled_from([(3, 3), (1, 1), (2, 2), (5, 5), (1, 4), (3, 1)]),
    stride=integers(1, 2),
    padding=just(None),
    dilation=integers(1, 2),
    groups=integers(1, 2),
    has_norm=booleans(),
    activation=activations,
)
convs = some_blurred(plain_convs)
padded_convs = some_blurred(builds(Conv, filters=sampled_from([2, 4]), stride=integers(1, 3), padding=integers(0, 2)))
denses = builds(Dense, units=integers(1, 9), has_norm=booleans(), activation=activations)
anywhere = any_of(
    builds(Activation, sampled_from(["relu", "tanh", "gelu", "silu"])),
    just(BatchNorm()),
    builds(Dropout, integers(1, 9999).map(lambda n: n / 10_000)),
)
small_pools = builds(Pool, mode=modes, kernel=just(2), stride=integers(1, 2), padding=integers(0, 1))
large_pools = builds(Pool, mode=modes, kernel=just(3), stride=integers(1, 3), padding=integers(0, 1))
pools = some_blurred(any_of(small_pools, large_pools))
on_maps = any_of(convs, padded_convs, anywhere, pools, just(Unshuffle(2)))


@composite
def groups(draw, nodes: SearchStrategy, last: SearchStrategy) -> Repeat | Residual:
    body = (*draw(lists(nodes, max_size=2)), draw(last))
    group = Residual(body) if draw(booleans()) else None
    times = draw(integers(1 if group else 2, 3))
    return Repeat((group,) if group else body, times) if times > 1 else group


map_groups = groups(any_of(convs, anywhere, groups(convs, convs)), convs)
vector_groups = groups(any_of(denses, anywhere), denses)
patterns = builds(
    lambda maps, middle, vectors, head, has_softmax: Pattern((*maps, middle, *vectors), head, has_softmax),
    lists(any_of(on_maps, map_groups), max_size=4),
    any_of(just(Flatten()), builds(GlobalPool, mode=modes)),
    lists(any_of(denses, anywhere, vector_groups), max_size=3),
    any_of(none(), just(3)),
    booleans(),
)
