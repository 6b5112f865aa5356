"""The main job for real: installed, trained, compared, rolled back, by the product itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import Any

import pytest
from product import Fettle

from trainer.operation import read_events
from trainer.starter import skills

pytestmark = pytest.mark.real
CHECKOUT = Path(__file__).parents[2]


def trained(fettle: Fettle, folder: Path, *arguments: str) -> dict[str, Any]:
    """Train the starter with its recommended settings; the run's last event."""
    return fettle("train", "--model", "starter", "--output", str(folder), *arguments)[-1]


def short(fettle: Fettle, folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """A run of three steps without evaluation; all its events."""
    few = ("--set", "training.max_steps=3", "--set", "evaluation.generate=false")
    return fettle("train", "--model", "starter", "--data", "ticket", "--output", str(folder), *few, *arguments)


def test_the_demo_teaches_the_starter_what_it_could_not_do(demo: tuple[Fettle, dict[str, Any]]) -> None:
    fettle, last = demo
    assert last["base_exact_match"] <= 0.05
    assert last["tuned_exact_match"] >= 0.90
    assert last["real_tokens_per_second"] > 0 and last["train_seconds"] > 0
    adapter = Path(last["adapter"])
    assert {"adapter_config.json", "adapter_model.safetensors", "chat_template.jinja"} <= {
        p.name for p in adapter.iterdir()
    }
    assert fettle.active


def test_chat_greedily_shows_the_difference(demo: tuple[Fettle, dict[str, Any]]) -> None:
    fettle, last = demo
    row = skills.rows("ticket", "held_out", 100, 0)[1]
    lines = fettle("chat", last["run"], row["messages"][0]["content"])
    said = {side: "".join(line["text"] for line in lines if line["side"] == side) for side in ("base", "tuned")}
    assert json.loads(said["tuned"]) == json.loads(row["messages"][1]["content"])
    with pytest.raises(ValueError, match=r".*"):
        json.loads(said["base"])


def test_a_second_skill_is_learned_as_well(fettle: Fettle, tmp_path: Path) -> None:
    last = trained(fettle, tmp_path / "run", "--data", "calendar")
    assert last["base_exact_match"] <= 0.05
    assert last["tuned_exact_match"] >= 0.90


def test_nothing_is_learned_from_shuffled_answers(fettle: Fettle, tmp_path: Path) -> None:
    skills.write(tmp_path, "ticket")
    rows = skills.with_shuffled_answers(skills.rows("ticket", "train", 400, 0), seed=0)
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    last = trained(
        fettle, tmp_path / "run", "--data", str(tmp_path / "train.jsonl"), "--eval", str(tmp_path / "held_out.jsonl")
    )
    assert last["tuned_exact_match"] <= 0.05


def test_the_trainer_sees_only_its_environment_and_its_snapshot(fettle: Fettle, tmp_path: Path) -> None:
    hello = short(fettle, tmp_path / "run")[0]
    assert hello["type"] == "hello"
    standard = sysconfig.get_path("stdlib")
    allowed = (str(fettle.home / "envs"), str(fettle.home / "trainers"), standard, str(Path(standard).parent))
    assert hello["path"]
    assert all(entry.startswith(allowed) for entry in hello["path"]), hello["path"]
    assert not any("site-packages" in e and str(fettle.home) not in e for e in hello["path"])
    assert not any(entry.startswith(str(CHECKOUT)) for entry in hello["path"])


def test_a_second_generation_and_back_changes_what_the_next_run_uses(fettle: Fettle, tmp_path: Path) -> None:
    first = fettle.active
    before = short(fettle, tmp_path / "before")[0]["versions"]["accelerate"]
    fettle("env", "install", "--set", "accelerate=1.14.0")
    second = fettle.active
    assert second != first
    assert short(fettle, tmp_path / "between")[0]["versions"]["accelerate"] == "1.14.0" != before
    (back,) = fettle("env", "rollback")
    assert back["active"] == fettle.active == first
    assert short(fettle, tmp_path / "after")[0]["versions"]["accelerate"] == before


def test_a_run_outlives_the_command_that_started_it_and_stops_with_its_adapter(fettle: Fettle, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    argv = fettle.argv("train", "--model", "starter", "--data", "ticket", "--output", str(folder))
    starter = subprocess.Popen(argv, env=fettle.environment(), stdout=subprocess.DEVNULL)
    while not any(event["type"] == "step" for event in events(folder)):
        assert starter.poll() is None
        time.sleep(0.2)
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    seen = len(events(folder))
    while len(events(folder)) <= seen:
        time.sleep(0.2)
    identity = json.loads((folder / "operation.json").read_text())["id"]
    (asked,) = fettle("runs", "stop", identity)
    assert asked["state"] in ("running", "stopped")
    while events(folder)[-1]["type"] not in ("stopped", "done", "failed"):
        time.sleep(0.2)
    (found,) = fettle("runs", "show", identity)
    assert found["state"] == "stopped"
    assert (Path(found["train"]["adapter"]) / "adapter_model.safetensors").is_file()


def events(folder: Path) -> list[dict[str, Any]]:
    return read_events(folder) if folder.exists() else []


def test_a_broken_torch_is_named_and_rolling_back_mends_it(fettle: Fettle, tmp_path: Path) -> None:
    sound = fettle.active
    fettle("env", "install", "--set", "accelerate=1.14.0")
    broken = fettle.active
    library = next((fettle.home / "envs" / broken).rglob("libtorch_cpu.so"))
    library.unlink()  # unlinked, not truncated: the cache and the other generation share its bytes
    library.write_bytes(b"not a library")
    failed = short_failing(fettle, tmp_path / "broken")
    assert failed["code"] == "environment-unfit"
    assert "libtorch_cpu.so" in failed["message"]
    (status,) = fettle("env", "status", "--check", status=1)
    assert [check for check in status["checks"] if not check["ok"]]
    fettle("env", "rollback")
    assert fettle.active == sound
    assert short(fettle, tmp_path / "mended")[-1]["type"] == "done"


def short_failing(fettle: Fettle, folder: Path) -> dict[str, Any]:
    arguments = ("train", "--model", "starter", "--data", "ticket", "--output", str(folder))
    return fettle(*arguments, "--set", "training.max_steps=1", status=1)[-1]


def test_a_merged_model_can_be_trained_on_like_any_other(demo: tuple[Fettle, dict[str, Any]], tmp_path: Path) -> None:
    fettle, last = demo
    done = fettle("runs", "export", last["run"], "--merged", "--output", str(tmp_path / "merged"))[-1]
    assert done["type"] == "done" and done["difference"] < 1e-4
    events = fettle(
        "train", "--model", str(tmp_path / "merged"), "--data", "ticket", "--output", str(tmp_path / "run"),
        "--set", "training.max_steps=1", "--set", "evaluation.max_new_tokens=80",
    )  # fmt: skip
    assert events[-1]["base_exact_match"] >= 0.90, "what the adapter had learned should be in the merged weights"


def test_a_run_is_judged_again_as_it_was_before(demo: tuple[Fettle, dict[str, Any]]) -> None:
    fettle, last = demo
    events = fettle("runs", "evaluate", last["run"], "--rows", "10")
    comparison = next(event for event in events if event.get("side") == "comparison")
    assert comparison["rows"] == 10 and comparison["verdict"].startswith("Better: exact match 0% → ")
