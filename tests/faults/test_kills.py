"""Whatever is killed wherever: the active environment is wholly the old one or wholly the new one, and works."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import landings
import pytest
from small_index import SmallIndex, build_wheel
from system_calls import Injection, Point, of_each_kind
from trials import OPTIONAL, Home, Torn, killed, nobody_lives, nothing_torn, works

pytestmark = pytest.mark.env

STEPS = [f"step:{id}:{state}" for id in ("first", "second", "third") for state in ("waiting", "running", "done")]
PLACES = {
    "install": [
        *(f"phase:{name}" for name in ("lock", "detect", "python", "plan", "resolve", "measure", "disk")),
        *(f"phase:{name}" for name in ("install", "verify", "prove", "commit", "activate")),
        *STEPS,
    ],
    "repair": [
        *(
            f"phase:{name}"
            for name in ("examine", "evict", "python", "install", "verify", "prove", "commit", "activate")
        ),
        *STEPS,
    ],
}
# How many system calls of an action are hit: all of the short ones, of the long ones some of each kind and phase.
SHORT = ("rollback", "activate", "name", "keep")
SOME = {"install": 50, "fetch": 40, "repair": 30, "delete": 8, "clear": 14}  # "fetch" installs with an empty cache
LONGEST_SECONDS = {"install": 1.2, "fetch": 1.6, "repair": 1.6}
WORKERS = 2


@dataclass(frozen=True)
class Kill:
    """One kill: what is killed, and at which call, place or moment."""

    action: str
    how: Injection | str | float

    @property
    def kind(self) -> str:
        if isinstance(self.how, Injection):
            return f"call of {self.how.point.program}"
        return "boundary" if isinstance(self.how, str) else "moment"

    def __str__(self) -> str:
        return str(self.how.point) if isinstance(self.how, Injection) else f"{self.action} at {self.how}"


@dataclass
class Outcome:
    """Where kills landed, and what did not hold afterwards."""

    phases: Counter[tuple[str, str]] = field(default_factory=Counter)
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    missed: int = 0
    torn: list[str] = field(default_factory=list)
    installed_after: int = 0

    @property
    def landed(self) -> int:
        return self.phases.total()


@pytest.fixture(scope="module")
def homes(fast_folder: Path, small_index: SmallIndex, bare_environ: dict[str, str]) -> list[Home]:
    """Homes for workers side by side, each with three generations."""
    build_wheel(small_index.folder, "fx-first", "1.2", payload=20_000)
    made = [new_home(fast_folder / f"worker-{number}", small_index, bare_environ) for number in range(WORKERS)]
    return made


def new_home(folder: Path, index: SmallIndex, environ: dict[str, str]) -> Home:
    home = Home(folder / "home", index, folder / "scratch", environ | {"PIP_INDEX_URL": index.url})
    for version in ("1.0", "1.1", "1.0"):
        home.must("install", FIRST_VERSION=version)
    return home


@pytest.fixture(scope="module")
def points(homes: list[Home]) -> dict[str, list[Point]]:
    """Every changing system call of every action, learned from one undisturbed run of each."""
    return {action: homes[0].learn(action) for action in (*SOME, *SHORT)}


def plan(points: dict[str, list[Point]], count: int, seed: int) -> Iterator[Kill]:
    """First every boundary and every call of the short actions, then some of each kind, then ever more of them."""
    chance = random.Random(seed)
    first = [Kill(action, place) for action, places in PLACES.items() for place in places]
    first += [_kill(point) for action in SHORT for point in points[action]]
    first += [_kill(point) for action, some in SOME.items() for point in of_each_kind(points[action], some, chance)]
    first += [moment(chance) for _ in range(max(12, count // 10))]
    chance.shuffle(first)
    yield from first
    calls = of_each_kind(list(itertools.chain(*points.values())), 100_000, chance)
    for point in itertools.cycle(calls):
        yield _kill(point)
        yield moment(chance)


def _kill(point: Point) -> Kill:
    return Kill(point.action, Injection(point, "signal=SIGKILL"))


def moment(chance: random.Random) -> Kill:
    action = chance.choice(sorted(LONGEST_SECONDS))
    return Kill(action, chance.uniform(0.0, LONGEST_SECONDS[action]))


def kill_many(homes: list[Home], points: dict[str, list[Point]], count: int, seed: int) -> Outcome:
    """Kill until that many kills have landed, each worker in a home of its own."""
    kills, outcome = plan(points, count, seed), Outcome()

    def work(home: Home) -> None:
        for kill in iter(lambda: next(kills), None):
            if outcome.landed >= count or len(outcome.torn) > 20:
                return
            home = kill_once(home, kill, outcome)

    with ThreadPoolExecutor(len(homes)) as pool:
        for done in [pool.submit(work, home) for home in homes]:
            done.result()
    return outcome


def kill_once(home: Home, kill: Kill, outcome: Outcome) -> Home:
    """One kill and everything that must hold after it; a fresh home where something did not."""
    try:
        home.thin_out()
        status, phase, before = killed(home, kill.action, kill.how)
        if status == 0:
            outcome.missed += 1
            return home
        # A call of uv may have been one of its children's: then uv and Fettle live on, and have to say what went wrong.
        if status != -9 and not (of_uv(kill) and told_plainly(home)):
            raise Torn(f"it ended with {status}: {(home.scratch / 'told.txt').read_text()}")
        outcome.phases[phase, kill.kind] += 1
        if isinstance(kill.how, Injection):
            outcome.calls[kill.how.point.call, kill.how.point.program] += 1
        nothing_torn(home, before, kill.action)
        works(home, but=OPTIONAL)
        if outcome.landed % 8 == 0:
            home.must("install", FIRST_VERSION="1.0")
            outcome.installed_after += 1
    except (Torn, AssertionError, subprocess.TimeoutExpired) as error:
        outcome.torn.append(f"{kill}: {error}")
        folder = home.root.parent.with_name(f"{home.root.parent.name}-{len(outcome.torn)}")
        return new_home(folder, home.index, home.environ)
    return home


def of_uv(kill: Kill) -> bool:
    return isinstance(kill.how, Injection) and kill.how.point.program == "uv"


def told_plainly(home: Home) -> bool:
    """Whether the action ended with a failure that has a code."""
    return (home.scratch / "told.txt").read_text().splitlines()[-1].startswith("failed ")


def judge(outcome: Outcome, count: int, seconds: float) -> None:
    title = (
        f"{outcome.landed} kills in {seconds:.0f} s ({outcome.missed} more aimed at calls that were not made), "
        f"{outcome.installed_after} plain installations after them, {len(outcome.torn)} with something torn"
    )
    landings.REPORTS.append(landings.table(title, outcome.phases))
    landings.REPORTS.append(landings.table("those at system calls", outcome.calls))
    assert not outcome.torn, "\n".join(outcome.torn)
    assert outcome.landed >= count


def test_no_kill_tears_an_environment(homes, points):
    """200 kills: every boundary, every call of the short actions, many of the long ones, random moments."""
    began = time.monotonic()
    outcome = kill_many(homes, points, 200, seed=1)
    judge(outcome, 200, time.monotonic() - began)


@pytest.mark.slow
def test_no_kill_of_a_thousand_tears_an_environment(homes, points):
    """The same with another thousand, at other calls and moments in every run."""
    began, seed = time.monotonic(), time.time_ns()
    print(f"seed {seed}")
    outcome = kill_many(homes, points, 1000, seed)
    judge(outcome, 1000, time.monotonic() - began)


@pytest.mark.parametrize("action", ["install", "repair"])
def test_the_list_of_places_is_the_whole_list(homes, action):
    """An action passes exactly the places at which it is killed above, so that none is forgotten."""
    home = homes[0]
    arguments, environ = home.prepare(action)
    _, lines = home.run(action, *arguments, **environ)
    passed = dict.fromkeys(line for line in lines if line.startswith(("phase:", "step:")))
    assert set(passed) == set(PLACES[action])


def test_nothing_of_a_killed_installer_lives_on(homes):
    """uv dies with the installer, so that nobody writes into a folder that is being cleaned up."""
    home = homes[0]
    home.index.seconds_per_wheel = 60
    try:
        build_wheel(home.index.folder, "fx-first", "1.3")
        home.index.wheels_sent.clear()
        environ = home.environ | {"FIRST_VERSION": "1.3"}
        process = subprocess.Popen(home.argv("install"), env=environ, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not home.index.wheels_sent and time.monotonic() < deadline:
            time.sleep(0.05)
        assert uv_of(home), "uv waits for the wheel"
        process.kill()
        process.wait(timeout=60)
        nobody_lives(home)
        assert uv_of(home) == []
    finally:
        home.index.seconds_per_wheel = 0


def uv_of(home: Home) -> list[str]:
    """The processes of uv that work with this home's cache."""
    done = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if os.fspath(home.store.cache) in line]
