"""Snapshots of the trainer and the environment that its processes get."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.processes import clean_environment, snapshot_trainer, trainer_argv


def test_a_snapshot_is_made_once_and_named_by_its_content(tmp_path: Path) -> None:
    first = snapshot_trainer(tmp_path)
    assert snapshot_trainer(tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == [first.name]
    assert (first / "trainer" / "loop.py").is_file()
    assert not list(first.rglob("*.safetensors"))


def test_a_snapshot_runs_isolated_and_sees_nothing_of_the_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    snapshot = snapshot_trainer(tmp_path / "snapshots")
    (snapshot / "trainer" / "__main__.py").write_text(
        "import json, sys\ndef start(): print(json.dumps(sys.path))\n", encoding="utf-8"
    )
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    argv = trainer_argv(bare / "bin" / "python", snapshot)
    done = subprocess.run(argv, capture_output=True, text=True, env=clean_environment(), cwd=tmp_path, check=True)
    path = json.loads(done.stdout)
    assert path[0] == str(snapshot)
    checkout = str(Path(__file__).parents[2])
    assert not [entry for entry in path if entry.startswith((checkout, str(tmp_path / "elsewhere")))]


def test_the_clean_environment_keeps_the_hub_and_drops_what_moves_python(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "PYTHONPATH",
        "VIRTUAL_ENV",
        "UV_INDEX",
        "PIP_INDEX_URL",
        "CONDA_PREFIX",
        "HF_HOME",
        "CUDA_VISIBLE_DEVICES",
    ):
        monkeypatch.setenv(name, "x")
    clean = clean_environment()
    assert {"HF_HOME", "CUDA_VISIBLE_DEVICES"} <= clean.keys()
    assert not {"PYTHONPATH", "VIRTUAL_ENV", "UV_INDEX", "PIP_INDEX_URL", "CONDA_PREFIX"} & clean.keys()
    assert os.environ["PATH"] == clean["PATH"]
