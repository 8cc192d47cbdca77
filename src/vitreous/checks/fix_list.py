"""The fix list: a CSV of files, what was found in them, and which of them training should leave out."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from vitreous import storage
from vitreous.checks.finding import Finding

HEADER = ("path", "finding", "action")


def write_fix_list(findings: Sequence[Finding], path: Path) -> int:
    """Write ``path`` and return how many files it leaves out.

    Each line is a file and a finding; ``action`` is ``exclude`` where ``vitreous train --exclude`` should leave the
    file out, else ``look``. The list is meant to be read and changed before it is used.

    Raises:
        MachineError: the disk is full or read-only.
    """
    rows = list(fix_rows(findings))
    storage.write_csv(path, HEADER, rows)
    return len({name for name, _, action in rows if action == "exclude"})


def fix_rows(findings: Sequence[Finding]) -> Iterator[tuple[str, str, str]]:
    """Path, finding and action of each file that a finding speaks of, by their weight.

    >>> finding = Finding("duplicates", "note", "", "", "", "", files=("a.jpg", "b.jpg"), exclude=("b.jpg",))
    >>> list(fix_rows([finding]))
    [('a.jpg', 'duplicates', 'look'), ('b.jpg', 'duplicates', 'exclude')]
    """
    for finding in findings:
        excluded = set(finding.exclude)
        for name in dict.fromkeys(finding.files):
            yield name, finding.code, "exclude" if name in excluded else "look"
