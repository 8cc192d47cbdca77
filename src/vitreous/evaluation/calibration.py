"""What validation images teach about a run's answers, fitted: see ``vitreous.predictor.calibration``."""

import numpy as np
from numpy.typing import NDArray

from vitreous.predictor import softmax
from vitreous.predictor.calibration import Calibration, Familiarity, conformal_scores

_TEMPERATURES = (0.01, 100.0)


def calibrate(
    selecting: tuple[NDArray[np.float32], NDArray[np.int64]],
    calibrating: tuple[NDArray[np.float32], NDArray[np.int64]],
    familiarity: Familiarity | None = None,
) -> Calibration:
    """The temperature from the images that chose the epoch, the conformal scores from others.

    Args:
        selecting: logits and labels; none leave the network's own confidence.
        calibrating: logits and labels of images that nothing was fitted to; none give no conformal sets.
    """
    logits_NK, labels_N = selecting
    temperature = fit_temperature(logits_NK, labels_N) if len(labels_N) else 1.0
    logits_MK, labels_M = calibrating
    scores = None
    if len(labels_M):
        scores_MK = conformal_scores(softmax(logits_MK, temperature))
        scores = np.sort(scores_MK[np.arange(len(labels_M)), labels_M])
    return Calibration(temperature, len(labels_N), scores, familiarity)


def fit_temperature(logits_NK: NDArray[np.float32], labels_N: NDArray[np.int64]) -> float:
    """The number that logits are divided by so that their log-loss is least (Guo et al. 2017, section 4.2).

    One image more is made up that shows each class a little (Platt 1999 does so for two classes): where every answer
    is right, an ever smaller temperature would otherwise always be better.
    """
    from scipy.optimize import minimize_scalar

    logits_NK = logits_NK.astype(np.float64)
    logits_NK -= logits_NK.max(axis=1, keepdims=True)
    num = len(labels_N)
    wanted_N = (num * logits_NK[np.arange(num), labels_N] + logits_NK.mean(axis=1)) / (num + 1)

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float((np.log(np.exp(logits_NK * scale).sum(axis=1)) - wanted_N * scale).mean())

    low, high = np.log(_TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x))
