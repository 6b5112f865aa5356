"""The fault tests use the same small index as the tests of the environment manager, and tell where faults landed."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "env_manager"))

import landings
from small_index import SmallIndex, fill


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the histograms, in a run that passes too."""
    for report in landings.REPORTS:
        terminalreporter.section("where the faults landed")
        terminalreporter.write_line(report)


@pytest.fixture(scope="module")
def bare_environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment without anybody's settings of pip, uv and Python."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "PYTHON"))}
    config = tmp_path_factory.mktemp("config")
    # Python must not write bytecode of its own: it would shift the count of the calls that are aimed at.
    return environ | {"PIP_CONFIG_FILE": os.devnull, "XDG_CONFIG_HOME": str(config), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="module")
def fast_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory where the system has one: a killed process loses nothing that it wrote, synced or not."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path_factory.mktemp("homes")
        return
    folder = Path(tempfile.mkdtemp(dir=memory, prefix="fettle-faults-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def small_index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallIndex]:
    """The wheels of the small catalog, served well, with one more version of the first."""
    wheels = tmp_path_factory.mktemp("wheels")
    fill(wheels, payload=20_000)
    index = SmallIndex(wheels)
    yield index
    index.close()
