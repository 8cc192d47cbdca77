"""Several real processes on this machine, talking by gloo over loopback; and two hosts made of network namespaces."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vitreous
from vitreous.errors import ConfigError
from vitreous.run import Run
from vitreous.training.distributed import joined
from vitreous.training.distributed.ranks import Ranks
from vitreous.training.distributed.world import ALONE

HERE = Path(__file__).parent
TINY = [
    *("--model", "conv6s2bn dropout0.2 res[conv6bn conv6bn] pool conv8 gap fc", "--precision", "fp32"),
    *("--set", "training.batch_size=16", "--set", "training.ema_decay=0.9", "--set", "engine.threads=1"),
]
SECONDS = 120


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def environment(rank, port, size=2):
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "GROUP_RANK": 0}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1, "VITREOUS_ANSWER_SECONDS": 20}
    return {**os.environ, **{name: str(value) for name, value in place.items()}}


@contextmanager
def started(*commands):
    """Processes beside each other, one for each rank, as a launcher starts them; none outlives the context."""
    port, processes = free_port(), []
    try:
        for rank, command in enumerate(commands):
            processes.append(
                subprocess.Popen(
                    [sys.executable, *map(str, command)],
                    env=environment(rank, port, len(commands)),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()


def ended(processes):
    """Of each process the status and what it wrote."""
    deadline = time.monotonic() + SECONDS
    texts = [process.communicate(timeout=max(1, deadline - time.monotonic())) for process in processes]
    return [(process.returncode, out, error) for process, (out, error) in zip(processes, texts, strict=True)]


def vitreous_on_ranks(*arguments, size=2):
    return started(*[["-m", "vitreous", *arguments]] * size)


def torchrun(*options):
    return [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *options, "-m", "--", "vitreous"]


def wait_for(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def timeless(run):
    clocks = ("seconds", "images_per_second", "spent")
    return [{name: value for name, value in line.items() if name not in clocks} for line in run.metrics()]


# Alone


@given(num_images=st.integers(1, 70), size=st.integers(1, 8))
def test_the_parts_of_a_batch_are_the_batch_and_their_shares_make_its_mean(num_images, size):
    losses_N = torch.rand(num_images, dtype=torch.float64)
    ranks = [Ranks.__new__(Ranks) for _ in range(size)]
    seen, mean = [], 0.0
    for number, rank in enumerate(ranks):
        rank.rank, rank.size = number, size
        part = rank.part(torch.arange(num_images))
        seen += part.tolist()
        mean += float(losses_N[part].mean()) * rank.loss_share(num_images) / size if len(part) else 0.0
    assert sorted(seen) == list(range(num_images))
    assert mean == pytest.approx(float(losses_N.mean()), rel=1e-12)


def test_without_torchrun_there_is_one_process_and_nothing_is_said_to_anyone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_, **__: pytest.fail("nobody to talk to"))
    with joined() as world:
        assert world is ALONE
        assert world.shared(lambda: 7) == world.by_turns(lambda: 7) == world.voted(7) == 7


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": "2"}, "RANK and MASTER_ADDR and MASTER_PORT is not set"),
        ({"WORLD_SIZE": "two"}, "wants a whole number"),
        ({"WORLD_SIZE": "0"}, "number of processes"),
        ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}, r"must be in 0 \.\. 1"),
        (
            {
                **{"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
                "VITREOUS_ANSWER_SECONDS": "soon",
            },
            "wants a number of seconds",
        ),
    ],
)
def test_an_environment_that_cannot_be_is_refused(monkeypatch, variables, said):
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=said), joined():
        pass


# Two ranks


def test_two_ranks_give_the_gradients_the_scores_and_the_state_of_one(tmp_path):
    with started(*[[HERE / "ranks.py", tmp_path / "seen.json"]] * 2) as processes:
        for status, _, error in ended(processes):
            assert status == 0, error
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert (seen["size"], seen["voted"], seen["shared"]) == (2, 15, {"by": 0})
    for errors in seen["gradients"].values():
        assert errors["gradient"] < 1e-7, errors  # the loss itself is computed in fp32
        assert errors["state"] < 1e-7, errors
        assert errors["loss"] < 1e-6, errors
    assert seen["logits"] == [True] * 4
    assert seen["checkpoint"]


def test_a_run_of_two_ranks_is_the_run_of_one_and_the_first_alone_writes_and_speaks(photos, tmp_path):
    without_dropout = [each.replace("dropout0.2 ", "") for each in TINY]  # which each rank draws for itself
    mixed = ["--set", "augmentation.mixup=0.4", "--set", "augmentation.cutmix=1.0"]
    settings = [photos, *without_dropout, *mixed, "--epochs", "2", "--set", "training.batch_size=15"]
    settings += ["--set", "training.optimizer=sgd"]  # Muon rounds to bf16, and that tells ranks from one process sooner
    with vitreous_on_ranks("train", *settings, "--run", tmp_path / "two") as processes:
        (first, out, said), (second, *silent) = ended(processes)
    assert (first, second) == (0, 0), said
    assert "Accuracy on" in out
    assert silent == ["", ""]
    assert not re.search("warn", said, re.IGNORECASE)
    two = Run.open(tmp_path / "two")
    assert two.config.engine.processes == 2
    scores = vitreous.evaluate(two.path, split="val")
    assert {key: scores[key] for key in two.manifest["scores"]["val"]} == two.manifest["scores"]["val"]
    best = two.manifest["weights"]
    assert scores["accuracy"]["value"] == two.metrics()[best["epoch"] - 1]["val_accuracy"]
    config = tmp_path / "config.toml"
    config.write_text((two.path / "config.toml").read_text().replace("processes = 2", ""))
    one = vitreous.train(photos, run=tmp_path / "one", config=config)
    for ours, theirs in zip(two.metrics(), one.metrics(), strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-4)
        assert ours["val_loss"] == pytest.approx(theirs["val_loss"], rel=1e-4)
    assert {path.name for path in two.path.iterdir()} == {path.name for path in one.path.iterdir()}


def test_a_rank_that_is_killed_ends_the_job_with_a_clear_word(photos, tmp_path):
    run = tmp_path / "run"
    with vitreous_on_ranks("train", photos, *TINY, "--epochs", "5000", "--run", run) as processes:
        wait_for(lambda: list((run / "checkpoints").glob("step-*")))
        processes[1].kill()
        (status, _, said), _ = ended(processes)
    assert status == 3
    assert f"rank 1 of 2 no longer answers (it was ended, or its host is away). {run} is whole" in said
    assert f"torchrun ... -m vitreous resume {run}" in said
    assert Run.open(run).status == "failed"
    assert len(Run.open(run).metrics()) > 0


@pytest.mark.slow
def test_arguments_that_differ_are_refused_and_told_once(photos, tmp_path):
    asked = ["-m", "vitreous", "train", photos, *TINY, "--run", tmp_path / "run", "--epochs"]
    with started([*asked, 2], [*asked, 3]) as processes:
        ends = ended(processes)
    assert [status for status, *_ in ends] == [2, 2]
    said = "".join(error for *_, error in ends)
    assert said.count("training.epochs is 3 here and 2 for rank 0") == 1
    assert "vitreous: rank 1 on " in said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing-here"], "nothing-here"),
        (["--set", "training.batch_size=2"], "a batch of 2 images cannot be shared by 3 processes"),
    ],
)
def test_what_one_process_would_refuse_is_refused_once_by_all(photos, tmp_path, arguments, said):
    data = [] if arguments[0] == "nothing-here" else [photos]
    asked = ["train", *data, *arguments, "--epochs", "2", "--run", tmp_path / "run"]
    with vitreous_on_ranks(*asked, size=3) as processes:
        ends = ended(processes)
    assert [status for status, *_ in ends] == [2, 2, 2]
    assert "".join(error for *_, error in ends).count(said) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_one_process_may_go_on_with_the_run_of_two_and_says_what_that_means(photos, tmp_path, cli):
    run = tmp_path / "run"
    with vitreous_on_ranks("train", photos, *TINY, "--epochs", "60", "--run", run) as processes:
        wait_for(lambda: list((run / "checkpoints").glob("step-*")))
        processes[0].send_signal(signal.SIGINT)
        assert [status for status, *_ in ended(processes)] == [130, 130]
    status, _, said = cli("resume", run)
    assert status == 0
    assert "begun by 2 processes, now 1: it goes on, but not to the same bits" in said


@pytest.mark.slow
def test_images_that_differ_between_hosts_are_refused(photos, tmp_path):
    other = shutil.copytree(photos, tmp_path / "other")
    next((other / "dark").iterdir()).unlink()
    asked = ["--epochs", "2", "--run", tmp_path / "run"]
    with started(*[["-m", "vitreous", "train", data, *TINY, *asked] for data in (photos, other)]) as processes:
        ends = ended(processes)
    assert [status for status, *_ in ends] == [2, 2]
    assert "the images of DATA differ: count is 71 here and 72 for rank 0" in ends[1][2]


@pytest.mark.slow
def test_a_signal_to_one_rank_saves_once_and_the_run_goes_on_to_the_same_bits(photos, tmp_path):
    for name in ("straight", "stopped"):
        with vitreous_on_ranks("train", photos, *TINY, "--epochs", "60", "--run", tmp_path / name) as processes:
            if name == "stopped":
                wait_for(lambda: list((tmp_path / "stopped" / "checkpoints").glob("step-*")))
                processes[1].send_signal(signal.SIGTERM)
            ends = ended(processes)
    assert [status for status, *_ in ends] == [143, 143]
    assert "".join(error for *_, error in ends).count("go on with: vitreous resume") == 1
    assert Run.open(tmp_path / "stopped").status == "interrupted"
    with vitreous_on_ranks("resume", tmp_path / "stopped") as processes:
        assert [status for status, *_ in ended(processes)] == [0, 0]
    straight, resumed = (Run.open(tmp_path / name) for name in ("straight", "stopped"))
    assert resumed.manifest["weights"] == straight.manifest["weights"]
    assert timeless(resumed) == timeless(straight)


@pytest.mark.slow
def test_a_host_that_no_longer_answers_is_given_up(photos, tmp_path):
    """A stopped process keeps its connections, as a host without power does."""
    run = tmp_path / "run"
    with vitreous_on_ranks("train", photos, *TINY, "--epochs", "5000", "--run", run) as processes:
        wait_for(lambda: list((run / "checkpoints").glob("step-*")))
        processes[1].send_signal(signal.SIGSTOP)
        began = time.monotonic()
        status, (_, said) = None, processes[0].communicate(timeout=SECONDS)
        status = processes[0].returncode
    assert status == 3
    assert "rank 1 of 2 no longer answers" in said
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_folds_and_numbers_that_are_no_longer_finite_are_met_together(photos, tmp_path):
    asked = ["train", photos, *TINY, "--epochs", "2", "--folds", "2", "--run", tmp_path / "folds"]
    with vitreous_on_ranks(*asked) as processes:
        for status, _, error in ended(processes):
            assert status == 0, error
    assert Run.open(tmp_path / "folds").manifest["folds"]["num_folds"] == 2
    wild = ["--set", "training.learning_rate=100", "--set", "training.momentum=0.99", "--epochs", "30"]
    with vitreous_on_ranks("train", photos, *TINY, *wild, "--run", tmp_path / "wild") as processes:
        ends = ended(processes)
    assert ends[0][0] == ends[1][0]
    assert ends[0][0] in (0, 3)
    assert "no longer finite" in ends[0][2]
    assert "Back to the state after epoch" in ends[0][2]
    assert ends[1][1:] == ("", "")


@pytest.mark.slow
def test_a_new_head_is_fitted_once_for_all(photos, tmp_path):
    first = vitreous.train(photos, run=tmp_path / "first", model="conv6s2bn conv8 gap fc", epochs=1)
    asked = ["train", photos, "--weights", first.path, "--epochs", "0"]
    with vitreous_on_ranks(*asked, "--run", tmp_path / "two") as processes:
        for status, _, error in ended(processes):
            assert status == 0, error
    one = vitreous.train(photos, run=tmp_path / "one", weights=first.path, epochs=0, **{"engine.threads": 1})
    ours, theirs = (Run.open(tmp_path / name) for name in ("two", "one"))
    assert ours.metrics()[0]["val_loss"] == pytest.approx(theirs.metrics()[0]["val_loss"], rel=1e-3)
    assert one.status == "complete"


# torchrun


def child_of_rank(rank, launcher):
    """The process that a launcher of ours started for a rank."""
    for folder in Path("/proc").iterdir():
        try:
            is_child = folder.name.isdigit() and int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if is_child == launcher and f"RANK={rank}" in (folder / "environ").read_bytes().decode().split("\0"):
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError("no such process")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the rank's process is found in /proc")
@pytest.mark.parametrize("is_named", [True, False])
def test_torchrun_starts_the_job_again_and_it_goes_on_to_the_same_bits(photos, tmp_path, is_named):
    straight = [*torchrun("--master-port", str(free_port())), "train", photos, *TINY, "--epochs", "60"]
    again = [*torchrun("--max-restarts", "1", "--master-port", str(free_port())), *straight[straight.index("train") :]]
    straight += ["--run", tmp_path / "straight"]
    again += ["--run", "again"] if is_named else []
    subprocess.run(straight, check=True, capture_output=True, timeout=SECONDS)
    run = tmp_path / "runs" / ("again" if is_named else "photos")
    with subprocess.Popen(again, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as job:
        wait_for(lambda: list((run / "checkpoints").glob("step-*")))
        os.kill(child_of_rank(1, job.pid), signal.SIGKILL)
        _, said = job.communicate(timeout=SECONDS)
    assert job.returncode == 0, said
    assert f"started again after a failure: going on with {run.relative_to(tmp_path)}" in said
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [run.name]
    assert Run.open(run).manifest["weights"] == Run.open(tmp_path / "straight").manifest["weights"]


# Two hosts

COMMANDS = ("ip", "unshare", "nsenter")


@contextmanager
def two_hosts():
    """Two network namespaces with a cable between them; gives what to put before a command on each."""
    names = [f"vitreous-{os.getpid()}-{number}" for number in (0, 1)]
    ends = [f"vt{os.getpid() % 100000}{letter}" for letter in "ab"]

    def ip(*arguments):
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", ends[0], "netns", names[0], "type", "veth", "peer", "name", ends[1], "netns", names[1])
        for number, (name, end) in enumerate(zip(names, ends, strict=True)):
            ip("-n", name, "address", "add", f"10.213.7.{number + 1}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield [["ip", "netns", "exec", name] for name in names], ends
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def can_make_hosts():
    try:
        with two_hosts():
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@pytest.fixture
def hosts():
    if not can_make_hosts():
        pytest.skip("this machine does not let us make network namespaces")
    with two_hosts() as made:
        yield made


def job_on(hosts, tmp_path, *arguments):
    """A torchrun on each host, with a cache and a working directory of its own: nothing is shared but the cable."""
    jobs = []
    for number, (host, end) in enumerate(zip(*hosts, strict=True)):
        home = tmp_path / f"host{number}"
        home.mkdir(exist_ok=True)
        place = ["--nnodes", "2", "--node-rank", str(number), "--master-addr", "10.213.7.1", "--master-port", "29500"]
        command = [sys.executable, "-m", "torch.distributed.run", *place, "--nproc-per-node", "1", "-m", "--"]
        ours = {"VITREOUS_CACHE": str(home / "cache"), "GLOO_SOCKET_IFNAME": end, "OMP_NUM_THREADS": "1"}
        jobs.append(
            subprocess.Popen(
                [*host, *command, "vitreous", *map(str, arguments)],
                cwd=home,
                env={**os.environ, **ours, "VITREOUS_ANSWER_SECONDS": "10"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return jobs


@pytest.mark.slow
def test_two_hosts_give_the_run_of_two_ranks_on_one_to_the_same_bits(hosts, photos, tmp_path):
    asked = [photos, *TINY, "--epochs", "3", "--run", "run"]
    ends = ended(job_on(hosts, tmp_path, "train", *asked))
    assert [status for status, *_ in ends] == [0, 0], ends
    assert not (tmp_path / "host1" / "runs").exists()
    with vitreous_on_ranks("train", *asked[:-1], tmp_path / "here") as processes:
        assert [status for status, *_ in ended(processes)] == [0, 0]
    there, here = Run.open(tmp_path / "host0" / "runs" / "run"), Run.open(tmp_path / "here")
    assert there.manifest["weights"] == here.manifest["weights"]
    assert timeless(there) == timeless(here)


@pytest.mark.slow
def test_a_cable_that_is_pulled_ends_both_hosts_with_a_word(hosts, photos, tmp_path):
    jobs = job_on(hosts, tmp_path, "train", photos, *TINY, "--epochs", "50000", "--run", "run")
    run = tmp_path / "host0" / "runs" / "run"
    try:
        wait_for(lambda: list((run / "checkpoints").glob("step-*")))
        subprocess.run([*hosts[0][1], "ip", "link", "set", hosts[1][1], "down"], check=True)
        ends = ended(jobs)
    finally:
        for job in jobs:
            job.kill()
            job.wait()
    assert "rank 1 of 2 no longer answers" in ends[0][2]
    assert "no longer answers" in ends[1][2]
    assert all(status != 0 for status, *_ in ends)
    assert np.isfinite([line["val_loss"] for line in Run.open(run).metrics()]).all()
