"""Shapes and costs without torch: published networks, and errors that name the way out."""

import pytest

from vitreous.errors import PatternError
from vitreous.models.pattern_language import parse
from vitreous.models.pattern_plan import plan, walk


def totals(line, in_channels=3, side=224, num_classes=1000):
    layers = walk(line, in_channels=in_channels, image_size=(side, side), num_classes=num_classes)
    return sum(layer.params for layer in layers), sum(layer.macs for layer in layers)


VGG16 = (
    "[conv64]*2 pool [conv128]*2 pool [conv256]*3 pool [conv512]*3 pool [conv512]*3 pool flatten [fc4096 dropout]*2 fc"
)
RESNET18 = "conv64k7s2bn pool3s2p1 res[conv64bn conv64bn]*2 " + " ".join(
    f"res[conv{width}s2bn conv{width}bn] res[conv{width}bn conv{width}bn]" for width in (128, 256, 512)
)
RESNET50 = "conv64k7s2bn pool3s2p1 res[conv64k1bn conv64bn conv256k1bn]*3 " + " ".join(
    f"res[conv{width}k1bn conv{width}s2bn conv{4 * width}k1bn] "
    f"res[conv{width}k1bn conv{width}bn conv{4 * width}k1bn]*{num}"
    for width, num in ((128, 3), (256, 5), (512, 2))
)


def test_published_networks_as_lines():
    assert totals(VGG16) == (138_357_544, 15_470_264_320)
    assert totals(RESNET18 + " gap fc") == (11_689_512, 1_814_073_344)
    assert totals(RESNET50 + " gap fc") == (25_557_032, 4_089_184_256)
    lenet5 = "conv6k5p0 pool conv16k5p0 pool conv120k5p0 fc84 fc"
    assert totals(lenet5, in_channels=1, side=32, num_classes=10) == (61_706, 416_520)


def test_example_2_of_the_article():
    layers = walk("conv64 pool conv128 gap fc", in_channels=3, image_size=(224, 224), num_classes=10)
    assert [(layer.text, layer.output_shape, layer.params) for layer in layers[:3]] == [
        ("conv64", (64, 224, 224), 1_792),
        ("pool", (64, 112, 112), 0),
        ("conv128", (128, 112, 112), 73_856),
    ]


def test_paths_and_words():
    line = "conv8 [conv8 pool]*2 res[conv8bn conv16s2bntanh] fc9 fc softmax"
    layers = walk(line, in_channels=1, image_size=(8, 8), num_classes=3)
    assert [(layer.path, layer.word, layer.text) for layer in layers] == [
        ("conv1", 1, "conv8"),
        ("conv2", 2, "conv8"),
        ("pool1", 3, "pool"),
        ("conv3", 2, "conv8"),
        ("pool2", 3, "pool"),
        ("res1.branch.conv1", 4, "conv8bn"),
        ("res1.branch.conv2", 5, "conv16s2bntanh"),
        ("res1.shortcut", 4, "conv16k1s2bnlin"),
        ("flatten1", 6, "flatten"),
        ("fc1", 6, "fc9"),
        ("head", 7, "fc"),
    ]


def test_a_residual_group_knows_its_parts():
    first, second, _, _ = plan(parse("res[conv4 conv4] res[conv4 conv8] gap fc"), **small(in_channels=4))
    assert first.shortcut is None
    assert second.shortcut.output_shape == second.output_shape == (8, 8, 8)
    assert second.params == sum(layer.params for layer in (*second.branch, second.shortcut))


def small(in_channels=3):
    return {"in_channels": in_channels, "image_size": (8, 8), "num_classes": 3}


@pytest.mark.parametrize(
    ("line", "pointed_at", "reason"),
    [
        ("pool pool pool pool gap fc", "pool", "pool at word 4 gets a 1x1 map; its 2x2 window does not fit. "),
        ("[conv8 pool]*6 gap fc", "pool", "(at least 64x64) or drop a pool"),
        (
            "conv8k9x5p0 gap fc",
            "conv8k9x5p0",
            "gets a 8x8 map; its 9x5 window does not fit. Start from a larger image (at least 9x5)",
        ),
        ("[pool]*3 conv8s2blur gap fc", "conv8s2blur", "gets a 1x1 map, which leaves its blur less than 2x2 units. "),
        ("pool pool poolblur fc", "poolblur", "which leaves its blur less than 2x2 units. Start from a larger image"),
        ("pool pool pool poolblur gap fc", "poolblur", "gets a 1x1 map; its 2x2 window does not fit. "),
        ("[pool]*30 gap fc", "pool", "Drop a pool or a stride"),
        ("conv8 fc9 fc", "fc9", "fc9 at word 2 needs a vector but gets a 8x8 map; put flatten, gap or gmp before it"),
        ("conv8 fc softmax", "fc", "fc at word 2 needs a vector"),
        ("gap conv8 fc", "conv8", "conv8 at word 2 needs a map but gets a vector of 3 numbers"),
        ("conv4g2 gap fc", "conv4g2", "2 groups, which do not divide the 3 channels"),
        ("unshuffle3 gap fc", "unshuffle3", "gets a 8x8 map, which does not divide into 3x3 blocks"),
        ("flatten fc99 fc10", "fc10", "fc10 at word 3 gives 10 outputs but the data has 3 classes; write fc"),
        ("res[conv8 conv8p0] gap fc", "conv8", "gives a 6x6 map but its shortcut a 8x8 map"),
        ("res[conv8 gap fc8] fc", "conv8", "turns a map into a vector"),
        (
            "flatten fc99999 fc99999 fc",
            "fc99999",
            "more than 2**31 = 2,147,483,648; fc99999 at word 3 alone has 9,999,900,000",
        ),
    ],
)
def test_what_does_not_fit_is_refused_at_its_word(line, pointed_at, reason):
    with pytest.raises(PatternError) as caught:
        plan(parse(line), **small())
    message, shown, carets = str(caught.value).split("\n")
    assert reason in message
    assert shown[carets.index("^") : carets.rindex("^") + 1] == pointed_at


@pytest.mark.parametrize(
    "line",
    [
        "[conv8k5p0 pool]*3 gap fc",
        "conv8s3p0 pool3 unshuffle2 pool gap fc",
        "[avgpool3s2]*4 fc",
        "[conv8k5p0 pool3s2blur]*3 gap fc",
        "[conv8s2blur]*4 gap fc",
    ],
)
def test_the_advised_size_is_the_smallest_that_fits(line):
    with pytest.raises(PatternError) as caught:
        plan(parse(line), **small())
    side = int(str(caught.value).partition("at least ")[2].partition("x")[0])
    fits = {n: _fits(line, n) for n in range(8, side + 1)}
    assert [n for n, does_fit in fits.items() if does_fit] == [side]


def _fits(line, side):
    try:
        plan(parse(line), in_channels=3, image_size=(side, side), num_classes=3)
    except PatternError:
        return False
    return True
