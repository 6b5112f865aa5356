"""What is worth knowing about one picture, and how it looks in a few bits, found by decoding all of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from PIL import Image, ImageOps

from trainer.data.samples import Picture
from trainer.vision.opening import DEEP, as_rgb, opened, transparent

SIDE = 9  # of the small picture that is compared; neighbours in it make 8 bits a line
DRAFT = 8 * SIDE
FLAT = 8  # shades between its darkest and its lightest spot, below which its looks say nothing
UPRIGHT = (None, 0, 1)
ORIENTATION = 0x0112  # the EXIF tag
# What a file may be by the end of its name; other ends promise nothing.
SUFFIXES = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".gif": "GIF", ".bmp": "BMP", ".tif": "TIFF",
    ".tiff": "TIFF", ".ppm": "PPM", ".jp2": "JPEG2000", ".avif": "AVIF",
}  # fmt: skip
CAMERAS = "MPO"  # a JPEG with further pictures behind it, as telephones write them


@dataclass(frozen=True)
class Glance:
    """What a picture is: (kind, detail) of each note, and its looks; none where nothing is to be seen on it."""

    notes: list[tuple[str, str]]
    looks: str


def glance(picture: Picture) -> Glance:
    """Decode one picture. Raises `Unreadable` where a run could not read it, `MemoryError` where it is too large.

    A JPEG is decoded at an eighth of its size, for which all of its data is read as well: what is cut short or damaged
    is found as by a run, and only the arithmetic for the fine detail is left out.
    """
    with opened(picture) as image:
        notes = list(_notes(image, picture.path))
        image.draft("RGB", (DRAFT, DRAFT))
        image.load()
        return Glance(notes, _looks(image))


def _notes(image: Image.Image, path: str) -> Iterator[tuple[str, str]]:
    form = "JPEG" if image.format == CAMERAS else str(image.format)
    end = PurePath(path).suffix.lower()
    if SUFFIXES.get(end, form) != form:
        yield "picture-suffix", f"is a {form} file"
    if image.getexif().get(ORIENTATION) not in UPRIGHT:
        yield "picture-turned", f"is to be turned (EXIF orientation {image.getexif()[ORIENTATION]})"
    if transparent(image):
        yield "picture-transparent", "has an alpha channel or a transparent colour"
    if image.mode in DEEP:
        yield "picture-deep", f"has more than eight bits a pixel (mode {image.mode})"
    if image.mode == "CMYK":
        yield "picture-cmyk", "has the colours of print"
    if image.format != CAMERAS and getattr(image, "is_animated", False):
        yield "picture-film", "has several frames or pages"
    if min(image.size) == 1:
        yield "picture-tiny", f"has {image.width} x {image.height} pixels"


def _looks(image: Image.Image) -> str:
    """The mean colour, and whether each spot is lighter than the one beside it and the one below it (difference hash)."""
    if image.mode in ("1", "P", "PA"):  # whose numbers are no shades
        image = image.convert("RGBA" if transparent(image) else "RGB")
    small = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    small.info = image.info
    small = as_rgb(ImageOps.exif_transpose(small))
    low, high = small.convert("L").getextrema()
    if high - low < FLAT:
        return ""
    mean = small.resize((1, 1), Image.Resampling.BOX).tobytes()
    shades, bits = small.convert("L").tobytes(), 0
    for row in range(SIDE - 1):
        for at in range(row * SIDE, row * SIDE + SIDE - 1):
            bits = bits << 2 | (shades[at] > shades[at + 1]) << 1 | (shades[at] > shades[at + SIDE])
    return mean.hex() + bits.to_bytes(16, "big").hex()
