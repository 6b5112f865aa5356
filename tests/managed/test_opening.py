"""Pictures of every kind become RGB, and what cannot is refused with its place."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from trainer.data.samples import Picture, Place
from trainer.errors import TrainError
from trainer.vision.opening import open_picture

RED = (250, 10, 20)


def written(image: Any, form: str, **options: Any) -> Picture:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return Picture(content=stream.getvalue())


def turned() -> Picture:
    image = Image.new("RGB", (20, 10), RED)
    image.getexif()[0x0112] = 6
    return written(image, "JPEG", exif=image.getexif())


@pytest.mark.parametrize(
    ("picture", "colour"),
    [
        (written(Image.new("RGB", (4, 4), RED), "PNG"), RED),
        (written(Image.new("L", (4, 4), 100), "PNG"), (100, 100, 100)),
        (written(Image.new("I;16", (4, 4), 257 * 100), "PNG"), (100, 100, 100)),
        (written(Image.new("F", (4, 4), 0.5), "TIFF"), (255, 255, 255)),
        (written(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"), (255, 0, 0)),
        (written(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "PNG"), (255, 255, 255)),
        (written(Image.new("LA", (4, 4), (0, 255)), "PNG"), (0, 0, 0)),
        (written(Image.new("P", (4, 4), 0), "PNG", transparency=0), (255, 255, 255)),
        (written(Image.new("1", (4, 4), 1), "PNG"), (255, 255, 255)),
    ],
    ids=["rgb", "grey", "16 bits", "float", "cmyk", "transparent", "grey and alpha", "palette", "one bit"],
)
def test_every_kind_becomes_rgb(picture: Picture, colour: tuple[int, int, int]) -> None:
    found = open_picture(picture)
    assert found.mode == "RGB"
    assert max(abs(one - other) for one, other in zip(found.getpixel((1, 1)), colour, strict=True)) <= 2


def test_a_picture_is_turned_as_its_tag_says() -> None:
    assert open_picture(turned()).size == (10, 20)


def test_of_a_film_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, (0, 0, 255))]
    film = written(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert open_picture(film).getpixel((0, 0)) == RED


def bomb() -> bytes:
    """A PNG that says it has 60,000 x 60,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = (header, b"IDAT" + zlib.compress(bytes(100)), b"IEND")
    packed = (struct.pack(">I", len(each) - 4) + each + struct.pack(">I", zlib.crc32(each)) for each in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no picture", "no picture that can be read"),
        (b"", "no picture that can be read"),
        (written(Image.effect_noise((64, 64), 50), "PNG").content[:200], "cannot be used"),
        (bomb(), "60,000 x 60,000|exceeds limit"),
    ],
    ids=["text", "empty", "cut short", "bomb"],
)
def test_what_is_no_whole_picture_is_refused_with_its_row(content: bytes, said: str) -> None:
    with pytest.raises(TrainError, match=said) as refused:
        open_picture(Picture(content=content), Place("rows.jsonl", 3, 3))
    assert refused.value.code == "picture-unreadable"
    assert "rows.jsonl, line 3" in str(refused.value)


def test_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(TrainError, match=r"a\.png"):
        open_picture(Picture(str(tmp_path / "a.png")))
