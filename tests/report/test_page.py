import html
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from torch import nn

from vitreous.config import Config
from vitreous.data.preprocess import Preprocess
from vitreous.errors import MachineError
from vitreous.evaluation.scored import ScoredSplit
from vitreous.evaluation.scores import score
from vitreous.explanation.features import feature_maps, strongest
from vitreous.predictor.torch_backend import network_input
from vitreous.report import findings, pictures, write_report
from vitreous.report.page import NUM_MAPS, visible
from vitreous.run import Run

EVIL_CLASS = "<script>alert(1)</script>"
EVIL_NAME = "a \"quoted\" 'name'\n<b>{{ 7 * 7 }}</b>\udce9\u202e.png"
CLASSES = ("cat", EVIL_CLASS, "écureuil & co")
NUM_IMAGES = 60


class Page(HTMLParser):
    """The page as a browser reads it: tags with their attributes, and the text outside of style."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.inside = [], [], []
        self.feed(text)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" not in self.inside:
            self.words.append(data)

    def images(self):
        return [attributes["src"] for tag, attributes in self.tags if tag == "img"]


@pytest.fixture
def preprocess():
    return Preprocess(height=10, width=12, channels=1, fit="pad", mean=(0.4,), std=(0.25,))


@pytest.fixture
def network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 9, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(9 * 8 * 10, 3))


@pytest.fixture
def run(tmp_path, preprocess):
    manifest = {
        "status": "complete",
        "versions": {"vitreous": "0.1.0", "torch": "2.13.0"},
        "seed": 4,
        "seconds": 75.2,
        "data": {
            "origin": '/pictures/a "quoted"\n<i>name</i>',
            "kind": "folder",
            "fingerprint": "f00d" * 16,
            "counts": {"train": {name: 30 + number for number, name in enumerate(CLASSES)}, "test": {"cat": 20}},
            "remarks": ["a <remark>"],
            "skipped": [{"index": 3, "name": "private-name.png", "reason": "is empty (0 bytes)"}],
        },
        "classes": list(CLASSES),
        "preprocessing": preprocess.to_dict(),
        "model": {"name": "conv9 fc", "arguments": {}, "parameters": 12345},
        "weights": {"sha256": "beef" * 16, "epoch": 2},
    }
    run = Run.create(tmp_path / "lamps & co", Config(), manifest, [])
    for epoch in (1, 2, 3):
        run.append_metrics({"epoch": epoch, "train_loss": 1 / epoch, "val_loss": 1.0, "val_accuracy": 0.5})
    return run


@pytest.fixture
def scored(network, preprocess):
    return score_split(network, preprocess)


def score_split(network, preprocess, classes=CLASSES, split="test"):
    generator = np.random.default_rng(5)
    pixels = generator.integers(0, 256, (NUM_IMAGES, 10, 12, preprocess.channels), dtype=np.uint8)
    labels = generator.integers(0, len(classes), NUM_IMAGES)
    with torch.no_grad():
        logits = network(network_input(torch.from_numpy(pixels), preprocess)).numpy()
    names = tuple(f"{number} {EVIL_NAME}" for number in range(NUM_IMAGES))
    hashes = tuple(f"{number:064x}" for number in range(NUM_IMAGES))
    return ScoredSplit(split, score(logits, labels, classes), labels, logits, hashes, names, pixels)


def read(path):
    return path.read_bytes().decode("utf-8")


def test_names_of_strangers_stay_text(run, network, preprocess, scored):
    text = read(write_report(run, network, preprocess, [scored]))
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<b>{{" not in text
    assert EVIL_CLASS in page.text
    shown = {attributes.get("title") for tag, attributes in page.tags if tag == "span"}
    worst = findings.worst_mistakes(scored, CLASSES, 1)[0].index
    assert f"{worst} a \"quoted\" 'name'\\n<b>{{{{ 7 * 7 }}}}</b>\\udce9\\u202e.png" in shown
    assert "a <remark>" in page.text


def test_the_page_asks_for_nothing_from_outside(run, network, preprocess, scored):
    text = read(write_report(run, network, preprocess, [scored]))
    for tag, attributes in Page(text).tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base"}
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")
    assert "http://" not in text
    assert "https://" not in text
    assert not re.search(r"@import|url\(", text)
    assert "default-src 'none'" in html.unescape(text)


def test_the_figures_are_the_scores(run, network, preprocess, scored):
    other = score_split(network, preprocess, split="val")
    page = Page(read(write_report(run, network, preprocess, [scored, other])))
    scores = scored.scores
    accuracy = scores.accuracy
    num_right = round(accuracy.value * NUM_IMAGES)
    assert f"right on {num_right} of {NUM_IMAGES} test images" in page.text
    assert f"{accuracy.value:.2%} (95% interval {accuracy.low:.2%} to {accuracy.high:.2%})" in page.text
    assert f"{findings.baseline(scores).value:.2%}" in page.text
    for figure in (scores.balanced_accuracy, scores.macro_f1):
        assert f"{figure:.2%}" in page.text
    assert f"{scores.log_loss:.4f}" in page.text
    for name, each in scores.per_class.items():
        row = page.text[page.text.index("recall and its interval") :]
        row = row[row.index(name) :]
        assert f"{each.recall.value:.2%}" in row[: len(name) + 60]
        assert f"{each.f1:.2%}" in row[: len(name) + 60]
    cells = [attributes["title"] for tag, attributes in page.tags if tag == "td" and "title" in attributes]
    expected = [
        f"{truth} → {answer}: {number} of {sum(row)}"
        for truth, row in zip(CLASSES, scores.confusion, strict=True)
        for answer, number in zip(CLASSES, row, strict=True)
        if number
    ]
    assert cells == expected


def test_what_was_trained_is_told(run, network, preprocess, scored):
    text = Page(read(write_report(run, network, preprocess, [scored]))).text
    for told in ("conv9 fc", "12,345", "1 min 15 s", "beef" * 16, "f00d" * 16, "10 × 12 pixels", "0.4000", "0.2500"):
        assert told in text
    assert "3, the best was epoch 2" in text
    assert "private-name.png: is empty (0 bytes)" in text
    assert "vitreous evaluate" in text


def test_the_pictures_are_the_worst_mistakes_and_the_example(run, network, preprocess, scored):
    sources = Page(read(write_report(run, network, preprocess, [scored]))).images()
    mistakes = findings.worst_mistakes(scored, CLASSES, 24)
    example = findings.ordinary_right(scored, CLASSES)
    for answer in [*mistakes, example]:
        assert pictures.picture(scored.pixels_NHWC[answer.index]).uri in sources


def test_the_feature_maps_are_those_of_a_direct_forward(run, network, preprocess, scored):
    sources = Page(read(write_report(run, network, preprocess, [scored]))).images()
    index = findings.ordinary_right(scored, CLASSES).index
    inputs = network_input(torch.from_numpy(scored.pixels_NHWC[index : index + 1]), preprocess)
    with torch.no_grad():
        maps_KHW = network[0](inputs)[0]
    torch.testing.assert_close(feature_maps(network, inputs, "0")[0], maps_KHW)
    chosen = maps_KHW[strongest(maps_KHW, NUM_MAPS)].numpy()
    expected = [pictures.picture(pictures.signed_colours(values, float(np.abs(chosen).max()))).uri for values in chosen]
    assert [source for source in sources if source in expected] == expected
    assert len(expected) == 8


def test_without_images_no_pixel_and_no_file_name_is_left(run, network, preprocess, scored):
    text = read(write_report(run, network, preprocess, [scored], with_images=False))
    page = Page(text)
    filters = network[0].weight.detach().numpy()
    colours = pictures.filter_colours(filters, float(np.abs(filters).max()))
    allowed = {pictures.scale_bar().uri, *(pictures.picture(each).uri for each in colours)}
    assert set(page.images()) == allowed
    assert text.count("data:image") == len(page.images())
    assert "private-name" not in text
    assert not [name for name in scored.names if visible(name) in html.unescape(text)]
    assert "left out of this page" in page.text


def test_without_images_no_path_is_left(run, network, preprocess, scored):
    private = Run(run.path, {**run.manifest, "asked": ["data.source"]})
    for with_images in (True, False):
        text = html.unescape(read(write_report(private, network, preprocess, [scored], with_images=with_images)))
        assert ("/pictures" in text) == with_images
        assert (str(run.path.parent) in text) == with_images
    assert "vitreous train DATA --config" in text


def test_some_mistakes_are_explained_by_pictures_of_their_own(run, network, preprocess, scored):
    page = Page(read(write_report(run, network, preprocess, [scored])))
    alternatives = [attributes.get("alt", "") for tag, attributes in page.tags if tag == "img"]
    worst = findings.worst_mistakes(scored, CLASSES, 4)
    expected = [f"what speaks for {label}" for each in worst for label in (each.label, each.truth)]
    assert [each for each in alternatives if each.startswith("what speaks for")] == expected
    assert "The 4 surest of them, by Grad-CAM" in page.text
    hidden = Page(read(write_report(run, network, preprocess, [scored], with_images=False)))
    assert "Grad-CAM" not in hidden.text


def test_moves_and_dead_filters_are_told_with_their_sample(run, network, preprocess, scored):
    with torch.no_grad():
        network[0].bias[[2, 5]] = -1e3
    page = Page(read(write_report(run, network, preprocess, [scored])))
    assert "The 60 test images were each moved a little" in page.text
    assert "2 of 9 filters, in 1 of 1 convolutions" in page.text
    assert "of 60 test images" in page.text
    assert "2 of 9 2, 5" in page.text


def test_an_explanation_that_fails_costs_no_page(run, network, preprocess, scored, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("out of <memory>\nat line 5")

    whole = read(write_report(run, network, preprocess, [scored]))
    for name in ("reasons.grad_cam", "probing.filter_ranges", "page.effort_of"):
        monkeypatch.setattr(f"vitreous.report.{name}", broken)
        text = read(write_report(run, network, preprocess, [scored]))
        assert "out of &lt;memory&gt;" in text
        assert "at line 5" not in text
        assert len(text) < len(whole)


def test_who_decided_is_told_where_it_is_known(run, network, preprocess, scored):
    asking = Run(run.path, {**run.manifest, "asked": ["training.momentum"]})
    assert "You asked for" not in Page(read(write_report(run, network, preprocess, [scored]))).text
    page = Page(read(write_report(asking, network, preprocess, [scored])))
    assert "You asked for 1 of" in page.text
    assert "of sgd, also beside muon; beta1 of adamw" in page.text  # each setting with its sentence
    assert "passes over the training images" not in page.text  # this run has no such setting


def test_pixels_that_are_not_at_hand_are_said(run, network, preprocess, scored):
    blind = ScoredSplit("test", scored.scores, scored.labels_N, scored.logits_NK, scored.hashes, scored.names, None)
    assert "not at hand" in Page(read(write_report(run, network, preprocess, [blind]))).text


def test_the_same_run_gives_the_same_page_and_the_network_is_left_as_found(run, network, preprocess, scored):
    network.train()
    first = write_report(run, network, preprocess, [scored]).read_bytes()
    assert first == write_report(run, network, preprocess, [scored]).read_bytes()
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_only_the_rows_that_are_shown_are_read(run, network, preprocess, scored, tmp_path):
    file = tmp_path / "pixels"
    on_disk = np.memmap(file, np.uint8, "w+", shape=scored.pixels_NHWC.shape)
    on_disk[:] = scored.pixels_NHWC
    lazy = ScoredSplit("test", scored.scores, scored.labels_N, scored.logits_NK, scored.hashes, scored.names, on_disk)
    expected = write_report(run, network, preprocess, [scored]).read_bytes()
    assert write_report(run, network, preprocess, [lazy]).read_bytes() == expected


@pytest.mark.parametrize("num_classes", [2, 40, 41])
def test_many_classes_are_pairs_instead_of_a_matrix(tmp_path, num_classes):
    classes = tuple(f"class {number:03}" for number in range(num_classes))
    preprocess = Preprocess(height=10, width=12, channels=3, fit="pad")
    network = nn.Sequential(nn.Conv2d(3, 80, 3), nn.Flatten(), nn.Linear(80 * 80, num_classes))
    run = Run.create(tmp_path / "run", Config(), {"classes": list(classes)}, [])
    scored = score_split(network, preprocess, classes)
    page = Page(read(write_report(run, network, preprocess, [scored])))
    has_matrix = any("matrix" in (attributes.get("class") or "").split() for _, attributes in page.tags)
    assert has_matrix == (num_classes <= 40)
    assert "The first 64 of 80 filters" in page.text
    assert "taken for" in page.text


def test_a_bare_manifest_is_enough(tmp_path, network, preprocess, scored):
    run = Run.create(tmp_path / "run", Config(), {"classes": list(CLASSES)}, [])
    page = Page(read(write_report(run, network, preprocess, [scored])))
    assert "This run is marked “running”" in page.text
    assert "polyline" not in {tag for tag, _ in page.tags}


def test_a_network_without_a_convolution_says_so(run, preprocess):
    network = nn.Sequential(nn.Flatten(), nn.Linear(120, 3))
    page = Page(read(write_report(run, network, preprocess, [score_split(network, preprocess)])))
    assert "no plain two-dimensional convolution" in page.text


def test_all_right_and_all_wrong_are_said(run, network, preprocess, scored):
    answers = scored.logits_NK.argmax(axis=1)
    for labels, said in ((answers, "None of the 60 test images"), ((answers + 1) % 3, "No image was answered rightly")):
        labels = labels.astype(np.int64)
        each = ScoredSplit(
            "test",
            score(scored.logits_NK, labels, CLASSES),
            labels,
            scored.logits_NK,
            scored.hashes,
            scored.names,
            scored.pixels_NHWC,
        )
        assert said in Page(read(write_report(run, network, preprocess, [each]))).text


def test_a_place_that_cannot_be_written_keeps_the_older_page(run, network, preprocess, scored, monkeypatch):
    path = write_report(run, network, preprocess, [scored])
    before = path.read_bytes()

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vitreous.storage.os.fsync", full)
    with pytest.raises(MachineError, match="full"):
        write_report(run, network, preprocess, [scored], with_images=False)
    assert path.read_bytes() == before
    assert [file.name for file in run.path.iterdir() if file.suffix == ".tmp"] == []
