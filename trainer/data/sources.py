"""What the names in a run's data settings stand for: files, folders with parts, data sets of the hub."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer.data.problems import Read
from trainer.data.readers.classes import class_rows, holds_classes, listing
from trainer.data.readers.opening import look
from trainer.data.readers.piped import hub_rows, parquet_rows
from trainer.data.readers.rows import file_rows
from trainer.errors import TrainError

HUB = "hub:"
_HUB_NAME = re.compile(r"hub:(?P<name>\w[\w.-]*(?:/\w[\w.-]*)?)(?::(?P<config>[\w.-]+))?(?:@(?P<split>[\w.\[\]:%-]+))?")
TRAIN, HELD_OUT = ("train",), ("valid", "validation", "val", "dev", "eval", "test")
METADATA = ("metadata",)  # the rows of a folder of pictures
_ENDS = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".parquet", ".txt", ".md")
_ENDS_OF_METADATA = (".jsonl", ".csv", ".parquet")


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
        return self.path if self.of_classes else self.path.parent

    @property
    def of_classes(self) -> bool:
        """Whether it is a folder with one for each class."""
        return self.path is not None and self.path.is_dir()

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
    part = folder_part(path, HELD_OUT if held_out else TRAIN)
    if part is None and held_out and holds_classes(path):
        part = path
    if part is None:
        wanted = "`valid` or `test`" if held_out else "`train`"
        there = ", ".join(sorted(each.name for each in path.iterdir())[:6]) or "nothing"
        raise TrainError(
            "data-missing",
            f"{path} is a folder without a file named {wanted} (it holds {there}).",
            "Choose a file in it, or name its parts `train.jsonl` and `valid.jsonl`; pictures lie in a folder for each class.",
        )
    return Source(part.name, part)


def folder_part(folder: Path, names: tuple[str, ...]) -> Path | None:
    """What in the folder has the first of these names: a file of rows, or pictures with their rows or in classes.

    Pictures of which no part is named are all for training.
    """
    if file := _file_of(folder, names):
        return file
    parts = [folder / name for name in names]
    for part in parts if names != TRAIN else (*parts, folder):
        if file := _file_of(part, METADATA, _ENDS_OF_METADATA):
            return file
        if holds_classes(part) and not (part == folder and any(holds_classes(folder / name) for name in HELD_OUT)):
            return part
    return None


def _file_of(folder: Path, names: tuple[str, ...], ends: tuple[str, ...] = _ENDS) -> Path | None:
    for name in names:
        for end in ends:
            for path in (folder / f"{name}{end}", folder / f"{name}{end}.gz"):
                if path.is_file():
                    return path
    return None


def file_digest(path: Path) -> str:
    """SHA-256 of the file's bytes; of a folder of pictures, of their names and sizes."""
    digest = hashlib.sha256()
    if path.is_dir():
        for each in listing(path):
            digest.update(each)
        return digest.hexdigest()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
