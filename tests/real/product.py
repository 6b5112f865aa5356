"""The real command over a home folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Fettle:
    """The real command with a home of its own."""

    home: Path

    def __call__(self, *arguments: str, status: int | None = 0) -> list[dict[str, Any]]:
        """Run a command with `--json`, check its exit status, and return its lines."""
        done = subprocess.run(
            self.argv(*arguments), capture_output=True, text=True, env=self.environment(), timeout=900
        )
        assert status is None or done.returncode == status, done.stdout[-3000:] + done.stderr[-3000:]
        assert "Traceback" not in done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def argv(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "app.cli", *arguments, "--json"]

    def environment(self) -> dict[str, str]:
        return os.environ | {"FETTLE_HOME": str(self.home)}

    @property
    def active(self) -> str:
        (status,) = self("env", "status")
        active: str = status["active"]
        return active
