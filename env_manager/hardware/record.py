"""The record of a machine, as a plan is made from it and a generation keeps it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Accelerator = Literal["cuda", "mps", "rocm", "xpu", "cpu"]
# Told with the rest, but different from one minute to the next.
_FLEETING = ("disk_free_bytes", "notes")
_FLEETING_OF_GPU = ("free_bytes",)


@dataclass(frozen=True)
class Gpu:
    """One graphics processor; `compute_capability` is NVIDIA's "major.minor", or AMD's gfx name."""

    name: str
    compute_capability: str | None
    memory_bytes: int | None
    free_bytes: int | None = None
    uuid: str | None = None


@dataclass(frozen=True)
class Hardware:
    """The machine as far as an installation depends on it; None stands for what could not be learned."""

    os: str
    os_version: str
    arch: str
    cpu: str
    cores: int
    memory_bytes: int | None
    disk_free_bytes: int | None
    gpus: tuple[Gpu, ...]
    driver: str | None
    cuda: str | None
    accelerator: Accelerator
    notes: tuple[str, ...] = ()
    instruction_sets: tuple[str, ...] = ()
    libc: str | None = None  # "glibc 2.36" or "musl"; Linux only
    wsl: int | None = None  # 1 or 2 inside Windows' Subsystem for Linux
    container: str | None = None  # docker, podman, lxc, kubernetes, ...
    case_sensitive: bool | None = None  # of the folder that holds environments
    long_paths: bool | None = None  # whether paths above 260 characters work

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def identity(self) -> dict[str, Any]:
        """What stays the same until somebody changes the machine: without free space, free memory and notes."""
        found = {name: value for name, value in asdict(self).items() if name not in _FLEETING}
        found["gpus"] = [
            {name: value for name, value in asdict(gpu).items() if name not in _FLEETING_OF_GPU} for gpu in self.gpus
        ]
        return found
