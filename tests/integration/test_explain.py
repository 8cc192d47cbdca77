"""``vitreous explain`` on a run, as a person types it."""

import json
import math

import pytest
from PIL import Image

import vitreous


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    for name, shade in (("dark", 40), ("light", 210)):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(12):
            picture = Image.new("RGB", (24, 24), (shade + number, shade, shade))
            picture.putpixel((number, 3), (255, 0, 0))
            picture.save(folder / "photos" / name / f"{number}.png")
    settings = {"model": "conv4bn pool res[conv8 conv8] gap fc", "epochs": 1, "engine.precision": "fp32"}
    run = vitreous.train(folder / "photos", run=folder / "run", image_size=24, **settings)
    return run.path, folder / "photos" / "dark" / "0.png"


def test_the_sum_behind_a_number_as_text_and_as_json(cli, trained):
    run, image = trained
    status, out, _ = cli("explain", run, image, "--layer", "conv1.conv", "--at", "2,0,0", "--top", "3")
    assert status == 0
    assert out.startswith("conv1.conv at 2,0,0 = ")
    assert "(27 in all, 15 of them on padding, which are zeros)" in out
    assert "... and 24 more, which make" in out
    assert "total in float64" in out
    assert "the largest term comes from: vitreous explain" in out
    status, out, _ = cli("explain", run, image, "--layer", "conv1.conv", "--at", "2,0,0", "--json")
    document = json.loads(out)
    assert len(document["terms"]) == 27
    assert abs(document["difference"]) <= document["bound"]
    same = vitreous.explain_number(run, image, "conv1.conv", (2, 0, 0))
    assert same.value == document["value"]


def test_the_way_on_can_be_typed_as_it_is_printed(cli, trained):
    run, image = trained
    words = ["--layer", "head", "--at", "1"]
    for _ in range(20):
        status, out, _ = cli("explain", run, image, *words)
        assert status == 0
        last = out.strip().splitlines()[-1]
        if not last.startswith("  the largest term comes from"):
            break
        words = last.split()[-4:]
    assert out.startswith("input at ")


def test_a_logit_is_what_predict_says(cli, trained):
    run, image = trained
    predictor = vitreous.load_run(run)
    logits = [vitreous.explain_number(run, image, "head", (number,)).value for number in range(2)]
    logits = [logit / predictor.calibration.temperature for logit in logits]
    probabilities = predictor.predict(image).probabilities
    exponentials = [math.exp(logit) for logit in logits]
    assert [each / sum(exponentials) for each in exponentials] == pytest.approx(list(probabilities), abs=1e-6)


def test_a_layer_without_a_place_says_where_to_begin(cli, trained):
    run, image = trained
    _, out, _ = cli("explain", run, image, "--layer", "conv1.conv")
    assert "conv1.conv: conv2d, 4 x 24 x 24" in out
    words = out.strip().splitlines()[-1].split()[-4:]
    facts = json.loads(cli("explain", run, image, "--layer", "conv1.conv", "--json")[1])
    assert json.loads(cli("explain", run, image, *words, "--json")[1])["value"] == facts["highest"]


def test_pictures_a_page_and_numbers(cli, trained):
    run, image = trained
    status, out, _ = cli("explain", run, image)
    assert status == 0
    assert "believe" in out
    folder = run / "explanations" / "0"
    assert {"index.html", "explanation.json", "attribution.png"} <= {path.name for path in folder.iterdir()}
    status, out, _ = cli("explain", run, image, "--json", "--class", "light", "--out", run / "mine")
    document = json.loads(out)
    assert (document["class"], document["image"]) == ("light", "0.png")
    assert (run / "mine" / "index.html").is_file()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_article_s_examples_need_no_run(cli, number):
    status, out, _ = cli("explain", "--example", number, "--json")
    assert status == 0
    assert json.loads(out)["example"] == number
    assert cli("explain", "--example", number)[1].startswith(f"Example {number}: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "wants a run folder and an image"),
        (("RUN",), "wants a run folder and an image"),
        (("RUN", "nowhere.png"), "there is no image nowhere.png"),
        (("RUN", "IMAGE", "--layer", "conv9"), "there is conv1"),
        (("RUN", "IMAGE", "--at", "1,2,3"), "--layer"),
        (("RUN", "IMAGE", "--layer", "conv1.conv", "--at", "a,b"), "no place"),
        (("RUN", "IMAGE", "--layer", "conv1.conv", "--at", "4,0,0"), "4 x 24 x 24, counted from 0"),
        (("RUN", "IMAGE", "--layer", "conv1.conv", "--at", "0,0,0", "--call", "3"), "ran once"),
        (("RUN", "IMAGE", "--class", "ligth"), "light"),
        (("RUN", "RUN/manifest.json"), "cannot be read"),
        (("--example", "4"), "1 to 3, not 4"),
    ],
)
def test_wrong_input_says_what_was_wanted(cli, trained, words, said):
    run, image = trained
    words = [word.replace("RUN", str(run)).replace("IMAGE", str(image)) for word in words]
    status, _, err = cli("explain", *words)
    assert status == 2
    assert said in err
    assert len(err.strip().splitlines()) <= 2
