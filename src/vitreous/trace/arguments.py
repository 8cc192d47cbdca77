"""What stands in the arguments of a function: tensors, in lists, tuples and dicts too."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def found(kind: type[T], value: Any) -> Iterator[T]:
    """Everything of a kind, in order.

    >>> list(found(int, ([1, "a"], {"b": 2})))
    [1, 2]
    """
    if isinstance(value, kind):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from found(kind, each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from found(kind, each)


def on_each_axis(value: Any, num_axes: int) -> tuple[Any, ...]:
    """A setting of a window, as torch takes it, axis by axis: one number serves all of them.

    >>> on_each_axis(3, 2), on_each_axis([3], 2), on_each_axis((3, 5), 2)
    ((3, 3), (3, 3), (3, 5))
    """
    if isinstance(value, int | float):
        return (value,) * num_axes
    return tuple(value) * num_axes if len(value) == 1 else tuple(value)


def replaced(kind: type[T], change: Callable[[T], Any], value: Any) -> Any:
    """The same arguments with something else in place of everything of a kind.

    >>> replaced(int, str, ([1, "a"], {"b": 2}))
    (['1', 'a'], {'b': '2'})
    """
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, list):
        return [replaced(kind, change, each) for each in value]
    if isinstance(value, tuple):
        return tuple(replaced(kind, change, each) for each in value)
    if isinstance(value, dict):
        return {key: replaced(kind, change, each) for key, each in value.items()}
    return value
