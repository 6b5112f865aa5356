"""What Fettle has, or knows of, outside its own folder: what an uninstall also deletes, and what it names and leaves."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from app.operations import Operations

ROOT = Path(__file__).resolve().parents[1]


def made_by_installers() -> list[Path]:
    """The entry in the desktop's menu with its icon, if it starts this checkout, and the uv that the launcher fetched."""
    found: list[Path] = []
    menu = _installer("linux/install.py") if sys.platform.startswith("linux") else None
    if menu and menu.started_by_entry() == menu.LAUNCHER:
        found += [menu.entry_file(), menu.icon_file()]
    launcher = _installer("launch.py")
    if launcher:
        found.append(launcher.private_folder().parent)
    return [path for path in found if path.exists()]


def untouched(operations: Operations) -> list[str]:
    """What an uninstall leaves, in words and with its place."""
    root = operations.home.root
    found = [f"the program itself: {ROOT}"]
    for each in operations.refresh():
        if not each.folder.is_relative_to(root):
            found.append(f"a run whose folder you chose: {each.folder}")
    hub = _hub_cache()
    if hub.is_dir():
        found.append(f"models that other programs use too: {hub}")
    own_cache = os.environ.get("UV_CACHE_DIR")
    if own_cache:
        found.append(f"your own uv cache: {own_cache}")
    return found


def _hub_cache() -> Path:
    # As huggingface_hub finds it, which is not here to be asked.
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()


def _installer(name: str) -> ModuleType | None:
    """A script of `installers/`, which alone knows what it made; None where Fettle is no checkout."""
    file = ROOT / "installers" / name
    spec = importlib.util.spec_from_file_location(f"installers_{file.stem}", file) if file.is_file() else None
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
