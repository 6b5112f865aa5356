"""The real stack, installed once through the product, for all tests of this tier."""

from __future__ import annotations

from typing import Any

import pytest
from product import Fettle


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fettle, dict[str, Any]]:
    """An empty home, taken by `fettle demo` to a tuned model; the demo's last line comes with it."""
    fettle = Fettle(tmp_path_factory.mktemp("real") / "home with spaces")
    return fettle, fettle("demo")[-1]


@pytest.fixture
def fettle(demo: tuple[Fettle, dict[str, Any]]) -> Fettle:
    """The command over the home in which everything is installed."""
    return demo[0]
