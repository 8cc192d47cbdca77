"""What this machine can do at most, whatever is trained: products of matrices, convolutions, and bytes moved.

    python -m benchmarks.ceilings [--device cuda] [--smoke]

Prints JSON: floating-point operations a second (two for each multiply-add) of a product of two 4,096 x 4,096 matrices
and of the fastest of a few 3x3 convolutions with channels last, in fp32 and bf16, and bytes a second of a copy, read
and written. The other benchmarks ask it in every round, so that each figure stands beside a peak of the same minute.
"""

import argparse
import json
import time
from collections.abc import Callable

import torch
from torch.nn import functional

SIDE, ROUNDS = 4096, 5
CONVOLUTIONS = ((64, 56), (128, 28), (256, 14))  # channels and side of ResNet-18's maps
BATCH = 32
COPIED = 256 << 20  # bytes: more than any cache holds
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    side, rounds = (256, 1) if arguments.smoke else (SIDE, ROUNDS)
    print(json.dumps({"threads": torch.get_num_threads()} | ceilings(torch.device(arguments.device), side, rounds)))


def ceilings(device: torch.device, side: int, rounds: int) -> dict[str, float]:
    found: dict[str, float] = {}
    with torch.inference_mode():
        for name, dtype in PRECISIONS.items():
            matrix = torch.ones(side, side, dtype=dtype, device=device)
            found[f"mm_{name}"] = 2 * side**3 / fastest(lambda m=matrix: torch.mm(m, m), rounds, device)
            found[f"conv_{name}"] = max(
                convolved(channels, pixels, dtype, rounds, device) for channels, pixels in CONVOLUTIONS
            )
        source = torch.ones(COPIED, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        found["bytes_per_second"] = 2 * COPIED / fastest(lambda: target.copy_(source), rounds, device)
    return {name: float(f"{value:.4g}") for name, value in found.items()}


def convolved(channels: int, pixels: int, dtype: torch.dtype, rounds: int, device: torch.device) -> float:
    """Operations a second of one 3x3 convolution that keeps size and channels."""
    images = torch.ones(BATCH, channels, pixels, pixels, dtype=dtype, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    weight = torch.ones(channels, channels, 3, 3, dtype=dtype, device=device)
    weight = weight.contiguous(memory_format=torch.channels_last)
    taken = fastest(lambda: functional.conv2d(images, weight, padding=1), rounds, device)
    return 2 * BATCH * pixels**2 * channels**2 * 9 / taken


def fastest(work: Callable[[], object], rounds: int, device: torch.device) -> float:
    """Seconds of the fastest of some rounds, after one to warm up: a peak is what was reached once."""
    taken = []
    for _ in range(1 + rounds):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return min(taken[1:])


if __name__ == "__main__":
    main()
