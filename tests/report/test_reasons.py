"""The pictures of an explanation are Grad-CAM's, on one scale; what cannot be explained is said."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from vitreous.config import Config
from vitreous.data.preprocess import Preprocess
from vitreous.evaluation.scored import ScoredSplit
from vitreous.evaluation.scores import score
from vitreous.explanation.attribution import grad_cam
from vitreous.predictor.torch_backend import network_input
from vitreous.report import findings, pictures
from vitreous.report.effort import effort_of
from vitreous.report.reasons import deepest_map, explain_command, reasons_of
from vitreous.run import Run
from vitreous.trace import trace

CLASSES = ("cat", "dog", "owl")
PREPROCESS = Preprocess(height=16, width=20, channels=3, fit="pad", mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.fixture
def run(tmp_path):
    config = Config().updated({"data": {"source": str(tmp_path / "my photos")}})
    manifest = {"classes": list(CLASSES), "data": {"kind": "folder"}, "model": {"name": "conv8 conv5 pool gap fc"}}
    return Run.create(tmp_path / "run", config, manifest, [])


@pytest.fixture
def network():
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(4),
        nn.Conv2d(8, 5, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 3),
    )


def scored_of(network):
    generator = np.random.default_rng(5)
    pixels = generator.integers(0, 256, (30, 16, 20, 3), dtype=np.uint8)
    labels = generator.integers(0, 3, 30)
    with torch.no_grad():
        logits = network(network_input(torch.from_numpy(pixels), PREPROCESS)).numpy()
    names = tuple(f"cat/{number}.png" for number in range(30))
    return ScoredSplit("test", score(logits, labels, CLASSES), labels, logits, names, names, pixels)


def explained(run, network, preprocess=PREPROCESS, **changes):
    scored = scored_of(network)
    mistakes = findings.worst_mistakes(scored, CLASSES, 24)
    effort = dataclasses.replace(effort_of(run, network, preprocess), **changes)
    return reasons_of(run, network, preprocess, scored, mistakes, effort), scored, mistakes


def test_the_maps_are_those_of_grad_cam_on_one_scale(run, network):
    found, scored, mistakes = explained(run, network)
    assert [each.answer for each in found.reasons] == mistakes[:4]
    assert (found.layer, found.grain_px) == ("4", 4)
    for each in found.reasons:
        pixels = scored.pixels_NHWC[each.answer.index]
        image = network_input(torch.from_numpy(pixels[None].copy()), PREPROCESS)
        maps = [
            grad_cam(network, image, CLASSES.index(name), "4").map_HW.numpy()
            for name in (each.answer.label, each.answer.truth)
        ]
        limit = max(float(each.max()) for each in maps)
        assert limit > 0
        for drawn, map_HW in zip((each.for_answer, each.for_truth), maps, strict=True):
            expected = pictures.picture(pictures.over(pixels, map_HW, limit)) if map_HW.any() else None
            assert drawn == expected
        assert each.picture == pictures.picture(pixels)


def test_what_costs_more_is_explained_for_fewer(run, network):
    found, *_ = explained(run, network, macs_an_image=1e10)
    assert len(found.reasons) == 1


def test_a_layer_of_one_unit_is_passed_over():
    network = nn.Sequential(nn.Conv2d(1, 4, 5), nn.MaxPool2d(2), nn.Conv2d(4, 6, 4), nn.Tanh(), nn.Flatten())
    traced = trace(network, (1, 12, 12))  # 8x8, 4x4, 1x1
    assert traced.recording.names[deepest_map(traced)] == "1"
    assert deepest_map(trace(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), (1, 4, 4))) is None


def test_a_network_without_maps_says_so(run):
    network = nn.Sequential(nn.Flatten(), nn.Linear(16 * 20 * 3, 3))
    found, *_ = explained(run, network)
    assert found.reasons == ()
    assert "no layer whose units lie on the image" in found.why_not


def test_a_class_that_nothing_speaks_for_has_no_picture(run, network):
    with torch.no_grad():
        network[-1].weight[0] = -1.0  # the activations are never below 0
    found, *_ = explained(run, network)
    assert found.reasons
    for each in found.reasons:
        assert (each.for_answer is None) == (each.answer.label == "cat")
        assert (each.for_truth is None) == (each.answer.truth == "cat")


def test_a_network_whose_gradient_is_cut_is_left_out_with_the_reason(run, network):
    class Cut(nn.Sequential):
        def forward(self, x):
            return super().forward(x).detach()

    found, *_ = explained(run, Cut(*network))
    assert found.reasons == ()
    assert "could not be explained" in found.why_not
    assert "gradient is cut" in found.why_not


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("folder", "vitreous explain {run} '{data}/my photos/cat/1.png'"),
        ("split folders", "vitreous explain {run} '{data}/my photos/cat/1.png'"),
        ("csv", "vitreous explain {run} {data}/cat/1.png"),
        ("npz", ""),
        ("built-in", ""),
    ],
)
def test_the_command_names_the_file_where_there_is_one(run, kind, expected):
    told = Run(run.path, {**run.manifest, "data": {"kind": kind}})
    assert explain_command(told, "cat/1.png") == expected.format(run=run.path, data=run.path.parent)
    assert explain_command(told, "a\nb\udce9.png") == ""


def test_the_command_asks_for_the_factory_again(run):
    model = {"name": "nets.py:tiny", "source_sha256": "0" * 64}
    told = Run(run.path, {**run.manifest, "model": model})
    assert explain_command(told, "cat/1.png").endswith(" --model PATH/nets.py:tiny")
