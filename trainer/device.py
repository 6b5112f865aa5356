"""Which device, precision and number of threads a run uses, each with its reason in words."""

from __future__ import annotations

import os
import platform
from typing import Any

import psutil
import torch

from trainer.errors import TrainError
from trainer.needs import BF16_INSTRUCTIONS

_THIS_PROCESS = psutil.Process()  # made once: it is asked at every step
# Parameters below which a second thread costs more in waiting than it computes, and below which a third does.
TINY_MODEL, SMALL_MODEL = 3_000_000, 20_000_000


def choose_device(asked: str) -> tuple[str, str]:
    """The device, and why; raises `TrainError` when the asked one is not here."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked == "auto":
        device = next(name for name, here in there.items() if here)
        return device, f"{device}: the fastest device that this environment's torch can use"
    if not there[asked]:
        raise TrainError(
            "device-missing",
            f"This environment's torch cannot use '{asked}' here.",
            "Choose device `auto`, or install an environment for that device.",
        )
    return asked, f"{asked}: as asked"


def choose_precision(asked: str, device: str, *, bf16_is_exact: bool) -> tuple[str, str]:
    """The precision of the matrix products, and why."""
    if asked == "auto":
        if device == "cuda" and torch.cuda.is_bf16_supported():
            return "bf16", "bf16: this GPU computes in it"
        if device == "cpu" and bf16_is_exact and cpu_computes_bf16():
            return "bf16", "bf16: the model is stored in it, and this processor computes in it"
        return "fp32", f"fp32: the safe choice on {device}"
    if asked == "fp16" and device == "cpu":
        raise TrainError("precision-unsupported", "A CPU does not train in fp16.", "Choose `auto`, `fp32` or `bf16`.")
    return asked, f"{asked}: as asked"


def cpu_computes_bf16() -> bool:
    """Whether the processor has instructions for products in bf16 that torch uses (AMX, AVX-512 BF16)."""
    return any(torch.cpu.get_capabilities().get(name) for name in BF16_INSTRUCTIONS)


def choose_base_precision(asked: str, precision: str) -> tuple[str, str]:
    """The precision of the frozen weights, and why."""
    if asked == "auto" and precision == "bf16":
        return "bf16", "base in bf16: as the products are, at half the memory"
    if asked == "auto":
        return "fp32", "base in fp32: nothing is rounded"
    return asked, f"base in {asked}: as asked"


def choose_threads(asked: int | None, model: Any) -> tuple[int, str]:
    """How many CPU threads, and why."""
    if asked:
        return asked, f"{asked}: as asked"
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if parameters < TINY_MODEL:
        return 1, f"1: a model of {parameters / 1e6:.1f}M parameters waits longer for a second thread than it gains"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if parameters < SMALL_MODEL and cores > 2:
        return 2, f"2: a model of {parameters / 1e6:.1f}M parameters waits longer for a third thread than it gains"
    return cores, f"{cores}: one a core"


def hardware(device: str) -> str:
    """The machine in words; asked only once the device is chosen, because it looks at CUDA."""
    machine = f"{_processor()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 1e9:.0f} GB memory"
    if device != "cuda":
        return machine
    about = torch.cuda.get_device_properties(0)
    return f"{about.name} with {about.total_memory / 1e9:.0f} GB; {machine}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            names = [line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def memory_in_use(device: str) -> int:
    """Memory of the run in bytes: the most so far on CUDA, else what this process holds now."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return int(_THIS_PROCESS.memory_info().rss)
