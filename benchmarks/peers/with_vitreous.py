"""Our own input, asked as the peers are: a folder's images as batches for a network, and nothing else.

    python -m benchmarks.peers.with_vitreous FOLDER EPOCHS

Runs in our environment. The first epoch begins with nothing known of the folder and an empty cache. Prints JSON.
"""

import json
import sys
import time
from itertools import pairwise

import torch

from vitreous.allocator import kept_blocks
from vitreous.augmentation import Augmentation
from vitreous.data.order import epoch_order
from vitreous.data.prepared import prepare_as
from vitreous.data.preprocess import suggest_preprocess
from vitreous.data.source import open_source
from vitreous.predictor.torch_backend import network_input

SIDE, BATCH = 224, 32


def main() -> None:
    folder, epochs = sys.argv[1], int(sys.argv[2])
    ends = [time.monotonic()]
    source = open_source(folder)
    preprocess = suggest_preprocess([source.images.facts(0)], image_size=(SIDE, SIDE), channels=3)
    images = prepare_as(source, preprocess)
    read = time.monotonic()
    pixels = torch.from_numpy(images.pixels)
    vary = Augmentation(flip=True, shift_px=0)
    with kept_blocks():  # as in training
        for epoch in range(epochs):
            for index_N in torch.split(torch.from_numpy(epoch_order(len(images), 0, epoch)), BATCH):
                network_input(vary(pixels, index_N, seed=0, epoch=epoch), images.preprocess)
            ends.append(time.monotonic())
    seconds = [round(end - begin, 4) for begin, end in pairwise(ends)]
    told = {"epoch_seconds": seconds, "read_seconds": round(read - ends[0], 4), "num_images": len(images)}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
