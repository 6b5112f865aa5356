"""When the lock of an earlier generation holds for a new one: everything that decided it is still the same.

What the index offers is left out on purpose. A second installation of the same plan has the same
versions on every day; newer ones come with a newer catalog or with an update, where they can be seen first.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from env_manager.errors import EnvError
from env_manager.generations import Generation, Store
from env_manager.planning.catalog import Catalog
from env_manager.planning.plan import Plan
from env_manager.planning.recorded import recorded_lock, recorded_plan
from env_manager.planning.resolve import PYLOCK_NAME


def deciding(
    plan: Plan,
    catalog: Catalog,
    release: str,
    environ: Mapping[str, str],
    preferred: Mapping[str, str],
    allow_large: bool,
) -> str:
    """One text for everything that decides a lock; `environ` is uv's, `release` Python's."""
    known = {
        "plan": replace(plan, notes=()).as_json(),
        "catalog": catalog.as_json(),
        "python": release,
        "preferred": dict(preferred),
        "allow_large": allow_large,
        "indexes": {name: value for name, value in sorted(environ.items()) if name.startswith("UV_")},
        "configuration": _content(environ.get("UV_CONFIG_FILE")),
        "wheels": [_listing(place) for place in environ.get("UV_FIND_LINKS", "").split(",") if place],
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _content(file: str | None) -> str | None:
    try:
        return Path(file).read_text(encoding="utf-8", errors="replace") if file else None
    except OSError:
        return None


def _listing(place: str) -> list[tuple[str, int, int]] | None:
    """What a local folder of wheels holds: a wheel put there or replaced may change the answer."""
    parts = urlsplit(place)
    try:
        with os.scandir(unquote(parts.path) if parts.scheme == "file" else place) as entries:
            files = [(entry.name, entry.stat()) for entry in entries if entry.name.endswith(".whl")]
    except OSError:
        return None
    return sorted((name, status.st_size, status.st_mtime_ns) for name, status in files)


def find_decided(store: Store, decided_by: str, planned: Callable[..., Plan]) -> Generation | None:
    """The newest generation whose lock was decided by the same, if it can be taken; `planned` makes today's plan."""
    newest = next((each for each in reversed(store.list()) if each.decided_by == decided_by), None)
    return newest if newest and _can_be_taken(newest, planned) else None


def _can_be_taken(generation: Generation, planned: Callable[..., Plan]) -> bool:
    try:
        recorded_lock(generation)
        plan = recorded_plan(generation)
    except EnvError:
        return False
    # What an index did not have then, or had broken, it may have now.
    complete = plan.left_out == planned(source=plan.source).left_out
    worked = all(step.get("state") != "failed" for step in generation.steps)
    return complete and worked and (generation.folder / PYLOCK_NAME).is_file()
