"""Models of the hub: pinned to a commit, taken from the cache offline, fetched by a process that can be left."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from test_settings import run

from trainer.errors import TrainError
from trainer.models.folder import check_adapter
from trainer.models.hub import fetch, model_folder, pinned
from trainer.spec import RunSpec
from trainer.starter import skills

STARTER = Path(skills.__file__).parent / "model"
COMMIT, NEWER = "1" * 40, "2" * 40
PINNED = f"hub:owner/name@{COMMIT}"


class Run:
    def __init__(self) -> None:
        self.said: list[str] = []

    def phase(self, name: str, text: str) -> None:
        self.said.append(text)

    def ending(self) -> str | None:
        return None


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no way out."""
    for name in [name for name in os.environ if name.startswith("HF_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    return tmp_path / "hf" / "hub" / "models--owner--name"


def cached(cache: Path, commit: str = COMMIT) -> Path:
    """The starter as the hub's library keeps it: a snapshot of a commit, and what `main` stands for."""
    shutil.copytree(STARTER, cache / "snapshots" / commit)
    (cache / "refs").mkdir(exist_ok=True)
    (cache / "refs" / "main").write_text(commit)
    return cache / "snapshots" / commit


def pin(model: str) -> str:
    return pinned(model, Path(sys.executable), os.environ)


def test_a_cached_model_is_pinned_and_found_offline(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = cached(cache)
    for offline in ("1", "0"):  # told to stay offline, and not reachable
        monkeypatch.setenv("HF_HUB_OFFLINE", offline)
        assert pin("hub:owner/name") == pin("hub:owner/name@main") == PINNED
    assert model_folder(PINNED) == model_folder("hub:owner/name") == snapshot
    assert pin(PINNED) == PINNED and pin("/a/folder") == "/a/folder"
    monkeypatch.setenv("HF_HUB_CACHE", "/elsewhere")
    assert model_folder(PINNED) == Path("/elsewhere/models--owner--name/snapshots") / COMMIT


def test_what_is_neither_reachable_nor_cached_is_refused(cache: Path) -> None:
    for attempt in (lambda: pin("hub:owner/name"), lambda: fetch(PINNED, "", Run())):
        with pytest.raises(TrainError) as caught:
            attempt()
        assert caught.value.code == "model-unfetched" and "hub:owner/name" in caught.value.message
    for name in ("hub:", "hub:a/b/c", "hub:../name", "hub:a/b@", "hub:a/b@../../x"):
        with pytest.raises(TrainError) as caught:
            pin(name)
        assert caught.value.code == "model-name"


def test_a_run_trains_on_a_cached_model_offline_though_main_has_moved(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached(cache)
    (cache / "refs" / "main").write_text(NEWER)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    skills.write(tmp_path, "ticket", training=8, held_out=2)
    torch.manual_seed(0)
    settings = {
        "model": PINNED,
        "data.train": str(tmp_path / "train.jsonl"),
        "training.max_steps": 2,
        "training.threads": 1,
    }
    events = run(tmp_path / "run", RunSpec().with_changes(settings))
    assert events[-1]["type"] == "done"
    assert not any(event.get("phase") == "fetching" for event in events)
    adapter = tmp_path / "run" / "adapter"
    assert COMMIT in json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    for model in (str(model_folder(PINNED)), "/a/folder/called/name"):
        check_adapter(adapter, model)
    with pytest.raises(TrainError, match="was trained on"):
        check_adapter(adapter, "/a/folder/called/other")


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's API as fetching a small model takes."""

    def _answer(self, *, body: bool) -> None:
        if self.path.startswith("/api/models/owner/name/revision/"):
            told: dict[str, Any] = {
                "_id": "1", "id": "owner/name", "modelId": "owner/name", "sha": COMMIT, "private": False, "tags": [],
                "downloads": 0, "likes": 0, "siblings": [{"rfilename": path.name} for path in STARTER.iterdir()],
            }  # fmt: skip
            content, kind = json.dumps(told).encode(), "application/json"
        elif self.path.startswith(f"/api/models/owner/name/tree/{COMMIT}"):
            files = [
                {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": "0" * 40}
                for path in STARTER.iterdir()
            ]
            content, kind = json.dumps(files).encode(), "application/json"
        elif self.path.startswith(f"/owner/name/resolve/{COMMIT}/"):
            content, kind = (STARTER / self.path.rsplit("/", 1)[1]).read_bytes(), "application/octet-stream"
        else:
            self.send_error(404)
            return
        self.send_response(200)
        for name, value in {
            "Content-Type": kind, "Content-Length": str(len(content)), "X-Repo-Commit": COMMIT,
            "ETag": f'"{hash(content) & 0xFFFFFFFF:x}"',
        }.items():  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("hub")
def test_a_model_is_pinned_and_fetched_once(cache: Path) -> None:
    assert pin("hub:owner/name") == PINNED
    first, again = Run(), Run()
    assert fetch(PINNED, "", first) and first.said == [f"Fetching owner/name@{COMMIT}"]
    assert (model_folder(PINNED) / "model.safetensors").read_bytes() == (STARTER / "model.safetensors").read_bytes()
    assert fetch(PINNED, "", again) and again.said == []


def test_a_run_that_is_stopped_while_it_fetches_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, slow = tmp_path / "pid", tmp_path / "slow"
    slow.write_text(f"#!/bin/sh\necho $$ > {mark}.part && mv {mark}.part {mark}\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(slow))
    monkeypatch.setattr(Run, "ending", lambda _self: "stopped" if mark.exists() else None)
    assert fetch(PINNED, "", Run()) is False
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)
