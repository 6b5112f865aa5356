"""Damage data files at random and read them: `fuzz_data.py SECONDS SEED` says how many files it tried.

Runs by itself within a limit of memory, so that what grows without end is found as well.
"""

from __future__ import annotations

import itertools
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from ugly_files import UGLY

from trainer.data.doctor.later import Later
from trainer.data.doctor.repair import write_mended
from trainer.data.doctor.slices import check_slice, check_whole
from trainer.data.doctor.structure import task_of
from trainer.data.doctor.tally import Tally
from trainer.data.readers.opening import look
from trainer.data.reading import read_samples
from trainer.data.sources import find
from trainer.errors import TrainError
from trainer.spec import Data

MEMORY = 512 << 20
PIECES = (
    *(b'"', b"\\", b"\n", b"\r\n", b"{", b"}", b"[", b"]", b",", b":", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"NaN"),
    *(b"1e999", b"9" * 5000, b"\\ud83d", b"\\u0000", b"null", b'{"messages":', b'"role":', b"\x1f\x8b", b"[" * 2000),
    *(b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b'"\x7f', b"\t", b";", b"'", b'{"a":' * 700, b"PAR1", b" " * 3000),
)
NAMES = ("rows.jsonl", "rows.json", "rows.csv", "rows.tsv", "rows.txt", "rows.md", "rows", "rows.jsonl.gz")


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The content after a few accidents."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((1, 1, 2, 30, 500)))
        match chance.randrange(5):
            case 0 if end > at:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = chance.choice(PIECES)
            case 3:
                data[at:at] = data[at:end] * chance.randint(1, 3)
            case _:
                data = data[:at] if chance.random() < 0.2 else data
    return bytes(data)


def examine(path: Path, chance: random.Random) -> None:
    """Everything that reads a file, on this one; only `TrainError` may come out."""
    data = Data(train=str(path), bad_rows="drop", chunk_characters=300)
    source = find(str(path))
    try:
        opened = look(path)
        task = task_of(source, data, None)
        parts = [task]
        if opened.shape == "jsonl" and not opened.compressed and opened.encoding.startswith("utf-8"):
            size = path.stat().st_size
            cuts = sorted(
                {0, size, *(chance.randint(min(4, size), size) for _ in range(2))}
            )  # none in a byte order mark
            parts = [{**task, "start": a, "end": b} for a, b in itertools.pairwise(cuts)]
        tally = Tally()
        for part in parts:
            about, _ = check_slice(part) if "start" in part else check_whole(part, lambda *_: None)
            tally.add(Tally.from_json(about["tally"]), 0)
        assert tally.rows == tally.usable + sum(tally.dropped.values()), "a row was neither usable nor dropped"
        Later({**task, "held_out": task if chance.random() < 0.1 else None}, lambda *_: None).run()
        out = path.with_name("mended.jsonl")
        out.unlink(missing_ok=True)
        write_mended(source, data, None, out)
    except TrainError:
        return
    try:
        usable = len(read_samples(data).train)
    except TrainError as error:
        usable = 0 if error.code == "data-empty" else -1
    assert usable == tally.usable, f"training reads {usable} rows, the doctor {tally.usable}"


def main(seconds: float, seed: int) -> None:
    """Try damaged files until the time is over."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    chance = random.Random(seed)
    contents = [case.content for case in UGLY.values() if len(case.content) < 100_000]
    files, end = 0, time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            content = damaged(chance.choice(contents), chance)
            path = Path(folder) / chance.choice(NAMES)
            path.write_bytes(content)
            try:
                examine(path, chance)
            except BaseException:
                kept = Path(tempfile.gettempdir()) / f"fuzz-{seed}-{files}-{path.name}"
                kept.write_bytes(content)
                print(f"seed {seed}, file {files}: kept as {kept}", file=sys.stderr)
                raise
            path.unlink()
            files += 1
    print(files, most_memory() // 1024)


def most_memory() -> int:
    """The most memory that this process held, in kilobytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux counts into ru_maxrss what the process that started this one held.
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
