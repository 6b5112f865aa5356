"""The desktop window: the only place that imports pywebview. Without one, the same page for a browser."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn
from filelock import FileLock, Timeout

from app.errors import AppError
from app.operations import Operations
from app.paths import LOCK
from app.server import STATIC, bind, server_for


def run(operations: Operations) -> int:
    """Open the window and stay until it is closed; operations go on without it. Returns the exit status."""
    reason = why_no_window()
    if reason:
        print(f"{reason} Serving the page for a browser instead.", flush=True)
        return serve_page(operations, 0)
    lock = _only_instance(operations.home.root)
    webview = _engine()
    bound = bind()
    server = server_for(operations, bound)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound.socket]})
    thread.start()
    try:
        _wait_until_started(server, thread)
        # An exported environment becomes a file. pywebview's Qt part asks for a name and then saves nothing, because
        # it uses a call that Qt 6 no longer has: there the page's Copy button and the command remain.
        webview.settings["ALLOW_DOWNLOADS"] = _gui() != "qt"
        webview.create_window("Fettle", bound.url, width=1280, height=800, min_size=(900, 600), text_select=True)
        storage = operations.home.root / "window"
        webview.start(gui=_gui(), private_mode=False, storage_path=str(storage))
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        lock.release()
    return 0


def serve_page(operations: Operations, port: int) -> int:
    """Serve the page until Ctrl-C; returns the exit status."""
    lock = _only_instance(operations.home.root)
    _require_page()
    bound = bind(port)
    server = server_for(operations, bound)
    # From the first word on: whoever reads the address may press Ctrl-C while the server is still starting.
    usual = signal.signal(signal.SIGINT, server.handle_exit)
    try:
        print(f"Fettle is at {bound.url}\nCtrl-C ends the server; installations and runs go on.", flush=True)
        server.run(sockets=[bound.socket])
    finally:
        signal.signal(signal.SIGINT, usual)
        lock.release()
    return 0


def why_no_window() -> str | None:
    """Why no window can open here, in one sentence; None when one can."""
    offscreen = os.environ.get("QT_QPA_PLATFORM") == "offscreen"
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or offscreen
    ):
        return "There is no display."
    if importlib.util.find_spec("webview") is None:
        return "The window's web engine is not installed."
    return None


def _engine() -> Any:
    # As root the browser engine's sandbox refuses to start; nobody else goes without it.
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        os.environ["QTWEBENGINE_DISABLE_SANDBOX"] = "1"
    import webview

    return webview


def _gui() -> str | None:
    """Which toolkit pywebview uses: Qt where its engine is installed, else what the system has."""
    return "qt" if sys.platform.startswith("linux") and importlib.util.find_spec("PySide6") else None


def _only_instance(root: Path) -> FileLock:
    """Hold this home folder's lock; raises `AppError` when another Fettle holds it."""
    lock = FileLock(root / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise AppError(
            "already-open",
            "Fettle is already open with this folder.",
            "Use the open window, or close it first. Commands work beside it.",
        ) from None
    return lock


def _require_page() -> None:
    if not (STATIC / "index.html").is_file():
        raise AppError(
            "page-missing",
            "The page has not been built into this installation.",
            "Start Fettle with its launcher, which builds it.",
        )


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    _require_page()
    while not server.started:
        if not thread.is_alive():
            raise AppError(
                "server-failed", "The local server could not start.", "Start Fettle again; `fettle doctor` says more."
            )
        time.sleep(0.01)
