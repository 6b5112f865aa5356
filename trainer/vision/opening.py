"""A picture of a row as RGB, whatever its file is; what is dangerous is refused before it is decoded."""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from trainer.data.samples import Picture, Place
from trainer.errors import TrainError

MOST_PIXELS = 100_000_000  # of one picture; decoded they are 300 MB
DEEP = ("I", "I;16", "I;16B", "I;16L", "F")  # one channel of more than eight bits
BACKGROUND = "white"  # behind what is transparent


def open_picture(picture: Picture, place: Place | None = None) -> Image.Image:
    """The picture, the right way up, without transparency, of a film the first frame. Raises `TrainError`."""
    source: Any = picture.path or io.BytesIO(picture.content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is said in our own words
            with Image.open(source) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    size = f"{opened.width:,} x {opened.height:,} pixels"
                    raise _unreadable(picture, place, f"it has {size}, more than {MOST_PIXELS:,}")
                return as_rgb(ImageOps.exif_transpose(opened))
    except (
        UnidentifiedImageError,
        OSError,
        ValueError,
        SyntaxError,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        reason = "it is no picture that can be read" if isinstance(error, UnidentifiedImageError) else str(error)
        raise _unreadable(picture, place, reason.strip()[:200] or type(error).__name__) from error


def as_rgb(image: Image.Image) -> Image.Image:
    """The same picture in RGB."""
    if image.mode in DEEP:
        _, high = image.getextrema()
        scale = 1 / 257 if image.mode != "F" and high > 255 else 255 / high if image.mode == "F" and high else 1
        return image.point(lambda value: value * scale).convert("L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        behind = Image.new("RGBA", image.size, BACKGROUND)
        return Image.alpha_composite(behind, image).convert("RGB")
    return image.convert("RGB")


def _unreadable(picture: Picture, place: Place | None, reason: str) -> TrainError:
    where = f"{place}: " if place else ""
    return TrainError(
        "picture-unreadable",
        f"{where}the picture {picture.path or 'in the row'} cannot be used: {reason}.",
        "Replace the picture, or take the row out.",
    )
