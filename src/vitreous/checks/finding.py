"""One voice for everything that a check finds."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["mend", "consider", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen, where, by which arithmetic, and what to do about it.

    ``files`` are all the images it speaks of, by the names that the user gave them, the most telling first, and
    ``count`` how many; ``exclude`` are those of them that training should leave out for the finding to be gone.
    """

    code: str  # for machines: kebab-case, never changes its meaning
    severity: Severity  # mend: something is lost for nothing; consider: it costs; note: good to know
    where: str  # a layer, "the network", "the files" ...
    seen: str
    arithmetic: str
    edit: str
    files: tuple[str, ...] = ()
    count: int | None = None
    exclude: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As one object of ``vitreous check --json``."""
        return asdict(self)


def sorted_by_weight(findings: list[Finding]) -> list[Finding]:
    """What has to be mended first; otherwise in the order in which it was found."""
    return sorted(findings, key=lambda finding: ("mend", "consider", "note").index(finding.severity))
