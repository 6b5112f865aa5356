"""Pictures in a folder for each class, and rows with labels: read, counted and refused without opening a picture."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from app.run_data import data_record
from trainer.data.doctor.check import check
from trainer.data.doctor.repair import write_mended
from trainer.data.labels import class_names, of_classes
from trainer.data.reading import held_out_source, read_rows, read_samples
from trainer.data.sources import content_digest, find
from trainer.errors import TrainError
from trainer.models.task import adapter_classes, check_task, own_classes
from trainer.spec import Data, RunSpec


def fill(folder: Path, **classes: int) -> Path:
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            (folder / name / f"{number}.JPG").write_bytes(f"{name} {number}".encode())
    return folder


def rows(file: Path, *told: dict[str, object]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in told), encoding="utf-8")
    return file


def model(folder: Path, **config: object) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "vit", **config}), encoding="utf-8")
    return folder


def test_a_folder_for_each_class_is_read_with_its_names(tmp_path: Path) -> None:
    fill(tmp_path / "pets", cat=2, dog=1)
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / "pets" / "cat" / "deeper").mkdir()
    (tmp_path / "pets" / "cat" / "deeper" / "3.png").write_bytes(b"")
    fill(tmp_path / "pets", **{"__MACOSX": 1, ".thumbnails": 1})
    samples = read_samples(Data(train=str(tmp_path / "pets"))).train
    assert [(sample.label, str(sample.place)) for sample in samples] == [
        *(("cat", f"cat/{name}") for name in ("0.JPG", "1.JPG", "deeper/3.png")),
        ("dog", "dog/0.JPG"),
    ]
    assert all(sample.kind == "class" and Path(sample.pictures[0].path).is_file() for sample in samples)


@pytest.mark.parametrize("aside", ["valid", "validation", "val", "test"])
def test_parts_above_the_classes_are_kept_apart(tmp_path: Path, aside: str) -> None:
    fill(tmp_path / "train", cat=2, dog=2)
    fill(tmp_path / aside, cat=1, dog=1)
    data = Data(train=str(tmp_path))
    found = read_samples(data)
    assert held_out_source(data) and (len(found.train), len(found.held_out)) == (4, 2)


def test_a_held_out_part_without_one_for_training_is_no_class(tmp_path: Path) -> None:
    fill(tmp_path / "test", cat=1, dog=1)
    fill(tmp_path, cat=1)
    with pytest.raises(TrainError) as refused:
        find(str(tmp_path))
    assert refused.value.code == "data-missing"


def test_a_share_is_held_out_of_one_folder(tmp_path: Path) -> None:
    fill(tmp_path / "pets", cat=10, dog=10)
    found = read_samples(Data(train=str(tmp_path / "pets"), held_out_share=0.2))
    assert (len(found.train), len(found.held_out)) == (16, 4)


@pytest.mark.parametrize("column", ["image", "images", "img", "picture", "file_name"])
def test_rows_name_a_picture_and_its_class(tmp_path: Path, column: str) -> None:
    fill(tmp_path, cat=1, dog=1)
    told = ({column: "cat/0.JPG", "label": "cat"}, {column: ["dog/0.JPG"], "label": 7})
    found = read_samples(Data(train=str(rows(tmp_path / "train.jsonl", *told)))).train
    assert [sample.label for sample in found] == ["cat", "7"]


def test_rows_beside_the_pictures_of_a_folder_are_found(tmp_path: Path) -> None:
    fill(tmp_path / "a", all=2)
    (tmp_path / "a" / "metadata.csv").write_text("file_name,label\nall/0.JPG,cat\nall/1.JPG,dog\n")
    assert [sample.label for sample in read_samples(Data(train=str(tmp_path / "a"))).train] == ["cat", "dog"]


def test_bytes_and_other_names_of_columns(tmp_path: Path) -> None:
    told = {"photo": {"bytes": "data:;base64,AAAA"}, "species": "owl"}
    file = rows(tmp_path / "rows.jsonl", told)
    (sample,) = read_samples(Data(train=str(file), columns="image=photo, label=species")).train
    assert sample.label == "owl" and sample.pictures[0].content == b"\0\0\0"


@pytest.mark.parametrize("label", [None, "", "  ", 1.5, True, ["cat"]])
def test_what_is_no_label_is_refused_with_its_line(tmp_path: Path, label: object) -> None:
    fill(tmp_path, cat=1)
    file = rows(tmp_path / "rows.jsonl", {"image": "cat/0.JPG", "label": label})
    with pytest.raises(TrainError, match=r"rows\.jsonl, line 1: `label` names no class") as refused:
        read_samples(Data(train=str(file)))
    assert refused.value.code == "data-row-invalid"


def test_captions_and_preferences_stay_what_they_were(tmp_path: Path) -> None:
    fill(tmp_path, cat=1)
    file = rows(tmp_path / "rows.jsonl", {"image": "cat/0.JPG", "text": "a cat", "label": "cat"})
    (sample,) = read_samples(Data(train=str(file))).train
    assert sample.kind == "conversation" and sample.label == ""
    kto = rows(tmp_path / "kto.jsonl", {"prompt": "a", "completion": "b", "label": True})
    with pytest.raises(TrainError) as refused:
        read_samples(Data(train=str(kto)))
    assert refused.value.code == "data-preference"


def test_a_class_without_pictures_is_refused_or_left_out(tmp_path: Path) -> None:
    fill(tmp_path / "pets", cat=1, dog=1, owl=0)
    data = Data(train=str(tmp_path / "pets"))
    with pytest.raises(TrainError, match="pets/owl: the class has no pictures"):
        read_samples(data)
    found = read_samples(data.model_copy(update={"bad_rows": "drop"}))
    assert len(found.train) == 2 and found.left_out() == [
        "1 row with no pictures of a class left out, the first at pets/owl."
    ]


def test_numbers_are_in_the_order_of_their_value_and_names_by_letter() -> None:
    assert class_names(["10", "9", "-1"]) == ("-1", "9", "10")
    assert class_names(["b", "10", "9"]) == ("10", "9", "b")


def test_a_check_counts_each_class_and_warns_of_uneven_ones(tmp_path: Path) -> None:
    fill(tmp_path / "pets", cat=20, dog=2)
    report = check(find(str(tmp_path / "pets")), Data(), None)
    assert report.sound and report.tally.classes == Counter(cat=20, dog=2)
    assert report.shape == "a folder for each class" and dict(report.tally.counts) == {
        "class-counts": 1,
        "classes-uneven": 1,
    }
    assert "2 classes: cat 20, dog 2." in str(report.tally.findings[0])
    held_out = check(find(str(tmp_path / "pets")), Data(), None, held_out=find(str(tmp_path / "pets")))
    assert "leakage" not in held_out.tally.counts


def test_a_check_refuses_one_class_and_an_empty_one(tmp_path: Path) -> None:
    fill(tmp_path / "one", cat=2, owl=0)
    report = check(find(str(tmp_path / "one")), Data(), None)
    assert not report.sound and dict(report.tally.counts) == {"class-empty": 1, "class-single": 1}
    assert of_classes("text", {}) == []
    for what in (lambda: write_mended(find(str(tmp_path / "one")), Data(), None, tmp_path / "out"),
                 lambda: read_rows(find(str(tmp_path / "one")), Data(), None)):  # fmt: skip
        with pytest.raises(TrainError, match="folder of pictures"):
            what()


def test_a_run_is_refused_where_model_and_data_are_not_of_one_kind(tmp_path: Path) -> None:
    pictures, text = fill(tmp_path / "pets", cat=2, dog=2), rows(tmp_path / "text.jsonl", {"text": "words"})
    sees, writes = model(tmp_path / "vit"), model(tmp_path / "llama", model_type="llama")

    def refused(folder: Path, data: Path, **changes: object) -> str:
        spec = RunSpec().with_changes({"model": str(folder), "data.train": str(data), **changes})
        with pytest.raises(TrainError) as caught:
            data_record(spec, None)
        return caught.value.code

    assert refused(sees, text) == refused(writes, pictures) == "task-mismatch"
    assert refused(sees, pictures, **{"training.neftune": 5.0}) == "task-setting"
    assert refused(sees, fill(tmp_path / "one", cat=2)) == "class-single"
    assert refused(sees, pictures, **{"data.mix": f"{text} = 1"}) == "class-mixed"
    assert refused(sees, pictures, **{"data.held_out": str(fill(tmp_path / "held", owl=1, cat=1))}) == "class-unknown"
    assert refused(sees, pictures, **{"lora.start_from": str(tmp_path)}) == "adapter-mismatch"
    spec = RunSpec().with_changes({"model": str(sees), "data.train": str(pictures)})
    assert data_record(spec, None)["rows"] == 4
    unfetched = spec.with_changes({"model": "hub:owner/name"})
    check_task(unfetched, read_samples(spec.data))


def test_a_head_is_known_by_its_architecture_and_an_adapter_by_its_names(tmp_path: Path) -> None:
    names = {"id2label": {"1": "dog", "0": "cat"}}
    assert own_classes({"architectures": ["ViTForImageClassification"], **names}) == ("cat", "dog")
    assert own_classes({"architectures": ["ViTModel"], **names}) == () == own_classes({})
    assert adapter_classes(model(tmp_path / "adapter", **names)) == ("cat", "dog")


def test_a_folders_digest_is_of_names_and_sizes(tmp_path: Path) -> None:
    one, other = fill(tmp_path / "a", cat=2), fill(tmp_path / "b", cat=2)
    assert content_digest(one) == content_digest(other)
    (other / "cat" / "0.JPG").write_bytes(b"longer than before")
    assert content_digest(one) != content_digest(other)
