"""What lets a run see: a model's processor, and the pictures of each row as the model takes them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from trainer.data.samples import Picture, Place, Sample
from trainer.errors import TrainError
from trainer.models.folder import read_config
from trainer.vision import sees

if TYPE_CHECKING:  # what opens pictures takes half a second to load, and most runs read text alone
    from trainer.vision.processor import Processed, Processor

MOST_KEPT = 1 << 30  # bytes of processed pictures
TYPES = {"gemma3": "token_type_ids", "qwen2_vl": "mm_token_type_ids", "qwen2_5_vl": "mm_token_type_ids", "qwen3_vl": "mm_token_type_ids"}  # fmt: skip


class Sight:
    """Makes pictures into a model's inputs, and keeps them while there is room: every epoch asks for them again."""

    def __init__(self, processor: Processor, room: int = MOST_KEPT) -> None:
        self.processor, self._room = processor, room
        self._kept: dict[tuple[Picture, ...], Processed] = {}

    def processed(self, pictures: tuple[Picture, ...], place: Place | None) -> Processed:
        """The pictures of one row as the model takes them; raises `TrainError` for one that cannot be opened."""
        found = self._kept.get(pictures)
        if found is None:
            from trainer.vision.opening import open_picture

            found = self.processor.process([open_picture(each, place) for each in pictures])
            size = sum(each.nbytes for each in found.inputs.values())
            if size <= self._room:  # the first stay: of rows in random order none is asked for sooner than another
                self._room -= size
                self._kept[pictures] = found
        return found

    @classmethod
    def of(cls, folder: Path, tokenizer: Any) -> Sight | None:
        """That of the folder's model; None where it reads text alone."""
        if not (folder / "config.json").is_file() or not sees(read_config(folder)):
            return None
        from trainer.vision.processor import Processor

        return cls(Processor.load(folder, tokenizer))

    def digest(self) -> str:
        """What changes with the way in which pictures become tokens."""
        code = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
        return hashlib.sha256(b"".join([*code, *self.processor.contents()])).hexdigest()

    def place(self, text: str, sample: Sample) -> tuple[str, Seen | None, list[tuple[int, int, int]]]:
        """The text with all that stands for its pictures, those pictures, and where it grew: from, to, by how much.

        Raises `TrainError` where the template left pictures out or showed more.
        """
        token, count = self.processor.token, text.count(self.processor.token)
        if count > len(sample.pictures) or (sample.pictures and not count):
            raise TrainError(
                "pictures-placed",
                f"{sample.place}: the chat template shows {count} pictures where the row has {len(sample.pictures)}.",
                f"Take {token} out of the row's text, or give the model's folder a template that knows pictures.",
            )
        if not count:
            return text, None, []
        seen = Seen(self, sample.pictures[:count], sample.place)
        texts = seen.processed().texts
        pieces, grown, at = text.split(token), [], 0
        for piece, shown in zip(pieces, texts, strict=False):
            at += len(piece)
            grown.append((at, at + len(token), len(shown) - len(token)))
            at += len(token)
        whole = "".join(part for pair in zip(pieces, [*texts, ""], strict=True) for part in pair)
        return whole, seen, grown


def require_sight(sample: Sample, sight: Sight | None) -> Sample:
    """The sample; raises `TrainError` where it has pictures and the model reads text alone."""
    if sample.pictures and sight is None:
        raise TrainError(
            "pictures-unseen",
            f"{sample.place}: there are pictures, and this model reads text alone.",
            "Choose a model that sees, or leave the pictures out.",
        )
    return sample


@dataclass(frozen=True)
class Seen:
    """The pictures of one row."""

    sight: Sight
    pictures: tuple[Picture, ...]
    place: Place | None

    def processed(self) -> Processed:
        """As the model takes them."""
        return self.sight.processed(self.pictures, self.place)


@dataclass(frozen=True)
class Ready(Seen):
    """The pictures of one row, processed before they are asked for."""

    made: Processed

    def processed(self) -> Processed:
        return self.made


class Prompt(NamedTuple):
    """What a model is asked: a text with room for its pictures, and these."""

    text: str
    seen: Seen | None = None

    @classmethod
    def of(cls, text: str, sample: Sample, sight: Sight | None) -> Prompt:
        """The rendered text of a row up to where its answer begins."""
        if sight is None:
            return cls(text)
        text, seen, _ = sight.place(text, sample)
        return cls(text, seen)


def to_ask(tokenizer: Any, prompts: Sequence[Prompt], device: Any) -> dict[str, torch.Tensor]:
    """The inputs of several prompts, padded on the left."""
    texts = [each.text for each in prompts]
    found = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    asked = {name: found[name] for name in ("input_ids", "attention_mask")}
    asked |= inputs([each.seen for each in prompts], asked["input_ids"])
    return {name: value.to(device) for name, value in asked.items()}


def inputs(rows: Sequence[Seen | None], ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a model takes beside its ids of shape [rows, tokens]; nothing where no row has pictures."""
    with_pictures = [each for each in rows if each is not None]
    if not with_pictures:
        return {}
    processor = with_pictures[0].sight.processor
    found = processor.join([each.processed() for each in with_pictures])
    name = TYPES.get(processor.family)
    return found | ({name: processor.types(ids)} if name else {})


def parts_of_pictures(rows: Sequence[Seen | None], ids: torch.Tensor) -> torch.Tensor:
    """1 where a token stands for a part of a picture, else 0, of the shape of the ids."""
    processor = next((each.sight.processor for each in rows if each is not None), None)
    return torch.zeros_like(ids) if processor is None else processor.types(ids)


def moved(position: int, grown: Sequence[tuple[int, int, int]]) -> int:
    """Where a character of the text lies once its pictures have their room."""
    return position + sum(more for _, end, more in grown if end <= position)
