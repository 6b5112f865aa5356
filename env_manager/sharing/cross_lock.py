"""Locks for machines that are not here: resolved by their platform, or refused with the reason."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from env_manager.errors import EnvError, UvFailed
from env_manager.fetching.wheel_sizes import WheelSizes
from env_manager.generations import Store
from env_manager.hardware import Accelerator, Gpu, Hardware
from env_manager.planning.age import refuse_below_floors
from env_manager.planning.catalog import Catalog
from env_manager.planning.interpreter import choose_interpreter
from env_manager.planning.plan import Plan, make_plan
from env_manager.planning.resolve import Lock, optional_culprits, resolve
from env_manager.planning.torch_source import find_torch
from env_manager.sharing.exchange import MARK, Origin
from env_manager.uv import Uv

Planned = Callable[..., Plan]
Os = Literal["linux", "windows", "macos"]
# As uv names platforms: glibc of PyTorch's own wheels, macOS on Apple silicon.
_PLATFORMS: dict[str, tuple[str, str]] = {
    "linux": ("x86_64", "x86_64-manylinux_2_28"),
    "windows": ("x86_64", "x86_64-pc-windows-msvc"),
    "macos": ("aarch64", "aarch64-apple-darwin"),
}
_ACCELERATORS: dict[str, tuple[Accelerator, ...]] = {
    "linux": ("cpu", "cuda"),
    "windows": ("cpu", "cuda"),
    "macos": ("cpu", "mps"),
}
# A driver that every CUDA index accepts, and a card of a generation that all of them have kernels for.
_DRIVER, _CUDA, _GPU = "580.65.06", "13.0", Gpu("NVIDIA, capability 8.6", "8.6", None)


@dataclass(frozen=True)
class CrossLock:
    """A lock for another machine, with the plan behind it; `text` is a file that `fettle env import` takes there."""

    origin: Origin
    plan: Plan
    lock: Lock

    @property
    def text(self) -> str:
        return f"{MARK}{json.dumps(asdict(self.origin))}\n{self.lock.text}"


def target_hardware(os: str, accelerator: str) -> Hardware:
    """A machine of that kind, as far as a plan depends on it; impossible pairs are refused."""
    allowed = _ACCELERATORS.get(os, ())
    chosen = next((each for each in allowed if each == accelerator), None)
    if chosen is None:
        possible = ", ".join(f"{name} with {' or '.join(kinds)}" for name, kinds in _ACCELERATORS.items())
        raise EnvError(
            "target-impossible", f"There is no {os} machine with {accelerator} to lock for.", f"Possible: {possible}."
        )
    gpus, driver, cuda = ((_GPU,), _DRIVER, _CUDA) if chosen == "cuda" else ((), None, None)
    return Hardware(
        os=os,
        os_version="",
        arch=_PLATFORMS[os][0],
        cpu="",
        cores=1,
        memory_bytes=None,
        disk_free_bytes=None,
        gpus=gpus,
        driver=driver,
        cuda=cuda,
        accelerator=chosen,
    )


def cross_lock(
    store: Store,
    os: str,
    accelerator: str,
    python: str,
    catalog: Catalog,
    *,
    allow_large: bool = False,
    log: Callable[[str], None] = lambda line: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> CrossLock:
    """Resolve the catalog for another machine, wheels only, with hashes.

    What the reachable indexes do not have raises the same error as it would there: nothing is made up.
    """
    hardware = target_hardware(os, accelerator)
    if python not in catalog.python:
        raise EnvError(
            "target-impossible",
            f"This stack is not made for Python {python}.",
            f"Choose one of {', '.join(sorted(catalog.python))}.",
        )
    target = ("--python-platform", _PLATFORMS[os][1], "--python-version", python)
    with tempfile.TemporaryDirectory(prefix="fettle-lock-") as scratch:
        folder = Path(scratch)
        # torch's wheels are for macOS 14; without a word uv resolves for 13, and a year back.
        uv = Uv.create(store.cache, log, cancelled).with_environ(MACOSX_DEPLOYMENT_TARGET="14.0")
        planned = partial(make_plan, hardware, catalog, python=python)
        here = Path(choose_interpreter(uv, (python, *catalog.python), store.pythons, folder).path)
        plan, lock = _resolve(uv.for_target(target), planned, catalog, here, folder, store, allow_large)
    refuse_below_floors(lock.versions, catalog)
    url = plan.source.index_url if plan.source else None
    origin = Origin(os, hardware.arch, plan.accelerator, python, plan.torch.build if url else None)
    return CrossLock(origin, plan, lock)


def _resolve(
    uv: Uv, planned: Planned, catalog: Catalog, python: Path, folder: Path, store: Store, allow_large: bool
) -> tuple[Plan, Lock]:
    sizes = WheelSizes(store.wheel_sizes)
    source = find_torch(planned(), catalog, uv, python, folder, sizes, allow_large)
    plan = planned(source=source)
    try:
        return plan, resolve(plan, uv, python, folder)
    except UvFailed as error:
        without = optional_culprits(plan, error)
        if not without:
            raise
        plan = planned(source=source, without=without)
        return plan, resolve(plan, uv, python, folder)
