"""Generations without an installation: an interpreter, a file, a record."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from env_manager.errors import EnvError
from env_manager.generations import MANIFEST, Generation, Store
from env_manager.proving import verify


def make(
    store: Store,
    id: str,
    created: str = "2026-01-01T00:00:00Z",
    *,
    packages: dict[str, str] | None = None,
    serial: int = 0,
    own: int = 0,
) -> Generation:
    """A finished generation with an interpreter, one file, and `own` bytes that it shares with nobody."""
    folder = store.envs / id
    generation = Generation(id, created, folder, packages or {"alpha": "1.0"}, serial=serial)
    generation.python.parent.mkdir(parents=True)
    generation.python.write_text("an interpreter")
    (generation.env / "data.txt").write_text("content")
    if own:
        (generation.env / "own.bin").write_bytes(os.urandom(own))
    verify.take_record(generation.env, folder / verify.RECORD_NAME)
    (folder / MANIFEST).write_text(json.dumps(generation.record()))
    return generation


def code(call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """The code of the failure that the call must end in; it has a message and a remedy."""
    with pytest.raises(EnvError) as caught:
        call(*arguments, **options)
    assert caught.value.message and caught.value.remedy
    return caught.value.code
