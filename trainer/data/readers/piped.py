"""Rows from a process of their own: what reads parquet and hub data sets may crash or swallow memory alone."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from trainer.data.problems import Read
from trainer.data.readers.json_line import read_line
from trainer.data.readers.lines import numbered
from trainer.data.readers.opening import BLOCK
from trainer.data.samples import Place
from trainer.errors import TrainError

SCRIPT = str(Path(__file__).with_name("elsewhere.py"))
REFUSED = 3  # the script's exit status when it has said why
NEEDED = "Install the dependencies (`fettle env install`)"


def parquet_rows(path: Path, python: Path | None) -> Iterator[Read]:
    """The rows of a parquet file, read by an interpreter that has pyarrow; raises `TrainError` where there is none."""
    what = f"{path.name} is a parquet file, which only an installed environment can read."
    interpreter = _needed(python, what, f"{NEEDED}, or export the rows as JSONL or CSV.")
    return _rows([interpreter, "-I", SCRIPT, "parquet", str(path)], path.name, "Export the rows again, or as JSONL.")


def hub_rows(name: str, config: str, split: str, python: Path | None) -> Iterator[Read]:
    """The rows of a data set by its name on the hub, from the cache where they are there."""
    what = f"{name} is a data set of the hub, which only an installed environment can fetch."
    interpreter = _needed(python, what, f"{NEEDED}.")
    remedy = "Check the name and the connection; offline, only what is in the cache can be used."
    return _rows([interpreter, "-I", SCRIPT, "hub", name, config, split], name, remedy)


def _needed(python: Path | None, what: str, remedy: str) -> str:
    if python is None:
        raise TrainError("data-needs-environment", what, remedy)
    return str(python)


def _rows(command: Sequence[str], name: str, remedy: str) -> Iterator[Read]:
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said)
        assert process.stdout
        read = process.stdout.read
        try:
            for number, line in numbered(iter(lambda: read(BLOCK), b"")):
                place, value, problems = read_line(line, Place(name, number), last=False)
                yield place, value, [replace(problem, column=None) for problem in problems]
            status = process.wait()
        finally:
            process.stdout.close()
            if process.poll() is None:
                process.kill()
                process.wait()
        if status:
            said.seek(0)
            raise _failure(said.read().decode("utf-8", "replace"), status, name, remedy)


def _failure(said: str, status: int, name: str, remedy: str) -> TrainError:
    lines = [line for line in said.strip().splitlines() if line.strip()]
    if status == REFUSED and lines:
        return TrainError("data-unreadable", f"{name} cannot be read: {lines[-1].rstrip('.')}.", remedy)
    if lines and "ModuleNotFoundError" in lines[-1]:
        lacking = lines[-1].split(":")[-1].strip().rstrip(".")
        what = f"{name} cannot be read, for this environment lacks a library: {lacking}."
        return TrainError("data-needs-environment", what, "Install the dependencies again: `fettle env install`.")
    how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    return TrainError(
        "data-unreadable", f"{name} cannot be read: its reader {how}, perhaps for lack of memory.", remedy
    )
