"""Installations with a large wheel: killed and cancelled on the way, counted at the index."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from install_bench import Bench, Recorder
from large_index import LargeIndex
from small_index import CPU_MACHINE, build_wheel, fill, small_catalog

from env_manager.errors import EnvError, InstallStopped
from env_manager.fetching.wheelstore import WheelStore
from env_manager.generations import Generation, Store
from env_manager.planning.catalog import Catalog
from env_manager.planning.catalog_file import load_catalog
from env_manager.proving.preflight import check

pytestmark = pytest.mark.env

HERE = Path(__file__).parent
# What a process of its own runs, so that it can be killed.
INSTALLER = """
import sys
sys.path[:0] = [{here!r}]
from pathlib import Path
from install_bench import Recorder
from test_env_large import large_catalog
from small_index import CPU_MACHINE
from env_manager.generations import Store
from env_manager.install import install
install(Store(Path({home!r})), report=Recorder(), cancelled=lambda: False, catalog=large_catalog(), hardware=CPU_MACHINE)
"""


def large_catalog() -> Catalog:
    """The small catalog with a limit of 1 MB."""
    return replace(small_catalog(), large_wheel_bytes=1_000_000)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of 40 MB that nothing can compress, in the place of fx-first."""
    payload = random.Random(2).randbytes(40_000_000)
    return build_wheel(tmp_path_factory.mktemp("large"), "fx-first", "1.0", payload=payload)


class LargeBench(Bench):
    """A bench whose first package is large."""

    index: LargeIndex

    def install(self, **options: object) -> Generation:
        return super().install(**({"catalog": large_catalog()} | options))

    @property
    def wheel(self) -> Path:
        return next(self.wheels.glob("fx_first-1.0-*"))

    @property
    def size(self) -> int:
        return self.wheel.stat().st_size

    @property
    def large_sent(self) -> int:
        """Bytes of the large wheel that went out."""
        return sum(answer.sent for answer in self.index.answers if "fx_first" in answer.path)

    @property
    def kept(self) -> WheelStore:
        return WheelStore(self.store.root / "wheels")


@pytest.fixture
def large(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LargeBench]:
    wheels = tmp_path / "wheels"
    fill(wheels)
    (wheels / original.name).unlink()
    os.link(original, wheels / original.name)
    index = LargeIndex(wheels)
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    yield LargeBench(Store(tmp_path / "home"), index, wheels)
    index.faults.release.set()
    if index.thread.is_alive():
        index.close()


def wait_until(true: object) -> None:
    """Wait for something that is about to happen; a test that hangs ends here."""
    until = time.monotonic() + 60
    while not true():  # type: ignore[operator]
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def test_a_large_wheel_is_fetched_once_and_installed_with_its_hash(large, recorder):
    """One request for it, the file kept, uv gave it to the environment, and no path of ours is left there."""
    generation = large.install(report=recorder)
    assert large.large_sent == large.size
    assert len(list(large.kept.folder.glob("*/fx_first-1.0-*.whl"))) == 1
    assert all(found.ok for found in check(generation))
    assert list(generation.env.glob("lib/python*/site-packages/*/direct_url.json")) == []
    line = next(line for line in recorder.lines if line.startswith("$ uv") and "first-large" in line)
    assert "--require-hashes" in line and "--no-index" in line


def test_the_total_is_what_the_index_sent(large, recorder):
    """Of all steps together, within two percent."""
    large.install(report=recorder)
    total = sum(recorder.last(id).bytes_total for id in ("first", "second", "third"))
    assert abs(total - large.index.sent) <= 0.02 * large.index.sent
    assert recorder.last("first").bytes_done == recorder.last("first").bytes_total


def test_a_running_download_tells_bytes_rate_and_time_left(large, recorder):
    """On a slow index the bytes grow from report to report, with a pace and an end in sight."""
    large.index.faults.seconds_per_block = 0.003
    large.install(report=recorder)
    told = [step for step in recorder.steps if step.id == "first" and step.state == "running"]
    growing = sorted({step.bytes_done for step in told})
    assert len(growing) >= 5
    paced = [step for step in told if step.seconds_left]
    assert paced and all(step.bytes_per_second for step in paced)
    assert paced[-1].seconds_left < paced[0].seconds_left


def test_an_installer_killed_at_ninety_percent_costs_one_percent_at_most(large, tmp_path):
    """SIGKILL with 90 % on the disk; the next installation asks for the rest."""
    faults = large.index.faults
    faults.hold_at = large.size * 9 // 10
    code = INSTALLER.format(here=str(HERE), home=str(large.store.root))
    installer = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL)
    wait_until(lambda: any(each.stat().st_size == faults.hold_at for each in large.kept.folder.glob("*.part")))
    installer.send_signal(signal.SIGKILL)
    installer.wait()
    faults.hold_at = None
    assert large.store.active_id() is None
    generation = large.install()
    assert large.large_sent <= 1.01 * large.size
    assert all(found.ok for found in check(generation))


def test_a_cancelled_download_leaves_nothing_running_and_goes_on_later(large, recorder):
    """Stopped at half: no thread, no build folder; the rest comes in the next installation, which says so."""
    faults = large.index.faults
    faults.hold_at = large.size // 2
    before = set(threading.enumerate())
    half = Recorder()
    with pytest.raises(InstallStopped):
        large.install(report=half, cancelled=lambda: bool(half.steps) and half.steps[-1].bytes_done == faults.hold_at)
    mine = [each for each in set(threading.enumerate()) - before if "process_request" not in each.name]
    assert mine == []
    assert list(large.store.envs.glob(".build-*")) == []
    faults.hold_at = None
    large.install(report=recorder)
    assert large.large_sent == large.size
    assert recorder.last("first").bytes_total == large.size - large.size // 2


def test_the_next_generation_fetches_nothing_and_shares_the_files(large):
    """Not even from an index that has gone."""
    first = large.install()
    large.index.close()
    second = large.install()
    payload = "lib/python*/site-packages/fx_first/payload.bin"
    assert next(first.env.glob(payload)).stat().st_ino == next(second.env.glob(payload)).stat().st_ino


def test_a_wheel_that_uv_has_in_its_cache_is_not_fetched_again(large):
    """As after an update from a version of Fettle that left all to uv."""
    large.install(catalog=replace(small_catalog(), large_wheel_bytes=2**40))
    assert not large.kept.folder.exists()
    sent = large.index.sent
    large.install()
    assert large.index.sent == sent


def test_a_wheel_damaged_on_the_disk_is_fetched_again(large):
    """With uv's cache lost, a flipped bit in the kept file is found by the hash check, and the file replaced."""
    large.install()
    shutil.rmtree(large.store.cache)
    kept = next(large.kept.folder.glob("*/*.whl"))
    data = bytearray(kept.read_bytes())
    data[len(data) // 2] ^= 1
    kept.write_bytes(data)
    assert all(found.ok for found in check(large.install()))
    assert large.large_sent == 2 * large.size
    assert kept.read_bytes() == large.wheel.read_bytes()


def test_wheels_of_no_generation_are_removed_by_the_next_installation(large):
    """Whole and in part; those that a generation's lock names stay."""
    large.install()
    stray = large.kept.folder / ("b" * 64 + ".part")
    stray.write_bytes(b"part")
    large.install()
    assert not stray.exists()
    assert len(list(large.kept.folder.glob("*/*.whl"))) == 1


@pytest.mark.parametrize("how", ["find-links", "file-index"])
def test_a_wheel_on_the_disk_is_not_copied(large, monkeypatch, how):
    """With a folder as index or as find-links uv takes the file from where it lies."""
    large.index.close()
    monkeypatch.delenv("PIP_INDEX_URL")
    if how == "find-links":
        monkeypatch.setenv("PIP_FIND_LINKS", str(large.wheels))
        monkeypatch.setenv("PIP_NO_INDEX", "1")
    else:
        for name in ("fx-first", "fx-second", "fx-third", "fx-base"):
            page = large.wheels / name / "index.html"
            page.parent.mkdir()
            links = [
                f'<a href="../{each.name}">{each.name}</a>' for each in large.wheels.glob(f"{name.replace('-', '_')}-*")
            ]
            page.write_text("".join(links))
        monkeypatch.setenv("PIP_INDEX_URL", large.wheels.as_uri())
    large.install()
    assert not large.kept.folder.exists()


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        ({"status": 500}, "index-unreachable"),
        ({"html": True}, "index-invalid"),
        ({"redirect": "/wheels/fx_first-1.0-py3-none-any.whl"}, "index-invalid"),
        ({"cut_at": 20_000_000}, "index-unreachable"),
    ],
)
def test_a_bad_index_is_named_and_changes_nothing(large, faults, code):
    """The active environment stays as it was, nothing of the failed one is left but what had come."""
    for name, value in faults.items():
        setattr(large.index.faults, name, value)
    with pytest.raises(EnvError) as caught:
        large.install()
    assert caught.value.code == code
    assert large.store.active_id() is None
    assert list(large.store.envs.glob(".build-*")) == []
    assert list(large.kept.folder.glob("*/*.whl")) == []


def test_a_wheel_swapped_after_the_lock_is_refused(large):
    """Also a large one: the lock's hash decides, and the other file is not kept."""
    report = Recorder()

    def swap(progress: object) -> None:
        if len(report.steps) == 1:
            large.wheel.unlink()
            build_wheel(large.wheels, "fx-first", "1.0", payload=random.Random(3).randbytes(2_000_000))

    report.on_step = swap
    with pytest.raises(EnvError) as caught:
        large.install(report=report)
    assert caught.value.code == "hash-mismatch"
    assert list(large.kept.folder.iterdir()) == []


def test_a_password_that_this_part_does_not_know_is_left_to_uv(large, recorder):
    """A refused request for the large wheel is tried once more by uv, which names it if it fails too."""
    large.index.faults.password = "Basic nobody"
    with pytest.raises(EnvError) as caught:
        large.install(report=recorder)
    assert caught.value.code == "index-refused"
    assert any("Trying it with uv" in line for line in recorder.lines)


def test_the_shipped_limit_is_below_any_torch():
    """The catalog names it, and a CPU build of torch is above it."""
    assert 1_000_000 < load_catalog().large_wheel_bytes < 100_000_000
    assert CPU_MACHINE.accelerator == "cpu"
