"""What is shown before training is what a run then learns from, through the product's own commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from product import Fettle

from trainer.operation import read_events

pytestmark = pytest.mark.real
ASKED = ("data", "preview", "ticket", "--model", "starter")


def test_a_preview_counts_what_a_run_counts(fettle: Fettle, tmp_path: Path) -> None:
    template, first, second, *_, statistics, done = fettle(*ASKED, "--rows", "2")
    assert [line["type"] for line in (template, first, second, statistics, done)] == [
        "template", "row", "row", "statistics", "done",
    ]  # fmt: skip
    tokens = first["row"]["texts"][0]["tokens"]
    learned = "".join(token["text"] for token in tokens if token["state"] == "trained")
    assert learned.startswith('{"name": ') and learned.endswith("}<|end|>")
    assert sum(token["state"] == "trained" for token in tokens) == first["row"]["trained"]

    fettle("train", "--model", "starter", "--data", "ticket", "--output", str(tmp_path / "run"),
           "--set", "training.max_steps=1", "--set", "evaluation.generate=false")  # fmt: skip
    chosen = [event["chosen"] for event in read_events(tmp_path / "run") if "learned" in event.get("chosen", {})]
    found = statistics["statistics"]
    assert chosen[0]["learned"].startswith(f"{found['trained']:,} of {found['tokens']:,} tokens are learned")
    assert chosen[0]["template"] == template["text"]


def test_what_a_run_would_refuse_is_refused_here(fettle: Fettle) -> None:
    assert fettle(*ASKED, "--set", "data.max_length=16", status=1)[-1]["code"] == "nothing-scored"
    assert fettle(*ASKED, "--row", "401", status=1)[-1]["code"] == "data-row-missing"
