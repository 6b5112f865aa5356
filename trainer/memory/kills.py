"""When the system ends a run for want of memory: what is taken back, read from the run's own events. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trainer.operation import Event


@dataclass(frozen=True)
class Limit:
    """The most rows at once from now on (None: no limit), and whether activations are computed twice."""

    rows: int | None = None
    recomputes: bool = False

    @property
    def text(self) -> str:
        """What it means for the run, in words."""
        rows = f"with at most {self.rows} row{'' if self.rows == 1 else 's'} at once"
        return rows + (" and activations that are computed twice" if self.recomputes else "")


def limit(events: Iterable[Event]) -> Limit:
    """The newest limit that a kill has left among a run's events."""
    found = Limit()
    for event in events:
        if "limit" in event:
            found = Limit(**event["limit"])
    return found


def after_kill(events: Iterable[Event]) -> Limit | None:
    """Half of the rows that the run computed at once when it was killed; None where nothing is left to take back.

    Only steps can be made smaller: a run that was killed while it loaded its model, say, would be killed again.
    """
    phase, memory = "", None
    for event in events:
        if event["type"] == "phase":
            phase = event["phase"]
        memory = event.get("memory", memory)
    if phase not in ("memory", "training") or memory is None:
        return None
    if memory["rows"] > 1:
        return Limit(memory["rows"] // 2, memory["recomputes"])
    return None if memory["recomputes"] else Limit(1, recomputes=True)
