"""The only inference path: validation, evaluation and prediction all go through ``Predictor``.

Pixels come from the one contract (``vitreous.data.preprocess``), logits from a backend, probabilities from here.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vitreous.allocator import kept_blocks
from vitreous.data.preprocess import Preprocess
from vitreous.errors import DecodeError
from vitreous.predictor.calibration import FALSE_ALARMS, Calibration

_LARGEST_BATCH = 256
_PIXELS_AT_ONCE = 2**21  # 32 images of 224 x 224: their activations stay in the hundreds of MiB

Image = Path | bytes | NDArray[np.uint8]


class Backend(Protocol):
    """What runs the network: one implementation a file, imported where it is used."""

    def logits(self, pixels_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """N,K logits of pixels that the contract made; N is at most the predictor's batch size."""

    def logits_and_features(self, pixels_NHWC: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The same logits, and N,D features: what the last layer is shown, or where that is not known the logits."""


class MirrorAveraged:
    """A backend that answers with the mean of the logits of each image and of its mirror image.

    Features, and so familiarity, are those of the image as it is.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def logits(self, pixels_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Backend``."""
        return self._averaged(self.backend.logits(pixels_NHWC), pixels_NHWC)

    def logits_and_features(self, pixels_NHWC: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See ``Backend``."""
        logits_NK, features_ND = self.backend.logits_and_features(pixels_NHWC)
        return self._averaged(logits_NK, pixels_NHWC), features_ND

    def _averaged(self, logits_NK: NDArray[np.float32], pixels_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        mirrored_NHWC = np.ascontiguousarray(pixels_NHWC[:, :, ::-1])
        return (logits_NK + self.backend.logits(mirrored_NHWC)) / np.float32(2)


@dataclass(frozen=True, slots=True)
class Answers:
    """What a network says of N images.

    Attributes:
        logits_NK: one for each class; the largest counts.
        familiarity_N: the share of ordinary images that are at least as strange; None where that was not calibrated.
    """

    logits_NK: NDArray[np.float32]
    familiarity_N: NDArray[np.float64] | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the network says of one image.

    Attributes:
        probabilities: calibrated, in the order of the predictor's classes.
        candidates: the classes that remain at the coverage asked for, likeliest first; () where none was asked for.
        familiarity: the share of ordinary images that are at least as strange as this one; None where not known.
    """

    label: str
    confidence: float
    probabilities: tuple[float, ...]
    candidates: tuple[str, ...] = ()
    familiarity: float | None = None

    @property
    def is_familiar(self) -> bool | None:
        """Whether the image is like those of the run; if not, its label means little. None where not known."""
        return None if self.familiarity is None else self.familiarity > FALSE_ALARMS


class Predictor:
    """A network, the contract that makes its pixels, and the names of its outputs.

    Args:
        backend: runs the network.
        preprocess: makes the pixels.
        classes: the names, in the order of the logits.
        calibration: what validation images taught; without one the network's own confidence is given.
    """

    def __init__(
        self,
        backend: Backend,
        preprocess: Preprocess,
        classes: Sequence[str],
        calibration: Calibration | None = None,
    ) -> None:
        self.backend = backend
        self.preprocess = preprocess
        self.classes = tuple(classes)
        self.calibration = calibration or Calibration()
        self.batch_size = _batch_size(preprocess)

    def mirror_averaged(self) -> "Predictor":
        """The predictor that looks at each image twice, the second time in a mirror, and answers with the mean.

        Worth it only where mirroring changes no class, and asked for only: it is another predictor than the one that
        was scored, its coverage was never calibrated, and each answer takes twice the time.
        """
        calibration = replace(self.calibration, scores=None)
        return Predictor(MirrorAveraged(self.backend), self.preprocess, self.classes, calibration)

    def logits(
        self, pixels_NHWC: NDArray[np.uint8], before_batch: Callable[[], None] = lambda: None
    ) -> NDArray[np.float32]:
        """N,K logits of any number of prepared images, in batches of one fixed size; ``before_batch`` may raise."""
        batches = [np.zeros((0, len(self.classes)), np.float32)]
        with kept_blocks():
            for start in range(0, len(pixels_NHWC), self.batch_size):
                before_batch()
                batches.append(self.backend.logits(pixels_NHWC[start : start + self.batch_size]))
        return np.concatenate(batches)

    def answer(self, pixels_NHWC: NDArray[np.uint8]) -> Answers:
        """Logits and familiarity of prepared images, at most a batch of them."""
        known = self.calibration.familiarity
        if known is None:
            return Answers(self.backend.logits(pixels_NHWC), None)
        logits_NK, features_ND = self.backend.logits_and_features(pixels_NHWC)
        return Answers(logits_NK, known.familiarity(features_ND))

    def probabilities(self, logits_NK: NDArray[np.float32]) -> NDArray[np.float64]:
        """Softmax of logits over the temperature: N,K, rows sum to 1."""
        return softmax(logits_NK, self.calibration.temperature)

    def predict(self, image: Image, *, coverage: float | None = None) -> Prediction:
        """The answer for one image: a path, encoded bytes, or an array of H,W or H,W,C uint8.

        Args:
            coverage: also give the candidates: classes among which the true one is with this probability.

        Raises:
            DecodeError: the image cannot be read; the message is the reason.
            ConfigError: the run cannot promise this coverage.
        """
        (answer,) = self.predict_many([image], coverage=coverage)
        if isinstance(answer, DecodeError):
            raise answer
        return answer

    def predict_many(
        self, images: Iterable[Image], *, coverage: float | None = None
    ) -> Iterator[Prediction | DecodeError]:
        """An answer for each image, in order; an unreadable one gives its error and does not stop the others."""
        if coverage is not None:
            self.calibration.threshold(coverage)  # a coverage that cannot be promised is refused before any image
        waiting: list[Image] = []
        with kept_blocks():
            for image in images:
                waiting.append(image)
                if len(waiting) == self.batch_size:
                    yield from self._predictions(waiting, coverage)
                    waiting = []
            yield from self._predictions(waiting, coverage)

    def _predictions(self, images: list[Image], coverage: float | None) -> Iterator[Prediction | DecodeError]:
        pixels = [self._pixels(image) for image in images]
        readable = [each for each in pixels if not isinstance(each, DecodeError)]
        if readable:
            rows = self._of_prepared(np.stack(readable), coverage)
        for each in pixels:
            yield each if isinstance(each, DecodeError) else next(rows)

    def _pixels(self, image: Image) -> NDArray[np.uint8] | DecodeError:
        try:
            return self.preprocess.pixels(image)
        except DecodeError as error:
            return error

    def _of_prepared(self, pixels_NHWC: NDArray[np.uint8], coverage: float | None) -> Iterator[Prediction]:
        answers = self.answer(pixels_NHWC)
        probabilities_NK = self.probabilities(answers.logits_NK)
        best_N = answers.logits_NK.argmax(axis=1)
        remain_NK = None if coverage is None else self.calibration.candidates(probabilities_NK, coverage)
        for n, probabilities_K in enumerate(probabilities_NK):
            best = int(best_N[n])
            likeliest_first = np.argsort(-probabilities_K, kind="stable")
            yield Prediction(
                label=self.classes[best],
                confidence=float(probabilities_K[best]),
                probabilities=tuple(probabilities_K.tolist()),
                candidates=()
                if remain_NK is None
                else tuple(self.classes[k] for k in likeliest_first if remain_NK[n, k]),
                familiarity=None if answers.familiarity_N is None else float(answers.familiarity_N[n]),
            )


def _batch_size(preprocess: Preprocess) -> int:
    """Fixed by the contract, because the batch's size may change the last bit of a logit; a power of two."""
    affordable = max(1, _PIXELS_AT_ONCE // (preprocess.height * preprocess.width))
    return int(min(_LARGEST_BATCH, 2 ** (affordable.bit_length() - 1)))


def confidence_text(value: float) -> str:
    """A probability as per cent; never rounded up to certainty nor down to none.

    >>> confidence_text(0.51), confidence_text(0.99987)
    ('51.0%', '>99.9%')
    """
    if value > 0.999:
        return ">99.9%"
    return "<0.1%" if value < 0.001 else f"{value:.1%}"


def softmax(logits_NK: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities of each row, in float64; a temperature above 1 makes them less sure.

    >>> softmax(np.array([[0.0, 0.0], [1000.0, 0.0]])).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """
    shifted = logits_NK.astype(np.float64) / temperature
    shifted -= shifted.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))
