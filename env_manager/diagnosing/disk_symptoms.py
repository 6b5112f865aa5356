"""What lies on the disk and should not: wrong builds, wrong wheels, lost and torn files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from env_manager.diagnosing.inventory import (
    Distribution,
    fits,
    numpy_version,
    read_inventory,
    same_version,
    torch_build,
)
from env_manager.diagnosing.signature import NO_STRANGERS, REBUILD
from env_manager.generations import Generation
from env_manager.planning.catalog import numbers
from env_manager.proving import verify
from env_manager.proving.file_record import RECORD_NAME, Damage, against_own_hashes, against_own_record
from env_manager.proving.verify import site_packages


def files_symptoms(
    generation: Generation, *, full: bool = False, cancelled: Callable[[], bool] = lambda: False
) -> list[dict[str, Any]]:
    """Findings from files alone, the root cause first; with `full` their content is compared too."""
    if not generation.python.exists():
        return [_interpreter_missing(generation)]
    lying = read_inventory(generation.env)
    found = [
        *_wrong_torch(generation, lying),
        *_wrong_numpy(generation, lying),
        *_wrong_wheels(generation, lying),
        *_made_for_other_torch(generation, lying),
        *_without_library(generation),
        *_without_record(lying),
        *_missing(generation, lying),
        *_replaced(generation, lying),
    ]
    explained = {each.pop("package") for each in found}
    found += _torn(generation, explained, full=full, cancelled=cancelled)
    return found


def _row(name: str, package: str, cause: str, evidence: str, remedy: str, action: str | None) -> dict[str, Any]:
    return {
        "name": name, "package": package, "cause": cause, "evidence": evidence, "remedy": remedy, "action": action,
    }  # fmt: skip


def _interpreter_missing(generation: Generation) -> dict[str, Any]:
    link = generation.python
    target = f" points to {link.readlink()}, which is not there" if link.is_symlink() else " is missing"
    row = _row(
        "interpreter-missing", "", "The Python that this environment was built on is gone.",
        f"{link.name}{target}.", REBUILD, "repair",
    )  # fmt: skip
    del row["package"]
    return row


def _planned_cuda(generation: Generation) -> bool:
    return generation.plan.get("accelerator") == "cuda"


def _family(generation: Generation) -> str | None:
    """The first number of the CUDA that was planned, as 13 of cu130."""
    found = re.fullmatch(r"cu(\d+)\d", str((generation.plan.get("torch") or {}).get("build", "")))
    return found.group(1) if found else None


def _wrong_torch(generation: Generation, lying: list[Distribution]) -> Iterator[dict[str, Any]]:
    torch = torch_build(generation.env)
    if torch is None or "torch" not in generation.packages:
        return
    version, cuda = torch
    if _planned_cuda(generation) and cuda is None:
        yield _row(
            "cpu-torch-over-cuda", "torch", "A CPU build of torch lies where a CUDA build was installed.",
            f"torch {version} is there; the plan was {generation.packages['torch']} for CUDA.", NO_STRANGERS, "repair",
        )  # fmt: skip
    elif _planned_cuda(generation) and cuda and _family(generation) not in (None, cuda.split(".")[0]):
        yield _row(
            "torch-other-cuda", "torch", "torch lies here in a build for another CUDA than the installed one.",
            f"torch {version} for CUDA {cuda} is there; the plan was {generation.plan['torch']['build']}.",
            NO_STRANGERS, "repair",
        )  # fmt: skip
    elif not _planned_cuda(generation) and cuda is not None and "+cpu" in generation.packages["torch"]:
        yield _row(
            "cuda-torch-over-cpu", "torch", "A CUDA build of torch lies where a CPU build was installed.",
            f"torch {version} for CUDA {cuda} is there; the plan was {generation.packages['torch']}.",
            NO_STRANGERS, "repair",
        )  # fmt: skip


def _wrong_numpy(generation: Generation, lying: list[Distribution]) -> Iterator[dict[str, Any]]:
    planned = generation.packages.get("numpy", "")
    # Metadata may be there twice: what is imported is what the code calls itself.
    code = numpy_version(generation.env)
    for each in lying:
        if each.name != "numpy" or (code and code != each.version):
            continue
        if planned.startswith("1.") and each.version.startswith("2."):
            yield _row(
                "numpy-2-under-numpy-1", "numpy", "NumPy 2 lies below libraries that were proved with NumPy 1.",
                f"numpy {each.version} is there instead of {planned}.", NO_STRANGERS, "repair",
            )  # fmt: skip
        elif planned.startswith("2.") and each.version.startswith("1."):
            yield _row(
                "numpy-1-under-numpy-2", "numpy", "NumPy 1 lies below libraries that were proved with NumPy 2.",
                f"numpy {each.version} is there instead of {planned}.", NO_STRANGERS, "repair",
            )  # fmt: skip


def _wrong_wheels(generation: Generation, lying: list[Distribution]) -> Iterator[dict[str, Any]]:
    python = generation.interpreter.get("version", "")
    system, arch = generation.hardware.get("os", ""), generation.hardware.get("arch", "")
    if not re.fullmatch(r"3\.\d+", python) or system not in ("linux", "macos", "windows"):
        return
    for each in lying:
        reasons = [fits(tag, python, system, arch, generation.hardware.get("libc") or "") for tag in each.tags]
        if reasons and all(reasons):
            yield _row(
                "wheel-wrong-platform", each.name, "A package was built for another Python, system or processor.",
                f"{each.name} {each.version} is {reasons[0]}.", NO_STRANGERS, "repair",
            )  # fmt: skip


def _made_for_other_torch(generation: Generation, lying: list[Distribution]) -> Iterator[dict[str, Any]]:
    torch = torch_build(generation.env)
    if torch is None:
        return
    version, cuda = torch
    for each in lying:
        if each.name not in ("torchvision", "torchaudio", "xformers"):
            continue
        why = _not_for(each, version, cuda)
        if why:
            yield _row(
                f"{each.name}-other-torch", each.name, f"{each.name} was built for another torch.",
                f"{each.name} {each.version} {why}; torch is {version}.", NO_STRANGERS, "repair",
            )  # fmt: skip


def _not_for(package: Distribution, torch: str, cuda: str | None) -> str | None:
    wanted = package.wants("torch")
    if wanted and not same_version(wanted, torch):
        return f"is for torch {wanted}"
    own = _build_of(package)
    if own is None:
        return None
    built_torch, built_cuda = own
    # Since 0.0.35 xformers uses torch's stable interface: it runs on newer ones than it was built with.
    stable = numbers(package.version) >= (0, 0, 35)
    if built_torch and (
        numbers(built_torch)[:2] > numbers(torch)[:2] or (not stable and not same_release(built_torch, torch))
    ):
        return f"is for torch {built_torch}"
    if cuda is None and built_cuda:
        return f"is for CUDA {built_cuda}"
    if cuda and built_cuda and built_cuda.split(".")[0] != cuda.split(".")[0]:
        return f"is for CUDA {built_cuda}, torch for CUDA {cuda}"
    if cuda and built_cuda is None and built_torch is None:
        return "is a CPU build"
    return None


def same_release(one: str, other: str) -> bool:
    """Whether two versions agree in their first two numbers."""
    return numbers(one)[:2] == numbers(other)[:2]


def _build_of(package: Distribution) -> tuple[str | None, str | None] | None:
    """The torch and CUDA that a package says it was built with."""
    home = package.folder.parent / package.name
    try:
        if package.name == "xformers":
            built = json.loads((home / "cpp_lib.json").read_text(encoding="utf-8"))["version"]
            cuda = built.get("cuda")
            # Written as a number: 1208 is 12.8.
            return built.get("torch"), f"{int(cuda) // 100}.{int(cuda) % 100}" if cuda else None
        text = (home / "version.py").read_text(encoding="utf-8")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    cuda_line = re.search(r"^cuda\s*(?::[^=]*)?=\s*(.+)$", text, re.MULTILINE)
    if not cuda_line:
        return None
    told = cuda_line.group(1).strip().strip("'\"")
    return None, None if told == "None" else told


def _without_library(generation: Generation) -> Iterator[dict[str, Any]]:
    """bitsandbytes imports without its library, and then computes slowly or not at all."""
    home = site_packages(generation.env) / "bitsandbytes"
    torch = torch_build(generation.env)
    kind = "cpu"
    if _planned_cuda(generation):
        # The one that it loads is named by torch's CUDA.
        kind = f"cuda{(torch[1] or '').replace('.', '')}" if torch else "cuda"
    whole = any(file.stat().st_size for file in home.glob(f"libbitsandbytes_{kind}*"))
    if "bitsandbytes" in generation.packages and home.is_dir() and not whole:
        yield _row(
            "bitsandbytes-without-library", "bitsandbytes", "bitsandbytes lacks its own library for this kind of device.",
            f"There is no libbitsandbytes_{kind} in it.", REBUILD, "repair",
        )  # fmt: skip


def _without_record(lying: list[Distribution]) -> Iterator[dict[str, Any]]:
    for each in lying:
        if not each.has_record:
            yield _row(
                "record-missing", each.name, "A package lost its list of files, so nobody can check or remove it.",
                f"{each.folder.name} has no RECORD.", REBUILD, "repair",
            )  # fmt: skip


def _missing(generation: Generation, lying: list[Distribution]) -> Iterator[dict[str, Any]]:
    there = {each.name for each in lying}
    for name, planned in generation.packages.items():
        if name not in there:
            yield _row(
                "package-missing", name, "A package was removed from outside.",
                f"{name} {planned} is not there.", REBUILD, "repair",
            )  # fmt: skip


def _replaced(generation: Generation, lying: list[Distribution]) -> Iterator[dict[str, Any]]:
    versions: dict[str, list[str]] = {}
    for each in lying:
        versions.setdefault(each.name, []).append(each.version)
    for name, planned in generation.packages.items():
        there = versions.get(name, [])
        if len(there) > 1:
            yield _row(
                "package-twice", name, "A package lies here in two versions.",
                f"{name} {' and '.join(there)} instead of {planned}.", NO_STRANGERS, "repair",
            )  # fmt: skip
        elif there and not same_version(there[0], planned):
            yield _row(
                "package-replaced", name, "A package was replaced by another version from outside.",
                f"{name} {there[0]} instead of {planned}.", NO_STRANGERS, "repair",
            )  # fmt: skip


def _torn(
    generation: Generation, explained: set[str], *, full: bool, cancelled: Callable[[], bool]
) -> Iterator[dict[str, Any]]:
    """Damaged files, but for those of packages whose whole replacement was told already."""
    record = generation.folder / RECORD_NAME
    damage = (
        against_own_hashes(generation.env, record, cancelled)[0] if full else against_own_record(generation.env, record)
    )
    owners = verify.owners(generation.env, [each.path for each in damage])
    left = [each for each in damage if _package_of(each, owners) not in explained]
    if explained:
        # The launchers of a replaced package went with it, and its old list of files too.
        left = [each for each in left if each.path in owners or not re.match(r"(bin|Scripts)/", each.path)]
    lost, altered = [each for each in left if not each.altered], [each for each in left if each.altered]
    for name, cause, files in (
        ("environment-torn", "Files of the environment are missing or have another size.", lost),
        ("files-altered", "Files of the environment have their size but another content.", altered),
    ):
        if files:
            owner = owners.get(files[0].path)
            more = f" and {len(files) - 1} more" if len(files) > 1 else ""
            evidence = f"{files[0]}{f' (of {owner})' if owner else ''}{more}."
            yield {"name": name, "cause": cause, "evidence": evidence, "remedy": REBUILD, "action": "repair"}


def _package_of(damage: Damage, owners: dict[str, str]) -> str | None:
    if damage.path in owners:
        return owners[damage.path]
    # Of a metadata folder that is gone altogether the name still tells the package.
    found = re.search(r"([A-Za-z0-9_.]+?)-[^/]*\.(dist-info|libs)/", damage.path) or re.search(
        r"([A-Za-z0-9_]+)\.libs/", damage.path
    )
    return re.sub(r"[-_.]+", "-", found.group(1)).lower() if found else None
