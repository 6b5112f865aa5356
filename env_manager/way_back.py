"""Where a rollback leads, read from the history of switches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


def earlier(rows: Iterable[dict[str, Any]], current: str | None) -> Iterator[str]:
    """The generations that were active before the present one, the newest first, each once."""
    trail: list[str] = []
    for row in rows:
        # Going back shortens the trail, so that rolling back twice goes back two, not to and fro.
        id = row.get("id")
        if row.get("action") == "rollback" and id in trail:
            del trail[trail.index(id) + 1 :]
        elif isinstance(id, str):
            trail.append(id)
    for id in dict.fromkeys(reversed(trail)):
        if id != current:
            yield id
