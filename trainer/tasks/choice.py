"""Which task a run has, known from its model and its data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch

from trainer.data.reading import Samples
from trainer.evaluation.before_after import BeforeAfter
from trainer.export.agreement import Agreement
from trainer.export.reload_check import FreshBase
from trainer.held_out import HeldOut
from trainer.memory.settling import Step
from trainer.models.task import classes_to_learn
from trainer.report import Report
from trainer.sampling import Sampling
from trainer.snapshot import Progress
from trainer.spec import RunSpec
from trainer.tasks.text import Text


class Task(Protocol):
    """What the loop asks of a task; `examples` are the rows that it learns from, as its model takes them."""

    examples: Any

    def sampling(self) -> Sampling: ...
    def watch(self) -> HeldOut: ...
    def load(self, dtype: torch.dtype, device: str) -> Any: ...
    def way(self, model: Any) -> tuple[Any, dict[str, str]]: ...
    def fingerprint(self) -> str: ...
    def judged(self) -> BeforeAfter: ...
    def batches(self, taken: int, *, by_length: bool) -> Iterator[Any]: ...
    def settle(self, step: Step, progress: Progress) -> None: ...
    def save(self, model: Any) -> Path: ...
    def read_back(
        self, model: Any, adapter: Path, base: FreshBase, autocast: AbstractContextManager[Any], precision: str
    ) -> Agreement | None: ...


def task_of(spec: RunSpec, samples: Samples, run: Report, folder: Path) -> Task:
    """The run's task, its rows made into what the model takes; raises `TrainError` where these do not fit together."""
    classes = classes_to_learn(spec, samples)
    if not classes:
        return Text(spec, samples, run, folder)
    from trainer.tasks.classes import Classes  # loads what opens pictures

    return Classes(spec, samples, classes, run, folder)
