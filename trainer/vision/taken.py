"""Pictures as a model takes them, made into pictures again so that a person can look at them."""

from __future__ import annotations

import base64
import io
from typing import Any

import torch
from PIL import Image

from trainer.vision.opening import open_picture
from trainer.vision.processor import Processor
from trainer.vision.sight import Seen

LARGEST, LARGEST_TILE = (
    448,
    160,
)  # pixels of the longer side as it is shown, of a whole picture and of one of several tiles


def taken(seen: Seen) -> list[dict[str, Any]]:
    """Of each picture its `size` as width and height, its `tiles` as data URLs with their size `tile`, and its `tokens`."""
    found = []
    for picture in seen.pictures:
        opened, processor = open_picture(picture, seen.place), seen.sight.processor
        processed = processor.process([opened])
        tiles = [_image(tile) for tile in _tiles(processor, processed.inputs)]
        longest = LARGEST if len(tiles) == 1 else LARGEST_TILE
        found.append(
            {
                "size": opened.size,
                "tile": tiles[0].size,
                "tiles": [_url(tile, longest) for tile in tiles],
                "tokens": sum(text.count(processor.token) for text in processed.texts),
            }
        )
    return found


def _tiles(processor: Processor, inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """The parts that the tower sees, each of shape [3, height, width] from 0 to 1."""
    values = inputs["pixel_values"].float()
    if "image_grid_thw" in inputs:
        values = _unfolded(values, inputs["image_grid_thw"][0].tolist(), processor.images)
    values = values.flatten(end_dim=-4)
    if "image_sizes" in inputs:  # the rest is filler
        height, width = inputs["image_sizes"][0].tolist()
        values = values[..., :height, :width]
    if processor.images.do_normalize:
        mean, deviation = (
            torch.tensor(each).view(3, 1, 1) for each in (processor.images.image_mean, processor.images.image_std)
        )
        values = values * deviation + mean
    return list(values)


def _unfolded(patches: torch.Tensor, grid: list[int], images: Any) -> torch.Tensor:
    """Qwen's patches, which lie in groups that are merged later, as one picture of shape [1, 3, height, width]."""
    _, rows, columns = grid
    merged, side = images.merge_size, images.patch_size
    groups = patches.view(rows // merged, columns // merged, merged, merged, 3, -1, side, side)
    first = groups[:, :, :, :, :, 0]  # a picture is a film of equal frames
    return first.permute(4, 0, 2, 5, 1, 3, 6).reshape(1, 3, rows * side, columns * side)


def _image(values: torch.Tensor) -> Image.Image:
    content = (values.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    return Image.frombytes("RGB", (content.shape[1], content.shape[0]), bytes(content.flatten().tolist()))


def _url(image: Image.Image, longest: int) -> str:
    image.thumbnail((longest, longest))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
