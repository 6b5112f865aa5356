"""What a newcomer does, with the real page, the real installer, the real trainer and real answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from looked_after import delete, name_pin_and_compare
from opened_page import Opened
from playwright.sync_api import Locator, Page, expect
from test_data_page import look_at_what_is_learned

pytestmark = pytest.mark.e2e

HELD_OUT = Path(__file__).parents[2] / "trainer" / "starter" / "data" / "ticket" / "held_out.jsonl"
# Against hanging only; a slow machine with a slow network may take all of it.
INSTALLED = 20 * 60_000
TRAINED = 15 * 60_000
ANSWERED = 3 * 60_000


def test_newcomer_installs_trains_compares_and_rolls_back(opened: Opened) -> None:
    """Install, see what will be learned, train until the loss has fallen, see the tuned model answer right and the base wrong, roll back.

    The environments are named, pinned, compared and one of them deleted on the way.
    """
    first = install(opened, "first")
    look_at_what_is_learned(opened)
    train(opened)
    compare(opened)
    second = install(opened, "second")
    assert second != first
    name_pin_and_compare(opened, first, second)
    roll_back(opened, first)
    delete(opened, second)
    reload_loses_nothing(opened, first)
    assert opened.errors == []


def install(opened: Opened, name: str) -> str:
    """Click Install Dependencies and follow it; returns the generation that became active."""
    page = opened.page
    before = active_generation(opened)
    go(page, "Environment")
    page.get_by_role("button", name="Install Dependencies").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    expect(page.get_by_role("listitem", name="NumPy: done")).to_be_visible(timeout=INSTALLED)
    opened.picture(f"installing-{name}")
    expect(page.get_by_role("button", name="Cancel")).to_be_hidden(timeout=INSTALLED)
    opened.picture(f"installed-{name}")
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_role("heading", name="Ready to train")).to_be_visible()
    active = active_generation(opened)
    assert active is not None
    assert active != before
    expect(environment(page, active)).to_contain_text("Active")
    return active


def train(opened: Opened) -> None:
    """Click Start training with what is preselected; the loss on the page falls and the adapter is on disk."""
    page = opened.page
    go(page, "Train")
    opened.picture("train")
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    chart = page.get_by_role("img", name=re.compile("Training loss over steps"))
    expect(chart).to_be_visible(timeout=TRAINED)
    opened.picture("training")
    first = loss_in(chart)
    expect(page.get_by_role("link", name="Chat with it")).to_be_visible(timeout=TRAINED)
    assert loss_in(chart) < first
    losses = run_losses(opened)
    assert losses[-1] < losses[0] / 4
    expect(page.get_by_role("heading", name="Before and after")).to_be_visible()
    opened.picture("trained")
    assert list(opened.home.glob("runs/*/adapter/adapter_model.safetensors"))
    merge(opened)


def merge(opened: Opened) -> None:
    """Merge the adapter into the folder that the page proposes; the page says where that is and how it was proved."""
    page = opened.page
    page.get_by_role("button", name="Merge into the model").click()
    page.get_by_role("button", name="Merge", exact=True).click()
    expect(page.get_by_text("Merged into")).to_be_visible(timeout=TRAINED)
    expect(page.get_by_text("4 of 4 answers are the same").last).to_be_visible()
    opened.picture("merged")
    assert list(opened.home.glob("runs/*/merged/model.safetensors"))


def compare(opened: Opened) -> None:
    """Ask held-out prompts, greedily: the tuned answers are the records (one slip allowed), the base's are none."""
    page = opened.page
    page.get_by_role("link", name="Chat with it").click()
    rows = [json.loads(line)["messages"] for line in HELD_OUT.read_text(encoding="utf-8").splitlines()[:3]]
    expect(page.get_by_role("textbox", name="Prompt")).to_have_value(rows[0][0]["content"])
    right = 0
    for prompt, expected in rows:
        page.get_by_role("textbox", name="Prompt").fill(prompt["content"])
        page.get_by_role("button", name="Send").click()
        exchange = page.get_by_role("article", name="Exchange").last
        expect(exchange.get_by_text(prompt["content"])).to_be_visible()
        expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=ANSWERED)
        record = json.loads(expected["content"])
        assert parsed(exchange, "Base") != record
        right += parsed(exchange, "Tuned") == record
    opened.picture("chat")
    assert right >= 2


def roll_back(opened: Opened, expected: str) -> None:
    """Click Roll back: the page and the command line both name the earlier environment as the active one."""
    go(opened.page, "Environment")
    opened.page.get_by_role("button", name="Roll back").click()
    expect(environment(opened.page, expected)).to_contain_text("Active")
    assert active_generation(opened) == expected
    opened.picture("rolled-back")


def reload_loses_nothing(opened: Opened, active: str) -> None:
    """After a reload the page still has its key, its place, the active environment, the run and the conversation."""
    page = opened.page
    page.reload()
    expect(environment(page, active)).to_contain_text("Active")
    go(page, "Chat")
    expect(page.get_by_role("article", name="Exchange")).to_have_count(3)
    go(page, "Runs")
    expect(page.get_by_role("row").filter(has_text="Done")).to_have_count(1)
    opened.picture("runs")


def go(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Pages").get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()


def environment(page: Page, generation: str) -> Locator:
    return page.get_by_role("listitem", name=f"Environment {generation}")


def loss_in(chart: Locator) -> float:
    """The newest loss that the chart's name speaks out."""
    found = re.search(r"loss ([\d.]+(?:e-?\d+)?)", chart.get_attribute("aria-label") or "")
    assert found, "the chart names no loss"
    return float(found[1])


def run_losses(opened: Opened) -> list[float]:
    """The losses that the run wrote to its folder."""
    (events,) = opened.home.glob("runs/*/events.jsonl")
    lines = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    return [line["loss"] for line in lines if line["type"] == "step"]


def parsed(exchange: Locator, side: str) -> Any:
    """A side's answer as JSON, or None when it is none."""
    text = exchange.get_by_role("region", name=f"{side} answer").locator("p").first.inner_text()
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None


def active_generation(opened: Opened) -> str | None:
    """What the command line says about the same home folder."""
    command = [sys.executable, "-m", "app.cli", "env", "status", "--json"]
    done = subprocess.run(
        command, env=os.environ | {"FETTLE_HOME": str(opened.home)}, capture_output=True, text=True, timeout=300
    )
    active: str | None = json.loads(done.stdout.splitlines()[-1])["active"]
    return active
