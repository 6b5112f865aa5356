"""Wheels made to do harm: none writes outside its environment, none runs in Fettle's own process, none is half there.

Each goes through uv's own download and, where reading the file another way could matter, through Fettle's for
large wheels. What uv does with each was seen with uv 0.13.8, on Linux.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hostile_wheels import AT_START, CANARY, FILE_NAME, REFUSED, TAMED
from install_bench import Bench, Recorder
from small_index import SmallIndex, build_wheel, catalog_data

from env_manager.errors import EnvError
from env_manager.generations import Generation, Store
from env_manager.planning.catalog import Catalog
from env_manager.planning.catalog_file import parse_catalog
from env_manager.proving.startup import startup_code

pytestmark = pytest.mark.env

OVER_UV, OVER_US = 2**40, 100
ROUTES = {"uv": OVER_UV, "fettle": OVER_US}
# How the file is read differs between a stream and a file on the disk: these are tried in both ways.
BOTH_WAYS = {"climbs", "through-a-link", "two-wheels", "two-wheels-the-other-way", "other-name-inside", "lying-size"}
CASES = [(kind, "uv") for kind in REFUSED] + [(kind, "fettle") for kind in REFUSED if kind in BOTH_WAYS]


def one_step() -> Catalog:
    """Only the first package, which is required."""
    data = catalog_data()
    return parse_catalog(data | {"steps": data["steps"][:1], "holds": []})


class Hostile(Bench):
    """A store with a good environment, an index, and a folder outside that nothing may touch."""

    outside: Path

    def offer(self, wheel: bytes) -> None:
        (self.wheels / FILE_NAME).write_bytes(wheel)

    def take(self, route: str = "uv", **options: object) -> Generation:
        return self.install(catalog=replace(one_step(), large_wheel_bytes=ROUTES[route]), **options)

    def touched(self) -> list[str]:
        """What came to be outside the home, wherever a climbing path may have led."""
        nearby = [self.outside, self.outside.parent, self.store.root, self.store.root.parent, Path("/")]
        found = [file for folder in nearby for file in folder.glob(f"*{CANARY}")]
        return sorted({str(file) for file in found if "\\" not in file.name})


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hostile]:
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_", "PYTHON")):
            monkeypatch.delenv(name)
    wheels = tmp_path / "wheels"
    build_wheel(wheels, "fx-first", "0.9")
    index = SmallIndex(wheels)
    for name, value in {"PIP_INDEX_URL": index.url, "PIP_CONFIG_FILE": os.devnull, "UV_HTTP_RETRIES": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    bench = Hostile(Store(tmp_path / "home"), index, wheels)
    bench.outside = tmp_path / "outside"
    bench.outside.mkdir()
    yield bench
    index.close()


@pytest.mark.parametrize(("kind", "route"), CASES)
def test_a_wheel_that_contradicts_itself_is_refused_by_name(hostile, kind, route):
    """Nothing of it becomes active, nothing is outside, and the build folder is gone."""
    before = hostile.take(overrides={"fx-first": "0.9"})
    hostile.offer(REFUSED[kind](hostile.outside))
    with pytest.raises(EnvError) as caught:
        hostile.take(route)
    unreadable = kind in ("without-metadata", "info-of-another")  # no resolve gets as far as choosing it
    assert caught.value.code == ("resolve-impossible" if unreadable else "package-malformed"), caught.value.message
    assert hostile.touched() == []
    assert hostile.store.active_id() == before.id
    assert list(hostile.store.envs.glob(".build-*")) == []


@pytest.mark.parametrize(
    ("kind", "route"), [(kind, "uv") for kind in TAMED] + [(kind, "fettle") for kind in TAMED if kind in BOTH_WAYS]
)
def test_a_wheel_that_reaches_outside_writes_nothing_there(hostile, kind, route):
    """uv leaves out what leads elsewhere; what is installed are plain files below the environment."""
    hostile.offer(TAMED[kind](hostile.outside))
    own = {file.name: file.read_text() for file in hostile.outside.iterdir()}
    generation = hostile.take(route)
    assert hostile.touched() == []
    assert {file.name: file.read_text() for file in hostile.outside.iterdir()} == own
    site = next(generation.env.glob("lib/python*/site-packages"))
    assert [file for file in site.rglob("*") if file.is_symlink()] == []
    assert (site / "fx_first/__init__.py").read_text() == '__version__ = "1.0"\n'


@pytest.mark.parametrize("name", AT_START)
def test_code_that_runs_at_the_start_of_python_is_told_before_it_runs(hostile, name):
    """It never runs in Fettle's own process; the log tells of it before a Python of the environment starts."""
    hostile.offer(AT_START[name](hostile.outside))
    ran_when_told: list[bool] = []

    class Listening(Recorder):
        def log(self, line: str) -> None:
            super().log(line)
            if name in line and "runs whenever Python starts" in line:
                ran_when_told.append((hostile.outside / CANARY).exists())

    generation = hostile.take(report=Listening())
    assert ran_when_told == [False]
    (told,) = [check for check in generation.checks if check["name"] == "startup"]
    assert name in told["evidence"] and "fx-first" in told["evidence"]


def test_an_environment_without_such_code_says_so(hostile):
    """A `.pth` file that only names folders is no code."""
    build_wheel(hostile.wheels, "fx-first", "1.0", extra={"fx_paths.pth": "fx_first\n# import this\n"})
    generation = hostile.take()
    assert startup_code(generation.env) == {}
    assert "No package runs code when Python starts." in [check["evidence"] for check in generation.checks]


def test_a_source_archive_is_never_built_even_where_it_is_newer(hostile):
    """Its setup.py is a canary; the older wheel is taken, and without any wheel the installation is refused."""
    canary = hostile.outside / CANARY
    for version in ("1.0", "2.0"):
        setup = f"open({str(canary)!r}, 'w').write('ran')\nfrom setuptools import setup\nsetup(name='fx-first')\n"
        with tarfile.open(hostile.wheels / f"fx_first-{version}.tar.gz", "w:gz") as archive:
            for file, text in (("setup.py", setup), ("PKG-INFO", f"Name: fx-first\nVersion: {version}\n")):
                member = tarfile.TarInfo(f"fx_first-{version}/{file}")
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text.encode()))
    with pytest.raises(EnvError) as caught:
        hostile.take()
    assert caught.value.code in ("package-missing", "resolve-impossible")
    assert not canary.exists()


def test_a_wheel_for_another_system_is_not_taken(hostile):
    """Its name says where it belongs; there is no other, so nothing is installed."""
    build_wheel(hostile.wheels, "fx-first", "1.0", tag="cp311-cp311-win_amd64")
    with pytest.raises(EnvError) as caught:
        hostile.take()
    assert caught.value.code in ("package-missing", "resolve-impossible")


def test_a_package_that_writes_over_anothers_file_is_noticed(hostile):
    """The other's RECORD names another size: the environment is refused, not handed over with a changed library."""
    build_wheel(hostile.wheels, "fx-first", "1.0", requires=["fx-thief"])
    build_wheel(hostile.wheels, "fx-thief", "1.0", extra={"fx_first/__init__.py": "stolen = True\n" * 20})
    with pytest.raises(EnvError) as caught:
        hostile.take()
    assert caught.value.code == "environment-torn"
