"""No picture and no patient on both sides; what leaks all the same is said, and scored without."""

import csv
import json
import os
import shutil
import signal

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score

import vitreous
from tests.conftest import make_photos
from tests.integration.test_training import TINY, stop_after
from vitreous import storage
from vitreous.errors import DataError, Interrupted, MachineError
from vitreous.run import Run

QUICK = {**TINY, "epochs": 1, "model": "conv4s2bn gap fc"}
OPTIONS = ["--model", QUICK["model"], "--epochs", 1, "--precision", "fp32", "--set", "engine.threads=1"]
FOLDS = {**QUICK, "epochs": 2, "folds": 3}


def train(data, path, **changes):
    return vitreous.train(data, run=path, **{**QUICK, **changes})


def parts_by(run, column):
    """The parts in which each group, or each picture, stands."""
    parts = {}
    for row in run.splits():
        if key := getattr(row, column):
            parts.setdefault(key, set()).add(row.split)
    return parts


@pytest.fixture
def given_parts(tmp_path):
    """Train and test folders; three test images are also in train, one of them saved anew as a PNG."""
    for part, num, seed in (("train", 24, 1), ("test", 12, 2)):
        make_photos(tmp_path / "given" / part, num, seed=seed)
    train_folder, test_folder = tmp_path / "given/train/dark", tmp_path / "given/test/dark"
    for number in (3, 4):
        shutil.copy(train_folder / f"{number}.jpg", test_folder / f"copy of {number}.jpg")
    with Image.open(train_folder / "5.jpg") as image:
        image.save(test_folder / "5 anew.png")
    return tmp_path / "given"


def test_leaks_in_given_parts_are_scored_with_and_without(given_parts, tmp_path, cli):
    status, said, told = cli("train", given_parts, *OPTIONS, "--run", tmp_path / "run")
    assert status == 0
    run = Run.open(tmp_path / "run")
    scores = run.manifest["scores"]["test"]
    assert (scores["num_images"], scores["num_leaked"], scores["without_leaked"]["num_images"]) == (39, 3, 36)
    path_of = {row.content_hash: row.path for row in run.splits() if row.split == "test"}
    rows = list(storage.read_csv(run.path / "predictions/test.csv"))
    answers = [max(run.classes, key=lambda name: float(row[name])) for row in rows]
    is_kept = [
        "copy of" not in path_of[row["content_hash"]] and "anew" not in path_of[row["content_hash"]] for row in rows
    ]
    for stored, kept in ((scores, [True] * 39), (scores["without_leaked"], is_kept)):
        chosen = [(row["class"], answer) for row, answer, keep in zip(rows, answers, kept, strict=True) if keep]
        assert stored["accuracy"]["value"] == pytest.approx(accuracy_score(*zip(*chosen, strict=True)))
        assert f"{stored['accuracy']['value']:.2%}" in said
    assert "saw 3 of them in training" in said
    assert "3 images of test are also in train or val" in told
    assert run.manifest["data"]["leaked"] == {"test": 3}
    assert "leak" in [finding["code"] for finding in run.manifest["findings"]]
    assert "(leak)" in told


def test_our_own_parts_keep_near_duplicates_on_one_side(photos, tmp_path):
    for number in range(8):
        with Image.open(photos / f"bright/{number}.jpg") as image:
            image.save(photos / f"bright/{number} anew.png")
    run = train(photos, tmp_path / "run")
    shared = parts_by(run, "picture")
    assert len(shared) == 8
    assert all(len(parts) == 1 for parts in shared.values())
    assert run.manifest["data"]["duplicates"] == {"pictures": 8, "images": 16}
    by_bytes = train(photos, tmp_path / "by bytes", **{"data.near_duplicates": False})
    assert not parts_by(by_bytes, "picture")


@pytest.fixture
def patients(tmp_path):
    """Twelve patients with some pictures of both classes each, as files and as a table."""
    random, folder = np.random.default_rng(0), tmp_path / "patients"
    rows = [("path", "label", "Patient")]
    for patient in range(12):
        for name, shade in (("ill", 80), ("well", 170)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for number in range(int(random.integers(2, 7))):
                pixels = random.normal(shade, 25, (20, 20, 3)).clip(0, 255).astype(np.uint8)
                path = f"{name}/patient{patient:02d}_{number}.png"
                Image.fromarray(pixels).save(folder / path)
                rows.append((path, name, f"p{patient}"))
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


@pytest.mark.parametrize(("file", "group_by"), [("", r"(patient\d+)_"), ("table.csv", "patient")])
def test_a_patient_is_never_on_both_sides(patients, tmp_path, file, group_by):
    run = train(patients / file, tmp_path / "run", group_by=group_by, folds=3)
    for each in (run, *(Run.open(run.path / f"folds/{number}") for number in (1, 2, 3))):
        sides = parts_by(each, "group")
        assert len(sides) == 12
        assert all(len(parts) == 1 for parts in sides.values())
        assert set().union(*sides.values()) == {"train", "val", "test"}
        assert each.manifest["data"]["num_groups"] == 12
    assert vitreous.evaluate(run.path)["accuracy"] == run.manifest["scores"]["test"]["accuracy"]


def test_a_patient_in_two_given_parts_leaks(patients, tmp_path):
    rows = list(storage.read_csv(patients / "table.csv"))
    with (patients / "given.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "patient", "split"))
        for row in rows:  # p0 .. p8 train, p9 and p10 test, and p11 a bit of both
            number = int(row["Patient"][1:])
            is_test = number in (9, 10) or (number == 11 and "_0" in row["path"])
            writer.writerow((row["path"], row["label"], row["Patient"], "test" if is_test else "train"))
    run = train(patients / "given.csv", tmp_path / "run", group_by="patient")
    assert run.manifest["scores"]["test"]["num_leaked"] == 2
    assert "num_leaked" not in train(patients / "given.csv", tmp_path / "other").manifest["scores"]["test"]


def test_excluded_images_stand_in_splits_and_are_never_looked_at(photos, tmp_path, cli):
    (photos / "dark/broken.jpg").write_bytes(b"words")
    listed = ["path,finding,action", "dark/broken.jpg,x,exclude", 'bright/1.jpg,"a, b",exclude', "dark/2.jpg,,keep"]
    (tmp_path / "fix.csv").write_text("\n".join(listed))
    status, _, told = cli("train", photos, *OPTIONS, "--exclude", "fix.csv", "--run", tmp_path / "run")
    assert status == 0
    assert "left out 2 images, as asked" in told
    run = Run.open(tmp_path / "run")
    assert {row.path for row in run.splits() if row.split == "excluded"} == {"dark/broken.jpg", "bright/1.jpg"}
    assert run.manifest["data"]["excluded"] == ["bright/1.jpg", "dark/broken.jpg"]
    assert sum(map(sum, (part.values() for part in run.manifest["data"]["counts"].values()))) == 71
    again = vitreous.train(photos, run=tmp_path / "again", config=run.path / "config.toml")
    assert again.manifest["weights"] == run.manifest["weights"]
    (photos / "dark/broken.jpg").unlink()
    (tmp_path / "fix.csv").unlink()
    assert vitreous.evaluate(run.path)["accuracy"] == run.manifest["scores"]["test"]["accuracy"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--exclude", "absent.csv"], "cannot be read"),
        (["--exclude", "other.csv"], "dark/absent.jpg"),
        (["--group-by", "patient"], "one (group)"),
        (["--group-by", r"(bright)/"], "of 72 images"),
        (["--folds", "1"], "folds = 1"),
        (["--folds", "50"], "50 folds need"),
        (["--set", "data.fold=2"], "fold = 2"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_written(photos, tmp_path, cli, options, words):
    (tmp_path / "other.csv").write_text("path\ndark/absent.jpg\n")
    status, _, told = cli("train", photos, "--run", tmp_path / "run", *options)
    assert status == 2
    assert words in told
    assert not (tmp_path / "run").exists()


def test_other_data_are_scored_without_what_the_run_was_trained_on(photos, tmp_path):
    run = train(photos, tmp_path / "run")
    counts = run.manifest["data"]["counts"]
    seen = sum(counts["train"].values()) + sum(counts["val"].values())
    shutil.copytree(photos, tmp_path / "other")
    make_photos(tmp_path / "new", 10, seed=9)
    for folder in (tmp_path / "new").iterdir():
        for file in folder.iterdir():
            shutil.copy(file, tmp_path / "other" / folder.name / f"new {file.name}")
    scores = vitreous.evaluate(run.path, tmp_path / "other")
    assert (scores["num_images"], scores["num_leaked"]) == (102, seen)
    assert scores["without_leaked"]["num_images"] == 102 - seen


def test_what_given_weights_were_trained_on_leaks_too(photos, tmp_path, cli):
    first = train(photos, tmp_path / "first")
    known = {row.content_hash for row in first.splits() if row.split == "train"}
    options = {"weights": first.path, "seed": 1, "folds": 2}
    run = vitreous.train(photos, run=tmp_path / "second", **{**TINY, "model": None, "epochs": 1, **options})
    tested = [row.content_hash for row in run.splits() if row.split == "test"]
    scores = run.manifest["scores"]["test"]
    assert scores["num_leaked"] == len(known & set(tested)) > 0
    assert run.manifest["folds"]["scores"]["num_leaked"] == len(known)
    assert vitreous.evaluate(run.path)["num_leaked"] == scores["num_leaked"]
    same_parts = vitreous.train(photos, run=tmp_path / "third", **{**TINY, "model": None, "weights": first.path})
    assert not any("num_leaked" in part for part in same_parts.manifest["scores"].values())
    grandchild = vitreous.train(photos, run=tmp_path / "fourth", **{**TINY, "model": None, "weights": run.path})
    assert grandchild.manifest["scores"]["val"]["num_leaked"] > 0


# Cross-validation.


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Photos that no test changes."""
    return make_photos(tmp_path_factory.mktemp("pictures") / "photos")


@pytest.fixture(scope="module")
def validated(pictures, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VITREOUS_CACHE", str(tmp_path_factory.mktemp("cache")))
        return vitreous.train(pictures, run=tmp_path_factory.mktemp("runs") / "validated", **FOLDS)


def pooled_bytes(run):
    return (run.path / "predictions/folds.csv").read_bytes()


def test_every_image_is_answered_once_by_a_network_that_never_saw_it(validated, pictures):
    rows = list(storage.read_csv(validated.path / "predictions/folds.csv"))
    expected = {(row.content_hash, row.label) for row in validated.splits()}
    assert len(rows) == 72
    assert {(row["content_hash"], row["class"]) for row in rows} == expected
    folds = [Run.open(validated.path / f"folds/{number}") for number in (1, 2, 3)]
    tested = [{row.path for row in fold.splits() if row.split == "test"} for fold in folds]
    assert set().union(*tested) == {row.path for row in validated.splits()}
    assert sum(map(len, tested)) == 72
    said = validated.manifest["folds"]
    assert said["accuracies"] == [fold.manifest["scores"]["test"]["accuracy"]["value"] for fold in folds]
    answers = [max(validated.classes, key=lambda name: float(row[name])) for row in rows]
    assert said["scores"]["accuracy"]["value"] == pytest.approx(accuracy_score([r["class"] for r in rows], answers))
    assert said["scores"]["num_images"] == 72
    predictor = vitreous.load_run(folds[1].path)
    of_second = {row.content_hash: row.path for row in folds[1].splits() if row.split == "test"}
    some = [row for row in rows if row["content_hash"] in of_second][:5]
    for row in some:
        probabilities = predictor.predict(pictures / of_second[row["content_hash"]]).probabilities
        assert np.allclose([float(row[name]) for name in predictor.classes], probabilities, atol=1e-5)


def test_a_fold_is_a_run_of_its_own_and_its_config_repeats_it(validated, pictures, tmp_path):
    fold = Run.open(validated.path / "folds/2")
    assert fold.status == "complete"
    assert vitreous.evaluate(fold.path)["accuracy"] == fold.manifest["scores"]["test"]["accuracy"]
    again = vitreous.train(pictures, run=tmp_path / "again", config=fold.path / "config.toml")
    assert again.manifest["weights"] == fold.manifest["weights"]
    assert again.manifest["data"]["fingerprint"] == fold.manifest["data"]["fingerprint"]
    assert (again.path / "splits.csv").read_bytes() == (fold.path / "splits.csv").read_bytes()
    assert not (again.path / "folds").exists()


def test_a_cross_validation_repeats_and_the_run_beside_it_is_the_ordinary_one(validated, pictures, tmp_path):
    again = vitreous.train(pictures, run=tmp_path / "again", config=validated.path / "config.toml")
    assert pooled_bytes(again) == pooled_bytes(validated)
    ordinary = vitreous.train(pictures, run=tmp_path / "ordinary", **{**FOLDS, "folds": 0})
    assert ordinary.manifest["weights"] == validated.manifest["weights"]
    assert "folds" not in ordinary.manifest


@pytest.mark.parametrize("num_steps", [1, 13, 23])
def test_a_stopped_cross_validation_goes_on_to_the_same_bits(validated, pictures, tmp_path, num_steps):
    path = tmp_path / "stopped"
    with pytest.raises(Interrupted, match=f"vitreous resume {path}$") as stopped:
        vitreous.train(pictures, run=path, stop=stop_after(num_steps), **FOLDS)
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    assert Run.open(path).status == "interrupted"
    resumed = vitreous.resume(path)
    assert resumed.status == "complete"
    assert pooled_bytes(resumed) == pooled_bytes(validated)
    assert resumed.manifest["folds"] == validated.manifest["folds"]
    assert resumed.manifest["weights"] == validated.manifest["weights"]


@pytest.fixture(scope="module")
def stopped(pictures, tmp_path_factory):
    """A cross-validation that was stopped in one of its folds; tests copy it."""
    path = tmp_path_factory.mktemp("runs") / "stopped"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VITREOUS_CACHE", str(tmp_path_factory.mktemp("cache")))
        with pytest.raises(Interrupted):
            vitreous.train(pictures, run=path, stop=stop_after(14), **FOLDS)
    return path


def test_a_fold_that_was_killed_while_it_was_made_is_made_again(validated, stopped, tmp_path):
    path = shutil.copytree(stopped, tmp_path / "killed")
    shutil.rmtree(path / "folds", ignore_errors=True)
    (path / "folds/1").mkdir(parents=True)
    (path / "folds/1/config.toml").write_text("seed = ")
    assert pooled_bytes(vitreous.resume(path)) == pooled_bytes(validated)


def test_a_fold_that_fails_is_named_and_its_run_can_be_resumed(validated, stopped, tmp_path, monkeypatch):
    path = shutil.copytree(stopped, tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr("vitreous.training.loop.train_step", lambda *_args, **_kwargs: raise_no_memory())
        with pytest.raises(MachineError, match=r"^fold \d of 3: not enough memory"):
            vitreous.resume(path)
    assert Run.open(path).status == "failed"
    assert pooled_bytes(vitreous.resume(path)) == pooled_bytes(validated)


def raise_no_memory():
    raise MemoryError


def test_two_processes_do_not_train_one_cross_validation(stopped, tmp_path):
    path = shutil.copytree(stopped, tmp_path / "run")
    before = (path / "manifest.json").read_bytes()
    with (
        storage.lock(path / "folds/.lock"),
        pytest.raises(MachineError, match=r"in use by another process \(process \d+ on"),
    ):
        vitreous.resume(path)
    assert (path / "manifest.json").read_bytes() == before


def test_a_given_test_part_is_never_trained_on(given_parts, tmp_path):
    options = {**FOLDS, "folds": 2}
    run = vitreous.train(given_parts, run=tmp_path / "run", **options)
    given_test = {row.path for row in run.splits() if row.split == "test"}
    for number in (1, 2):
        unused = {row.path for row in Run.open(run.path / f"folds/{number}").splits() if row.split == "unused"}
        assert unused == given_test
    assert run.manifest["folds"]["scores"]["num_images"] == 72
    with pytest.raises(Interrupted):
        vitreous.train(given_parts, run=tmp_path / "stopped", stop=stop_after(11), **options)
    assert pooled_bytes(vitreous.resume(tmp_path / "stopped")) == pooled_bytes(run)


def test_the_command_tells_the_cross_validation(photos, tmp_path, cli):
    status, said, told = cli("train", photos, *OPTIONS, "--folds", 2, "--run", tmp_path / "run", "--json")
    assert status == 0
    document = json.loads(said)
    assert document["folds"]["num_folds"] == 2
    assert "fold 2 of 2: epoch 1/1" in told
    status, said, _ = cli("resume", tmp_path / "run")
    assert status == 0
    assert "2 folds, each image answered by a network that was not trained on it" in said


def test_a_given_split_that_would_score_wrongly_is_refused(given_parts, tmp_path):
    os.link(given_parts / "train/dark/1.jpg", given_parts / "test/bright/1 again.jpg")
    with pytest.raises(DataError, match="1 files stand in two parts"):
        train(given_parts, tmp_path / "run")
    (given_parts / "test/bright/1 again.jpg").unlink()
    shutil.rmtree(given_parts / "test/middle")
    with pytest.raises(DataError, match="test has no image of middle"):
        train(given_parts, tmp_path / "run")
    assert not (tmp_path / "run").exists()
