"""The page: one file that loads nothing, shows the pictures, and lets no name become markup."""

import base64
import io
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from tests.images import encode, picture, write_classes
from vitreous.checks.data import data_findings
from vitreous.checks.examined import examine
from vitreous.checks.page import render, write_page
from vitreous.data.source import open_source
from vitreous.evaluation.doubt import DoubtfulLabel

EVIL = "<script>alert(1)<"


@pytest.fixture
def examined(tmp_path):
    root = write_classes(tmp_path / "data", {"a": 4, EVIL: 3}, size=(70, 90))
    shutil.copy(root / "a" / "000.png", root / EVIL / 'x" onerror="alert(1).png')
    (root / "a" / "broken & <b>.jpg").write_bytes(b"no")
    (root / "a" / "long.png").write_bytes(encode(picture(20, 200, seed=77)))
    (root / "a" / "blank.png").write_bytes(encode(np.full((50, 50, 3), 40, np.uint8)))
    return examine(open_source(root))


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def test_it_loads_nothing_and_runs_nothing(examined):
    tags = Tags(render(examined, data_findings(examined))).tags
    assert {"script", "link", "iframe", "object"}.isdisjoint(tag for tag, _ in tags)
    for _, attributes in tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    policy = next(attributes["content"] for tag, attributes in tags if attributes.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


def test_it_shows_the_pictures_that_findings_speak_of(examined):
    page = render(examined, data_findings(examined))
    shown = [attributes["alt"] for tag, attributes in Tags(page).tags if tag == "img"]
    assert 'x" onerror="alert(1).png' in "".join(shown)
    assert {"a/000.png", "a/long.png", "a/blank.png", "crop", "pad", "squash"} <= set(shown)
    assert "One picture, two classes" in page
    assert "broken &amp; &lt;b&gt;.jpg" in page
    for uri in re.findall(r'src="data:image/\w+;base64,([^"]+)"', page):
        Image.open(io.BytesIO(base64.b64decode(uri))).load()


def test_crop_pad_and_squash_are_what_training_would_see(examined):
    page = render(examined, [])
    images = [attributes for tag, attributes in Tags(page).tags if tag == "img"]
    ways = [each for each in images if each["alt"] in ("crop", "pad", "squash")][:3]  # the most extreme comes first
    fitted = {
        each["alt"]: np.array(Image.open(io.BytesIO(base64.b64decode(each["src"].split(",")[1])))) for each in ways
    }
    assert {pixels.shape[:2] for pixels in fitted.values()} == {(160, 160)}
    assert (fitted["pad"][:60] < 8).all()  # 20 x 200 px: nine tenths are padding
    assert (fitted["squash"][:60].std() > 20) & (fitted["crop"][:60].std() > 5)


def test_doubtful_labels_are_shown(examined):
    page = render(
        examined, [], [DoubtfulLabel(row=1, label=1, likely=0, label_probability=0.02, likely_probability=0.97)]
    )
    assert "Doubtful labels" in page
    assert "label 2.0%, &lt;script&gt;alert(1)&lt; 97.0%" in page


def test_the_same_data_give_the_same_page(examined, tmp_path):
    findings = data_findings(examined)
    assert render(examined, findings) == render(examined, findings)
    write_page(examined, findings, [], tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == render(examined, findings)


def test_a_page_of_nothing(tmp_path):
    root = write_classes(tmp_path / "data", {"a": 2, "b": 2})
    examined = examine(open_source(root))
    assert "Nothing." in render(examined, [])


def test_a_page_of_only_broken_files(tmp_path):
    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "x.jpg").write_bytes(b"no")
    examined = examine(open_source(tmp_path / "data"))
    page = render(examined, data_findings(examined))
    assert "2 of 2 images cannot be read" in page
