"""What the names in a run's data settings stand for: files, folders with parts, data sets of the hub."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer.data.problems import Read
from trainer.data.readers.captions import caption_rows, has_captions, is_caption
from trainer.data.readers.classes import class_rows, holds_classes, listing
from trainer.data.readers.opening import look
from trainer.data.readers.piped import hub_rows, parquet_rows
from trainer.data.readers.rows import file_rows
from trainer.errors import TrainError

HUB = "hub:"
_HUB_NAME = re.compile(r"hub:(?P<name>\w[\w.-]*(?:/\w[\w.-]*)?)(?::(?P<config>[\w.-]+))?(?:@(?P<split>[\w.\[\]:%-]+))?")
TRAIN, HELD_OUT = ("train",), ("valid", "validation", "val", "dev", "eval", "test")
METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")  # beside pictures, which it names in `file_name`
_ENDS = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".parquet", ".txt", ".md")


@dataclass(frozen=True)
class Source:
    """One set of rows: a file, a folder with one for each class, or a data set of the hub with its configuration and split."""

    name: str
    path: Path | None = None
    config: str = ""
    split: str = "train"

    @property
    def folder(self) -> Path:
        """Where paths of pictures count from."""
        if self.path is None:
            return Path.cwd()
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def of_classes(self) -> bool:
        """Whether it is a folder with one for each class."""
        return self.path is not None and self.path.is_dir() and not has_captions(self.path)

    def columns(self, given: str) -> str:
        """`data.columns` as these rows are to be read."""
        named = self.path is not None and self.path.name.startswith("metadata.") and "images" not in given
        return ", ".join(filter(None, (given, "images=file_name"))) if named else given

    def rows(self, chunk_characters: int, python: Path | None) -> Iterator[Read]:
        """Every row; `python` is an interpreter with pyarrow and datasets, where there is one."""
        if self.path is None:
            return hub_rows(self.name, self.config, self.split, python)
        if self.of_classes:
            return class_rows(self.path)
        opened = look(self.path)
        if opened.shape == "parquet":
            return parquet_rows(self.path, python)
        return file_rows(opened, chunk_characters)


def find(named: str, *, held_out: bool = False) -> Source:
    """The source that a setting names; of a folder the part for training, or the one that is held out."""
    if named.startswith(HUB):
        found = _HUB_NAME.fullmatch(named)
        if not found:
            raise TrainError(
                "data-missing",
                f"'{named}' is no name of a data set.",
                "Write `hub:owner/name`, with `:config` and `@split` where it has them.",
            )
        return Source(
            found["name"], None, found["config"] or "", found["split"] or ("validation" if held_out else "train")
        )
    path = Path(named)
    if not path.is_dir():
        return Source(path.name, path)
    part = folder_part(path, HELD_OUT if held_out else TRAIN) or _pictures_in(path, whole=not held_out)
    if part is None:
        wanted = "`valid` or `test`" if held_out else "`train`"
        there = ", ".join(sorted(each.name for each in path.iterdir())[:6]) or "nothing"
        raise TrainError(
            "data-missing",
            f"{path} is a folder without a file named {wanted} (it holds {there}).",
            "Choose a file in it, or name its parts `train.jsonl` and `valid.jsonl`; pictures need `metadata.jsonl`, captions "
            "beside them, or a folder for each class.",
        )
    return Source(part.name, part)


def folder_part(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The first part of the folder that has one of these names: a file, or else a folder of pictures."""
    for name in names:
        for end in _ENDS:
            for path in (folder / f"{name}{end}", folder / f"{name}{end}.gz"):
                if path.is_file() and not is_caption(path):
                    return path
    return next(filter(None, (_pictures_in(folder / name) for name in names)), None)


def _pictures_in(folder: Path, *, whole: bool = False) -> Path | None:
    """What says of a folder's pictures what they show: its metadata, or the folder itself with captions or classes in it.

    Of a `whole` folder the parts that are held out are no classes.
    """
    if not folder.is_dir():
        return None
    metadata = next((folder / name for name in METADATA if (folder / name).is_file()), None)
    if metadata or has_captions(folder):
        return metadata or folder
    parts = whole and any(holds_classes(folder / name) for name in HELD_OUT)
    return folder if holds_classes(folder) and not parts else None


def content_digest(path: Path) -> str:
    """SHA-256 of a file's bytes; of a folder of pictures, of their names and sizes, and of captions."""
    if not path.is_dir():
        return file_digest(path)
    digest = hashlib.sha256()
    if not has_captions(path):
        for each in listing(path):
            digest.update(each)
        return digest.hexdigest()
    for place, row, _ in caption_rows(path):
        size = (path / row["image"]).stat().st_size if row else 0
        digest.update(f"{place.file}\0{size}\0{row and row['text']}\0".encode())
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of the file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
