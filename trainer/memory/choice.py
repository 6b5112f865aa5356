"""How many rows a step computes at once, so that it fits. Torch-free; the page asks the same as the run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

from trainer.memory.estimate import Load, Parts, estimate
from trainer.memory.shape import Shape
from trainer.spec import RunSpec

SHARE = 0.9  # of what is free is taken: the prediction may be wrong by so much, and others need memory too
# What glibc keeps of freed tensors, as a multiple of those that are needed: measured were 0.1 to 0.7, and 5.5 where
# activations are recomputed.
WASTE, WASTE_RECOMPUTING = 1.0, 7.0


@dataclass(frozen=True)
class Choice:
    """What a step will hold, and whether that is within what is `free` (bytes, for the whole process)."""

    load: Load
    parts: Parts
    free: int

    @property
    def fits(self) -> bool:
        """Whether the step is expected to fit."""
        return self.parts.total <= SHARE * self.free

    @property
    def roomy(self) -> bool:
        """Whether it fits even if the allocator gives nothing back."""
        waste = WASTE_RECOMPUTING if self.load.recomputes else WASTE
        return self.parts.total + waste * self.parts.growing <= SHARE * self.free


def choose(shape: Shape, spec: RunSpec, load: Load, free: int) -> Choice:
    """The most rows at once, of `load.rows`, that fit; where one row does not, with activations computed twice.

    What the settings name is taken as it is. Where nothing fits, it is the choice that needs least.
    """
    named = spec.training.micro_batch_size
    asked = spec.training.gradient_checkpointing
    ways = [True] if asked == "on" or load.recomputes else [False, True] if asked == "auto" else [False]
    sizes = [min(named, load.rows)] if named else list(portions(load.rows))
    if named:
        ways = ways[:1]
    found = None
    for recomputes in ways:
        for rows in sizes:
            tried = dataclasses.replace(load, rows=rows, recomputes=recomputes)
            found = Choice(tried, estimate(shape, spec, tried), free)
            if found.fits:
                return found
    assert found, "there is always a way to try"
    return found


def portions(rows: int) -> Iterator[int]:
    """The sizes of equal parts that `rows` can be computed in, the largest first."""
    size = rows
    for parts in range(1, rows + 1):
        if parts == 1 or math.ceil(rows / parts) < size:
            size = math.ceil(rows / parts)
            yield size


def corrected(choice: Choice, measured: int, rows: int) -> int:
    """The most of `rows` rows at once that fit, now that the step of `choice` has been measured."""
    fixed = choice.parts.total - choice.parts.growing
    a_row = max(0, measured - fixed) / choice.load.rows
    return next((size for size in portions(rows) if fixed + a_row * size <= SHARE * choice.free), 1)
