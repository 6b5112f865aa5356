"""What an installation tells while it runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

StepState = Literal["waiting", "running", "done", "failed", "skipped"]


@dataclass(frozen=True)
class StepProgress:
    """One step of an installation at one moment.

    Bytes are those of wheels that come over the network in this installation: 0 of 0 where all is
    in the cache. `bytes_total` is None where the index does not tell sizes. `bytes_per_second` is
    over the last seconds, `seconds_left` for the rest of the bytes at that pace; both are None when
    nothing is coming. `probe` is the finding of the step's probe, `reason` says why a step was
    skipped or has failed.
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
    bytes_per_second: int | None = None
    seconds_left: float | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Reporter(Protocol):
    """Receives the progress of an installation, always from the thread that called `install`."""

    def phase(self, name: str, text: str) -> None: ...

    def step(self, progress: StepProgress) -> None: ...

    def log(self, line: str) -> None: ...
