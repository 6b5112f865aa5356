"""The open page of a test, and what a test keeps of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import ConsoleMessage, Page


@dataclass
class Opened:
    """The open page, the home folder behind it, and what went wrong inside the page."""

    page: Page
    home: Path
    pictures: Path
    errors: list[str] = field(default_factory=list)

    def picture(self, name: str) -> None:
        """Keep a screenshot for people to look at."""
        number = len(list(self.pictures.glob("*.png"))) + 1
        self.page.screenshot(path=self.pictures / f"{number:02}-{name}.png")

    def listen(self) -> None:
        """Collect what the page itself complains about, a blocked style or script included."""

        def heard(message: ConsoleMessage) -> None:
            if message.type == "error":
                self.errors.append(message.text)

        self.page.on("console", heard)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
