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
    from vitreous.run import list_runs as list_runs
    from vitreous.workflow import convert as convert
    from vitreous.workflow import evaluate as evaluate
    from vitreous.workflow import export as export
    from vitreous.workflow import list_models as list_models
    from vitreous.workflow import load_run as load_run
    from vitreous.workflow import predict as predict
    from vitreous.workflow import resume as resume
    from vitreous.workflow import train as train
    from vitreous.workflow import write_report as write_report

_HOMES = {
    "build_network": "vitreous.models",
    "convert": "vitreous.workflow",
    "evaluate": "vitreous.workflow",
    "export": "vitreous.workflow",
    "list_models": "vitreous.workflow",
    "list_runs": "vitreous.run",
    "load_run": "vitreous.workflow",
    "predict": "vitreous.workflow",
    "resume": "vitreous.workflow",
    "train": "vitreous.workflow",
    "write_report": "vitreous.workflow",
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
