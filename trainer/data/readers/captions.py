"""A folder of pictures, each with its caption in a text file of the same name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from trainer.data.problems import Read, nothing
from trainer.data.readers.lines import LONG
from trainer.data.samples import Place

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".jp2", ".avif")
CAPTION = ".txt"


def has_captions(folder: Path) -> bool:
    """Whether a picture in the folder has a text file of its name beside it."""
    try:
        names = set(os.listdir(folder))
    except OSError:
        return False
    return any(name.lower().endswith(PICTURES) and Path(name).stem + CAPTION in names for name in names)


def is_caption(path: Path) -> bool:
    """Whether a text file has a picture of its name beside it."""
    return path.suffix == CAPTION and any(path.with_suffix(end).is_file() for end in PICTURES)


def caption_rows(folder: Path) -> Iterator[Read]:
    """A row for each picture of the folder, in the order of their names; folders inside it are not entered."""
    names = sorted(os.listdir(folder))
    there = set(names)
    number = 0
    for name in names:
        if not name.lower().endswith(PICTURES):
            continue
        number += 1
        caption = Path(name).stem + CAPTION
        if caption in there:
            yield _row(folder, name, Place(caption, number, 1))
        else:
            yield nothing("caption-missing", Place(name, number, None), f"there is no {caption} beside the picture.")


def _row(folder: Path, name: str, place: Place) -> Read:
    try:
        with (folder / place.file).open("rb") as stream:
            said = stream.read(LONG + 1)
        if len(said) > LONG:
            return nothing("line-enormous", place, f"the caption is more than {LONG / 1e6:.0f} MB long.")
        return place, {"image": name, "text": said.decode("utf-8-sig").strip()}, []
    except UnicodeDecodeError as error:
        return nothing("encoding-broken", place, f"the byte 0x{said[error.start]:02x} is not UTF-8.")
    except OSError as error:
        return nothing("caption-missing", place, f"the caption cannot be read: {error.strerror}.")
