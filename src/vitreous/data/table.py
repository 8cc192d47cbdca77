"""DATA as a CSV file: a header with path, label and perhaps split; paths are relative to the file."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vitreous.data.images import FileImages, Source, index_labels, printable
from vitreous.data.split import split_word
from vitreous.errors import DataError


def open_table(path: Path) -> Source:
    """Labelled images from a CSV file; columns beyond path, label and split are left alone.

    Raises:
        DataError: no such columns, or a line that does not name an image and a label; the message names the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(_rows(csv.DictReader(file, restkey=""), path))
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; save it as CSV in UTF-8.") from None
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV file: {error}.") from None
    names, labels, splits = ([row[column] for row in rows] for column in range(3))
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
    )


def _rows(table: "csv.DictReader[str]", path: Path) -> Iterator[tuple[str, str, str]]:
    """(path, label, split) of each line; the split is "" where none is given."""
    header = [name.strip().lower() for name in table.fieldnames or ()]
    if not {"path", "label"} <= set(header):
        raise DataError(
            f"{path}: the first line must name the columns path,label[,split]; it is {printable(','.join(header))!r}."
        )
    table.fieldnames = header
    first_line: dict[str, int] = {}
    for row in table:
        where = f"{path}, line {table.line_num}"
        name, label, split = ((row.get(column) or "").strip() for column in ("path", "label", "split"))
        if not name or not label:
            raise DataError(f"{where} has no {'label' if name else 'path'}.")
        if not (path.parent / name).is_file():
            raise DataError(f"{where}: there is no file {printable(name)} (paths are relative to the CSV file).")
        if (earlier := first_line.setdefault(name, table.line_num)) != table.line_num:
            raise DataError(f"{where} names {printable(name)} again, after line {earlier}; keep one of them.")
        part = split_word(split)
        if split and part is None:
            raise DataError(f"{where}: split {printable(split)!r} is none of train, val, test.")
        yield name, label, part or ""
