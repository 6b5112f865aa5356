"""MLPs with a gate that keep two wide tensors for the backward pass in place of four, and make the others again."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from trainer.acting import decoder_layers
from trainer.speed.again import can_be_made_again

PARTS = ("gate_proj", "up_proj", "down_proj", "act_fn")


class Gated(torch.autograd.Function):
    """f(gate) up for any f that works number by number; keeps gate and up alone."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor, f: Any) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        ctx.f = f
        return f(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        with torch.enable_grad():
            gate = gate.detach().requires_grad_()
            opened = ctx.f(gate)
        opened.backward(gradients[0] * up)
        return gate.grad, gradients[0] * opened.detach(), None


def fuse_gates(model: Any) -> str:
    """Let every MLP that is down(f(gate(x)) up(x)) compute as above; returns how many do, in words."""
    mlps = [module for layer in decoder_layers(model) for module in layer.modules()]
    mlps = [module for module in mlps if all(hasattr(module, part) for part in PARTS)]
    same: dict[object, bool] = {}  # of MLPs that are made alike, one speaks for all
    fused = 0
    for mlp in mlps:
        made = id(mlp) if "forward" in vars(mlp) else repr(mlp)
        if made not in same:
            same[made] = _gives_the_same(mlp, model.dtype)
        if same[made]:
            mlp.forward = partial(_forward, mlp, mlp.forward)
            fused += 1
    return f"{fused} of {len(mlps)} MLPs with a gate make two of four tensors again in place of keeping them"


def _forward(mlp: Any, ordinary: Any, x: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
    if arguments or named:
        given: torch.Tensor = ordinary(x, *arguments, **named)
        return given
    gate, up = mlp.gate_proj(x), mlp.up_proj(x)
    product = Gated.apply(gate, up, mlp.act_fn)
    given = mlp.down_proj(can_be_made_again(product, lambda gate, up: mlp.act_fn(gate).mul_(up), gate, up))
    return given


def _gives_the_same(mlp: Any, dtype: torch.dtype) -> bool:
    """Try it on random tokens, forward and backward; True where it computes the same, bit for bit."""
    was_training = mlp.training
    mlp.eval()
    try:
        ways = mlp.forward, partial(_forward, mlp, mlp.forward)
        return all(map(torch.equal, *(_tried(way, mlp, dtype) for way in ways)))
    except (TypeError, ValueError, RuntimeError, AttributeError):
        return False
    finally:
        mlp.train(was_training)


def _tried(compute: Any, mlp: Any, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """What it gives for random tokens, and the gradient of these."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 2, mlp.gate_proj.in_features, generator=generator).to(mlp.gate_proj.weight.device, dtype)
    with torch.enable_grad():
        y = compute(x.requires_grad_())
        (gradient,) = torch.autograd.grad(y.sum(), x)
    return y.detach(), gradient
