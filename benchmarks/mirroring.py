"""Which data sets look the same in a mirror: the measurement that decides whether training images are mirrored.

    python -m benchmarks.mirroring

A minute, most of it for reading. One line a data set goes to benchmarks/results/mirroring.jsonl;
``python -m benchmarks.tables`` writes the table of docs/augmentation.md from the lines.
"""

import json

from benchmarks import registry, small_images
from benchmarks.accuracy import machine, sources_version
from benchmarks.lines import append_line
from vitreous.data.prepared import prepare
from vitreous.data.preprocess import Preprocess
from vitreous.data.source import open_source
from vitreous.training.mirroring import measure_handedness

DATA = {
    "CIFAR-10": registry.cifar10,
    "flowers": registry.flowers,
    "Fashion-MNIST": lambda: "fashion-mnist",
    "traffic lights": registry.traffic_lights,
    "chest X-rays": registry.chest_x_rays,
    "MNIST": small_images.mnist,
}


def main() -> None:
    for name, locate in DATA.items():
        contract = Preprocess(height=32, width=32, channels=3, fit="squash")
        source = open_source(str(locate()))
        images = prepare(
            source, preprocess=contract, val_fraction=0.1, test_fraction=0.1, seed=0, near_duplicates=False
        )
        found = measure_handedness(images)
        line = {
            "data": name,
            "num_nearer": found.num_nearer,
            "num_images": found.num_images,
            "has_handed_class": found.has_handed_class,
            "is_mirrored": found.is_ruled_out,
        }
        print(json.dumps(line), flush=True)
        command = "python -m benchmarks.mirroring"
        append_line("mirroring", line | {"sources": sources_version(), "machine": machine(), "command": command})


if __name__ == "__main__":
    main()
