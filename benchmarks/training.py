"""Race Fettle's trainer against others on the same rows, and hold the ratios against bounds.

    .venv/bin/python benchmarks/training.py [--folder PATH] [--shape 6M] [--lanes trl,trl-tuned,unsloth] [--pairs 5]

Needs an installed environment (`fettle env install`), in which Fettle runs; each rival's own is set up below `--folder` by
the first run that asks for it. Planted cheats have to be found out before anything is measured. Then Fettle runs against
itself, which shows the noise; single figures follow; and each pair runs Fettle and a rival in turns (ABBA). Every lane's
adapter is judged by one scorer that belongs to none. Run it with nothing else going on. Exit status 1 when a bound is
missed. What the lanes are and how each figure is taken is in docs/speed.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from racing import rivals, single
from racing.figures import at_least, at_most, report
from racing.runs import BATCH, SHAPES, Cheated, Result, Work, from_the_window, prepare, run

EVERY_LANE = (
    "trl,trl-tuned,trl-packed,peft,peft-tuned,llamafactory,llamafactory-tuned,unsloth,unsloth-tuned"  # in this order
)
QUALITY = 0.02  # of the reduction of the held-out loss: by how much a lane may learn less and still count as equal
# What Fettle has to reach in real tokens a second, at the lower end of the interval.
BOUNDS = {("6M", "trl"): 8.0, ("6M", "tuned"): 1.6, ("135M", "trl"): 6.0, ("135M", "tuned"): 2.0}
BOUNDS |= {(shape, "vision-trl"): 2.0 for shape in ("tiny", "250M")}
BOUNDS |= {(f"{shape}-even", "tuned"): 1.3 for shape in ("6M", "135M")}
WHOLE = {("6M", "trl"): 3.0}  # and in whole jobs an hour
# The most of a rival's time from the start to the first step, when rows and model were used before; and from the window.
BEFORE, FROM_THE_WINDOW = {"trl": 0.4, "vision-trl": 0.4}, {"trl": 0.2}


def main() -> int:
    """Run the race; 0 when every bound was held."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where models, rows and rivals' environments are kept")
    parser.add_argument("--shape", choices=SHAPES, default="6M")
    parser.add_argument("--lanes", default=EVERY_LANE)
    parser.add_argument("--pairs", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = prepare((asked.folder or Path(scratch)).resolve(), asked.shape)
        require_that_cheats_are_found(work)
        print(
            f"\n{asked.shape}: {work.steps} steps of {BATCH} rows, {work.tokens:,} real tokens; {machine()}", flush=True
        )
        held = [single.flops(work), single.same_math(work), single.memory(work)]
        pairs(work, "fettle", min(2, asked.pairs))
        held += [race(work, lane, asked.pairs) for lane in asked.lanes.split(",")]
    return 0 if all(held) else 1


def require_that_cheats_are_found(work: Work, lane: str = "trl") -> None:
    """A rate of zero, nine tenths of the rows, and padding counted as tokens."""
    for name, change in (("rate", {"rate": 1e-12}), ("rows", {"share": 0.9}), ("padding", {"count_padding": True})):
        try:
            run(work, lane, **change)
        except Cheated as found:
            print(f"planted cheat found: {found}", flush=True)
        else:
            sys.exit(f"error: the planted cheat of {name} was not found")


def race(work: Work, lane: str, count: int) -> bool:
    """One rival; whether its bounds were held."""
    print(f"\n{lane}: {rivals.about(work.rivals, lane, work.python)}")
    threads = best_threads(work, lane) if lane.endswith(("tuned", "packed")) else 0
    ours, theirs = pairs(work, lane, count, threads)
    both = list(zip(ours, theirs, strict=True))
    faster, sooner = [o.rate / t.rate for o, t in both], [t.whole / o.whole for o, t in both]
    report(f"fettle over {lane}, whole jobs", sooner)
    learned = [work.base_loss - statistics.mean(each.loss for each in results) for results in (ours, theirs)]
    equal = learned[0] >= (1 - QUALITY) * learned[1]
    print(
        f"{lane}: the held-out loss fell by {learned[0]:.3f} nats, the rival's by {learned[1]:.3f}: {'equal or better' if equal else 'WORSE'}"
    )
    about, kind = f"{work.shape}, against {lane}, ", "tuned" if lane.endswith(("tuned", "packed")) else lane
    held = [at_least(f"{about}real tokens a second", faster, BOUNDS.get((work.shape, kind), 1.0), equal=equal)]
    if (work.shape, lane) in WHOLE:
        held.append(at_least(f"{about}whole jobs", sooner, WHOLE[work.shape, lane]))
    if lane in BEFORE:
        held.append(at_most(f"{about}time to the first step", [o.before / t.before for o, t in both], BEFORE[lane]))
    if lane in FROM_THE_WINDOW:
        clicked = [from_the_window(work) / t.before for t in theirs]
        held.append(at_most(f"{about}time from a click to the first step", clicked, FROM_THE_WINDOW[lane]))
    return all(held)


def best_threads(work: Work, lane: str) -> int:
    """With how many threads the lane is faster, one or as many as it takes by itself (0); tried once each."""
    tried = {threads: run(work, lane, threads=threads).rate for threads in (1, 0)}
    print(f"  {lane} with one thread: {tried[1]:,.0f} real tokens/s, by itself: {tried[0]:,.0f}")
    return max(tried, key=tried.__getitem__)


def pairs(work: Work, rival: str, count: int, threads: int = 0) -> tuple[list[Result], list[Result]]:
    """Fettle and the rival in turns, ABBA; prints each."""
    ours: list[Result] = []
    theirs: list[Result] = []
    for pair in range(count):
        order: list[tuple[str, list[Result]]] = [("fettle", ours), (rival, theirs)]
        for lane, results in order if pair % 2 == 0 else reversed(order):
            # One seed decides the held-out loss by some hundredths of a nat; each pair has its own, and means are compared.
            results.append(run(work, lane, seed=pair, threads=threads))
            print(f"  {results[-1]}", flush=True)
    report(f"fettle over {rival}, real tokens a second", [o.rate / t.rate for o, t in zip(ours, theirs, strict=True)])
    return ours, theirs


def machine() -> str:
    """Where it ran."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    sys.exit(main())
