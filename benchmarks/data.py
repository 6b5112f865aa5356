"""Time the data doctor on a gigabyte of conversations and hold it against bounds.

    .venv/bin/python benchmarks/data.py [--size BYTES] [--folder PATH] [--managed PYTHON] [--pictures N]

Writes a file of JSON lines in a folder of its own that is removed afterwards. Run it with nothing else going on. Exit
status 1 when a bound is missed. With the interpreter of an installed environment it also times the rows' way to tokens
under the starter's tokenizer: the first time, and the second, when they come from the cache; and the opening of
pictures of half a megapixel (`--pictures`, of which `--pictures 0` makes none). Memory is the sum over all processes at its highest, measured every 20 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from trainer.data.doctor.check import check, first_page
from trainer.data.doctor.picture_check import check_pictures
from trainer.data.doctor.structure import check_structure
from trainer.data.doctor.tally import Tally
from trainer.data.readers.opening import look
from trainer.data.sources import find
from trainer.spec import Data

STRUCTURE_PER_GB = 4.0  # seconds, on two cores
MEMORY = 200e6  # bytes
FIRST_PAGE = 0.1  # seconds
RUNS = 3
LATER_BYTES = 20_000_000  # how much of the file the slower checks and the tokenizer are timed on
SECOND_TIME = 0.1  # of the first tokenisation, reading the rows apart
PICTURES = 10_000
PICTURES_SECONDS, PICTURES_MEMORY = 90.0, 512e6  # for so many, on two cores
SIZE = (816, 612)  # of a picture
FORMATS = ("JPEG",) * 7 + ("PNG",) * 2 + ("WEBP",)
STARTER = Path(__file__).parents[1] / "trainer" / "starter" / "model"


def write_rows(path: Path, size: int) -> int:
    """Two turns a row, about 930 bytes; returns the number of rows."""
    chance = random.Random(0)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 9))) for _ in range(5000)]
    texts = [" ".join(chance.choices(words, k=chance.randint(10, 120))) for _ in range(20_000)]
    written = rows = 0
    with path.open("w", encoding="utf-8") as stream:
        while written < size:
            rows += 1
            asked = {"role": "user", "content": f"{rows} {chance.choice(texts)}"}
            line = json.dumps({"messages": [asked, {"role": "assistant", "content": chance.choice(texts)}]}) + "\n"
            written += stream.write(line)
    return rows


class Memory:
    """The highest sum of resident memory of this process and its children, on Linux."""

    def __init__(self) -> None:
        self.highest = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            self.highest = max(self.highest, sum(map(_resident, [os.getpid(), *_children(os.getpid())])))


def _children(process: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        try:
            found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:  # the thread has ended
            continue
    return found


def _resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):  # the process has ended
        return 0


def tokenise_twice(path: Path) -> None:
    """Print the seconds of two tokenisations of the same rows as JSON; runs in a managed interpreter."""
    from trainer.data.reading import read_samples
    from trainer.data.token_cache import encode_cached
    from trainer.models.tokenizer import load_tokenizer

    data = Data(train=str(path), bad_rows="drop")
    samples, tokenizer, seconds = read_samples(data).train, load_tokenizer(STARTER), []
    for _ in range(2):
        began = time.perf_counter()
        encode_cached(tokenizer, samples, data, path.parent / "tokens")
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"rows": len(samples), "seconds": seconds}))


def paint(folder: Path, count: int) -> None:
    """Write pictures that are all different, with shapes, shades and grain; runs in a managed interpreter."""
    from PIL import Image, ImageDraw

    chance = random.Random(0)
    grain = Image.effect_noise(SIZE, 12).convert("RGB")
    for number in range(count):
        image = Image.new("RGB", SIZE, tuple(chance.choices(range(256), k=3)))
        draw = ImageDraw.Draw(image)
        for _ in range(12):
            corners = [(chance.randrange(SIZE[0]), chance.randrange(SIZE[1])) for _ in range(3)]
            draw.polygon(corners, tuple(chance.choices(range(256), k=3)))
        form = FORMATS[number % len(FORMATS)]
        fast = {"compress_level": 1} if form == "PNG" else {"method": 0} if form == "WEBP" else {}
        Image.blend(image, grain, 0.3).save(folder / f"{number}.{form.lower()}", form, **fast)
    rows = (json.dumps({"image": path.name, "text": path.stem}) for path in folder.iterdir())
    (folder / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")


def time_pictures(folder: Path, managed: Path, count: int, say: Callable[[str, float, float, str], None]) -> None:
    """Have the doctor open so many pictures."""
    subprocess.run([managed, "-I", __file__, "--paint", folder, "--pictures", str(count)], check=True)
    source, tally = find(str(folder / "rows.jsonl")), Tally(count, count, count)
    before = os.times()
    with Memory() as memory:
        began = time.perf_counter()
        check_pictures(source, None, Data(), managed, tally, lambda _: None, lambda _: None)
        seconds = time.perf_counter() - began
    used = sum(os.times()[:4]) - sum(before[:4])
    assert tally.usable == count, tally.counts
    print(f"    {count:,} pictures of {SIZE[0] * SIZE[1] / 1e6:.2f} megapixels: {seconds:.1f} s, {used:.1f} s of CPU")
    say(f"opening {PICTURES:,} pictures", seconds / count * PICTURES, PICTURES_SECONDS, "s")
    say("memory of all processes that do", memory.highest / 1e6, PICTURES_MEMORY / 1e6, "MB")


def main() -> int:
    """Measure, print a line a figure, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1_000_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--managed", type=Path, help="the interpreter of an installed environment")
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--tokenise", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--paint", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tokenise:
        tokenise_twice(options.tokenise)
        return 0
    if options.paint:
        paint(options.paint, options.pictures)
        return 0
    missed = 0

    def say(what: str, value: float, bound: float, unit: str) -> None:
        nonlocal missed
        missed += value > bound
        print(f"{'ok ' if value <= bound else 'MISSED'} {what}: {value:.3g} {unit} (at most {bound:.3g})", flush=True)

    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "rows.jsonl"
        rows = write_rows(path, options.size)
        gigabytes = path.stat().st_size / 1e9
        source, opened = find(str(path)), look(path)
        began = time.perf_counter()
        first_page(source, Data(), None)
        say("first page", time.perf_counter() - began, FIRST_PAGE, "s")
        seconds, highest, before = [], 0, os.times()
        for _ in range(RUNS):
            with Memory() as memory:
                began = time.perf_counter()
                found = check_structure(source, opened, Data(), None, lambda _: None)
                seconds.append(time.perf_counter() - began)
            highest = max(highest, memory.highest)
            assert found.tally.usable == rows
        load, used = os.getloadavg()[0], sum(os.times()[:4]) - sum(before[:4])
        print(
            f"    {rows:,} rows, {gigabytes:.2f} GB, best {min(seconds):.2f} s, {used / RUNS:.2f} s of CPU, load {load:.1f}"
        )
        say("structural pass", statistics.median(seconds) / gigabytes, STRUCTURE_PER_GB, "s/GB")
        say("memory of all processes", highest / 1e6, MEMORY / 1e6, "MB")
        os.truncate(path, LATER_BYTES)
        began = time.perf_counter()
        check(source, Data(), None)
        print(f"    with the slower checks: {(time.perf_counter() - began) / LATER_BYTES * 1e6:.2f} s/MB")
        if options.managed:
            command = [options.managed, "-I", __file__, "--tokenise", path]
            told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            first, second = told["seconds"]
            print(f"    tokens of {told['rows']:,} rows: {first:.2f} s, again {second:.2f} s")
            say("second tokenisation", second / first, SECOND_TIME, "of the first")
        if options.managed and options.pictures:
            (Path(folder) / "pictures").mkdir()
            time_pictures(Path(folder) / "pictures", options.managed, options.pictures, say)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
