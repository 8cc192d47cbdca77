"""How messages speak of names and numbers."""

from collections.abc import Sequence


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with what it counts.

    >>> counted(1, "image"), counted(1200, "image"), counted(2, "copy", "copies")
    ('1 image', '1,200 images', '2 copies')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listed(names: Sequence[object], most: int = 5) -> str:
    r"""Names on one line: what cannot be printed is escaped, and a long list is cut.

    >>> print(listed(["a", "b\n"]), "|", listed(range(9)))
    a, 'b\n' | 0, 1, 2, 3, 4 and 4 more
    """
    line = ", ".join(printable(str(name)) for name in names[:most])
    return line if len(names) <= most else f"{line} and {len(names) - most} more"


def printable(name: str) -> str:
    """A name that keeps to its line whatever bytes it has."""
    return name if name.isprintable() else ascii(name)
