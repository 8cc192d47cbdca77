"""One self-contained page from a run: what was trained, how good it is, where it errs, what it looks at."""

from vitreous.report.page import write_report

__all__ = ["write_report"]
