"""A picture of a row as RGB, whatever its file is; what is dangerous is refused before it is decoded."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from trainer.data.samples import Picture, Place
from trainer.errors import TrainError

MOST_PIXELS = 100_000_000  # of one picture; decoded they are 400 MB
# Pillow knows more, some of which it hands to other programs (EPS to Ghostscript).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
DEEP = ("I", "I;16", "I;16B", "I;16L", "F")  # one channel of more than eight bits
BACKGROUND = "white"  # behind what is transparent


class Unreadable(Exception):
    """A picture that cannot be used, with the reason."""


@contextmanager
def opened(picture: Picture) -> Iterator[Image.Image]:
    """The picture, not yet decoded. Raises `Unreadable`, also for what goes wrong while it is decoded inside."""
    source: Any = picture.path or io.BytesIO(picture.content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd tags, and of bombs, whose limit here is said in our own words
            with Image.open(source, formats=known_formats()) as image:
                if image.width * image.height > MOST_PIXELS:
                    size = f"{image.width:,} x {image.height:,} pixels"
                    raise Unreadable(f"it has {size}, more than {MOST_PIXELS:,}")
                yield image
    except (Unreadable, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise Unreadable("it is no picture that can be read") from error
    except Exception as error:  # what readers of damaged files stumble over is anything
        raise Unreadable(str(error).strip()[:200] or type(error).__name__) from error


@cache
def known_formats() -> tuple[str, ...]:
    """Those that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def open_picture(picture: Picture, place: Place | None = None) -> Image.Image:
    """The picture, the right way up, without transparency, of a film the first frame. Raises `TrainError`."""
    try:
        with opened(picture) as image:
            return as_rgb(ImageOps.exif_transpose(image))
    except Unreadable as wrong:
        where = f"{place}: " if place else ""
        raise TrainError(
            "picture-unreadable",
            f"{where}the picture {picture.path or 'in the row'} cannot be used: {wrong}.",
            "Replace the picture, or take the row out.",
        ) from wrong


def as_rgb(image: Image.Image) -> Image.Image:
    """The same picture in RGB."""
    if image.mode in DEEP:
        _, high = image.getextrema()
        scale = 1 / 257 if image.mode != "F" and high > 255 else 255 / high if image.mode == "F" and high else 1
        return image.point(lambda value: value * scale).convert("L").convert("RGB")
    if transparent(image):
        image = image.convert("RGBA")
        behind = Image.new("RGBA", image.size, BACKGROUND)
        return Image.alpha_composite(behind, image).convert("RGB")
    return image.convert("RGB")


def transparent(image: Image.Image) -> bool:
    """Whether something could shine through."""
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
