"""A store, an index to install from, and a reporter that keeps what it was told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from small_index import CPU_MACHINE, SmallIndex, small_catalog

from env_manager.generations import Generation, Store
from env_manager.install import install
from env_manager.progress import StepProgress


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
