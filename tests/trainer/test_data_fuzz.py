"""Damaged files of every shape: nothing but a plain error ever comes out, and memory stays small."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).with_name("fuzz_data.py")


def fuzz(seconds: float) -> int:
    """How many damaged files were read in this time, within half a gigabyte."""
    seed = random.SystemRandom().randrange(2**32)
    command = [sys.executable, str(FUZZ), str(seconds), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds * 10 + 60)
    assert done.returncode == 0, done.stderr[-3000:]
    files, megabytes = map(int, done.stdout.split())
    assert megabytes < 512
    return files


def test_damaged_files_end_in_plain_errors() -> None:
    assert fuzz(3) > 10


@pytest.mark.slow
def test_damaged_files_end_in_plain_errors_for_a_minute() -> None:
    assert fuzz(60) > 200
