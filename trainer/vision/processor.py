"""A family's own processor, put together so that it also works without torchvision and without its video part."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from transformers import ProcessorMixin
from transformers.models.auto.image_processing_auto import (  # the package itself wants torchvision for these
    IMAGE_PROCESSOR_MAPPING_NAMES,
    AutoImageProcessor,
)

from trainer.errors import TrainError
from trainer.models.folder import read_config

INPUTS = ("pixel_values", "pixel_attention_mask", "image_grid_thw", "image_sizes")  # what models take of a picture
# Whose processor class works for a family, and in which module it is. SmolVLM's own wants a package for the words of
# numbers, which only videos need; its pictures are written as those of Idefics 3.
CLASSES = {
    "llava": ("llava", "LlavaProcessor"),
    "idefics3": ("idefics3", "Idefics3Processor"),
    "smolvlm": ("idefics3", "Idefics3Processor"),
    "gemma3": ("gemma3", "Gemma3Processor"),
    "qwen2_vl": ("qwen2_vl", "Qwen2VLProcessor"),
    "qwen2_5_vl": ("qwen2_5_vl", "Qwen2_5_VLProcessor"),
    "qwen3_vl": ("qwen3_vl", "Qwen3VLProcessor"),
    "internvl": ("internvl", "InternVLProcessor"),
}
TILED = ("idefics3", "smolvlm")  # pictures lie behind one another in the second dimension
FILES = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json", "chat_template.json")


@dataclass(frozen=True)
class Processed:
    """Pictures as a model takes them: its inputs, and for each the text that stands for it in the rendered row."""

    inputs: dict[str, torch.Tensor]
    texts: list[str]


class Processor:
    """What makes pictures into tensors and placeholders."""

    def __init__(self, folder: Path, family: str, parts: Any) -> None:
        self.family, self._folder, self._parts = family, folder, parts
        self.token: str = parts.image_token
        self.images: Any = parts.image_processor

    @classmethod
    def load(cls, folder: Path, tokenizer: Any) -> Processor:
        """The folder's processor; raises `TrainError` where there is none, or none that is known."""
        family = str(read_config(folder).get("model_type"))
        if not any((folder / name).is_file() for name in FILES[:2]):
            raise TrainError(
                "processor-missing",
                f"{folder.name} is a model that sees, but has no `preprocessor_config.json`, so nobody knows how it takes pictures.",
                "Fetch the model again, with all its files.",
            )
        try:
            images = _images(family).from_pretrained(folder, **({} if family in TILED else {"backend": "pil"}))
            told = _told(folder)
            if family == "mistral3":
                return cls(folder, family, Rows(images, tokenizer, **told))
            module, name = CLASSES[family]
            known = getattr(import_module(f"transformers.models.{module}.processing_{module}"), name)
            return cls(folder, family, _without_videos(known)(image_processor=images, tokenizer=tokenizer, **told))
        except (KeyError, ImportError, TypeError, ValueError, AttributeError, OSError) as error:
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            raise TrainError(
                "processor-unknown",
                f"The processor of {folder.name} ({family}) cannot be used: {reason}",
                "Choose a model of one of the families in docs/models.md.",
            ) from error

    def process(self, pictures: Sequence[Image]) -> Processed:
        """Pictures of one row, in RGB."""
        options = {"return_row_col_info": True} if self.family in TILED else {}
        inputs, texts = self._parts._process_images(list(pictures), return_tensors="pt", **options)
        return Processed({name: inputs[name] for name in INPUTS if name in inputs}, texts)

    def join(self, rows: Sequence[Processed]) -> dict[str, torch.Tensor]:
        """The inputs of several rows, in their order."""
        side = 1 if self.family in TILED else 0
        return {
            name: torch.cat(_of_one_size([row.inputs[name] for row in rows], side), side)
            for name in (rows[0].inputs if rows else ())
        }

    def types(self, ids: torch.Tensor) -> torch.Tensor:
        """1 where a token stands for a part of a picture, else 0."""
        return torch.isin(ids, torch.tensor(sorted(self.ids))).long()

    @property
    def ids(self) -> set[int]:
        """The tokens that stand for parts of a picture."""
        return set(self._parts.image_token_ids)

    def save(self, folder: Path) -> None:
        """Copy what says how pictures are taken beside the tokenizer."""
        for file in self._files():
            shutil.copy(file, folder)

    def contents(self) -> list[bytes]:
        """What says how pictures are taken."""
        return [file.read_bytes() for file in self._files()]

    def _files(self) -> list[Path]:
        return [self._folder / name for name in FILES if (self._folder / name).is_file()]


class Rows:
    """Mistral 3's way (Pixtral's): a token for each patch, one at the end of each line of patches, one at the end."""

    def __init__(
        self, images: Any, tokenizer: Any, patch_size: int = 16, spatial_merge_size: int = 1, **told: Any
    ) -> None:
        self.image_processor, self._side = images, patch_size * spatial_merge_size
        names = {"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]"}
        self.image_token, self._line, self._end = (str(told.get(name, usual)) for name, usual in names.items())
        self.image_token_ids = tokenizer.convert_tokens_to_ids([self.image_token, self._line, self._end])

    def _process_images(self, pictures: list[Image], **options: Any) -> tuple[Any, list[str]]:
        inputs = self.image_processor(pictures, patch_size=self._side, **options)
        return inputs, [self._text(*size) for size in inputs["image_sizes"].tolist()]

    def _text(self, height: int, width: int) -> str:
        line = self.image_token * (width // self._side)
        return self._line.join([line] * (height // self._side)) + self._end


def _images(family: str) -> Any:
    """What loads the part for pictures; of two families the automatic one does not find it without torchvision."""
    if family not in TILED:
        return AutoImageProcessor
    module = import_module(f"transformers.models.{family}.image_processing_pil_{family}")
    return getattr(module, IMAGE_PROCESSOR_MAPPING_NAMES[family]["pil"])


def _told(folder: Path) -> dict[str, Any]:
    """What the processor is made with beside its parts."""
    path = folder / FILES[0]
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    parts = ("image_processor", "video_processor", "feature_extractor", "processor_class", "auto_map", "tokenizer")
    return {name: value for name, value in content.items() if name not in parts}


def _without_videos(known: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """The class, content without what makes videos into tensors."""

    def check(self: Any, name: str, argument: Any) -> Any:
        return None if argument is None else known.check_argument_for_proper_class(self, name, argument)

    return type(known.__name__, (known,), {"check_argument_for_proper_class": check, "__module__": known.__module__})


def _of_one_size(tensors: list[torch.Tensor], side: int) -> list[torch.Tensor]:
    """Padded with zeros at the end of every dimension but `side`, to the largest."""
    largest = [max(sizes) for sizes in zip(*(each.shape for each in tensors), strict=True)]
    found = []
    for each in tensors:
        lacking = [
            0 if at == side else most - size for at, (most, size) in enumerate(zip(largest, each.shape, strict=True))
        ]
        ends = [number for each_side in reversed(lacking) for number in (0, each_side)]
        found.append(torch.nn.functional.pad(each, ends) if any(ends) else each)
    return found
