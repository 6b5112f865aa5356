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
