"""What the names in a run's data settings stand for: files, folders with parts, data sets of the hub."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer.data.problems import Read
from trainer.data.readers.opening import look
from trainer.data.readers.piped import hub_rows, parquet_rows
from trainer.data.readers.rows import file_rows
from trainer.errors import TrainError

HUB = "hub:"
_HUB_NAME = re.compile(r"hub:(?P<name>\w[\w.-]*(?:/\w[\w.-]*)?)(?::(?P<config>[\w.-]+))?(?:@(?P<split>[\w.\[\]:%-]+))?")
TRAIN, HELD_OUT = ("train",), ("valid", "validation", "val", "dev", "eval", "test")
_ENDS = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".parquet", ".txt", ".md")


@dataclass(frozen=True)
class Source:
    """One set of rows: a file, or a data set of the hub with its configuration and split."""

    name: str
    path: Path | None = None
    config: str = ""
    split: str = "train"

    @property
    def folder(self) -> Path:
        """Where paths of pictures count from."""
        return self.path.parent if self.path else Path.cwd()

    def rows(self, chunk_characters: int, python: Path | None) -> Iterator[Read]:
        """Every row; `python` is an interpreter with pyarrow and datasets, where there is one."""
        if self.path is None:
            return hub_rows(self.name, self.config, self.split, python)
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
    if part is None:
        wanted = "`valid` or `test`" if held_out else "`train`"
        there = ", ".join(sorted(each.name for each in path.iterdir())[:6]) or "nothing"
        raise TrainError(
            "data-missing",
            f"{path} is a folder without a file named {wanted} (it holds {there}).",
            "Choose a file in it, or name its parts `train.jsonl` and `valid.jsonl`.",
        )
    return Source(part.name, part)


def folder_part(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The first file of the folder that has one of these names, in the order of the names."""
    for name in names:
        for end in _ENDS:
            for path in (folder / f"{name}{end}", folder / f"{name}{end}.gz"):
                if path.is_file():
                    return path
    return None


def file_digest(path: Path) -> str:
    """SHA-256 of the file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
