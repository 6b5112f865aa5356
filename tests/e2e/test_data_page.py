"""What a user does with data before training: see what is wrong, take a mended copy, see what will be learned."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from opened_page import Opened
from playwright.sync_api import Playwright, expect
from targets import browser_page

pytestmark = pytest.mark.e2e

CHECKED = 2 * 60_000  # against hanging only
ROWS = [{"prompt": f"How much is {n} and {n}?", "completion": f"That makes {2 * n}."} for n in range(8)]


def test_a_bad_file_is_explained_mended_and_used(playwright: Playwright, tmp_path: Path) -> None:
    """Without an environment: findings with line and cause, a mended copy that is sound, and what a preview needs."""
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(row) for row in ROWS]
    path.write_text("\n".join([*lines, "{'prompt': 'a'}", lines[0]]) + "\n", encoding="utf-8")
    with browser_page(playwright, tmp_path / "home", tmp_path / "output.txt") as page:
        opened = Opened(page, tmp_path / "home", tmp_path)
        opened.listen()
        page.get_by_role("link", name="Data", exact=True).click()
        expect(page.get_by_text("400 rows read, 400 can be learned from.")).to_be_visible(timeout=CHECKED)
        expect(page.get_by_text("an installed environment")).to_be_visible()

        page.get_by_label("Data set").select_option("own")
        page.get_by_label("Training file").fill(str(path))
        expect(page.get_by_text("10 rows read, 9 can be learned from.")).to_be_visible(timeout=CHECKED)
        broken = page.get_by_role("article", name="json-broken")
        expect(broken).to_contain_text("rows.jsonl, line 9, column 2")
        expect(broken).to_contain_text("double quotes")
        expect(page.get_by_role("article", name="duplicate-row")).to_contain_text("line 10")
        expect(page.get_by_text("A run would refuse this data set for one row.")).to_be_visible()

        page.get_by_role("button", name="Write a mended copy").click()
        page.get_by_role("button", name="Use the mended copy").click()
        expect(page.get_by_text("8 rows read, 8 can be learned from.")).to_be_visible(timeout=CHECKED)
        expect(page.get_by_text("Nothing is wrong with it.")).to_be_visible()
        page.get_by_role("link", name="Train", exact=True).first.click()
        expect(page.get_by_label("Training file")).to_have_value(str(tmp_path / "rows.mended.jsonl"))
        page.get_by_role("link", name="Look at what will be learned").click()
        page.get_by_role("link", name="Go to Environment").click()
        expect(page.get_by_role("heading", name="Environment", level=1)).to_be_visible()
        assert opened.errors == []


def look_at_what_is_learned(opened: Opened) -> None:
    """With an environment: rows token by token, the number of one, another page, and what a shorter limit does."""
    page = opened.page
    page.get_by_role("link", name="Data", exact=True).click()
    expect(page.get_by_text(re.compile("This is what the model will learn"))).to_be_visible(timeout=CHECKED)
    first = page.get_by_role("article", name="Row 1", exact=True)
    expect(first).to_contain_text(re.compile(r"\d+ of \d+ tokens are learned"))
    tokens = first.get_by_role("group", name="Tokens of row 1")
    tokens.focus()
    page.keyboard.press("ArrowRight")
    expect(first).to_contain_text('Token 1 is number 1: "<|begin|>", read, not learned.')
    learned = "".join(tokens.locator(".token-trained").all_inner_texts())
    assert json.loads(learned.removesuffix("<|end|>"))["order"]
    opened.picture("data")
    page.get_by_role("button", name="Later").click()
    expect(page.get_by_role("article", name="Row 4", exact=True)).to_be_visible()

    limit = page.get_by_role("textbox", name="Longest row")
    limit.fill("100")
    expect(page.get_by_role("img", name=re.compile("^Tokens a row.*longer than the 100"))).to_be_visible(
        timeout=CHECKED
    )
    expect(page.get_by_role("article", name="Row 1", exact=True).locator(".token-cut").first).to_be_visible()
    opened.picture("data-cut")
    limit.fill("16")
    expect(page.get_by_role("alert")).to_contain_text("Not one token of an answer is left", timeout=CHECKED)
    limit.fill("256")
    expect(page.get_by_text(re.compile("This is what the model will learn"))).to_be_visible(timeout=CHECKED)
