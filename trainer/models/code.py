"""Python code that comes with a model: run only after a person has named the very bytes. Torch-free."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from trainer.errors import TrainError


def wants_code(config: dict[str, Any]) -> bool:
    """Whether the model's classes are in its own folder rather than in transformers."""
    return "auto_map" in config


def fingerprint(folder: Path, config: dict[str, Any]) -> str:
    """SHA-256 over what names the classes and over every Python file below the folder, with its path."""
    digest = hashlib.sha256(json.dumps(config.get("auto_map"), sort_keys=True).encode())
    for file in sorted(folder.rglob("*.py")):
        path = file.relative_to(folder).as_posix().encode()
        digest.update(b"%d %b %d " % (len(path), path, file.stat().st_size) + file.read_bytes())
    return digest.hexdigest()


def check_code(folder: Path, config: dict[str, Any], trusted: str) -> None:
    """Raise `TrainError` where the model wants to run code other than that of the trusted fingerprint."""
    if not wants_code(config):
        return
    if "--" in json.dumps(config["auto_map"]):  # as in owner/name--module.Class
        raise TrainError(
            "model-needs-code",
            f"{folder.name} wants to run code that is not in its folder.",
            "Choose a model that transformers knows by itself.",
        )
    now = fingerprint(folder, config)
    if trusted.strip().lower() != now:
        files = len(list(folder.rglob("*.py")))
        raise TrainError(
            "model-needs-code",
            f"{folder.name} wants to run code from its own folder ({files} Python files)"
            + (", which has changed since it was trusted." if trusted else "."),
            "Choose a model that transformers knows by itself. If you have read that code and trust it with everything "
            f"that you may do on this machine, set `trust_code` to {now}; any change of it will ask again.",
        )
