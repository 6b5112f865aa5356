"""Pictures of every bad kind: each is told with its row, and none hangs or ends what looks at them."""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFilter

from trainer.data.doctor import picture_check
from trainer.data.doctor.looks import Looks
from trainer.data.doctor.picture_check import check_pictures
from trainer.data.doctor.tally import Tally
from trainer.data.problems import KINDS
from trainer.data.samples import Picture
from trainer.data.sources import find
from trainer.errors import TrainError
from trainer.spec.data import Data
from trainer.vision.glance import glance
from trainer.vision.opening import Unreadable, open_picture


def scene(seed: int, size: tuple[int, int] = (320, 240)) -> Any:
    """A picture with shapes and soft shades, as a photograph has."""
    chance = random.Random(seed)
    image = Image.new("RGB", size, tuple(chance.choices(range(256), k=3)))
    draw = ImageDraw.Draw(image)
    for _ in range(14):
        corners = [(chance.randrange(size[0]), chance.randrange(size[1])) for _ in range(3)]
        draw.polygon(corners, tuple(chance.choices(range(256), k=3)))
    return image.filter(ImageFilter.GaussianBlur(2))


def written(image: Any, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def turned() -> bytes:
    image = scene(1).rotate(90, expand=True)
    image.getexif()[0x0112] = 6
    return written(image, "JPEG", exif=image.getexif())


def empty_png(width: int, height: int) -> bytes:
    """A PNG of one bit a pixel, all black, however many these are."""
    lines = zlib.compressobj(9)
    blank = bytes(1 + (width + 7) // 8)
    packed = b"".join([*(lines.compress(blank) for _ in range(height)), lines.flush()])
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0), b"IDAT" + packed, b"IEND")
    framed = (struct.pack(">I", len(each) - 4) + each + struct.pack(">I", zlib.crc32(each)) for each in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


WHOLE = written(scene(1), "JPEG", quality=85)
# Of each file: its name, what it holds, and the findings for its row with words that they hold.
FILES: dict[str, tuple[bytes, list[tuple[str, str]]]] = {
    "fine.jpg": (WHOLE, []),
    "fine.webp": (written(scene(2), "WEBP"), []),
    "empty.png": (b"", [("picture-unreadable", "the file is empty")]),
    "text.png": (b"<html>not found</html>", [("picture-unreadable", "no picture that can be read")]),
    "cut.jpg": (WHOLE[:-300], [("picture-unreadable", "truncated")]),
    "cut.png": (written(scene(3), "PNG")[:-3000], [("picture-unreadable", "cannot be used")]),
    "broken.jpg": (WHOLE[:40] + bytes(400), [("picture-unreadable", "cannot be used")]),
    "script.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", [("picture-unreadable", "no picture")]),
    "bomb.png": (empty_png(60_000, 2_000), [("picture-unreadable", "60,000 x 2,000 pixels, more than 100,000,000")]),
    "wrong.png": (written(scene(4), "JPEG"), [("picture-suffix", "is a JPEG file")]),
    "print.jpg": (written(scene(5).convert("CMYK"), "JPEG"), [("picture-cmyk", "colours of print")]),
    "deep.png": (written(Image.new("I;16", (20, 20), 700), "PNG"), [("picture-deep", "I;16")]),
    "float.tif": (written(Image.new("F", (20, 20), 0.5), "TIFF"), [("picture-deep", "mode F")]),
    "alpha.png": (written(scene(6).convert("RGBA"), "PNG"), [("picture-transparent", "alpha")]),
    "colour.png": (written(Image.new("P", (8, 8)), "PNG", transparency=0), [("picture-transparent", "colour")]),
    "film.gif": (
        written(scene(8), "GIF", save_all=True, append_images=[scene(9)]),
        [("picture-film", "several frames")],
    ),
    "turned.jpg": (turned(), [("picture-turned", "EXIF orientation 6")]),
    "dot.png": (written(Image.new("RGB", (1, 1)), "PNG"), [("picture-tiny", "1 x 1")]),
    "line.png": (written(Image.new("L", (500, 1)), "PNG"), [("picture-tiny", "500 x 1")]),
    "one_bit.bmp": (written(Image.new("1", (50, 50)), "BMP"), []),
}  # fmt: skip


def looked_at(folder: Path, rows: list[dict[str, Any]]) -> Tally:
    """What the doctor says of these rows' pictures, opened by this interpreter."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tally = Tally(len(rows), len(rows), len(rows))
    source = find(str(path))
    said = check_pictures(source, None, Data(train=str(path)), None, tally, lambda _: None, lambda _: None)
    assert said == []
    assert all(each.kind in KINDS for each in tally.findings)
    return tally


@pytest.mark.parametrize("held", ["named", "in the row"])
def test_every_bad_file_is_told_with_its_row_and_reason(tmp_path: Path, held: str) -> None:
    rows, expected = [], []
    for name, (content, findings) in FILES.items():
        (tmp_path / name).write_bytes(content)
        inside = {"bytes": f"data:;base64,{base64.b64encode(content).decode()}", "path": name}
        if held == "named" or content:  # no bytes are no picture, which another pass tells
            rows.append({"image": name if held == "named" else inside, "text": "x"})
            told = [each for each in findings if held == "named" or each[0] != "picture-suffix"]
            expected += [(len(rows), *each) for each in told]
    found = [each for each in looked_at(tmp_path, rows).findings if each.kind != "pictures-alike"]
    assert [(each.place.row, each.kind) for each in found] == [each[:2] for each in expected]
    assert all(words in each.detail for each, (_, _, words) in zip(found, expected, strict=True))


def test_copies_look_the_same_and_other_pictures_do_not() -> None:
    remembered = Looks()
    for seed in range(60):
        remembered.remember(glance(Picture(content=written(scene(seed), "PNG"))).looks, seed)
    for seed in range(60):
        image = scene(seed)
        copies = [
            written(image, "JPEG", quality=60),
            written(image.resize((160, 120)), "PNG"),
            written(image.resize((700, 525)), "WEBP", quality=70),
            written(image.convert("P", palette=Image.Palette.ADAPTIVE), "GIF"),
        ]
        assert [remembered.find(glance(Picture(content=each)).looks) for each in copies] == [seed] * 4
        assert remembered.find(glance(Picture(content=written(scene(1000 + seed), "JPEG"))).looks) is None


def test_a_turned_copy_looks_the_same_and_a_blank_picture_like_none() -> None:
    remembered = Looks()
    remembered.remember(glance(Picture(content=WHOLE)).looks, 1)
    assert remembered.find(glance(Picture(content=turned())).looks) == 1
    assert glance(Picture(content=written(Image.new("RGB", (80, 80), "white"), "PNG"))).looks == ""


@pytest.mark.parametrize("options", [{"form": "JPEG"}, {"form": "JPEG", "progressive": True}, {"form": "JPEG", "subsampling": 2, "restart_marker_blocks": 4}, {"form": "PNG"}, {"form": "WEBP"}, {"form": "GIF"}, {"form": "TIFF", "compression": "tiff_lzw"}, {"form": "BMP"}], ids=str)  # fmt: skip
def test_damaged_pictures_end_in_a_reason_and_as_a_run_would_judge_them(options: dict[str, Any]) -> None:
    """A JPEG is looked at in small; what is cut short or damaged must be found there as in full size."""
    whole = written(scene(11, (200, 150)), **options)
    for seed in range(60):
        chance = random.Random(seed)
        content = bytearray(whole)
        if seed % 2:
            del content[chance.randrange(len(content)) :]
        for _ in range(seed % 3 * 4):
            content[chance.randrange(len(content))] = chance.randrange(256)  # may hit the size: up to 65,535 squared
        picture = Picture(content=bytes(content) or b"x")
        assert ends(glance, picture) == ends(open_picture, picture), f"seed {seed}"


def test_damaged_pictures_neither_hang_nor_end_the_doctor(tmp_path: Path) -> None:
    wholes = [
        written(scene(12, (90, 60)), form) for form in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF")
    ]
    chance = random.Random(5)
    rows = []
    for number in range(160):
        content = bytearray(wholes[number % len(wholes)])
        for _ in range(chance.randrange(1, 30)):
            content[chance.randrange(min(len(content), chance.choice((40, 10**6))))] = chance.randrange(256)
        (tmp_path / f"{number}.png").write_bytes(
            content[: chance.randrange(1, len(content)) if number % 3 == 0 else None]
        )
        rows.append({"image": f"{number}.png", "text": str(number)})
    tally = looked_at(tmp_path, rows)
    assert tally.rows == tally.usable + sum(tally.dropped.values())
    assert 40 < tally.dropped["picture-unreadable"] == sum(tally.dropped.values())


def ends(read: Callable[[Picture], object], picture: Picture) -> str:
    """The reason for which a picture is refused; nothing where it is read."""
    try:
        read(picture)
    except (TrainError, Unreadable) as wrong:
        return str(wrong).partition("cannot be used: ")[2].rstrip(".") or str(wrong).rstrip(".")
    return ""


def test_a_picture_that_takes_too_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_check, "SECONDS", 0.02)
    (tmp_path / "large.png").write_bytes(empty_png(9_900, 10_000))
    tally = looked_at(tmp_path, [{"image": "large.png", "text": "x"}] * 3)
    assert [each.kind for each in tally.findings] == ["picture-unchecked"] * 3
    assert tally.usable == 0


def test_a_picture_that_takes_too_much_memory_is_told_and_those_behind_it_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_check, "MEMORY", 300 << 20)
    monkeypatch.setattr(picture_check, "MOST_PROCESSES", 1)
    (tmp_path / "large.png").write_bytes(empty_png(9_900, 10_000))
    (tmp_path / "dot.png").write_bytes(FILES["dot.png"][0])
    rows = [{"image": name, "text": "x"} for name in ("large.png", "dot.png", "large.png")]
    tally = looked_at(tmp_path, rows)
    kinds = [(each.kind, each.place.row) for each in tally.findings]
    assert kinds == [("picture-unchecked", 1), ("picture-tiny", 2), ("picture-unchecked", 3)]
    assert tally.usable == 1


def test_pictures_up_to_the_limit_are_opened_within_the_memory_of_a_checker(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(empty_png(9_900, 10_000))
    assert looked_at(tmp_path, [{"image": "large.png", "text": "x"}]).findings == []
