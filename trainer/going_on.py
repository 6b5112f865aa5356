"""What a run compares before it goes on from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.errors import TrainError
from trainer.report import Report
from trainer.snapshot import Progress, read_state


def go_on(run: Report, folder: Path, about: dict[str, Any]) -> Progress:
    """Where the checkpoint was; refuses other data, and says where other versions may change the last digits."""
    progress, before = read_state(folder)
    if before["data"] != about["data"]:
        raise TrainError(
            "data-changed",
            "The training data, or how it becomes tokens, is not what this run began with, so it cannot go on.",
            "Put the file back as it was, or start a new run.",
        )
    if before["versions"] != about["versions"]:
        other = [
            f"{name} {version}"
            for name, version in about["versions"].items()
            if before["versions"].get(name) != version
        ]
        run.warn(f"The run goes on with other versions ({', '.join(other)}): results may differ in their last digits.")
    return progress
