import numpy as np
import pytest

from benchmarks.registry import traffic_lights
from vitreous.data.images import BrokenImage
from vitreous.data.prepared import scan
from vitreous.data.source import open_source


@pytest.mark.network
def test_real_photographs_open_directly():
    source = open_source(traffic_lights())
    assert (source.kind, source.classes) == ("split folders", ("green", "red", "yellow"))
    parts, counts = np.unique(source.splits, return_counts=True)
    assert dict(zip(parts.tolist(), counts.tolist(), strict=True)) == {"train": 1187, "test": 297}
    facts = scan(source.images)
    assert not any(isinstance(fact, BrokenImage) for fact in facts)
    assert len({(fact.height, fact.width) for fact in facts}) > 100
