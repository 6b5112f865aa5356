"""What an installation tells while it runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

StepState = Literal["waiting", "running", "done", "failed", "skipped"]


@dataclass(frozen=True)
class StepProgress:
    """One step of an installation at one moment.

    Bytes are unpacked bytes that lie in the package cache or the new environment. `bytes_total` is
    None where the index does not tell sizes. `probe` is the finding of the step's probe, `reason`
    says why a step was skipped or has failed.
    """

    id: str
    title: str
    state: StepState
    bytes_done: int = 0
    bytes_total: int | None = None
    seconds: float = 0.0
    packages: tuple[str, ...] = ()
    probe: str | None = None
    reason: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Reporter(Protocol):
    """Receives the progress of an installation, always from the thread that called `install`."""

    def phase(self, name: str, text: str) -> None: ...

    def step(self, progress: StepProgress) -> None: ...

    def log(self, line: str) -> None: ...
