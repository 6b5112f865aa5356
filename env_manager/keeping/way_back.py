"""Where a rollback leads, read from the history of switches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


def earlier(rows: Iterable[dict[str, Any]], current: str | None) -> Iterator[str]:
    """The generations that were active before the present one, the newest first, each once."""
    trail: list[str] = []
    switches = [row for row in rows if row.get("id") and isinstance(row["id"], str)]
    then_active = [*(row.get("before") for row in switches[1:]), current]
    for row, then in zip(switches, then_active, strict=False):
        # A switch is noted before it is made. Where the next began from the same place it was cut off between.
        if then is not None and then == row.get("before") != row["id"]:
            continue
        # Going back shortens the trail, so that rolling back twice goes back two, not to and fro.
        if row.get("action") == "rollback" and row["id"] in trail:
            del trail[trail.index(row["id"]) + 1 :]
        else:
            trail.append(row["id"])
    for id in dict.fromkeys(reversed(trail)):
        if id != current:
            yield id
