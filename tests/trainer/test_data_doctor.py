"""The doctor on ugly files: everything is found, in its place, in words that a person can act on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from ugly_files import UGLY, Ugly

from trainer.data.doctor.check import Report, check
from trainer.data.doctor.repair import write_mended
from trainer.data.problems import KINDS
from trainer.data.reading import read_samples
from trainer.data.sources import find
from trainer.errors import TrainError
from trainer.spec import Data


def examine(path: Path, held_out: Path | None = None) -> Report:
    aside = find(str(held_out), held_out=True) if held_out else None
    return check(find(str(path)), Data(), None, held_out=aside)


@dataclass(frozen=True)
class Examined:
    """An ugly file with what the doctor said of it."""

    name: str
    case: Ugly
    path: Path
    report: Report


@pytest.fixture(scope="module", params=UGLY)
def ugly(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Examined:
    case = UGLY[request.param]
    path = tmp_path_factory.mktemp("ugly") / case.name
    path.write_bytes(case.content)
    return Examined(request.param, case, path, examine(path))


def test_every_problem_of_an_ugly_file_is_found_in_its_place(ugly: Examined) -> None:
    case, tally = ugly.case, ugly.report.tally
    found = [(finding.kind, finding.place.line or 0, str(finding)) for finding in tally.findings]
    assert [each[:2] for each in sorted(found)] == sorted(each[:2] for each in case.findings), "\n".join(
        map(str, found)
    )
    for kind, line, words in case.findings:
        assert any(words in text for k, n, text in found if (k, n) == (kind, line)), found
    assert tally.rows == tally.usable + sum(tally.dropped.values())
    assert case.usable in (tally.usable, -1)


def test_training_refuses_the_same_rows_that_the_doctor_drops(ugly: Examined) -> None:
    tally = ugly.report.tally
    data = Data(train=str(ugly.path))
    if tally.usable:
        assert len(read_samples(data.model_copy(update={"bad_rows": "drop"})).train) == tally.usable
    if tally.errors:
        with pytest.raises(TrainError):
            read_samples(data)


def test_the_mended_copy_is_sound_and_the_original_untouched(ugly: Examined, tmp_path: Path) -> None:
    before, out = ugly.path.read_bytes(), tmp_path / "mended.jsonl"
    rows, _ = write_mended(find(str(ugly.path)), Data(), None, out)
    assert ugly.path.read_bytes() == before
    with pytest.raises(TrainError, match="there already"):
        write_mended(find(str(ugly.path)), Data(), None, out)
    if rows:
        report = examine(out)
        assert report.sound and report.duplicates == 0 and report.tally.rows == rows
    assert rows == ugly.report.tally.usable - ugly.report.duplicates + ugly.case.mended


def test_every_message_is_one_short_sentence_of_a_known_kind(ugly: Examined) -> None:
    for finding in ugly.report.tally.findings:
        assert finding.kind in KINDS
        assert finding.detail.endswith((".", "?")) and "Traceback" not in finding.detail
        assert len(str(finding)) < 400 and "\n" not in str(finding)


def test_leaks_from_the_held_out_rows_are_named_by_their_row(tmp_path: Path) -> None:
    long = "The quick brown fox jumps over the lazy dog near the river bank today"
    rows = [("Sum of 1 and 1?", "2"), ("Sum of 2 and 2?", "4"), ("Tell a story", long)]
    aside = [("sum of 1  and 1?", "2"), ("Sum of 2 and 2?", "four"), ("Tell a story", long + "!"), ("New?", "Yes")]
    for name, pairs in (("train.jsonl", rows), ("valid.jsonl", aside)):
        text = "".join(json.dumps({"prompt": asked, "completion": said}) + "\n" for asked, said in pairs)
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = examine(tmp_path / "train.jsonl", tmp_path / "valid.jsonl").tally.findings
    assert [(each.kind, each.place.file, each.place.line) for each in found] == [
        ("leakage", "valid.jsonl", 1),
        ("leakage-prompt", "valid.jsonl", 2),
        ("leakage", "valid.jsonl", 3),
    ]


def test_a_file_in_slices_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [json.dumps({"text": f"{n} " + "word " * (n % 97)}) for n in range(3000)]
    rows[1500], rows[2900], rows[2000] = "broken", rows[10], ""
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(rows), encoding="utf-8")
    whole = examine(path)
    assert whole.tally.rows == 2999 and whole.tally.usable == 2998
    for size in (1000, 4096, 65537):
        monkeypatch.setattr("trainer.data.doctor.structure.SLICE", size)
        monkeypatch.setattr("trainer.data.doctor.structure.AT_ONCE", 100)
        sliced = examine(path)
        assert (sliced.tally.rows, sliced.tally.usable, sliced.duplicates) == (2999, 2998, 1)
        places = [(each.kind, each.place.line) for each in sliced.tally.findings if each.kind != "near-duplicate"]
        assert places == [("json-broken", 1501), ("duplicate-row", 2901)]


def test_many_equal_problems_are_counted_and_only_the_first_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "fine"}\n' + "broken\n" * 500, encoding="utf-8")
    report = examine(path)
    assert report.tally.dropped["json-broken"] == 500
    kept = [finding for finding in report.tally.findings if finding.kind == "json-broken"]
    assert [finding.place.line for finding in kept] == list(range(2, 22))


def test_a_checker_that_dies_is_told_and_the_rest_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.data.doctor import processes

    ask = processes.Worker.ask

    def dying(self: processes.Worker, task: dict[str, object], heard: object) -> object:
        if task.get("start") == 1000:
            self._process = self._process or self._start()
            self._process.kill()
        return ask(self, task, heard)  # type: ignore[arg-type]

    monkeypatch.setattr(processes.Worker, "ask", dying)
    monkeypatch.setattr("trainer.data.doctor.structure.SLICE", 1000)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"row {n}"}) + "\n" for n in range(300)), encoding="utf-8")
    report = examine(path)
    assert report.tally.counts["rows-unchecked"] == 1 and not report.sound
    assert 150 < report.tally.usable < 300


@pytest.mark.parametrize(("content", "says"), [(b"", 0), (b"\n\n", 0), (b"\xef\xbb\xbf", 0)])
def test_an_empty_file_has_no_rows_and_is_not_sound(tmp_path: Path, content: bytes, says: int) -> None:
    (tmp_path / "rows.jsonl").write_bytes(content)
    report = examine(tmp_path / "rows.jsonl")
    assert report.tally.rows == says and not report.sound
