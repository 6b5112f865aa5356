"""The choice of a build of torch, held against a table written by hand from other people's sources."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from small_index import CPU_MACHINE

from env_manager.errors import EnvError
from env_manager.hardware import Gpu, Hardware
from env_manager.planning.catalog import Catalog, TorchIndex, Wheels, numbers
from env_manager.planning.catalog_file import load_catalog, shared_release
from env_manager.planning.torch_index import Asked, choose_torch

TABLE = Path(__file__).with_name("index_cases.tsv")
SHIPPED = load_catalog()
# What each word of the column `tells` stands for in the reason and the advice.
TELLS = {
    "update": r"[Uu]pdate (the driver|it)",
    "unsupported": r"is not supported by any build",
    "beside": r"cannot be used with this build",
    "unknown": r"is not known",
    "driver": r"needs NVIDIA driver .* may fail",
    "kernels": r"has no kernels for .* may fail",
    "nogpu": r"No (usable NVIDIA )?GPU was found",
    "apple": r"Apple silicon",
    "amd": r"AMD GPUs are not used",
    "intel": r"Intel GPUs are not used",
    "glibc": r"needs glibc 2\.28",
    "macos": r"needs macOS 14",
    "no-build": r"has (a|no) build of torch",
    "nearest": r"does not know torch",
}
WARNINGS = ("update", "unsupported", "beside", "driver", "kernels", "nogpu", "nearest")
# In release 2.14 cu132 asks no more of a machine than cu130, which therefore is never taken unasked.
NEVER_FIRST = {("cu130", ("2.14", "2.14"))}


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    system: str
    driver: str
    gpus: str
    python: str
    torch: str
    asked: str
    build: str
    served: str
    tells: str
    source: str

    def __str__(self) -> str:
        return " ".join(part for part in vars(self).values() if part != "-")


def cases() -> list[Case]:
    rows = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert rows[0].split("\t") == list(Case.__dataclass_fields__)
    return [Case(*row.split("\t")) for row in rows[1:]]


CASES = cases()


def machine(case: Case) -> Hardware:
    """The hardware that a row describes in short."""
    system, _, version = case.system.partition("/")
    os, arch = system.split("-", 1)
    pairs = [each.split(":") for each in case.gpus.split(",")] if case.gpus != "-" else []
    kind = pairs[0][1] if pairs else ""
    accelerator = {"apple": "mps", "intel": "xpu", "": "cpu"}.get(kind, "rocm" if kind.startswith("gfx") else "cuda")
    return replace(
        CPU_MACHINE,
        os="linux" if os == "wsl2" else os,
        wsl=2 if os == "wsl2" else None,
        arch=arch,
        os_version=version if os == "macos" and version else "test",
        libc=(version.replace("-", " ") or "glibc 2.36") if os == "linux" else None,
        driver=None if case.driver == "-" else case.driver,
        gpus=tuple(Gpu(name, told if re.match(r"[\d.]+$|gfx", told) else None, None) for name, told in pairs),
        accelerator=accelerator,
    )


def outcome(case: Case, catalog: Catalog) -> tuple[str, str, str]:
    """Build, where it is served from, and everything that is said about it."""
    accelerator, _, gpu = case.asked.partition("gpu:")
    asked = Asked.of(accelerator.strip("+-"), int(gpu) if gpu else None)
    try:
        choice = choose_torch(machine(case), catalog, torch=case.torch, python=case.python, asked=asked)
    except EnvError as error:
        return "refused", "-", error.message
    served = "pytorch" if choice.index_url else "-" if choice.build == "none" else "default"
    return choice.build, served, " ".join((choice.reason, *choice.advice))


def holds(case: Case, catalog: Catalog) -> bool:
    build, served, said = outcome(case, catalog)
    return (build, served) == (case.build, case.served) and says_right(case, said)


def says_right(case: Case, said: str) -> bool:
    """What a row calls for is said; where it calls for nothing, nothing is warned of."""
    if case.tells == "-":
        return not any(re.search(TELLS[word], said) for word in WARNINGS)
    return re.search(TELLS[case.tells], said) is not None


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_row_of_the_table_holds(case: Case) -> None:
    """Build, index and advice are those that were written down by hand."""
    build, served, said = outcome(case, SHIPPED)
    assert (build, served) == (case.build, case.served), said
    assert says_right(case, said), said


def test_the_table_is_large_and_no_situation_stands_in_it_twice() -> None:
    """Three hundred at least, each its own."""
    situations = {(each.system, each.driver, each.gpus, each.python, each.torch, each.asked) for each in CASES}
    assert len(situations) == len(CASES) >= 300


def test_every_row_names_sources_that_the_table_explains() -> None:
    """Each source is described in the table's head."""
    head = set(re.findall(r"^# (\w+) {2,}\S", TABLE.read_text(encoding="utf-8"), re.MULTILINE))
    head |= set(re.findall(r"^# (\w+) (?=[\w ,\"]*[:,])", TABLE.read_text(encoding="utf-8"), re.MULTILINE))
    assert {source for case in CASES for source in case.source.split(",")} <= head


def test_where_a_build_is_served_follows_its_name() -> None:
    """A build from PyTorch's own index carries its local version and comes from the address of that name."""
    for case in CASES:
        accelerator = case.asked if case.asked in ("cpu", "mps") else None
        if case.served == "pytorch" and "gpu:" not in case.asked and case.asked in ("-", accelerator):
            choice = choose_torch(
                machine(case), SHIPPED, torch=case.torch, python=case.python, asked=Asked.of(accelerator, None)
            )
            assert (choice.local, choice.index_url) == (
                f"+{case.build}",
                f"https://download.pytorch.org/whl/{case.build}",
            )


def changed(index: TorchIndex, **fields: object) -> Catalog:
    indexes = tuple(replace(index, **fields) if each is index else each for each in SHIPPED.torch_indexes)
    return replace(SHIPPED, torch_indexes=indexes)


def changed_row(index: TorchIndex, row: Wheels, **fields: object) -> Catalog:
    return changed(index, wheels=tuple(replace(row, **fields) if each is row else each for each in index.wheels))


def by_one(version: str, step: int) -> str:
    """The version with its last number moved."""
    *front, last = numbers(version)
    return ".".join(map(str, [*front, last + step]))


def mutants() -> Iterator[tuple[str, Catalog]]:
    """The shipped catalog with one fact changed, in every way that it would still be read."""
    for what, catalog in single_changes():
        if not any(shared_release(index) for index in catalog.torch_indexes):
            yield what, catalog


def single_changes() -> Iterator[tuple[str, Catalog]]:
    for index in SHIPPED.torch_indexes:
        for field in ("linux_driver", "windows_driver"):
            minimum = getattr(index, field)
            for step in (-1, 1) if minimum else ():
                yield f"{index.name}: {field} {step:+}", changed(index, **{field: by_one(minimum, step)})
        for row in index.wheels:
            for what, fields in row_changes(index, row):
                where = f"{index.name}, torch {row.torch[0]}-{row.torch[1]}, {row.machines[0]}"
                yield f"{where}: {what}", changed_row(index, row, **fields)


def row_changes(index: TorchIndex, row: Wheels) -> Iterator[tuple[str, dict[str, object]]]:
    for field in ("torch", "python"):
        ends = getattr(row, field)
        for end in (0, 1):
            for step in (-1, 1):
                moved = tuple(by_one(each, step) if at == end else each for at, each in enumerate(ends))
                yield f"{field} {moved}", {field: moved}
    for name in row.machines:
        yield f"without {name}", {"machines": tuple(each for each in row.machines if each != name)}
        yield f"other default on {name}", {"default_on": tuple(set(row.default_on) ^ {name})}
    for major in {each.split(".")[0] for each in row.sm}:
        yield f"no kernels for {major}.x", {"sm": tuple(each for each in row.sm if each.split(".")[0] != major)}
    if row.sm:
        lowest = min(row.sm, key=numbers)
        yield f"from above {lowest}", {"sm": tuple(by_one(each, 1) if each == lowest else each for each in row.sm)}
    if index.accelerator == "cuda" and (index.name, row.torch) not in NEVER_FIRST:
        yield "experimental", {"experimental": not row.experimental}
    if index.accelerator == "cpu":
        yield "older glibc", {"glibc": "2.27"}
        yield "newer macOS", {"macos": by_one(str(row.macos), 1)}


def test_the_table_notices_when_one_fact_of_the_catalog_changes() -> None:
    """No row repeats the catalog: each changed minimum, span, kernel, machine or default makes rows fail."""
    unnoticed = [what for what, catalog in mutants() if all(holds(case, catalog) for case in CASES)]
    assert unnoticed == []
