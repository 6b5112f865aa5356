"""LoRA layers in fewer passes over memory: the same products, without casts and copies between them.

Layers that are given the same input (queries, keys and values; gate and up) are computed together, as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora.layer import Linear
from torch.nn.functional import linear

from trainer.speed.again import Recipe, recipe_of
from trainer.speed.blocks import over_tokens, products

Given = tuple[torch.Tensor | None, ...]


class LoraLinears(torch.autograd.Function):
    """y_i = x W_i' + b_i + s_i (x A_i') B_i' for layers with the same x of shape [tokens, in]; W and b are frozen.

    `recipe` makes x again, `low` is A and B of each layer in turn. Backward, with g = dy: dx = g W + (s g B) A;
    dA = (s g B)' x; dB = s g' (x A'). Products of A and B are of the base's precision, their gradients of the weights'.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weights: Sequence[torch.Tensor],
        biases: Sequence[torch.Tensor | None],
        scales: Sequence[float],
        recipe: Recipe,
        *low: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        a, b = torch.cat([each.to(x.dtype) for each in low[::2]]), [each.to(x.dtype) for each in low[1::2]]
        inner = products((x, a.t(), 1.0))
        parts = inner.split([each.shape[1] for each in b], 1)
        given = tuple(
            products((x, weight.t(), 1.0), (part, each.t(), scale))
            for weight, part, each, scale in zip(weights, parts, b, scales, strict=True)
        )
        for y, bias in zip(given, biases, strict=True):
            if bias is not None:
                y.add_(bias)
        ctx.save_for_backward(inner, a, *b, *recipe.of)
        ctx.weights, ctx.scales, ctx.make, ctx.dtype = weights, scales, recipe.make, low[0].dtype
        return given

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Given:
        inner, a, *others = ctx.saved_tensors
        b, of = others[: len(ctx.scales)], others[len(ctx.scales) :]
        x = ctx.make(*of).reshape(len(inner), -1)
        ranks = [each.shape[1] for each in b]
        outer = torch.cat([products(term) for term in zip(gradients, b, ctx.scales, strict=True)], 1)
        dx = None
        if ctx.needs_input_grad[0]:
            base = ((g, weight, 1.0) for g, weight in zip(gradients, ctx.weights, strict=True))
            dx = products(*base, (outer, a, 1.0))
        da = over_tokens(outer, x).to(ctx.dtype).split(ranks)
        parts = zip(gradients, inner.split(ranks, 1), ctx.scales, strict=True)
        db = [over_tokens(*part).to(ctx.dtype) for part in parts]
        return dx, None, None, None, None, *(each for pair in zip(da, db, strict=True) for each in pair)


class NoisyLoraLinear(torch.autograd.Function):
    """y = x W' + b + s (n x A') B' with n the noise of dropout, for one layer; x of shape [tokens, in].

    Backward, with g = dy: dx = g W + s n (g B) A; dA = s (g B)' (n x); dB = s g' (n x A').
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
        dropout: float,
    ) -> torch.Tensor:
        low_a, low_b = a.to(x.dtype), b.to(x.dtype)
        # Drawn as torch's own dropout draws it, so that the same seed gives the same run.
        noise = torch.empty_like(x).bernoulli_(1 - dropout).div_(1 - dropout)
        inner = (x * noise) @ low_a.t()
        y = linear(x, weight, bias).addmm_(inner, low_b.t(), alpha=scale)
        ctx.save_for_backward(x, noise, inner, weight, low_a, low_b)
        ctx.scale, ctx.dtype = scale, a.dtype
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Given:
        x, noise, inner, weight, a, b = ctx.saved_tensors
        g, outer = gradients[0], (gradients[0] @ b).mul_(ctx.scale)
        dx = (g @ weight).addcmul_(outer @ a, noise) if ctx.needs_input_grad[0] else None
        da = (outer.t() @ (x * noise)).to(ctx.dtype)
        db = torch.addmm(x.new_empty(()), g.t(), inner, beta=0, alpha=ctx.scale).to(ctx.dtype)
        return dx, None, None, da, db, None, None


class Siblings:
    """Plain layers that are given the same input: the first to be called computes all, the others take their own."""

    def __init__(self, layers: list[Any]) -> None:
        names = [next(iter(layer.lora_A)) for layer in layers]
        self._layers = layers
        self._low = [(layer.lora_A[name], layer.lora_B[name]) for layer, name in zip(layers, names, strict=True)]
        self._scales = tuple(float(layer.scaling[name]) for layer, name in zip(layers, names, strict=True))
        self._dropout = [getattr(layer.lora_dropout[name], "p", 0.0) for layer, name in zip(layers, names, strict=True)]
        self._weights = [layer.base_layer.weight for layer in layers]
        self._biases = [layer.base_layer.bias for layer in layers]
        self._x: torch.Tensor | None = None
        self._given: dict[int, torch.Tensor] = {}
        for number, layer in enumerate(layers):
            layer.forward = self._forward(number, layer.forward)

    def _forward(self, number: int, ordinary: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        layer = self._layers[number]

        def forward(x: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
            casting = torch.is_autocast_enabled(x.device.type) or x.dtype != self._weights[0].dtype
            if casting or arguments or named or layer.disable_adapters or layer.merged:
                return ordinary(x, *arguments, **named)
            if self._x is not x or number not in self._given:
                self._x, self._given = x, dict(enumerate(self._computed(x, training=layer.training)))
            y = self._given.pop(number)
            if not self._given:
                self._x = None
            return y.view(*x.shape[:-1], -1)

        return forward

    def _computed(self, x: torch.Tensor, *, training: bool) -> Iterable[torch.Tensor]:
        flat = x.reshape(-1, x.shape[-1])
        low = [(a.weight, b.weight) for a, b in self._low]
        if not training or not any(self._dropout):
            found: Iterable[torch.Tensor] = LoraLinears.apply(
                flat, self._weights, self._biases, self._scales, recipe_of(x), *(each for pair in low for each in pair)
            )
            return found
        own = zip(self._weights, self._biases, low, self._scales, self._dropout, strict=True)
        return [
            NoisyLoraLinear.apply(flat, weight, bias, *pair, scale, dropout)
            for weight, bias, pair, scale, dropout in own
        ]


def fuse(model: PeftModel) -> str:
    """Let every LoRA layer that is plain compute as above, siblings together; returns how many do, in words."""
    layers = [module for module in model.modules() if isinstance(module, Linear)]
    groups = _siblings(model, [layer for layer in layers if _is_plain(layer)])
    for group in groups:
        Siblings(group)
    plain = sum(map(len, groups))
    return f"{plain} of {len(layers)} adapted layers in fewer passes over memory, in {len(groups)} groups"


def is_fused(model: Any) -> bool:
    """Whether its LoRA layers compute as above."""
    return any(isinstance(module, Linear) and "forward" in vars(module) for module in model.modules())


def _is_plain(layer: Any) -> bool:
    """One adapter without a variant or a bias of its own, on an ordinary frozen linear layer."""
    names = list(layer.lora_A)
    if len(names) != 1 or type(layer.base_layer) is not torch.nn.Linear or layer.base_layer.weight.requires_grad:
        return False
    name = names[0]
    return name not in layer.lora_variant and layer.lora_B[name].bias is None


@torch.no_grad()
def _siblings(model: Any, layers: list[Any]) -> list[list[Any]]:
    """Layers that were given the same tensor when the model was asked for two tokens; alone where it cannot be asked."""
    inputs: dict[int, torch.Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda _, given, place=place: inputs.setdefault(place, given[0]))
        for place, layer in enumerate(layers)
    ]
    was_training = model.training
    model.eval()
    try:
        model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=model.device))
    except (TypeError, ValueError, RuntimeError):
        inputs = {}
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    groups: dict[int, list[Any]] = {}
    for place, layer in enumerate(layers):
        groups.setdefault(id(inputs[place]) if place in inputs else -place, []).append(layer)
    return list(groups.values())
