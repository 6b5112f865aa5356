"""`fettle env …` for generations that exist: name, compare, pin, delete, keep."""

from __future__ import annotations

from typing import Annotated

import typer

from app.errors import AppError
from app.operations import Operations
from app.paths import open_home
from app.terminal import say_json, size
from env_manager.keeping import removal
from env_manager.keeping.diff import Difference, diff

GenerationArgument = Annotated[str, typer.Argument(help="The generation, as `fettle env list` names it.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="JSON for programs.")]
PreviewFlag = Annotated[bool, typer.Option("--preview", help="Only say what would happen.")]
CacheFlag = Annotated[
    bool, typer.Option("--with-cache", help="Also clear the package cache of what no other generation uses.")
]


def name(
    generation: GenerationArgument,
    text: Annotated[str, typer.Argument(help="Its name; an empty text takes the name away.")],
    note: Annotated[str | None, typer.Option(help="A longer note.")] = None,
    json: JsonFlag = False,
) -> None:
    """Give a generation a name, and a note if you like."""
    found = Operations(open_home()).store.label(generation, name=text, note=note)
    if json:
        say_json({"id": found.id, "name": found.name, "note": found.note, "pinned": found.pinned})
    else:
        print(f"Environment {found.id} is called {found.name!r}." if found.name else f"{found.id} has no name now.")


def pin(generation: GenerationArgument) -> None:
    """Keep a generation from being deleted."""
    found = Operations(open_home()).store.label(generation, pinned=True)
    print(f"Environment {found.id} is pinned: nothing deletes it.")


def unpin(generation: GenerationArgument) -> None:
    """Let a pinned generation be deleted again."""
    found = Operations(open_home()).store.label(generation, pinned=False)
    print(f"Environment {found.id} is not pinned any more.")


def compare(
    before: Annotated[str, typer.Argument(help="The one to start from.")],
    after: Annotated[str | None, typer.Argument(help="The one to compare; without it, the active one.")] = None,
    json: JsonFlag = False,
) -> None:
    """Which packages two generations differ in, and how many bytes only one of them uses."""
    store = Operations(open_home()).store
    second = store.get(after) if after else store.active()
    if second is None:
        raise AppError("no-environment", "No environment is installed yet.", "Install one: `fettle env install`.")
    found = diff(store.get(before), second)
    if json:
        say_json(found.as_json())
    else:
        _print(found)


def _print(found: Difference) -> None:
    for package, version in found.added.items():
        print(f"+ {package} {version}")
    for package, version in found.removed.items():
        print(f"- {package} {version}")
    for each in (*([found.python] if found.python else []), *found.changed):
        print(f"~ {each.name} {each.before} -> {each.after}")
    if not (found.added or found.removed or found.changed or found.python):
        print("The same packages in the same versions.")
    print(
        f"only {found.before}: {size(found.only_before_bytes)}; only {found.after}: {size(found.only_after_bytes)};"
        f" shared: {size(found.shared_bytes)}"
    )


def delete(
    generations: Annotated[list[str], typer.Argument(help="One or more, as `fettle env list` names them.")],
    preview: PreviewFlag = False,
    with_cache: CacheFlag = False,
    json: JsonFlag = False,
) -> None:
    """Delete generations; never the active one, a pinned one or one that a run uses."""
    operations = Operations(open_home())
    in_use = operations.generations_in_use()
    if preview:
        for each in generations:
            removal.require_removable(operations.store, operations.store.get(each), in_use)
        told = removal.preview(operations.store, generations)
    else:
        told = removal.remove(operations.store, generations, in_use=in_use, with_cache=with_cache)
    _say_removal(told, preview=preview, with_cache=with_cache, as_json=json)


def keep(
    count: Annotated[str, typer.Argument(help="How many of the newest, or `all`.")],
    preview: PreviewFlag = False,
    with_cache: CacheFlag = False,
    json: JsonFlag = False,
) -> None:
    """Keep the newest generations, the pinned, the active and the one before it, now and after each installation."""
    operations = Operations(open_home())
    if count != "all" and not (count.isascii() and count.isdigit()):
        raise AppError("setting-invalid", f"'{count}' is neither a number nor `all`.", "Write a number, or `all`.")
    wanted = None if count == "all" else int(count)
    in_use = operations.generations_in_use()
    if preview and wanted is not None:
        told = removal.preview(operations.store, removal.superfluous(operations.store, max(1, wanted), in_use))
        _say_removal(told, preview=True, with_cache=with_cache, as_json=json)
        return
    told = removal.keep_newest(operations.store, wanted, in_use=in_use, with_cache=with_cache)
    _say_removal(told, preview=False, with_cache=with_cache, as_json=json)


def _say_removal(told: removal.Removal, *, preview: bool, with_cache: bool, as_json: bool) -> None:
    if as_json:
        say_json(told.as_json() | {"preview": preview})
        return
    if not told.generations:
        print("Nothing is deleted.")
        return
    verb = "would be" if preview else "is"
    print(f"{', '.join(told.generations)} {verb} deleted; {size(told.freed_bytes)} free.")
    if told.kept_bytes:
        cache = (
            f"; {size(told.cache_bytes)} of it goes with --with-cache" if told.cache_bytes and not with_cache else ""
        )
        print(f"{size(told.kept_bytes)} stay: the package cache or another generation uses them{cache}.")


def add_to(cli: typer.Typer) -> None:
    """Register these commands."""
    for command, called in (("name", name), ("pin", pin), ("unpin", unpin), ("diff", compare)):
        cli.command(command)(called)
    cli.command("delete")(delete)
    cli.command("keep")(keep)
