"""DATA in all its kinds, opened: the one door."""

from pathlib import Path

from vitreous.data.builtin import NAMES, open_builtin
from vitreous.data.folder import open_folder
from vitreous.data.idx import has_idx_files, open_idx
from vitreous.data.images import Source
from vitreous.data.npz import open_npz
from vitreous.data.table import open_table
from vitreous.errors import DataError
from vitreous.wording import printable

__all__ = ["Source", "open_source"]


def open_source(data: str | Path, *, for_training: bool = True) -> Source:
    """Labelled images from a folder, a CSV file, an .npz file, a folder of IDX files, or a built-in name.

    Nothing is decoded yet, and nothing is ever written to the user's files.

    Args:
        for_training: ask also for two classes or more, and a train part that has them all.

    Raises:
        DataError: what was seen, what was wanted, and the way out.
    """
    try:
        source = _open(data)
    except OSError as error:
        raise DataError(f"{printable(str(error.filename or data))} cannot be read: {error.strerror}.") from error
    if for_training:
        source.check_trainable()
    return source


def _open(data: str | Path) -> Source:
    path = Path(data)
    if isinstance(data, str) and data in NAMES:
        if path.exists():
            raise DataError(
                f"{data} is a built-in data set and also a file or folder here; write ./{data} for the latter, "
                "or call from another place for the former."
            )
        return open_builtin(data)
    if path.is_dir():
        return open_idx(path) if has_idx_files(path) else open_folder(path)
    match path.suffix.lower():
        case _ if not path.exists():
            raise DataError(
                f"there is no file or folder {printable(str(data))}; give a folder of class folders, a CSV, an .npz, "
                f"or one of {', '.join(NAMES)}."
            )
        case ".csv" | ".npz" if not path.is_file():  # opening a pipe would wait for ever
            raise DataError(f"{printable(str(data))} is not a regular file.")
        case ".csv":
            return open_table(path)
        case ".npz":
            return open_npz(path, printable(str(path)))
        case _:
            raise DataError(f"{printable(str(path))} is neither a folder, nor a .csv or .npz file.")
