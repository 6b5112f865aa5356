"""What safetensors files say they hold, read from their headers and believed in nothing. Torch-free."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.errors import TrainError

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
LONGEST_HEADER = 100_000_000  # bytes, as safetensors itself allows
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
    "F4": 4,
}  # fmt: skip
_EMBEDDINGS = re.compile(r"(^|\.)(embed_tokens|wte|embed_in|word_embeddings|embeddings)\.weight$")


@dataclass(frozen=True)
class Weights:
    """The shapes of a model's tensors by name."""

    shapes: dict[str, tuple[int, ...]]

    def embedding_rows(self) -> int | None:
        """How many tokens the input embeddings know; None where no tensor is called so."""
        found = (shape for name, shape in self.shapes.items() if _EMBEDDINGS.search(name) and len(shape) == 2)
        return next((shape[0] for shape in found), None)

    def layers(self) -> int:
        """One more than the highest number of a repeated layer."""
        numbers = (re.match(r"(?:\w+\.)?(?:layers|h|blocks)\.(\d+)\.", name) for name in self.shapes)
        return max((int(found[1]) + 1 for found in numbers if found), default=0)


def read_weights(folder: Path) -> Weights:
    """The tensors of all files; raises `TrainError` for a file that is missing or is not what its header says."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in weight_files(folder):
        try:
            shapes |= _header(file)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise TrainError(
                "model-invalid",
                f"{file.name} in {folder} is damaged: {error}.",
                "Fetch the model again; nothing of it was loaded.",
            ) from error
    return Weights(shapes)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights: the one that usually does, those that the index names, or all there are."""
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    if not (folder / INDEX).is_file():
        return sorted(folder.glob("*.safetensors"))
    try:
        named = set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
        if not all(isinstance(name, str) and Path(name).name == name for name in named):
            raise ValueError("it names a file outside of the folder")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TrainError(
            "model-invalid", f"{INDEX} in {folder} is damaged: {error}.", "Fetch the model again."
        ) from error
    missing = sorted(name for name in named if not (folder / name).is_file())
    if missing:
        raise TrainError(
            "model-weights",
            f"{folder.name} is incomplete: {missing[0]} is missing, one of {len(missing)} of {len(named)} files.",
            "Fetch the model again.",
        )
    return sorted(folder / name for name in named)


def _header(file: Path) -> dict[str, tuple[int, ...]]:
    """Shapes by name; raises `ValueError` unless the tensors lie one behind the other and fill the file."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(size - 8, LONGEST_HEADER):
            raise ValueError(f"its header is {length:,} bytes long by its own account, in a file of {size:,}")
        told: dict[str, Any] = json.loads(stream.read(length))
    told.pop("__metadata__", None)
    place, shapes = 0, {}
    for name, tensor in sorted(told.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = tensor["data_offsets"]
        shape = tuple(map(int, tensor["shape"]))
        if begin != place or min(shape, default=0) < 0 or (end - begin) * 8 != math.prod(shape) * BITS[tensor["dtype"]]:
            raise ValueError(f"{name} does not lie where the header says, or has another size")
        place, shapes[name] = end, shape
    if 8 + length + place != size:
        raise ValueError(f"its tensors end at byte {8 + length + place:,} of {size:,}")
    return shapes
