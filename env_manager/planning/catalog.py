"""What a catalog holds: what to install, in which order, and why."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

PLATFORMS = ("linux", "macos", "windows")
ACCELERATORS = ("cuda", "mps", "rocm", "xpu", "cpu")


@dataclass(frozen=True)
class Package:
    """One exact pin and the machines it is for; `build` "torch" means it comes in builds per accelerator."""

    name: str
    version: str
    platforms: tuple[str, ...] = PLATFORMS
    architectures: tuple[str, ...] = ()
    accelerators: tuple[str, ...] = ACCELERATORS
    build: str | None = None
    optional: bool = False
    left_out: str | None = None


@dataclass(frozen=True)
class Step:
    """Packages installed together and then probed; an optional step may fail without failing the rest."""

    id: str
    title: str
    why: str
    packages: tuple[Package, ...]
    probe: tuple[str, ...]
    optional: bool = False


@dataclass(frozen=True)
class Hold:
    """An upper bound that every step keeps, also where a package's metadata would allow more."""

    requirement: str
    reason: str

    @property
    def name(self) -> str:
        return self.requirement.split("<")[0]

    @property
    def below(self) -> tuple[int, ...]:
        return numbers(self.requirement.split("<")[1])


@dataclass(frozen=True)
class Floor:
    """A lower bound: a resolve that goes below it has gone back in time and is refused."""

    requirement: str
    reason: str

    @property
    def name(self) -> str:
        return self.requirement.split(">=")[0]

    @property
    def least(self) -> tuple[int, ...]:
        return numbers(self.requirement.split(">=")[1])


@dataclass(frozen=True)
class Wheels:
    """What one index holds of some releases of torch: for which machines, Pythons and GPU generations."""

    torch: tuple[str, ...]  # the first and the last release
    python: tuple[str, ...]  # the first and the last
    machines: tuple[str, ...]
    sm: tuple[str, ...] = ()  # the capabilities that kernels were compiled for
    default_on: tuple[str, ...] = ()
    experimental: bool = False  # taken only when asked for by name
    glibc: str | None = None
    macos: str | None = None


@dataclass(frozen=True)
class TorchIndex:
    """A place with builds of torch for one accelerator, and the drivers they need; no `wheels` means all."""

    name: str
    url: str
    local: str
    accelerator: str
    default_on: tuple[str, ...] = ()
    linux_driver: str | None = None
    windows_driver: str | None = None
    wheels: tuple[Wheels, ...] = ()


@dataclass(frozen=True)
class Catalog:
    """Everything that can be planned from."""

    date: str
    python: tuple[str, ...]
    holds: tuple[Hold, ...]
    torch_indexes: tuple[TorchIndex, ...]
    steps: tuple[Step, ...]
    # Wheels above this are fetched so that they can be resumed.
    large_wheel_bytes: int = 32 * 1024**2
    floors: tuple[Floor, ...] = ()
    # The newest releases on the default index on `date`, by name.
    newest: tuple[tuple[str, str], ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def numbers(version: str) -> tuple[int, ...]:
    """The release numbers of a version, for comparing: "1.26.4+x" is (1, 26, 4)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()
