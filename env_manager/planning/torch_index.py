"""Which build of torch a machine needs: driver, GPU, system, Python and release against what the indexes hold."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from env_manager.errors import EnvError
from env_manager.hardware import Gpu, Hardware
from env_manager.planning.catalog import Catalog, TorchIndex, Wheels, numbers
from env_manager.planning.torch_fit import (
    Limit,
    Refusal,
    Wanted,
    capability,
    described,
    dotted,
    has_kernels,
    least_driver,
    named,
    refusal_of,
    row_for,
    why_no_row,
)


@dataclass(frozen=True)
class Asked:
    """What the user decided in place of the machine; None leaves it to Fettle."""

    accelerator: str | None = None  # "cpu", "mps" or the name of a CUDA index
    gpu: int | None = None  # which GPU decides, counted as nvidia-smi counts

    @classmethod
    def of(cls, accelerator: str | None, gpu: int | None) -> Asked:
        """As given on a command line, where "auto" is the same as nothing."""
        return cls(None if accelerator in (None, "", "auto") else accelerator, gpu)


def visible_devices(devices: Sequence[str]) -> dict[str, str]:
    """What lets CUDA see only these GPUs, named by number or UUID; nothing for all, or where the user limits them."""
    if not devices or "CUDA_VISIBLE_DEVICES" in os.environ:
        return {}
    # Numbers are nvidia-smi's, which go by slot; CUDA's own order puts the fastest first.
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(devices)}


@dataclass(frozen=True)
class TorchChoice:
    """Which build of torch this machine needs, and why."""

    build: str  # "cpu", "mps", the name of a CUDA index, or "none" where no build fits the system
    local: str  # the local version that marks the build, "" where the default index serves it
    index_url: str | None  # PyTorch's own index for it; None where the default index serves it
    reason: str
    accelerator: str = "cpu"  # which packages go with it: those for "cpu", "cuda" or "mps"
    advice: tuple[str, ...] = ()  # what would make it better, or what speaks against what was asked for
    driver: str | None = None  # the least NVIDIA driver that it runs with
    sm: tuple[str, ...] = ()  # the capabilities that it has kernels for
    devices: tuple[str, ...] = ()  # the only GPUs that programs in this environment may see; empty: all of them

    def environ(self) -> dict[str, str]:
        """What limits a program to those GPUs."""
        return visible_devices(self.devices)


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
    wanted = Wanted(
        hardware,
        release,
        numbers(python or next(iter(catalog.python), ""))[:2],
        _deciding_gpu(hardware, asked),
        asked.gpu,
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
    aside = f"The catalog does not know torch {dotted(release)}; its build was chosen as for {dotted(nearest)}."
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
    known = [gpu for gpu in hardware.gpus if capability(gpu)]
    return min(known, key=capability, default=None)


def _newest_cuda(wanted: Wanted, catalog: Catalog) -> TorchChoice:
    refused: dict[str, Refusal] = {}
    for index in _of_cuda(catalog):
        row = row_for(index, wanted)
        if row and row.experimental:
            continue
        refusal = refusal_of(index, row, wanted)
        if refusal is None:
            return _cuda_choice(index, row, wanted, refused)
        refused[index.name] = refusal
    return _default_build(wanted, catalog, "cpu", f"{_why_no_cuda(wanted, refused)} Training runs on the CPU.")


def _of_cuda(catalog: Catalog) -> list[TorchIndex]:
    return [index for index in catalog.torch_indexes if index.accelerator == "cuda"]


def _cuda_choice(index: TorchIndex, row: Wheels | None, wanted: Wanted, refused: Mapping[str, Refusal]) -> TorchChoice:
    advice = []
    newer = next((name for name, refusal in refused.items() if refusal.limit == "driver"), None)
    if newer:
        advice.append(f"{refused[newer].why} Update the driver to get it.")
    if wanted.gpu is None:
        advice.append("What the GPU can do is not known: the build was chosen by the driver alone.")
    for gpu in wanted.hardware.gpus:
        if row and row.sm and not has_kernels(capability(gpu), row.sm):
            advice.append(f"{index.name} has no kernels for {named(gpu)}: it cannot be used with this build.")
    who = named(wanted.gpu) if wanted.gpu else "The GPU"
    without_kernels = _first(refused, "gpu")
    older = f"; {without_kernels} has no kernels for it" if without_kernels else ""
    reason = f"{who} with driver {wanted.hardware.driver} takes {index.name}, the newest that fits{older}."
    return _choice(index, row, wanted, "cuda", reason, tuple(advice))


def _first(refused: Mapping[str, Refusal], limit: Limit) -> str | None:
    return next((name for name, refusal in refused.items() if refusal.limit == limit), None)


def _why_no_cuda(wanted: Wanted, refused: Mapping[str, Refusal]) -> str:
    by_driver = [refusal for refusal in refused.values() if refusal.limit == "driver"]
    if by_driver:
        # The last is the oldest CUDA, which asks least of the driver.
        return f"The NVIDIA driver is too old, so update it: {by_driver[-1].why}"
    if _first(refused, "gpu") and wanted.gpu:
        return f"{named(wanted.gpu)} is not supported by any build of torch {dotted(wanted.torch)}."
    return f"No CUDA index has a build of {described(wanted)}."


def _default_build(wanted: Wanted, catalog: Catalog, build: str, reason: str) -> TorchChoice:
    """The build without CUDA, which on Apple silicon uses the GPU."""
    index = next((index for index in catalog.torch_indexes if index.accelerator == "cpu"), None)
    if index is None:
        return TorchChoice(build, "", None, reason, accelerator=build)
    row = row_for(index, wanted)
    if index.wheels and row is None:
        return TorchChoice("none", "", None, why_no_row(index, wanted))
    choice = _choice(index, row, wanted, build, reason, ())
    # The local version "+cpu" does not exist on the default index, which serves Macs.
    return TorchChoice("mps", "", None, reason, "mps") if build == "mps" else choice


def _choice(
    index: TorchIndex, row: Wheels | None, wanted: Wanted, accelerator: str, reason: str, advice: tuple[str, ...]
) -> TorchChoice:
    by_default = wanted.hardware.os in index.default_on or bool(row and wanted.machine in row.default_on)
    local, url = ("", None) if by_default else (index.local, index.url)
    return TorchChoice(
        build=index.name,
        local=local,
        index_url=url,
        reason=reason,
        accelerator=accelerator,
        advice=advice,
        driver=least_driver(index, wanted.hardware),
        sm=row.sm if row else (),
        devices=_devices(row, wanted) if accelerator == "cuda" else (),
    )


def _devices(row: Wheels | None, wanted: Wanted) -> tuple[str, ...]:
    """The GPU that was chosen, or those that the build has kernels for if others stand beside them."""
    gpus = wanted.hardware.gpus if wanted.hardware.accelerator == "cuda" else ()
    compiled = row.sm if row else ()
    if wanted.chosen is not None:
        usable = [wanted.chosen]
    else:
        usable = [at for at, gpu in enumerate(gpus) if not compiled or has_kernels(capability(gpu), compiled)]
    if len(usable) in (0, len(gpus)):
        return ()
    return tuple(gpus[at].uuid or str(at) for at in usable)


def _as_asked(wanted: Wanted, catalog: Catalog, name: str) -> TorchChoice:
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
    row = row_for(index, wanted)
    refusal = refusal_of(index, row, wanted)
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
