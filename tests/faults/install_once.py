"""One installation of the small catalog in a process of its own, which may kill itself on the way.

usage: install_once.py HOME [PLACE]    PLACE is "phase:NAME" or "step:ID:STATE"
Prints every place it passes, then "ok ID" or "failed CODE".
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "env_manager"))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from small_index import CPU_MACHINE, small_catalog

from env_manager.errors import EnvError
from env_manager.generations import Store
from env_manager.install import install
from env_manager.progress import StepProgress


class Killer:
    """A reporter that ends its own process without a word at the place it was told."""

    def __init__(self, place: str | None) -> None:
        self.place = place

    def pass_by(self, place: str) -> None:
        print(place, flush=True)
        if place == self.place:
            os.kill(os.getpid(), signal.SIGKILL)

    def phase(self, name: str, text: str) -> None:
        self.pass_by(f"phase:{name}")

    def step(self, progress: StepProgress) -> None:
        self.pass_by(f"step:{progress.id}:{progress.state}")

    def log(self, line: str) -> None:
        """The places are what counts here; the log is on disk."""


def main(home: str, place: str | None = None) -> int:
    overrides = {"fx-first": os.environ["FIRST_VERSION"]} if "FIRST_VERSION" in os.environ else None
    try:
        generation = install(
            Store(Path(home)),
            report=Killer(place),
            cancelled=lambda: False,
            catalog=small_catalog(),
            hardware=CPU_MACHINE,
            overrides=overrides,
        )
    except EnvError as error:
        print(f"failed {error.code}")
        return 1
    print(f"ok {generation.id}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
