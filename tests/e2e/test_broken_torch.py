"""Somebody's torch breaks, and clicks on the page alone lead back to an environment that works."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from opened_page import Opened
from playwright.sync_api import expect
from test_journey import INSTALLED, active_generation, go, install

pytestmark = pytest.mark.e2e

CHECKED = 5 * 60_000  # against hanging only


@pytest.mark.parametrize("opened", ["browser"], indirect=True)
def test_a_broken_torch_is_found_and_repaired_by_two_clicks(opened: Opened) -> None:
    """Check environment names the torn library; Repair ends with a sound environment and a card without findings."""
    page = opened.page
    broken = install(opened, "sound")
    break_torch(opened, broken)
    assert status_of_check(opened) == 1

    go(page, "Environment")
    page.get_by_role("button", name="Check environment").click()
    page.get_by_role("button", name="Cancel check").click()
    page.get_by_role("button", name="Check environment").click()
    finding = page.get_by_role("alert").first
    expect(finding).to_contain_text("libtorch_cpu.so", timeout=CHECKED)
    expect(page.get_by_role("heading", name="Not ready to train")).to_be_visible()
    expect(page.get_by_role("listitem", name="torch: fails")).to_be_visible()
    opened.picture("broken")

    finding.get_by_role("button", name="Repair").click()
    expect(page.get_by_role("heading", name="Repairing the environment")).to_be_visible()
    expect(page.get_by_role("heading", name="Last repair")).to_be_visible(timeout=INSTALLED)
    opened.picture("repaired")
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_role("heading", name="Ready to train", exact=True)).to_be_visible()
    assert active_generation(opened) != broken
    assert status_of_check(opened) == 0
    # The broken one lies before the new one, and is no place to go back to.
    expect(page.get_by_role("listitem", name=f"Environment {broken}", exact=True)).to_contain_text("Damaged")
    expect(page.get_by_role("button", name="Roll back")).to_have_count(0)

    page.get_by_role("button", name="Check environment").click()
    expect(page.get_by_text("It is sound")).to_be_visible(timeout=CHECKED)
    opened.picture("sound")
    assert opened.errors == []


def break_torch(opened: Opened, generation: str) -> None:
    """Put a torn file in the place of torch's library; the package cache, which shares the file, keeps its own."""
    (library,) = (opened.home / "envs" / generation / "env").glob("**/torch/lib/libtorch_cpu.so")
    library.unlink()
    library.write_bytes(b"\x7fELF, and then nothing more")


def status_of_check(opened: Opened) -> int:
    """The exit status of `fettle env status --check` over the same home."""
    command = [sys.executable, "-m", "app.cli", "env", "status", "--check"]
    environment = os.environ | {"FETTLE_HOME": str(opened.home)}
    return subprocess.run(command, env=environment, capture_output=True, timeout=600).returncode
