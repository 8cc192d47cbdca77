"""The pattern language: a network on one line of text, such as ``conv64 conv64 pool flatten fc256 fc softmax``.

Words, separated by blanks, in any case:

    conv64         64 filters of 3x3, stride 1, same padding, then ReLU. Settings follow in any order:
                   k5 or k1x7 kernel, s2 stride, p0 padding, d2 dilation, g4 groups, bn batch norm (and no bias),
                   lin, tanh, gelu, silu in place of ReLU (lin: none), blur: stride 1, and a blur takes the stride
    pool avgpool   maximum or average of 2x2 with stride 2; pool3s2p1 has 3x3, stride 2, padding 1; takes blur too
    gap gmp        average or maximum over the whole map, one number per channel
    flatten        the map as one vector
    fc256          fully connected, then ReLU; takes bn and the activations too
    relu tanh gelu silu bn dropout dropout0.3     on their own
    unshuffle2     2x2 blocks of pixels become channels
    [...]*3        three times the same layers, each with weights of its own
    res[...]       activation(branch(x) + shortcut(x)). The branch ends in a conv or fc; its activation comes after the
                   sum (He et al. 2015). The shortcut is x itself, or a 1x1 convolution where the shapes differ

The last fc is the head: one output per class, no activation; ``fc`` alone takes the number from the data. ``softmax``
may follow it and is kept for the reader's sake: networks give logits, and who reads them applies the softmax.

``parse`` turns a line into a ``Pattern``; ``str(pattern)`` is the line in its one canonical spelling. Errors count the
words without the brackets.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, NamedTuple

from vitreous.errors import PatternError
from vitreous.geometry import kernel_span, same_padding

MAX_LINE = 10_000  # characters
MAX_WORD = 60  # characters
MAX_DEPTH = 20  # groups inside groups
MAX_LAYERS = 10_000  # once the groups are unrolled
ACTIVATIONS = ("lin", "relu", "tanh", "gelu", "silu")


# --- the words of a line ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Conv:
    """``conv64k5s2bn``: convolution, batch norm, activation. A padding of None is "same".

    Where it is blurred, the convolution has stride 1 and a blur behind the activation takes the stride.
    """

    filters: int
    kernel: tuple[int, int] = (3, 3)
    stride: int = 1
    padding: int | None = None
    dilation: int = 1
    groups: int = 1
    has_norm: bool = False
    activation: str = "relu"
    is_blurred: bool = False

    kind: ClassVar = "conv"

    @property
    def paddings(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Zeros above and below, left and right."""
        if self.padding is not None:
            return (self.padding, self.padding), (self.padding, self.padding)
        height, width = self.kernel
        return same_padding(height, self.dilation), same_padding(width, self.dilation)

    def __str__(self) -> str:
        height, width = self.kernel
        return (
            f"conv{self.filters}"
            + ("" if self.kernel == (3, 3) else f"k{height}" if height == width else f"k{height}x{width}")
            + ("" if self.stride == 1 else f"s{self.stride}")
            + ("" if self.padding is None else f"p{self.padding}")
            + ("" if self.dilation == 1 else f"d{self.dilation}")
            + ("" if self.groups == 1 else f"g{self.groups}")
            + _norm_and_activation(self.has_norm, self.activation)
            + ("blur" if self.is_blurred else "")
        )


@dataclass(frozen=True, slots=True)
class Pool:
    """``pool3s2p1`` or ``avgpool2``. Where it is blurred, the windows step by 1 and a blur takes the stride."""

    mode: Literal["max", "avg"]
    kernel: int = 2
    stride: int = 2
    padding: int = 0
    is_blurred: bool = False

    kind: ClassVar = "pool"

    def __str__(self) -> str:
        settings = ("" if self.stride == self.kernel else f"s{self.stride}") + (
            f"p{self.padding}" if self.padding else ""
        )
        kernel = "" if self.kernel == 2 and not settings else str(self.kernel)
        blur = "blur" if self.is_blurred else ""
        return ("pool" if self.mode == "max" else "avgpool") + kernel + settings + blur


@dataclass(frozen=True, slots=True)
class GlobalPool:
    """``gap`` or ``gmp``: a map becomes one number per channel."""

    mode: Literal["max", "avg"]

    kind: ClassVar = "pool"

    def __str__(self) -> str:
        return "gmp" if self.mode == "max" else "gap"


@dataclass(frozen=True, slots=True)
class Flatten:
    """``flatten``: a map becomes a vector."""

    kind: ClassVar = "flatten"

    def __str__(self) -> str:
        return "flatten"


@dataclass(frozen=True, slots=True)
class Dense:
    """``fc256``: fully connected, batch norm, activation."""

    units: int
    has_norm: bool = False
    activation: str = "relu"

    kind: ClassVar = "fc"

    def __str__(self) -> str:
        return f"fc{self.units}" + _norm_and_activation(self.has_norm, self.activation)


@dataclass(frozen=True, slots=True)
class Activation:
    """``relu``, ``tanh``, ``gelu`` or ``silu`` on its own."""

    name: str

    kind: ClassVar = "act"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class BatchNorm:
    """``bn`` on its own."""

    kind: ClassVar = "bn"

    def __str__(self) -> str:
        return "bn"


@dataclass(frozen=True, slots=True)
class Dropout:
    """``dropout0.3``: each value is zeroed with this probability, which has up to four decimals."""

    rate: float = 0.5

    kind: ClassVar = "dropout"

    def __str__(self) -> str:
        return "dropout" if self.rate == 0.5 else f"dropout{self.rate:.4f}".rstrip("0")


@dataclass(frozen=True, slots=True)
class Unshuffle:
    """``unshuffle2``: blocks of 2x2 pixels become channels; C,H,W -> 4C,H/2,W/2."""

    factor: int

    kind: ClassVar = "unshuffle"

    def __str__(self) -> str:
        return f"unshuffle{self.factor}"


@dataclass(frozen=True, slots=True)
class Repeat:
    """``[...]*3``; at least two times."""

    body: tuple["Node", ...]
    times: int

    def __str__(self) -> str:
        is_residual = len(self.body) == 1 and isinstance(self.body[0], Residual)
        return f"{self.body[0]}*{self.times}" if is_residual else f"[{_joined(self.body)}]*{self.times}"


@dataclass(frozen=True, slots=True)
class Residual:
    """``res[...]``; the last layer of the body is a convolution or fully connected."""

    body: tuple["Node", ...]

    kind: ClassVar = "res"

    @property
    def last(self) -> "Node":
        """The layer whose activation comes after the sum."""
        last = self.body[-1]
        while isinstance(last, Repeat):
            last = last.body[-1]
        return last

    def __str__(self) -> str:
        return f"res[{_joined(self.body)}]"


Leaf = Conv | Pool | GlobalPool | Flatten | Dense | Activation | BatchNorm | Dropout | Unshuffle
Node = Leaf | Repeat | Residual


@dataclass(frozen=True, slots=True)
class Pattern:
    """A whole line: the layers, then the head, whose None means "as many outputs as the data has classes"."""

    body: tuple[Node, ...]
    head: int | None = None
    has_softmax: bool = False

    def __str__(self) -> str:
        head = "fc" if self.head is None else f"fc{self.head}"
        return _joined((*self.body, head, *(["softmax"] if self.has_softmax else [])))


def _norm_and_activation(has_norm: bool, activation: str) -> str:
    return ("bn" if has_norm else "") + ("" if activation == "relu" else activation)


def _joined(words: Sequence[object]) -> str:
    return " ".join(str(word) for word in words)


def num_words(nodes: Sequence[Node]) -> int:
    """How many words spell these nodes; brackets are not words."""
    return sum(num_words(node.body) if isinstance(node, Repeat | Residual) else 1 for node in nodes)


def num_layers(nodes: Sequence[Node]) -> int:
    """How many layers these nodes make once every group is unrolled."""
    return sum(
        num_layers(node.body) * (node.times if isinstance(node, Repeat) else 1)
        if isinstance(node, Repeat | Residual)
        else 1
        for node in nodes
    )


def unrolled(nodes: Sequence[Node], first_word: int = 1) -> Iterator[tuple[int, Leaf | Residual]]:
    """The nodes with every repetition written out, each with the number of its (first) word.

    >>> [f"{word}:{node}" for word, node in unrolled(parse("[conv8 pool]*2 flatten fc").body)]
    ['1:conv8', '2:pool', '1:conv8', '2:pool', '3:flatten']
    """
    word = first_word
    for node in nodes:
        if isinstance(node, Repeat):
            for _ in range(node.times):
                yield from unrolled(node.body, word)
        else:
            yield word, node
        word += num_words([node])


# --- from a line to a pattern -----------------------------------------------------------------------------------------


def parse(line: str) -> Pattern:
    """Read one line of the language.

    Raises:
        PatternError: a word or a bracket is wrong; the message points at it.

    >>> str(parse("CONV64BNK5 [conv64 maxpool2]*2 gap fc10"))
    'conv64k5bn [conv64 pool]*2 gap fc10'
    """
    if len(line) > MAX_LINE:
        raise PatternError(f"the line has {len(line):,} characters; at most {MAX_LINE:,} are read. Use groups: [...]*3")
    tokens = _tokens(line)
    if not tokens:
        raise PatternError("the line is empty; write words such as: conv32 pool conv64 pool flatten fc")
    for token in tokens:
        if len(token.text) > MAX_WORD:
            raise _error(line, token, f"word {token.word} has {len(token.text):,} characters; put blanks between words")
    last = tokens[-1]
    has_softmax = last.text == "softmax"
    if has_softmax:
        tokens.pop()
    head = tokens.pop() if tokens and re.match(r"fc(?![a-z])", tokens[-1].text) else None
    body = _parse_groups(line, tokens)
    if num_layers(body) > MAX_LAYERS:
        raise PatternError(f"the line makes more than {MAX_LAYERS:,} layers; repeat its groups less often")
    if head is None:
        raise _error(line, last, "the line has no head; end it with fc, which gives one output per class")
    return Pattern(body, _parse_head(line, head), has_softmax)


class _Token(NamedTuple):
    text: str  # lower case, without blanks
    word: int  # its number; a bracket has that of the word before it
    start: int
    end: int


def _tokens(line: str) -> list[_Token]:
    """Words and brackets: ``[``, ``res[``, ``]``, ``]*3``."""
    tokens: list[_Token] = []
    word = 0
    for match in re.finditer(r"res\s*\[|\[|\](?:\s*\*\s*[0-9]+)?|[^\s\[\]]+", line, re.IGNORECASE):
        text = re.sub(r"\s", "", match[0]).lower()
        word += not _is_bracket(text)
        tokens.append(_Token(text, word, *match.span()))
    return tokens


def _is_bracket(text: str) -> bool:
    return text.endswith("[") or text.startswith("]")


def _parse_groups(line: str, tokens: Sequence[_Token]) -> tuple[Node, ...]:
    """The nodes of all groups; ``levels`` holds what each group that is still open has so far."""
    levels: list[list[Node]] = [[]]
    opened: list[_Token] = []
    for token in tokens:
        if token.text.endswith("["):
            opened.append(token)
            levels.append([])
            if len(opened) > MAX_DEPTH:
                raise _error(line, token, f"groups are nested more than {MAX_DEPTH} deep; write fewer brackets")
        elif token.text.startswith("]"):
            if not opened:
                raise _error(line, token, "this ] closes no [; remove it, or open the group with [ or res[")
            body = tuple(levels.pop())
            levels[-1].extend(_close_group(line, opened.pop(), token, body))
        else:
            with _pointing_at(line, token):
                levels[-1].append(_read_word(token.text))
    if opened:
        raise _error(line, opened[-1], f"this {opened[-1].text} is never closed; add ] behind its last layer")
    return tuple(levels[0])


def _close_group(line: str, opening: _Token, closing: _Token, body: tuple[Node, ...]) -> tuple[Node, ...]:
    if not body:
        raise _error(line, closing, "the group is empty; put layers between the brackets")
    if opening.text == "res[":
        group = Residual(body)
        if not isinstance(group.last, Conv | Dense):
            raise _error(line, closing, "a res group ends in a conv or an fc, whose activation comes after the sum")
        body = (group,)
    if "*" not in closing.text:
        return body
    with _pointing_at(line, closing):
        times = _number(closing.text.removeprefix("]*"), "the number of repetitions")
    return (Repeat(body, times),) if times > 1 else body


def _parse_head(line: str, token: _Token) -> int | None:
    with _pointing_at(line, token):
        match = re.fullmatch(r"fc([0-9]*)(?:lin)?", token.text)
        if match is None:
            raise _Refused(f"'{token.text}' is the head and gives logits; write fc or fc10, without settings")
        return _number(match[1], "fc's number of outputs") if match[1] else None


# --- errors -----------------------------------------------------------------------------------------------------------


class _Refused(Exception):
    """A word cannot be read; the text says why. It never leaves this module."""


@contextmanager
def _pointing_at(line: str, token: _Token) -> Iterator[None]:
    """Turn a refusal into an error that shows the token in its line."""
    try:
        yield
    except _Refused as refused:
        place = "" if _is_bracket(token.text) else f"word {token.word}: "
        raise _error(line, token, f"{place}{refused}") from None


def point_at(line: str, word: int, reason: str) -> PatternError:
    """An error about a word, given by its number, that shows the line with the word underlined."""
    token = next(token for token in _tokens(line) if token.word == word and not _is_bracket(token.text))
    return _error(line, token, reason)


def _error(line: str, token: _Token, reason: str) -> PatternError:
    """The reason, the line (of a long one the neighbourhood), and carets under the token."""
    shown = min(token.end - token.start, MAX_WORD)
    first, end = max(0, token.start - 60), min(len(line), token.start + shown + 40)
    before, behind = ("... " if first else ""), (" ..." if end < len(line) else "")
    excerpt = re.sub(r"\s", " ", line[first:end])
    carets = " " * (len(before) + token.start - first) + "^" * shown
    return PatternError(f"{reason}\n  {before}{excerpt}{behind}\n  {carets}")


# --- single words -----------------------------------------------------------------------------------------------------


def is_word(text: str) -> bool:
    """Whether this is meant as a word of the language: letters that name a layer, whatever follows them.

    >>> is_word("conv64k5"), is_word("resnet18")
    (True, False)
    """
    return _stem(text) in _READERS


def _stem(text: str) -> str:
    return re.split(r"[^a-z]|(?<=.)blur", text, maxsplit=1)[0]


def _read_word(text: str) -> Leaf:
    stem = _stem(text)
    if "*" in text:
        raise _Refused("a repetition needs brackets, as in [conv64]*3")
    if stem not in _READERS:
        raise _Refused(f"'{text}' is not a layer; {_suggestion(stem, text.removeprefix(stem))}")
    return _READERS[stem](text.removeprefix(stem))


def _suggestion(stem: str, settings: str) -> str:
    """What may have been meant: the nearest stem with the same settings if that is a word, else an example of it."""
    near = difflib.get_close_matches(stem, _EXAMPLES, n=1, cutoff=0.5)
    if not near:
        return f"the layers are {', '.join(_EXAMPLES)}"
    try:
        _read_word(near[0] + settings)
    except _Refused:
        return f"did you mean {_EXAMPLES[near[0]]}?"
    return f"did you mean {near[0]}{settings}?"


_SETTING = re.compile(
    r"(?P<name>blur|bn|lin|relu|tanh|gelu|silu|[kspdg](?=[0-9]))(?P<value>(?<=k)[0-9]+x[0-9]+|(?<=[kspdg])[0-9]+|)"
)


def _settings(text: str, word: str, takes: str) -> dict[str, str]:
    """Settings by their name, an activation under "act": 's2bntanh' -> {'s': '2', 'bn': '', 'act': 'tanh'}."""
    found: dict[str, str] = {}
    while text:
        match = _SETTING.match(text)
        if match is None or match["name"] not in takes.split():
            raise _Refused(f"'{text}' is not a setting of {word}, which takes {takes}")
        is_activation = match["name"] in ACTIVATIONS
        name, value = ("act", match["name"]) if is_activation else (match["name"], match["value"])
        if name in found:
            raise _Refused(f"'{match[0]}' sets something of {word} that is set already; give it once")
        found[name] = value
        text = text[match.end() :]
    return found


def _number(digits: str, what: str, least: int = 1) -> int:
    if len(digits) > 9:
        raise _Refused(f"{what} has {len(digits)} digits; use a smaller number")
    if int(digits) < least:
        raise _Refused(f"{what} is {int(digits)}; it must be at least {least}")
    return int(digits)


def _leading_number(text: str) -> tuple[str, str]:
    rest = text.lstrip("0123456789")
    return text[: len(text) - len(rest)], rest


def _read_conv(text: str) -> Conv:
    digits, rest = _leading_number(text)
    if not digits:
        raise _Refused("conv needs its number of filters, as in conv64")
    found = _settings(rest, "conv", f"k s p d g bn {' '.join(ACTIVATIONS)} blur")
    height, _, width = found.get("k", "3").partition("x")
    conv = Conv(
        filters=_number(digits, "conv's number of filters"),
        kernel=(_number(height, "conv's kernel"), _number(width or height, "conv's kernel")),
        stride=_number(found.get("s", "1"), "conv's stride"),
        padding=_number(found["p"], "conv's padding", least=0) if "p" in found else None,
        dilation=_number(found.get("d", "1"), "conv's dilation"),
        groups=_number(found.get("g", "1"), "conv's number of groups"),
        has_norm="bn" in found,
        activation=found.get("act", "relu"),
        is_blurred="blur" in found,
    )
    _check_blur(conv)
    smallest_span = min(kernel_span(kernel, conv.dilation) for kernel in conv.kernel)
    if conv.padding is not None and conv.padding >= smallest_span:
        raise _Refused(f"padding {conv.padding} would show a {smallest_span} px window nothing but zeros; use less")
    if conv.filters % conv.groups:
        raise _Refused(f"{conv.groups} groups do not divide {conv.filters} filters; change g or the filters")
    return conv


def _read_pool(text: str, mode: Literal["max", "avg"]) -> Pool:
    digits, rest = _leading_number(text)
    kernel = _number(digits or "2", "the pool's window")
    found = _settings(rest, "pool", "s p blur")
    stride = _number(found["s"], "the pool's stride") if "s" in found else kernel
    padding = _number(found.get("p", "0"), "the pool's padding", least=0)
    if 2 * padding > kernel:
        raise _Refused(
            f"padding {padding} is more than half of the {kernel}x{kernel} window; use at most {kernel // 2}"
        )
    pool = Pool(mode, kernel, stride, padding, is_blurred="blur" in found)
    _check_blur(pool)
    return pool


def _check_blur(node: Conv | Pool) -> None:
    if node.is_blurred and node.stride == 1:
        raise _Refused(f"the blur of {node.kind} takes its stride, which is 1; write s2, or leave blur out")


def _read_dense(text: str) -> Dense:
    digits, rest = _leading_number(text)
    if not digits:
        raise _Refused("fc without a number is the head and comes last; here it needs one, as in fc256")
    found = _settings(rest, "fc", "bn " + " ".join(ACTIVATIONS))
    return Dense(_number(digits, "fc's number of units"), "bn" in found, found.get("act", "relu"))


def _read_dropout(text: str) -> Dropout:
    if re.fullmatch(r"|0?\.[0-9]{1,4}", text) is None or not 0 < float(text or 0.5) < 1:
        raise _Refused(f"'{text}' is not a rate of dropout; write dropout0.3, above 0 and below 1, up to four decimals")
    return Dropout(float(text or 0.5))


def _read_unshuffle(text: str) -> Unshuffle:
    if not text.isascii() or not text.isdigit():
        raise _Refused("unshuffle needs the side of its blocks, as in unshuffle2")
    return Unshuffle(_number(text, "unshuffle's block", least=2))


def _read_plain(text: str, node: Leaf) -> Leaf:
    if text:
        raise _Refused(f"{node} takes no settings, but has '{text}'")
    return node


def _refuse(text: str, reason: str) -> Leaf:
    raise _Refused(reason)


_READERS: dict[str, Callable[[str], Leaf]] = {
    "conv": _read_conv,
    "pool": partial(_read_pool, mode="max"),
    "maxpool": partial(_read_pool, mode="max"),
    "avgpool": partial(_read_pool, mode="avg"),
    "gap": partial(_read_plain, node=GlobalPool("avg")),
    "gmp": partial(_read_plain, node=GlobalPool("max")),
    "flatten": partial(_read_plain, node=Flatten()),
    "fc": _read_dense,
    "bn": partial(_read_plain, node=BatchNorm()),
    "dropout": _read_dropout,
    "unshuffle": _read_unshuffle,
    **{name: partial(_read_plain, node=Activation(name)) for name in ACTIVATIONS if name != "lin"},
    "res": partial(_refuse, reason="res is a group of layers; write res[conv64 conv64]"),
    "softmax": partial(_refuse, reason="softmax is the last word of a line, behind the last fc"),
}
_EXAMPLES = {stem: stem for stem in _READERS} | {
    "conv": "conv64",
    "fc": "fc256",
    "unshuffle": "unshuffle2",
    "res": "res[conv64 conv64]",
}
