"""The page says plainly what is wrong when it cannot work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Playwright, expect
from targets import ADDRESS, chromium, fettle

pytestmark = pytest.mark.e2e


@pytest.fixture
def page(playwright: Playwright) -> Iterator[Page]:
    browser = playwright.chromium.launch(executable_path=chromium(playwright))
    yield browser.new_page()
    browser.close()


def test_page_opened_without_its_key_says_how_to_open_it(page: Page, tmp_path: Path) -> None:
    """The address without the part after # shows one problem with its remedy, and nothing of the machine."""
    with fettle("serve", home=tmp_path / "home", output=tmp_path / "output.txt") as started:
        page.goto(started.wait_for(ADDRESS).split("#")[0])
        expect(page.get_by_role("alert")).to_contain_text("Open the address that Fettle printed")
        expect(page.get_by_role("button", name="Install Dependencies")).to_have_count(0)


def test_key_is_taken_out_of_the_visible_address_and_survives_a_reload(page: Page, tmp_path: Path) -> None:
    """The address bar shows no key, and the page still works after a reload."""
    with fettle("serve", home=tmp_path / "home", output=tmp_path / "output.txt") as started:
        page.goto(started.wait_for(ADDRESS))
        expect(page.get_by_role("button", name="Install Dependencies")).to_be_visible()
        assert "token" not in page.url
        page.reload()
        expect(page.get_by_role("button", name="Install Dependencies")).to_be_visible()


def test_page_says_that_fettle_is_gone_and_goes_on_with_the_next_one(page: Page, tmp_path: Path) -> None:
    """A broken stream is announced and takes nothing away; the address of a restarted Fettle works in the same tab."""
    home = tmp_path / "home"
    with fettle("serve", home=home, output=tmp_path / "first.txt") as started:
        page.goto(started.wait_for(ADDRESS))
        expect(page.get_by_role("button", name="Install Dependencies")).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="connection to Fettle is broken")).to_be_visible()
    expect(page.get_by_role("button", name="Install Dependencies")).to_be_visible()
    with fettle("serve", home=home, output=tmp_path / "second.txt") as started:
        page.goto(started.wait_for(ADDRESS))
        expect(page.get_by_role("button", name="Install Dependencies")).to_be_visible()
        expect(page.get_by_role("status")).to_have_count(0)


def test_train_says_why_it_cannot_start_without_an_environment(page: Page, tmp_path: Path) -> None:
    """Start training is disabled, the reason stands beside it, and the way out is a link."""
    with fettle("serve", home=tmp_path / "home", output=tmp_path / "output.txt") as started:
        page.goto(started.wait_for(ADDRESS))
        page.get_by_role("link", name="Train").click()
        expect(page.get_by_role("button", name="Start training")).to_be_disabled()
        page.get_by_role("link", name="Go to Environment").click()
        expect(page.get_by_role("heading", name="Environment", level=1)).to_be_visible()
