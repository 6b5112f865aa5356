"""The generated pages say what the code says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli
from trainer.spec import RunSpec

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("settings.md", "commands.md")


def generate(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the generator in a process of its own, beside the pages it writes."""
    script = folder / "generate.py"
    return subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, env=os.environ | environment
    )


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    (tmp_path / "generate.py").write_bytes((DOCS / "generate.py").read_bytes())
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_what_the_code_would_write_now(copied: Path, page: str) -> None:
    assert generate(copied).returncode == 0
    written = (copied / page).read_text(encoding="utf-8")
    assert (DOCS / page).read_text(encoding="utf-8") == written, "run `python docs/generate.py` and commit the pages"


def test_the_text_depends_on_nothing_but_the_code(copied: Path) -> None:
    texts = []
    for environment in (
        {"PYTHONHASHSEED": "1", "COLUMNS": "40", "TZ": "UTC", "LC_ALL": "C"},
        {"PYTHONHASHSEED": "2", "COLUMNS": "200", "TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "FORCE_COLOR": "1"},
    ):
        assert generate(copied, **environment).returncode == 0
        texts.append([(copied / page).read_bytes() for page in PAGES])
        for page in PAGES:
            (copied / page).unlink()
    assert texts[0] == texts[1]


def test_check_names_a_stale_page_and_leaves_it_alone(copied: Path) -> None:
    assert generate(copied).returncode == 0
    assert generate(copied, "--check").returncode == 0
    (copied / "settings.md").write_text("an old page\n", encoding="utf-8")
    checked = generate(copied, "--check")
    assert checked.returncode == 1
    assert "docs/settings.md" in checked.stderr and "commands.md" not in checked.stderr
    assert (copied / "settings.md").read_text(encoding="utf-8") == "an old page\n"


def leaves(tree: dict[str, object], prefix: str = "") -> list[str]:
    """Dotted keys of a nested dictionary."""
    found = []
    for key, value in tree.items():
        found += leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return found


def test_every_setting_has_a_row_under_the_key_that_set_takes() -> None:
    text = (DOCS / "settings.md").read_text(encoding="utf-8")
    keys = leaves(RunSpec().model_dump())
    assert [key for key in keys if f"| `{key}` |" not in text] == []
    assert text.count("\n| `") == len(keys)


def test_every_documented_command_answers_with_its_help() -> None:
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    commands = [line.removeprefix("## fettle").split() for line in text.splitlines() if line.startswith("## fettle")]
    assert ["env", "rollback"] in commands and ["train"] in commands
    for command in commands:
        assert CliRunner().invoke(cli, [*command, "--help"]).exit_code == 0, command
