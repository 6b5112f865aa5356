"""A check of a data set for a page that may leave: what is found goes out as it is found."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from pathlib import Path

from app.api.schema_data import DataCheckRequest, DataFinding, DataLine, DataReport
from app.errors import problem_of
from app.models import with_data_resolved
from trainer.data.doctor.check import Listener, check, finding_json, first_page
from trainer.data.problems import Finding
from trainer.data.reading import held_out_source
from trainer.data.sources import find
from trainer.errors import TrainError
from trainer.spec.data import Data

SHOWN = 400  # characters of a value on the first page


class _Left(Exception):
    """Nobody waits for the check any more."""


class _Check:
    def __init__(self, request: DataCheckRequest, python: Path | None) -> None:
        self._data = with_data_resolved(Data.model_validate(request.model_dump()))
        self._python = python
        self._lines: asyncio.Queue[DataLine | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self.left = threading.Event()

    async def lines(self) -> AsyncGenerator[DataLine, None]:
        """Every line until the last."""
        task = asyncio.create_task(asyncio.to_thread(self._run))
        try:
            while (line := await self._lines.get()) is not None:
                yield line
            await task
        finally:
            self.left.set()

    def _say(self, line: DataLine | None) -> None:
        if self.left.is_set() and line is not None:
            raise _Left
        self._loop.call_soon_threadsafe(self._lines.put_nowait, line)

    def _run(self) -> None:
        try:
            self._check()
        except _Left:
            return
        except TrainError as error:
            self._say(DataLine(type="failed", problem=problem_of(error)))
        finally:
            self._say(None)

    def _check(self) -> None:
        source = find(self._data.train)
        reads, _ = first_page(source, self._data, self._python)
        self._say(DataLine(type="page", rows=[_brief(value) for _, value, _ in reads]))
        listener = Listener(
            lambda phase, share: self._say(DataLine(type="progress", phase=phase, share=share)), self._found
        )
        aside = held_out_source(self._data)
        report = check(source, self._data, self._python, held_out=aside, listener=listener)
        self._say(DataLine(type="done", report=DataReport.model_validate(report.to_json())))

    def _found(self, finding: Finding) -> None:
        self._say(DataLine(type="finding", finding=DataFinding.model_validate(finding_json(finding))))


def _brief(value: object, depth: int = 0) -> object:
    """A value of a row, its long texts and lists shortened."""
    if isinstance(value, str):
        return value if len(value) <= SHOWN else value[: SHOWN - 1] + "…"
    if isinstance(value, list | dict) and depth > 4:
        return "…"
    if isinstance(value, list):
        return [_brief(each, depth + 1) for each in value[:20]]
    if isinstance(value, dict):
        return {str(key)[:SHOWN]: _brief(value[key], depth + 1) for key in list(value)[:50]}
    return value


def check_lines(request: DataCheckRequest, python: Path | None) -> AsyncGenerator[DataLine, None]:
    """The lines of one check; closing the iterator ends it."""
    return _Check(request, python).lines()
