"""What validation images taught about a run's answers: how sure it may be, which classes remain, what looks foreign.

RUN/calibration.json           the temperature and the sorted conformal scores
RUN/familiarity.safetensors    where the features of the training images lie, and how far off new images of that kind do

The manifest holds the SHA-256 of the first, which holds that of the second and of the weights that both belong to.
"""

import json
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from vitreous import storage
from vitreous.errors import ConfigError, RunError
from vitreous.run import Run

DEFAULT_COVERAGE = 0.9
FALSE_ALARMS = 0.05  # the share of ordinary images that are called unfamiliar; 19 images can hold such a share
CALIBRATION_FILE, FAMILIARITY_FILE = "calibration.json", "familiarity.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class Familiarity:
    """Where training images lie in the space of features, and how far from there images of the same kind do.

    Features are scaled to length 1. Around the nearest class mean they spread as a Gaussian that is the same for all
    classes: R ``directions_DR`` of their own ``variances_R``, and one variance ``rest`` across all others (Tipping and
    Bishop 1999, "Mixtures of Probabilistic Principal Component Analysers"). A distance is Mahalanobis' in it.
    Source of the score: Lee et al. 2018, "A Simple Unified Framework for Detecting Out-of-Distribution Samples"; of
    the scaling: Müller and Hein 2025, "Mahalanobis++".

    Attributes:
        distances: sorted, of images that neither training nor the choice of the epoch has seen.
    """

    means_KD: NDArray[np.float32]
    directions_DR: NDArray[np.float32]
    variances_R: NDArray[np.float64]
    rest: float
    distances: NDArray[np.float64]

    def distance(self, features_ND: NDArray[np.floating]) -> NDArray[np.float64]:
        """The squared distance of each image to the nearest class mean, in standard deviations: N."""
        unit_ND, means_KD = to_unit_length(features_ND), self.means_KD.astype(np.float64)
        weighted_DR = self.directions_DR * np.sqrt(1 / self.rest - 1 / self.variances_R)
        plain_NK = _squared_distances(unit_ND, means_KD) / self.rest
        along_NK = _squared_distances(unit_ND @ weighted_DR, means_KD @ weighted_DR)
        return np.asarray((plain_NK - along_NK).min(axis=1))

    def familiarity(self, features_ND: NDArray[np.floating]) -> NDArray[np.float64]:
        """The share of ordinary images at least as far off, each new image counted among them: N, above 0.

        It is a p-value: of images of the kind that was calibrated on, at most a share s gets a value of at most s.
        """
        num = len(self.distances)
        num_nearer_N = np.searchsorted(self.distances, self.distance(features_ND), side="left")
        return np.asarray((1 + num - num_nearer_N) / (1 + num))

    def to_bytes(self) -> bytes:
        """The safetensors file that ``from_bytes`` reads."""
        return save(
            {
                "means": self.means_KD,
                "directions": self.directions_DR,
                "variances": self.variances_R,
                "rest": np.array([self.rest]),
                "distances": self.distances,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What ``to_bytes`` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            read = load(data)
            means, directions, variances = read["means"], read["directions"], read["variances"]
            rest, distances = float(read["rest"][0]), read["distances"]
        except (SafetensorError, KeyError, IndexError) as error:
            raise ValueError(f"familiarity: {error}") from None
        fits = means.ndim == 2 and (means.shape[1], *variances.shape) == directions.shape and distances.ndim == 1
        if not fits or not 0 < rest <= variances.min(initial=np.inf):
            raise ValueError("familiarity: shapes or variances that cannot be")
        return cls(means, directions, variances, rest, distances)


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """A run's calibration.

    Attributes:
        temperature: divides the logits before softmax, so that of answers given with 80 % four in five are right.
        num_selecting: images that the temperature was fitted on.
        scores: sorted conformal scores of other images: 0 where the answer was right, else 1 minus the probability of
            the true class. None where there were too few images.
        familiarity: None where there were too few images.
    """

    temperature: float = 1.0
    num_selecting: int = 0
    scores: NDArray[np.float64] | None = None
    familiarity: Familiarity | None = None

    @property
    def num_calibrating(self) -> int:
        return 0 if self.scores is None else len(self.scores)

    def threshold(self, coverage: float) -> float:
        """The score up to which a class is a candidate: the value of rank ceil((n + 1) coverage) among n.

        Source: Vovk, Gammerman, Shafer 2005; Sadinle, Lei, Wasserman 2019 (the score, here 0 for the answer itself,
        so that no set is empty).

        Raises:
            ConfigError: the coverage is no share, or more images would be needed to promise it.
        """
        require_coverage(coverage)
        if self.scores is None:
            raise ConfigError(
                "this run has no images set aside for calibration (its validation part was too small, or an older "
                "Vitreous made it), so that no coverage can be promised; train with more validation images."
            )
        rank, num = conformal_rank(coverage, len(self.scores)), len(self.scores)
        if rank > num:
            least = ceil(Fraction(str(coverage)) / (1 - Fraction(str(coverage))))
            raise ConfigError(
                f"a coverage of {coverage:g} needs {least} calibration images, this run has {num}: it can promise up "
                f"to {num / (num + 1):.4f}. Ask for less, or train with more validation images."
            )
        return float(self.scores[rank - 1])

    def candidates(self, probabilities_NK: NDArray[np.float64], coverage: float) -> NDArray[np.bool_]:
        """Which classes remain for each image (N,K): the true one is among them with at least the coverage.

        The promise holds over images of the kind that was calibrated on, all classes together (it is marginal).
        """
        return conformal_scores(probabilities_NK) <= self.threshold(coverage)


def require_coverage(coverage: float) -> None:
    """Do nothing if it is a share between 0 and 1.

    Raises:
        ConfigError: it is not.
    """
    if not 0 < coverage < 1:
        raise ConfigError(f"a coverage is a share between 0 and 1, such as 0.9; {coverage:g} is none.")


def conformal_rank(coverage: float, num: int) -> int:
    """ceil((n + 1) coverage), exactly: 0.9 means nine tenths and not the nearest binary number.

    >>> conformal_rank(0.9, 9), conformal_rank(0.9, 10), conformal_rank(0.95, 19)
    (9, 10, 19)
    """
    return ceil((num + 1) * Fraction(str(coverage)))


def conformal_scores(probabilities_NK: NDArray[np.float64]) -> NDArray[np.float64]:
    """How badly each class would fit each image (N,K): 0 for the answer, else 1 minus the probability.

    >>> conformal_scores(np.array([[0.75, 0.25]])).tolist()
    [[0.0, 0.75]]
    """
    scores_NK = 1 - probabilities_NK
    scores_NK[np.arange(len(scores_NK)), probabilities_NK.argmax(axis=1)] = 0
    return scores_NK


def to_unit_length(features_ND: NDArray[np.floating]) -> NDArray[np.float64]:
    """Each row scaled to length 1; a row of zeros stays."""
    features_ND = features_ND.astype(np.float64)
    length_N1 = np.linalg.norm(features_ND, axis=1, keepdims=True)
    return np.asarray(features_ND / np.where(length_N1 > 0, length_N1, 1))


def _squared_distances(a_ND: NDArray[np.float64], b_KD: NDArray[np.float64]) -> NDArray[np.float64]:
    squares_NK = (a_ND**2).sum(axis=1)[:, None] + (b_KD**2).sum(axis=1) - 2 * a_ND @ b_KD.T
    return np.asarray(np.maximum(squares_NK, 0))


def write_calibration(run: Run, calibration: Calibration) -> None:
    """Write a run's calibration beside its weights; the manifest learns its SHA-256 last.

    Raises:
        MachineError: the disk is full or read-only.
    """
    if run.manifest.get("calibration"):
        run.update_manifest(calibration=None)  # what stands there is about to change
    familiarity_sha256 = None
    if calibration.familiarity is not None:
        encoded = calibration.familiarity.to_bytes()
        familiarity_sha256 = storage.sha256_bytes(encoded)
        storage.write_atomic(run.path / FAMILIARITY_FILE, encoded)
    told = {"temperature": calibration.temperature, "num_selecting": calibration.num_selecting}
    document = {
        **told,
        "scores": None if calibration.scores is None else calibration.scores.tolist(),
        "familiarity_sha256": familiarity_sha256,
        "weights_sha256": run.manifest["weights"]["sha256"],
    }
    storage.write_json(run.path / CALIBRATION_FILE, document)
    facts = {
        "sha256": storage.sha256_file(run.path / CALIBRATION_FILE),
        **told,
        "num_calibrating": calibration.num_calibrating,
        "has_familiarity": calibration.familiarity is not None,
    }
    run.update_manifest(calibration=facts)


def read_calibration(run: Run) -> Calibration | None:
    """A run's calibration; None where it has none, as runs of older versions.

    Raises:
        RunError: it is missing though the manifest knows it, or not what training wrote.
    """
    facts = run.manifest.get("calibration")
    if not facts:
        return None
    try:
        data = _verified(run, CALIBRATION_FILE, facts["sha256"])
        document: dict[str, Any] = json.loads(data)
        if document["weights_sha256"] != run.manifest["weights"]["sha256"]:
            raise ValueError("it belongs to other weights")
        temperature = float(document["temperature"])
        if not 0 < temperature < np.inf:
            raise ValueError(f"a temperature of {temperature}")
        familiarity = None
        if document["familiarity_sha256"] is not None:
            familiarity = Familiarity.from_bytes(_verified(run, FAMILIARITY_FILE, document["familiarity_sha256"]))
        return Calibration(
            temperature=temperature,
            num_selecting=int(document["num_selecting"]),
            scores=None if document["scores"] is None else _read_scores(document["scores"]),
            familiarity=familiarity,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RunError(
            f"the calibration of {run.path} is damaged ({reason}); `vitreous resume {run.path}` makes it again."
        ) from None


def _read_scores(document: Any) -> NDArray[np.float64]:
    scores = np.array(document, dtype=np.float64)
    if scores.ndim != 1 or not len(scores) or not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("scores that cannot be")
    return np.sort(scores)


def _verified(run: Run, name: str, sha256: str) -> bytes:
    data = (run.path / name).read_bytes()
    if storage.sha256_bytes(data) != sha256:
        raise ValueError(f"{name} is not what training wrote")
    return data
