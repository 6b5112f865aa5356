"""The lock of an earlier generation: taken while nothing that decides it has changed, and never else."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace

import pytest
from install_bench import Bench, Recorder
from small_index import CPU_MACHINE, build_wheel, small_catalog

from env_manager.generations import MANIFEST, Generation
from env_manager.planning.interpreter import identity_of, still_best

pytestmark = pytest.mark.env


def resolved(bench: Bench, **options: object) -> tuple[Generation, bool]:
    """A new generation, and whether its versions were looked for."""
    recorder = Recorder()
    generation = bench.install(report=recorder, **options)
    return generation, any(line.startswith("$ uv pip compile requirements.in") for line in recorder.lines)


def test_the_same_installation_has_the_same_versions_on_every_day(bench):
    """A dependency released since does not slip in, and the index is not asked for anything."""
    first, looked = resolved(bench)
    assert looked and "fx-base" in first.packages
    build_wheel(bench.wheels, "fx-base", "1.6")
    bench.index.close()
    again, looked = resolved(bench)
    assert not looked
    assert (again.packages, again.lock_sha256) == (first.packages, first.lock_sha256)


def test_a_package_cleared_from_the_cache_is_fetched_again(bench):
    """The cache goes first and the index second."""
    first, _ = resolved(bench)
    shutil.rmtree(bench.store.cache)
    again, looked = resolved(bench)
    assert not looked and again.lock_sha256 == first.lock_sha256


def test_a_lock_whose_files_are_gone_is_resolved_anew(bench):
    """From the index as it is now, in the same installation."""
    first, _ = resolved(bench)
    build_wheel(bench.wheels, "fx-first", "1.0", source="changed = True\n")
    shutil.rmtree(bench.store.cache)
    again, looked = resolved(bench)
    assert looked and again.lock_sha256 != first.lock_sha256
    assert bench.store.active_id() == again.id
    assert not list(bench.store.envs.glob(".build-*"))


@pytest.mark.parametrize("what", ["override", "catalog", "index", "wheel-folder", "allowance"])
def test_whatever_decides_a_lock_brings_a_resolve(bench, what, tmp_path, monkeypatch):
    """Other versions asked for, another catalog, another index, a wheel put into a local folder."""
    links = tmp_path / "links"
    links.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    resolved(bench)
    options: dict[str, object] = {}
    if what == "override":
        options["overrides"] = {"fx-first": "1.1"}
    elif what == "catalog":
        options["catalog"] = replace(small_catalog(), date="2030-01-01")
    elif what == "index":
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", bench.index.url)
    elif what == "allowance":
        options["allow_large"] = True
    else:
        build_wheel(links, "fx-base", "1.6")
    assert resolved(bench, **options)[1]
    assert not resolved(bench, **options)[1]


def test_another_machine_that_plans_the_same_takes_the_lock(bench):
    """Its proof does not count there, its versions do."""
    resolved(bench)
    assert not resolved(bench, hardware=replace(CPU_MACHINE, driver="580.65"))[1]


@pytest.mark.parametrize("name", ["requirements.lock", "pylock.toml", MANIFEST])
def test_a_record_that_is_not_whole_is_not_taken(bench, name):
    """An altered lock, a lost list of wheels, a manifest without the plan."""
    first, _ = resolved(bench)
    if name == MANIFEST:
        record = json.loads((first.folder / name).read_text())
        del record["plan"]["steps"]
        (first.folder / name).write_text(json.dumps(record))
    elif name == "pylock.toml":
        (first.folder / name).unlink()
    else:
        with (first.folder / name).open("a") as out:
            out.write("# more\n")
    assert resolved(bench)[1]


def test_what_an_index_did_not_have_is_asked_for_again(bench):
    """A package of an optional step that was left out comes as soon as it is there."""
    wheel = next(bench.wheels.glob("fx_third-1.0*"))
    wheel.rename(bench.wheels / "away")
    first, _ = resolved(bench)
    assert "fx-third" not in first.packages
    (bench.wheels / "away").rename(wheel)
    again, looked = resolved(bench)
    assert looked and "fx-third" in again.packages


def test_an_unchanged_interpreter_is_not_looked_for(tmp_path):
    """A replaced one is, and so is one that is not of the preferred version."""
    python = tmp_path / "python"
    python.write_text("one")
    record = {"path": str(python), "version": "3.11", "reason": "why", "identity": identity_of(python)}
    found = still_best([{"path": sys.executable, "version": "3.11", "reason": "old record"}, record], ["3.11", "3.12"])
    assert found and found.path == str(python)
    assert still_best([record], ["3.12", "3.11"]) is None
    python.write_text("another")
    assert still_best([record], ["3.11"]) is None
    python.unlink()
    assert still_best([record], ["3.11"]) is None
