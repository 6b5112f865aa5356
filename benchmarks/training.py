"""Race Fettle's trainer against others on the same rows, and hold the ratios against bounds.

    .venv/bin/python benchmarks/training.py [--folder PATH] [--shape 6M] [--lanes trl,trl-tuned,peft] [--pairs 5]

Needs an installed environment (`fettle env install`), in which Fettle runs; each rival's own is set up below `--folder` by
the first run that asks for it. Each pair runs Fettle and a
rival in turns (ABBA); first Fettle runs against itself, which shows the noise. Every lane's adapter is judged by one
scorer that belongs to none. Planted cheats have to be found out before anything is measured. Run it with nothing else
going on. Exit status 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
LANES = Path(__file__).with_name("lanes")

from app.paths import open_home  # noqa: E402 - from the checkout, by the line above
from env_manager.generations import Store  # noqa: E402
from env_manager.uv import Uv  # noqa: E402

# TRL needs triton for its loss, also on a CPU.
RIVALS = {"trl": ["trl", "peft", "triton"], "peft": ["peft", "transformers", "accelerate"]}
BATCH, RANK, RATE = 8, 16, 5e-3
SHAPES = {"6M": 40, "135M": 8}  # steps of one run
QUALITY = 0.02  # of the reduction of the held-out loss: by how much a lane may learn less and still count as equal
LEARNED = 0.2  # the least reduction by which equal means something
# What Fettle has to reach in real tokens a second, at the lower end of the interval.
BOUNDS = {("6M", "trl"): 8.0, ("6M", "tuned"): 1.6, ("135M", "trl"): 6.0, ("135M", "tuned"): 2.0}


@dataclass(frozen=True)
class Work:
    """Rows, a model and what a run of it has to consume."""

    folder: Path
    python: Path
    shape: str
    steps: int
    tokens: int
    base_loss: float


@dataclass(frozen=True)
class Result:
    """One run: `seconds` of its loop, `whole` of its process, and the held-out loss of its adapter in nats."""

    lane: str
    seconds: float
    whole: float
    tokens: int
    peak_bytes: int
    loss: float

    @property
    def rate(self) -> float:
        """Real tokens a second."""
        return self.tokens / self.seconds


class Cheated(Exception):
    """A run that did less than it was asked for, or says more."""


def main() -> int:
    """Run the race; 0 when every bound was held."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where models, rows and rivals' environments are kept")
    parser.add_argument("--shape", choices=SHAPES, default="6M")
    parser.add_argument("--lanes", default="trl,trl-tuned,peft,peft-tuned")
    parser.add_argument("--pairs", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (asked.folder or Path(scratch)).resolve()
        work = prepare(folder, asked.shape)
        require_that_cheats_are_found(work)
        print(
            f"\n{asked.shape}: {work.steps} steps of {BATCH} rows, {work.tokens:,} real tokens; {machine()}", flush=True
        )
        pairs(work, "fettle", min(2, asked.pairs))
        held = [race(work, lane, asked.pairs) for lane in asked.lanes.split(",")]
    return 0 if all(held) else 1


def prepare(folder: Path, shape: str) -> Work:
    """Make the model and the rows, the same for the same shape, with the interpreter of the active environment."""
    store = Store(open_home().root)
    active = store.active()
    if active is None:
        sys.exit("error: no environment is installed; run `fettle env install` first")
    target = folder / shape
    if not (target / "work.json").exists():
        target.mkdir(parents=True, exist_ok=True)
        call(active.python, "work", {"shape": shape, "rows": SHAPES[shape] * BATCH, "folder": str(target)})
    told = json.loads((target / "work.json").read_text())
    return Work(target, active.python, shape, SHAPES[shape], told["tokens"], told["base_loss"])


def call(python: Path, script: str, job: dict[str, Any]) -> dict[str, Any]:
    """Run a script beside this file with a job, and return the JSON that it prints last."""
    environ = {
        **os.environ,
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        [str(python), str(LANES / f"{script}.py"), json.dumps(job)],
        capture_output=True, text=True, env=environ, cwd=job["folder"],
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"error: {script} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def rival(work: Work, lane: str) -> Path:
    """The interpreter of a rival, in an environment of its own that is made when first asked for."""
    name = lane.split("-")[0]
    env = work.folder.parent / "rivals" / name
    python = env / "bin" / "python"
    if not python.exists():
        uv = Uv.create(work.folder.parent / "rivals" / "cache", print, lambda: False)
        env.parent.mkdir(exist_ok=True)
        uv.run(["venv", str(env), "--python", str(work.python), "--quiet"], cwd=env.parent)
        torch = f"torch==={version_of_torch(work.python)}"
        uv.run(["pip", "install", "--quiet", "--python", str(python), torch, *RIVALS[name]], cwd=env.parent)
    return python


def version_of_torch(python: Path) -> str:
    """The build that Fettle uses, so that all have the same."""
    asked = [str(python), "-c", "import importlib.metadata as m; print(m.version('torch'))"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def run(work: Work, lane: str, **change: Any) -> Result:
    """One run of a lane from process start to adapter, judged; raises `Cheated`."""
    with tempfile.TemporaryDirectory() as folder:
        job = {
            "lane": lane, "model": str(work.folder / "model"), "train": str(work.folder / "train.jsonl"),
            "output": f"{folder}/out", "folder": folder, "batch": BATCH, "rank": RANK, "rate": RATE, "seed": 0,
        } | change  # fmt: skip
        began = time.monotonic()
        told = fettle(job) if lane == "fettle" else call(rival(work, lane), f"by_{lane.split('-')[0]}", job)
        whole = time.monotonic() - began
        score = {"model": job["model"], "adapter": told["adapter"], "rows": str(work.folder / "held_out.jsonl")}
        loss = call(work.python, "score", score | {"folder": folder})["loss"]
    if told["steps"] != work.steps:
        raise Cheated(f"{lane} made {told['steps']} of {work.steps} steps")
    if abs(told["tokens"] - work.tokens) > 0.02 * work.tokens:
        raise Cheated(f"{lane} counts {told['tokens']:,} tokens where there are {work.tokens:,}")
    if loss > (1 - LEARNED) * work.base_loss:
        raise Cheated(f"{lane} has hardly learned: {work.base_loss:.3f} nats before, {loss:.3f} after")
    return Result(lane, told["seconds"], whole, work.tokens, told["peak_bytes"], loss)


def fettle(job: dict[str, Any]) -> dict[str, Any]:
    """A run by the product's own command."""
    settings = {
        "training.epochs": 1, "training.batch_size": job["batch"], "lora.rank": job["rank"], "lora.alpha": 2 * job["rank"],
        "optimizer.learning_rate": job["rate"], "optimizer.schedule": "linear", "optimizer.warmup": 0, "training.seed": job["seed"],
        "data.train_on": "assistant", "data.max_length": 1024,
    } | job.get("settings", {})  # fmt: skip
    changes = [argument for name, value in settings.items() for argument in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "app.cli", "train", "--model", job["model"], "--data", job["train"], "--output"]
    done = subprocess.run([*command, job["output"], "--json", *changes], capture_output=True, text=True, cwd=ROOT)
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode:
        sys.exit(f"error: fettle failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    steps = [event for event in events if event.get("type") == "step"]
    began = next(event["time"] for event in events if event.get("phase") == "training")
    last = next(event for event in events if event.get("type") == "done")
    return {
        "adapter": last["adapter"], "steps": len(steps), "tokens": last["real_tokens"],
        "seconds": steps[-1]["time"] - began, "peak_bytes": max(event["memory_bytes"] for event in steps),
    }  # fmt: skip


def require_that_cheats_are_found(work: Work) -> None:
    """A rate of zero, nine tenths of the rows, and padding counted as tokens."""
    for name, change in (("rate", {"rate": 1e-12}), ("rows", {"share": 0.9}), ("padding", {"count_padding": True})):
        try:
            run(work, "trl", **change)
        except Cheated as found:
            print(f"planted cheat found: {found}", flush=True)
        else:
            sys.exit(f"error: the planted cheat of {name} was not found")


def pairs(work: Work, rival: str, count: int) -> tuple[list[Result], list[Result]]:
    """Fettle and the rival in turns, ABBA; prints each."""
    ours: list[Result] = []
    theirs: list[Result] = []
    for pair in range(count):
        order: list[tuple[str, list[Result]]] = [("fettle", ours), (rival, theirs)]
        for lane, results in order if pair % 2 == 0 else reversed(order):
            result = run(work, lane)
            results.append(result)
            print(
                f"  {lane:12} {result.rate:8,.0f} real tokens/s  loop {result.seconds:7.2f} s  whole {result.whole:7.2f} s  "
                f"peak {result.peak_bytes / 1e9:5.2f} GB  held-out {result.loss:.4f}",
                flush=True,
            )
    report(rival, "real tokens a second", [o.rate / t.rate for o, t in zip(ours, theirs, strict=True)])
    return ours, theirs


def race(work: Work, lane: str, count: int) -> bool:
    """One rival; whether the bound for it was held at equal quality."""
    ours, theirs = pairs(work, lane, count)
    report(lane, "the whole job", [t.whole / o.whole for o, t in zip(ours, theirs, strict=True)])
    learned = [work.base_loss - statistics.mean(each.loss for each in results) for results in (ours, theirs)]
    equal = learned[0] >= (1 - QUALITY) * learned[1]
    print(
        f"{lane}: the held-out loss fell by {learned[0]:.3f} nats, the rival's by {learned[1]:.3f}: {'equal or better' if equal else 'WORSE'}"
    )
    low = interval([o.rate / t.rate for o, t in zip(ours, theirs, strict=True)])[0]
    bound = BOUNDS.get((work.shape, "tuned" if lane.endswith("tuned") else lane), 1.0)
    held = equal and low >= bound
    print(
        f"{'held  ' if held else 'MISSED'}  {work.shape}, against {lane}: at least {low:.2f} times, of {bound:g}",
        flush=True,
    )
    return held


def report(rival: str, what: str, ratios: list[float]) -> None:
    low, high = interval(ratios)
    print(f"fettle over {rival}, {what}: {geometric(ratios):.2f} times ({low:.2f} to {high:.2f})", flush=True)


def geometric(ratios: list[float]) -> float:
    """The geometric mean."""
    return math.exp(statistics.fmean(map(math.log, ratios)))


def interval(ratios: list[float], draws: int = 2000) -> tuple[float, float]:
    """95 % of the geometric means of as many ratios, drawn with replacement."""
    chance = random.Random(0)
    means = sorted(geometric(chance.choices(ratios, k=len(ratios))) for _ in range(draws))
    return means[draws // 40], means[-draws // 40 - 1]


def machine() -> str:
    """Where it ran."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    sys.exit(main())
