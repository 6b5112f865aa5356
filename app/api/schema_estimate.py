"""What the page is told of a run before it is started: how long it is, and what memory it needs."""

from __future__ import annotations

from pydantic import BaseModel

TITLES = {
    "process": "Python and its libraries",
    "weights": "The model's weights",
    "adapter": "The adapter",
    "gradients": "Its gradients",
    "optimizer": "The optimiser's state",
    "activations": "Activations",
    "logits": "Logits and their loss",
}


class MemoryPart(BaseModel):
    """One purpose of a run's memory, in bytes."""

    name: str
    title: str
    bytes: int

    @classmethod
    def named(cls, sizes: dict[str, int]) -> list[MemoryPart]:
        """The parts with what a person calls them."""
        return [cls(name=name, title=TITLES.get(name, name), bytes=size) for name, size in sizes.items()]


class MemoryView(BaseModel):
    """What a step is predicted to hold and what is free, in bytes; `measured` before the first step, `held` in all.

    `rough`: a model family whose sizes were not counted. `rows` are computed at once.
    """

    parts: list[MemoryPart]
    predicted: int
    free: int
    rough: bool
    rows: int
    recomputes: bool
    measured: int | None = None
    held: int | None = None


class EstimateView(BaseModel):
    """A run that was not started: rows and steps (None where the rows are not read here), and its memory.

    `longest` is the longest row in tokens, guessed from its characters; `text` says in words whether it fits.
    """

    device: str
    rows: int | None
    steps: int | None
    longest: int
    fits: bool
    text: str
    memory: MemoryView
