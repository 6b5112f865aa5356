"""Time what is done with environments beside uv alone, in one run, and hold it against bounds.

    .venv/bin/python benchmarks/environments.py [--folder PATH]

Installs the real stack of this machine twice, in a folder of its own that is removed afterwards: from empty caches,
then from the full cache, each beside `uv pip install` with the very same lock. Then a second generation, switches,
rollbacks, verification, cancellations, and a large download that is interrupted at 90 %. Run it with nothing else
going on. Exit status 1 when a bound is missed.
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
from small_index import build_wheel  # noqa: E402

from env_manager import verify  # noqa: E402
from env_manager.download import Transfers, WheelFile  # noqa: E402
from env_manager.errors import InstallStopped  # noqa: E402
from env_manager.generations import Generation, Store  # noqa: E402
from env_manager.install import install  # noqa: E402
from env_manager.progress import StepProgress  # noqa: E402
from env_manager.uv import Uv, find_uv  # noqa: E402
from env_manager.web import Access  # noqa: E402
from env_manager.wheelstore import WheelStore  # noqa: E402

SECOND_OVER_UV = 1.0  # seconds of a second identical generation over uv's own
SECOND_SHARE = 0.015  # of the stack's bytes, bytecode counted
SWITCH_P99 = 0.050
ROLLBACK = 1.0  # the slowest, sizes verified
VERIFY_PER_6_GB = 1.0
CANCEL = 1.0
UPDATE_GAP = 0.5  # the longest silence of a running step
FETCHED_AGAIN = 0.01  # of a wheel that was interrupted at 90 %
SWITCHES = 500
LARGE_BYTES = 200_000_000


@dataclass
class Watcher:
    """Takes the times of phases and of a step's reports."""

    marks: list[tuple[str, float]] = field(default_factory=list)
    steps: dict[str, StepProgress] = field(default_factory=dict)
    longest_gap: float = 0.0
    _told: tuple[str, float] | None = None

    def phase(self, name: str, text: str) -> None:
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


def timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def disk_bytes(*folders: Path) -> int:
    """What folders take on the disk: allocated blocks, files with several names once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in names:
                found = os.lstat(os.path.join(parent, name))
                if (found.st_dev, found.st_ino) not in seen:
                    seen.add((found.st_dev, found.st_ino))
                    total += found.st_blocks * 512
    return total


def used_bytes(folder: Path) -> int:
    """What the volume says is in use."""
    os.sync()
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def install_once(store: Store, name: str) -> tuple[Generation, float, Watcher, dict[str, float]]:
    watcher = Watcher()
    began = time.monotonic()
    generation = install(store, report=watcher, cancelled=lambda: False, name=name)
    phases = watcher.seconds()
    print(f"  {name}: {time.monotonic() - began:.1f} s", flush=True)
    return generation, time.monotonic() - began, watcher, phases


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


def cancel_seconds(store: Store, phase: str) -> float:
    """From the wish to stop in a phase until nothing runs any more."""
    watcher = Watcher()
    asked: list[float] = []

    def cancelled() -> bool:
        name, began = watcher.marks[-1] if watcher.marks else ("", 0.0)
        # A moment into the phase, so that its child is at work.
        if not asked and name == phase and time.monotonic() - began > 0.3:
            asked.append(time.monotonic())
        return bool(asked)

    try:
        install(store, report=watcher, cancelled=cancelled)
    except InstallStopped:
        seconds = time.monotonic() - asked[0]
        left = children()
        if left:
            raise SystemExit(f"still running after a cancellation: {left}") from None
        return seconds
    # The phase was over before it could be interrupted.
    return 0.0


def children() -> list[str]:
    """Processes that this one has started and that are still there (Linux)."""
    found: list[str] = []
    for file in Path("/proc/self/task").glob("*/children"):
        found += file.read_text().split()
    return found


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


def measure(folder: Path) -> int:
    store = Store(folder / "home")
    print("Installing (the real stack; minutes) …", flush=True)
    first, cold, watcher, cold_phases = install_once(store, "fettle, cold")
    uv_cold = uv_alone(folder, "uv-cold", first)
    alone = disk_bytes(folder / "uv-cold", folder / "uv-cache")
    fettle_first = disk_bytes(store.root)
    used = used_bytes(folder)
    second, warm, warm_watcher, warm_phases = install_once(store, "fettle, again")
    grown = used_bytes(folder) - used
    fettle_second = disk_bytes(store.root)
    uv_warm = uv_alone(folder, "uv-warm", second)

    print(f"\n{'seconds':34}{'cold':>9}{'again':>9}")
    print(f"{'uv alone, same lock':34}{uv_cold:9.1f}{uv_warm:9.1f}")
    print(f"{'fettle, everything':34}{cold:9.1f}{warm:9.1f}")
    for name in dict.fromkeys([*cold_phases, *warm_phases]):
        print(f"{'  ' + name:34}{cold_phases.get(name, 0):9.1f}{warm_phases.get(name, 0):9.1f}")
    for id, step in watcher.steps.items():
        print(f"{'    ' + id:34}{step.seconds:9.1f}{warm_watcher.steps[id].seconds:9.1f}")
    fetched = sum(step.bytes_total or 0 for step in watcher.steps.values())
    print(
        f"{'MB over the network':34}{fetched / 1e6:9.0f}"
        f"{sum(step.bytes_total or 0 for step in warm_watcher.steps.values()) / 1e6:9.0f}"
    )

    print(f"\n{'MB on the disk':44}{'':>9}")
    print(f"{'uv alone: environment and cache':44}{alone / 1e6:9.0f}")
    print(f"{'fettle: one generation, cache, kept wheels':44}{fettle_first / 1e6:9.0f}")
    print(f"{'fettle: the second identical generation':44}{(fettle_second - fettle_first) / 1e6:9.0f}")
    print(f"{'the same, by statvfs':44}{grown / 1e6:9.0f}")

    flips = switches(store, [first.id, second.id])
    p50, p99 = statistics.median(flips), flips[int(len(flips) * 0.99)]
    backs = [timed(lambda to=each: store.rollback(to)) for each in (first.id, second.id) * 5]
    checks = [
        timed(lambda: verify.against_own_record(second.env, second.folder / verify.RECORD_NAME)) for _ in range(5)
    ]
    per_6_gb = min(checks) * 6e9 / second.bytes
    print(f"\n{'seconds':44}{'median':>9}{'worst':>9}")
    print(f"{f'switch, {SWITCHES} times (worst: p99)':44}{p50:9.4f}{p99:9.4f}")
    print(f"{'rollback with sizes verified, 10 times':44}{statistics.median(backs):9.3f}{max(backs):9.3f}")
    print(f"{'verify every file, 5 times':44}{statistics.median(checks):9.3f}{max(checks):9.3f}")
    cancels = {phase: cancel_seconds(store, phase) for phase in ("resolve", "install", "prove")}
    for phase, seconds in cancels.items():
        print(f"{f'cancel in {phase!r} until nothing runs':44}{seconds:9.3f}")
    gap = max(watcher.longest_gap, warm_watcher.longest_gap)
    print(f"{'longest silence of a running step':44}{gap:9.3f}")
    again, size, rate = resume(folder)
    print(f"{'a wheel of 200 MB from the loopback, MB/s':44}{rate:9.0f}")

    stack = fettle_first
    bounds = {
        f"again, over uv's own time: {warm - uv_warm:.1f} of {SECOND_OVER_UV} s": warm - uv_warm <= SECOND_OVER_UV,
        f"the second generation's bytes: {(fettle_second - fettle_first) / stack:.2%} of {SECOND_SHARE:.1%}": (
            fettle_second - fettle_first <= SECOND_SHARE * stack
        ),
        f"switch, p99: {p99 * 1000:.1f} of {SWITCH_P99 * 1000:.0f} ms": p99 <= SWITCH_P99,
        f"rollback, the slowest: {max(backs):.2f} of {ROLLBACK} s": max(backs) <= ROLLBACK,
        f"verify: {per_6_gb:.2f} of {VERIFY_PER_6_GB} s per 6 GB": per_6_gb <= VERIFY_PER_6_GB,
        f"cancel, the slowest: {max(cancels.values()):.2f} of {CANCEL} s": max(cancels.values()) <= CANCEL,
        f"longest silence: {gap:.2f} of {UPDATE_GAP} s": gap <= UPDATE_GAP,
        f"fetched again after 90 % of {size / 1e6:.0f} MB: {again:.2%} of {FETCHED_AGAIN:.0%}": again <= FETCHED_AGAIN,
    }
    print()
    for text, held in bounds.items():
        print(f"{'held  ' if held else 'MISSED'}  {text}")
    return 0 if all(bounds.values()) else 1


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
