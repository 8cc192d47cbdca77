"""Images that the user leaves out by a list, such as ``vitreous check --fix-list`` writes."""

import csv
import dataclasses
from collections.abc import Collection
from pathlib import Path

from vitreous.data.images import Source
from vitreous.data.table import bounded_lines
from vitreous.errors import DataError
from vitreous.wording import listed, printable


def read_exclusions(path: Path) -> frozenset[str]:
    """The names in the column ``path``; where there is a column ``action``, those whose action is ``exclude``.

    Raises:
        DataError: no such file, or not such a table.
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise DataError(f"{printable(str(path))} is not a regular file.")
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            table = csv.DictReader(bounded_lines(file), restkey="")
            table.fieldnames = [name.strip().lower() for name in table.fieldnames or ()]
            if "path" not in table.fieldnames:
                raise DataError(f"{path}: the first line must name the column path; `check --fix-list` writes it so.")
            has_action = "action" in table.fieldnames
            rows = [row for row in table if not has_action or (row["action"] or "").strip().lower() == "exclude"]
    except OSError as error:
        raise DataError(f"{printable(str(path))} cannot be read: {error.strerror}.") from None
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV file: {error}.") from None
    return frozenset(row["path"] for row in rows if row["path"])


def leave_out(source: Source, names: Collection[str]) -> Source:
    """The source without the images of these names, which it keeps apart; a name that it does not have is no matter.

    Raises:
        DataError: nothing is left.
    """
    is_out = [source.images.name(i) in names for i in range(len(source.images))]
    out = [i for i, each in enumerate(is_out) if each]
    kept = [i for i, each in enumerate(is_out) if not each]
    if not out:
        return source
    if not kept:
        raise DataError(f"{source.origin}: all {len(out)} images are left out; shorten the list.")
    remark = f"left out {len(out)} images, as asked: {listed([source.images.name(i) for i in out])}"
    return dataclasses.replace(source.select(kept), excluded=source.select(out), remarks=(*source.remarks, remark))


def refuse_unknown(source: Source, names: Collection[str], path: Path) -> None:
    """Check that a list speaks of these data.

    Raises:
        DataError: it names what is not there, so that it may be the list of other data, or paths of another kind.
    """
    known = {source.images.name(i) for i in range(len(source.images))}
    if unknown := sorted(set(names) - known):
        raise DataError(
            f"{path} leaves out {len(unknown)} of {len(names)} images that {source.origin} does not have: "
            f"{listed(unknown, most=3)}; names are paths inside DATA, as `vitreous check` writes them."
        )
