"""Folders of pictures: with `metadata.jsonl` or a table, or with a caption beside each picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.api.schema_data import DataCheckRequest
from app.commands_data import cli
from app.data_mend import mended_copy
from app.run_data import fingerprint
from trainer.data.doctor.check import check
from trainer.data.reading import held_out_source, read_samples
from trainer.data.samples import PICTURE
from trainer.data.sources import find
from trainer.errors import TrainError
from trainer.spec.data import Data

BYTES = b"\x89PNG a picture"


def filled(folder: Path, **files: str) -> Data:
    """A folder with two pictures and these files, whose names have `_` for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("a.png", "b.JPG"):
        (folder / name).write_bytes(BYTES)
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content, encoding="utf-8")
    return Data(train=str(folder))


def shown(data: Data) -> list[tuple[str, str]]:
    return [(Path(each.pictures[0].path).name, each.answer) for each in read_samples(data).train]


ROWS = ({"file_name": "a.png", "text": "A cat."}, {"file_name": "b.JPG", "text": "A dog."})
METADATA = {
    "metadata_jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    "metadata_csv": "file_name,caption\na.png,A cat.\nb.JPG,A dog.\n",
}


@pytest.mark.parametrize("name", METADATA)
def test_metadata_names_the_pictures_beside_it(tmp_path: Path, name: str) -> None:
    data = filled(tmp_path, **{name: METADATA[name]})
    assert shown(data) == [("a.png", "A cat."), ("b.JPG", "A dog.")]
    report = check(find(data.train), data, None)
    assert (report.tally.rows, report.tally.usable, report.tally.counts["columns-extra"]) == (2, 2, 0)


def test_metadata_may_hold_questions(tmp_path: Path) -> None:
    row = {"file_name": "a.png", "query": "What is this?", "response": "A cat."}
    (sample,) = read_samples(filled(tmp_path, metadata_jsonl=json.dumps(row))).train
    assert [turn["content"] for turn in sample.messages] == [f"{PICTURE}What is this?", "A cat."]


def test_a_file_name_in_other_files_is_no_picture(tmp_path: Path) -> None:
    row = {"file_name": "a.png", "text": "print(1)"}
    filled(tmp_path, rows_jsonl=json.dumps(row))
    (sample,) = read_samples(Data(train=str(tmp_path / "rows.jsonl"))).train
    assert sample.pictures == () and sample.text == "print(1)"


def test_each_picture_has_its_caption_in_a_text_file(tmp_path: Path) -> None:
    data = filled(tmp_path, a_txt="A cat.\n", b_txt="\ufeffA dog.", notes_md="x")
    assert shown(data) == [("a.png", "A cat."), ("b.JPG", "A dog.")]
    report = check(find(data.train), data, None)
    assert (report.shape, report.tally.usable) == ("pictures with captions", 2)


def test_of_captions_that_lack_the_file_is_named(tmp_path: Path) -> None:
    data = filled(tmp_path, a_txt=" \n")
    tally = check(find(data.train), data, None).tally
    assert [(each.kind, each.place.file) for each in tally.findings] == [
        ("target-empty", "a.txt"),
        ("caption-missing", "b.JPG"),
    ]
    with pytest.raises(TrainError, match=r"a\.txt, line 1"):
        read_samples(data)


def test_a_caption_in_another_encoding_is_refused(tmp_path: Path) -> None:
    data = filled(tmp_path, a_txt="x")
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    assert check(find(data.train), data, None).tally.counts["encoding-broken"] == 1


def test_parts_are_folders_too(tmp_path: Path) -> None:
    data = filled(tmp_path / "train", **METADATA).model_copy(update={"train": str(tmp_path)})
    filled(tmp_path / "test", a_txt="A cow.", b_txt="A pig.")
    found = held_out_source(data)
    assert found is not None and found.path == tmp_path / "test"
    assert [each.answer for each in read_samples(data).held_out] == ["A cow.", "A pig."]
    assert len(shown(data)) == 2


def test_rows_come_before_metadata_and_metadata_before_captions(tmp_path: Path) -> None:
    filled(tmp_path, a_txt="x", **METADATA)
    assert find(str(tmp_path)).name == "metadata.jsonl"
    filled(tmp_path, train_jsonl='{"text": "x"}')
    assert find(str(tmp_path)).name == "train.jsonl"


def test_a_caption_is_not_taken_for_a_part(tmp_path: Path) -> None:
    """Pictures may be called `train.png` and `test.png`."""
    data = filled(tmp_path, train_txt="A train.", test_txt="A test.")
    for name in ("train.png", "test.png"):
        (tmp_path / name).write_bytes(BYTES)
    assert find(data.train).path == tmp_path
    assert held_out_source(data) is None


def test_the_fingerprint_follows_captions_and_pictures(tmp_path: Path) -> None:
    source = find(filled(tmp_path, a_txt="x", b_txt="y").train)
    first = fingerprint([source])
    (tmp_path / "a.txt").write_text("z", encoding="utf-8")
    second = fingerprint([source])
    (tmp_path / "a.png").write_bytes(BYTES + b"!")
    assert len({first, second, fingerprint([source])}) == 3


@pytest.mark.parametrize("files", [{"a_txt": "x", "b_txt": ""}, {"metadata_csv": "file_name,text\na.png,x\nb.JPG,\n"}])
def test_a_mended_copy_lies_where_its_pictures_do(tmp_path: Path, files: dict[str, str]) -> None:
    data = filled(tmp_path, **files)
    made = mended_copy(DataCheckRequest(train=data.train), None)
    assert (made.rows, Path(made.file)) == (1, tmp_path / "metadata.mended.jsonl")
    assert shown(Data(train=made.file)) == [("a.png", "x")]


def test_a_row_that_holds_a_large_picture_is_no_long_text(tmp_path: Path) -> None:
    row = {"image": "data:;base64," + "AAAA" * 400_000, "text": "x"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row), encoding="utf-8")
    tally = check(find(str(tmp_path / "rows.jsonl")), Data(), None).tally
    assert tally.usable == 1 and not tally.counts["line-long"]


def test_a_folder_of_pictures_alone_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="folder without") as refused:
        find(filled(tmp_path).train)
    assert "captions" in refused.value.remedy


def test_the_command_names_a_place_for_the_copy_where_pictures_are_found(tmp_path: Path, own_home: Path) -> None:
    data = filled(tmp_path, a_txt="x", b_txt="")
    said = CliRunner().invoke(cli, ["check", data.train])
    assert said.exit_code == 1 and "The pictures were not opened" in said.output
    assert f"--fix {tmp_path / 'metadata.mended.jsonl'}" in said.output
