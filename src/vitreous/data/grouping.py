"""What must stay on one side beyond copies of one picture: all images of one patient, one camera, one day."""

import dataclasses
import re

from vitreous.data.images import Source
from vitreous.errors import DataError
from vitreous.wording import listed, printable


def group_images(source: Source, group_by: str) -> Source:
    """The source with the group of each image.

    Args:
        group_by: a column of the CSV file, or a regular expression with one (group) that is searched for in the
            image's name, which is its path inside DATA. An empty cell, or an optional group that found nothing,
            leaves the image on its own.

    Raises:
        DataError: neither a column nor such a pattern, or one that does not find its place in every name.
    """
    column = source.columns.get(group_by.strip().lower())
    groups = column if column is not None else _searched(source, group_by)
    alone = sum(not group for group in groups)
    remark = [f"{alone} images have no group in {printable(group_by)}; each stands on its own"] if alone else []
    return dataclasses.replace(source, groups=groups, remarks=(*source.remarks, *remark))


def _searched(source: Source, group_by: str) -> tuple[str, ...]:
    try:
        pattern = re.compile(group_by)
        is_pattern = pattern.groups == 1
    except re.error:
        is_pattern = False
    if not is_pattern:
        columns = f"a column ({listed(list(source.columns))})" if source.columns else "a column of a CSV file"
        raise DataError(
            f"--group-by {printable(group_by)} is neither {columns} nor a pattern with one (group), "
            r"such as '(patient\d+)_'."
        )
    names = [source.images.name(i) for i in range(len(source.images))]
    found = [pattern.search(name) for name in names]
    if missed := [name for name, match in zip(names, found, strict=True) if match is None]:
        raise DataError(
            f"--group-by {printable(group_by)} is not in the names of {len(missed)} of {len(names)} images, e.g. "
            f"{listed(missed, most=3)}; a pattern must fit all of them ('(...)?' leaves an image on its own)."
        )
    return tuple((match[1] or "") if match is not None else "" for match in found)
