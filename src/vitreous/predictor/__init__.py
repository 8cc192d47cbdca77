"""The only inference path: validation, evaluation and prediction all go through ``Predictor``.

Pixels come from the one contract (``vitreous.data.preprocess``), logits from a backend, probabilities from here.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vitreous.data.preprocess import Preprocess
from vitreous.errors import DecodeError

_LARGEST_BATCH = 256
_PIXELS_AT_ONCE = 2**21  # 32 images of 224 x 224: their activations stay in the hundreds of MiB

Image = Path | bytes | NDArray[np.uint8]


class Backend(Protocol):
    """What runs the network: one implementation a file, imported where it is used."""

    def logits(self, pixels_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """N,K logits of pixels that the contract made; N is at most the predictor's batch size."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the network says of one image; ``probabilities`` are in the order of the predictor's classes."""

    label: str
    confidence: float
    probabilities: tuple[float, ...]


class Predictor:
    """A network, the contract that makes its pixels, and the names of its outputs.

    Args:
        backend: runs the network.
        preprocess: makes the pixels.
        classes: the names, in the order of the logits.
        temperature: divides the logits before softmax; 1 leaves the network's own confidence.
    """

    def __init__(
        self, backend: Backend, preprocess: Preprocess, classes: Sequence[str], temperature: float = 1.0
    ) -> None:
        self.backend = backend
        self.preprocess = preprocess
        self.classes = tuple(classes)
        self.temperature = temperature
        self.batch_size = _batch_size(preprocess)

    def logits(self, pixels_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """N,K logits of any number of prepared images, in batches of one fixed size."""
        if len(pixels_NHWC) == 0:
            return np.zeros((0, len(self.classes)), np.float32)
        starts = range(0, len(pixels_NHWC), self.batch_size)
        return np.concatenate([self.backend.logits(pixels_NHWC[start : start + self.batch_size]) for start in starts])

    def probabilities(self, logits_NK: NDArray[np.float32]) -> NDArray[np.float64]:
        """Softmax of logits over the temperature: N,K, rows sum to 1."""
        return softmax(logits_NK / self.temperature)

    def predict(self, image: Image) -> Prediction:
        """The answer for one image: a path, encoded bytes, or an array of H,W or H,W,C uint8.

        Raises:
            DecodeError: the image cannot be read; the message is the reason.
        """
        (answer,) = self.predict_many([image])
        if isinstance(answer, DecodeError):
            raise answer
        return answer

    def predict_many(self, images: Iterable[Image]) -> Iterator[Prediction | DecodeError]:
        """An answer for each image, in order; an unreadable one gives its error and does not stop the others."""
        waiting: list[Image] = []
        for image in images:
            waiting.append(image)
            if len(waiting) == self.batch_size:
                yield from self._answer(waiting)
                waiting = []
        yield from self._answer(waiting)

    def _answer(self, images: list[Image]) -> Iterator[Prediction | DecodeError]:
        pixels = [self._pixels(image) for image in images]
        readable = [each for each in pixels if not isinstance(each, DecodeError)]
        if readable:
            rows = iter(self.probabilities(self.logits(np.stack(readable))))
        for each in pixels:
            yield each if isinstance(each, DecodeError) else self._prediction(next(rows))

    def _pixels(self, image: Image) -> NDArray[np.uint8] | DecodeError:
        try:
            return self.preprocess.pixels(image)
        except DecodeError as error:
            return error

    def _prediction(self, probabilities_K: NDArray[np.float64]) -> Prediction:
        best = int(probabilities_K.argmax())
        return Prediction(self.classes[best], float(probabilities_K[best]), tuple(probabilities_K.tolist()))


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


def softmax(logits_NK: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities of each row, in float64.

    >>> softmax(np.array([[0.0, 0.0], [1000.0, 0.0]])).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """
    shifted = logits_NK.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))
