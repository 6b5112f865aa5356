"""One page a test, in a browser or in the window, on a home folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from opened_page import Opened
from playwright.sync_api import Playwright, sync_playwright
from targets import browser_page, window_page

RESULTS = Path(__file__).parents[2] / "test-results" / "e2e"
TARGETS = {"browser": browser_page, "window": window_page}


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def package_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One package cache for both targets: the first downloads, the second proves that the cache is enough."""
    return tmp_path_factory.mktemp("package-cache")


@pytest.fixture(params=TARGETS)
def opened(
    request: pytest.FixtureRequest,
    playwright: Playwright,
    tmp_path: Path,
    package_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Opened]:
    monkeypatch.setenv("UV_CACHE_DIR", str(package_cache))
    pictures = RESULTS / request.param
    pictures.mkdir(parents=True, exist_ok=True)
    for old in pictures.glob("*.png"):
        old.unlink()
    home = tmp_path / "home"
    with TARGETS[request.param](playwright, home, pictures / "output.txt") as page:
        opened = Opened(page, home, pictures)
        opened.listen()
        try:
            yield opened
        finally:
            opened.picture("last")
