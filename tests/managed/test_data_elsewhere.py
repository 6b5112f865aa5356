"""Parquet files and data sets by name, read by the interpreter that has the libraries for it."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from trainer.data.readers.piped import SCRIPT
from trainer.data.reading import read_samples
from trainer.errors import TrainError
from trainer.loop import train
from trainer.operation import Operation, create, read_events
from trainer.spec import Data, RunSpec
from trainer.starter import skills

TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def test_nested_parquet_rows_become_turns_and_odd_values_do_no_harm(tmp_path: Path) -> None:
    rows = {"messages": [TALK, TALK[:1] + [{"role": "assistant", "content": "Good day"}]] * 700}
    rows |= {"score": [float("nan"), 1.0] * 700, "day": [datetime.date(2020, 1, 1)] * 1400}
    parquet.write_table(pyarrow.table(rows), tmp_path / "rows.parquet")
    samples = read_samples(Data(train=str(tmp_path / "rows.parquet"))).train
    assert len(samples) == 1400
    assert list(samples[0].messages) == TALK
    assert samples[1].messages[1]["content"] == "Good day"
    assert samples[1399].place.row == 1400


PICTURE = b"\x89PNG a picture"


@pytest.mark.parametrize(
    "kind",
    [
        pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())]),
        pyarrow.list_(pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])),
        pyarrow.binary(),
        pyarrow.large_binary(),
    ],
    ids=["as datasets writes it", "a list of such", "plain bytes", "large plain bytes"],
)
def test_pictures_lie_in_parquet_as_bytes(tmp_path: Path, kind: pyarrow.DataType) -> None:
    one: object = {"bytes": PICTURE, "path": "cat.png"} if pyarrow.types.is_struct(kind) else PICTURE
    one = [{"bytes": PICTURE, "path": None}] if pyarrow.types.is_list(kind) else one
    column = "images" if pyarrow.types.is_list(kind) else "image"
    table = pyarrow.table({column: pyarrow.array([one] * 3, kind), "text": ["A cat."] * 3})
    parquet.write_table(table, tmp_path / "rows.parquet")
    samples = read_samples(Data(train=str(tmp_path / "rows.parquet"))).train
    assert [[picture.content for picture in each.pictures] for each in samples] == [[PICTURE]] * 3


def test_pictures_of_parquet_may_be_named_by_their_paths(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(PICTURE)
    rows = {"image": [{"bytes": None, "path": "cat.png"}], "text": ["A cat."]}
    parquet.write_table(pyarrow.table(rows), tmp_path / "rows.parquet")
    (sample,) = read_samples(Data(train=str(tmp_path / "rows.parquet"))).train
    assert sample.pictures[0].path == str(tmp_path / "cat.png")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the most memory of a process")
def test_rows_with_large_pictures_are_read_a_few_at_a_time(tmp_path: Path) -> None:
    rows = {"image": [bytes([number]) * 3_000_000 for number in range(60)], "text": ["x"] * 60}
    parquet.write_table(pyarrow.table(rows), tmp_path / "rows.parquet", compression="none")
    code = f"import sys; sys.argv = ['', 'parquet', {str(tmp_path / 'rows.parquet')!r}]; import runpy\n"
    code += f"try: runpy.run_path({SCRIPT!r}, run_name='__main__')\n"
    code += "finally: print(open('/proc/self/status').read(), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, timeout=300)
    assert len(done.stdout.splitlines()) == 60
    most = next(int(line.split()[1]) for line in done.stderr.splitlines() if line.startswith(b"VmHWM"))
    assert most < 700_000, "530 MB in batches, 970 MB all at once: pyarrow itself holds a page of pictures twice"


@pytest.mark.parametrize("content", [b"PAR1", b"PAR1" + b"\x07" * 900 + b"PAR1", b"PAR1" + b"\xff" * 900 + b"PAR1"])
def test_a_damaged_parquet_file_is_named_without_a_traceback(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rows.parquet").write_bytes(content)
    with pytest.raises(TrainError) as caught:
        read_samples(Data(train=str(tmp_path / "rows.parquet")))
    assert caught.value.code == "data-unreadable"
    assert "rows.parquet" in caught.value.message and "Traceback" not in caught.value.message


def test_offline_a_data_set_that_is_not_cached_is_refused_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(TrainError) as caught:
        read_samples(Data(train="hub:somebody/rows"))
    assert caught.value.code == "data-unreadable"
    assert "somebody/rows" in caught.value.message


def test_rows_come_through_the_datasets_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    lines = [json.dumps({"messages": TALK, "n": n}) for n in range(5)]
    (tmp_path / "set" / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    command = [sys.executable, "-I", SCRIPT, "hub", str(tmp_path / "set"), "", "train"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [json.loads(line) for line in lines], done.stderr


def test_a_run_tells_which_rows_it_leaves_out(tmp_path: Path) -> None:
    rows = [json.dumps({"messages": TALK}) for _ in range(8)]
    (tmp_path / "rows.jsonl").write_text("\n".join([*rows, "broken", "broken too", rows[0]]), encoding="utf-8")
    wanted = {"data.train": str(tmp_path / "rows.jsonl"), "data.bad_rows": "drop", "training.max_steps": 1}
    wanted |= {"model": str(Path(skills.__file__).parent / "model"), "training.threads": 1}
    create(tmp_path / "run", {"id": "run", "kind": "train", "title": "A run"})
    with Operation(tmp_path / "run") as operation:
        train(operation, RunSpec().with_changes(wanted))
    said = [event["message"] for event in read_events(tmp_path / "run") if event["type"] == "warning"]
    assert "2 rows with broken JSON left out, the first at rows.jsonl, line 9." in said
