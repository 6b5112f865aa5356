"""Fettle as a user has it: a checkout with a small catalog of its own, and its commands in a real shell's surroundings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from small_index import PYTHON_VERSION, SmallIndex

ROOT = Path(__file__).parents[2]
CATALOG = f"""
format = 1
date = "2026-01-01"
python = ["{PYTHON_VERSION}"]

[[holds]]
requirement = "fx-base<2"
reason = "Second is proved with base 1."
""" + "".join(
    f"""
[[steps]]
id = "{name}"
title = "The {name}"
why = "A test needs it."
probe = ["import:fx_{name}"]
optional = {"true" if name == "third" else "false"}

[[steps.packages]]
name = "fx-{name}"
version = "1.0"
"""
    for name in ("first", "second", "third")
)


@dataclass(frozen=True)
class Said:
    """How a command ended and what it said."""

    status: int
    out: str
    err: str

    @property
    def code(self) -> str:
        """The code at the end of the error; empty where there is none."""
        last = self.err.strip().rpartition("\n")[2]
        return last.rpartition("[")[2].removesuffix("]") if last.endswith("]") else ""


@dataclass
class Checkout:
    """A copy of the program in `folder`, with `home` as its FETTLE_HOME."""

    folder: Path
    home: Path
    index: SmallIndex
    variables: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path, home: Path, index: SmallIndex) -> Checkout:
        for name in ("app", "env_manager", "trainer"):
            unwanted = shutil.ignore_patterns("__pycache__", "starter", "*.png", "static", "web")
            shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
        (folder / "env_manager" / "planning" / "catalog.toml").write_text(CATALOG, encoding="utf-8")
        return cls(folder, home, index)

    @property
    def catalog(self) -> Path:
        return self.folder / "env_manager" / "planning" / "catalog.toml"

    def environ(self, changes: Mapping[str, str | None]) -> dict[str, str]:
        """The variables of a command; one that is changed to None is not set."""
        base = dict(os.environ) | {
            "FETTLE_HOME": str(self.home),
            "PYTHONPATH": str(self.folder),
            "PIP_INDEX_URL": self.index.url,
            "UV_HTTP_RETRIES": "0",
        }
        return {name: value for name, value in (base | self.variables | changes).items() if value is not None}

    def run(self, *arguments: str, cwd: Path | None = None, **changes: str | None) -> Said:
        """Run `fettle` to its end; a traceback in the user's face is a failure of the test."""
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments],
            cwd=cwd or self.folder,
            env=self.environ(changes),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=300,
        )
        assert "Traceback" not in done.stderr + done.stdout, done.stderr + done.stdout
        return Said(done.returncode, done.stdout, done.stderr)
