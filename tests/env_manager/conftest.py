"""What every test of the environment manager runs in: a shell without anybody's pip or uv settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from small_index import CPU_MACHINE, SmallIndex, fill, small_catalog

from env_manager.generations import Generation, Store
from env_manager.install import install
from env_manager.progress import StepProgress


@pytest.fixture(autouse=True)
def bare_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Strip every setting of pip, uv and Python from the environment and from the user's files."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_", "PYTHON")) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@dataclass
class Recorder:
    """Keeps what an installation reported."""

    phases: list[str] = field(default_factory=list)
    steps: list[StepProgress] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    on_step: Callable[[StepProgress], None] = lambda progress: None

    def phase(self, name: str, text: str) -> None:
        self.phases.append(name)

    def step(self, progress: StepProgress) -> None:
        self.steps.append(progress)
        self.on_step(progress)

    def log(self, line: str) -> None:
        self.lines.append(line)

    def last(self, id: str) -> StepProgress:
        return [step for step in self.steps if step.id == id][-1]


@dataclass
class Bench:
    """A store and an index to install from."""

    store: Store
    index: SmallIndex
    wheels: Path

    def install(self, **options: object) -> Generation:
        options = {
            "report": Recorder(),
            "cancelled": lambda: False,
            "catalog": small_catalog(),
            "hardware": CPU_MACHINE,
        } | options
        return install(self.store, **options)  # type: ignore[arg-type]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """An empty store beside a good index that pip's configuration names."""
    wheels = tmp_path / "wheels"
    fill(wheels)
    index = SmallIndex(wheels)
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    # uv's patience with a bad network is not what these tests are about.
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    yield Bench(Store(tmp_path / "home"), index, wheels)
    if index.thread.is_alive():
        index.close()
