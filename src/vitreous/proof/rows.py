"""What became of one promise."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vitreous.storage import sha256_bytes


@dataclass(frozen=True, slots=True)
class ProofRow:
    """How often a promise was tried and how often it held; ``broken`` tells where it did not, first to last."""

    name: str
    promise: str
    tried: int
    held: int
    broken: tuple[str, ...]
    seconds: float
    sha256: str  # of the verdicts, so that two machines can compare what they saw

    @property
    def is_kept(self) -> bool:
        """Whether it held every time, and was tried at all."""
        return self.tried > 0 and self.held == self.tried

    def to_json(self) -> dict[str, Any]:
        """As one object of ``vitreous prove --json``."""
        return asdict(self) | {"is_kept": self.is_kept}


def row_of(
    name: str, promise: str, verdicts: Sequence[tuple[str, str]], broken: Sequence[str], seconds: float
) -> ProofRow:
    """From what each trial said, (trial, verdict), and those that were not as promised."""
    told = json.dumps(list(verdicts), ensure_ascii=True).encode()
    return ProofRow(
        name=name,
        promise=promise,
        tried=len(verdicts),
        held=len(verdicts) - len(broken),
        broken=tuple(broken),
        seconds=round(seconds, 1),
        sha256=sha256_bytes(told),
    )
