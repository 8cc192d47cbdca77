"""The loop: epochs of steps, a score after each, a checkpoint after each, and the best weights kept.

What an image meets in epoch e follows from (seed, e, image) and nothing else, so the state of a run is its tensors and
three numbers, and a run that was stopped goes on to the same bits.
"""

import copy
import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitreous import storage
from vitreous.checkpoint import NotFiniteError, load_newest_checkpoint, save_checkpoint
from vitreous.config import settled
from vitreous.data.prepared import ImageSet
from vitreous.errors import Interrupted, MachineError
from vitreous.evaluation.scores import accuracy, log_loss
from vitreous.predictor import Predictor
from vitreous.predictor.torch_backend import TorchBackend
from vitreous.progress import SILENT, Progress, Task
from vitreous.run import Run
from vitreous.training.batches import Batches
from vitreous.training.clock import Clock
from vitreous.training.distributed.world import ALONE, World, require_shares
from vitreous.training.ema import Average
from vitreous.training.engine import lay_out, recorded_threads
from vitreous.training.finetune import freeze, set_training_mode
from vitreous.training.head import backbone_features, fit_head
from vitreous.training.optim import make_optimizer, optimizer_tensors, restore_optimizer, set_rate
from vitreous.training.schedule import rate_at
from vitreous.training.step import train_step
from vitreous.weights import publish_weights
from vitreous.wording import listed

StopRequest = Callable[[], int | None]  # the number of the signal that asks to stop, if one came

MOST_ROLLBACKS = 3
ROLLBACK_SHARE = 0.25  # of the learning rate, after each
_STEPS_BETWEEN_LOOKS = 32  # at the losses: looking at each would make a GPU wait


@dataclass(slots=True)
class Place:
    """Where the run stands; all of the state that is not a tensor."""

    epoch: int = 0  # that are done
    step: int = 0  # optimizer steps done in all
    steps_in_epoch: int = 0  # of them in this epoch
    loss_sum: float = 0.0  # of them in this epoch
    highest_accuracy: float = -1.0  # of all epochs
    highest_epoch: int = 0
    best_epoch: int = 0  # whose weights are kept; 0 is the head that was fitted before the first
    best_accuracy: float = -1.0  # below 0 until there is a score
    best_loss: float = float("inf")
    rollbacks: int = 0  # to an earlier state, because numbers were no longer finite
    rate_share: float = 1.0  # of the settings' learning rate, since the last of them

    def to_json(self) -> dict[str, Any]:
        """JSON has no infinity, so the best score is absent until there is one."""
        values = asdict(self)
        return values if self.best_accuracy >= 0 else {key: value for key, value in values.items() if "best" not in key}


def fit(
    run: Run,
    network: nn.Module,
    images: ImageSet,
    *,
    progress: Progress = SILENT,
    stop: StopRequest = lambda: None,
    world: World = ALONE,
) -> None:
    """Train the run's network on the ``train`` part of ``images``, choosing the epoch on ``val``.

    Starts from the newest whole checkpoint where there is one, else from the weights that ``network`` has. At the end
    the run holds the best weights.

    Raises:
        Interrupted: a signal came; the state is saved, and the best weights so far are the run's.
        MachineError: numbers stay finite at no smaller learning rate either, the disk is full, or another process
            trains this run.
    """
    held = storage.lock(run.path / ".lock", wait_seconds=0) if world.is_first else nullcontext()
    with held, recorded_threads(run.config.engine), torch.random.fork_rng():
        trainer = Trainer(run, network, images, progress, world)
        is_begun = trainer.restore()
        run.update_manifest(status="running")
        try:
            if not is_begun:
                trainer.begin(stop)
            trainer.train(stop)
        except Interrupted:
            run.update_manifest(status="interrupted")
            raise
        except MachineError:
            run.update_manifest(status="failed")
            raise
        except (MemoryError, RuntimeError) as error:
            run.update_manifest(status="failed")
            if not _is_out_of_memory(error):
                raise
            batch_size = trainer.batches.batch_size
            raise MachineError(
                f"not enough memory for batches of {batch_size} images of {trainer.preprocess.height} x "
                f"{trainer.preprocess.width}; --set training.batch_size={max(2, batch_size // 2)} needs about half."
            ) from error


def restore_weights(run: Run) -> bool:
    """Write the best weights that the newest whole checkpoint holds as the run's; False where there is none."""
    checkpoint, _ = load_newest_checkpoint(run.checkpoints_path, run.identity)
    best = _part(checkpoint.tensors, "best") if checkpoint else {}
    if not best or checkpoint is None:
        return False
    publish_weights(run, best, _best_facts(checkpoint.progress))
    return True


class Trainer:
    """One run under way: the network, its optimizer, and the place in the schedule."""

    def __init__(
        self, run: Run, network: nn.Module, images: ImageSet, progress: Progress, world: World = ALONE
    ) -> None:
        config = run.config
        self.run, self.config, self.images, self.progress, self.world = run, config, images, progress, world
        self.device = world.device(settled(config.engine.device))
        self.preprocess = images.preprocess
        self.network = lay_out(network.to(self.device), config.engine)
        freeze(self.network, settled(config.training.freeze), run.manifest["model"].get("head"))
        set_training_mode(self.network, settled(config.training.batch_norm))
        self.optimizer = make_optimizer(self.network, config.training)
        self.average = Average(self.network, settled(config.training.ema_decay))
        self.predictor = Predictor(
            TorchBackend(self.average.network, self.preprocess, self.device), self.preprocess, images.classes
        )
        self.batches = Batches(config, images, self.device, world)
        require_shares(world, self.batches.batch_size, config.training.accumulate)
        self.val_pixels, self.val_labels = images.pixels[images.selecting], images.labels[images.selecting]
        self.num_epochs = settled(config.training.epochs)
        self.clock = Clock(is_exact=self.device.type == "cpu")
        self.place = Place()
        self.best: dict[str, Tensor] = {}
        world.align(self.network, self.average.network)
        self.first_weights: dict[str, Tensor] = {}  # until there is a checkpoint to go back to

    def begin(self, stop: StopRequest) -> None:
        """Before the first step: where the head is to be fitted on the frozen rest's features, do so, and score it."""
        if not (self.run.manifest.get("initial_weights") or {}).get("fits_head"):
            return
        started = time.perf_counter()
        train_loss, num_images = self.world.shared(lambda: self._fit_head(stop))
        self.world.align(self.network, self.average.network)
        logits_NK = self.world.logits(self.predictor, self.val_pixels)
        self._score(logits_NK, train_loss, time.perf_counter() - started, num_images)
        self._save()

    def _fit_head(self, stop: StopRequest) -> tuple[float, int]:
        """Give both networks the head that fits best; its loss, and how many images were seen."""
        features_ND, labels_N = self._features(stop)
        num_train = len(self.batches.train_indices)
        fitted = fit_head(
            features_ND[:num_train],
            labels_N[:num_train],
            features_ND[num_train:],
            labels_N[num_train:],
            torch.ones(len(self.predictor.classes))
            if self.batches.class_weights_K is None
            else self.batches.class_weights_K.cpu(),
        )
        with torch.no_grad():
            for network in (self.average.network, self.network):
                head = self._head_of(network)
                head.weight.copy_(fitted.weight_KD)
                head.bias.copy_(fitted.bias_K)
        return fitted.train_loss, len(features_ND)

    def _features(self, stop: StopRequest) -> tuple[Tensor, Tensor]:
        """What the head is shown of the training and then the validation images, and their labels."""
        index_N = np.concatenate([self.batches.train_indices, self.images.selecting])

        def check() -> None:
            if (signal_number := stop()) is not None:
                raise Interrupted(
                    f"stopped before the first step; begin again with: vitreous resume {self.run.path}", signal_number
                )

        features_ND = backbone_features(
            self.predictor,
            self._head_of(self.average.network),
            self.images.pixels,
            index_N,
            key=self._features_key(index_N),
            progress=self.progress,
            before_batch=check,
        )
        return features_ND, self.batches.labels_M[index_N]

    def _features_key(self, index_N: NDArray[np.int64]) -> str:
        model, begun, engine = self.run.manifest["model"], self.run.manifest["initial_weights"], self.config.engine
        deciding = {
            "weights": [begun["sha256"], begun["preprocessing"]],
            "network": [model["name"], model.get("source_sha256"), model["head"]],
            "preprocess": [self.preprocess.pixel_key(), self.preprocess.mean, self.preprocess.std],
            "images": [self.images.hashes[number] for number in index_N],
            "machine": [self.run.manifest["versions"], engine.device, engine.threads],
        }
        return storage.sha256_bytes(json.dumps(deciding, sort_keys=True).encode())

    def _head_of(self, network: nn.Module) -> nn.Linear:
        head = network.get_submodule(self.run.manifest["model"]["head"])
        assert isinstance(head, nn.Linear), "only such a head is fitted"
        return head

    def train(self, stop: StopRequest) -> None:
        """Go on from the place where the run stands to its end."""
        num_batches, batch_size = self.batches.num_batches, self.batches.batch_size
        total, done = self.num_epochs * num_batches * batch_size, self.place.step * batch_size
        with self.progress.task("training", total, "images", done) as task:
            while self.place.epoch < self.num_epochs and not self._is_patience_over():
                started, first = time.perf_counter(), self.place.steps_in_epoch
                try:
                    self._train_epoch(stop, task)
                    seconds, num_images = time.perf_counter() - started, (num_batches - first) * batch_size
                    self._finish_epoch(stop, seconds, num_images)
                except NotFiniteError as error:
                    self._go_back(error)
        self._publish()

    def restore(self) -> bool:
        """Take up the newest whole checkpoint, if there is one; say which are damaged."""
        checkpoint, problems = self.world.shared_checkpoint(self.run.checkpoints_path, self.run.identity)
        for problem in problems:
            self.progress.say(problem)
        if checkpoint:
            self.network.load_state_dict(_part(checkpoint.tensors, "network"))
            self.average.network.load_state_dict(_part(checkpoint.tensors, "average"))
            restore_optimizer(self.optimizer, _part(checkpoint.tensors, "optimizer"))
            self.best = _part(checkpoint.tensors, "best")
            self.place = Place(**checkpoint.progress)
        elif not self.first_weights:
            self.first_weights = copy.deepcopy(self.network.state_dict())
        self.run.rewind_metrics(self.place.epoch if checkpoint else -1)
        return checkpoint is not None

    def _go_back(self, error: NotFiniteError) -> None:
        """To the newest whole checkpoint, or to the first weights, with a smaller learning rate.

        A run that is killed before it is saved again meets the same numbers, and goes back again.

        Raises:
            MachineError: it was done often enough.
        """
        rate, rollbacks = self._rate, self.place.rollbacks + 1
        smaller = self.place.rate_share * ROLLBACK_SHARE
        restore_optimizer(self.optimizer, {})
        if not self.restore():
            for network in (self.network, self.average.network):
                network.load_state_dict(self.first_weights)
            self.best, self.place = {}, Place()
        self.place = replace(self.place, rollbacks=rollbacks, rate_share=smaller)
        if rollbacks > MOST_ROLLBACKS:
            raise MachineError(
                f"{error} Going back {MOST_ROLLBACKS} times, down to training.learning_rate = {rate:g}, did not help. "
                f"The state after epoch {self.place.epoch} is kept: look at those images, or try "
                f"--set training.learning_rate={self._rate:g}."
            )
        self.progress.say(
            f"{error} Back to the state after epoch {self.place.epoch}, with training.learning_rate = {self._rate:g} "
            f"in place of {rate:g}."
        )

    @property
    def _rate(self) -> float:
        """The highest learning rate of the schedule, after what was taken off it."""
        return settled(self.config.training.learning_rate) * self.place.rate_share

    def _train_epoch(self, stop: StopRequest, task: Task) -> None:
        place, training = self.place, self.config.training
        unseen: list[tuple[Tensor, Tensor]] = []
        self.clock.start()
        for index_N in self.batches.order(place.epoch)[place.steps_in_epoch :]:
            signal_number = self.world.voted(stop() or 0)
            if signal_number or len(unseen) == _STEPS_BETWEEN_LOOKS:
                self._look_at(unseen)
            if signal_number:
                self._save_and_stop(signal_number)
            images_NCHW, labels_N, mixed = self.batches.batch(index_N, place.epoch)
            share = rate_at(
                place.step,
                self.num_epochs * self.batches.num_batches,
                schedule=training.schedule,
                warmup_fraction=training.warmup_fraction,
            )
            set_rate(self.optimizer, self._rate * share)
            torch.manual_seed(self.config.seed * 1_000_003 + place.step + self.world.rank * 2**48)  # dropout, stateless
            self.clock.lap("data")
            loss = train_step(
                self.replicated,
                images_NCHW,
                labels_N,
                self.optimizer,
                precision=settled(self.config.engine.precision),
                label_smoothing=settled(training.label_smoothing),
                class_weights_K=self.batches.class_weights_K,
                clip_norm=training.clip_norm,
                clock=self.clock,
                mixed=mixed,
                num_parts=training.accumulate,
                share=self.world.loss_share(len(index_N)),
            )
            unseen.append((loss, index_N))
            self.average.follow(place.step)
            self.clock.lap("optimizer")
            place.step += 1
            place.steps_in_epoch += 1
            task.advance(self.batches.batch_size, f"epoch {place.epoch + 1}/{self.num_epochs}")
        self._look_at(unseen)

    @cached_property
    def replicated(self) -> nn.Module:
        """The network as a step runs it; made when the first step comes, since there may be none."""
        return self.world.replicated(self.network)

    def _look_at(self, unseen: list[tuple[Tensor, Tensor]]) -> None:
        """Add up the losses of the steps since the last look.

        Raises:
            NotFiniteError: one is not finite; the message names its images.
        """
        losses: list[float] = self.world.mean(torch.stack([loss for loss, _ in unseen])).tolist() if unseen else []
        are_finite = [math.isfinite(loss) for loss in losses]
        if not all(are_finite):
            number = are_finite.index(False)
            step = self.place.step - len(unseen) + number + 1
            names = [self.images.names[i] for i in unseen[number][1].tolist()]
            raise NotFiniteError(
                f"the loss is no longer finite at step {step}, in epoch {self.place.epoch + 1}, for a batch of "
                f"{listed(names, most=8)}."
            )
        for loss in losses:
            self.place.loss_sum += loss
        unseen.clear()

    def _finish_epoch(self, stop: StopRequest, seconds: float, num_images: int) -> None:
        def check() -> None:
            if signal_number := self.world.voted(stop() or 0):
                self._save_and_stop(signal_number)

        place = self.place
        self.average.settle()
        self.world.align(self.network, self.average.network)
        self.clock.start()
        logits_NK = self.world.logits(self.predictor, self.val_pixels, check)
        self.clock.lap("evaluation")
        place.epoch += 1
        self._score(logits_NK, place.loss_sum / self.batches.num_batches, seconds, num_images)
        place.steps_in_epoch, place.loss_sum = 0, 0.0
        self._save()

    def _score(self, logits_NK: NDArray[np.float32], train_loss: float, seconds: float, num_images: int) -> None:
        """Score the answers on ``val`` after ``place.epoch`` epochs, keep the network if it is the best, and tell.

        The best is the last one that the highest accuracy is not above by a standard error: the rate falls, so of two
        epochs that so many images cannot tell apart the later one is the better guess (Breiman et al. 1984, section
        3.4.3, has the rule for trees).
        """
        place = self.place
        if not np.isfinite(logits_NK).all():
            raise NotFiniteError(f"the network's answers are no longer finite after epoch {place.epoch}.")
        val_accuracy, val_loss = self.world.shared(
            lambda: (accuracy(logits_NK, self.val_labels), log_loss(logits_NK, self.val_labels))
        )
        if val_accuracy > place.highest_accuracy:
            place.highest_accuracy, place.highest_epoch = val_accuracy, place.epoch
        is_best = val_accuracy >= place.highest_accuracy - standard_error(place.highest_accuracy, len(self.val_labels))
        if is_best:
            place.best_epoch, place.best_accuracy, place.best_loss = place.epoch, val_accuracy, val_loss
            self.best = copy.deepcopy(self.average.network.state_dict())
        self.run.append_metrics(
            {
                "epoch": place.epoch,
                "step": place.step,
                "train_loss": train_loss,
                "val_loss": val_loss,
                "val_accuracy": val_accuracy,
                "seconds": round(seconds, 3),
                "images_per_second": round(num_images / seconds, 1),
                "spent": self.clock.take(),
            }
        )
        what = f"epoch {place.epoch}/{self.num_epochs}" if place.epoch else "new head on frozen features"
        self.progress.say(
            f"{what}: train loss {train_loss:.4f}, val loss {val_loss:.4f}, "
            f"val accuracy {val_accuracy:.2%}{' (kept)' if is_best else ''}, {num_images / seconds:,.0f} images/s"
        )

    def _is_patience_over(self) -> bool:
        patience = settled(self.config.training.patience)
        return 0 < patience <= self.place.epoch - self.place.highest_epoch

    def _save(self) -> None:
        parts: dict[str, Mapping[str, Tensor]] = {
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict(),
            "optimizer": optimizer_tensors(self.optimizer),
            "best": self.best,
        }
        tensors = {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
        run, place = self.run, self.place
        facts = place.to_json()
        self.world.shared(lambda: save_checkpoint(run.checkpoints_path, place.step, tensors, facts, run.identity))
        self.first_weights = {}

    def _publish(self) -> None:
        """The best weights so far become the run's."""
        if self.best and self.world.is_first:
            publish_weights(self.run, self.best, _best_facts(self.place.to_json()))

    def _save_and_stop(self, signal_number: int) -> None:
        self._save()
        self._publish()
        raise Interrupted(
            f"stopped in epoch {self.place.epoch + 1} of {self.num_epochs} and saved; "
            f"go on with: vitreous resume {self.run.path}",
            signal_number,
        )


def standard_error(share: float, count: int) -> float:
    """Of a share of ``count`` images; one answer of each kind is added, so that it is above 0 even at 100 %.

    >>> round(standard_error(0.9, 100), 3)
    0.031
    """
    smoothed = (share * count + 1) / (count + 2)
    return math.sqrt(smoothed * (1 - smoothed) / count)


def _is_out_of_memory(error: BaseException) -> bool:
    """The processor's allocator has no exception of its own, only this sentence."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


def _best_facts(progress: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "epoch": progress["best_epoch"],
        "val_accuracy": progress["best_accuracy"],
        "val_loss": progress["best_loss"],
    }


def _part(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{part}."): tensor for name, tensor in tensors.items() if name.startswith(f"{part}.")}
