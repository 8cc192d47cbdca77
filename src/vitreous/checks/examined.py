"""Labelled images and what was seen of each: what findings about data are read from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vitreous.data.decode import ImageFacts
from vitreous.data.duplicates import group_duplicates
from vitreous.data.images import Source
from vitreous.data.inspection import Inspection, Looks, inspect_images
from vitreous.data.prepared import hash_contents
from vitreous.data.preprocess import Preprocess, suggest_preprocess
from vitreous.progress import SILENT, Progress


@dataclass(frozen=True)
class Examined:
    """N labelled images: their content ``hashes``, what was seen of them, and which are the same picture.

    ``pictures`` (N) holds equal numbers for images that are the same picture.
    """

    source: Source
    hashes: tuple[str, ...]
    inspection: Inspection
    pictures: NDArray[np.int64]

    @property
    def looks(self) -> Looks:
        """What was seen of the M images that can be read."""
        return self.inspection.looks

    @property
    def readable(self) -> NDArray[np.int64]:
        """The indices (M) of the images that can be read."""
        return self.inspection.readable

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The classes (M) of the images that can be read."""
        labels: NDArray[np.int64] = self.source.labels[self.readable]
        return labels

    @cached_property
    def clusters(self) -> list[NDArray[np.int64]]:
        """The indices of images that are the same picture as another one, the largest cluster first."""
        order = np.argsort(self.pictures, kind="stable")
        cuts = np.flatnonzero(np.diff(self.pictures[order])) + 1
        return sorted((each for each in np.split(order, cuts) if len(each) > 1), key=len, reverse=True)

    @cached_property
    def contract(self) -> Preprocess | None:
        """How training would show the images if nothing were asked; None where none can be read."""
        facts = self.facts()
        return suggest_preprocess(facts) if facts else None

    def facts(self) -> list[ImageFacts]:
        """Size and colour of the images that can be read."""
        return [ImageFacts(*each.item()) for each in self.looks[["height", "width", "is_grey"]]]

    def names(self, indices: Sequence[int] | NDArray[np.int64]) -> tuple[str, ...]:
        """What the user calls these images."""
        return tuple(self.source.images.name(int(i)) for i in indices)

    def names_where(self, chosen: NDArray[np.bool_]) -> tuple[str, ...]:
        """What the user calls the chosen of the M images that can be read."""
        return self.names(self.readable[chosen])


def examine(source: Source, progress: Progress = SILENT) -> Examined:
    """Read and decode every image once, or take from the cache what was seen of it before.

    Raises:
        MachineError: no room for the cache.
    """
    hashes = hash_contents(source.images, progress)
    inspection = inspect_images(source.images, hashes, progress)
    return Examined(source, tuple(hashes), inspection, group_duplicates(inspection, hashes, progress))
