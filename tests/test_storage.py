import errno
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitreous import storage
from vitreous.errors import MachineError

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), max_size=20)


def test_a_failed_write_leaves_the_old_file_whole_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "file"
    storage.write_atomic(path, b"old")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match="full"):
        storage.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_the_bytes_are_synced_before_the_name_is_given(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, type(tmp_path).replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("sync"), fsync(descriptor))[1])
    monkeypatch.setattr(type(tmp_path), "replace", lambda self, to: (order.append("rename"), replace(self, to))[1])
    storage.write_atomic(tmp_path / "file", b"bytes")
    assert order == ["sync", "rename", "sync"]


@given(rows=st.lists(st.tuples(TEXTS, TEXTS), max_size=5))
def test_a_table_reads_back_whatever_the_names_hold(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    storage.write_csv(path, ("a", "b"), rows)
    assert [(row["a"], row["b"]) for row in storage.read_csv(path)] == rows


def test_a_name_that_is_not_utf8_survives(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    storage.write_csv(tmp_path / "t.csv", ("a",), [(name,)])
    assert [row["a"] for row in storage.read_csv(tmp_path / "t.csv")] == [name]


def test_a_lock_is_held_against_another_process_and_freed_when_it_dies(tmp_path):
    path = tmp_path / ".lock"
    code = (
        "import sys, pathlib, vitreous.storage as s\n"
        f"with s.lock(pathlib.Path({str(path)!r}), wait_seconds=0):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(MachineError, match="in use"), storage.lock(path, wait_seconds=0):
        pass
    holder.kill()
    holder.communicate()
    with storage.lock(path, wait_seconds=5):
        pass
