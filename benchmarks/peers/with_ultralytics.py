"""ultralytics classify: its ResNet-18 (torchvision's, with its own head) step by step, and its smallest classifier.

It takes folders alone, so that reading the images is part of it: --data or DATA is a folder with train and test of
class folders (and val, a link to test). At its best with its images kept in memory (cache="ram") and a worker a core;
it has no bf16 on a processor. --compile is its compile=True. All weights are random, and its settings temporary.
"""

import os
import tempfile
from pathlib import Path

import stopwatch
import torchvision_operators

torchvision_operators.define()
OWN_SETTINGS = tempfile.TemporaryDirectory()
os.environ["YOLO_CONFIG_DIR"] = OWN_SETTINGS.name

from ultralytics import YOLO  # noqa: E402, needs the operators
from ultralytics.engine.trainer import BaseTrainer  # noqa: E402

BATCH = 128
RESNET18 = """
nc: 10
backbone: [[-1, 1, TorchVision, [512, resnet18, null, True, 2]]]
head: [[-1, 1, Classify, [nc]]]
"""  # as its yolo11-cls-resnet18.yaml, without weights that it would fetch
SETTINGS = {"plots": False, "verbose": False, "exist_ok": True, "amp": False, "pretrained": False, "save": False}


def main() -> None:
    arguments = stopwatch.asked(__doc__, best="fp32")
    watch = stopwatch.Stopwatch(arguments)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.do == "steps":
            steps(arguments, watch, folder)
        else:
            curve(arguments, watch, folder)


def steps(arguments: stopwatch.Arguments, watch: stopwatch.Stopwatch, folder: str) -> None:
    network = Path(folder, "resnet18-cls.yaml")
    network.write_text(RESNET18)
    model = YOLO(network, task="classify")

    def on_train_batch_end(trainer: BaseTrainer) -> None:
        watch.step()
        if len(watch.step_ends) >= arguments.steps:
            trainer.stop = True

    model.add_callback("on_train_batch_end", on_train_batch_end)
    num_images = sum(1 for _ in (arguments.data / "train").rglob("*.jpg"))
    epochs = -(-arguments.steps * arguments.batch // num_images)
    train(model, arguments, folder, arguments.data, epochs, arguments.batch, arguments.side, optimizer="SGD", val=False)
    watch.tell(batch=arguments.batch)


def curve(arguments: stopwatch.Arguments, watch: stopwatch.Stopwatch, folder: str) -> None:
    model = YOLO("yolo26n-cls.yaml", task="classify")

    def on_fit_epoch_end(trainer: BaseTrainer) -> None:
        if len(watch.curve) < arguments.epochs:  # it comes once more, after a last look
            watch.reached(float(trainer.metrics["metrics/accuracy_top1"]))

    model.add_callback("on_train_epoch_start", lambda _: watch.begin())
    model.add_callback("on_train_epoch_end", lambda _: watch.end())
    model.add_callback("on_fit_epoch_end", on_fit_epoch_end)
    side = 32  # a multiple of the last stride, for 28 px
    batch = arguments.batch or BATCH
    train(model, arguments, folder, arguments.data, arguments.epochs, batch, side, seed=arguments.seed)
    counts = {part: sum(1 for _ in (arguments.data / part).rglob("*.png")) for part in ("train", "test")}
    watch.tell(num_train=counts["train"], num_test=counts["test"], batch=batch)


def train(
    model: YOLO,
    arguments: stopwatch.Arguments,
    folder: str,
    data: Path,
    epochs: int,
    batch: int,
    side: int,
    **more: object,
) -> None:
    workers = len(os.sched_getaffinity(0)) if arguments.best else 8  # 8 is its default
    model.train(
        data=str(data),
        epochs=epochs,
        batch=batch,
        nbs=batch,
        imgsz=side,
        device=0 if arguments.device == "cuda" else "cpu",
        workers=workers,
        cache="ram" if arguments.best else False,
        compile=arguments.compile,
        project=folder,
        **SETTINGS,
        **more,
    )


if __name__ == "__main__":
    main()
