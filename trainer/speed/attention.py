"""Attention of rows that lie end to end, each for itself, through transformers' own interface for attention."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from trainer.models.parts import language_model
from trainer.speed import SHORT_ROW
from trainer.speed.short_rows import Groups, ShortRows

NAME = "rows-end-to-end"
# What a family may hand over and this function has no answer for: sinks, soft caps, position biases.
UNKNOWN = ("s_aux", "softcap", "position_bias")


@dataclass
class RowLengths:
    """Handed through the model to its layers: the tokens of each row, from short to long, and how many layers asked.

    Behind the rows lie `filler` tokens that attend to nothing; short rows are padded to multiples of `step`.
    """

    tokens: list[int]
    filler: int = 0
    step: int = 1
    asked: int = 0

    @cached_property
    def short(self) -> int:
        """How many rows are short."""
        return bisect_right(self.tokens, SHORT_ROW)

    @cached_property
    def groups(self) -> Groups:
        """The short rows in groups of like length."""
        return Groups(self.tokens[: self.short], self.step)


class Unfit(Exception):
    """A family whose attention needs more than this function knows."""


class Attention:
    """Switches a model to attention within rows, and back."""

    def __init__(self, model: Any) -> None:
        reading = language_model(model).modules()
        configs = {id(module.config): module.config for module in reading if hasattr(module, "config")}
        self._configs = [config for config in configs.values() if hasattr(config, "_attn_implementation")]
        AttentionInterface.register(NAME, attend)
        AttentionMaskInterface.register(NAME, _no_mask)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Inside, layers attend by `attend`."""
        before = [config._attn_implementation for config in self._configs]
        try:
            for config in self._configs:
                config._attn_implementation = NAME
            yield
        finally:
            for config, name in zip(self._configs, before, strict=True):
                config._attn_implementation = name


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    row_lengths: RowLengths | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row; query [1, heads, tokens, size] to [1, tokens, heads, size].

    Raises `Unfit` where the family asks for something else.
    """
    unknown = [name for name in UNKNOWN if more.get(name) is not None]
    if unknown:
        raise Unfit(f"its attention uses {unknown[0]}")
    if row_lengths is None or query.shape[0] != 1:
        raise Unfit("it does not tell its attention where rows end")
    row_lengths.asked += 1
    tokens, done = [*row_lengths.tokens, row_lengths.filler], []
    together = row_lengths.short if query.device.type == "cpu" and not dropout else 0
    if together and sliding_window and tokens[together - 1] > sliding_window:
        together = 0
    if together:
        tokens = [sum(tokens[:together]), *tokens[together:]]
    # Split, not sliced: the backward pass of a split is one concatenation, that of slices a sum of whole tensors.
    parts = list(zip(*(each.split(tokens, dim=2) for each in (query, key, value)), strict=True))
    _, _, filler = parts.pop()
    if together:
        q, k, v = parts.pop(0)
        done.append(ShortRows.apply(q[0], k[0], v[0], scaling or q.shape[3] ** -0.5, row_lengths.groups)[None])
    done += [_one_row(q, k, v, scaling, dropout, sliding_window).transpose(1, 2) for q, k, v in parts]
    if row_lengths.filler:
        done.append(filler.new_zeros(1, row_lengths.filler, query.shape[1], value.shape[3]))
    return done[0] if len(done) == 1 else torch.cat(done, dim=1), None


def _one_row(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scaling: float | None, dropout: float, window: int | None
) -> torch.Tensor:
    length = q.shape[2]
    mask = _window(length, window, q.device)
    grouped = q.shape[1] != k.shape[1]
    return scaled_dot_product_attention(
        q, k, v, mask, dropout, is_causal=mask is None, scale=scaling, enable_gqa=grouped
    )


def _window(length: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """Who sees whom where a layer looks back no further than `window` tokens; None where that is everybody."""
    if window is None or length <= window:
        return None
    place = torch.arange(length, device=device)
    back = place[:, None] - place[None, :]
    return (back >= 0) & (back < window)


def _no_mask(**_: Any) -> None:
    """The rows are told apart by their lengths."""
