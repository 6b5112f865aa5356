"""LoRA layers in fewer passes over memory: the same products, without casts and copies between them."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora.layer import Linear
from torch.nn.functional import linear


class LoraLinear(torch.autograd.Function):
    """y = x W' + b + s (n x A') B', with W and b frozen and n the noise of dropout; x of shape [tokens, in].

    Backward, with g = dy: dx = g W + s n (g B) A; dA = s (g B)' (n x); dB = s g' (n x A').
    The products of A and B are of the layer's precision, their gradients of the weights' own.
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
        noise = torch.empty_like(x).bernoulli_(1 - dropout).div_(1 - dropout) if dropout else None
        inner = (x * noise if noise is not None else x) @ low_a.t()
        y = linear(x, weight, bias)
        y.addmm_(inner, low_b.t(), alpha=scale)
        ctx.save_for_backward(x, noise, inner, weight, low_a, low_b)
        ctx.scale, ctx.dtypes = scale, (a.dtype, b.dtype)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, noise, inner, weight, a, b = ctx.saved_tensors
        g, scale, (of_a, of_b) = gradients[0], ctx.scale, ctx.dtypes
        outer = g @ b
        dx = None
        if ctx.needs_input_grad[0]:
            dx = g @ weight
            if noise is None:
                dx.addmm_(outer, a, alpha=scale)
            else:
                dx.addcmul_(outer @ a, noise, value=scale)
        seen = x if noise is None else x * noise
        da = torch.addmm(x.new_empty(()), outer.t(), seen, beta=0, alpha=scale).to(of_a)
        db = torch.addmm(x.new_empty(()), g.t(), inner, beta=0, alpha=scale).to(of_b)
        return dx, None, None, da, db, None, None


def fuse(model: PeftModel) -> str:
    """Let every LoRA layer that is plain compute by `LoraLinear`; returns how many do, in words."""
    layers = [module for module in model.modules() if isinstance(module, Linear)]
    plain = [layer for layer in layers if _is_plain(layer)]
    for layer in plain:
        layer.forward = _forward_of(layer)
    return f"{len(plain)} of {len(layers)} adapted layers in fewer passes over memory"


def fuse_like(model: PeftModel, other: Any) -> PeftModel:
    """Let the model compute as the other does, so that the same weights give the same digits."""
    if any(isinstance(module, Linear) and "forward" in vars(module) for module in other.modules()):
        fuse(model)
    return model


def _is_plain(layer: Any) -> bool:
    """One adapter without a variant or a bias of its own, on an ordinary frozen linear layer."""
    names = list(layer.lora_A)
    if len(names) != 1 or type(layer.base_layer) is not torch.nn.Linear or layer.base_layer.weight.requires_grad:
        return False
    name = names[0]
    return name not in layer.lora_variant and layer.lora_B[name].bias is None


def _forward_of(layer: Any) -> Any:
    name = next(iter(layer.lora_A))
    base, a, b, scale = layer.base_layer, layer.lora_A[name], layer.lora_B[name], float(layer.scaling[name])
    dropout = getattr(layer.lora_dropout[name], "p", 0.0)  # an Identity where there is none
    ordinary = layer.forward

    def forward(x: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        casting = torch.is_autocast_enabled(x.device.type) or x.dtype != base.weight.dtype
        if casting or arguments or named or layer.disable_adapters or layer.merged:
            result: torch.Tensor = ordinary(x, *arguments, **named)
            return result
        flat = x.reshape(-1, x.shape[-1])
        done: torch.Tensor = LoraLinear.apply(
            flat, base.weight, base.bias, a.weight, b.weight, scale, dropout if layer.training else 0.0
        )
        return done.view(*x.shape[:-1], -1)

    return forward
