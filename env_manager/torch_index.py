"""Which build of torch a machine needs: driver, GPU, system, Python and release against what the indexes hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from env_manager.catalog import Catalog, TorchIndex, Wheels, numbers
from env_manager.errors import EnvError
from env_manager.hardware import Gpu, Hardware

Limit = Literal["platform", "driver", "gpu"]


@dataclass(frozen=True)
class Asked:
    """What the user decided in place of the machine; None leaves it to Fettle."""

    accelerator: str | None = None  # "cpu", "mps" or the name of a CUDA index
    gpu: int | None = None  # which GPU decides, counted as nvidia-smi counts

    @classmethod
    def of(cls, accelerator: str | None, gpu: int | None) -> Asked:
        """As given on a command line, where "auto" is the same as nothing."""
        return cls(None if accelerator in (None, "", "auto") else accelerator, gpu)


@dataclass(frozen=True)
class TorchChoice:
    """Which build of torch this machine needs, and why."""

    build: str  # "cpu", "mps", the name of a CUDA index, or "none" where no build fits the system
    local: str  # the local version that marks the build, "" where the default index serves it
    index_url: str | None  # PyTorch's own index for it; None where the default index serves it
    reason: str
    accelerator: str = "cpu"  # which packages go with it: those for "cpu", "cuda" or "mps"
    advice: tuple[str, ...] = ()  # what would make it better, or what speaks against what was asked for


@dataclass(frozen=True)
class _Refusal:
    limit: Limit
    why: str


@dataclass(frozen=True)
class _Wanted:
    """A machine with a release of torch and a Python: what wheels are looked up by."""

    hardware: Hardware
    torch: tuple[int, ...]
    python: tuple[int, ...]
    gpu: Gpu | None

    @property
    def machine(self) -> str:
        return f"{self.hardware.os}-{self.hardware.arch}"


def choose_torch(
    hardware: Hardware,
    catalog: Catalog,
    *,
    torch: str | None = None,
    python: str | None = None,
    asked: Asked = Asked(),
) -> TorchChoice:
    """The build of torch for this machine: what the user asked for, else the newest that driver and GPU allow.

    `torch` and `python` are those that will be installed; without them the catalog's. Raises an
    EnvError where an accelerator or GPU was asked for that is not there.
    """
    release, aside = _known_release(numbers(torch or _pinned(catalog))[:2], catalog)
    wanted = _Wanted(
        hardware, release, numbers(python or next(iter(catalog.python), ""))[:2], _deciding_gpu(hardware, asked)
    )
    if asked.accelerator:
        choice = _as_asked(wanted, catalog, asked.accelerator)
    elif hardware.accelerator == "cuda":
        choice = _newest_cuda(wanted, catalog)
    elif hardware.accelerator == "mps":
        choice = _default_build(wanted, catalog, "mps", "Apple silicon: the default build of torch uses its GPU.")
    elif hardware.accelerator in ("rocm", "xpu"):
        kind = {"rocm": "AMD", "xpu": "Intel"}[hardware.accelerator]
        reason = f"{kind} GPUs are not used by this version of Fettle: training runs on the CPU."
        choice = _default_build(wanted, catalog, "cpu", reason)
    else:
        choice = _default_build(wanted, catalog, "cpu", "No GPU was found: training runs on the CPU.")
    return replace(choice, advice=(*choice.advice, aside)) if aside else choice


def _pinned(catalog: Catalog) -> str:
    return next((each.version for step in catalog.steps for each in step.packages if each.name == "torch"), "")


def _known_release(release: tuple[int, ...], catalog: Catalog) -> tuple[tuple[int, ...], str | None]:
    """The release, or the nearest that the catalog knows, with a word about it."""
    rows = [row for index in catalog.torch_indexes for row in index.wheels]
    if not rows or not release:
        return release, None
    first, last = min(numbers(row.torch[0]) for row in rows), max(numbers(row.torch[1]) for row in rows)
    nearest = min(max(release, first), last)
    if nearest == release:
        return release, None
    aside = f"The catalog does not know torch {_dotted(release)}; its build was chosen as for {_dotted(nearest)}."
    return nearest, aside


def _deciding_gpu(hardware: Hardware, asked: Asked) -> Gpu | None:
    """The GPU that was asked for, else the oldest: a build without its kernels would fail in the middle of a run."""
    if asked.gpu is not None:
        of_nvidia = hardware.gpus if hardware.accelerator == "cuda" else ()
        if not 0 <= asked.gpu < len(of_nvidia):
            there = ", ".join(f"{number}: {gpu.name}" for number, gpu in enumerate(of_nvidia)) or "none"
            raise EnvError(
                "gpu-unknown",
                f"There is no NVIDIA GPU number {asked.gpu} here. There is {there}.",
                "Name one of them, or none: then the oldest decides.",
            )
        return of_nvidia[asked.gpu]
    known = [gpu for gpu in hardware.gpus if _capability(gpu)]
    return min(known, key=_capability, default=None)


def _capability(gpu: Gpu) -> tuple[int, ...]:
    return numbers(gpu.compute_capability or "")


def _newest_cuda(wanted: _Wanted, catalog: Catalog) -> TorchChoice:
    refused: dict[str, _Refusal] = {}
    for index in _of_cuda(catalog):
        row = _row(index, wanted)
        if row and row.experimental:
            continue
        refusal = _refusal(index, row, wanted)
        if refusal is None:
            return _cuda_choice(index, row, wanted, refused)
        refused[index.name] = refusal
    return _default_build(wanted, catalog, "cpu", f"{_why_no_cuda(wanted, refused)} Training runs on the CPU.")


def _of_cuda(catalog: Catalog) -> list[TorchIndex]:
    return [index for index in catalog.torch_indexes if index.accelerator == "cuda"]


def _row(index: TorchIndex, wanted: _Wanted) -> Wheels | None:
    """What the index holds for this system, Python and release; an index without rows is not asked."""
    for row in index.wheels:
        if (
            wanted.machine in row.machines
            and _within(wanted.torch, row.torch)
            and (not wanted.python or _within(wanted.python, row.python))
            and not _too_old_system(row, wanted.hardware)
        ):
            return row
    return None


def _within(version: tuple[int, ...], ends: tuple[str, ...]) -> bool:
    return numbers(ends[0]) <= version <= numbers(ends[1])


def _too_old_system(row: Wheels, hardware: Hardware) -> str | None:
    # "musl" has no number and so is below every glibc.
    glibc = numbers((hardware.libc or "").removeprefix("glibc "))
    if hardware.os == "linux" and row.glibc and hardware.libc and glibc < numbers(row.glibc):
        return f"torch needs glibc {row.glibc} or newer; this system has {hardware.libc}."
    version = numbers(hardware.os_version)
    if hardware.os == "macos" and row.macos and version and version < numbers(row.macos):
        return f"torch needs macOS {row.macos} or newer; this is {hardware.os_version}."
    return None


def _refusal(index: TorchIndex, row: Wheels | None, wanted: _Wanted) -> _Refusal | None:
    """Why this machine cannot use the index, or None."""
    if index.wheels and row is None:
        return _Refusal("platform", _why_no_row(index, wanted))
    if wanted.gpu and row and row.sm and not _has_kernels(_capability(wanted.gpu), row.sm):
        return _Refusal("gpu", f"{index.name} has no kernels for {_named(wanted.gpu)}.")
    minimum = _driver_minimum(index, wanted.hardware)
    if minimum and numbers(wanted.hardware.driver or "") < numbers(minimum):
        driver = wanted.hardware.driver or "that is not there"
        return _Refusal("driver", f"{index.name} needs NVIDIA driver {minimum} or newer, not {driver}.")
    return None


def _has_kernels(capability: tuple[int, ...], compiled: tuple[str, ...]) -> bool:
    """Kernels run on the generation that they were compiled for: same major number, no lower minor one."""
    return not capability or any(numbers(each)[0] == capability[0] and numbers(each) <= capability for each in compiled)


def _why_no_row(index: TorchIndex, wanted: _Wanted) -> str:
    rows = [row for row in index.wheels if wanted.machine in row.machines and _within(wanted.torch, row.torch)]
    old = next(filter(None, (_too_old_system(row, wanted.hardware) for row in rows)), None)
    return old or f"{index.name} has no build of {_described(wanted)}."


def _driver_minimum(index: TorchIndex, hardware: Hardware) -> str | None:
    # Inside WSL the driver is the one of Windows, with its numbers.
    on_windows = hardware.os == "windows" or hardware.wsl is not None
    return index.windows_driver if on_windows else index.linux_driver


def _described(wanted: _Wanted) -> str:
    torch, python = _dotted(wanted.torch), _dotted(wanted.python)
    return f"torch {torch} for {wanted.hardware.os} {wanted.hardware.arch} with Python {python}"


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _named(gpu: Gpu) -> str:
    return f"{gpu.name} (compute capability {gpu.compute_capability})"


def _cuda_choice(
    index: TorchIndex, row: Wheels | None, wanted: _Wanted, refused: Mapping[str, _Refusal]
) -> TorchChoice:
    advice = []
    newer = next((name for name, refusal in refused.items() if refusal.limit == "driver"), None)
    if newer:
        advice.append(f"{refused[newer].why} Update the driver to get it.")
    if wanted.gpu is None:
        advice.append("What the GPU can do is not known: the build was chosen by the driver alone.")
    for gpu in wanted.hardware.gpus:
        if row and row.sm and not _has_kernels(_capability(gpu), row.sm):
            advice.append(f"{index.name} has no kernels for {_named(gpu)}: it cannot be used with this build.")
    who = _named(wanted.gpu) if wanted.gpu else "The GPU"
    without_kernels = _first(refused, "gpu")
    older = f"; {without_kernels} has no kernels for it" if without_kernels else ""
    reason = f"{who} with driver {wanted.hardware.driver} takes {index.name}, the newest that fits{older}."
    return _choice(index, row, wanted, "cuda", reason, tuple(advice))


def _first(refused: Mapping[str, _Refusal], limit: Limit) -> str | None:
    return next((name for name, refusal in refused.items() if refusal.limit == limit), None)


def _why_no_cuda(wanted: _Wanted, refused: Mapping[str, _Refusal]) -> str:
    by_driver = [refusal for refusal in refused.values() if refusal.limit == "driver"]
    if by_driver:
        # The last is the oldest CUDA, which asks least of the driver.
        return f"The NVIDIA driver is too old, so update it: {by_driver[-1].why}"
    if _first(refused, "gpu") and wanted.gpu:
        return f"{_named(wanted.gpu)} is not supported by any build of torch {_dotted(wanted.torch)}."
    return f"No CUDA index has a build of {_described(wanted)}."


def _default_build(wanted: _Wanted, catalog: Catalog, build: str, reason: str) -> TorchChoice:
    """The build without CUDA, which on Apple silicon uses the GPU."""
    index = next((index for index in catalog.torch_indexes if index.accelerator == "cpu"), None)
    if index is None:
        return TorchChoice(build, "", None, reason, accelerator=build)
    row = _row(index, wanted)
    if index.wheels and row is None:
        return TorchChoice("none", "", None, _why_no_row(index, wanted))
    choice = _choice(index, row, wanted, build, reason, ())
    # The local version "+cpu" does not exist on the default index, which serves Macs.
    return TorchChoice("mps", "", None, reason, "mps") if build == "mps" else choice


def _choice(
    index: TorchIndex, row: Wheels | None, wanted: _Wanted, accelerator: str, reason: str, advice: tuple[str, ...]
) -> TorchChoice:
    by_default = wanted.hardware.os in index.default_on or bool(row and wanted.machine in row.default_on)
    local, url = ("", None) if by_default else (index.local, index.url)
    return TorchChoice(index.name, local, url, reason, accelerator, advice)


def _as_asked(wanted: _Wanted, catalog: Catalog, name: str) -> TorchChoice:
    """What the user asked for: refused where no such build exists, with advice where this machine seems unfit."""
    if name in ("cpu", "mps"):
        if name == "mps" and wanted.hardware.accelerator != "mps":
            raise _unavailable(name, "mps is the GPU of Apple silicon, which this machine does not have.")
        return _default_build(wanted, catalog, name, f"You chose {name}.")
    index = next((each for each in _of_cuda(catalog) if each.name == name), None)
    if index is None:
        names = ", ".join(["auto", "cpu", "mps", *(each.name for each in _of_cuda(catalog))])
        raise EnvError(
            "accelerator-unknown",
            f"There is no accelerator {name!r}.",
            f"Choose one of: {names}.",
        )
    row = _row(index, wanted)
    refusal = _refusal(index, row, wanted)
    if refusal and refusal.limit == "platform":
        raise _unavailable(name, refusal.why)
    advice: tuple[str, ...] = ()
    if wanted.hardware.accelerator != "cuda":
        advice = ("No usable NVIDIA GPU was found here: with this build training runs on the CPU until there is one.",)
    elif refusal:
        advice = (f"{refusal.why} Training may fail with it.",)
    return _choice(index, row, wanted, "cuda", f"You chose {name}.", advice)


def _unavailable(name: str, why: str) -> EnvError:
    return EnvError(
        "accelerator-unavailable",
        f"{name} cannot be installed here: {why}",
        "Choose another one, or auto to let Fettle choose.",
    )
