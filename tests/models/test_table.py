"""Every name in the table builds; what is not in it is refused with the nearest name."""

import pytest
import torch

from vitreous.errors import ConfigError, PatternError, ShapeError
from vitreous.geometry import conv_output_size, pool_output_size
from vitreous.models import ARCHITECTURES, build_network, check_network, is_pattern


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_name_builds(name):
    in_channels, height, width = ARCHITECTURES[name].input
    with torch.device("meta"):
        network = build_network(name, num_classes=7, in_channels=in_channels, image_size=(height, width))
        assert network(torch.empty(1, in_channels, height, width)).shape == (1, 7)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_row_is_filled_in_and_under_its_own_name(name):
    row = ARCHITECTURES[name]
    assert row.name == name
    assert all((row.target, row.year, row.depth, row.idea, row.source))
    row.check(row.input[1:])


@pytest.mark.parametrize("side", range(24, 44))
@pytest.mark.parametrize("name", ["lenet5", "lenet5-1998"])
def test_lenet_takes_the_sides_from_which_s4_is_5x5(name, side):
    s4 = pool_output_size(conv_output_size(pool_output_size(conv_output_size(side, 5), 2), 5), 2)
    data = {"num_classes": 2, "in_channels": 1, "image_size": (32, side)}
    if s4 == 5:
        check_network(name, **data)
    else:
        with pytest.raises(
            ShapeError, match=rf"{name} takes .* 32 to 35 px \(C5, .*\), not 32x{side}; scale .* --image-size 32"
        ):
            check_network(name, **data)


@pytest.mark.parametrize(("name", "reason"), [("lenet6", "did you mean lenet5"), ("foo", "`vitreous models` lists")])
def test_unknown_names_are_refused(name, reason):
    with pytest.raises(ConfigError, match=f"there is no network named '{name}'; {reason}"):
        build_network(name, num_classes=2, in_channels=3, image_size=(32, 32))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("lenet5-1998", False),
        ("resnet18", False),
        ("conv64", True),
        ("CONV64 pool", True),
        ("res[conv8]", True),
        ("cnv64 fc", True),
        ("fc", True),
        ("", True),
    ],
)
def test_a_line_is_told_from_a_name(model, expected):
    assert is_pattern(model) is expected


def test_patterns_are_checked_before_they_are_built():
    with pytest.raises(PatternError, match="pool at word 2"):
        build_network("pool pool fc", num_classes=2, in_channels=3, image_size=(3, 3))
