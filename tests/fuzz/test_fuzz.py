"""A short time of each fuzzer, from the seeds that are kept; `make fuzz` gives them longer."""

import subprocess
import sys
from pathlib import Path

import pytest

from vitreous.proof.specimens import specimens

SEEDS = Path(__file__).parent / "seeds"
LARGEST = 6000  # bytes of a seed


def fuzz(harness, corpus, runs):
    command = [sys.executable, "-m", f"tests.fuzz.{harness}", str(corpus), f"-runs={runs}", f"-max_len={LARGEST}"]
    command.append(f"-artifact_prefix={corpus}/")
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])


def test_any_bytes_are_read_or_refused(tmp_path):
    for number, specimen in enumerate(specimens()):
        if 0 < len(specimen.data) <= LARGEST:
            (tmp_path / str(number)).write_bytes(specimen.data)
    done = fuzz("fuzz_decode", tmp_path, 3000)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done 3000 runs" in done.stderr


def test_a_run_folder_with_any_bytes_opens_or_is_refused(tmp_path):
    for seed in (SEEDS / "run_folder").iterdir():
        (tmp_path / seed.name).write_bytes(seed.read_bytes())
    done = fuzz("fuzz_run_folder", tmp_path, 1500)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done 1500 runs" in done.stderr


@pytest.mark.parametrize("harness", ["fuzz_decode", "fuzz_run_folder"])
def test_a_fuzzer_sees_what_is_not_refused(harness, tmp_path):
    """With the errors that it allows taken away, it must find one at once."""
    code = (
        f"import sys, atheris; sys.argv = ['fuzz', {str(tmp_path)!r}, '-runs=300', '-artifact_prefix={tmp_path}/']\n"
        f"from tests.fuzz import {harness} as harness\n"
        "class Never(Exception): ...\n"
        "harness.DecodeError = harness.VitreousError = Never\n"
        "atheris.Setup(sys.argv, harness.one_input); atheris.Fuzz()"
    )
    (tmp_path / "seed").write_bytes(b"\x00{")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode != 0
    assert "Uncaught Python exception" in done.stdout + done.stderr
