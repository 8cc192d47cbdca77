"""Names from hell on the whole walk: nothing steers the terminal, runs in a page, or is taken for an option."""

import contextlib
import csv
import html.parser
import io
import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.images import encode
from vitreous.cli import run_command

NAMES = (
    "-dash.png",
    "--help",
    "=1+1.png",
    "@list.png",
    " leading.png",
    "trailing ",
    "new\nline.png",
    "return\rback.png",
    "tab\t.png",
    "red\x1b[31m.png",
    "bell\x07\x7f.png",
    "right to left\u202egnp.png",
    "\u2028separator.png",
    "quote'\"`.png",
    "<img src=x onerror=alert(1)>.png",
    "{{7*7}}{%x%}.png",
    "%s%n.png",
    "$(touch touched).png",
    "; touch touched;.png",
    "\\back.png",
    "u\u0301.png",
    "x" * 251 + ".png",
    os.fsdecode(b"\xff\xfe\x80.png"),
)
CLASSES = ("ordinary", "-<b>class\n\x1b[32m", os.fsdecode(b'=c\xff,"'))


class Done(NamedTuple):
    status: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """The whole walk, as a terminal would show it: (folder, command -> what it did)."""
    folder = tmp_path_factory.mktemp("names")
    data = write_data(folder / "-data\n")
    train = ["--model", "conv4s4 gap fc", "--epochs", "1", "--precision", "fp32", "--run", "out/run"]
    commands = {
        "train": ["train", *train, "--", data],
        "evaluate": ["evaluate", "out/run"],
        "predict": ["predict", "out/run", "--", data],
        "csv": ["predict", "out/run", "--csv", "--", data],
        "json": ["predict", "out/run", "--json", "--", data],
        "report": ["report", "out/run"],
        "check": ["check", "--", data],
    }
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.setenv("VITREOUS_CACHE", str(folder / "cache"))
        return folder, {name: run(arguments) for name, arguments in commands.items()}


def run(arguments):
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", newline="") for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run_command(arguments)
    for stream in (out, err):
        stream.flush()
    return Done(status, *(stream.buffer.getvalue().decode("utf-8") for stream in (out, err)))


def write_data(folder):
    random = np.random.default_rng(0)
    for shade, label in zip((40, 120, 200), CLASSES, strict=True):
        (folder / label).mkdir(parents=True)
        for name in NAMES:
            pixels = random.normal(shade, 25, (16, 12, 3)).clip(0, 255).astype(np.uint8)
            (folder / label / name).write_bytes(encode(pixels))
    return folder.name


def test_every_command_does_its_work_and_leaves_the_terminal_alone(walk):
    folder, done = walk
    for name, each in done.items():
        assert each.status == 0, (name, each.stderr)
        if name != "csv":  # a table for a program keeps what was in the name, in quotes
            told = each.stdout + each.stderr
            assert all(char == "\n" or char.isprintable() for char in told), name
    assert not list(folder.rglob("touched"))


def test_every_image_is_answered_by_its_own_name(walk):
    folder, done = walk
    wanted = {str(Path("-data\n", label, name)) for label in CLASSES for name in NAMES}
    document = json.loads(done["json"].stdout)
    assert {each["path"] for each in document["predictions"]} == wanted
    assert set(document["classes"]) == set(CLASSES)
    rows = list(csv.DictReader(done["csv"].stdout.splitlines(keepends=True)))
    assert {row["path"].replace("\\udcff", "\udcff") for row in rows} >= {
        each for each in wanted if each.isascii() and "\r" not in each
    }
    with (folder / "out/run/splits.csv").open(newline="", errors="surrogateescape", encoding="utf-8") as file:
        assert {row["path"] for row in csv.DictReader(file)} == {
            f"{label}/{name}" for label in CLASSES for name in NAMES
        }


class _Page(html.parser.HTMLParser):
    """Tags and handlers that no page of ours has."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        names = {name for name, _ in attributes}
        if tag == "script" or any(name.startswith("on") for name in names) or ("src", "x") in attributes:
            self.found.append((tag, attributes))


def test_nothing_of_a_name_runs_in_the_report(walk):
    page = _Page()
    text = (walk[0] / "out/run/report.html").read_bytes().decode("utf-8")
    page.feed(text)
    assert page.found == []
    assert not any(char in text for char in "\x1b\x07\u202e")
