"""Which images are the same picture: equal bytes, or one picture encoded, scaled, brightened or sharpened anew.

Two stages. Pairs whose perceptual hashes (imagehash.phash of the small pictures) are close are candidates; a candidate
is confirmed on its 32 x 32 pixels. Distinct small pictures have close hashes by the million (trousers of 28 x 28
pixels), and a fixed camera sees one background behind what matters: so a pair must agree as a whole, in its details,
and in its worst part. Small pictures that were enlarged look large: what tells them from copies is that a copy which
differs more in its pixels does not differ more in its hash as well, so the two are added up. The limits were set on
re-encoded photographs and on distinct images of Fashion-MNIST, CIFAR-10 and digits, as they are and enlarged;
tests/data/test_duplicates.py holds them there.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from vitreous.data.cache import keep_rows
from vitreous.data.images import Images
from vitreous.data.inspection import SIDE, Inspection, Looks, inspect_images
from vitreous.progress import SILENT, Progress

_VERSION = 2  # one more whenever another pair is confirmed

_LARGE_PX = 64  # from this side on a picture is recognized through strong compression and scaling
_CLOSE_BITS = {True: 12, False: 6}  # of 64, for large pictures and for small ones; strangers differ in 32 +- 4
_WHOLE = {True: 0.25, False: 0.10}  # residual by standard deviation, of all
_WHOLE_PER_BIT = {True: 0.02, False: 0.0}  # less, for each bit that the hashes differ in
_DETAIL = {True: 0.60, False: 0.50}  # the same without what varies slowly: light that falls off to the corners
_WORST = {True: 1.00, False: 0.35}  # residual by standard deviation in the part of 8 x 8 where it is largest
_SHAPE = 0.08  # relative difference of the aspect ratios
_GAIN = {True: 1.4, False: 1.15}  # contrast of the one by that of the other, or the reverse
_NOISE = 8.0  # levels that a part without contrast may differ by
_DETAIL_NOISE = 2.0  # the same of a picture without detail
_PART = 8  # px
_COARSE = 4  # px
_NEIGHBOURS = 5  # px; what varies over more of them is not detail

Pictures = NDArray[np.float32]  # P, SIDE, SIDE, 3
Verdicts = NDArray[np.bool_]  # P

_ROWS_AT_ONCE = 8  # times all others: their distances stay in the processor's cache
_PAIRS_AT_ONCE = 1024


def duplicate_groups(images: Images, hashes: Sequence[str], progress: Progress = SILENT) -> NDArray[np.int64]:
    """Equal numbers (N) for images that are the same picture; kept in the cache.

    Args:
        hashes: the content hash of each image, "" where it cannot be read: such an image is like no other.

    Raises:
        MachineError: no space, or no right to write, where the cache lies.
    """
    return group_duplicates(inspect_images(images, hashes, progress), hashes, progress)


def group_duplicates(inspection: Inspection, hashes: Sequence[str], progress: Progress = SILENT) -> NDArray[np.int64]:
    """The same of images that were looked at."""
    key = hashlib.sha256("\n".join(hashes).encode()).hexdigest()

    def rows() -> Iterator[NDArray[np.int64]]:
        yield from _numbers(inspection, hashes, progress)

    numbers, _ = keep_rows(f"pictures-{_VERSION}-{key}", len(hashes), (), np.int64, rows, progress)
    return np.asarray(numbers)


def _numbers(inspection: Inspection, hashes: Sequence[str], progress: Progress) -> NDArray[np.int64]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    values = [content or f"unreadable {i}" for i, content in enumerate(hashes)]
    _, content_N = np.unique(np.asarray(values), return_inverse=True)
    first = np.sort(np.unique(content_N[inspection.readable], return_index=True)[1])  # a row of each content
    looks = inspection.looks if len(first) == len(inspection.looks) else inspection.looks[first]
    linked = content_N[inspection.readable[first]][near_pairs(looks, progress)]
    num = int(content_N.max(initial=-1)) + 1
    links = coo_array((np.ones(len(linked), bool), (linked[:, 0], linked[:, 1])), shape=(num, num))
    numbers: NDArray[np.int64] = connected_components(links, directed=False)[1][content_N].astype(np.int64)
    return numbers


def near_pairs(looks: Looks, progress: Progress = SILENT) -> NDArray[np.int64]:
    """The pairs (P, 2) of rows that show the same picture."""
    phash, is_large, coarse = np.ascontiguousarray(looks["phash"]), _is_large(looks), _coarse(looks)
    none = np.empty((0, 2), np.int64)
    confirmed, waiting = [none], [none]
    with progress.task("comparing images", len(looks), "images") as bar:
        for start in range(0, len(looks), _ROWS_AT_ONCE):
            close = _candidates(phash, is_large, start)
            waiting.append(close[_may_be_same(coarse, is_large, close)])
            if sum(map(len, waiting)) >= _PAIRS_AT_ONCE or start + _ROWS_AT_ONCE >= len(looks):
                confirmed.append(_confirmed(looks, np.concatenate(waiting)))
                waiting = [none]
            bar.advance(min(_ROWS_AT_ONCE, len(looks) - start))
    return np.concatenate(confirmed)


def _candidates(phash: NDArray[np.uint64], is_large: Verdicts, start: int) -> NDArray[np.int64]:
    """Pairs (P, 2) of close hashes: one of the rows from ``start`` on, and a later row."""
    rows = slice(start, start + _ROWS_AT_ONCE)
    distance = np.bitwise_count(phash[rows, None] ^ phash[None, start:])
    limits = _limits(_CLOSE_BITS, is_large[rows]).astype(distance.dtype)
    pairs = np.stack(np.divmod(np.flatnonzero(distance <= limits[:, None]), distance.shape[1]), axis=1)
    pairs = pairs[pairs[:, 1] > pairs[:, 0]]
    are_close = distance[pairs[:, 0], pairs[:, 1]] <= _limits(_CLOSE_BITS, _both(is_large, pairs + start))
    close: NDArray[np.int64] = pairs[are_close] + start
    return close


def _coarse(looks: Looks) -> NDArray[np.float32]:
    """M,D: the means of parts of each small picture, in units of its standard deviation, their own mean taken away."""
    coarse = np.empty((len(looks), 3 * (SIDE // _COARSE) ** 2), np.float32)
    for start in range(0, len(looks), _PAIRS_AT_ONCE):
        small = looks[start : start + _PAIRS_AT_ONCE]["small"].astype(np.float32)
        small = (small - small.mean(axis=(1, 2, 3), keepdims=True)) / _scale(small)[:, None, None, None]
        parts = small.reshape(len(small), SIDE // _COARSE, _COARSE, SIDE // _COARSE, _COARSE, 3)
        coarse[start : start + _PAIRS_AT_ONCE] = parts.mean(axis=(2, 4)).reshape(len(small), -1)
    return coarse


def _may_be_same(coarse: NDArray[np.float32], is_large: Verdicts, pairs: NDArray[np.int64]) -> Verdicts:
    """False for pairs that cannot be alike as a whole: means of parts never differ more than the pixels do."""
    one, other = coarse[pairs[:, 0]], coarse[pairs[:, 1]]
    product, power = (one * other).sum(axis=1), np.square(one).sum(axis=1)
    left = np.square(other).sum(axis=1) - np.square(product) / np.maximum(power, 1e-6)
    limits = _limits(_WHOLE, _both(is_large, pairs))
    may: Verdicts = left / coarse.shape[1] < limits**2 + 1e-5  # what rounding may add
    return may


def _is_large(looks: Looks) -> Verdicts:
    """Whether a picture has room for details beyond what compression and scaling take away."""
    large: Verdicts = np.minimum(looks["height"], looks["width"]) >= _LARGE_PX
    return large


def _both(is_large: Verdicts, pairs: NDArray[np.int64]) -> Verdicts:
    return is_large[pairs[:, 0]] & is_large[pairs[:, 1]]


def _confirmed(looks: Looks, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    cuts = range(_PAIRS_AT_ONCE, len(pairs), _PAIRS_AT_ONCE)
    return np.concatenate([some[_is_same(looks[some])] for some in np.split(pairs, cuts)], dtype=np.int64)


def _is_same(pair_looks: Looks) -> Verdicts:
    """Whether each pair (P, 2) of looks shows one picture: what tells most pairs apart comes first."""
    is_large = _is_large(pair_looks[:, 0]) & _is_large(pair_looks[:, 1])
    shapes = np.log(pair_looks["height"] / pair_looks["width"])
    same: Verdicts = np.abs(shapes[:, 0] - shapes[:, 1]) < _SHAPE
    bits = np.bitwise_count(pair_looks["phash"][:, 0] ^ pair_looks["phash"][:, 1])
    wholes = _limits(_WHOLE, is_large) - bits * _limits(_WHOLE_PER_BIT, is_large)
    some = np.flatnonzero(same)
    same[some] = _is_alike_as_a_whole(*_pictures(pair_looks[some]), is_large[some], wholes[some])
    for is_alike in (_is_alike_in_detail, _is_alike_in_each_part):
        some = np.flatnonzero(same)
        same[some] = is_alike(*_pictures(pair_looks[some]), is_large[some])
    return same


def _pictures(pair_looks: Looks) -> tuple[Pictures, Pictures]:
    """The small pictures of each pair, of more contrast first, so that the order of the images does not matter."""
    one, other = (pair_looks[:, side]["small"].astype(np.float32) for side in (0, 1))
    is_first = (one.std(axis=(1, 2, 3)) >= other.std(axis=(1, 2, 3)))[:, None, None, None]
    return np.where(is_first, one, other), np.where(is_first, other, one)


def _is_alike_as_a_whole(
    one: Pictures, other: Pictures, is_large: Verdicts, most_residual: NDArray[np.float64]
) -> Verdicts:
    gain, residual = _fitted(one, other)
    has_near_contrast = np.abs(np.log(np.maximum(gain, 1e-6))) < np.log(_limits(_GAIN, is_large))
    alike: Verdicts = has_near_contrast & (_rms(residual) / _scale(other) < most_residual)
    return alike


def _is_alike_in_detail(one: Pictures, other: Pictures, is_large: Verdicts) -> Verdicts:
    from scipy.ndimage import uniform_filter

    one, other = (each - uniform_filter(each, (0, _NEIGHBOURS, _NEIGHBOURS, 0)) for each in (one, other))
    _, residual = _fitted(one, other)
    alike: Verdicts = _rms(residual) / np.hypot(_rms(other), _DETAIL_NOISE) < _limits(_DETAIL, is_large)
    return alike


def _is_alike_in_each_part(one: Pictures, other: Pictures, is_large: Verdicts) -> Verdicts:
    gain, residual = _fitted(one, other)
    contrast = np.minimum(
        _of_parts(one).var(axis=(2, 4)) * gain[:, None, None, None] ** 2, _of_parts(other).var((2, 4))
    )
    ratio = np.square(_of_parts(residual)).mean(axis=(2, 4, 5)) / (contrast.mean(axis=3) + _NOISE**2)
    alike: Verdicts = np.sqrt(ratio.max(axis=(1, 2))) < _limits(_WORST, is_large)
    return alike


def _fitted(one: Pictures, other: Pictures) -> tuple[NDArray[np.float32], Pictures]:
    """The gain (P) that brings ``one`` nearest to ``other``, both without their means, and what then is left."""
    one, other = (each - each.mean(axis=(1, 2, 3), keepdims=True) for each in (one, other))
    gain = (one * other).sum(axis=(1, 2, 3)) / np.maximum(np.square(one).sum(axis=(1, 2, 3)), 1.0)
    return gain, other - gain[:, None, None, None] * one


def _scale(pictures: Pictures) -> NDArray[np.float32]:
    """The standard deviation of each picture; a blank one has nothing to be recognized by."""
    scale: NDArray[np.float32] = np.maximum(pictures.std(axis=(1, 2, 3)), 1.0)
    return scale


def _rms(pictures: Pictures) -> NDArray[np.float32]:
    root: NDArray[np.float32] = np.sqrt(np.square(pictures).mean(axis=(1, 2, 3)))
    return root


def _of_parts(pictures: Pictures) -> NDArray[np.float32]:
    """P,rows,8,columns,8,3: the parts of each picture."""
    num = SIDE // _PART
    return pictures.reshape(len(pictures), num, _PART, num, _PART, 3)


def _limits(limits: Mapping[bool, float], is_large: Verdicts) -> NDArray[np.float64]:
    return np.where(is_large, limits[True], limits[False])
