"""Opens the pictures of a data set, in a process of its own that a picture may hang or end without harm.

Runs in the environment's interpreter, which has Pillow; in another one names are checked and nothing is opened. Of
several such processes each opens its own share, and says before each picture which one it is about to open.
"""

from __future__ import annotations

import faulthandler
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from trainer.data.doctor.serving import Say, limit_memory, samples_of, serve, source_of
from trainer.data.pictures import placed
from trainer.data.problems import RowError
from trainer.data.samples import Picture, Sample

PROGRESS_ROWS = 1000


class Opener:
    """One pass over the rows; what is found of a picture is said at once."""

    def __init__(self, task: dict[str, Any], say: Say) -> None:
        self._task, self._say = task, say
        self._folder = source_of(task)[0].folder
        self._rows = 0
        self._known: dict[str, dict[str, Any]] = {}
        try:
            from trainer.vision.glance import glance
            from trainer.vision.opening import Unreadable, known_formats
        except ImportError:  # no Pillow here
            self._glance = None
        else:
            self._glance, self._unreadable = glance, Unreadable
            known_formats()  # loads what is no picture's fault

    def run(self) -> dict[str, Any]:
        """Open all pictures of this share from the one on that the task begins with."""
        number = -1
        for sample in samples_of(self._task, self._row_read):
            for picture in sample.pictures:
                number += 1
                if number >= self._task["begin"]:
                    self._take(number, picture, sample)
        return {"opens": self._glance is not None}

    def _row_read(self) -> None:
        self._rows += 1
        if self._rows % PROGRESS_ROWS == 0:
            self._say({"rows": self._rows}, b"")

    def _take(self, number: int, picture: Picture, sample: Sample) -> None:
        # The same file is always of the same share, so that it is opened once.
        key = _key(
            os.path.normpath(self._folder / picture.path).encode("utf-8", "replace")
            if picture.path
            else picture.content
        )
        if int(key, 16) % self._task["shares"] != self._task["share"]:
            return
        place = sample.place
        about = {"number": number, "key": key, "name": picture.path, "place": [place.file, place.row, place.line]}
        if key not in self._known:
            if key in self._task["deadly"]:
                self._known[key] = {"deadly": True}
            else:
                self._say({"rows": self._rows, "opening": about}, b"")
                self._known[key] = self._look(picture)
        self._say({"rows": self._rows, "opened": {**about, **self._known[key]}}, b"")

    def _look(self, picture: Picture) -> dict[str, Any]:
        """What is wrong with a picture, or else its notes and looks."""
        try:
            (whole,) = placed([picture], self._folder)
        except RowError as wrong:
            return {"error": [wrong.kind, wrong.detail]}
        if whole.path and not os.path.getsize(whole.path):
            return {"unreadable": "the file is empty"}
        if self._glance is None:
            return {}
        try:
            with _limits(self._task["cpu_seconds"], self._task["seconds"]):
                found = self._glance(whole)
        except self._unreadable as wrong:
            return {"unreadable": str(wrong)}
        except MemoryError:
            return {"deadly": True}
        return {"notes": found.notes, "looks": found.looks}


def _key(name: bytes) -> str:
    return hashlib.blake2b(name, digest_size=8).hexdigest()


@contextmanager
def _limits(cpu_seconds: int, seconds: float) -> Iterator[None]:
    """End this process when what is done inside takes longer; decoders listen to nothing else."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        with _limit_of_cpu(cpu_seconds):
            yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def _limit_of_cpu(seconds: int) -> Iterator[None]:
    try:
        import resource
    except ImportError:  # Windows: the other limit stands alone
        yield
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    usual, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + seconds, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (usual, most))


def main() -> None:
    """Serve the opening of pictures."""

    def answer(task: dict[str, Any], say: Say) -> tuple[dict[str, Any], bytes]:
        limit_memory(task["memory"])
        return Opener(task, say).run(), b""

    serve(answer)
