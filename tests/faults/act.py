"""One action on a home of the small catalog, in a process of its own that may be killed on the way.

usage: act.py HOME ACTION [ARGUMENT...]

Tells every phase and step it passes, then "ok ID" or "failed CODE: MESSAGE". What is done to it stands in the
environment: KILL_AT is a phase or step at which it ends itself; UV_TRACE is the command that runs uv in its place,
where UV_RUN counts the runs of uv up to the one that is meant (0 means each); with TOGETHER=1 a killed uv takes this
process with it at once, as when both are killed together; FIRST_VERSION is the version of fx-first;
wheels above LARGE_ABOVE bytes are fetched by Fettle itself.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "env_manager"))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from small_index import CPU_MACHINE, small_catalog

from env_manager import uv
from env_manager.errors import EnvError
from env_manager.generations import Store
from env_manager.install import install
from env_manager.keeping import removal
from env_manager.progress import StepProgress
from env_manager.repair import repair


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


def install_small(store: Store, report: Killer) -> str:
    overrides = {"fx-first": os.environ["FIRST_VERSION"]} if "FIRST_VERSION" in os.environ else None
    done = install(
        store,
        report=report,
        cancelled=lambda: False,
        catalog=replace(small_catalog(), large_wheel_bytes=int(os.environ.get("LARGE_ABOVE", 2**30))),
        hardware=CPU_MACHINE,
        overrides=overrides,
        allow_large=True,
    )
    return done.id


def act(store: Store, report: Killer, action: str, arguments: list[str]) -> str:
    """Do it as the app does, and tell the generation that it was about."""
    actions: dict[str, Callable[..., str]] = {
        "install": lambda: install_small(store, report),
        "fetch": lambda: install_small(store, report),
        "repair": lambda: repair(store, report=report).generation.id,
        "rollback": lambda: store.rollback().id,
        "activate": lambda id: store.activate(id).id,
        "name": lambda id, text: store.label(id, name=text, note=text * 20).id,
        "delete": lambda *ids: removal.remove(store, ids).generations[0],
        "clear": lambda *ids: removal.remove(store, ids, with_cache=True).generations[0],
        "keep": lambda count: str(removal.set_keep_policy(store, int(count))),
        "clean": lambda: " ".join(store.clean()),
    }
    return actions[action](*arguments)


def trace_uv() -> None:
    """Let the chosen run of uv go through the command in UV_TRACE."""
    if "UV_TRACE" not in os.environ:
        return
    wrapper, wanted = os.environ["UV_TRACE"], int(os.environ["UV_RUN"])
    real, runs = uv.find_uv(), iter(range(1, 1000))

    def found() -> str:
        run = next(runs)
        if wanted not in (0, run):
            return real
        # uv gets a clean environment: only its name can tell it which run it is.
        numbered = Path(f"{wrapper}.{run}")
        numbered.unlink(missing_ok=True)
        numbered.symlink_to(wrapper)
        return str(numbered)

    uv.find_uv = found


def die_with_uv() -> None:
    """End this process in the moment in which a child of it was killed."""

    def on_child(*_: object) -> None:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        except ChildProcessError:
            return  # already waited for; raised from here, `Popen.poll` would take it for an exit status of 0
        if ended is not None and ended.si_code == os.CLD_KILLED:
            os.kill(os.getpid(), signal.SIGKILL)

    signal.signal(signal.SIGCHLD, on_child)


def main(home: str, action: str, *arguments: str) -> int:
    trace_uv()
    if os.environ.get("TOGETHER"):
        die_with_uv()
    print("begin", flush=True)
    try:
        id = act(Store(Path(home)), Killer(os.environ.get("KILL_AT")), action, list(arguments))
    except EnvError as error:
        print(f"failed {error.code}: {json.dumps(error.as_json())}")
        return 1
    print(f"ok {id}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
