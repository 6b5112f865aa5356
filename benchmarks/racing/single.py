"""Figures that need no pairs: step for step the same losses as TRL, memory at the same batches, work over the floor."""

from __future__ import annotations

import tempfile
from pathlib import Path

from racing.figures import at_most
from racing.runs import Work, call, job_of, run

SAME, MEMORY, FLOPS = 1e-3, 0.4, 1.15
IN_FP32 = {"training.precision": "fp32", "base_precision": "fp32"}


def same_math(work: Work) -> bool:
    """Fettle and TRL from the same adapter, on the same rows in the same order, in fp32: their losses, step by step."""
    ours = run(work, "fettle", settings={**IN_FP32, "lora.start_from": str(work.adapter)})
    theirs = run(work, "trl-same")
    print(f"  {ours}\n  {theirs}")
    differences = [abs(one - other) for one, other in zip(ours.losses, theirs.losses, strict=True)]
    what = f"{work.shape}, the largest difference of {len(differences)} losses to TRL's, in nats"
    return at_most(what, [max(*differences, 1e-9)], SAME)


def memory(work: Work) -> bool:
    """The peak beside that of TRL as it comes, on the same batches."""
    ours, theirs = run(work, "fettle"), run(work, "trl-ordered")
    print(f"  {ours}\n  {theirs}")
    return at_most(
        f"{work.shape}, peak of memory over TRL's on the same batches", [ours.peak_bytes / theirs.peak_bytes], MEMORY
    )


def flops(work: Work) -> bool:
    """Operations of Fettle's steps over those that have to be."""
    with tempfile.TemporaryDirectory() as folder:
        told = call(work.python, "flops", job_of(work, "fettle", Path(folder)))
    print(
        f"  {told['counted']:.4g} operations in {told['steps']} steps of {told['tokens']:,} real tokens; {told['of']}"
    )
    return at_most(f"{work.shape}, operations over the floor", [told["counted"] / told["floor"]], FLOPS, digits=4)
