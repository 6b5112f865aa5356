"""The two places where the page is used: a browser on the served page, and the desktop window itself."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Error, Page, Playwright

START_SECONDS = 120  # against hanging; a loaded machine may need many seconds for the web engine

ADDRESS = r"http://127\.0\.0\.1:\d+/#token=\S+"


@dataclass
class Started:
    """A running `fettle` and the file that its output goes to."""

    process: subprocess.Popen[bytes]
    output: Path

    def said(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, pattern: str) -> str:
        """The first match in its output; fails with that output when it ends or stays silent."""
        for _ in self.while_alive():
            if found := re.search(pattern, self.said()):
                return found[0]
        raise AssertionError

    def while_alive(self) -> Iterator[None]:
        """Yields again and again while the process lives; fails in plain words afterwards."""
        deadline = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            yield
            time.sleep(0.2)
        state = "hangs" if self.process.poll() is None else f"ended with status {self.process.returncode}"
        pytest.fail(f"Fettle {state} before it was ready. It said:\n{self.said() or '(nothing)'}", pytrace=False)


@contextmanager
def fettle(*arguments: str, home: Path, output: Path, **settings: str) -> Iterator[Started]:
    """`fettle serve` or `fettle open` on a home folder of its own, ended when the block is left."""
    environment = os.environ | {"FETTLE_HOME": str(home), "PYTHONUNBUFFERED": "1"} | settings
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", *arguments],
            env=environment,
            stdout=stream,
            stderr=stream,
            stdin=subprocess.DEVNULL,
        )
    try:
        yield Started(process, output)
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def browser_page(playwright: Playwright, home: Path, output: Path) -> Iterator[Page]:
    """The page of `fettle serve` in a headless Chromium."""
    executable = chromium(playwright)
    with fettle("serve", home=home, output=output) as started:
        address = started.wait_for(ADDRESS)
        browser = playwright.chromium.launch(executable_path=executable)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(address)
        yield page
        browser.close()


@contextmanager
def window_page(playwright: Playwright, home: Path, output: Path) -> Iterator[Page]:
    """The page inside the real desktop window, driven through the engine's debugging port."""
    if not importlib.util.find_spec("webview") or not importlib.util.find_spec("PySide6.QtWebEngineCore"):
        pytest.fail("The window's engine is not installed: run ./fettle test, or `uv sync --extra qt`.", pytrace=False)
    port = free_port()
    settings = {"QTWEBENGINE_REMOTE_DEBUGGING": f"127.0.0.1:{port}"}
    if not os.environ.get("DISPLAY"):
        settings["QT_QPA_PLATFORM"] = "offscreen"
    with fettle("open", home=home, output=output, **settings) as started:
        for _ in started.while_alive():
            try:
                browser = playwright.chromium.connect_over_cdp(
                    f"http://127.0.0.1:{port}", no_defaults=True, is_local=True
                )
            except Error:
                continue  # the engine does not listen yet
            break
        for _ in started.while_alive():
            if browser.contexts and browser.contexts[0].pages:
                break
        yield browser.contexts[0].pages[0]
        browser.close()


def chromium(playwright: Playwright) -> str:
    """A Chromium of this machine: from the path, or the one that Playwright installed."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if found := shutil.which(name):
            return found
    if Path(playwright.chromium.executable_path).is_file():
        return playwright.chromium.executable_path
    pytest.fail(
        "No Chromium was found. On Debian: apt-get install chromium. Elsewhere: playwright install chromium.",
        pytrace=False,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
