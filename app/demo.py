"""`fettle demo`: the whole main job on a fresh machine, with a table at the end."""

from __future__ import annotations

import time

from app import models
from app.environment import environment_view
from app.errors import AppError
from app.operations import Operations
from app.terminal import Display, duration, say_json, size
from trainer.spec import RunSpec


def run(operations: Operations, skill: str, *, allow_large: bool, as_json: bool) -> None:
    """Install if nothing is installed, train the starter on a bundled skill, judge, and say what to type next."""
    if skill not in {dataset.id for dataset in models.datasets()}:
        raise AppError("skill-unknown", f"There is no skill '{skill}'.", "Choose ticket or calendar.")
    display = Display(as_json=as_json)
    began = time.monotonic()
    machine = environment_view(operations).hardware
    display.line(
        f"This machine: {machine.cpu}, {machine.cores} cores, {size(machine.memory_bytes)} memory, accelerator: {machine.accelerator}"
    )

    display.line("\n1. Environment")
    installed = _ensure_environment(operations, display, allow_large=allow_large)

    display.line(f"\n2. Training: the starter learns '{skill}'")
    spec = RunSpec(model="starter", name=f"Demo: {skill}").with_changes(
        {"data.train": skill} | models.recommended_for("starter")
    )
    started = operations.start_run(spec)
    last = display.watch(operations, started)
    if last["type"] == "stopped":
        left = f"The adapter so far is in {last['adapter']}." if last["adapter"] else "Start it again when you like."
        raise AppError("demo-stopped", "The demo was stopped before its end.", left)

    whole = time.monotonic() - began
    judged = operations.get(started.id).view().train
    if judged and judged.evaluation:
        display.line(f"\n3. Result on {judged.evaluation.rows} held-out messages\n\n  {judged.evaluation.verdict}")
    display.line(
        f"  installed in {duration(installed)}, trained in {duration(last['train_seconds'])} "
        f"at {last['real_tokens_per_second']:,.0f} real tokens a second, all in {duration(whole)}"
    )
    display.line(
        f"\nRun: {started.folder}\nAdapter: {last['adapter']}\n\nNext:\n"
        f'  fettle chat {started.id} "{_prompt(skill)}"\n  fettle            the window, with this run in it'
    )
    if as_json:
        keys = (
            "base_exact_match",
            "tuned_exact_match",
            "base_loss",
            "tuned_loss",
            "train_seconds",
            "real_tokens_per_second",
            "adapter",
        )
        say_json(
            {"type": "demo", **{key: last[key] for key in keys}, "run": started.id, "folder": str(started.folder)}
            | {"install_seconds": round(installed, 2), "seconds": round(whole, 2)}
        )


def _ensure_environment(operations: Operations, display: Display, *, allow_large: bool) -> float:
    """Install unless a generation is active; returns the seconds that took."""
    began = time.monotonic()
    status = operations.store.status()
    if status.active and not status.problems:
        display.line(f"  {status.active.id} is active already")
        return 0.0
    last = display.watch(operations, operations.start_install(allow_large=allow_large))
    if last["type"] == "stopped":
        raise AppError("demo-stopped", "The installation was cancelled.", "Start the demo again when you like.")
    seconds = time.monotonic() - began
    display.line(f"  {last['generation']} is active ({duration(seconds)})")
    return seconds


def _prompt(skill: str) -> str:
    return next(dataset.example_prompt for dataset in models.datasets() if dataset.id == skill)
