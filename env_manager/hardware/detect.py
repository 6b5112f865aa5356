"""Puts the record of this machine together."""

from __future__ import annotations

from pathlib import Path

from env_manager.hardware import folder, system
from env_manager.hardware.nvidia import Nvidia, detect_nvidia
from env_manager.hardware.other_gpus import INTEL, NVIDIA, Display, detect_amd, displays
from env_manager.hardware.outside import Outside
from env_manager.hardware.record import Accelerator, Gpu, Hardware


def detect(root: Path | None = None, outside: Outside | None = None) -> Hardware:
    """Detect this machine; `root` is the folder whose disk would hold environments."""
    outside = outside or Outside.here()
    root = root or Path.home()
    arch = system.true_arch(outside)
    cpu, memory, version = system.cpu_name(outside), system.memory(outside), system.os_version(outside)
    wsl, sets, long_paths = system.wsl(outside), system.instruction_sets(outside), folder.long_paths(outside)
    nvidia = detect_nvidia(outside)
    accelerator, gpus, listed = _graphics(outside, arch, cpu, memory, nvidia)
    return Hardware(
        os=outside.system,
        os_version=version,
        arch=arch,
        cpu=cpu,
        cores=system.cores(outside),
        memory_bytes=memory,
        disk_free_bytes=folder.free_bytes(root),
        gpus=gpus,
        driver=nvidia.driver,
        cuda=nvidia.cuda,
        accelerator=accelerator,
        notes=tuple(
            [
                *_gpu_notes(outside, nvidia, listed, wsl),
                *_system_notes(outside, arch, version, sets, long_paths),
            ]
        ),
        instruction_sets=sets,
        libc=system.libc(outside),
        wsl=wsl,
        container=system.container(outside),
        case_sensitive=folder.case_sensitive(root),
        long_paths=long_paths,
    )


def _graphics(
    outside: Outside, arch: str, cpu: str, memory: int | None, nvidia: Nvidia
) -> tuple[Accelerator, tuple[Gpu, ...], tuple[Display, ...]]:
    """What can compute here, on which GPUs, and what else the system lists; NVIDIA goes before all others."""
    if nvidia.gpus:
        return "cuda", nvidia.gpus, ()
    if outside.system == "macos":
        # The GPU of Apple silicon works in the machine's own memory.
        return ("mps", (Gpu(cpu, None, memory),), ()) if arch == "aarch64" else ("cpu", (), ())
    amd = detect_amd(outside)
    listed = displays(outside)
    if amd:
        return "rocm", amd, listed
    intel = tuple(Gpu(f"Intel {each.name}", None, None) for each in listed if each.vendor == INTEL)
    return ("xpu", intel, listed) if intel else ("cpu", (), listed)


def _gpu_notes(outside: Outside, nvidia: Nvidia, listed: tuple[Display, ...], wsl: int | None) -> list[str]:
    notes = [nvidia.problem] if nvidia.problem else []
    if not nvidia.gpus and not nvidia.problem and any(each.vendor == NVIDIA for each in listed):
        notes.append("An NVIDIA GPU is in this machine but no driver for it. Install NVIDIA's driver to train on it.")
    if wsl == 1:
        notes.append("The first kind of Windows' Subsystem for Linux has no access to GPUs. Convert it to WSL 2.")
    if wsl == 2 and not nvidia.gpus:
        notes.append("No NVIDIA GPU is visible in WSL 2. If there is one, install or update its driver in Windows.")
    hidden = outside.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and nvidia.gpus:
        which = f"only to {hidden}" if hidden.strip() not in ("", "-1") else "to none of them"
        notes.append(f"CUDA_VISIBLE_DEVICES limits programs started here {which}; Fettle's training too.")
    return notes


def _system_notes(
    outside: Outside, arch: str, version: str, sets: tuple[str, ...], long_paths: bool | None
) -> list[str]:
    notes = []
    if outside.system == "macos":
        major = version.split(".")[0]
        if major.isdigit() and int(major) < 14:
            notes.append(f"macOS {version} is older than 14, which current builds of torch are made for. Update macOS.")
        if arch != outside.arch:
            notes.append("Fettle runs in an Intel Python that Rosetta translates. Environments get a native one.")
    if arch == "x86_64" and sets and "avx2" not in sets:
        notes.append("This processor has no AVX2 instructions: training on it is slow, and some packages may not run.")
    if long_paths is False:
        notes.append("Windows' long paths are switched off: keep Fettle's folder near the root of a drive.")
    return notes
