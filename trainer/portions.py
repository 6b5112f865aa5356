"""The loss of one optimiser step, computed in portions that fit the device's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from accelerate import Accelerator

from trainer.data.batches import Batch
from trainer.snapshot import Progress
from trainer.speed.choice import Way
from trainer.speed.flat import Flat
from trainer.speed.padded import Padded
from trainer.vision.shown import Pictures, Shown

Warn = Callable[[str], None]
AnyBatch = Batch | Pictures


class Portions:
    """Splits the rows of a step so that they fit; when memory runs out they become smaller, and the step stays whole."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: Any,
        checkpointing: str,
        smoothing: float,
        warn: Warn,
        way: Way | Shown | None = None,
    ) -> None:
        self._accelerator, self._model, self._smoothing, self._warn = accelerator, model, smoothing, warn
        self._way: Any = way or Padded(model)
        able = getattr(model, "supports_gradient_checkpointing", True)
        self._may_recompute = checkpointing == "auto" and able

    @property
    def end_to_end(self) -> bool:
        """Whether rows lie end to end, without padding."""
        return isinstance(self._way, Flat)

    def forward_and_backward(self, batches: Sequence[AnyBatch], progress: Progress) -> float:
        """Add up the gradients of all batches; returns their loss, each scored token weighing the same.

        Out of memory, it begins the step again with half the rows at once (kept in `progress`), at one row with
        activations computed twice instead of kept; raises torch's error when nothing is left to try.
        """
        while True:
            try:
                total = torch.zeros((), device=self._accelerator.device)
                for share in self.losses(batches, progress.micro_batch):
                    self._accelerator.backward(share)
                    total += share.detach()
                return total.item()
            except torch.OutOfMemoryError:
                if not self._shrink(max(len(batch.labels) for batch in batches), progress):
                    raise
            # Outside of the handler, whose error would hold the tensors of the failed attempt.
            self._model.zero_grad(set_to_none=True)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def losses(self, batches: Sequence[AnyBatch], most: int | None = None) -> Iterator[torch.Tensor]:
        """Each portion's share of the mean cross-entropy over the scored tokens of all; `most` rows at once."""
        scored = sum(batch.scored for batch in batches)
        with self._way.in_use():
            for batch in batches:
                for part in split(batch, most or len(batch.labels)):
                    if part.scored:
                        with self._accelerator.autocast():
                            loss = self._way.loss(part, self._smoothing)
                        yield loss * (part.scored / scored)

    def _shrink(self, largest: int, progress: Progress) -> bool:
        """Need less memory from now on; False when there is no way left."""
        rows = min(progress.micro_batch or largest, largest)
        if rows > 1:
            progress.micro_batch = rows // 2
            self._warn(
                f"Memory ran out with {rows} rows at once. From now on {rows // 2} are computed at once; "
                "each step still learns from as many rows as before."
            )
            return True
        if self._may_recompute and not progress.recomputes:
            progress.recomputes = True
            recompute_activations(self._model)
            self._warn(
                "Memory ran out with one row at once. From now on activations are computed twice, which is slower."
            )
            return True
        return False


def recompute_activations(model: Any) -> None:
    """Keep no activations inside the layers for the backward pass (gradient checkpointing)."""
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def split(batch: AnyBatch, most: int) -> Iterator[AnyBatch]:
    """The batch in parts of at most so many rows."""
    if len(batch.labels) <= most:
        yield batch
        return
    for start in range(0, len(batch.labels), most):
        yield batch.part(slice(start, start + most))
