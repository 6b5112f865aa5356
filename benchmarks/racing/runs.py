"""One run of one lane, from the start of its process to its adapter, judged by the scorer that belongs to none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.operations import Operations, follow_events
from app.paths import open_home
from app.standby import prepare_for
from env_manager.generations import Store
from racing import LANES, ROOT
from racing.rivals import interpreter
from trainer.spec import RunSpec

BATCH, RANK, RATE = 8, 16, 5e-3
SHAPES = {"6M": 40, "135M": 8, "6M-even": 40, "135M-even": 8}  # steps of one run
SEEING = {"tiny": 40, "250M": 3}  # the same of models that see
FILLED_IN = 10.0  # seconds between the form's first word and the click
LEARNED = 0.2  # the least part of the loss that a run has to take away: below, equal quality means nothing


@dataclass(frozen=True)
class Work:
    """Rows, a model and what a run of it has to consume."""

    folder: Path
    python: Path
    shape: str
    steps: int
    tokens: int
    base_loss: float
    judged_by: str = "score"

    @property
    def rivals(self) -> Path:
        """Where the rivals' environments lie."""
        return self.folder.parent / "rivals"

    @property
    def ordered(self) -> Path:
        """The rows in the order in which Fettle learns them."""
        return self.folder / "ordered.jsonl"

    @property
    def adapter(self) -> Path:
        """An adapter that has learned nothing yet."""
        return self.folder / "fresh"


@dataclass(frozen=True)
class Result:
    """One run: seconds of its loop, of its whole process, and of what lay before its first step.

    `loss` is that of held-out rows with its adapter, in nats; `losses` are those of its steps.
    """

    lane: str
    seconds: float
    whole: float
    before: float
    tokens: int
    peak_bytes: int
    loss: float
    losses: list[float]

    @property
    def rate(self) -> float:
        """Real tokens a second."""
        return self.tokens / self.seconds

    def __str__(self) -> str:
        return (
            f"{self.lane:18} {self.rate:8,.0f} real tokens/s  loop {self.seconds:7.2f} s  whole {self.whole:7.2f} s  "
            f"before {self.before:6.2f} s  peak {self.peak_bytes / 1e9:5.2f} GB  held-out {self.loss:.4f}"
        )


class Cheated(Exception):
    """A run that did less than it was asked for, or says more."""


def prepare(folder: Path, shape: str) -> Work:
    """Make the model and the rows, the same for the same shape, with the interpreter of the active environment."""
    work = _made(folder / shape, shape, SHAPES[shape], "work", "score")
    if not work.adapter.exists() or not work.ordered.exists():
        call(work.python, "same_start", job_of(work, "fettle", work.folder))
    return work


def prepare_pictures(folder: Path, shape: str) -> Work:
    """The same of a model that sees, and rows with pictures."""
    return _made(folder / f"seeing-{shape}", shape, SEEING[shape], "pictures_work", "pictures_score")


def _made(target: Path, shape: str, steps: int, made_by: str, judged_by: str) -> Work:
    active = Store(open_home().root).active()
    if active is None:
        sys.exit("error: no environment is installed; run `fettle env install` first")
    if not (target / "work.json").exists():
        target.mkdir(parents=True, exist_ok=True)
        call(active.python, made_by, {"shape": shape, "rows": steps * BATCH, "folder": str(target)})
    told = json.loads((target / "work.json").read_text())
    return Work(target, active.python, shape, steps, told["tokens"], told["base_loss"], judged_by)


def call(python: Path, script: str, job: dict[str, Any]) -> dict[str, Any]:
    """Run a script of `lanes/` with a job, and return the JSON that it prints last."""
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
    return json.loads(done.stdout.strip().splitlines()[-1])  # type: ignore[no-any-return]


def job_of(work: Work, lane: str, folder: Path) -> dict[str, Any]:
    """What a lane is asked to do, in a folder of its own; caches of rows stay, as they do at a user's."""
    in_order = lane in ("trl-ordered", "trl-same")
    return {
        "lane": lane, "model": str(work.folder / "model"), "train": str(work.ordered if in_order else work.folder / "train.jsonl"),
        "folder": str(folder), "output": str(folder / "out"), "cache": str(work.folder / "cache"), "ordered": str(work.ordered),
        "start_from": str(work.adapter) if lane == "trl-same" else None, "fresh": str(work.adapter),
        "batch": BATCH, "rank": RANK, "rate": RATE, "seed": 0, "tokens_a_step": work.tokens // work.steps,
    }  # fmt: skip


def run(work: Work, lane: str, **change: Any) -> Result:
    """One run of a lane; raises `Cheated`."""
    with tempfile.TemporaryDirectory() as folder:
        job = job_of(work, lane, Path(folder)) | change
        began, began_at = time.monotonic(), time.time()
        if lane == "fettle":
            told = fettle(job)
        else:
            told = call(interpreter(work.rivals, lane, work.python), f"by_{lane.split('-')[0]}", job)
        whole = time.monotonic() - began
        score = {"model": job["model"], "adapter": told["adapter"], "rows": str(work.folder / "held_out.jsonl")}
        loss = call(work.python, work.judged_by, score | {"folder": folder})["loss"]
    require_work_done(work, lane, told, loss)
    return Result(
        lane, told["seconds"], whole, told["first"] - began_at, work.tokens, told["peak_bytes"], loss, told["losses"]
    )


def require_work_done(work: Work, lane: str, told: dict[str, Any], loss: float) -> None:
    """Raise `Cheated` where steps, tokens or what was learned are not those of the work."""
    # Rows are packed as they fit, so that the last few steps may be more or fewer.
    uncertain = 0.05 * work.steps + 1 if lane.endswith("packed") else 0
    if abs(told["steps"] - work.steps) > uncertain:
        raise Cheated(f"{lane} made {told['steps']} of {work.steps} steps")
    if abs(told["tokens"] - work.tokens) > 0.02 * work.tokens:
        raise Cheated(f"{lane} counts {told['tokens']:,} tokens where there are {work.tokens:,}")
    if loss > (1 - LEARNED) * work.base_loss:
        raise Cheated(f"{lane} has hardly learned: {work.base_loss:.3f} nats before, {loss:.3f} after")


def settings_of(job: dict[str, Any]) -> dict[str, Any]:
    """What a run of Fettle is asked for; everything else is as it comes."""
    return {
        "training.epochs": 1, "training.batch_size": job["batch"], "lora.rank": job["rank"], "lora.alpha": 2 * job["rank"],
        "optimizer.learning_rate": job["rate"], "optimizer.schedule": "linear", "optimizer.warmup": 0, "training.seed": job["seed"],
        "data.train_on": "assistant", "data.max_length": 1024,
    } | job.get("settings", {})  # fmt: skip


def fettle(job: dict[str, Any]) -> dict[str, Any]:
    """A run by the product's own command."""
    changes = [argument for name, value in settings_of(job).items() for argument in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "app.cli", "train", "--model", job["model"], "--data", job["train"], "--output"]
    done = subprocess.run([*command, job["output"], "--json", *changes], capture_output=True, text=True, cwd=ROOT)
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode:
        sys.exit(f"error: fettle failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    steps = [event for event in events if event.get("type") == "step"]
    began = next(event["time"] for event in events if event.get("phase") == "training")
    last = next(event for event in events if event.get("type") == "done")
    return {
        "adapter": last["adapter"], "steps": len(steps), "tokens": last["real_tokens"], "first": began,
        "seconds": steps[-1]["time"] - began, "peak_bytes": peak(events), "losses": [event["loss"] for event in steps],
    }  # fmt: skip


def from_the_window(work: Work) -> float:
    """Seconds from a click on Start to the first step, with a trainer that stood by while the form was filled in."""
    operations = Operations(open_home())
    with tempfile.TemporaryDirectory() as folder:
        job = job_of(work, "fettle", Path(folder)) | {"settings": {"training.max_steps": 1}}
        spec = RunSpec(model=job["model"]).with_changes({"data.train": job["train"], **settings_of(job)})
        prepare_for(operations, spec)
        time.sleep(FILLED_IN)
        clicked = time.time()
        followed = operations.start_run(spec, Path(job["output"]))
        events = list(follow_events(followed.folder))
    if events[-1]["type"] != "done":
        sys.exit(f"error: fettle failed: {events[-1]}")
    return next(float(event["time"]) for event in events if event.get("phase") == "training") - clicked


def peak(events: list[dict[str, Any]]) -> int:
    """The most bytes that the loop held, as a rival's lane counts them: on a GPU of tensors alone."""
    chosen = {name: why for event in events for name, why in event.get("chosen", {}).items()}
    if chosen["device"].startswith("cuda"):
        return max(int(event["memory_bytes"]) for event in events if event.get("type") == "step")
    return next(int(event["held"]) for event in events if "held" in event)
