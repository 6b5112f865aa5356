"""Time what is done with environments beside uv alone, in one run, and hold it against bounds.

    .venv/bin/python benchmarks/environments.py [--folder PATH]

Installs the real stack of this machine in a folder of its own that is removed afterwards: from empty caches, then
again from the full cache, in turns with `uv pip install` of the very same lock and beside the pip commands of the
guides. Then switches, rollbacks, verification, generations that differ a little, cancellations, and a large download
that is interrupted at 90 %. Run it with nothing else going on. Exit status 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "env_manager")]

from large_index import LargeIndex, sha256  # noqa: E402 - the index of the tests, found by the line above
from pip_in_order import pip_in_order  # noqa: E402 - beside this file
from small_index import build_wheel  # noqa: E402

from env_manager.errors import InstallStopped  # noqa: E402
from env_manager.fetching.download import Transfers, WheelFile  # noqa: E402
from env_manager.fetching.web import Access  # noqa: E402
from env_manager.fetching.wheelstore import WheelStore  # noqa: E402
from env_manager.generations import Generation, Store  # noqa: E402
from env_manager.install import install  # noqa: E402
from env_manager.keeping.disk_use import inodes, total  # noqa: E402
from env_manager.progress import StepProgress  # noqa: E402
from env_manager.proving import verify  # noqa: E402
from env_manager.proving.file_record import against_own_hashes  # noqa: E402
from env_manager.uv import Uv, find_uv  # noqa: E402

SECOND_OVER_UV = 1.0  # seconds of a second identical generation over uv's own
SECOND_SHARE = 0.015  # of the stack's bytes, bytecode counted
SWITCH_P99 = 0.050
ROLLBACK = 1.0  # the slowest, sizes verified
VERIFY_PER_6_GB = 1.0
FULL_PER_6_GB = 15.0
ESTIMATE_ERROR = 0.05
FIVE_TO_ONE = 1.25
CANCEL = 1.0
UPDATE_GAP = 0.5  # the longest silence of a running step
FETCHED_AGAIN = 0.01  # of a wheel that was interrupted at 90 %
SWITCHES = 500
PAIRS = 5
OTHER = {"tqdm": "4.66.6"}
# Small packages that the stack pulls in, each a release or more back.
SMALL = (("tqdm", "4.67.1"), ("requests", "2.32.5"), ("idna", "3.11"), ("packaging", "26.0"))
LARGE_BYTES = 200_000_000


@dataclass
class Watcher:
    """Takes the times of phases and of a step's reports."""

    marks: list[tuple[str, float]] = field(default_factory=list)
    steps: dict[str, StepProgress] = field(default_factory=dict)
    longest_gap: float = 0.0
    peak: Peak | None = None  # of the disk from the moment that its space was checked
    _told: tuple[str, float] | None = None

    def phase(self, name: str, text: str) -> None:
        if name == "install" and self.peak:
            self.peak.start()
        self.marks.append((name, time.monotonic()))

    def step(self, progress: StepProgress) -> None:
        now = time.monotonic()
        running = progress.id in self.steps and self.steps[progress.id].state == "running"
        if running and self._told and self._told[0] == progress.id:
            self.longest_gap = max(self.longest_gap, now - self._told[1])
        self.steps[progress.id] = progress
        self._told = (progress.id, now)

    def log(self, line: str) -> None:
        """Kept by the generation itself."""

    def seconds(self) -> dict[str, float]:
        """What each phase took."""
        ends = [began for _, began in self.marks[1:]] + [time.monotonic()]
        return {name: end - began for (name, began), end in zip(self.marks, ends, strict=True)}


class Peak:
    """The most that a volume gained while it was looked at, in bytes; what else writes there counts too."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.over, self.most = folder, threading.Event(), 0
        self.looker = threading.Thread(target=self._look)

    def start(self) -> None:
        self.before = used_bytes(self.folder)
        self.looker.start()

    def end(self) -> int:
        self.over.set()
        self.looker.join()
        return self.most

    def _look(self) -> None:
        while True:
            over = self.over.wait(0.1)
            found = os.statvfs(self.folder)
            self.most = max(self.most, (found.f_blocks - found.f_bfree) * found.f_frsize - self.before)
            if over:
                return


def timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def disk_bytes(*folders: Path) -> int:
    """What folders take on the disk with themselves: allocated blocks, files with several names once."""
    return total(inodes(*folders).values())


def used_bytes(folder: Path) -> int:
    """What the volume says is in use."""
    os.sync()
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


@dataclass(frozen=True)
class Built:
    """One installation as it was measured."""

    generation: Generation
    seconds: float
    watcher: Watcher
    phases: dict[str, float]

    @property
    def estimate_error(self) -> float:
        """By how many percent the estimate missed the most that the disk gained from the moment it was made."""
        peak = self.watcher.peak.most if self.watcher.peak else 0
        return 100 * (self.generation.bytes_estimated / peak - 1)


def install_once(store: Store, name: str) -> Built:
    """Install, timed, with the disk watched."""
    watcher = Watcher(peak=Peak(store.root.parent))
    began = time.monotonic()
    generation = install(store, report=watcher, cancelled=lambda: False, name=name)
    seconds, phases = time.monotonic() - began, watcher.seconds()
    if watcher.peak:
        watcher.peak.end()
    print(f"  {name}: {seconds:.1f} s", flush=True)
    return Built(generation, seconds, watcher, phases)


def uv_alone(folder: Path, name: str, generation: Generation) -> float:
    """Seconds of uv with the generation's own lock: an environment, and everything into it."""
    uv = Uv.create(folder / "uv-cache", lambda line: None, lambda: False)
    lock = folder / "requirements.lock"
    # As Fettle does: "==2.13.0" would also take another build of the same version.
    text = (generation.folder / "requirements.lock").read_text(encoding="utf-8")
    lock.write_text(text.replace("==", "==="), encoding="utf-8")
    source = (generation.plan.get("source") or {}).get("index_url")
    extra = ["--index", source, "--index-strategy", "unsafe-best-match"] if source else []

    def both() -> None:
        uv.run(["venv", name, "--relocatable", "--python", generation.interpreter["path"], "--quiet"], cwd=folder)
        python = folder / name / generation.python.relative_to(generation.env)
        uv.run(
            ["pip", "install", "--python", str(python), "--no-deps", "--require-hashes"]
            + ["--only-binary", ":all:", "--requirements", str(lock), *extra],
            cwd=folder,
        )

    seconds = timed(both)
    print(f"  {name}: {seconds:.1f} s", flush=True)
    return seconds


def cancel(store: Store, phase: str) -> tuple[float, float]:
    """Seconds from the wish to stop in a phase until no child runs any more, and until its folder is gone too."""
    watcher = Watcher()
    asked: list[float] = []
    still: list[float] = []
    over = threading.Event()

    def cancelled() -> bool:
        name, began = watcher.marks[-1] if watcher.marks else ("", 0.0)
        # A moment into the phase, so that its child is at work.
        if not asked and name == phase and time.monotonic() - began > 0.3:
            asked.append(time.monotonic())
        return bool(asked)

    def look() -> None:
        while not over.wait(0.01):
            if asked and children():
                still.append(time.monotonic())

    looker = threading.Thread(target=look)
    looker.start()
    try:
        # With versions of its own, or an earlier lock and proof would leave nothing to cancel.
        install(store, report=watcher, cancelled=cancelled, overrides=OTHER)
    except InstallStopped:
        gone = time.monotonic() - asked[0]
    else:
        raise SystemExit(f"{phase} was over before it could be cancelled")
    finally:
        over.set()
        looker.join()
    if left := children():
        raise SystemExit(f"still running after a cancellation: {left}")
    return (still[-1] if still else asked[0]) - asked[0], gone


def children() -> list[str]:
    """Processes below this one that are still there (Linux)."""
    parents: dict[str, str] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[file.parent.name] = file.read_text().rpartition(")")[2].split()[1]
        except (OSError, IndexError):
            # It ended while it was looked at.
            continue
    found = [str(os.getpid())]
    for id in found:
        found += [child for child, parent in parents.items() if parent == id]
    return found[1:]


def resume(folder: Path) -> tuple[float, int, float]:
    """Share of a large wheel that came twice after an interruption at 90 %, its bytes, and MB a second."""
    wheel = build_wheel(folder / "index", "large", "1.0", payload=random.Random(0).randbytes(LARGE_BYTES))
    index = LargeIndex(wheel.parent)
    size = wheel.stat().st_size
    wanted = WheelFile(index.wheel_url(wheel), sha256(wheel), size)
    store = WheelStore(folder / "large-wheels")
    access = Access.from_environ({})
    stop = threading.Event()

    def watch() -> None:
        if store.part_bytes(wanted.sha256) >= size * 9 // 10:
            stop.set()

    def attempt(on_tick: Callable[[], None] = lambda: None) -> int:
        transfers = Transfers([wanted], store, access, 0)
        try:
            transfers.run(on_tick=on_tick, cancelled=stop.is_set)
        except InstallStopped:
            stop.clear()
        return transfers.received

    index.faults.hold_at = size * 9 // 10
    received = attempt(watch)
    index.faults.hold_at = None
    index.faults.release.set()
    received += attempt()
    assert store.find(wanted.sha256)
    store.discard(wanted.sha256)
    began = time.monotonic()
    attempt()
    rate = size / (time.monotonic() - began) / 1e6
    index.close()
    return (received - size) / size, size, rate


def switches(store: Store, ids: list[str]) -> list[float]:
    seconds = []
    for number in range(SWITCHES):
        began = time.perf_counter()
        store.point_to(ids[number % 2], "activate")
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)


class Table:
    """Prints figures in columns and remembers which bounds held."""

    def __init__(self) -> None:
        self.bounds: list[tuple[bool, str]] = []

    def head(self, unit: str, *columns: str) -> None:
        print(f"\n{unit:46}" + "".join(f"{column:>10}" for column in columns))

    def row(self, name: str, *figures: float, digits: int = 1) -> None:
        print(f"{name:46}" + "".join(f"{figure:10.{digits}f}" for figure in figures), flush=True)

    def bound(self, name: str, figure: float, most: float, unit: str = "s", digits: int = 2) -> None:
        self.bounds.append((figure <= most, f"{name}: {figure:.{digits}f} of {most:g} {unit}"))

    def end(self) -> int:
        print()
        for held, text in self.bounds:
            print(f"{'held  ' if held else 'MISSED'}  {text}")
        return 0 if all(held for held, _ in self.bounds) else 1


def installations(table: Table, folder: Path, store: Store) -> tuple[Generation, Generation]:
    """Cold and second installations beside uv and pip, with seconds, bytes and the pace of reports."""
    print("Installing the real stack (minutes) …", flush=True)
    first = install_once(store, "fettle, cold")
    uv_cold = uv_alone(folder, "uv-cold", first.generation)
    alone, before = disk_bytes(folder / "uv-cold", folder / "uv-cache"), disk_bytes(store.root)
    second = install_once(store, "fettle, again")
    grown = disk_bytes(store.root) - before
    pairs = [
        (uv_alone(folder, f"uv-again-{n}", first.generation), install_once(store, f"again-{n}")) for n in range(PAIRS)
    ]
    by_pip = [pip_in_order(folder, name, first.generation) for name in ("pip-cold", "pip-again")]
    middle = sorted((each for _, each in pairs), key=lambda each: each.seconds)[PAIRS // 2]

    table.head("seconds", "cold", "again")
    table.row("pip, the guides' commands in order", *(each.seconds for each in by_pip))
    print(f"  which then: {by_pip[-1].outcome}")
    table.row("uv alone, same lock", uv_cold, statistics.median(uv for uv, _ in pairs), digits=2)
    table.row("fettle, everything", first.seconds, middle.seconds, digits=2)
    for name in first.phases:
        table.row(f"  {name}", first.phases[name], middle.phases.get(name, 0), digits=2)
        for id, step in first.watcher.steps.items() if name == "install" else ():
            table.row(f"    {id}", step.seconds, middle.watcher.steps[id].seconds, digits=2)
    table.head("MB", "cold", "again")
    both = (first, second)
    fetched = [sum(step.bytes_total or 0 for step in each.watcher.steps.values()) for each in both]
    table.row("over the network", *(each / 1e6 for each in fetched))
    table.row("estimated to go on the disk", *(each.generation.bytes_estimated / 1e6 for each in both))
    table.row("most that went (statvfs)", *(each.watcher.peak.most / 1e6 for each in both))  # type: ignore[union-attr]
    table.head("MB on the disk, files with several names once")
    table.row("uv alone: environment and cache", alone / 1e6)
    table.row("fettle: one generation, cache, large wheels", before / 1e6)
    table.row("fettle: what a second identical one adds", grown / 1e6)
    over = statistics.median(each.seconds - uv for uv, each in pairs)
    table.bound(f"again, over uv's own time, median of {PAIRS} pairs", over, SECOND_OVER_UV)
    share = 100 * grown / disk_bytes(first.generation.folder)
    table.bound("what the second adds", share, 100 * SECOND_SHARE, "% of the first")
    for each, when in zip(both, ("cold", "again"), strict=True):
        table.bound(f"error of the estimate, {when}", abs(each.estimate_error), 100 * ESTIMATE_ERROR, "%")
    table.bound("longest silence of a running step", max(each.watcher.longest_gap for each in both), UPDATE_GAP)
    return first.generation, second.generation


def small_differences(table: Table, store: Store, first: Generation) -> None:
    """Four more generations, each with one small package of another version."""
    one = disk_bytes(store.cache, store.root / "wheels", first.folder)
    others = [install(store, report=Watcher(), cancelled=lambda: False, overrides=dict([each])) for each in SMALL]
    five = disk_bytes(store.cache, store.root / "wheels", first.folder, *(each.folder for each in others))
    table.head("MB on the disk, cache counted", "one", "five")
    table.row("generations that differ in a small package", one / 1e6, five / 1e6)
    table.bound("five that differ in small packages", five / one, FIVE_TO_ONE, "times one")


def quick(table: Table, store: Store, first: Generation, second: Generation) -> None:
    """What needs no installation: switches, rollbacks, verification."""
    flips = switches(store, [first.id, second.id])
    p99 = flips[int(len(flips) * 0.99)]
    backs = [timed(lambda to=each: store.rollback(to)) for each in (first.id, second.id) * 5]  # type: ignore[misc]
    record = second.folder / verify.RECORD_NAME
    whole = timed(lambda: against_own_hashes(second.env, record))
    checks = [timed(lambda: verify.against_own_record(second.env, record)) for _ in range(5)]
    table.head("seconds", "median", "worst")
    table.row(f"switch, {SWITCHES} times (worst: p99)", statistics.median(flips), p99, digits=4)
    table.row("rollback with sizes verified, 10 times", statistics.median(backs), max(backs), digits=3)
    table.row("sizes of every file, 5 times", statistics.median(checks), max(checks), digits=3)
    table.row("content of every file, once", whole, whole, digits=3)
    table.bound("switch, p99", p99 * 1000, SWITCH_P99 * 1000, "ms")
    table.bound("rollback, the slowest", max(backs), ROLLBACK)
    table.bound("sizes of every file", min(checks) * 6e9 / second.bytes, VERIFY_PER_6_GB, "s per 6 GB")
    table.bound("content of every file", whole * 6e9 / second.bytes, FULL_PER_6_GB, "s per 6 GB")


def interruptions(table: Table, store: Store, folder: Path) -> None:
    """Cancelling in the middle of phases, and a large download that is taken up again."""
    found = {phase: cancel(store, phase) for phase in ("resolve", "install", "prove")}
    table.head("seconds after a cancellation until", "no child", "no folder")
    for phase, seconds in found.items():
        table.row(f"  in {phase!r}", *seconds, digits=3)
    share, size, rate = resume(folder)
    table.head("a large wheel from the loopback", "MB", "MB/s")
    table.row("  fetched whole", size / 1e6, rate)
    table.bound("cancel until nothing runs, the slowest", max(ended for ended, _ in found.values()), CANCEL)
    table.bound("fetched again after a stop at 90 %", 100 * share, 100 * FETCHED_AGAIN, "%")


def measure(folder: Path) -> int:
    """All of it; the exit status."""
    table, store = Table(), Store(folder / "home")
    first, second = installations(table, folder, store)
    quick(table, store, first, second)
    small_differences(table, store, first)
    interruptions(table, store, folder)
    return table.end()


def main() -> int:
    """Measure in a folder that is removed afterwards."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="a folder on the volume to measure on")
    with tempfile.TemporaryDirectory(dir=parser.parse_args().folder) as folder:
        # A cache that is full already would make "cold" a word.
        os.environ.pop("UV_CACHE_DIR", None)
        version = subprocess.run([find_uv(), "--version"], capture_output=True, text=True, check=True).stdout.strip()
        print(f"{version}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        return measure(Path(folder))


if __name__ == "__main__":
    sys.exit(main())
