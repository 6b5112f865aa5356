"""`fettle env check`, `repair`, `diagnose`: is every file as it was built, what is wrong, and mend it."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from app.doctor import lines_of
from app.operations import Operations
from app.paths import open_home
from app.terminal import Display, duration, say_json
from env_manager.diagnosing import diagnosis
from env_manager.generations import Generation
from env_manager.proving.integrity import examine, remember_damage

JsonFlag = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
GenerationArgument = Annotated[str | None, typer.Argument(help="Which one; without it, the active one.")]


def _chosen(operations: Operations, generation: str | None) -> Generation:
    return operations.store.get(generation) if generation else operations.installed_generation()


def check(
    generation: GenerationArgument = None,
    full: Annotated[bool, typer.Option("--full", help="Compare the content of every file, not only its size.")] = False,
    json: JsonFlag = False,
) -> None:
    """Compare every file with the record taken when the environment was built; exit status 1 when one differs."""
    operations = Operations(open_home())
    started = time.perf_counter()
    chosen = _chosen(operations, generation)
    chosen.require_interpreter()  # a link, of which the record of files tells nothing
    found = examine(operations.store, chosen, full=full)
    remember_damage(operations.store, found)
    seconds = time.perf_counter() - started
    if json:
        say_json(found.as_json() | {"seconds": round(seconds, 3)})
        raise typer.Exit(0 if found.sound else 1)
    for file in found.files[:20]:
        print(f"!! {file}")
    if len(found.files) > 20:
        print(f"!! and {len(found.files) - 20} more")
    if found.damaged_in_cache:
        print(f"!! damaged in the package cache too: {', '.join(found.damaged_in_cache)}")
    if found.unhashed:
        print(f"{found.unhashed} files were recorded without their content by an earlier Fettle; sizes were compared.")
    what = "content and size" if full else "size"
    print(
        f"{'Every file is as recorded' if found.sound else f'{len(found.files)} files differ'} ({what}, {seconds:.2f} s)."
    )
    if not found.sound:
        print("Next: fettle env repair")
    raise typer.Exit(0 if found.sound else 1)


def repair(
    generation: GenerationArgument = None,
    whole: Annotated[bool, typer.Option("--whole", help="Build it again even if no recorded file differs.")] = False,
    json: JsonFlag = False,
) -> None:
    """Build a damaged environment again from its own lock, fetching only what is damaged, and switch to it."""
    operations = Operations(open_home())
    display = Display(as_json=json)
    started = time.monotonic()
    last = display.watch(operations, operations.start_repair(generation, whole=whole))
    if last.get("type") == "stopped":
        display.line("Cancelled. The active environment is unchanged.")
        raise typer.Exit(130)
    display.line(f"Environment {last['generation']} is built ({duration(time.monotonic() - started)}).")
    display.line("The damaged one is kept until you delete it.")


def diagnose(generation: GenerationArgument = None, json: JsonFlag = False) -> None:
    """Name what is wrong with an environment, why, and what mends it; exit status 1 when something is."""
    operations = Operations(open_home())
    found = diagnosis.diagnose(_chosen(operations, generation))
    if json:
        say_json({"findings": [each.as_json() for each in found]})
    else:
        print("\n".join(lines_of([], [each.as_json() for each in found])).strip() or "Nothing is wrong with it.")
    raise typer.Exit(1 if found else 0)


def add_to(cli: typer.Typer) -> None:
    """Make them commands of `fettle env`."""
    for command in (check, repair, diagnose):
        cli.command()(command)
