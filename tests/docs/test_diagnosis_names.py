"""Every name that a diagnosis can give is documented, and nothing else is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = [
    *(ROOT / "env_manager/diagnosing").glob("*signatures*.py"),
    *(ROOT / "env_manager/diagnosing").glob("*symptoms.py"),
]
SOURCES.append(ROOT / "env_manager/diagnosing/diagnosis.py")


def documented() -> set[str]:
    text = (ROOT / "docs/diagnosis.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `([a-z0-9-]+)` \|", text, re.MULTILINE))


def given() -> set[str]:
    """First arguments of what makes a finding, and the names in tables of disk symptoms."""
    names: set[str] = set()
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Signature", "Finding", "_row"):
                names |= set().union(*map(_texts, node.args[:1]))
            elif isinstance(node, ast.Tuple) and node.elts and len(node.elts) == 3:
                names |= {name for name in _texts(node.elts[0]) if re.fullmatch(r"[a-z]+-[a-z]+", name)}
    return names


def _texts(expression: ast.expr) -> set[str]:
    if isinstance(expression, ast.Constant):
        return {str(expression.value)}
    if isinstance(expression, ast.JoinedStr):  # one name for each of the packages that are built for a torch
        return {f"{package}-other-torch" for package in ("torchvision", "torchaudio", "xformers")}
    return set()


def test_every_name_is_documented_and_every_documented_name_can_be_given() -> None:
    assert len(given()) > 50
    assert given() == documented()


def test_a_table_is_in_the_order_of_the_alphabet() -> None:
    text = (ROOT / "docs/diagnosis.md").read_text(encoding="utf-8")
    for part in text.split("\n## ")[1:]:
        rows = re.findall(r"^\| `([a-z0-9-]+)` \|", part, re.MULTILINE)
        assert rows == sorted(rows)
