"""How old a resolve is: below a floor it is refused, far behind the newest it is told, with who capped it.

A resolver that finds no way to the newest versions goes back in time without a word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from env_manager.errors import EnvError, UvFailed
from env_manager.planning.catalog import Catalog, numbers

# So many minor releases back, or any major one, is far.
FAR_MINORS = 5
_DEPENDS = re.compile(
    r"(?P<by>[a-z0-9][a-z0-9._-]*?)(?:\[[^\]]*\])?(?:[=<>!~]=?=?[^\s,]+,?)* depends? on "
    r"(?P<on>.*?)(?= and [a-z0-9]|, we can|\. |$)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Cap:
    """A package that stays behind the newest release, and what keeps it there: packages, or in `reason` words."""

    name: str
    version: str
    newest: str
    by: tuple[str, ...] = ()
    reason: str = ""

    def __str__(self) -> str:
        why = f"held back by {' and '.join(self.by)}" if self.by else self.reason or "the index gives no reason"
        return f"{self.name} {self.version} is far behind {self.newest}: {why}"


def refuse_below_floors(versions: Mapping[str, str], catalog: Catalog) -> None:
    """Raise `below-floor` where a resolve has a version older than the catalog allows."""
    for floor in catalog.floors:
        found = versions.get(floor.name)
        if found and numbers(found) < floor.least:
            raise EnvError(
                "below-floor",
                f"{floor.name} {found} is older than {floor.requirement}, which this Fettle needs. {floor.reason}",
                "Undo the version overrides if you gave any; otherwise check that the configured index is complete.",
            )


def is_far(version: str, newest: str) -> bool:
    """Whether a version is a major release or several minor ones behind."""
    here, there = (*numbers(version), 0, 0)[:2], (*numbers(newest), 0, 0)[:2]
    return here[0] < there[0] or (here[0] == there[0] and there[1] - here[1] >= FAR_MINORS)


def far_behind(versions: Mapping[str, str], catalog: Catalog) -> list[Cap]:
    """Packages far behind what was newest on the catalog's date, except where the catalog itself pins or holds them."""
    pinned = {package.name: package.version for step in catalog.steps for package in step.packages}
    held = {hold.name for hold in catalog.holds}
    return [
        Cap(name, versions[name], newest)
        for name, newest in catalog.newest
        if name in versions
        and is_far(versions[name], newest)
        and name not in held
        and versions[name].partition("+")[0] != pinned.get(name)
    ]


def who_caps(resolve: Callable[[str], object], cap: Cap, holds: Mapping[str, str], versions: Mapping[str, str]) -> Cap:
    """The same with its reason: `resolve` is asked for the newest release beside everything else, and says what bars it."""
    if cap.name in holds:
        return Cap(cap.name, cap.version, cap.newest, reason=holds[cap.name])
    try:
        resolve(f"{cap.name}=={cap.newest}")
    except UvFailed as error:
        if error.code not in ("resolve-impossible", "package-missing"):
            raise
        by = tuple(f"{name} {versions.get(name, '')}".strip() for name in capping(error.output, cap.name))
        return Cap(cap.name, cap.version, cap.newest, by, "" if by else error.message)
    return Cap(cap.name, cap.version, cap.newest, reason="nothing bars the newest; it was not chosen")


def capping(output: str, name: str) -> tuple[str, ...]:
    """The packages that uv's explanation names as depending on other versions of `name`."""
    flat = " ".join(output.split())
    found: dict[str, None] = {}
    for match in _DEPENDS.finditer(flat):
        # A package that takes any version of it bars nothing.
        if match["by"] != name and re.search(rf"(?<![\w.-]){re.escape(name)}[<>=!~]", match["on"]):
            found[match["by"]] = None
    if found:
        return tuple(found)
    # Without a package in between it is a requirement of the plan that bars it.
    planned = re.findall(rf"(?<![\w.-]){re.escape(name)}[<>~][^\s,]+", flat) if "you require" in flat else []
    return tuple(f"the planned {each}" for each in dict.fromkeys(planned))


def told(caps: Sequence[Cap], date: str) -> tuple[str, ...]:
    """One sentence for each."""
    return tuple(f"{cap} (newest on {date})." for cap in caps)
