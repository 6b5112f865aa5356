"""`fettle env …`: install, list, status, roll back, check, repair, diagnose."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from app.doctor import lines_of
from app.errors import AppError
from app.operations import Operations
from app.paths import open_home
from app.terminal import Display, duration, say_json, size
from env_manager.diagnosis import diagnose
from env_manager.generations import Generation
from env_manager.integrity import examine
from env_manager.preflight import check

cli = typer.Typer(help="The environment that training runs in, and its earlier generations.", no_args_is_help=True)
JsonFlag = Annotated[bool, typer.Option("--json", help="JSON for programs.")]


def pairs(values: list[str]) -> dict[str, str]:
    """`key=value` arguments as a dictionary; raises `AppError` for one without `=`."""
    found = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key.strip():
            raise AppError("setting-invalid", f"'{value}' is not of the form key=value.", "Write it as key=value.")
        found[key.strip()] = text.strip()
    return found


@cli.command("install")
def install(
    set: Annotated[list[str], typer.Option("--set", help="Another version of one package, as name=version.")] = [],  # noqa: B006 - typer wants a list
    allow_large: Annotated[bool, typer.Option("--allow-large", help="Accept a multi-gigabyte build of torch.")] = False,
    json: JsonFlag = False,
) -> None:
    """Build a new environment beside the active one, prove it, and switch to it."""
    operations = Operations(open_home())
    started = time.monotonic()
    display = Display(as_json=json)
    last = display.watch(operations, operations.start_install(pairs(set), allow_large=allow_large))
    if last.get("type") == "stopped":
        display.line("Cancelled. The active environment is unchanged.")
        raise typer.Exit(130)
    display.line(f"Environment {last['generation']} is active ({duration(time.monotonic() - started)}).")


@cli.command("list")
def list_generations(json: JsonFlag = False) -> None:
    """All generations, newest first."""
    store = Operations(open_home()).store
    status = store.status()
    active = status.active.id if status.active else None
    if json:
        say_json({"active": active, "generations": [each.as_json() for each in status.generations]})
        return
    for each in status.generations:
        mark = "*" if each.id == active else " "
        print(
            f"{mark} {each.id}  {each.created}  {len(each.packages)} packages  {size(each.bytes)}  {each.name or ''}".rstrip()
        )
    if not status.generations:
        print("No environment is installed yet. Next: fettle env install")


@cli.command()
def status(
    check_it: Annotated[bool, typer.Option("--check", help="Prove the active environment again.")] = False,
    json: JsonFlag = False,
) -> None:
    """Which environment is active, and whether it is sound; exit status 1 when it is not."""
    found = Operations(open_home()).store.status()
    checks = check(found.active) if check_it and found.active else []
    sound = not found.problems and all(each.ok for each in checks)
    if json:
        say_json(
            found.as_json()
            | {"active": found.active.id if found.active else None, "checks": [each.as_json() for each in checks]}
        )
    else:
        print(f"active: {found.active.id if found.active else 'none'}")
        if found.previous:
            print(f"previous: {found.previous.id}")
        for trouble in found.problems:
            print(f"!! {trouble.message}\n   {trouble.remedy}  [{trouble.code}]")
        for each in checks:
            print(
                f"{'ok' if each.ok else '!!'} {each.name}: {each.evidence}" + ("" if each.ok else f"\n   {each.remedy}")
            )
    raise typer.Exit(0 if sound else 1)


@cli.command()
def rollback(
    generation: Annotated[str | None, typer.Argument(help="Which one; without it, the one before.")] = None,
    json: JsonFlag = False,
) -> None:
    """Make an earlier generation the active one; offline, in well under a second."""
    started = time.perf_counter()
    target = Operations(open_home()).store.rollback(generation)
    seconds = time.perf_counter() - started
    if json:
        say_json({"active": target.id, "seconds": round(seconds, 4)})
    else:
        print(f"Environment {target.id} is active again ({seconds * 1000:.0f} ms).")


GenerationArgument = Annotated[str | None, typer.Argument(help="Which one; without it, the active one.")]


def _chosen(operations: Operations, generation: str | None) -> Generation:
    return operations.store.get(generation) if generation else operations.active_generation()


@cli.command("check")
def check_files_command(
    generation: GenerationArgument = None,
    full: Annotated[bool, typer.Option("--full", help="Compare the content of every file, not only its size.")] = False,
    json: JsonFlag = False,
) -> None:
    """Compare every file with the record taken when the environment was built; exit status 1 when one differs."""
    operations = Operations(open_home())
    started = time.perf_counter()
    found = examine(operations.store, _chosen(operations, generation), full=full)
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


@cli.command("repair")
def repair_command(
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


@cli.command("diagnose")
def diagnose_command(generation: GenerationArgument = None, json: JsonFlag = False) -> None:
    """Name what is wrong with an environment, why, and what mends it; exit status 1 when something is."""
    operations = Operations(open_home())
    found = diagnose(_chosen(operations, generation))
    if json:
        say_json({"findings": [each.as_json() for each in found]})
    else:
        print("\n".join(lines_of([], [each.as_json() for each in found])).strip() or "Nothing is wrong with it.")
    raise typer.Exit(1 if found else 0)
