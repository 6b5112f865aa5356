"""`fettle env hardware` and the choice of an accelerator, by the real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def fettle(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )


@pytest.fixture
def gpu_machine(tmp_path: Path) -> dict[str, str]:
    """A path on which nvidia-smi lists two GPUs, of which the second is too old for the newest build."""
    if sys.platform != "linux":
        pytest.fail("these tests put a shell script in the place of nvidia-smi")
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "nvidia-smi"
    program.write_text(
        """#!/bin/sh
case "$*" in
*query-gpu*)
    echo "NVIDIA GeForce RTX 4090, GPU-1a, 8.9, 24564, 24000, 580.65.06"
    echo "NVIDIA GeForce GTX 1080, GPU-2b, 6.1, 8192, 8000, 580.65.06" ;;
*) echo "| NVIDIA-SMI 580.65.06   Driver Version: 580.65.06   CUDA Version: 13.0 |" ;;
esac
"""
    )
    program.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "FETTLE_HOME": str(tmp_path / "home")}


def shown(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_the_machine_the_build_and_the_pythons_are_shown_with_reasons(gpu_machine: dict[str, str]) -> None:
    """The oldest GPU decides, and the text says so."""
    done = fettle("env", "hardware", **gpu_machine)
    assert done.returncode == 0, done.stderr
    assert "gpu 1: NVIDIA GeForce GTX 1080 (6.1)" in done.stdout
    assert "torch: cu126. NVIDIA GeForce GTX 1080 (compute capability 6.1) with driver 580.65.06" in done.stdout
    assert "python 3." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "build"), [((), "cu126"), (("--gpu", "0"), "cu130"), (("--accelerator", "cpu"), "cpu")]
)
def test_what_the_user_chooses_wins(gpu_machine: dict[str, str], arguments: tuple[str, ...], build: str) -> None:
    """By GPU or by name."""
    found = shown(fettle("env", "hardware", "--json", *arguments, **gpu_machine))
    assert isinstance(found["torch"], dict)
    assert found["torch"]["build"] == build
    assert found["pythons"]


@pytest.mark.parametrize(
    ("arguments", "code"), [(("--gpu", "7"), "gpu-unknown"), (("--accelerator", "warp"), "accelerator-unknown")]
)
def test_a_choice_that_is_not_there_is_refused_in_plain_words(
    gpu_machine: dict[str, str], arguments: tuple[str, ...], code: str
) -> None:
    """Asking and installing refuse it alike, and nothing is installed."""
    for command in (("env", "hardware"), ("env", "install")):
        done = fettle(*command, *arguments, **gpu_machine)
        assert done.returncode == 1
        assert f"[{code}]" in done.stderr
        assert "Traceback" not in done.stderr + done.stdout
    assert not list((Path(gpu_machine["FETTLE_HOME"]) / "envs").glob("2*"))
