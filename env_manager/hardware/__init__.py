"""What this machine is: commands and files are read at the edge, everything else is pure parsing."""

from __future__ import annotations

from env_manager.hardware.detect import detect
from env_manager.hardware.nvidia import Nvidia, detect_nvidia
from env_manager.hardware.outside import CommandResult, Outside, Runner, run_command
from env_manager.hardware.record import Accelerator, Gpu, Hardware

__all__ = [
    "Accelerator",
    "CommandResult",
    "Gpu",
    "Hardware",
    "Nvidia",
    "Outside",
    "Runner",
    "detect",
    "detect_nvidia",
    "run_command",
]
