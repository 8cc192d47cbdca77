"""Documents cannot rot: what can be derived from the code is compared with it."""

import re
import subprocess
import sys
from pathlib import Path

from vitreous.cli import app
from vitreous.models.pattern_language import parse

ROOT = Path(__file__).parent.parent


def test_the_settings_page_is_what_the_code_says(tmp_path):
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    code = "import runpy, sys; sys.stdout.write(runpy.run_path('scripts/make_settings_page.py')['settings_page']())"
    written = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert page == written, "run python scripts/make_settings_page.py"


def test_the_figures_in_the_readme_have_their_lines():
    subprocess.run([sys.executable, "-m", "benchmarks.tables", "--check"], cwd=ROOT, check=True)


def test_every_command_in_the_readme_exists():
    commands = {command.name for command in app.registered_commands}
    used = set(re.findall(r"^\s*(?:\S+\s{2,})?vitreous (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert used
    assert used <= commands


def test_every_pattern_in_the_documents_can_be_read():
    for page in (ROOT / "README.md", ROOT / "docs" / "pattern.md"):
        for line in re.findall(r'--model "([^"]+)"', page.read_text()):
            parse(line)


def test_links_between_documents_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"
