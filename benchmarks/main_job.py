"""Time the main job as a newcomer meets it: from empty caches, then again.

    .venv/bin/python benchmarks/main_job.py

Runs `fettle demo` twice in a folder of its own and holds the seconds against the bounds below (2 CPU cores, no GPU).
Run it with nothing else going on. Exit status 1 when a bound is missed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

WHOLE_COLD = 300.0  # everything, from empty caches
TRAINING = 120.0  # the loop alone
REST_WARM = 20.0  # everything but the loop, the second time


def demo(home: Path) -> dict[str, Any]:
    """One demo; its last line, with the seconds of the whole process and of each phase in it."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "demo", "--json"],
        env={key: value for key, value in os.environ.items() if key != "UV_CACHE_DIR"} | {"FETTLE_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    whole = time.monotonic() - began
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return lines[-1] | {"whole": whole, "phases": phases(lines)}


def phases(lines: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds of each phase and installation step, in order."""
    seconds: dict[str, float] = {}
    marks = [(line["phase"], line["time"]) for line in lines if line["type"] == "phase"]
    marks.append(("end", lines[-2]["time"]))
    for (name, start), (_, end) in pairwise(marks):
        seconds[name] = seconds.get(name, 0.0) + end - start
    for line in lines:
        if line["type"] == "progress" and line.get("step", {}).get("state") == "done":
            seconds[f"install: {line['step']['title']}"] = line["step"]["seconds"]
    return seconds


def main() -> int:
    """Run both, print both side by side, and say which bounds were missed."""
    with tempfile.TemporaryDirectory() as folder:
        cold, warm = demo(Path(folder) / "home"), demo(Path(folder) / "home")
    print(f"{'seconds':34}{'cold':>9}{'again':>9}")
    for name in dict.fromkeys([*cold["phases"], *warm["phases"]]):
        print(f"{name:34}{cold['phases'].get(name, 0):9.1f}{warm['phases'].get(name, 0):9.1f}")
    for name, key in (("training loop", "train_seconds"), ("whole process", "whole")):
        print(f"{name:34}{cold[key]:9.1f}{warm[key]:9.1f}")
    for key in ("real_tokens_per_second", "base_exact_match", "tuned_exact_match"):
        print(f"{key:34}{cold[key]:9.2f}{warm[key]:9.2f}")
    rest = warm["whole"] - warm["train_seconds"]
    bounds = {
        f"cold, whole: {cold['whole']:.1f} of {WHOLE_COLD:.0f} s": cold["whole"] <= WHOLE_COLD,
        f"training: {cold['train_seconds']:.1f} of {TRAINING:.0f} s": cold["train_seconds"] <= TRAINING,
        f"again, all but training: {rest:.1f} of {REST_WARM:.0f} s": rest <= REST_WARM,
    }
    print()
    for text, held in bounds.items():
        print(f"{'held  ' if held else 'MISSED'}  {text}")
    return 0 if all(bounds.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
