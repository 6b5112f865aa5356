"""A known failure and the words it shows by."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Action = Literal["install", "rollback", "repair"]

REBUILD = "Repair the environment: it is built again from its own lock."
NO_STRANGERS = "Repair the environment, and do not install other packages into it."


@dataclass(frozen=True)
class Signature:
    """A failure, the words it is known by, why it happens and what mends it."""

    name: str
    pattern: str
    cause: str
    remedy: str
    action: Action | None = None
    of: tuple[str, ...] = ()  # the checks in which it may show; all, if empty

    def found_in(self, text: str) -> re.Match[str] | None:
        """Where the text shows this failure."""
        return re.search(self.pattern, text, re.IGNORECASE)
