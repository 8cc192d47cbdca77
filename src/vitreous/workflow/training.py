"""The walk of a training run, top to bottom: settings -> all that it begins with (``preparing``) -> run folder -> loop,
scores, predictions, golden inputs (``run_training``) -> folds, if any -> report.
"""

import dataclasses
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from vitreous.allocator import kept_blocks
from vitreous.checkpoint import KEPT, load_newest_checkpoint
from vitreous.config import Config, settled
from vitreous.data.prepared import ImageSet
from vitreous.errors import ConfigError, Interrupted, MachineError, RunError
from vitreous.models.foreign import is_factory
from vitreous.progress import SILENT, Progress
from vitreous.report import page
from vitreous.run import FollowedRun, Run, free_run_path, list_runs, require_free, require_space, run_path
from vitreous.training.distributed import joined
from vitreous.training.distributed.torchrun import is_restart, launch_name, refuse_ranks
from vitreous.training.distributed.world import ALONE, World
from vitreous.training.engine import recorded_threads
from vitreous.training.finetune import is_head_only
from vitreous.training.loop import StopRequest, restore_weights
from vitreous.training.range_test import NUM_STEPS, RangeTest, range_test
from vitreous.weights import network_from_manifest
from vitreous.weights.adoption import adopt
from vitreous.weights.foreign import open_weights
from vitreous.weights.preprocessing import WeightPreprocessing
from vitreous.wording import listed
from vitreous.workflow.asked import asked_settings
from vitreous.workflow.calibrating import mend_calibration
from vitreous.workflow.cross_validation import cross_validate, has_folds, held_with_folds
from vitreous.workflow.preparing import prepare_run, versions_of
from vitreous.workflow.run_images import images_of, split_rows
from vitreous.workflow.run_training import train_run

StopContext = AbstractContextManager[StopRequest]


def train(
    data: str | Path,
    *,
    run: str | Path | None = None,
    config: Config | Path | str | None = None,
    progress: Progress = SILENT,
    stop: StopContext | None = None,
    **settings: Any,
) -> Run:
    """Train a classifier on labelled images and write its run folder.

    Args:
        data: a folder of class folders, a CSV, IDX or .npz file, or a built-in name; see the README.
        run: where the run folder goes: a path, or a name below ``runs``; by default a free name after the data's.
        config: settings, or a TOML file of them; what is not set is chosen from the data.
        progress: where messages and bars go.
        stop: while the loop runs, tells whether a signal asked to stop.
        **settings: single settings over the file's: ``model="lenet5"``, ``epochs=3``, ``image_size=64``, ``seed=1``,
            ``group_by="patient"``, ``exclude="fixes.csv"``, ``folds=5``, or any by its full name,
            ``**{"training.batch_size": 64}``.

    Returns:
        The complete run.

    Raises:
        UserError: data, settings or the run's name are wrong; nothing is written.
        MachineError: training failed; what was saved stays.
        Interrupted: a signal came; the run can be resumed.
    """
    started = time.monotonic()
    with joined() as world, kept_blocks():
        progress = progress if world.is_first else SILENT
        asked = asked_settings(config, data, settings)
        if (begun := _begun_before_restart(run, asked, world)) is not None:
            progress.say(f"started again after a failure: going on with {begun}")
            factory = asked.model.name if is_factory(asked.model.name or "") else None
            return _resume(begun, world, model=factory, progress=progress, stop=stop)
        return _train(data, asked, world, started=started, run=run, progress=progress, stop=stop)


@kept_blocks()
def find_learning_rate(
    data: str | Path,
    *,
    config: Config | Path | str | None = None,
    progress: Progress = SILENT,
    stop: StopContext | None = None,
    **settings: Any,
) -> RangeTest:
    """Try rising learning rates on the network that ``train`` would train; nothing is kept.

    Args:
        data, config, settings: as of ``train``.
        progress: where messages and bars go.
        stop: tells whether a signal asked to stop.

    Raises:
        UserError: data or settings are wrong, or there is nothing to train but the head.
        Interrupted: a signal came.
    """
    refuse_ranks("a learning rate is looked for by one process")
    asked = asked_settings(config, data, settings)
    if asked.training.minutes is not None:
        raise ConfigError("a learning rate is looked for in a fixed number of steps; leave training.minutes out.")
    prepared = prepare_run(str(data), asked, ALONE, started=time.monotonic(), progress=progress)
    if is_head_only(prepared.config.training):
        raise ConfigError("the head alone is fitted exactly and knows no learning rate; ask for epochs.")
    with stop or nullcontext(lambda: None) as stop_request, progress.task("trying rates", NUM_STEPS, "steps") as task:

        def before_step(number: int) -> None:
            if (signal_number := stop_request()) is not None:
                raise Interrupted("stopped; nothing was kept.", signal_number)
            task.advance(int(number > 0))

        return range_test(prepared.config, prepared.network, prepared.images, before_step)


def _train(
    data: str | Path,
    asked: Config,
    world: World,
    *,
    started: float,
    run: str | Path | None,
    progress: Progress,
    stop: StopContext | None,
) -> Run:
    path = run_path(str(run)) if run is not None else None
    if path is not None and world.is_first:
        require_free(path)
    prepared = prepare_run(str(data), asked, world, started=started, progress=progress)
    config, images, network = prepared.config, prepared.images, prepared.network
    folder = path or free_run_path(_stem(config.data.source))
    num_runs = 1 + (config.data.folds if has_folds(config) else 0)

    def create() -> Run:
        require_space(folder, num_runs * _run_bytes(prepared.manifest["model"]["parameters"], len(images)))
        return Run.create(folder, config, prepared.manifest, split_rows(images))

    begun = world.shared_run(create)
    factory = config.model.name if is_factory(settled(config.model.name)) else None
    return _train_to_end(begun, network, images, partial(_fresh_network, model=factory), progress, stop, world)


def resume(
    path: str | Path,
    *,
    model: str | None = None,
    accept_changed_code: bool = False,
    progress: Progress = SILENT,
    stop: StopContext | None = None,
) -> Run:
    """Go on with a run that was stopped, to the same bits as if it had not been; a complete run is left alone.

    Args:
        path: the run.
        model: ``file.py:factory`` again, where that built the network.
        accept_changed_code: take the file though it is not what it was.
        progress: where messages and bars go.
        stop: while the loop runs, tells whether a signal asked to stop.

    Raises:
        RunError: no run there, or its data, or the file that builds its network, is not what it was.
    """
    with joined() as world, kept_blocks():
        progress = progress if world.is_first else SILENT
        place = run_path(str(path))
        return _resume(place, world, model=model, accept_changed_code=accept_changed_code, progress=progress, stop=stop)


def _resume(
    path: Path,
    world: World,
    *,
    model: str | None,
    accept_changed_code: bool = False,
    progress: Progress,
    stop: StopContext | None,
) -> Run:
    run = world.shared_run(lambda: Run.open(path), with_splits=True)
    if run.status == "complete":
        if world.is_first:
            _mend_weights(run, progress)
            mend_calibration(run, progress, model=model, accept_changed_code=accept_changed_code)
        progress.say(f"{run.path} is complete; there is nothing to resume.")
        return run
    fresh = partial(_fresh_network, model=model, accept_changed_code=accept_changed_code)
    images = world.by_turns(lambda: images_of(run, progress))
    return _train_to_end(run, fresh(run), images, fresh, progress, stop, world)


def _begun_before_restart(run: str | Path | None, asked: Config, world: World) -> Path | None:
    """The run that these arguments began before torchrun started the processes again, if they came so far."""
    if not is_restart():
        return None

    def find() -> str | None:
        if run is not None:
            path = run_path(str(run))
            return str(path) if (path / "manifest.json").is_file() else None
        known, _ = list_runs()
        begun = [each for each in known if each.manifest.get("launch") == launch_name() and each.status != "complete"]
        return str(begun[-1].path) if begun else None

    found = world.shared(find)
    return None if found is None else Path(found)


def _train_to_end(
    run: Run,
    network: nn.Module,
    images: ImageSet,
    fresh_network: Callable[[Run], nn.Module],
    progress: Progress,
    stop: StopContext | None,
    world: World,
) -> Run:
    _say_where_bits_may_differ(run, progress, world)
    try:
        with held_with_folds(run), stop or nullcontext(lambda: None) as stop_request:
            answers = train_run(run, network, images, progress, stop_request, world)
            if has_folds(run.config):
                cross_validate(run, images, fresh_network, progress, stop_request, world)
        if answers is not None:
            predictor, scored = answers
            with recorded_threads(run.config.engine):
                complete = Run(run.path, {**run.manifest, "status": "complete"})  # what the page says once it is there
                page.write_report(complete, network.cpu(), predictor.preprocess, scored)
    except BaseException as error:
        if not isinstance(error, Exception):  # a signal while the report is written, or a second one before
            run.update_manifest(status="interrupted")
        elif run.status == "running":  # it failed after the loop, which tells of its own failures
            with suppress(MachineError):  # the disk may be what failed
                run.update_manifest(status="failed")
        raise
    run.update_manifest(status="complete")
    world.shared(lambda: None)  # nobody leaves before the first process has written all
    return run


def _say_where_bits_may_differ(run: Run, progress: Progress, world: World) -> None:
    """Before the first step: why a run that is stopped would not go on to the same bits, if it would not."""
    processes = run.config.engine.processes or 1
    if processes != world.size:
        progress.say(
            f"this run was begun by {processes} processes, now {world.size}: it goes on, but not to the same bits"
        )
    device = settled(run.config.engine.device)
    if device != "cpu":
        progress.say(f"{device} adds in no fixed order: a run that is stopped goes on, but not to the same bits")
    begun, now = run.manifest["versions"], versions_of(run.manifest["model"]["name"])
    if changed := [f"{name} {begun[name]}, now {now[name]}" for name in now if begun.get(name, now[name]) != now[name]]:
        progress.say(f"this run was begun with {listed(changed)}: it goes on, but perhaps not to the same bits")


def _fresh_network(run: Run, *, model: str | None, accept_changed_code: bool = False) -> nn.Module:
    """The run's network as it was before its first step."""
    network = network_from_manifest(run.manifest, model=model, accept_changed_code=accept_changed_code)
    _adopt_again(run, network)
    return network


def _adopt_again(run: Run, network: nn.Module) -> None:
    """The foreign weights that the run began with, where it was stopped before the first checkpoint.

    Raises:
        RunError: the file is not what it was.
    """
    begun = run.manifest.get("initial_weights")
    if isinstance(run, FollowedRun):
        return  # the first process sends its weights
    if not begun or load_newest_checkpoint(run.checkpoints_path, run.identity)[0] is not None:
        return
    file = open_weights(settled(run.config.model.weights))
    if file.sha256 != begun["sha256"]:
        raise RunError(
            f"{file.path} is not what {run.path} began with: SHA-256 {file.sha256[:12]}…, not {begun['sha256'][:12]}…."
        )
    file = dataclasses.replace(file, preprocessing=WeightPreprocessing(**begun["preprocessing"]))
    adopt(network, file, head=run.manifest["model"]["head"], classes=run.classes)


def _mend_weights(run: Run, progress: Progress) -> None:
    try:
        run.verified_weights()
    except RunError as error:
        if not restore_weights(run):
            raise
        progress.say(f"{error} Restored.")


def _run_bytes(num_parameters: int, num_images: int) -> int:
    """About what a run folder takes: checkpoints of four copies of the parameters, tables, a page."""
    copies = 4 * (KEPT + 1) + 1
    return 4 * num_parameters * copies + 300 * num_images + 2 * 2**20


def _stem(source: str) -> str:
    """A name for a run, after its data."""
    name = Path(source).stem
    return "".join(character if character.isalnum() or character in "-_." else "-" for character in name) or "run"
