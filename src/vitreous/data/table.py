"""DATA as a CSV file: a header with path, label and perhaps split; paths are relative to the file.

What other columns say is kept as it is: one of them may name what must stay together.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from vitreous.data.images import FileImages, Source, index_labels
from vitreous.data.split import split_word
from vitreous.errors import DataError
from vitreous.wording import printable

_MEANT = ("path", "label", "split")
_MOST_IN_A_LINE = 1 << 20  # characters
_MOST_SHOWN = 200  # characters of a name


def open_table(path: Path) -> Source:
    """Labelled images from a CSV file.

    Raises:
        DataError: no such columns, or a line that does not name an image and a label; the message names the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(bounded_lines(file), restkey="")
            rows = list(_rows(table, path))
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; save it as CSV in UTF-8.") from None
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV file: {error}.") from None
    others = [name for name in table.fieldnames or () if name and name not in _MEANT]
    names, labels, splits = ([row[column] for row in rows] for column in _MEANT)
    if any(splits) and not all(splits):
        raise DataError(f"{path}: some lines have a split and some have none; fill it in for all or for none.")
    classes, indices = index_labels(np.array(labels, dtype=str))
    return Source(
        origin=printable(str(path)),
        kind="csv",
        classes=classes,
        labels=indices,
        splits=np.array(splits) if any(splits) else None,
        images=FileImages([path.parent / name for name in names], names),
        columns={name: tuple(row[name] for row in rows) for name in others},
    )


def _rows(table: "csv.DictReader[str]", path: Path) -> Iterator[dict[str, str]]:
    """The cells of each line by column, without the space around them; the split is "" where none is given."""
    header = [name.strip().lower() for name in table.fieldnames or ()]
    if not {"path", "label"} <= set(header):
        raise DataError(
            f"{path}: the first line must name the columns path,label[,split]; it is {printable(','.join(header))!r}."
        )
    table.fieldnames = header
    seen: dict[str, tuple[int, str]] = {}
    for cells in table:
        where = f"{path}, line {table.line_num}"
        row = {name: (cells.get(name) or "").strip() for name in {*header, *_MEANT}}
        name, label, split = (row[column] for column in _MEANT)
        if not name or not label:
            raise DataError(f"{where} has no {'label' if name else 'path'}.")
        if not _is_file(path.parent / name):
            raise DataError(
                f"{where}: there is no file {printable(name)[:_MOST_SHOWN]} (paths are relative to the CSV file)."
            )
        row["split"] = split_word(split) or ""
        if split and not row["split"]:
            raise DataError(f"{where}: split {printable(split)!r} is none of train, val, test.")
        earlier, part = seen.setdefault(name, (table.line_num, row["split"]))
        if earlier != table.line_num and part == row["split"]:  # in two parts: training will refuse it, a check tell
            raise DataError(f"{where} names {printable(name)} again, after line {earlier}; keep one of them.")
        yield row


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a longer name than the system takes
        return False


def bounded_lines(file: TextIO) -> Iterator[str]:
    """The lines of a table; one without end is refused before it fills the memory.

    Raises:
        csv.Error: there is such a line.
    """
    while line := file.readline(_MOST_IN_A_LINE):
        if len(line) == _MOST_IN_A_LINE:
            raise csv.Error(f"a line is longer than {_MOST_IN_A_LINE:,} characters")
        yield line
