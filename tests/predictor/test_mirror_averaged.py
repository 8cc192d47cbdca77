import dataclasses

import numpy as np
import pytest

from vitreous.data.preprocess import Preprocess
from vitreous.predictor import Predictor
from vitreous.predictor.calibration import Calibration


class LeftHalf:
    """A network whose first logit is the brightness of an image's left half."""

    def logits(self, pixels_NHWC):
        left_N = pixels_NHWC[:, :, : pixels_NHWC.shape[2] // 2].mean(axis=(1, 2, 3)) / 255
        return np.stack([left_N, np.zeros_like(left_N)], axis=1).astype(np.float32)

    def logits_and_features(self, pixels_NHWC):
        return self.logits(pixels_NHWC), pixels_NHWC.mean(axis=(1, 2)).astype(np.float32)


@pytest.fixture
def predictor():
    calibration = Calibration(temperature=2.0, scores=np.linspace(0, 1, 50))
    preprocess = Preprocess(height=4, width=6, channels=1, fit="pad")
    return Predictor(LeftHalf(), preprocess, ("bright", "dark"), calibration)


def test_both_halves_count(predictor):
    pixels = np.zeros((3, 4, 6, 1), np.uint8)
    pixels[0, :, :3], pixels[1, :, 3:] = 255, 255
    assert predictor.logits(pixels)[:, 0].tolist() == [1, 0, 0]
    assert predictor.mirror_averaged().logits(pixels)[:, 0].tolist() == [0.5, 0.5, 0]


def test_the_plain_predictor_is_left_as_it_was(predictor):
    averaged = predictor.mirror_averaged()
    assert averaged.calibration.temperature == predictor.calibration.temperature == 2.0
    assert averaged.calibration.num_calibrating == 0  # its coverage was never measured
    assert predictor.calibration.num_calibrating == 50
    answer = averaged.predict(np.full((4, 6, 1), 255, np.uint8))
    assert answer.label == "bright"
    assert dataclasses.asdict(answer)["candidates"] == ()
