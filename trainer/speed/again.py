"""Tensors that a backward pass makes again from others, which are kept anyway, in place of keeping them too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch


class Recipe(NamedTuple):
    """How a tensor is made of others."""

    make: Callable[..., torch.Tensor]
    of: tuple[torch.Tensor, ...]


def can_be_made_again(made: torch.Tensor, make: Callable[..., torch.Tensor], *of: torch.Tensor) -> torch.Tensor:
    """The same tensor; a layer that would keep it may keep what it is made of."""
    made.recipe = Recipe(make, tuple(each.detach() for each in of))
    return made


def recipe_of(x: torch.Tensor) -> Recipe:
    """How it is made again; of itself if nobody said."""
    recipe: Any = getattr(x, "recipe", None)
    return recipe or Recipe(torch.Tensor.detach, (x,))
