"""The networks that benchmarks/seethrough.py asks about: the article's, and one made of what tools stumble over."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from vitreous.models import ARCHITECTURES, build_network

WITHOUT_IDENTITY = ", Dropout(0) for Identity"  # of which TorchLens knows no receptive field
WITH_STRIDE = ", max_pool2d(x, 2, 2)"  # without the stride, TorchLens knows none either
NAMES = (
    *("lenet5", "alexnet", "vgg16", "resnet18", f"resnet18{WITHOUT_IDENTITY}", "resnet50", "resnet152"),
    *("mobilenet_v2", "mixed", f"mixed{WITH_STRIDE}"),
)


def network_named(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    """A network in evaluation mode, and the image it takes: channels, height, width."""
    torch.manual_seed(0)
    if name.startswith("mixed"):
        return Mixed(2 if name.endswith(WITH_STRIDE) else None).eval(), (3, 64, 64)
    row = ARCHITECTURES[name.removesuffix(WITHOUT_IDENTITY)]
    channels, *sides = row.input
    network = build_network(row.name, num_classes=row.num_classes, in_channels=channels, image_size=tuple(sides))
    if name.endswith(WITHOUT_IDENTITY):
        for module in list(network.modules()):
            for child, identity in module.named_children():
                if isinstance(identity, nn.Identity):
                    setattr(module, child, nn.Dropout(0.0))
    return network.eval(), row.input


class Mixed(nn.Module):
    """A module used twice, functions, a branch, dilation with groups, a transposed convolution, attention."""

    def __init__(self, pool_stride: int | None = None) -> None:
        super().__init__()
        self.pool = (2,) if pool_stride is None else (2, pool_stride)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.twice = nn.Conv2d(8, 8, 3, padding=1)
        self.near = nn.Conv2d(8, 8, 1)
        self.far = nn.Conv2d(8, 16, 3, padding=2, dilation=2, groups=4)
        self.up = nn.ConvTranspose2d(24, 8, 4, stride=2, padding=1)
        self.down = nn.Conv2d(8, 16, 5, stride=4, padding=2)
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        fine = F.relu(self.twice(F.relu(self.twice(self.stem(x)))))  # N,8,64,64
        half = F.max_pool2d(fine, *self.pool)  # N,8,32,32
        both = torch.cat([self.near(half), self.far(half)], dim=1)  # N,24,32,32
        whole = fine + self.up(both)  # N,8,64,64
        words = self.down(whole).flatten(2).transpose(1, 2)  # N,256,16
        mixed = F.scaled_dot_product_attention(self.query(words), self.key(words), self.value(words))
        answer: Tensor = self.head(mixed.mean(dim=1))
        return answer
