"""LeNet-5, as published in 1998 and as it is built today. N,C,32,32 -> logits N,K.

The layers bear the paper's names: C convolution, S subsampling, F fully connected. Both take images of 32 to 35
pixels a side, from which S4 makes the 5x5 map that C5 reads whole.

Source: LeCun, Bottou, Bengio, Haffner 1998, "Gradient-Based Learning Applied to Document Recognition", section II.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d

from vitreous.models.initialisation import initialise_he

# --- today's form -----------------------------------------------------------------------------------------------------


def lenet5(*, num_classes: int, in_channels: int) -> nn.Sequential:
    """ReLU, max pooling, a C3 whose maps all see all of S2, a linear output; 61,706 parameters for ten digits.

    >>> sum(weights.numel() for weights in lenet5(num_classes=10, in_channels=1).parameters())
    61706
    """
    network = nn.Sequential(
        OrderedDict(
            c1=nn.Conv2d(in_channels, 6, 5),  # N,6,28,28
            relu1=nn.ReLU(),
            s2=nn.MaxPool2d(2),  # N,6,14,14
            c3=nn.Conv2d(6, 16, 5),  # N,16,10,10
            relu3=nn.ReLU(),
            s4=nn.MaxPool2d(2),  # N,16,5,5
            c5=nn.Conv2d(16, 120, 5),  # N,120,1,1
            relu5=nn.ReLU(),
            flatten=nn.Flatten(),
            f6=nn.Linear(120, 84),
            relu6=nn.ReLU(),
            output=nn.Linear(84, num_classes),
        )
    )
    initialise_he(network)
    return network


# --- as published -----------------------------------------------------------------------------------------------------


def lenet5_1998(*, num_classes: int, in_channels: int, classes: Sequence[str] | None = None) -> nn.Sequential:
    """The network of 1998, with exactly 60,000 trainable parameters for grey images, whatever the classes.

    >>> network = lenet5_1998(num_classes=10, in_channels=1, classes="0123456789")
    >>> sum(weights.numel() for weights in network.parameters())
    60000
    """
    network = nn.Sequential(
        OrderedDict(
            c1=nn.Conv2d(in_channels, 6, 5),  # N,6,28,28
            tanh1=ScaledTanh(),
            s2=Subsampling(6),  # N,6,14,14
            tanh2=ScaledTanh(),
            c3=SparseConv(C3_INPUTS),  # N,16,10,10
            tanh3=ScaledTanh(),
            s4=Subsampling(16),  # N,16,5,5
            tanh4=ScaledTanh(),
            c5=nn.Conv2d(16, 120, 5),  # N,120,1,1
            tanh5=ScaledTanh(),
            flatten=nn.Flatten(),
            f6=nn.Linear(120, 84),
            tanh6=ScaledTanh(),
            output=RadialBasis(class_codes(num_classes, classes)),
        )
    )
    initialise_lecun(network)
    return network


class ScaledTanh(nn.Module):
    """1.7159 tanh(2x/3): its value at +-1 is +-1, where it bends most (the paper's appendix A)."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(x * (2 / 3))


class Subsampling(nn.Module):
    """The sum of each 2x2 block, times one trainable coefficient per map, plus one bias. N,C,H,W -> N,C,H/2,W/2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        sums = 4 * avg_pool2d(x, 2)
        return sums * self.coefficient[:, None, None] + self.bias[:, None, None]


# Table I of the paper: the maps of S2 that each map of C3 sees.
C3_INPUTS = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)


class SparseConv(nn.Module):
    """A 5x5 convolution whose output maps each see only some input maps. N,6,H,W -> N,16,H-4,W-4.

    Only the connections that exist have weights: 60 kernels, scattered into a dense weight of zeros for each pass, as
    one dense convolution is faster than sixteen small ones.
    """

    connections: Tensor

    def __init__(self, inputs: Sequence[Sequence[int]], kernel: int = 5) -> None:
        super().__init__()
        self.in_channels = 1 + max(max(seen) for seen in inputs)
        self.num_inputs = [len(seen) for seen in inputs]
        connections = [out * self.in_channels + seen for out, some in enumerate(inputs) for seen in some]
        self.register_buffer("connections", torch.tensor(connections), persistent=False)
        self.weight = nn.Parameter(torch.empty(len(connections), kernel, kernel))
        self.bias = nn.Parameter(torch.empty(len(inputs)))

    def dense_weight(self) -> Tensor:
        """The weight that nn.Conv2d would have, K,C,5,5, with zeros where there is no connection."""
        out_channels, kernel = len(self.num_inputs), self.weight.shape[-1]
        dense = self.weight.new_zeros(out_channels * self.in_channels, kernel, kernel)
        return dense.index_copy(0, self.connections, self.weight).view(out_channels, self.in_channels, kernel, kernel)

    def needed_macs(self, output_shape: Sequence[int]) -> int:
        """Of the connections that exist; the dense convolution multiplies the zeros too. For ``vitreous.trace``."""
        return self.weight.numel() * output_shape[-2] * output_shape[-1]

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.dense_weight(), self.bias)


class RadialBasis(nn.Module):
    """Minus the squared distance of each row to the fixed code of each class; N,84 -> logits N,K.

    Cross-entropy on these logits is the paper's discriminative criterion (eq. 9) without the constant for rubbish. The
    distances reach several hundred, so SGD needs a small rate here; the recipe takes AdamW. The codes are a buffer:
    saved with the weights, never trained.
    """

    codes: Tensor

    def __init__(self, codes: Tensor) -> None:
        super().__init__()
        self.register_buffer("codes", codes)

    def needed_macs(self, output_shape: Sequence[int]) -> int:
        """One square and one addition for each number of each code."""
        return self.codes.numel()

    def forward(self, x: Tensor) -> Tensor:
        return -(x[:, None, :] - self.codes).square().sum(dim=-1)


def initialise_lecun(network: nn.Module) -> None:
    """Weights and biases uniform within 2.4 / fan-in, the number of inputs of a unit (the paper's appendix A)."""
    for module in network.modules():
        match module:
            case nn.Conv2d() | nn.Linear():
                _uniform(module.weight, module.bias, fan_in=module.weight[0].numel())
            case Subsampling():
                _uniform(module.coefficient, module.bias, fan_in=4)
            case SparseConv():
                kernels = torch.split(module.weight, module.num_inputs)
                for weight, bias in zip(kernels, torch.split(module.bias, 1), strict=True):
                    _uniform(weight, bias, fan_in=weight.numel())


def _uniform(*parameters: Tensor | None, fan_in: int) -> None:
    for parameter in parameters:
        if parameter is not None:
            nn.init.uniform_(parameter, -2.4 / fan_in, 2.4 / fan_in)


# --- the codes of the output ------------------------------------------------------------------------------------------

# The paper's figure 3, the digits 0 to 9, as public implementations read it off the print: 12 rows of 7 dots each.
DIGITS = """
.#####.  ...##..  .#####.  #######  .#####.  .#####.  ..####.  #######  .#####.  .#####.
.......  ..###..  .......  .....##  .......  .......  .##....  .....##  ##...##  ##..###
..###..  .####..  .#####.  ....##.  .......  #######  ##.....  .....##  ##...##  ##...##
.##.##.  ...##..  ##...##  ...##..  .##..##  ##.....  ##.....  ....##.  ##...##  ##...##
##...##  ...##..  #....##  ..####.  .##..##  ##.....  ######.  ...##..  .#####.  ##..###
##...##  ...##..  ....##.  .....##  ###..##  .####..  ###..##  ...##..  ##...##  .######
##...##  ...##..  ..###..  .....##  ##...##  ..####.  ##...##  ..##...  ##...##  .....##
##...##  ...##..  .##....  .....##  ##...##  .....##  ##...##  ..##...  ##...##  .....##
.##.##.  ...##..  ##.....  ##...##  ##..###  ##...##  ###..##  ..##...  ##...##  ....##.
..###..  .######  #######  .#####.  .######  .#####.  .#####.  ..##...  .#####.  .####..
.......  .......  .......  .......  .....##  .......  .......  .......  .......  .......
.......  .......  .......  .......  .....##  .......  .......  .......  .......  .......
"""


def class_codes(num_classes: int, classes: Sequence[str] | None = None) -> Tensor:
    """One code of 84 times +-1 per class, K,84: the paper's pictures for classes named 0 to 9, else random ones."""
    if classes is None or not set(classes) <= set("0123456789"):
        return torch.randint(0, 2, (num_classes, 84)) * 2.0 - 1.0
    rows = [row.split() for row in DIGITS.strip().splitlines()]
    pictures = ["".join(row[int(name)] for row in rows) for name in classes]
    return torch.tensor([[1.0 if dot == "#" else -1.0 for dot in picture] for picture in pictures])
