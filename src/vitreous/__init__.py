"""Vitreous: convolutional networks you can see through.

    import vitreous

    run = vitreous.train("photos/")                         # a folder in, a folder out
    vitreous.evaluate(run.path)["accuracy"]                 # with its interval
    vitreous.load_run(run.path).predict("new.jpg").label    # a name, not a number

Importing is light; torch comes with the first call that needs it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitreous.models import build_network as build_network
    from vitreous.proof.proving import prove as prove
    from vitreous.run import list_runs as list_runs
    from vitreous.workflow.checking import check as check
    from vitreous.workflow.comparing import compare as compare
    from vitreous.workflow.explaining import explain as explain
    from vitreous.workflow.explaining import explain_number as explain_number
    from vitreous.workflow.finished import convert as convert
    from vitreous.workflow.finished import evaluate as evaluate
    from vitreous.workflow.finished import export as export
    from vitreous.workflow.finished import load_run as load_run
    from vitreous.workflow.finished import predict as predict
    from vitreous.workflow.finished import write_report as write_report
    from vitreous.workflow.networks import list_models as list_models
    from vitreous.workflow.networks import summary as summary
    from vitreous.workflow.training import find_learning_rate as find_learning_rate
    from vitreous.workflow.training import resume as resume
    from vitreous.workflow.training import train as train

_HOMES = {
    "build_network": "vitreous.models",
    "check": "vitreous.workflow.checking",
    "compare": "vitreous.workflow.comparing",
    "convert": "vitreous.workflow.finished",
    "evaluate": "vitreous.workflow.finished",
    "explain": "vitreous.workflow.explaining",
    "explain_number": "vitreous.workflow.explaining",
    "export": "vitreous.workflow.finished",
    "find_learning_rate": "vitreous.workflow.training",
    "list_models": "vitreous.workflow.networks",
    "list_runs": "vitreous.run",
    "load_run": "vitreous.workflow.finished",
    "predict": "vitreous.workflow.finished",
    "prove": "vitreous.proof.proving",
    "resume": "vitreous.workflow.training",
    "summary": "vitreous.workflow.networks",
    "train": "vitreous.workflow.training",
    "write_report": "vitreous.workflow.finished",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """A public function, imported from its home when first asked for (PEP 562)."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'vitreous' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
