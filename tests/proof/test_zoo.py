"""Hostile and odd image files, and that a wrong verdict does not pass for a right one."""

import numpy as np
import pytest

from vitreous.proof import zoo
from vitreous.proof.specimens import Specimen, specimens

PIXELS = np.zeros((2, 3, 1), np.uint8)


def test_every_specimen_gets_its_verdict():
    row = zoo.prove()
    assert row.broken == ()
    assert row.is_kept
    assert row.tried > 100
    assert row.seconds < 120


def test_specimens_are_many_and_no_two_share_a_name():
    zoo_names = [specimen.name for specimen in specimens()]
    assert len(set(zoo_names)) == len(zoo_names) >= 60
    assert all((specimen.refused is None) == (specimen.pixels is not None) for specimen in specimens())


@pytest.mark.parametrize(
    ("specimen", "verdict", "said"),
    [
        (Specimen("x", b"", refused="empty"), {"shape": [2, 3, 1]}, "was read"),
        (Specimen("x", b"", refused="empty"), {"reason": "is damaged"}, "'empty' was expected"),
        (Specimen("x", b"", pixels=PIXELS), {"reason": "is damaged"}, "was refused"),
        (Specimen("x", b"", pixels=PIXELS[:1]), {"shape": [2, 3, 1]}, "shape"),
        (Specimen("x", b"", pixels=PIXELS + 1), {"shape": [2, 3, 1]}, "differs by 1.00"),
        (Specimen("x", b"", pixels=PIXELS), {"shape": [2, 3, 1], "is_same_everywhere": False}, "not the same in"),
        (Specimen("x", b"", pixels=PIXELS), {"shape": [2, 3, 1], "seconds": 1.5}, "took 1.5 s"),
        (Specimen("x", b"", pixels=PIXELS + 1, tolerance=1), {"shape": [2, 3, 1], "is_same_everywhere": True}, None),
    ],
)
def test_a_wrong_verdict_is_told(specimen, verdict, said, tmp_path):
    np.save(tmp_path / "x.npy", PIXELS)
    fault = zoo.fault_of(specimen, verdict, tmp_path)
    assert fault is None if said is None else said in fault


def test_a_reader_that_dies_breaks_the_promise(monkeypatch):
    monkeypatch.setattr(zoo, "_READER", ["false"])
    row = zoo.prove()
    assert not row.is_kept
    assert len(row.broken) == row.tried
