"""`fettle env …`: install, list, status, roll back, check, repair, diagnose."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from app import commands_check, commands_exchange, commands_generations, commands_machine, commands_versions
from app.errors import AppError
from app.operations import Operations
from app.paths import open_home
from app.terminal import Display, duration, say_json, size
from env_manager.generations import Generation
from env_manager.planning.torch_index import Asked
from env_manager.proving.preflight import check

cli = typer.Typer(help="The environment that training runs in, and its earlier generations.", no_args_is_help=True)
AcceleratorOption = Annotated[
    str, typer.Option("--accelerator", help="auto, cpu, mps, or a CUDA build of torch such as cu126.")
]
GpuOption = Annotated[
    int | None, typer.Option("--gpu", min=0, help="The NVIDIA GPU that decides the build; else the oldest.")
]
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
    accelerator: AcceleratorOption = "auto",
    gpu: GpuOption = None,
    json: JsonFlag = False,
) -> None:
    """Build a new environment beside the active one, prove it, and switch to it."""
    operations = Operations(open_home())
    started = time.monotonic()
    display = Display(as_json=json)
    started_install = operations.start_install(pairs(set), allow_large=allow_large, accelerator=accelerator, gpu=gpu)
    last = display.watch(operations, started_install)
    if last.get("type") == "stopped":
        display.line("Cancelled. The active environment is unchanged.")
        raise typer.Exit(130)
    display.line(f"Environment {last['generation']} is active ({duration(time.monotonic() - started)}).")


@cli.command()
def hardware(accelerator: AcceleratorOption = "auto", gpu: GpuOption = None, json: JsonFlag = False) -> None:
    """This machine, the build of torch for it, and the Pythons on it, each with the reason."""
    commands_machine.show(Operations(open_home()).store, Asked.of(accelerator, gpu), as_json=json)


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
        mark = "*" if each.id == active else "!" if each.damage else "p" if each.pinned else " "
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
        if found.active:
            for line in _choices(found.active):
                print(line)
        if found.previous:
            print(f"previous: {found.previous.id}")
        for passed in found.passed_over:
            print(f"passed over: {passed.id} is damaged: {passed.damage}")
        for trouble in found.problems:
            print(f"!! {trouble.message}\n   {trouble.remedy}  [{trouble.code}]")
        for each in checks:
            print(
                f"{'ok' if each.ok else '!!'} {each.name}: {each.evidence}" + ("" if each.ok else f"\n   {each.remedy}")
            )
    raise typer.Exit(0 if sound else 1)


def _choices(generation: Generation) -> list[str]:
    """Which Python and which build of torch an environment has, and why."""
    python, torch = generation.interpreter, generation.plan.get("torch") or {}
    lines = (
        [f"python: {python['version']} ({python['path']}). {python['reason']}"]
        if python.keys() >= {"version", "path", "reason"}
        else []
    )
    return lines + ([f"torch: {torch['build']}. {torch['reason']}"] if torch.keys() >= {"build", "reason"} else [])


@cli.command()
def rollback(
    generation: Annotated[str | None, typer.Argument(help="Which one; without it, the one before.")] = None,
    json: JsonFlag = False,
) -> None:
    """Make an earlier generation the active one; offline, in well under a second.

    Without a name: the newest that was active before and is whole.
    """
    started = time.perf_counter()
    passed: list[str] = []
    target = Operations(open_home()).store.rollback(generation, tell=passed.append)
    seconds = time.perf_counter() - started
    if json:
        say_json({"active": target.id, "seconds": round(seconds, 4), "passed_over": passed})
    else:
        print("".join(f"{each}\n" for each in passed), end="")
        print(f"Environment {target.id} is active again ({seconds * 1000:.0f} ms).")


commands_check.add_to(cli)
commands_generations.add_to(cli)
commands_exchange.add_to(cli)
commands_versions.add_to(cli)
