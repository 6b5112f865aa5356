"""The most memory that this process has held, and how its allocator treats what was freed."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from trainer.memory.estimate import CUDA_CONTEXT

# mallopt's parameters: bytes from which a block is mapped for itself, and leaves at once; bytes that are kept at the end.
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
AT_ONCE, MOST_KEPT = 128 << 10, 32 << 20  # the least block that may be mapped for itself, and the largest that need not


def begin(device: str) -> None:
    """Count the peak from now on, where the system can; elsewhere it stays that of the whole process."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak(device: str) -> int:
    """The most bytes since `begin`: of tensors and the driver's context on CUDA, else of the process's memory."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated()) + CUDA_CONTEXT
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    about = psutil.Process().memory_info()
    return int(getattr(about, "peak_wset", about.rss))


def keep_freed() -> bool:
    """Have memory that a step frees wait for the next one; returns whether this allocator can.

    glibc gives back what lies free at its end, which is nearly everything after each step, and each page costs a fault
    when it is needed again: a tenth of a step at 6M. The peak stays.
    """
    return _mallopt(MMAP_THRESHOLD, MOST_KEPT) and _mallopt(TRIM_THRESHOLD, 2**31 - 1)


def give_back_at_once() -> bool:
    """Have freed tensors leave the process at once; returns whether this allocator can.

    glibc keeps freed blocks for later, but cannot reuse aligned ones of the same size, so that a process grows to
    up to several times what it needs. Giving back costs page faults: steps took a third to twice as long where measured.
    """
    return _mallopt(MMAP_THRESHOLD, AT_ONCE)


def _mallopt(parameter: int, value: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries than glibc have none
    return mallopt is not None and mallopt(parameter, value) == 1
