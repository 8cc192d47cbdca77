import json

import numpy as np
import pytest

from vitreous.cli.compare import print_comparison
from vitreous.errors import ConfigError, RunError
from vitreous.run import Run
from vitreous.storage import write_csv
from vitreous.workflow.comparing import compare

LABELS = ["cat", "dog"] * 20


def a_run(path, answers, classes=("cat", "dog"), labels=LABELS, part="test"):
    """A run folder with what comparing reads: manifest, splits and predictions; only ``answers`` are sure."""
    (path / "predictions").mkdir(parents=True)
    run = Run(path, {})
    run.update_manifest(schema=1, status="complete", classes=list(classes), model={"name": "conv4 gap fc"})
    hashes = [f"hash {number}" for number in range(len(labels))]
    header = ("content_hash", "path", "class", "split")
    write_csv(
        path / "splits.csv", header, [(each, each, label, part) for each, label in zip(hashes, labels, strict=True)]
    )
    rows = [
        (each, label, *(0.9 if name == answer else 0.1 for name in classes))
        for each, label, answer in zip(hashes, labels, answers, strict=True)
    ]
    write_csv(path / "predictions" / f"{part}.csv", ("content_hash", "class", *classes), rows)
    return path


def wrong_at(*numbers):
    return [({"cat": "dog", "dog": "cat"}[label] if n in numbers else label) for n, label in enumerate(LABELS)]


def test_a_real_difference_is_named_whatever_the_order_of_classes(tmp_path, capsys):
    first, second = a_run(tmp_path / "a", wrong_at(*range(12))), a_run(tmp_path / "b", wrong_at(0), ("dog", "cat"))
    compared = compare(first, second)
    assert compared["num_images"] == 40
    assert (compared["num_first"], compared["num_second"], compared["num_neither"]) == (0, 11, 1)
    assert compared["p_value"] == pytest.approx(2 / 2**11)
    assert compared["difference"] == pytest.approx(11 / 40)
    print_comparison(compared)
    assert f"Real: {second} is better" in capsys.readouterr().out
    json.dumps(compared)


def test_a_difference_that_chance_makes_is_not_called_real(tmp_path, capsys):
    compared = compare(a_run(tmp_path / "a", wrong_at(1, 2, 3)), a_run(tmp_path / "b", wrong_at(1)))
    assert not compared["is_real"]
    print_comparison(compared)
    assert "Not shown to be real" in capsys.readouterr().out


def test_only_images_that_both_have_count(tmp_path, capsys):
    second = a_run(tmp_path / "b", wrong_at()[:30], labels=LABELS[:30])
    compared = compare(a_run(tmp_path / "a", wrong_at(0, 35)), second)
    assert (compared["num_images"], compared["num_left_out"]) == (30, [10, 0])
    assert compared["accuracies"][0]["value"] == pytest.approx(29 / 30)
    print_comparison(compared)
    assert "10 of" in capsys.readouterr().out


def test_equal_files_are_told_apart_by_their_order(tmp_path):
    first, second = a_run(tmp_path / "a", wrong_at(0)), a_run(tmp_path / "b", wrong_at(0))
    for path in (first, second):
        for file in (path / "splits.csv", path / "predictions" / "test.csv"):
            file.write_text(file.read_text().replace("hash 2,", "hash 0,"))
    compared = compare(first, second)
    assert (compared["num_images"], compared["num_both"], compared["num_neither"]) == (40, 39, 1)


def test_other_classes_labels_or_images_are_refused(tmp_path):
    first = a_run(tmp_path / "a", wrong_at())
    with pytest.raises(ConfigError, match="other classes"):
        compare(first, a_run(tmp_path / "b", wrong_at(), ("cat", "dog", "cow")))
    relabelled = ["dog" if n == 0 else label for n, label in enumerate(LABELS)]
    with pytest.raises(RunError, match="1 of 40 test images are labelled otherwise"):
        compare(first, a_run(tmp_path / "c", relabelled, labels=relabelled))
    with pytest.raises(RunError, match="no scores on test"):
        compare(first, a_run(tmp_path / "d", wrong_at(), part="val"), split="test")
    elsewhere = a_run(tmp_path / "e", wrong_at())
    for file in (elsewhere / "splits.csv", elsewhere / "predictions" / "test.csv"):
        file.write_text(file.read_text().replace("hash ", "other "))
    with pytest.raises(RunError, match="nothing to compare them by"):
        compare(first, elsewhere)


def test_validation_is_compared_where_one_has_no_test_part(tmp_path):
    paths = [a_run(tmp_path / name, wrong_at(*np.arange(n)), part="val") for name, n in (("a", 3), ("b", 1))]
    assert compare(*paths)["split"] == "val"
