"""Folders that lie in wait: links in circles, pipes and devices, what may not be entered, names from hell."""

import io
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from vitreous.progress import SILENT, Progress
from vitreous.proof.hostile import Hostile, prove_hostile
from vitreous.proof.rows import ProofRow

PROMISE = (
    "every real image of a folder is found once, or it is refused with its reason; nothing is waited for or changed"
)

_PLAIN = {"a/1.png": "", "b/1.png": ""}  # what stands in every one of them
_NAMES = {
    "a line's end": "two\nlines.png",
    "a quote and a comma": 'a", "b.png',
    "a bell and an escape": "\a\x1b[31mred.png",
    "right to left": "\u202egnp.exe",
    "a mark of a zero width": "\ufeff\u200b.png",
    "two accents of one letter": "e\u0301 \u00e9.png",
    "no UTF-8": os.fsdecode(b"\xff\xfe\x80.png"),
    "the longest that there is": "n" * 251 + ".png",
    "an option": "--help.png",
    "spaces alone": "   ",
    "three dots": "...png"[1:] + ".png",
    "a pattern": "*?[a-z]{1,2}.png",
    "a command": "$(touch canary);`id`|&.png",
    "a table's formula": "=cmd|' /C calc'!A1.png",
    "a page's script": "<script>alert(1)<!-- .png",
    "a template": "{{7*7}}${7*7}%s%n.png",
    "a device of Windows": "CON.png",
    "emoji": "\U0001f4a9\U0001f468\u200d\U0001f469.png",
    "a number beyond all": "9" * 200 + ".png",
    "no ending": "picture",
}


def prove(progress: Progress = SILENT) -> ProofRow:
    """Have every trap opened by a process of its own."""
    return prove_hostile("folder traps", PROMISE, list(traps()), progress)


def traps() -> Iterator[Hostile]:
    """All of them."""
    yield from _links()
    yield from _odd_files()
    yield from _forbidden()
    for what, name in _NAMES.items():
        yield _trap(f"a name: {what}", partial(_write, name=f"a/{name}"), found={f"a/{name}": ""})
        yield _trap(f"a class: {what}", partial(_write, name=f"{name}/2.png"), found={f"{name}/2.png": ""})


def _links() -> Iterator[Hostile]:
    def link(name: str, target: str) -> Callable[[Path], None]:
        return lambda root: (root / name).symlink_to(target)

    def ring(root: Path) -> None:
        (root / "a/x").symlink_to("y")
        (root / "a/y").symlink_to("z")
        (root / "a/z").symlink_to("x")

    def chain(root: Path) -> None:
        for number in range(100):
            (root / f"a/{number:03d}.png").symlink_to(f"{number + 1:03d}.png")
        (root / "a/100.png").symlink_to("1.png")

    def many(root: Path) -> None:
        for number in range(1000):
            (root / f"a/{number:03d}.png").symlink_to("1.png")

    def tree(root: Path) -> None:
        for depth in range(12):  # each level entered twice, 4096 ways down
            (root / "a" / "/".join(["d"] * (depth + 1))).mkdir()
            (root / "a" / "/".join(["d"] * depth + ["e"])).symlink_to("d")
        _write(root, "a/" + "d/" * 12 + "2.png")

    yield _trap("nothing odd", lambda _: None)
    yield _trap("a link to itself", link("a/x.png", "x.png"), found={"a/x.png": "links"})
    yield _trap("a ring of links", ring, found={f"a/{each}": "links" for each in "xyz"})
    yield _trap("a link to its folder", link("a/x", "."))
    yield _trap("a link to the root of the data", link("a/x", ".."))
    yield _trap("a link to the root of the disk", link("a/x", "/"))
    yield _trap("a link to the other class", link("a/x", "../b"))
    yield _trap("a class that is a link to itself", link("c", "c"))
    yield _trap("a class that is a link up", link("c", ".."), refused="")
    yield _trap("a class that is another class", link("c", "b"), refused="are one folder")
    yield _trap("a link that leads nowhere", link("a/x.png", "nowhere"), found={"a/x.png": "No such file"})
    yield _trap("a link to an image of the same class", link("a/x.png", "1.png"))
    yield _trap("a chain of a hundred links", chain)
    yield _trap("a thousand links to one image", many)
    yield _trap("a tree with two ways down at each level", tree, found={f"a/{'d/' * 12}2.png": ""})


def _odd_files() -> Iterator[Hostile]:
    def pipe(name: str) -> Callable[[Path], None]:
        return lambda root: os.mkfifo(root / name)

    def listening(root: Path) -> None:
        with closing(socket.socket(socket.AF_UNIX)) as plug, _working_in(root / "a"):  # its path may not be long
            plug.bind("x.png")

    def deep(root: Path) -> None:
        with _working_in(root / "a"):
            for _ in range(60):
                Path("d" * 100).mkdir()
                os.chdir("d" * 100)

    yield _trap("a pipe", pipe("a/x.png"))
    yield _trap("a pipe as a class", pipe("c"))
    yield _trap("a pipe beside images of an IDX set", pipe("train-images-idx3-ubyte"))
    yield _trap("a socket", listening)
    for device in ("zero", "urandom", "null", "stdin", "tty"):
        yield _trap(f"a link to the device {device}", partial(_link_to, target=f"/dev/{device}"), found=None)
    yield _trap("a folder under an image's name", lambda root: (root / "a/x.png").mkdir())
    yield _trap("an image under a folder's name", partial(_write, name="a/folder"), found={"a/folder": ""})
    yield _trap("an empty file", lambda root: (root / "a/x.png").touch(), found={"a/x.png": "empty"})
    yield _trap("a file with a hole of ten gigabytes", _hole, found={"a/x.png": ""})
    yield _trap("folders deeper than any path", deep, refused="too long")
    yield _trap("an empty class", lambda root: (root / "c").mkdir())
    yield _trap("what systems leave behind", _clutter)


def _forbidden() -> Iterator[Hostile]:
    def closed(name: str, mode: int = 0) -> Callable[[Path], None]:
        def make(root: Path) -> None:
            _write(root, name)
            (root / name).chmod(mode)

        return make

    def closed_folder(name: str, mode: int) -> Callable[[Path], None]:
        def make(root: Path) -> None:
            _write(root, f"{name}/2.png")
            (root / name).chmod(mode)

        return make

    yield _trap("an image that may not be read", closed("a/x.png"), found={"a/x.png": "Permission denied"})
    yield _trap("a class that may not be read", closed_folder("c", 0), refused="Permission denied")
    yield _trap("a folder in a class that may not be read", closed_folder("a/x", 0), refused="Permission denied")
    yield _trap("a folder that may be read and not entered", closed_folder("a/x", 0o644), refused="Permission denied")
    yield _trap("data that may not be read", lambda root: root.chmod(0), refused="Permission denied")


def _trap(
    name: str, make: Callable[[Path], None], *, found: dict[str, str] | None = None, refused: str | None = None
) -> Hostile:
    """Two classes of an image each, and what ``make`` adds to them; ``found`` comes to what is found without it."""

    def make_all(folder: Path, _canary: Path) -> None:
        root = folder / "data"
        for number, plain in enumerate(_PLAIN):
            _write(root, plain, shade=90 * number)
        make(root)

    return Hostile(
        name, "data", make_all, "data", refused, None if refused is not None else {**_PLAIN, **(found or {})}
    )


def _write(root: Path, name: str, shade: int = 250) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(file, "PNG")
    path.write_bytes(file.getvalue())


def _link_to(root: Path, target: str) -> None:
    (root / "a/x.png").symlink_to(target)


def _hole(root: Path) -> None:
    """A whole image at the beginning of a file that claims to be large and takes no room."""
    _write(root, "a/x.png")
    os.truncate(root / "a/x.png", 1 << 30)


def _clutter(root: Path) -> None:
    for name in ("a/.DS_Store", "a/Thumbs.db", "a/._1.png", "desktop.ini", "__MACOSX/x.png"):
        _write(root, name)


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
