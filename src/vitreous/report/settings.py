"""Every setting of a run with its value, and who decided: the user, Vitreous, or nobody, so that the default stands."""

import json
from dataclasses import dataclass
from typing import Any

from vitreous.config import Config, documented_settings
from vitreous.run import Run

_PRIVATE = frozenset(("data.source", "data.exclude", "model.weights"))
_LEFT_OUT = "left out of this page"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row; ``decided`` is "asked", "chosen" or "default", and "" in runs that did not note what was asked."""

    name: str
    value: str
    decided: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Settings:
    """What config.toml holds, in its order."""

    rows: tuple[Setting, ...]

    @property
    def is_known(self) -> bool:
        """Whether it is known who decided."""
        return any(row.decided for row in self.rows)

    def decided(self, how: str) -> list[Setting]:
        """The settings that were decided in this way."""
        return [row for row in self.rows if row.decided == how]


def settings_of(run: Run, *, with_names: bool) -> Settings:
    """All settings that are set; without names, none of the user's paths.

    Raises:
        RunError: config.toml is not what was written when the run was made.
    """
    config, defaults, asked = run.config, Config(), run.manifest.get("asked")
    rows = []
    for name, _, meaning in documented_settings():
        value = _value(config, name)
        if value is None:
            continue
        is_hidden = name in _PRIVATE and not with_names
        rows.append(
            Setting(
                name,
                _LEFT_OUT if is_hidden else _text(value),
                _decided(name, value, _value(defaults, name), asked) if isinstance(asked, list) else "",
                meaning,
            )
        )
    return Settings(tuple(rows))


def _decided(name: str, value: Any, default: Any, asked: list[str]) -> str:
    if name in asked:
        return "asked"
    return "default" if value == default else "chosen"


def _value(config: Config, name: str) -> Any:
    section, _, key = name.rpartition(".")
    return getattr(getattr(config, section) if section else config, key)


def _text(value: Any) -> str:
    """As TOML and ``--set`` take it, texts without their quotes."""
    return value if isinstance(value, str) else json.dumps(value)
