"""What the peers that stand on PyTorch have in common: the example's network, its data as published and at its best."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, TensorDataset

MEAN, STD = 0.1307, 0.3081  # of MNIST, as the example has them for all data
TEST_BATCH = 1000
Batches = Iterable[tuple[Tensor, Tensor]]


def example_network(num_classes: int = 10) -> nn.Module:
    """PyTorch's MNIST example: two 3x3 convolutions without padding, one pool, two dropouts, 128 units. 28 px, grey."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)),
        *(nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, num_classes)),
    )


class Pictures(Dataset):
    """Image after image through Pillow, as torchvision's MNIST gives them."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray) -> None:
        from PIL import Image
        from torchvision import transforms

        self.pixels, self.labels, self.picture = pixels, labels, Image.fromarray
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return self.transform(self.picture(self.pixels[number, :, :, 0])), int(self.labels[number])


def published_batches(pixels: np.ndarray, labels: np.ndarray, batch: int) -> Batches:
    """In the files' order: the example shuffles on accelerators alone."""
    return DataLoader(Pictures(pixels, labels), batch_size=batch)


def quick_batches(pixels: np.ndarray, labels: np.ndarray, batch: int, *, shuffled: bool = True) -> Batches:
    """Normalized once, in memory, and read a batch at a time, as PyTorch's page on bulk loading says."""
    dataset = TensorDataset(normalized(pixels), torch.from_numpy(labels))
    order = RandomSampler(dataset) if shuffled else range(len(dataset))
    return DataLoader(dataset, sampler=BatchSampler(order, batch, drop_last=False), batch_size=None)


def normalized(pixels: np.ndarray) -> Tensor:
    """N,C,H,W in fp32 with channels last."""
    return ((torch.from_numpy(pixels).float() / 255 - MEAN) / STD).permute(0, 3, 1, 2)


def accuracy(network: nn.Module, batches: Batches, device: str) -> float:
    """Share of right answers, in fp32."""
    network.eval()
    hits = []
    with torch.inference_mode():
        for images, labels in batches:
            hits.append(network(images.to(device)).argmax(1) == labels.to(device))
    network.train()
    return float(torch.cat(hits).float().mean())
