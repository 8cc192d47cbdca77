"""Write docs/settings.md from the settings' own sentences: python scripts/make_settings_page.py."""

from pathlib import Path

from vitreous.config import documented_settings

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"
HEAD = """# Settings

Every setting of a run, for a TOML file (`--config`) or one by one (`--set training.epochs=5`). What is not set is
chosen from the data; the run's `config.toml` holds every choice. This page is written by
`scripts/make_settings_page.py`.

| setting | default | what it is |
|---|---|---|
"""


def settings_page() -> str:
    """The whole page."""
    return HEAD + "".join(f"| `{name}` | {default} | {text} |\n" for name, default, text in documented_settings())


if __name__ == "__main__":
    PAGE.write_text(settings_page(), encoding="utf-8")
