"""Rows as tokens, kept on disk: tokenised once for the same rows, tokenizer, template and settings.

An entry is a folder named by everything that its content depends on: flat int32 arrays of ids and labels, mapped
into memory, with where each row begins. It is written aside and renamed, and believed only when its hashes are right.
"""

from __future__ import annotations

import hashlib
import json
import marshal
import os
import shutil
import time
import uuid
from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, overload

import numpy as np

from trainer.data.findings import Findings
from trainer.data.masks import Encoded, Example, encode_into
from trainer.data.samples import Picture, Place, Sample
from trainer.data.sources import file_digest
from trainer.data.templates import settle_template
from trainer.models.tokenizer import stop_tokens
from trainer.operation import read_record
from trainer.spec import Data
from trainer.vision.sight import Seen, Sight

MOST_BYTES = 8 << 30  # of all entries together; the ones not used for the longest time go first
ABANDONED_SECONDS = 86_400.0  # a folder that nobody finished in a day belongs to a killed process
IDS, LABELS, ROWS, META = "ids.int32", "labels.int32", "rows.int64", "meta.json"
COLUMNS = 7  # of a row: where it ends, its file, row and line, the tokens cut, the answers dropped, its pictures
Encode = Callable[[Any], Encoded]  # appends every example to a list or a file
CODE = ("answers.py", "findings.py", "masks.py", "templates.py", "token_cache.py")
Eyes = Callable[[Place, int], Seen | None]  # the first so many pictures of the row at a place


class StoredExamples(Sequence[Example]):
    """The examples of an entry; a row is read when it is asked for."""

    def __init__(self, folder: Path, files: Sequence[str], eyes: Eyes = lambda _place, _count: None) -> None:
        self._files, self._eyes = files, eyes
        self._ids = np.memmap(folder / IDS, dtype=np.int32, mode="r")
        self._labels = np.memmap(folder / LABELS, dtype=np.int32, mode="r")
        self._rows = np.fromfile(folder / ROWS, dtype=np.int64).reshape(-1, COLUMNS)
        self._starts = np.concatenate([[0], self._rows[:-1, 0]])

    @property
    def row_lengths(self) -> list[int]:
        """Tokens of each row."""
        lengths: list[int] = (self._rows[:, 0] - self._starts).tolist()
        return lengths

    @property
    def with_pictures(self) -> list[int]:
        """The rows that have some."""
        found: list[int] = np.flatnonzero(self._rows[:, -1]).tolist()
        return found

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        end, file, row, line, cut, dropped, pictures = self._rows[index].tolist()
        start = int(self._starts[index])
        place = Place(self._files[file], row, line or None)
        seen = self._eyes(place, pictures) if pictures else None
        return Example(self._ids[start:end].tolist(), self._labels[start:end].tolist(), place, cut, dropped, seen)


class _Writer:
    """Takes examples one by one and keeps none of them in memory."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._streams: dict[str, IO[bytes]] = {name: (folder / name).open("wb") for name in (IDS, LABELS, ROWS)}
        self._end = 0
        self.files: dict[str, int] = {}

    def append(self, example: Example) -> None:
        self._end += len(example.ids)
        place = example.place or Place("", 0)
        file = self.files.setdefault(place.file, len(self.files))
        pictures = len(example.seen.pictures) if example.seen else 0
        row = (self._end, file, place.row, place.line or 0, example.cut, example.dropped_turns, pictures)
        self._streams[IDS].write(array("i", example.ids).tobytes())
        self._streams[LABELS].write(array("i", example.labels).tobytes())
        self._streams[ROWS].write(array("q", row).tobytes())

    def close(self) -> None:
        for stream in self._streams.values():
            with stream:
                stream.flush()
                os.fsync(stream.fileno())


def encode_cached(
    tokenizer: Any,
    samples: Sequence[Sample],
    data: Data,
    cache: Path | None,
    tell: Callable[[int], None] = lambda _rows: None,
    sight: Sight | None = None,
) -> Encoded:
    """As `encode_all`, from the cache where it has these rows, and into it where not; a full disk costs the cache only.

    `tell` is called after every row that is tokenised, as in `encode_into`.
    """
    template = settle_template(tokenizer, samples, data.template)

    def encode(target: Any) -> Encoded:
        return encode_into(target, tokenizer, samples, data, template, tell, sight)

    if cache is None or not samples:
        return encode([])
    entry = cache / key(tokenizer, samples, data, sight)
    eyes = _eyes(samples, sight)
    found = _read(entry, eyes)
    if found is None:
        shutil.rmtree(entry, ignore_errors=True)
        found = _write(entry, encode, eyes)
        _prune(cache, entry)
    return found


def token_cache(operation: Path) -> Path | None:
    """The folder that a run's record names for entries, if any."""
    named = read_record(operation).get("token_cache")
    return Path(named) if isinstance(named, str) else None


def _eyes(samples: Sequence[Sample], sight: Sight | None) -> Eyes:
    pictures = {sample.place: sample.pictures for sample in samples if sample.pictures}
    return lambda place, count: Seen(sight, pictures[place][:count], place) if sight else None


def key(tokenizer: Any, samples: Iterable[Sample], data: Data, sight: Sight | None = None) -> str:
    """A name for everything that decides the tokens: rows, their pictures, tokenizer, template, settings and our own code."""
    digest = hashlib.sha256()
    about = {
        "tokenizer": tokenizer.backend_tokenizer.to_str(),
        "special": [tokenizer.special_tokens_map, sorted(stop_tokens(tokenizer))],
        "template": tokenizer.chat_template,
        "settings": [data.max_length, data.truncation, data.train_on],
        "versions": [version(name) for name in ("tokenizers", "transformers", "jinja2")],
        "code": [file_digest(Path(__file__).with_name(name)) for name in CODE],
        "sight": sight and sight.digest(),
        "day": str(date.today()) if "strftime_now" in str(tokenizer.chat_template) else "",
    }
    digest.update(json.dumps(about, sort_keys=True, default=str).encode())
    for each in samples:
        place = (each.place.file, each.place.row, each.place.line)
        shown = tuple(map(_identity, each.pictures))
        row: Any = (each.kind, place, each.messages, each.tools, each.prompt, each.completion, each.text, shown)
        digest.update(marshal.dumps(row, 2))  # version 2 writes values only, not how they share memory
    return digest.hexdigest()[:32]


def _identity(picture: Picture) -> tuple[Any, ...]:
    """What changes with a picture's content: of a file its place, size and time, else the content's hash."""
    if not picture.path:
        return (hashlib.sha256(picture.content).hexdigest(),)
    about = os.stat(picture.path)
    return picture.path, about.st_size, about.st_mtime_ns


def _read(entry: Path, eyes: Eyes) -> Encoded | None:
    """The entry, or None where there is none or it is damaged."""
    try:
        meta = json.loads((entry / META).read_text(encoding="utf-8"))
        if any(file_digest(entry / name) != digest for name, digest in meta["digests"].items()):
            return None
        encoded = Encoded(StoredExamples(entry, meta["files"], eyes), Findings(**meta["findings"]), meta["template"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    encoded.lengths.extend(meta["lengths"])
    encoded.learned, encoded.tokens = meta["learned"], meta["tokens"]
    with suppress(OSError):
        os.utime(entry)  # used now, so it goes last
    return encoded


def _write(entry: Path, encode: Encode, eyes: Eyes) -> Encoded:
    partial = entry.with_name(f".{uuid.uuid4().hex}.part")
    try:
        entry.parent.mkdir(exist_ok=True)
        _fill(partial, encode)
        with suppress(OSError):  # another run has made the same entry in the meantime
            os.rename(partial, entry)
        return _read(entry, eyes) or encode([])
    except OSError:
        return encode([])
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fill(partial: Path, encode: Encode) -> None:
    writer = _Writer(partial)
    try:
        encoded = encode(writer)
    finally:
        writer.close()
    findings = encoded.findings
    meta = {
        "files": list(writer.files),
        "findings": {"rows": findings.rows, "counts": findings.counts, "first": findings.first},
        "template": encoded.template,
        "lengths": encoded.lengths.tolist(),
        "learned": encoded.learned,
        "tokens": encoded.tokens,
        "digests": {name: file_digest(partial / name) for name in (IDS, LABELS, ROWS)},
    }
    with (partial / META).open("w", encoding="utf-8") as stream:
        json.dump(meta, stream)
        stream.flush()
        os.fsync(stream.fileno())


def _prune(cache: Path, kept: Path) -> None:
    """Delete entries that were not used for the longest time until the rest fits, and what killed processes left."""
    entries = []
    with suppress(OSError):
        entries = [(path.stat().st_mtime, path) for path in cache.iterdir() if path != kept]
    for used, path in entries:
        if path.name.endswith(".part") and time.time() - used > ABANDONED_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
    room = MOST_BYTES - _bytes(kept)
    for _, path in sorted(entries, reverse=True):
        if not path.name.endswith(".part"):
            room -= _bytes(path)
            if room < 0:
                shutil.rmtree(path, ignore_errors=True)


def _bytes(folder: Path) -> int:
    with suppress(OSError):
        return sum(file.stat().st_size for file in folder.iterdir())
    return 0
