"""For every test: no skip counts as passed, and no test touches the user's own Fettle."""

from __future__ import annotations

from pathlib import Path

import pytest

# These need torch: `real/test_in_managed_environment.py` runs them inside the installed environment.
collect_ignore = ["managed"]


@pytest.fixture(autouse=True)
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home folder of the test's own."""
    home = tmp_path / "fettle"
    monkeypatch.setenv("FETTLE_HOME", str(home))
    return home


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A test that was skipped has proved nothing, so the session fails."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
