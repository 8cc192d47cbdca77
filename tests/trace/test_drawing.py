"""The picture of a network: what is folded, which skips are drawn, and that it is whole."""

import xml.etree.ElementTree as ElementTree

from torch import nn

from vitreous.trace import trace
from vitreous.trace.diagram import diagram_of
from vitreous.trace.drawing import draw
from vitreous.trace.summary import Summary
from vitreous.workflow.networks import summary

SVG = "{http://www.w3.org/2000/svg}"


def test_repeated_blocks_are_folded_and_their_skips_drawn():
    diagram = diagram_of(summary("resnet50"))
    assert [(block.name, block.times) for block in diagram.blocks] == [
        ("layer1.0", 1),
        ("layer1.1 to 2", 2),
        ("layer2.0", 1),
        ("layer2.1 to 3", 3),
        ("layer3.0", 1),
        ("layer3.1 to 5", 5),
        ("layer4.0", 1),
        ("layer4.1 to 2", 2),
    ]
    joints = [number for number, box in enumerate(diagram.boxes) if box.kind == "joint"]
    assert len(joints) == 8
    assert all(sum(target == joint for _, target in diagram.arrows) == 2 for joint in joints)
    assert diagram.boxes[1].title == "conv 7x7 /2 · batch norm · relu"
    assert "layer4.2" not in draw(summary("resnet50"))


def test_every_box_but_the_image_is_reached_by_an_arrow():
    for model in ("resnet152", "mobilenet_v2", "lenet5-1998", "vgg16", "conv8 pool res[conv16bn conv16bn] gap fc"):
        diagram = diagram_of(summary(model))
        assert {target for _, target in diagram.arrows} == set(range(1, len(diagram.boxes))), model


def test_the_picture_is_well_formed_and_names_are_escaped():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.add_module("a<b&c", nn.Conv2d(1, 2, 3))

        def forward(self, x):
            return getattr(self, "a<b&c")(x)

    found = Summary("<script>&", (1, 8, 8), trace(Odd(), (1, 8, 8)))
    root = ElementTree.fromstring(draw(found))
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert "<script>&" in texts
    assert any("a<b&c" in text for text in texts)


def test_no_two_boxes_lie_on_one_another():
    root = ElementTree.fromstring(draw(summary("resnet50")))
    boxes = [element for group in root.iter(f"{SVG}g") for element in group.iter(f"{SVG}rect")]
    places = [tuple(float(box.get(key)) for key in ("x", "y", "width", "height")) for box in boxes]
    for number, (x, y, width, height) in enumerate(places):
        for left, top, _, _ in places[:number]:
            assert abs(x - left) >= width or abs(y - top) >= height


class SideBySide(nn.Module):
    """Two branches that do the same: they are not one after the other."""

    def __init__(self):
        super().__init__()
        self.left = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
        self.right = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))

    def forward(self, x):
        return self.left(x) + self.right(x)


def test_branches_that_are_alike_are_not_folded_into_one():
    found = Summary("side", (4, 8, 8), trace(SideBySide(), (4, 8, 8)))
    diagram = diagram_of(found)
    assert len([box for box in diagram.boxes if box.kind == "convolution"]) == 4
    assert all(block.times == 1 for block in diagram.blocks)
    chained = nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1)) for _ in range(3)))
    (block,) = diagram_of(Summary("chain", (4, 8, 8), trace(chained, (4, 8, 8)))).blocks
    assert (block.name, block.times) == ("0 to 2", 3)
