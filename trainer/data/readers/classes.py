"""Pictures that lie in one folder for each class: every picture a row. Torch-free, and opens none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from trainer.data.problems import Read, nothing
from trainer.data.samples import Place

ENDS = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def holds_classes(folder: Path) -> bool:
    """Whether it has folders with pictures in them."""
    return folder.is_dir() and any(next(_pictures(each), None) for each in _classes(folder))


def class_rows(folder: Path) -> Iterator[Read]:
    """Each picture below a class's folder, with that folder's name as its label; names decide the order."""
    for each in _classes(folder):
        pictures = sorted(_pictures(each))
        if not pictures:
            yield nothing("class-empty", Place(f"{folder.name}/{each.name}", 0), "the class has no pictures.")
        for path in pictures:
            place = Place(path.relative_to(folder).as_posix(), 0)
            yield place, {"image": place.file, "label": each.name}, []


def listing(folder: Path) -> Iterator[bytes]:
    """What is in the folder, by each picture's name and size."""
    for each in _classes(folder):
        for path in sorted(_pictures(each)):
            yield f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode("utf-8", "replace")


def _classes(folder: Path) -> list[Path]:
    """The folders that stand for classes; hidden ones, and those that systems and programs leave, are none."""
    return sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith((".", "_")))


def _pictures(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if not each.startswith(".")]
        yield from (Path(parent, each) for each in files if each.lower().endswith(ENDS) and not each.startswith("."))
