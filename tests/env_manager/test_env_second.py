"""A second generation: the recorded proof counts exactly where it holds, and bytecode is shared."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from install_bench import Bench, Recorder
from small_index import CPU_MACHINE, build_wheel

from env_manager.build_steps import StepRunner
from env_manager.errors import UvFailed
from env_manager.generations import MANIFEST, Generation
from env_manager.hardware import Gpu
from env_manager.keeping.disk_use import inodes, total
from env_manager.planning.resolve import Locked
from env_manager.proving import proof
from env_manager.proving.preflight import check
from env_manager.uv import find_uv

pytestmark = pytest.mark.env


def probed(bench: Bench, **options: object) -> tuple[Generation, bool]:
    """A new generation, and whether anything was probed for it."""
    recorder = Recorder()
    generation = bench.install(report=recorder, **options)
    ran = any("FETTLE-PROBE" in line for line in recorder.lines)
    assert ran == (generation.proved_by is None)
    return generation, ran


def test_the_same_lock_machine_and_interpreter_are_not_probed_again(bench):
    """Every finding is there, says where it comes from, and steps are done."""
    first, ran = probed(bench)
    assert ran
    for _ in range(2):
        again, ran = probed(bench)
        assert not ran
        assert again.proved_by == first.id
        assert [check["name"] for check in again.checks] == [check["name"] for check in first.checks]
        evidence = [check["evidence"] for check in again.checks if check["name"].startswith("import:")]
        assert evidence and all(each.count(f"proved in {first.id}") == 1 for each in evidence)
        assert [step["state"] for step in again.steps] == ["done"] * 3
        assert all(first.id in step["probe"] for step in again.steps)


def packages_a_step(bench: Bench, generation: Generation) -> list[int]:
    """How many packages each call of uv was asked for; uv tells them in the installation's log."""
    log = (generation.folder / "install.log").read_text()
    return [int(count) for count in re.findall(r"^Installed (\d+) package", log, re.MULTILINE)]


def test_what_is_proved_and_cached_is_laid_down_at_once(bench):
    """Step by step the first time and where something is to be fetched; by one call of uv otherwise."""
    first, _ = probed(bench)
    again, ran = probed(bench)
    assert not ran and packages_a_step(bench, again) == [sum(packages_a_step(bench, first))]
    assert len(packages_a_step(bench, first)) == 3
    shutil.rmtree(bench.store.cache)
    fetched, ran = probed(bench)
    assert not ran and packages_a_step(bench, fetched) == packages_a_step(bench, first)
    assert fetched.packages == again.packages == first.packages


def test_what_cannot_be_laid_down_at_once_is_installed_step_by_step(bench, monkeypatch):
    """A failure of the one call costs its time only."""
    first, _ = probed(bench)
    run_uv = StepRunner._run_uv

    def failing(runner: StepRunner, name: str, packages: Sequence[Locked], *rest: object) -> None:
        if len(packages) == len(first.packages):
            raise UvFailed("uv-failed", "The cache could not be read.", "", output="")
        run_uv(runner, name, packages, *rest)

    monkeypatch.setattr(StepRunner, "_run_uv", failing)
    again, ran = probed(bench)
    assert not ran and packages_a_step(bench, again) == packages_a_step(bench, first)
    assert [step["state"] for step in again.steps] == ["done"] * 3


@pytest.mark.skipif(os.name == "nt", reason="the failing uv is a shell script")
@pytest.mark.parametrize("failures", [1, 2], ids=["with the cache alone", "with the network, too"])
def test_what_a_failing_uv_has_half_laid_down_is_laid_down_anew(bench, monkeypatch, tmp_path, failures):
    """uv takes a package that lies there for installed, even one of which only an empty RECORD was written."""
    first, _ = probed(bench)
    half = "env/lib/python3*/site-packages/fx_first-1.0.dist-info"
    failing = tmp_path / "uv"
    failing.write_text(
        f"""#!/bin/sh
        if [ "$1 $2" = "pip install" ] && [ $(ls "{tmp_path}" | grep -c failed) -lt {failures} ]; then
            touch "{tmp_path}/failed.$$"
            mkdir "$(echo {half.removesuffix("/fx_first-1.0.dist-info")})/fx_first-1.0.dist-info"
            printf 'Name: fx-first\nVersion: 1.0\n' > {half}/METADATA
            touch $(echo {half})/RECORD
            echo "error: Input/output error (os error 5)" >&2
            exit 2
        fi
        exec "{find_uv()}" "$@"
        """,
        encoding="utf-8",
    )
    failing.chmod(0o755)
    monkeypatch.setattr("env_manager.uv.find_uv", lambda: str(failing))
    recorder = Recorder()
    again = bench.install(report=recorder)
    assert len(list(tmp_path.glob("failed.*"))) == failures
    assert not any("not whole" in line for line in recorder.lines)
    assert again.proved_by == first.id and again.packages == first.packages
    assert all(found.ok for found in check(again))


def test_a_proof_outlives_the_generation_that_it_was_found_in(bench):
    """The findings are copied, not looked up."""
    first, _ = probed(bench)
    second, _ = probed(bench)
    from env_manager.keeping.removal import remove

    remove(bench.store, [first.id])
    third, ran = probed(bench)
    assert not ran and third.proved_by == second.proved_by == first.id


@pytest.mark.parametrize(
    "machine",
    [
        replace(CPU_MACHINE, driver="580.65"),
        replace(CPU_MACHINE, os_version="upgraded"),
        replace(CPU_MACHINE, cpu="another"),
        replace(CPU_MACHINE, gpus=(Gpu("new", "8.6", 1),)),
    ],
    ids=["driver", "system", "processor", "gpu"],
)
def test_another_machine_is_probed(bench, machine):
    """A driver update, a system upgrade, another processor or card."""
    probed(bench)
    assert probed(bench, hardware=machine)[1]


def test_less_memory_or_disk_is_the_same_machine(bench):
    """They change by the minute and no probe depends on them."""
    probed(bench)
    assert not probed(bench, hardware=replace(CPU_MACHINE, memory_bytes=1, disk_free_bytes=1))[1]


def test_another_lock_is_probed(bench):
    """One other version is another proof."""
    probed(bench)
    assert probed(bench, overrides={"fx-first": "1.1"})[1]


def test_the_same_version_with_another_hash_is_probed(bench):
    """The lock's hashes are part of what was proved."""
    probed(bench)
    build_wheel(bench.wheels, "fx-first", "1.0", source="changed = True\n")
    shutil.rmtree(bench.store.cache)
    assert probed(bench)[1]


def test_a_replaced_interpreter_is_probed(tmp_path):
    """The same path with another file behind it is another interpreter."""
    python = tmp_path / "python"
    python.write_text("one")
    before = proof.proof_key("lock", CPU_MACHINE.as_json(), str(python), ["numpy"])
    assert before == proof.proof_key("lock", CPU_MACHINE.as_json(), str(python), ["numpy"])
    python.write_text("other")
    assert before != proof.proof_key("lock", CPU_MACHINE.as_json(), str(python), ["numpy"])


def test_other_probes_are_run(tmp_path, monkeypatch):
    """Neither another list of probes, another GPU nor another way of probing is covered by an older proof."""
    python = tmp_path / "python"
    python.write_text("one")
    key = proof.proof_key("lock", CPU_MACHINE.as_json(), str(python), ["numpy"])
    assert key != proof.proof_key("lock", CPU_MACHINE.as_json(), str(python), ["numpy", "torch"])
    assert key != proof.proof_key("lock", CPU_MACHINE.as_json(), str(python), ["numpy"], ["GPU-1"])
    newer = tmp_path / "probe.py"
    newer.write_text("# proves more")
    monkeypatch.setattr(proof, "PROBE", newer)
    assert key != proof.proof_key("lock", CPU_MACHINE.as_json(), str(python), ["numpy"])


@pytest.mark.parametrize("edit", ["failed", "no-checks", "fewer", "no-key"])
def test_a_proof_that_does_not_cover_everything_does_not_count(bench, edit):
    """A failed finding, a missing one, a record from before proofs were kept."""
    first, _ = probed(bench)
    manifest = first.folder / MANIFEST
    record = json.loads(manifest.read_text())
    if edit == "failed":
        record["checks"][-1]["ok"] = False
    elif edit == "no-checks":
        record["checks"] = []
    elif edit == "fewer":
        record["checks"] = record["checks"][:-1]
    else:
        del record["proof"], record["proved_by"]
    manifest.write_text(json.dumps(record))
    assert probed(bench)[1]


def test_an_optional_step_that_failed_is_tried_again(bench):
    """What failed once may work now: its failure is no proof."""
    build_wheel(bench.wheels, "fx-third", "1.0", source="raise OSError('libthird.so: bad')\n")
    first, _ = probed(bench)
    assert first.steps[-1]["state"] == "failed"
    assert probed(bench)[1]


def compiled(generation: Generation) -> dict[str, Path]:
    """Every compiled file of a generation by its place below site-packages."""
    return {path.relative_to(generation.env).as_posix(): path for path in generation.env.glob("lib/**/fx_*/**/*.pyc")}


def test_bytecode_is_shared_where_the_source_is_the_same_file(bench):
    """Also between generations that differ: only the changed package is compiled again."""
    first = bench.install()
    same = bench.install()
    other = bench.install(overrides={"fx-first": "1.1"})
    assert compiled(first)
    for generation, own in ((same, set()), (other, {"fx_first"})):
        here, there = compiled(generation), compiled(first)
        assert here.keys() == there.keys()
        for name in here:
            assert os.path.samefile(here[name], there[name]) == (name.split("/")[-3] not in own), name


def test_shared_bytecode_tells_the_path_of_its_own_generation(bench):
    """Tracebacks name the file that runs, and the compiled file is really used."""
    bench.install()
    again = bench.install()
    code = (
        "import importlib.util, sys; sys.dont_write_bytecode = True; import fx_second;"
        " print(fx_second.__spec__.loader.get_code('fx_second').co_filename);"
        " print(open(importlib.util.cache_from_source(fx_second.__file__), 'rb').read(4) == importlib.util.MAGIC_NUMBER)"
    )
    done = subprocess.run(
        [str(again.python), "-I", "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    path, used = done.stdout.split()
    assert Path(path).is_relative_to(again.env) and used == "True"


def test_compiling_again_does_not_write_into_the_other_generation(bench):
    """A source that is touched is compiled anew here, and the other's compiled file stays as it was."""
    first = bench.install()
    again = bench.install()
    before = {name: path.read_bytes() for name, path in compiled(first).items()}
    source = next(again.env.glob("lib/**/fx_second/__init__.py"))
    text = source.read_text()
    source.unlink()
    source.write_text(text + "changed = True\n")
    subprocess.run([str(again.python), "-I", "-c", "import fx_second"], timeout=120, check=True)
    assert {name: path.read_bytes() for name, path in compiled(first).items()} == before
    name = next(name for name in before if "fx_second" in name)
    assert compiled(again)[name].read_bytes() != before[name]


def test_a_second_identical_generation_takes_little_of_the_disk(bench):
    """Bytecode counted; what is left are the records and launchers of the environment itself."""
    first = bench.install()
    whole = total(inodes(first.folder).values())
    again = bench.install()
    shared = inodes(first.folder, bench.store.cache)
    own = total(file for id, file in inodes(again.folder).items() if id not in shared)
    assert own < whole / 2  # small wheels: their share is large; the real stack's is in the benchmark
    assert not any(".pyc" in path for path in _own_names(again, shared))


def _own_names(generation: Generation, shared: object) -> list[str]:
    found = []
    for path in generation.folder.rglob("*"):
        stat = path.lstat()
        if path.is_file() and not path.is_symlink() and (stat.st_dev, stat.st_ino) not in shared:  # type: ignore[operator]
            found.append(path.name)
    return found


def test_bytecode_that_was_spoilt_since_the_proof_is_not_shared(bench):
    """Python would believe it by its source's time and fail: the new environment compiles the module itself."""
    first = bench.install()
    file = next(path for name, path in compiled(first).items() if "fx_first" in name)
    header = file.read_bytes()[:16]
    file.write_bytes(header + b"torn")
    os.utime(file, (time.time() + 5,) * 2)
    again = bench.install()
    assert not (again.env / file.relative_to(first.env)).exists()
    subprocess.run([str(again.python), "-I", "-c", "import fx_first"], timeout=120, check=True)


def test_a_package_of_which_the_cache_has_only_a_part_is_fetched_again(bench, recorder):
    """As after a disk fault: its probe fails, but it is not the package that is broken."""
    bench.install()
    for module in bench.store.cache.glob("archive-v*/*/fx_second/__init__.py"):
        shutil.rmtree(module.parent)
    for record in bench.store.envs.glob("*/generation.json"):
        shutil.rmtree(record.parent)  # so that nothing counts as proved
    generation = bench.install(report=recorder)
    assert [step["state"] for step in generation.steps] == ["done", "done", "done"]
    assert any("Fetching those packages again" in line for line in recorder.lines)
