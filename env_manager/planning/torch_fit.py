"""Whether one index of builds fits a machine: its system, Python, GPU and driver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from env_manager.hardware import Gpu, Hardware
from env_manager.planning.catalog import TorchIndex, Wheels, numbers

Limit = Literal["platform", "driver", "gpu"]


@dataclass(frozen=True)
class Refusal:
    """Which of a machine's limits an index is beyond, in words."""

    limit: Limit
    why: str


@dataclass(frozen=True)
class Wanted:
    """A machine with a release of torch and a Python: what wheels are looked up by."""

    hardware: Hardware
    torch: tuple[int, ...]
    python: tuple[int, ...]
    gpu: Gpu | None  # the one that decides
    chosen: int | None = None  # its number, where the user named it

    @property
    def machine(self) -> str:
        return f"{self.hardware.os}-{self.hardware.arch}"


def row_for(index: TorchIndex, wanted: Wanted) -> Wheels | None:
    """What the index holds for this system, Python and release; an index without rows is not asked."""
    for row in index.wheels:
        if (
            wanted.machine in row.machines
            and within(wanted.torch, row.torch)
            and (not wanted.python or within(wanted.python, row.python))
            and not too_old_system(row, wanted.hardware)
        ):
            return row
    return None


def within(version: tuple[int, ...], ends: tuple[str, ...]) -> bool:
    """Whether a release lies between a first and a last one."""
    return numbers(ends[0]) <= version <= numbers(ends[1])


def too_old_system(row: Wheels, hardware: Hardware) -> str | None:
    """Why the system is too old for these wheels, or None."""
    # "musl" has no number and so is below every glibc.
    glibc = numbers((hardware.libc or "").removeprefix("glibc "))
    if hardware.os == "linux" and row.glibc and hardware.libc and glibc < numbers(row.glibc):
        return f"torch needs glibc {row.glibc} or newer; this system has {hardware.libc}."
    version = numbers(hardware.os_version)
    if hardware.os == "macos" and row.macos and version and version < numbers(row.macos):
        return f"torch needs macOS {row.macos} or newer; this is {hardware.os_version}."
    return None


def refusal_of(index: TorchIndex, row: Wheels | None, wanted: Wanted) -> Refusal | None:
    """Why this machine cannot use the index, or None."""
    if index.wheels and row is None:
        return Refusal("platform", why_no_row(index, wanted))
    if wanted.gpu and row and row.sm and not has_kernels(capability(wanted.gpu), row.sm):
        return Refusal("gpu", f"{index.name} has no kernels for {named(wanted.gpu)}.")
    minimum = least_driver(index, wanted.hardware)
    if minimum and numbers(wanted.hardware.driver or "") < numbers(minimum):
        driver = wanted.hardware.driver or "that is not there"
        return Refusal("driver", f"{index.name} needs NVIDIA driver {minimum} or newer, not {driver}.")
    return None


def has_kernels(needed: tuple[int, ...], compiled: tuple[str, ...]) -> bool:
    """Kernels run on the generation that they were compiled for: same major number, no lower minor one."""
    return not needed or any(numbers(each)[0] == needed[0] and numbers(each) <= needed for each in compiled)


def why_no_row(index: TorchIndex, wanted: Wanted) -> str:
    """Why the index holds nothing for this machine."""
    rows = [row for row in index.wheels if wanted.machine in row.machines and within(wanted.torch, row.torch)]
    old = next(filter(None, (too_old_system(row, wanted.hardware) for row in rows)), None)
    return old or f"{index.name} has no build of {described(wanted)}."


def least_driver(index: TorchIndex, hardware: Hardware) -> str | None:
    """The least NVIDIA driver that the index needs here."""
    # Inside WSL the driver is the one of Windows, with its numbers.
    on_windows = hardware.os == "windows" or hardware.wsl is not None
    return index.windows_driver if on_windows else index.linux_driver


def described(wanted: Wanted) -> str:
    """The wanted build in words."""
    torch, python = dotted(wanted.torch), dotted(wanted.python)
    return f"torch {torch} for {wanted.hardware.os} {wanted.hardware.arch} with Python {python}"


def dotted(version: tuple[int, ...]) -> str:
    """A release as it is written."""
    return ".".join(map(str, version))


def named(gpu: Gpu) -> str:
    """A GPU with its capability, in words."""
    return f"{gpu.name} (compute capability {gpu.compute_capability})"


def capability(gpu: Gpu) -> tuple[int, ...]:
    """A GPU's compute capability as numbers; empty where it is not known."""
    return numbers(gpu.compute_capability or "")
