"""Where the features of training images lie, so that a picture of something else can be told (``Familiarity``)."""

import numpy as np
from numpy.typing import NDArray

from vitreous.predictor.calibration import Familiarity, to_unit_length

_MOST_DIRECTIONS = 16


def fit_familiarity(
    features_ND: NDArray[np.floating], labels_N: NDArray[np.int64], calibrating_MD: NDArray[np.floating]
) -> Familiarity:
    """The class means and the spread around them of training images; the distances of images that were held out.

    The distances of the training images themselves would not do: the network has learned to bring them together.

    Args:
        features_ND: of training images, with their classes.
        calibrating_MD: of images that neither training nor the choice of the epoch has seen.
    """
    unit_ND = to_unit_length(features_ND)
    present, class_N = np.unique(labels_N, return_inverse=True)
    means_KD = np.stack([unit_ND[class_N == k].mean(axis=0) for k in range(len(present))])
    directions_DR, variances_R, rest = _spread(unit_ND - means_KD[class_N])
    familiarity = Familiarity(
        means_KD=means_KD.astype(np.float32),
        directions_DR=directions_DR.astype(np.float32),
        variances_R=variances_R,
        rest=rest,
        distances=np.zeros(0),
    )
    distances = np.sort(familiarity.distance(calibrating_MD))
    return Familiarity(familiarity.means_KD, familiarity.directions_DR, variances_R, rest, distances)


def _spread(residuals_ND: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """The directions of the largest variances, these, and the mean variance of all other directions."""
    from scipy.linalg import eigh

    num, num_dimensions = residuals_ND.shape
    num_directions = min(_MOST_DIRECTIONS, num // 4, num_dimensions // 2)
    covariance_DD = residuals_ND.T @ residuals_ND / num
    values, vectors = np.zeros(0), np.zeros((num_dimensions, 0))
    if num_directions:
        values, vectors = eigh(covariance_DD, subset_by_index=[num_dimensions - num_directions, num_dimensions - 1])
        values, vectors = values[::-1], vectors[:, ::-1]
    total = float(np.trace(covariance_DD))
    rest = max((total - float(values.sum())) / (num_dimensions - num_directions), 1e-9 * max(total, 1e-9))
    return np.ascontiguousarray(vectors), np.maximum(values, rest), rest
