"""Nothing that comes from a file is unpickled: the interpreter itself is asked, while everything is done to a run."""

import pickle
import subprocess
import sys

from tests.images import write_classes

WATCHED = """
import pickle, sys
from vitreous.cli import run_command

unpickled = []

def watch(event, arguments):
    if event == "pickle.find_class":
        unpickled.append(arguments)

sys.addaudithook(watch)
if sys.argv[1] == "canary":
    pickle.loads(open(sys.argv[2], "rb").read())
else:
    status = run_command(sys.argv[1:])
    assert status == 0, (sys.argv[1:], status)
assert not unpickled, unpickled
"""


def watched(*arguments):
    return subprocess.run([sys.executable, "-c", WATCHED, *map(str, arguments)], capture_output=True, text=True)


def test_no_command_unpickles_anything(tmp_path):
    data = write_classes(tmp_path / "photos", {"cat": 12, "dog": 12})
    image = data / "cat" / "000.png"
    run = tmp_path / "run"
    small = ["--epochs", "1", "--model", "conv4 gap fc", "--precision", "fp32"]
    commands = [
        ["train", data, "--run", run, *small],
        ["resume", run],
        ["evaluate", run],
        ["predict", run, image],
        ["report", run],
        ["explain", run, image, "--layer", "conv1.conv", "--at", "0,1,1"],
        ["train", data, "--weights", run, "--run", tmp_path / "second", "--epochs", "1"],
    ]
    for command in commands:
        done = watched(*command)
        assert done.returncode == 0, (command, done.stderr)


def test_the_watch_sees_what_is_unpickled(tmp_path):
    path = tmp_path / "canary.pkl"
    path.write_bytes(pickle.dumps(print))
    done = watched("canary", path)
    assert done.returncode != 0
    assert "('builtins', 'print')" in done.stderr
