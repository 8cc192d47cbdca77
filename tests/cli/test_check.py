"""``vitreous check DATA`` as a person types it."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from tests.images import write_classes
from vitreous.config import Config
from vitreous.data.prepared import hash_contents
from vitreous.data.source import open_source
from vitreous.run import Run
from vitreous.storage import write_csv


@pytest.fixture
def faulty(tmp_path):
    root = write_classes(tmp_path / "photos", {"cat": 25, "dog": 25}, size=(40, 40))
    (root / "cat" / "broken.jpg").write_bytes(b"these are words")
    (root / "dog" / "copy.png").write_bytes((root / "dog" / "003.png").read_bytes())
    return root


def contents(root):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


def test_findings_list_page_and_exit_status(cli, faulty, tmp_path):
    before = contents(faulty)
    status, out, err = cli("check", faulty, "--report", tmp_path / "page.html", "--fix-list", tmp_path / "fixes.csv")
    assert status == 1
    assert "52 images of 2 classes" in out
    assert "[mend] the files: 1 of 52 images cannot be read (unreadable)" in out
    assert "cat/broken.jpg" in out
    assert "1 to mend" in out
    assert "leaves 2 images out" in out
    assert err.strip() == "writing the page"
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "fixes.csv").read_text().splitlines()[0] == "path,finding,action"
    assert contents(faulty) == before


def test_the_fix_list_mends_what_it_can(cli, faulty, tmp_path):
    cli("check", faulty, "--fix-list", tmp_path / "fixes.csv")
    for line in (tmp_path / "fixes.csv").read_text().splitlines()[1:]:
        path, _, action = line.split(",")
        if action == "exclude":
            (faulty / path).unlink()
    assert cli("check", faulty)[0] == 0


def test_json_is_one_document(cli, faulty):
    status, out, err = cli("check", faulty, "--json")
    document = json.loads(out)
    assert (status, err) == (1, "")
    assert document["classes"] == {"cat": 26, "dog": 26}
    assert not document["is_good"]
    finding = document["findings"][0]
    assert (finding["code"], finding["severity"], finding["count"]) == ("unreadable", "mend", 1)
    assert finding["files"] == ["cat/broken.jpg"]
    assert "model" not in document


def test_good_data_exit_0(cli, tmp_path):
    write_classes(tmp_path / "photos", {"cat": 25, "dog": 25}, size=(40, 40))
    status, out, _ = cli("check", tmp_path / "photos")
    assert (status, "nothing to mend" in out) == (0, True)


def test_what_is_no_data_exits_2(cli):
    status, _, err = cli("check", "nowhere/")
    assert (status, "there is no file or folder" in err) == (2, True)
    status, _, err = cli("check", "digits", "--image-size", "32")
    assert (status, "--model" in err) == (2, True)


def test_looking_at_data_loads_no_torch(faulty):
    code = (
        "import sys; from vitreous.workflow.checking import check; "
        f"check({str(faulty)!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def run_of(folder, root, part="folds"):
    """A run whose network takes image 4 of cats for a dog; its answers stand where a training leaves them."""
    source = open_source(root)
    probabilities = np.where(source.labels[:, None] == [0, 1], 0.95, 0.05)
    wrong = [source.images.name(i) for i in range(len(source.images))].index("cat/004.png")
    probabilities[wrong] = [0.03, 0.97]
    run = Run.create(folder, Config(), {"classes": ["cat", "dog"]}, [])
    (folder / "predictions").mkdir()
    labels = [source.classes[label] for label in source.labels]
    rows = zip(hash_contents(source.images), labels, *probabilities.T.tolist(), strict=True)
    write_csv(folder / "predictions" / f"{part}.csv", ("content_hash", "class", "cat", "dog"), rows)
    return run


@pytest.mark.parametrize("part", ["folds", "val"])
def test_a_run_tells_doubtful_labels(cli, tmp_path, part):
    root = write_classes(tmp_path / "photos", {"cat": 25, "dog": 25}, size=(40, 40))
    run_of(tmp_path / "run", root, part)
    status, out, _ = cli("check", root, "--run", f"{tmp_path}/run", "--report", "page.html")
    assert status == 0
    assert "1 of 50 labels are doubtful" in out
    assert "cat/004.png: cat 3.0%, dog 97.0%" in " ".join(out.split())
    assert "Doubtful labels" in (tmp_path / "page.html").read_text()


def test_a_run_of_other_data_is_refused(cli, tmp_path):
    root = write_classes(tmp_path / "photos", {"cat": 25, "dog": 25}, size=(40, 40))
    run_of(tmp_path / "run", root)
    others = write_classes(tmp_path / "others", {"cat": 5, "dog": 5}, start=900)
    status, _, err = cli("check", others, "--run", f"{tmp_path}/run")
    assert (status, "no answer for any of these images" in err) == (2, True)
    birds = write_classes(tmp_path / "birds", {"cat": 5, "wren": 5}, start=950)
    status, _, err = cli("check", birds, "--run", f"{tmp_path}/run")
    assert (status, "does not know the classes wren" in err) == (2, True)
