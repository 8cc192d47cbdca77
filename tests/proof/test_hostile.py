"""Hostile folders, archives and weight files; and that a wrong verdict does not pass for a right one."""

import sys

import pytest

from vitreous.proof import archives, hostile, traps
from vitreous.proof.hostile import Hostile, fault_of, prove_hostile


def test_folder_traps():
    row = traps.prove()
    assert row.broken == ()
    assert row.is_kept
    assert row.tried >= 70, "links, pipes and names are all made on Linux"


def test_hostile_archives():
    row = archives.prove(60)
    assert row.broken == ()
    assert row.is_kept
    assert row.tried >= 150


def test_no_two_inputs_share_a_name():
    inputs = [*traps.traps(), *archives._npz(), *archives._idx(), *archives._safetensors(), *archives._pickles()]
    assert len({one.name for one in inputs}) == len(inputs)


def one(**facts):
    return Hostile("x", "data", lambda *_: None, **facts)


@pytest.mark.parametrize(
    ("asked", "said", "fault"),
    [
        (one(refused="loop"), {"refused": "a loop"}, None),
        (one(refused="loop"), {"refused": "a pipe"}, "'loop' was expected"),
        (one(refused="loop"), {"seen": {}}, "was read"),
        (one(seen={"a": ""}), {"refused": "why"}, "was refused: why"),
        (one(seen={"a": "", "b": ""}), {"seen": {"a": ""}}, "were found"),
        (one(seen={"a": "empty"}), {"seen": {"a": "is empty"}}, None),
        (one(seen={"a": "empty"}), {"seen": {"a": "is damaged"}}, "is told as"),
        (one(seen={"a": "empty"}), {"seen": {"a": ""}}, "is told as"),
        (one(seen={"a": ""}), {"seen": {"a": "cannot be read"}}, "is told as"),
        (one(seen={"a": ""}), {"seen": {"a": ""}, "seconds": 2.0}, "took 2.0 s"),
        (one(seen={"a": ""}), {"bug": "OSError: why"}, "ended in OSError"),
        (one(seen={"a": ""}, is_chance=True), {"refused": "any word"}, None),
        (one(seen={"a": ""}, is_chance=True), {"seen": {"b": ""}}, "was seen"),
        (one(seen={"a": ""}, is_chance=True), {"bug": "OSError"}, "ended in"),
    ],
)
def test_a_wrong_verdict_is_told(asked, said, fault):
    told = fault_of(asked, said)
    assert told is None if fault is None else fault in told


def plain(folder, _canary):
    traps._write(folder, "data/a/1.png")
    traps._write(folder, "data/b/1.png")


SEEN = {"a/1.png": "", "b/1.png": ""}


def broken_of(monkeypatch, program):
    """The faults of one input, read by a process that does this instead of reading."""
    monkeypatch.setattr(hostile, "_READER", [sys.executable, "-c", program])
    return prove_hostile("x", "y", [Hostile("it", "data", plain, "data", seen=SEEN)]).broken


READS = 'import json, sys; seen = {"a/1.png": "", "b/1.png": ""}; print(json.dumps({"number": "0", "seen": seen})); '
ENDS = 'print(json.dumps({"growth": 0})); '


def test_a_reader_that_changes_an_input_or_runs_its_code_breaks_the_promise(monkeypatch):
    root = "import pathlib; root = pathlib.Path(sys.argv[1]).parent; "
    assert broken_of(monkeypatch, READS + ENDS) == ()
    changing = READS + root + '(root / "0/data/a/1.png").write_bytes(b""); ' + ENDS
    assert broken_of(monkeypatch, changing) == ("it: it was changed",)
    running = READS + root + '(root / "canaries/0").touch(); ' + ENDS
    assert broken_of(monkeypatch, running) == ("it: its code was run",)
    hungry = READS + 'print(json.dumps({"growth": 400 << 20}))'
    assert broken_of(monkeypatch, hungry) == ("memory for all of them: 400 MiB more",)


def test_a_reader_that_dies_or_waits_breaks_the_promise(monkeypatch):
    assert len(broken_of(monkeypatch, "raise SystemExit(1)")) == 2
    monkeypatch.setattr(hostile, "MOST_SECONDS_IN_ALL", 0.5)
    assert len(broken_of(monkeypatch, "import time; time.sleep(60)")) == 2


def test_an_input_that_the_reader_stumbles_over_is_told():
    inputs = [Hostile("it", "data", plain, "data", seen=SEEN), Hostile("bad", "nothing", plain, "data", seen=SEEN)]
    row = prove_hostile("x", "y", inputs)
    assert row.broken == ("bad: ended in KeyError: 'nothing'",)
