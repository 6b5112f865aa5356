"""Newer versions of the environment: looked up, shown, and built into a new generation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from app.api.schema_generations import CapView, UpdateView
from app.operations import Operations
from app.views import Followed
from env_manager.hardware import detect
from env_manager.planning.catalog_file import load_catalog
from env_manager.sharing.update import Update, preview_update


def update_view(operations: Operations, *, cancelled: Callable[[], bool] = lambda: False) -> UpdateView:
    """What an update would change, and why it changes no more; asks the package index."""
    found = preview_update(operations.store, detect(operations.home.root), load_catalog(), cancelled=cancelled)
    return UpdateView.model_validate(found.as_json() | {"capped": _capped(found)})


def _capped(found: Update) -> list[CapView]:
    return [
        CapView(
            name=cap.name,
            version=cap.version,
            newest=cap.newest,
            reason=f"capped by {' and '.join(cap.by)}" if cap.by else cap.reason,
        )
        for cap in found.capped
    ]


def start_update(operations: Operations, pinned: Mapping[str, str], versions: Mapping[str, str]) -> Followed:
    """Start building a generation with the versions that a preview found."""
    return operations.start_install_of(
        {"overrides": dict(pinned), "preferred": dict(versions), "title": "Update the environment"}
    )
