"""Commands that wait at a phase of their own: everything is loaded once, and each is forked from here.

``phases.py COMMAND`` first does COMMAND, to the end. Then a line of JSON on stdin names the command line, the phase and
its folder; the process number is answered, and its exit status at its end. The phase is a function, named as
module:name, which says "here" by a file before its Nth call, and waits until the file "go" is there, or a signal comes.
"""

import json
import os
import sys
import tempfile
import time
from functools import wraps
from importlib import import_module
from pathlib import Path

SECONDS = 30  # that a phase waits at most


def main():
    import torch

    from vitreous.cli import run_command

    torch.set_num_threads(1)  # a pool of threads would not survive the fork
    for name in ("vitreous.workflow.finished", "vitreous.workflow.checking", "vitreous.proof.proving"):
        import_module(name)
    assert run_command(sys.argv[1:]) == 0  # loads all that is loaded late
    say("ready")
    for line in sys.stdin:
        asked = json.loads(line)
        process = os.fork()
        if process == 0:
            command(asked)
        say(process)
        say(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))


def say(text):
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def command(asked):
    """What the ``vitreous`` command does, in this process; it never returns."""
    from vitreous.cli import main

    folder = Path(asked["folder"])
    folder.mkdir()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600), number)
    os.environ.update({"VITREOUS_CACHE": asked["cache"], "PHASE_OF": asked["folder"]})
    (folder / "tmp").mkdir()
    tempfile.tempdir = str(folder / "tmp")
    os.chdir(folder)
    for place in asked["skip"]:
        replace(place, lambda _function: lambda *_args, **_named: trivial_row())
    if asked["phase"]:
        replace(asked["phase"], lambda function: held(function, folder, asked["nth"]))
    sys.argv = ["vitreous", *asked["arguments"]]
    status = 1
    try:
        main()
    except SystemExit as ended:
        status = ended.code
    except BaseException as error:
        sys.stderr.write(f"Traceback, or would be: {error!r}\n")
    finally:
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(status)


def replace(place, change):
    """Another function at module:name or module:class.name."""
    module, _, name = place.partition(":")
    owner, _, attribute = name.rpartition(".")
    holder = getattr(import_module(module), owner) if owner else import_module(module)
    setattr(holder, attribute, change(getattr(holder, attribute)))


def held(function, folder, nth):
    calls = []

    @wraps(function)
    def wait_then_do(*arguments, **named):
        calls.append(None)
        if len(calls) == nth:
            (folder / "here").touch()
            deadline = time.monotonic() + SECONDS
            while not (folder / "go").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
        return function(*arguments, **named)

    return wait_then_do


def trivial_row():
    from vitreous.proof.rows import row_of

    return row_of("left out", "", [("a", "b")], [], 0.0)


if __name__ == "__main__":
    main()
