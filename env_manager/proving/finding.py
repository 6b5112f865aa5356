"""One result of a check."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

REMEDY = "Install the dependencies again, or roll back to the previous environment."


@dataclass(frozen=True)
class Check:
    """What was checked, whether it holds, the evidence, and what to do if it does not."""

    name: str
    ok: bool
    evidence: str
    remedy: str | None = None
    seconds: float = 0.0
    detail: str = ""  # of a check that failed: the errors below the error, and what was said on stderr

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
