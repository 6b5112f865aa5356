"""An installation with the real uv and small wheels: what is on disk afterwards, whatever happened."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from dataclasses import astuple
from pathlib import Path

import pytest
from install_bench import Recorder
from small_index import build_wheel, catalog_data, small_catalog

from env_manager.errors import EnvError, InstallStopped
from env_manager.fetching.wheels import WheelSize
from env_manager.generations import Generation, Store
from env_manager.planning.catalog_file import parse_catalog
from env_manager.planning.resolve import parse_lock
from env_manager.progress import StepProgress
from env_manager.proving.preflight import check

pytestmark = pytest.mark.env


def runs(generation: Generation, code: str) -> str:
    """What the generation's own interpreter prints for a line of code."""
    done = subprocess.run(
        [str(generation.python), "-I", "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout.strip()


def refused(bench, **options) -> EnvError:
    """The error of an installation that must fail, with nothing of it left behind."""
    before = bench.store.active_id()
    with pytest.raises(EnvError) as caught:
        bench.install(**options)
    assert bench.store.active_id() == before
    assert list(bench.store.envs.glob(".build-*")) == []
    assert caught.value.message and caught.value.remedy
    return caught.value


def test_a_first_installation_is_active_complete_and_recorded(bench, recorder):
    """The generation is the active one, runs, and its record names all versions, steps and proofs."""
    generation = bench.install(report=recorder, name="first try")
    assert bench.store.active().id == generation.id
    assert runs(generation, "import fx_second; print(fx_second.fx_base.__version__)") == "1.5"
    record = json.loads((generation.folder / "generation.json").read_text())
    assert record["packages"] == {"fx-first": "1.0", "fx-second": "1.0", "fx-third": "1.0", "fx-base": "1.5"}
    assert (bench.store.active().name, bench.store.active().serial) == ("first try", 1)
    assert [step["state"] for step in record["steps"]] == ["done", "done", "done"]
    assert all(found["ok"] for found in record["checks"])
    assert (generation.folder / "install.log").read_text().count("$ uv") >= 5


def test_every_step_installs_only_what_the_lock_names_with_its_hash(bench):
    """The lock holds a hash for every package, and the environment holds exactly the lock."""
    generation = bench.install()
    lock = parse_lock((generation.folder / "requirements.lock").read_text())
    assert lock.versions == generation.packages
    assert all(package.hashes for package in lock.packages)
    assert lock.sha256 == generation.lock_sha256
    site = next(generation.env.glob("[Ll]ib/**/site-packages"))
    infos = {info.name.split("-")[0] for info in site.glob("*.dist-info")}
    assert infos == {name.replace("-", "_") for name in generation.packages}


def test_a_hold_keeps_a_newer_version_out(bench):
    """base 2.0 is on the index and allowed by second's metadata; the hold keeps it at 1.5."""
    assert bench.install().packages["fx-base"] == "1.5"


def test_a_dependency_goes_to_the_first_step_that_needs_it(bench, recorder):
    """second's own dependency is installed with second and not before."""
    bench.install(report=recorder)
    assert recorder.last("first").packages == ("fx-first==1.0",)
    assert recorder.last("second").packages == ("fx-base==1.5", "fx-second==1.0")


def test_an_override_replaces_one_version_and_is_recorded(bench):
    """A second generation differs in exactly the package that was asked for."""
    first = bench.install()
    second = bench.install(overrides={"fx-first": "1.1"})
    changed = {name for name in first.packages if first.packages[name] != second.packages[name]}
    assert changed == {"fx-first"}
    assert second.overrides == {"fx-first": "1.1"}
    assert runs(second, "import fx_first; print(fx_first.__version__)") == "1.1"
    assert runs(first, "import fx_first; print(fx_first.__version__)") == "1.0"


def test_an_override_may_name_what_is_only_pulled_in(bench):
    """A package that no step lists can be narrowed too."""
    assert bench.install(overrides={"fx-base": "1.0"}).packages["fx-base"] == "1.0"


@pytest.mark.parametrize(
    ("overrides", "code"),
    [
        ({"fx-base": "2.0"}, "override-held"),
        ({"fx-nowhere": "1.0"}, "override-unknown"),
        ({"fx-first": "9.9"}, "package-missing"),
        ({"fx-first": "not a version"}, "override-invalid"),
    ],
)
def test_an_impossible_override_is_refused_by_name(bench, overrides, code):
    """Each kind of impossible override has its own code."""
    assert refused(bench, overrides=overrides).code == code


def test_the_second_installation_needs_no_index(bench):
    """With everything in the cache an installation works with the index out of reach."""
    bench.install()
    bench.index.close()
    again = bench.install()
    assert bench.store.active().id == again.id


def test_a_cached_wheel_is_not_fetched_again(bench):
    """A second generation asks the index for no wheel."""
    bench.install()
    sent = list(bench.index.wheels_sent)
    bench.install()
    assert bench.index.wheels_sent == sent


def test_files_of_one_size_are_shared_between_generations(bench):
    """The second generation links its files: the payload exists once on the disk."""
    first, second = bench.install(), bench.install()
    payload = "lib/python*/site-packages/fx_first/payload.bin"
    one, two = next(first.env.glob(payload)), next(second.env.glob(payload))
    assert os.stat(one).st_ino == os.stat(two).st_ino


def test_progress_tells_real_bytes(bench, recorder):
    """The total is what the wheels weigh on the network, bytes only grow, and a done step has all of them."""
    bench.install(report=recorder)
    for id in ("first", "second", "third"):
        told = [step for step in recorder.steps if step.id == id]
        done = [step.bytes_done for step in told]
        assert done == sorted(done)
        assert told[-1].bytes_done == told[-1].bytes_total > 0
    assert recorder.last("first").bytes_total == next(bench.wheels.glob("fx_first-1.0-*")).stat().st_size


def test_an_index_without_ranges_tells_sizes_by_length(bench, recorder):
    """Where the end of a wheel cannot be read its length is still told."""
    bench.index.ranges = False
    bench.install(report=recorder)
    assert recorder.last("first").bytes_total == next(bench.wheels.glob("fx_first-1.0-*")).stat().st_size


def test_an_index_that_tells_no_sizes_still_installs(bench, recorder):
    """Without any length totals are unknown, not invented, and what is unpacked is counted."""
    bench.index.behaviour = "no-length"
    bench.index.ranges = False
    bench.install(report=recorder)
    assert recorder.last("first").bytes_total is None
    assert recorder.last("first").bytes_done >= 200_000


def test_what_is_in_the_cache_is_not_counted_as_download(bench, recorder):
    """A second generation comes from the cache: nothing of nothing."""
    bench.install()
    bench.install(report=recorder)
    assert {(step.bytes_done, step.bytes_total) for step in recorder.steps} == {(0, 0)}


def test_an_optional_step_may_fail_and_stays_visible(bench):
    """A third package that cannot be imported leaves a working generation with a failed step."""
    build_wheel(bench.wheels, "fx-third", "1.0", source="raise OSError('libthird.so: bad')\n")
    generation = bench.install()
    third = generation.steps[2]
    assert third["state"] == "failed"
    assert "libthird.so: bad" in third["reason"]
    assert bench.store.active().id == generation.id


def test_an_optional_step_that_cannot_be_resolved_is_left_out(bench):
    """If the index lacks an optional package the rest is installed and the reason is recorded."""
    next(bench.wheels.glob("fx_third-*.whl")).unlink()
    generation = bench.install()
    assert "fx-third" not in generation.packages
    assert generation.steps[2]["state"] == "skipped"
    assert [left["package"] for left in generation.plan["left_out"]] == ["fx-third"]


def test_a_required_step_that_breaks_fails_the_installation(bench):
    """A broken library raises OSError, not ImportError: the probe names it, nothing is activated."""
    build_wheel(bench.wheels, "fx-first", "1.0", source="raise OSError('libfirst.so: bad')\n")
    error = refused(bench)
    assert error.code == "probe-failed"
    assert "libfirst.so: bad" in error.message
    assert error.log is not None and "libfirst.so" in error.log.read_text()


def test_a_library_that_crashes_the_interpreter_is_a_named_finding(bench):
    """A segmentation fault in a probe is reported as such, with the name of the package."""
    crash = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"
    build_wheel(bench.wheels, "fx-second", "1.0", requires=["fx-base"], source=crash)
    error = refused(bench)
    assert error.code == "probe-failed"
    assert "SIGSEGV" in error.message and "fx_second" in error.message


def test_the_old_environment_survives_a_failed_installation(bench):
    """After a failure the active generation is the old one and whole."""
    old = bench.install()
    build_wheel(bench.wheels, "fx-first", "1.1", source="raise RuntimeError\n")
    refused(bench, overrides={"fx-first": "1.1"})
    assert bench.store.active().id == old.id
    assert all(found.ok for found in check(bench.store.active()))


def test_only_wheels_are_installed(bench, tmp_path):
    """A source archive on the index is never built, since that runs its code."""
    for wheel in bench.wheels.glob("fx_third-*.whl"):
        wheel.unlink()
    data = catalog_data()
    data["steps"][2]["optional"] = False
    (bench.wheels / "fx_third-1.0.tar.gz").write_bytes(b"canary")
    assert refused(bench, catalog=parse_catalog(data)).code == "resolve-impossible"


def test_a_cancelled_installation_stops_and_leaves_nothing(bench):
    """Cancelling while a wheel is on its way ends uv and removes the build folder."""
    old = bench.install()
    bench.index.seconds_per_wheel = 30
    stop = threading.Event()

    def on_step(progress: StepProgress) -> None:
        if progress.id == "first" and progress.state == "running":
            stop.set()

    report = Recorder(on_step=on_step)
    with pytest.raises(InstallStopped):
        bench.install(report=report, cancelled=stop.is_set, overrides={"fx-first": "1.1"})
    assert list(bench.store.envs.glob(".build-*")) == []
    assert bench.store.active().id == old.id
    assert not bench.store.installing()


def test_two_installations_at_once_are_refused(bench):
    """The second one says so at once and changes nothing."""
    with bench.store.install_lock():
        assert bench.store.installing()
        assert refused(bench).code == "install-running"


def test_an_index_out_of_reach_is_named(bench):
    """A refused connection."""
    bench.index.close()
    assert refused(bench).code == "index-unreachable"


def test_a_host_that_does_not_exist_is_named(bench, monkeypatch):
    """A failing name lookup, as without any network."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://index.invalid/simple")
    assert refused(bench).code == "index-unreachable"


def test_an_index_that_never_answers_is_named(bench, monkeypatch):
    """A server that accepts and then says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        monkeypatch.setenv("PIP_TIMEOUT", "1")
        assert refused(bench).code == "index-unreachable"


@pytest.mark.parametrize(
    ("behaviour", "codes"),
    [
        ("error-500", {"index-unreachable"}),
        ("login-page", {"package-missing"}),
        ("garbage-wheels", {"index-invalid"}),
        ("truncated-wheels", {"index-invalid", "index-unreachable"}),
        ("wrong-hash", {"hash-mismatch"}),
    ],
)
def test_a_bad_index_is_named_and_changes_nothing(bench, behaviour, codes):
    """Every kind of bad answer has its code; the active environment stays whole."""
    old = bench.install()
    bench.index.behaviour = behaviour
    bench.index.ranges = False
    error = refused(bench, overrides={"fx-first": "1.1"})
    assert error.code in codes, error.message
    assert all(found.ok for found in check(old))


def test_a_wheel_swapped_after_the_lock_is_refused(bench):
    """The lock's hash, not the index, decides what is installed."""

    def swap(progress: StepProgress) -> None:
        if progress.id == "first" and progress.state == "running":
            build_wheel(bench.wheels, "fx-second", "1.0", source="print('other')\n")

    assert refused(bench, report=Recorder(on_step=swap)).code == "hash-mismatch"


def test_what_cannot_fit_on_the_disk_is_refused_before_anything_is_written(bench):
    """A wheel known to unpack to more than is free stops the installation before it is fetched."""
    url = bench.index.url.replace("/simple", "/wheels/fx_first-1.0-py3-none-any.whl")
    known = bench.store.root / "cache/wheel-sizes.json"
    known.parent.mkdir(parents=True)
    known.write_text(json.dumps({url: astuple(WheelSize(1000, 2**60, 2**60))}))
    error = refused(bench)
    assert error.code == "disk-full"
    assert "are free" in error.message
    assert bench.index.wheels_sent == []


def test_nothing_of_the_callers_python_leaks_in(bench, monkeypatch, tmp_path):
    """PYTHONPATH and VIRTUAL_ENV of the caller reach neither uv nor the probes."""
    poison = tmp_path / "poison"
    (poison / "fx_first").mkdir(parents=True)
    (poison / "fx_first/__init__.py").write_text("raise RuntimeError('leaked')\n")
    monkeypatch.setenv("PYTHONPATH", str(poison))
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "nowhere"))
    assert bench.install().packages["fx-first"] == "1.0"


def test_a_home_with_spaces_and_other_letters_works(bench, tmp_path):
    """The folder may be called as the user likes."""
    bench.store = Store(tmp_path / "My Földer 名前")
    assert runs(bench.install(), "import fx_first; print(1)") == "1"


def test_the_record_names_no_absolute_path_of_itself(bench):
    """A generation can be moved with its home: nothing it recorded points at the old place."""
    generation = bench.install()
    assert str(bench.store.root) not in (generation.folder / "generation.json").read_text()


def test_the_users_own_cache_is_used(bench, monkeypatch, tmp_path):
    """UV_CACHE_DIR is the user's choice."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache-of-user"))
    bench.install()
    assert (tmp_path / "cache-of-user").is_dir()
    assert not bench.store.cache.exists()


def test_the_small_catalog_is_a_catalog():
    """The catalog of these tests goes through the same checks as the real one."""
    assert [step.id for step in small_catalog().steps] == ["first", "second", "third"]


def test_a_wheel_folder_from_pips_configuration_is_enough(bench, monkeypatch, tmp_path):
    """With find-links and no-index nothing else is asked."""
    bench.index.close()
    monkeypatch.delenv("PIP_INDEX_URL")
    config = tmp_path / "pip.conf"
    config.write_text(f"[global]\nfind-links = {bench.wheels}\nno-index = true\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    assert bench.install().packages["fx-first"] == "1.0"


def test_extra_indexes_mean_the_best_version_of_all(bench, monkeypatch, tmp_path):
    """As in pip, a newer base on a second index is taken, and a folder that does not exist is passed over."""
    more = tmp_path / "more/fx-base"
    wheel = build_wheel(more, "fx-base", "1.9")
    (more / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{more.parent.as_uri()} {Path(tmp_path / 'gone').as_uri()}")
    assert bench.install().packages["fx-base"] == "1.9"
