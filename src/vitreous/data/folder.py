"""DATA as a folder: class folders, or train/val/test folders of class folders.

Inside a class every file counts, however deep and whatever its extension: its content decides later. Links are
followed, except to a folder on the way down to a class or into another class, so each real file counts once. A link
into a class of another part is followed too: that an image stands in two parts must be seen, not hidden.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vitreous.data.images import FileImages, Source, sort_classes
from vitreous.data.split import split_word
from vitreous.errors import DataError
from vitreous.wording import listed, printable

_CLUTTER = {"thumbs.db", "desktop.ini", "__pycache__", "__macosx"}
_WANTED = "put the images of each class into a folder of their own"


def open_folder(root: Path) -> Source:
    """Labelled images from a folder.

    Raises:
        DataError: no class folders, or folders of which it is not clear what they are.
    """
    folders, strays = _entries(root)
    part_folders = _part_folders(root, folders)
    class_folders = [
        (part, folder)
        for part, parent in (part_folders or {"": root}).items()
        for folder in _class_folders(parent, _entries(parent)[0])
    ]
    classes = sort_classes({folder.name for _, folder in class_folders})
    walk = _Walk.of(class_folders)
    files_by_folder = [(part, folder.name, walk.files(folder)) for part, folder in class_folders]
    images = [(path, name, part) for part, name, files in files_by_folder for path in files]
    remarks = [f"left out {len(strays)} files beside the folders: {listed([p.name for p in strays])}"] if strays else []
    if walk.left_out:
        names = [path.relative_to(root).as_posix() for path in walk.left_out]
        remarks.append(f"left out {len(names)} links out of their class, pipes or devices: {listed(names)}")
    return Source(
        origin=printable(str(root)),
        kind="split folders" if part_folders else "folder",
        classes=classes,
        labels=np.array([classes.index(name) for _, name, _ in images], dtype=np.int64),
        splits=np.array([part for *_, part in images]) if part_folders else None,
        images=FileImages([p for p, *_ in images], [p.relative_to(root).as_posix() for p, *_ in images]),
        remarks=tuple(remarks),
    )


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the other things in ``folder`` by name, without what the system put there."""
    entries = sorted(path for path in folder.iterdir() if not _is_clutter(path.name))
    return [path for path in entries if path.is_dir()], [path for path in entries if not path.is_dir()]


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _CLUTTER


def _part_folders(root: Path, folders: Sequence[Path]) -> dict[str, Path]:
    """The train, val and test folders of ``root``; none if its folders are classes."""
    speaking = [folder for folder in folders if split_word(folder.name)]
    subfolders = {folder: {path.name for path in _entries(folder)[0]} for folder in speaking}
    if len(speaking) == 1 and len(folders) > 1 and subfolders[speaking[0]].isdisjoint(f.name for f in folders):
        return {}  # a class may well be called "train", between "bus" and "tram"
    if flat := [folder.name for folder in speaking if not subfolders[folder]]:
        raise DataError(
            f"{root}: no class folders in {listed(flat)}; {_WANTED}, or list path,label,split in a CSV file."
        )
    if speaking and (others := [folder.name for folder in folders if folder not in speaking]):
        raise DataError(
            f"{root}: {listed([f.name for f in speaking])} speak of a part of the data, {listed(others)} do not; "
            "move the others away, or rename the folders if all of them are classes."
        )
    parts = {str(split_word(folder.name)): folder for folder in speaking}
    if len(parts) < len(speaking):
        raise DataError(
            f"{root}: two of {listed([f.name for f in speaking])} mean the same part; merge or rename them."
        )
    return {part: parts[part] for part in ("train", "val", "test") if part in parts}


def _class_folders(parent: Path, folders: Sequence[Path]) -> list[Path]:
    above = _with_parents(os.path.realpath(parent))
    classes: dict[str, Path] = {}
    for folder in folders:
        real = os.path.realpath(folder)
        if real in above:
            continue  # a link back up
        if real in classes:
            raise DataError(f"{parent}: {listed([classes[real].name, folder.name])} are one folder; remove the link.")
        classes[real] = folder
    if not classes:
        tables = [path for path in _entries(parent)[1] if path.suffix.lower() in (".csv", ".npz")]
        way_out = f"did you mean {printable(str(tables[0]))}?" if len(tables) == 1 else f"{_WANTED}."
        raise DataError(f"{parent} holds no class folders; {way_out}")
    return list(classes.values())


@dataclass
class _Walk:
    """All files of class folders, each real one once; ``left_out`` gains what is no file of its class."""

    part_of: Mapping[str, str]  # by the real path of a class folder
    closed: frozenset[str]  # real paths of the class folders and of all folders above them
    left_out: list[Path] = field(default_factory=list)

    @classmethod
    def of(cls, folders: Sequence[tuple[str, Path]]) -> "_Walk":
        part_of = {os.path.realpath(folder): part for part, folder in folders}
        on_the_way = [*part_of, *(os.path.realpath(folder.parent) for _, folder in folders)]
        return cls(part_of, frozenset().union(*map(_with_parents, on_the_way)))

    def files(self, class_folder: Path) -> list[Path]:
        return sorted(self._below(class_folder))

    def _below(self, class_folder: Path) -> Iterator[Path]:
        own = os.path.realpath(class_folder)
        seen = {own}
        pending = [(class_folder, own)]
        while pending:
            folder, real_folder = pending.pop()
            for path in sorted(folder.iterdir()):
                is_link = path.is_symlink()
                real = os.path.realpath(path) if is_link else os.path.join(real_folder, path.name)  # noqa: PTH118
                if _is_clutter(path.name) or real in seen:
                    continue
                if not is_link or path.exists():  # else it may stand for a real file that is met later, by itself
                    seen.add(real)
                if is_link and self._leads_away(real, own):
                    self.left_out.append(path)
                elif path.is_dir():
                    pending.append((path, real))
                elif path.is_file() or not path.exists():  # a dangling link is an image that cannot be read
                    yield path
                else:
                    self.left_out.append(path)

    def _leads_away(self, real: str, own: str) -> bool:
        entered = (self.part_of.keys() - {own}) & _with_parents(real)
        if any(self.part_of[folder] != self.part_of[own] for folder in entered):
            return False
        return real in self.closed or bool(entered)


def _with_parents(real: str) -> set[str]:
    return {real, *map(str, Path(real).parents)}
