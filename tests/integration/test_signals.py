"""SIGINT and SIGTERM at every phase of every command: gone within 10 s, with 130 or 143, and nothing half-written.

Real processes and real signals. Each phase is stopped at its beginning by ``phases``, so that the signal meets it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import make_photos
from vitreous.run import Run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the phases are forked")

MOST_SECONDS = 10
MOST_SECONDS_TO_COME = 60
SLOW = (pytest.mark.slow,)
NUMBERS = (signal.SIGINT, signal.SIGTERM)
BEFORE_THE_RUN = {
    "reading the source": "vitreous.workflow.asked:open_source",
    "hashing": "vitreous.checks.examined:hash_contents",
    "examining the images": "vitreous.data.inspection:_look",
    "comparing for duplicates": "vitreous.data.duplicates:near_pairs",
    "reading headers": "vitreous.workflow.asked:scan",
    "decoding": "vitreous.data.preprocess:Preprocess.pixels",
    "writing the cache": "vitreous.data.cache:replace_directory",
    "building the network": "vitreous.workflow.preparing:build_network",
    "probing the engine": "vitreous.workflow.preparing:choose_engine",
    "making the run folder": "vitreous.storage:write_csv",
}
OF_THE_RUN = {  # in the order in which they come
    "the first step": "vitreous.training.loop:train_step",
    "scoring after an epoch": "vitreous.predictor.torch_backend:TorchBackend.logits",
    "writing a checkpoint": "vitreous.checkpoint:save_file",
    "publishing weights": "vitreous.training.loop:publish_weights",
    "calibrating": "vitreous.workflow.calibrating:calibrate",
    "the final scores": "vitreous.workflow.run_training:score_split",
    "writing predictions": "vitreous.workflow.run_training:write_predictions",
    "writing golden inputs": "vitreous.workflow.run_training:_write_golden",
    "beginning the report": "vitreous.report.page:write_report",
    "writing the report": "vitreous.report.page:render",
}
SETTINGS = ("--model", "conv4s2 gap fc", "--epochs", "2", "--device", "cpu", "--precision", "fp32")
SETTINGS += ("--set", "training.batch_size=16", "--set", "engine.threads=1")


class Forked:
    """Commands of the server, in folders of their own."""

    def __init__(self, server, folder):
        self.server, self.folder, self.num, self.place = server, folder, 0, folder

    def begin(self, *arguments, phase=None, nth=1, skip=(), cache="cache"):
        self.num += 1
        self.place = place = self.folder / f"command{self.num}"
        asked = {"folder": str(place), "cache": str(self.folder / cache), "phase": phase, "nth": nth}
        asked |= {"arguments": [str(each) for each in arguments], "skip": list(skip)}
        self.server.stdin.write(json.dumps(asked) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline()), place

    def end(self):
        return int(self.server.stdout.readline())

    def run(self, *arguments, **asked):
        _, place = self.begin(*arguments, **asked)
        status = self.end()
        assert status == 0, (place / "stderr").read_text()

    def stop(self, number, *arguments, until=None, **asked):
        """Begin, send the signal once the phase is there; the status, the seconds and what was said."""
        process, place = self.begin(*arguments, **asked)
        come = until or (place / "here").exists
        deadline = time.monotonic() + MOST_SECONDS_TO_COME
        while not come():
            time.sleep(0.01)
            if not is_alive(process) or time.monotonic() > deadline:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                self.end()
                pytest.fail(f"the phase never came: {(place / 'stderr').read_text()}")
        os.kill(process, number)
        started = time.monotonic()
        (place / "go").touch()
        status = self.end()
        return status, time.monotonic() - started, (place / "stderr").read_text()

    def files(self):
        """What the last command left in its folder."""
        return {path.name for path in self.place.iterdir() if path.name != "tmp"}

    def children(self):
        """The processes that the last command started, which know it by their environment."""
        mark = f"PHASE_OF={self.place}".encode()
        return [path.parent.name for path in Path("/proc").glob("[0-9]*/environ") if mark in environment(path)]


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def environment(path):
    try:
        return path.read_bytes().split(b"\0")
    except OSError:  # it has ended meanwhile, or is not ours
        return []


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("signals") / "photos", num_per_class=16)


@pytest.fixture(scope="module")
def forked(photos):
    folder = photos.parent
    command = [sys.executable, Path(__file__).with_name("phases.py")]
    command += ["train", photos, *SETTINGS, "--run", folder / "straight"]
    environment = {**os.environ, "VITREOUS_CACHE": str(folder / "cache")}
    with (
        (folder / "server").open("w") as said,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, env=environment
        ) as server,
    ):
        while (line := server.stdout.readline()) != "ready\n":
            assert line, (folder / "server").read_text()
        yield Forked(server, folder)
        server.stdin.close()


@pytest.fixture(scope="module")
def straight(forked):
    """A run that nobody stopped."""
    return Run.open(forked.folder / "straight")


def assert_left_in_order(phase, number, left):
    status, seconds, said = left
    assert status == 128 + number, (phase, said)
    assert seconds < MOST_SECONDS, phase
    assert said.splitlines()[-1].startswith("vitreous: stopped"), (phase, said)
    assert "Traceback" not in said, (phase, said)
    assert "Exception ignored" not in said, (phase, said)


def assert_same_run(run, straight):
    assert run.status == "complete"
    assert run.manifest["weights"] == straight.manifest["weights"]
    assert run.manifest["scores"] == straight.manifest["scores"]
    assert (run.path / "predictions/test.csv").read_bytes() == (straight.path / "predictions/test.csv").read_bytes()


def leftovers(*folders):
    return [path for folder in folders for path in folder.rglob("*") if path.suffix in (".tmp", ".holder")]


def test_training_is_left_in_order_before_there_is_a_run(forked, photos, straight):
    train = ("train", photos, *SETTINGS, "--run", forked.folder / "begun")
    for count, (phase, place) in enumerate(BEFORE_THE_RUN.items()):
        number = NUMBERS[count % 2]
        assert_left_in_order(phase, number, forked.stop(number, *train, phase=place, cache="cache of the begun"))
        assert not (forked.folder / "begun").exists(), phase
        assert leftovers(forked.folder / "cache of the begun") == [], phase
    forked.run(*train, cache="cache of the begun")
    assert_same_run(Run.open(forked.folder / "begun"), straight)


def test_a_run_is_left_in_order_at_each_of_its_phases_and_ends_with_the_same_bits(forked, photos, straight):
    path = forked.folder / "stopped"
    for count, (phase, place) in enumerate(OF_THE_RUN.items()):
        number = NUMBERS[count % 2]
        asked = ("resume", path) if count else ("train", photos, *SETTINGS, "--run", path)
        assert_left_in_order(phase, number, forked.stop(number, *asked, phase=place))
        assert Run.open(path).status == "interrupted", phase
        assert leftovers(path) == [], phase
    forked.run("resume", path)
    assert_same_run(Run.open(path), straight)


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("phase", OF_THE_RUN)
def test_a_run_that_is_stopped_once_ends_with_the_same_bits(forked, photos, straight, phase, number):
    path = forked.folder / f"run-{forked.num}"
    train = ("train", photos, *SETTINGS, "--run", path)
    assert_left_in_order(phase, number, forked.stop(number, *train, phase=OF_THE_RUN[phase]))
    forked.run("resume", path)
    assert_same_run(Run.open(path), straight)


COMMANDS = {
    "evaluate": (("evaluate", "{run}"), "vitreous.workflow.finished:score_split"),
    "evaluate, finding the images": (("evaluate", "{run}", "--json"), "vitreous.workflow.finished:images_of"),
    "predict": (("predict", "{run}", "{photos}"), "vitreous.predictor:Predictor.answer"),
    "predict as JSON": (("predict", "{run}", "{photos}", "--json"), "vitreous.data.preprocess:Preprocess.pixels"),
    "check": (("check", "{photos}", "--report", "page.html"), "vitreous.data.inspection:_look"),
    "check, writing the page": (("check", "{photos}", "--report", "page.html"), "vitreous.storage:write_text"),
    "check, writing the list": (("check", "{photos}", "--fix-list", "list.csv"), "vitreous.storage:write_atomic"),
    "explain": (("explain", "{run}", "{photo}", "--out", "seen"), "vitreous.workflow.explaining:explain_image"),
    "explain, writing": (("explain", "{run}", "{photo}", "--out", "seen"), "vitreous.storage:replace_directory"),
    "report": (("report", "{run}"), "vitreous.storage:write_atomic"),
    "export": (("export", "{run}", "--format", "timm", "--out", "out"), "vitreous.workflow.finished:timm_architecture"),
}


@pytest.mark.parametrize("what", [pytest.param(each, marks=SLOW * (each == "explain, writing")) for each in COMMANDS])
def test_other_commands_are_left_in_order_and_leave_nothing(forked, photos, straight, what):
    arguments, place = COMMANDS[what]
    number = NUMBERS[list(COMMANDS).index(what) % 2]
    names = {"run": straight.path, "photos": photos, "photo": photos / "dark" / "0.jpg"}
    before = contents(straight.path)
    left = forked.stop(number, *(each.format(**names) for each in arguments), phase=place, cache="cache of others")
    assert_left_in_order(what, number, left)
    assert contents(straight.path) == before
    assert leftovers(forked.folder) == []
    assert forked.files() <= {"here", "go", "stdout", "stderr"}, "what it began to write is gone"


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FOLDS = {
    "training the first fold": ("vitreous.training.loop:train_step", 1),
    "scoring the first fold": ("vitreous.workflow.run_training:score_split", 1),
    "making the second fold": ("vitreous.workflow.cross_validation:split_rows", 1),
    "training the second fold": ("vitreous.training.loop:train_step", 1),
    "pooling the folds": ("vitreous.workflow.cross_validation:_pool", 1),
    "scoring the folds": ("vitreous.workflow.cross_validation:score", 1),
}


@pytest.mark.slow
def test_folds_are_left_in_order_and_end_with_the_same_bits(forked, photos):
    train = ("train", photos, *SETTINGS, "--folds", "2", "--run")
    forked.run(*train, forked.folder / "straight folds")
    path = forked.folder / "stopped folds"
    left = forked.stop(signal.SIGINT, *train, path, phase=OF_THE_RUN["writing the report"])
    assert_left_in_order("the report", signal.SIGINT, left)
    shutil.rmtree(path / "folds")
    for count, (phase, (place, nth)) in enumerate(FOLDS.items()):
        number = NUMBERS[count % 2]
        assert_left_in_order(phase, number, forked.stop(number, "resume", path, phase=place, nth=nth))
        assert Run.open(path).status == "interrupted", phase
        assert leftovers(path) == [], phase
    forked.run("resume", path)
    for name in ("", "folds/1", "folds/2"):
        assert_same_run(Run.open(path / name), Run.open(forked.folder / "straight folds" / name))
    assert Run.open(path).manifest["folds"] == Run.open(forked.folder / "straight folds").manifest["folds"]


PROOFS = ("zoo", "corruption", "power_loss", "crash_points", "kills")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the children are found in /proc")
@pytest.mark.parametrize("name", ["zoo", *(pytest.param(each, marks=SLOW) for each in PROOFS[1:])])
def test_a_proof_leaves_no_child_behind(forked, name):
    skipped = [f"vitreous.proof.{each}:prove" for each in PROOFS if each != name]
    number = NUMBERS[PROOFS.index(name) % 2]
    least = 2 if name == "crash_points" else 1  # its worker forks a child of its own
    left = forked.stop(number, "prove", skip=skipped, until=lambda: len(forked.children()) >= least)
    assert_left_in_order(name, number, left)
    deadline = time.monotonic() + 30
    while forked.children() and time.monotonic() < deadline:  # killed too, but a sync that is under way ends first
        time.sleep(0.01)
    assert forked.children() == []
    assert list(forked.place.glob("tmp/*")) == []


def test_a_signal_while_native_code_is_deaf_ends_the_process_all_the_same(tmp_path):
    """A worker of the pool that does not return, as a decoder may, would hold the process for ever."""
    program = "; ".join(
        (
            "import threading, time, sys",
            "from concurrent.futures import ThreadPoolExecutor",
            "from vitreous.cli import signals",
            "signals._PATIENCE_SECONDS = 0.5",
            "context = signals.leave_on_signals(); context.__enter__()",
            "pool = ThreadPoolExecutor(1); pool.submit(time.sleep, 60)",
            "print('ready', flush=True)",
            "time.sleep(60)",
        )
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        process.stdout.readline()
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
        assert time.monotonic() - started < MOST_SECONDS
