"""What decides a model's memory, read from `config.json` and the headers of its weights. Torch-free."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.errors import TrainError
from trainer.models.fitting import text_part
from trainer.models.folder import read_config
from trainer.models.weights import read_weights

ALL_LINEAR = "all-linear"
ATTENTION = re.compile(r"(^|[._])(q|k|v|o|qkv|query|key|value|query_key_value|out|c_attn|dense)(_proj)?$")


@dataclass(frozen=True)
class Matrix:
    """A weight of two dimensions: its module's name, and the two sizes as they are stored."""

    name: str
    rows: int
    columns: int

    @property
    def layer(self) -> int | None:
        """The number of the layer it is in; None for embeddings and the head."""
        found = re.search(r"\.(\d+)\.", self.name)
        return int(found[1]) if found else None


@dataclass(frozen=True)
class Shape:
    """A model's sizes; `parameters` counts everything that is stored."""

    family: str
    parameters: int
    hidden: int
    layers: int
    heads: int
    inner: int
    queries: int  # width of all query heads together
    keys: int  # width of all key heads together
    vocabulary: int
    matrices: tuple[Matrix, ...]

    def adapted(self, asked: str) -> list[Matrix]:
        """The matrices inside the layers that `lora.target_modules` reaches."""
        inside = [each for each in self.matrices if each.layer is not None and not each.name.endswith("embed_tokens")]
        if asked == ALL_LINEAR:
            return inside
        words = {word.strip() for word in asked.split(",")}
        if all(re.fullmatch(r"[\w.-]+", word) for word in words):
            return [each for each in inside if _named(each.name, words)]
        try:
            return [each for each in inside if re.fullmatch(asked, each.name)]
        except re.error:
            return []  # the run refuses it by name


def read_shape(folder: Path) -> Shape:
    """The model's sizes; raises `TrainError` (`model-invalid`) where the folder does not tell them."""
    config, shapes = read_config(folder), read_weights(folder).shapes
    family, config = str(config.get("model_type", "")), text_part(config)
    try:
        hidden = _first(config, "hidden_size", "n_embd", "d_model")
        heads = _first(config, "num_attention_heads", "n_head", "n_heads", default=1)  # state spaces have none
        wide = _first(config, "head_dim", default=hidden // heads)
        return Shape(
            family=family,
            parameters=sum(map(math.prod, shapes.values())),
            hidden=hidden,
            layers=_first(config, "num_hidden_layers", "n_layer", "n_layers", "num_layers"),
            heads=heads,
            inner=_first(config, "intermediate_size", "ffn_dim", "n_inner", default=4 * hidden),
            queries=heads * wide,
            keys=_first(config, "num_key_value_heads", default=heads) * wide,
            vocabulary=_first(config, "vocab_size"),
            matrices=tuple(
                Matrix(name.removesuffix(".weight"), *sizes)
                for name, sizes in shapes.items()
                if len(sizes) == 2 and name.endswith(".weight")
            ),
        )
    except KeyError as error:
        raise TrainError(
            "model-invalid",
            f"{folder / 'config.json'} does not say what `{error.args[0]}` is.",
            "Check that the folder is complete, or fetch it again.",
        ) from error


def _first(config: dict[str, Any], *names: str, default: int | None = None) -> int:
    for name in names:
        if isinstance(config.get(name), int) and config[name] > 0:
            return int(config[name])
    if default is None:
        raise KeyError(names[0])
    return default


def _named(module: str, words: set[str]) -> bool:
    """Whether one of the words means this module: by the end of its path, or as `attention` or `mlp`."""
    part = "attention" if ATTENTION.search(module) else "mlp"
    return part in words or any(module == word or module.endswith(f".{word}") for word in words)
