"""Checks of an environment that need no process in it: its packages, the disk, driver and GPU."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from env_manager.diagnosing.inventory import read_inventory, same_version
from env_manager.hardware import Hardware, detect
from env_manager.keeping.disk import in_words
from env_manager.planning.catalog import numbers
from env_manager.planning.torch_fit import capability, has_kernels
from env_manager.proving.finding import REMEDY, Check
from env_manager.proving.verify import site_packages

# A run writes checkpoints and logs: with less than this it would soon fail.
LEAST_FREE_BYTES = 500 * 1000**2


class Recorded(Protocol):
    """What these checks need to know of an environment."""

    @property
    def folder(self) -> Path: ...
    @property
    def env(self) -> Path: ...
    @property
    def packages(self) -> Mapping[str, str]: ...
    @property
    def plan(self) -> Mapping[str, Any]: ...
    @property
    def hardware(self) -> Mapping[str, Any]: ...
    @property
    def interpreter(self) -> Mapping[str, str]: ...


def machine_checks(generation: Recorded, hardware: Hardware | None = None) -> list[Check]:
    """Packages and disk; for a CUDA environment driver and GPU, asked of the machine unless given."""
    checks = [packages_check(generation), disk_check(generation.folder)]
    torch = cuda_build(generation.plan)
    if torch is not None:
        hardware = hardware or detect(generation.folder)
        checks += [driver_check(torch, hardware), capability_check(torch, hardware)]
    return checks


def told_by_plan(generation: Recorded) -> list[str]:
    """Probes that hold the interpreter and the device against what was planned."""
    names: list[str] = []
    version, arch = generation.interpreter.get("version"), generation.hardware.get("arch")
    if version and arch:
        names.append(f"python:{version}:{arch}")
    accelerator = generation.plan.get("accelerator")
    if accelerator in ("cuda", "mps") and "torch" in generation.packages:
        names.append(f"device:{accelerator}")
    return names


def packages_check(generation: Recorded) -> Check:
    """Every locked package lies there once, in its version, with its list of files."""
    found: dict[str, list[str]] = {}
    for each in read_inventory(generation.env):
        found.setdefault(each.name, []).append(each.version if each.has_record else f"{each.version} without RECORD")
    wrong = [
        f"{name} is {' and '.join(found[name]) if name in found else 'missing'} instead of {version}"
        for name, version in generation.packages.items()
        if len(found.get(name, ())) != 1 or not same_version(found[name][0], version)
    ]
    added = sorted(set(found) - set(generation.packages))
    if wrong:
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        return Check("packages", False, ", ".join(wrong[:3]) + more + ".", REMEDY)
    # What was added breaks nothing by itself; if it does, another check tells.
    more = f" Added from outside: {', '.join(added)}." if added else ""
    return Check("packages", True, f"All {len(generation.packages)} packages are there in their versions.{more}")


def disk_check(folder: Path) -> Check:
    """Room for a run to write into."""
    free = shutil.disk_usage(folder).free
    evidence = f"{in_words(free)} are free."
    if free < LEAST_FREE_BYTES:
        return Check("disk", False, evidence, "Free some space: a run could not save its checkpoints.")
    return Check("disk", True, evidence)


def model_type_check(env: Path, model_type: str) -> Check:
    """Whether this transformers names the type in its own tables; a type it does not name may still be known."""
    folder = site_packages(env) / "transformers/models/auto"
    tables = [*folder.glob("configuration_auto.py"), *folder.glob("auto_mappings.py")]
    named = any(f'"{model_type}",' in each.read_text(encoding="utf-8", errors="replace") for each in tables)
    evidence = f"transformers {'names' if named else 'does not name'} {model_type} among its models."
    return Check(f"model_type:{model_type}", named, evidence, None if named else REMEDY)


def cuda_build(plan: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the plan recorded of its CUDA build of torch (`build`, `driver`, `sm`); None for other builds."""
    torch: Mapping[str, Any] = plan.get("torch") or {}
    return torch if "cuda" in (plan.get("accelerator"), torch.get("accelerator")) else None


def driver_check(torch: Mapping[str, Any], hardware: Hardware) -> Check:
    """The driver against what the CUDA build needs."""
    build, least = torch["build"], torch.get("driver")
    if not hardware.driver:
        why = f" {hardware.notes[0]}" if hardware.notes else ""
        evidence = f"This is a CUDA build and there is no NVIDIA driver that it could use.{why}"
        return Check("driver", False, evidence, "Install the NVIDIA driver.")
    if least and numbers(hardware.driver) < numbers(least):
        evidence = f"Driver {hardware.driver} is too old: {build} needs {least} or newer."
        return Check("driver", False, evidence, "Update the NVIDIA driver, or install the dependencies again.")
    return Check("driver", True, f"Driver {hardware.driver} can use {build}.")


def capability_check(torch: Mapping[str, Any], hardware: Hardware) -> Check:
    """Every GPU that programs may see against what the wheel has kernels for."""
    build, compiled = torch["build"], tuple(torch.get("sm") or ())
    seen = torch.get("devices") or ()
    known = [
        gpu for number, gpu in enumerate(hardware.gpus) if gpu.compute_capability and (not seen or str(number) in seen)
    ]
    for gpu in known:
        if compiled and not has_kernels(capability(gpu), compiled):
            return Check(
                "capability",
                False,
                f"{gpu.name} has compute capability {gpu.compute_capability}; {build} is built for {', '.join(compiled)}.",
                "Install the dependencies again: another build is chosen for this GPU.",
            )
    names = ", ".join(f"{gpu.name} ({gpu.compute_capability})" for gpu in known) or "no GPU that tells its capability"
    return Check("capability", True, f"{build} has kernels for {names}.")
