"""Which ways of computing hold for this model: tried on real rows before the first step, never guessed by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from trainer.acting import decoder_layers
from trainer.data.batches import collate, row_lengths, rows_with_pictures
from trainer.data.masks import Example
from trainer.models.parts import STATE_SPACE, units
from trainer.spec import Training
from trainer.speed.attention import Unfit
from trainer.speed.flat import Flat, flatten
from trainer.speed.fused_lora import fuse, is_fused
from trainer.speed.gates import fuse_gates
from trainer.speed.head import Head
from trainer.speed.norms import fuse_norms
from trainer.speed.padded import Padded
from trainer.vision.sight import inputs

Way = Flat | Padded
# Rounding alone, over the largest logit; a row that sees another's tokens differs by more than ten times as much.
ALLOWED = {torch.float32: 1e-4, torch.float16: 0.01, torch.bfloat16: 0.05}
TRIED_TOKENS = 128  # a row of the trial; longer ones say no more and cost more


def choose_way(model: Any, examples: Sequence[Example], pad: int, training: Training) -> tuple[Way, dict[str, str]]:
    """How batches and adapted layers are computed, and why."""
    if training.end_to_end == "off":
        return Padded(model), {}
    way, why = _tried(model, examples, pad, training)
    return way, {"rows": why, **fuse_all(model)}


def fuse_all(model: Any) -> dict[str, str]:
    """Let adapted layers and norms compute in fewer passes, and MLPs keep less, where they can; returns what was done, in words."""
    return {"adapted_layers": fuse(model), "norms": fuse_norms(model), "gates": fuse_gates(model)}


def fuse_like(model: Any, other: Any) -> Any:
    """Let the model compute as the other does, so that the same weights give the same digits."""
    if is_fused(other):
        fuse_all(model)
    return model


def _tried(model: Any, examples: Sequence[Example], pad: int, training: Training) -> tuple[Way, str]:
    if training.compile:
        return Padded(model), "padded: layers are compiled for rows of one length"
    if training.neftune:
        return Padded(model), "padded: the noise on the embeddings is measured by the length of a padded row"
    if any(unit.part == STATE_SPACE for unit in units(model)):
        return Padded(model), "padded: this model has layers that carry a state from token to token"
    refused = ""
    for head in dict.fromkeys((Head.of(model), None)):
        flat = Flat(model, head)
        try:
            difference = _difference(model, flat, _two_rows(examples), pad)
        except (Unfit, TypeError, RuntimeError, ValueError, IndexError) as error:
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            refused = f"padded: this model cannot be computed with its rows end to end: {reason}"
            continue
        if difference <= ALLOWED.get(model.dtype, 0.0):
            how = "the head a portion at a time" if head else "all logits at once"
            why = f"rows end to end, without padding, {how}: two rows gave the same logits within {difference:.0e}"
            return flat, why
        refused = f"padded: with rows end to end this model's logits differ by {difference:.1e}"
    return Padded(model), refused


def _two_rows(examples: Sequence[Example]) -> list[Example]:
    """A short and a middling row, where lengths differ; where rows have pictures, the shortest with and without."""
    lengths, seeing = row_lengths(examples), set(rows_with_pictures(examples))
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    if not seeing:
        rows = [examples[order[0]], examples[order[len(order) // 2]]]
        return [Example(row.ids[:TRIED_TOKENS], row.ids[:TRIED_TOKENS]) for row in rows]
    shown, blind = [row for row in order if row in seeing], [row for row in order if row not in seeing]
    rows = [examples[row] for row in sorted([*blind[:1], *shown[:2]], key=lambda row: lengths[row])]
    return [Example(row.ids, row.ids, seen=row.seen) for row in rows]


@torch.no_grad()
def _difference(model: Any, flat: Flat, rows: list[Example], pad: int) -> float:
    """The largest difference between the logits of rows computed alone and end to end, over the largest logit."""
    was_training = model.training
    model.eval()
    try:
        alone = [_alone(model, row) for row in rows]
        with flat.in_use():
            batch = flatten(collate(rows, pad), rope=flat.rope)
            together = flat.logits(batch)
        layers = len(decoder_layers(model))
        if batch.lengths.asked != layers:
            raise Unfit(f"{batch.lengths.asked} of its {layers} layers attend by transformers' interface")
        with flat.in_use():
            if not flat.ends_with_its_head(batch):
                raise Unfit("its logits are not what its head gives")
    finally:
        model.train(was_training)
    wanted = torch.cat(alone).float()
    return float((together.float() - wanted).abs().max() / wanted.abs().max())


def _alone(model: Any, row: Example) -> torch.Tensor:
    ids = torch.tensor([row.ids])
    asked = {"input_ids": ids, **inputs([row.seen], ids)}
    logits: torch.Tensor = model(**{name: value.to(model.device) for name, value in asked.items()}).logits
    return logits[0, :-1]
