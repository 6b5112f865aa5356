"""What every test of the environment manager runs in: a shell without anybody's pip or uv settings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest
from install_bench import Bench, Recorder
from run_bench import built
from small_index import SmallIndex, fill

from env_manager.generations import Generation, Store
from env_manager.proving.verify import site_packages


@pytest.fixture(autouse=True)
def bare_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Strip every setting of pip, uv and Python from the environment and from the user's files."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_", "PYTHON")) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """An empty store beside a good index that pip's configuration names."""
    wheels = tmp_path / "wheels"
    fill(wheels)
    index = SmallIndex(wheels)
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    # uv's patience with a bad network is not what these tests are about.
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    yield Bench(Store(tmp_path / "home"), index, wheels)
    if index.thread.is_alive():
        index.close()


@pytest.fixture
def generation(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Generation:
    """A small environment whose transformers names the starter's type; it has no pydantic, so no run gets far."""
    monkeypatch.setenv("FETTLE_HOME", str(bench.store.root))
    generation = bench.install()
    shutil.copytree(Path(filelock.__file__).parent, site_packages(generation.env) / "filelock")
    built(generation, "transformers/__init__.py", "__version__ = '1.0'\n")
    built(generation, "transformers/models/auto/configuration_auto.py", 'CONFIG_MAPPING = dict([("llama", "C")])\n')
    return generation
