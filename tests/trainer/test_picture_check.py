"""What the doctor says of pictures, without anything that could open one."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainer.data.doctor import picture_check, processes
from trainer.data.doctor.check import check
from trainer.data.doctor.looks import BANDS, MOST_BITS, Looks
from trainer.data.doctor.picture_check import UNOPENED, PictureCheck
from trainer.data.doctor.repair import write_mended
from trainer.data.doctor.tally import Tally
from trainer.data.problems import Finding
from trainer.data.sources import find
from trainer.spec.data import Data

BYTES = b"\x89PNG a picture"


def opened(row: int, name: str, **found: Any) -> dict[str, Any]:
    return {"number": row - 1, "key": name, "name": name, "place": ["rows.jsonl", row, row], **found}


def looks(*differing: int, grey: int = 128) -> str:
    """A look that differs in these bits from that of others."""
    bits = random.Random(0).getrandbits(128) ^ sum(1 << bit for bit in differing)
    return bytes([grey] * 3).hex() + bits.to_bytes(16, "big").hex()


def told(
    *pictures: dict[str, Any], held_out: tuple[dict[str, Any], ...] = (), rows: int = 9
) -> tuple[Tally, list[str]]:
    tally, found = Tally(rows, rows), list[Finding]()
    checking = PictureCheck(tally, found.append)
    for each in pictures:
        checking.add(each)
    checking.tell_groups()
    for each in held_out:
        checking.add_held_out(each)
    assert [each.kind for each in found] == [each.kind for each in tally.findings]
    return tally, [str(each) for each in found]


def write(folder: Path, *rows: dict[str, Any]) -> Data:
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(BYTES)
    (folder / "empty.png").touch()
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Data(train=str(folder / "rows.jsonl"))


def test_without_an_environment_names_are_checked_and_the_rest_is_said(tmp_path: Path) -> None:
    images = ["a.png", "none.png", "../b.png", "empty.png", ["b.png", "none.png", "empty.png"]]
    data = write(tmp_path, *({"images": each, "text": "x"} for each in images), {"text": "y"})
    report = check(find(data.train), data, None, opener=lambda: None)
    assert (report.tally.rows, report.tally.usable, report.tally.pictures) == (6, 2, 7)
    assert report.tally.dropped == {"picture-missing": 2, "picture-outside": 1, "picture-unreadable": 1}
    found = [(each.kind, each.place.line) for each in report.tally.findings if each.kind.startswith("picture")]
    assert found == [
        ("picture-missing", 2), ("picture-outside", 3), ("picture-unreadable", 4), ("picture-missing", 5), ("picture-unreadable", 5),
    ]  # fmt: skip
    assert report.partial == [UNOPENED] and not report.sound


def test_a_mended_copy_leaves_out_rows_whose_pictures_are_lost(tmp_path: Path) -> None:
    images = ["a.png", "none.png", "", "empty.png", ["b.png", "empty.png"], "b.png"]
    data = write(tmp_path, *({"images": each, "text": str(row)} for row, each in enumerate(images)))
    rows, done = write_mended(find(data.train), data, None, tmp_path / "mended.jsonl")
    assert (rows, dict(done)) == (3, {"left out: picture-missing": 1, "left out: picture-unreadable": 2})
    mended = data.model_copy(update={"train": str(tmp_path / "mended.jsonl")})
    assert check(find(mended.train), mended, None).sound


def test_text_alone_asks_for_nothing_that_opens_pictures(tmp_path: Path) -> None:
    data = write(tmp_path, {"text": "x"})

    def never() -> None:
        raise AssertionError

    assert check(find(data.train), data, None, opener=never).sound


def test_one_text_of_many_pictures_is_no_repetition_and_no_leak(tmp_path: Path) -> None:
    words = "what can be seen in this picture of the house by the river"
    data = write(tmp_path, *({"image": f"{name}.png", "prompt": words, "completion": "A cat."} for name in "ab"))
    aside = tmp_path / "aside"
    aside.mkdir()
    kept = write(aside, {"image": "a.png", "prompt": words, "completion": "A cat."})
    report = check(find(data.train), data, None, held_out=find(kept.train))
    assert report.tally.findings == []


def test_the_same_file_on_both_sides_is_a_leak_also_unopened(tmp_path: Path) -> None:
    data = write(tmp_path, {"image": "a.png", "text": "x"}, {"image": "b.png", "text": "y"})
    (tmp_path / "valid.jsonl").write_text('{"image": "./b.png", "text": "z"}', encoding="utf-8")
    (finding,) = check(find(data.train), data, None, held_out=find(str(tmp_path / "valid.jsonl"))).tally.findings
    assert (finding.kind, finding.place.file) == ("leakage-picture", "valid.jsonl")
    assert "also in training row 2" in finding.detail


def test_pictures_that_look_the_same_are_told_in_groups_with_their_rows() -> None:
    pictures = [
        opened(1, "a", looks=looks()),
        opened(2, "b", looks=looks(3, 70)),
        opened(3, "c", looks=looks(*range(40))),
    ]
    pictures += [opened(4, "a", looks=looks()), opened(5, "d", looks=looks(9))]
    _, (said,) = told(*pictures)
    assert said == "rows.jsonl, line 1: 3 pictures look the same: a (row 1), b (row 2), d (row 5)."


def test_another_colour_and_an_empty_look_are_other_pictures() -> None:
    _, said = told(opened(1, "a", looks=looks()), opened(2, "b", looks=looks(grey=90)), opened(3, "c"), opened(4, "d"))
    assert said == []


def test_a_held_out_picture_that_looks_like_a_trained_one_names_both() -> None:
    aside = (opened(7, "z", looks=looks(1)), opened(8, "a", looks=""), opened(9, "y", looks=looks(*range(50))))
    tally, said = told(opened(2, "a", looks=looks()), held_out=aside)
    assert tally.counts["leakage-picture"] == 2
    assert "the picture z is the same to look at as a of training row 2." in said[0]
    assert "the picture a is also in training row 2." in said[1]


def test_a_row_with_several_bad_pictures_is_lost_once() -> None:
    tally, said = told(*(opened(1, name, unreadable="it is cut short") for name in "abc"), opened(2, "d", deadly=True))
    assert (tally.usable, sum(tally.dropped.values()), len(said)) == (7, 2, 4)
    assert "ends the checker" in said[3]


@pytest.mark.parametrize("bits", [0, 1, 4, BANDS - 1, MOST_BITS + 1, 30])
def test_looks_are_found_up_to_a_number_of_bits(bits: int) -> None:
    chance = random.Random(bits)
    remembered = Looks()
    remembered.remember(looks(), 5)
    for _ in range(50):
        found = remembered.find(looks(*chance.sample(range(128), bits)))
        assert found == (5 if bits < BANDS else None)


class Opener:
    """Stands for a process: two pictures of four are its share, and it dies over `deadly`."""

    def __init__(self, module: str, environment: dict[str, str], python: Path | None) -> None:
        self.ended = False

    def ask(self, task: dict[str, Any], heard: Any) -> processes.Answer:
        for number in range(task["begin"], 4):
            if number % task["shares"] != task["share"]:
                continue
            about = opened(number + 1, f"{number}.png")
            if about["key"] not in task["deadly"]:
                heard({"rows": number, "opening": about})
                if number in (1, 2):
                    return {}, b""
            heard({"rows": number, "opened": about})
        return {"opens": True}, b""

    def end(self) -> None:
        self.ended = True


def test_a_picture_that_ends_its_process_is_told_and_the_others_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_check, "Worker", Opener)
    data, tally = write(tmp_path, {"text": "x"}), Tally(4, 4)
    said = picture_check.check_pictures(find(data.train), None, data, None, tally, lambda _: None, lambda _: None)
    assert [(each.kind, each.place.row) for each in tally.findings] == [
        ("picture-unchecked", 2),
        ("picture-unchecked", 3),
    ]
    assert (tally.usable, said) == (2, [])


def test_a_check_that_meets_many_deadly_pictures_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_check, "Worker", Opener)
    monkeypatch.setattr(picture_check, "MOST_DEADLY", 1)
    data, tally = write(tmp_path, {"text": "x"}), Tally(4, 4)
    said = picture_check.check_pictures(find(data.train), None, data, None, tally, lambda _: None, lambda _: None)
    assert said == [picture_check.GIVEN_UP] and tally.usable == 2


def test_a_listener_that_leaves_ends_the_processes(tmp_path: Path) -> None:
    data = write(tmp_path, *({"image": "empty.png", "text": str(number)} for number in range(50)))

    def leaves(_: Finding) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        picture_check.check_pictures(find(data.train), None, data, None, Tally(50, 50), leaves, lambda _: None)


@pytest.mark.parametrize(("limits", "what"), [("60, 0.05", "time.sleep(60)"), ("0, 60.0", "exec('while True: pass')")])
def test_what_takes_too_long_ends_the_process(limits: str, what: str) -> None:
    code = f"import time\nfrom trainer.data.doctor.opener import _limits\nwith _limits({limits}): {what}"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, timeout=600)
    assert done.returncode
