"""What an imported lock means on this machine: its plan, or why it cannot be built here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from env_manager.errors import EnvError
from env_manager.hardware import Hardware
from env_manager.planning.catalog import Catalog
from env_manager.planning.plan import Plan, TorchSource, make_plan
from env_manager.planning.resolve import Lock, Locked, index_arguments, parse_lock, refuse_drift
from env_manager.planning.torch_index import Asked
from env_manager.sharing.exchange import Origin, Recipe
from env_manager.uv import Uv


def plan_for(
    recipe: Recipe, hardware: Hardware, catalog: Catalog, asked: Asked = Asked(), python: str | None = None
) -> tuple[Plan, Lock]:
    """This machine's plan with the recipe's versions; refused where the lock was made for another kind of machine."""
    _refuse_foreign(recipe.origin, hardware)
    versions = recipe.lock.versions
    listed = [package for step in catalog.steps for package in step.packages]
    if not any(package.name in versions for package in listed):
        raise EnvError(
            "manifest-foreign",
            "The file names no package that training needs.",
            "Import a file that was exported from a Fettle environment.",
        )
    built = tuple(package.name for package in listed if package.build and package.name in versions)
    local = _local(versions[built[0]]) if built else ""
    index = next((each for each in catalog.torch_indexes if each.name == recipe.origin.torch_index), None)
    source = TorchSource("pytorch-index" if index else "configured", local, index.url if index else None, built)
    overrides = {
        package.name: versions[package.name]
        for package in listed
        if package.name in versions and versions[package.name] != package.version + (local if package.build else "")
    }
    missing = {
        package.name: "The imported lock does not have it." for package in listed if package.name not in versions
    }
    plan = make_plan(
        hardware,
        catalog,
        source=source if built else None,
        overrides=overrides,
        without=missing,
        asked=_as_made(recipe.origin, hardware, catalog, asked),
        python=python,
    )
    lock = with_a_home_for_each(plan, recipe.lock)
    refuse_drift(plan, lock)
    return plan, lock


def _as_made(origin: Origin, hardware: Hardware, catalog: Catalog, asked: Asked) -> Asked:
    """The build of torch that the lock has, where this machine would take another one."""
    if asked != Asked():
        return asked
    if origin.accelerator == "cpu" and hardware.accelerator != "cpu":
        return Asked("cpu")
    cuda = {index.name for index in catalog.torch_indexes if index.accelerator == "cuda"}
    return Asked(origin.torch_index) if origin.torch_index in cuda else asked


def _local(version: str) -> str:
    return version[version.index("+") :] if "+" in version else ""


def _refuse_foreign(origin: Origin, hardware: Hardware) -> None:
    for what, made, here in (
        ("system", origin.os, hardware.os),
        ("processor", origin.arch, hardware.arch),
    ):
        if made and made != here:
            raise _foreign(f"it was made for the {what} {made}, this one is {here}")
    if origin.accelerator in ("cuda", "mps") and hardware.accelerator != origin.accelerator:
        raise _foreign(f"it was made for {origin.accelerator}, which this machine does not have")


def _foreign(why: str) -> EnvError:
    return EnvError(
        "manifest-foreign",
        f"The file cannot be built here: {why}.",
        "Install the dependencies for this machine: `fettle env install`. Versions can be given with --set.",
    )


def with_reasons(plan: Plan, lock: Lock, uv: Uv, python: Path, folder: Path) -> Lock:
    """The lock with who needs each package, asked of the resolver where the file does not tell, as pylock never does.

    Without it a package that two steps need would come with the later one, too late for the earlier one's probe.
    """
    wanted = [requirement for step in plan.steps for requirement in step.requirements]
    exact = [f"{package.name}==={package.version}" for package in lock.packages]
    (folder / "requirements.in").write_text("\n".join(wanted) + "\n", encoding="utf-8")
    (folder / "constraints.txt").write_text("\n".join(exact) + "\n", encoding="utf-8")
    text = uv.run(
        ["pip", "compile", "requirements.in", "--constraints", "constraints.txt", "--only-binary", ":all:"]
        + ["--python", str(python), "--no-header", "--annotation-style", "split", "--quiet", *index_arguments(plan)],
        cwd=folder,
    )
    needed_by = {package.name: package.needed_by for package in parse_lock(text).packages}
    # Into the text too, from which a repair or the next export reads it.
    rows = [_row(package, sorted(needed_by.get(package.name, ()))) for package in lock.packages]
    return with_a_home_for_each(plan, parse_lock("".join(rows)))


def _row(package: Locked, needed_by: Sequence[str]) -> str:
    lines = [f"{package.name}=={package.version}", *(f"    --hash={each}" for each in package.hashes)]
    via = ["    # via", *(f"    #   {each}" for each in needed_by)] if needed_by else []
    return " \\\n".join(lines) + "".join(f"\n{line}" for line in via) + "\n"


def with_a_home_for_each(plan: Plan, lock: Lock) -> Lock:
    """Give packages that no step needs to the first step, so that they are there before anything is probed."""
    reached: set[str] = set()
    open_names = [name for step in plan.steps for name in step.names]
    first = open_names[0]
    while open_names:
        name = open_names.pop()
        if name not in reached:
            reached.add(name)
            open_names += [package.name for package in lock.packages if name in package.needed_by]
    packages: list[Locked] = [
        package if package.name in reached else replace(package, needed_by=package.needed_by | {first})
        for package in lock.packages
    ]
    return replace(lock, packages=tuple(packages))
