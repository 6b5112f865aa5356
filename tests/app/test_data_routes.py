"""The Data page: the first rows at once, findings as they are found, the report last, and an end when the page leaves."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served import Served, serving

from app.api.schema_data import DataCheckRequest
from app.data_check import check_lines
from trainer.data.doctor import processes


@pytest.fixture
def served(own_home: Path) -> Iterator[Served]:
    with serving() as served:
        yield served


def lines(served: Served, **asked: Any) -> list[dict[str, Any]]:
    answer = served.post("/api/data/check", asked)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_a_check_tells_rows_findings_and_the_report(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "' + "long " * 200 + '"}\nbroken\n{"text": "me: jane@acme-corp.de"}\n', encoding="utf-8")
    first, *_, last = told = lines(served, train=str(path))
    assert first["type"] == "page" and first["rows"][0]["text"].endswith("…") and first["rows"][1] is None
    assert [line["finding"]["kind"] for line in told if line["type"] == "finding"] == ["json-broken", "personal-email"]
    assert (last["type"], last["report"]["rows"], last["report"]["usable"]) == ("done", 3, 2)


def test_what_cannot_be_read_ends_the_check_with_code_and_remedy(served: Served, tmp_path: Path) -> None:
    (last,) = lines(served, train=str(tmp_path / "none.jsonl"))
    assert (last["type"], last["problem"]["code"]) == ("failed", "data-missing") and last["problem"]["remedy"]
    assert lines(served, train=str(tmp_path / "x"), columns="nonsense")[-1]["type"] == "failed"
    assert served.post("/api/data/check", {"train": ""}).status_code == 422


def test_a_page_that_leaves_ends_the_check_and_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.data.doctor.structure.SLICE", 1000)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"row {n}"}) + "\n" for n in range(3000)), encoding="utf-8")
    ended: list[bool] = []
    asked: list[int] = []
    ask, end = processes.Worker.ask, processes.Worker.end

    def slowly(self: processes.Worker, task: dict[str, Any], heard: Any) -> processes.Answer:
        asked.append(task["start"])
        time.sleep(0.02)  # long enough for the page to leave in between
        return ask(self, task, heard)

    def counted(self: processes.Worker) -> None:
        process = self._process
        end(self)
        if process:
            ended.append(process.poll() is not None)

    monkeypatch.setattr(processes.Worker, "end", counted)
    monkeypatch.setattr(processes.Worker, "ask", slowly)

    async def leave_early() -> list[str]:
        found = check_lines(DataCheckRequest(train=str(path)), None)
        seen = []
        async for line in found:
            seen.append(line.type)
            if line.type == "progress":
                break
        await found.aclose()
        return seen

    assert asyncio.run(leave_early()) == ["page", "progress"]
    assert ended and all(ended)
    assert len(asked) < 20 < path.stat().st_size / 1000


def test_a_mended_copy_lands_beside_the_file_and_never_on_another(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "my.rows.jsonl"
    path.write_text(
        '{"text": "a", "score": NaN}\nbroken\n{"text": "a"}\n{"text": "a"}\n{"text": "b"}\n', encoding="utf-8"
    )
    before = path.read_bytes()
    for name in ("my.mended.jsonl", "my.mended-2.jsonl"):
        told = served.post("/api/data/mend", {"train": str(path)}).json()
        assert (told["file"], told["rows"]) == (str(tmp_path / name), 2)
        assert {(part["title"], part["rows"], part["left_out"]) for part in told["done"]} == {
            ("NaN or Infinity", 1, False),
            ("broken JSON", 1, True),
            ("the same content as another", 2, True),
        }
    assert path.read_bytes() == before
    assert lines(served, train=told["file"])[-1]["report"]["sound"]
    assert served.post("/api/data/mend", {"train": "hub:owner/name"}).json()["code"] == "data-output"


def test_bundled_names_and_the_home_folder_are_understood_as_in_a_run(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    assert lines(served, train="~/rows.jsonl")[-1]["report"]["rows"] == 1
    assert lines(served, train="ticket")[-1]["report"]["rows"] == 400
