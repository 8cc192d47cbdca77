"""Findings about single files: what cannot be read, and what the picture is other than its file makes believe."""

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePath

import numpy as np

from vitreous.checks.examined import Examined
from vitreous.checks.finding import Finding
from vitreous.data.images import FileImages
from vitreous.wording import counted

_BLANK = 2.0  # levels of standard deviation
_COLOURLESS = 8  # levels between the channels of a pixel: what the compression of a grey picture leaves
_MIXED = 0.01  # share of grey pictures, and of colour ones, from which on a set counts as mixed

_EXTENSIONS = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "PNG": {".png"},
    "WEBP": {".webp"},
    "BMP": {".bmp", ".dib"},
    "GIF": {".gif"},
    "TIFF": {".tif", ".tiff"},
}


def remarks(data: Examined) -> Iterator[Finding]:
    """What was said when the data were opened, such as files beside the class folders."""
    for remark in data.source.remarks:
        yield Finding("remark", "note", "the data", remark, "", "")


def unreadable(data: Examined) -> Iterator[Finding]:
    """Files that are cut short, damaged, or no images."""
    broken = data.inspection.broken
    if not broken:
        return
    reasons = Counter(image.reason for image in broken).most_common()
    names = tuple(image.name for image in broken)
    yield Finding(
        code="unreadable",
        severity="mend",
        where="the files",
        seen=f"{len(broken):,} of {len(data.hashes):,} images cannot be read",
        arithmetic="; ".join(f"{count} x {reason}" for reason, count in reasons[:5]),
        edit="replace them, or leave them out: train --skip-broken, or --fix-list",
        files=names,
        count=len(names),
        exclude=names,
    )


def blank(data: Examined) -> Iterator[Finding]:
    """Pictures of nearly one colour."""
    spread = data.looks["spread"]
    order = np.argsort(spread, kind="stable")
    names = data.names(data.readable[order[spread[order] < _BLANK]])
    if names:
        yield Finding(
            code="nearly-constant",
            severity="consider",
            where="the files",
            seen=f"{counted(len(names), 'image')} of nearly one colour: nothing there to learn a class from",
            arithmetic=f"the standard deviation of their levels is below {_BLANK:g} of 255; the median of all images "
            f"is {np.median(spread):.0f}",
            edit="look at them; leave out what shows nothing (lens cap, empty slide, failed conversion)",
            files=names,
            count=len(names),
            exclude=names,
        )


def misnamed(data: Examined) -> Iterator[Finding]:
    """Files whose extension names another format than their bytes have."""
    if not isinstance(data.source.images, FileImages):
        return
    formats = data.inspection.formats()
    suffixes = [PurePath(name).suffix.lower() for name in data.names(data.readable)]
    known = set().union(*_EXTENSIONS.values())
    is_wrong = [s in known and s not in _EXTENSIONS[f] for s, f in zip(suffixes, formats, strict=True)]
    if any(is_wrong):
        kinds = Counter((s, f) for s, f, wrong in zip(suffixes, formats, is_wrong, strict=True) if wrong).most_common()
        names = data.names_where(np.array(is_wrong))
        yield Finding(
            code="wrong-extension",
            severity="consider",
            where="the files",
            seen=f"{counted(len(names), 'file')} of another format than the extension says",
            arithmetic="; ".join(f"{count} x {kind} in a {suffix} file" for (suffix, kind), count in kinds[:5]),
            edit="nothing for Vitreous, which goes by the content; rename them for programs that do not",
            files=names,
            count=len(names),
        )


def animated(data: Examined) -> Iterator[Finding]:
    """Files of several pictures."""
    names = data.names_where(data.looks["is_animated"])
    if names:
        yield Finding(
            code="several-pictures",
            severity="consider",
            where="the files",
            seen=f"{counted(len(names), 'file')} of several pictures (animation, pages); only the first is used",
            arithmetic="",
            edit="save the pictures that matter as files of their own",
            files=names,
            count=len(names),
        )


def grey_among_colour(data: Examined) -> Iterator[Finding]:
    """Grey pictures in a set that is not grey."""
    is_grey = data.looks["colour"] <= _COLOURLESS
    share = float(is_grey.mean()) if len(is_grey) else 0.0
    if not 0 < share < 1:
        return
    names = data.names_where(is_grey if share <= 0.5 else ~is_grey)
    yield Finding(
        code="grey-among-colour",
        severity="consider" if min(share, 1 - share) >= _MIXED else "note",
        where="the files",
        seen=f"{counted(int(is_grey.sum()), 'grey picture')} among {int((~is_grey).sum()):,} with colours",
        arithmetic=f"a picture is grey where its channels differ by {_COLOURLESS} levels at most; "
        f"{int((is_grey & ~data.looks['is_grey']).sum()):,} of the grey ones stored as colour",
        edit="training shows all of them as colour; if colour means nothing here, --set data.channels=1 makes all grey",
        files=names,
        count=len(names),
    )


def converted(data: Examined) -> Iterator[Finding]:
    """What is done to some files so that every picture comes as upright 8-bit grey or RGB."""
    looks = data.looks
    kinds = [
        ("transparent", looks["is_transparent"], "with transparent parts, laid on white", ""),
        ("rotated", looks["orientation"] != 1, "stored lying or mirrored, turned upright by the EXIF tag", ""),
        ("cmyk", np.isin(looks["mode"], [b"CMYK", b"LAB"]), "in CMYK or LAB, converted to RGB", ""),
        ("deep", looks["bits"] > 8, "of more than 8 bits a channel, scaled to 8", ", and no level is clipped"),
    ]
    for code, chosen, seen, more in kinds:
        names = data.names_where(chosen)
        if names:
            yield Finding(
                code=code,
                severity="note",
                where="the files",
                seen=f"{counted(len(names), 'image')} {seen}",
                arithmetic="",
                edit=f"nothing: the same is done in training, evaluation and prediction{more}",
                files=names,
                count=len(names),
            )
