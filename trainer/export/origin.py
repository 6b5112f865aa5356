"""Where an adapter comes from, as its run's folder tells: what its card and its specification are written from."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainer.models.hub import model_folder
from trainer.operation import read_events, read_record
from trainer.spec import RunSpec

SAMPLE, SAMPLES = 1 << 16, 16  # bytes and places of each file of weights that its fingerprint looks at


@dataclass(frozen=True)
class Origin:
    """What is known of a run. `named` is its specification with names and paths that hold for other people too."""

    record: dict[str, Any]
    spec: RunSpec
    named: RunSpec
    chosen: dict[str, str]
    versions: dict[str, str]
    evaluation: dict[str, Any] | None

    @classmethod
    def of(cls, run: Path, spec: RunSpec) -> Origin:
        """Read from the run's record and events; raises `OSError` or `ValueError` where these were edited."""
        record = read_record(run)
        chosen: dict[str, str] = {}
        versions: dict[str, str] = {}
        evaluation = None
        for event in read_events(run):
            chosen |= event.get("chosen", {})
            versions = event["versions"] if event["type"] == "hello" else versions
            evaluation = event if event.get("side") == "comparison" else evaluation
        named = spec.with_changes({"model": home_relative(spec.model)})
        for key, value in record.get("named", {}).items():
            with suppress(ValueError):  # a setting that only another version of Fettle has
                named = named.with_changes({key: value})
        return cls(record, spec, named, chosen, versions, evaluation)

    @property
    def base(self) -> Path:
        """The folder of the base model."""
        return model_folder(self.spec.model)

    def choice(self, name: str) -> str:
        """What a rule chose, without its reason: `fp32` of "fp32: the safe choice"."""
        return self.chosen.get(name, "").split(":")[0]

    def base_id(self) -> str:
        """The base by its name on the hub where it came from there, else by its folder or the app's own name for it."""
        parts = self.base.parts
        if len(parts) > 2 and parts[-2] == "snapshots" and parts[-3].startswith("models--"):
            return parts[-3].removeprefix("models--").replace("--", "/")
        named = self.named.model
        return named if named and "/" not in named and "\\" not in named else self.base.name


def home_relative(path: str) -> str:
    """A path below the person's home folder as `~/...`: shorter, and it tells nobody their name."""
    try:
        return f"~/{Path(path).relative_to(Path.home()).as_posix()}"
    except (ValueError, RuntimeError):
        return path


def base_card(base: Path) -> dict[str, Any]:
    """What the base's own card says of itself in its head; empty where it has none that can be read."""
    try:
        text = (base / "README.md").read_text(encoding="utf-8")
        head = yaml.safe_load(text.split("---")[1]) if text.startswith("---") else {}
    except (OSError, ValueError, IndexError, yaml.YAMLError):
        return {}
    return head if isinstance(head, dict) else {}


def model_fingerprint(base: Path) -> str:
    """SHA-256 over the configuration and, of each file of weights, its name, size and 16 samples of 64 kB.

    Whole files would take a minute for a large model; other weights of the same shape differ in every sample.
    """
    digest = hashlib.sha256((base / "config.json").read_bytes())
    for file in sorted(base.glob("*.safetensors")):
        size = file.stat().st_size
        digest.update(json.dumps([file.name, size]).encode())
        with file.open("rb") as stream:
            for sample in range(SAMPLES):
                stream.seek(sample * max(0, size - SAMPLE) // (SAMPLES - 1))
                digest.update(stream.read(SAMPLE))
    return digest.hexdigest()
