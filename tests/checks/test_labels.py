"""Doubtful labels are told by the names of their images."""

import numpy as np

from vitreous.checks.labels import label_finding
from vitreous.evaluation.doubt import doubtful_labels


def test_the_finding_names_the_images():
    probabilities = np.array([[0.9, 0.1]] * 6 + [[0.05, 0.95]] * 7)
    labels = np.array([0] * 6 + [1] * 6 + [0])
    found = doubtful_labels(probabilities, labels)
    finding = label_finding(found, [f"{i}.png" for i in range(13)], ["cat", "dog"], 12 / 13)
    assert finding.files == ("12.png",)
    assert "12.png: cat 5.0%, dog 95.0%" in finding.arithmetic
    assert "agrees with 92% of all labels" in finding.arithmetic
    assert finding.exclude == ()


def test_no_doubt_is_no_finding():
    assert label_finding([], [], ["a", "b"], 1.0) is None
