"""What a user does with environments on their page, each step compared with what the command line says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

from opened_page import Opened
from playwright.sync_api import expect

NAME = "after the first run"
COUNTED = 60_000  # against hanging only: every file of two environments is looked at


def name_pin_and_compare(opened: Opened, first: str, second: str) -> None:
    """Name the second in place, pin the first so that it has no Delete, and see what differs between them."""
    page = opened.page
    page.get_by_role("button", name=f"Edit {second}").click()
    page.get_by_role("textbox", name="Name").fill(NAME)
    page.get_by_role("textbox", name="Note").fill("built to see that nothing changes")
    page.get_by_role("button", name="Save").click()
    named = page.get_by_role("listitem", name=f"Environment {NAME}")
    expect(named).to_contain_text("built to see that nothing changes")

    page.get_by_role("button", name=f"Pin {first}", exact=True).click()
    expect(page.get_by_role("button", name=f"Unpin {first}")).to_be_visible()
    expect(page.get_by_role("button", name=f"Delete {first}")).to_have_count(0)
    told = {each["id"]: each for each in said(opened, "env", "list", "--json")["generations"]}
    assert (told[second]["name"], told[first]["pinned"]) == (NAME, True)

    page.get_by_role("button", name=f"Compare {first}").click()
    expect(page.get_by_text("The same packages in the same versions.", exact=True)).to_be_visible(timeout=COUNTED)
    expect(page.get_by_text(re.compile(r"shared: .* GB"))).to_be_visible()
    opened.picture("compared")


def delete(opened: Opened, generation: str) -> None:
    """Delete the named one after its preview: what it frees is told, and it is gone from the page and the disk."""
    page = opened.page
    page.get_by_role("button", name=f"Delete {NAME}").click()
    expect(page.get_by_text(re.compile(rf"Deleting .{NAME}. frees"))).to_be_visible(timeout=COUNTED)
    opened.picture("deleting")
    page.get_by_role("button", name="Delete environment").click()
    expect(page.get_by_role("listitem", name=f"Environment {NAME}")).to_have_count(0, timeout=COUNTED)
    assert generation not in [each["id"] for each in said(opened, "env", "list", "--json")["generations"]]
    assert not (opened.home / "envs" / generation).exists()
    page.get_by_role("button", name="History").click()
    expect(page.get_by_text(f"Deleted {generation}")).to_be_visible()


def said(opened: Opened, *arguments: str) -> Any:
    """What a command prints as JSON about the same home folder."""
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        env=os.environ | {"FETTLE_HOME": str(opened.home)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])
