"""What this machine is: commands run at the edge, pure parsers inside."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Accelerator = Literal["cuda", "mps", "rocm", "xpu", "cpu"]
# A healthy nvidia-smi answers within two seconds; with a wedged driver it never does.
COMMAND_TIMEOUT_SECONDS = 15.0
_ARCHITECTURES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
_SYSTEMS = {"linux": "linux", "darwin": "macos", "win32": "windows"}


@dataclass(frozen=True)
class Gpu:
    """One graphics processor; `compute_capability` is NVIDIA's "major.minor", or AMD's gfx name."""

    name: str
    compute_capability: str | None
    memory_bytes: int | None


@dataclass(frozen=True)
class Nvidia:
    """What nvidia-smi told, or in `problem` why it told nothing."""

    driver: str | None = None
    cuda: str | None = None
    gpus: tuple[Gpu, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class Hardware:
    """The machine as far as an installation depends on it."""

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

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class CommandResult:
    """What a command printed; `problem` says why there is no usable answer."""

    output: str = ""
    returncode: int | None = None
    problem: Literal["missing", "hanging"] | None = None


Runner = Callable[[Sequence[str]], CommandResult]


def run_command(argv: Sequence[str]) -> CommandResult:
    """Run a detection command with a time limit; a missing or hanging one is an answer, not an error."""
    try:
        done = subprocess.run(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_TIMEOUT_SECONDS,
            text=True,
            errors="replace",
            check=False,
        )
    except subprocess.TimeoutExpired:
        return CommandResult(problem="hanging")
    except OSError:
        return CommandResult(problem="missing")
    return CommandResult(done.stdout, done.returncode)


def parse_cuda_version(smi_output: str) -> str | None:
    """The CUDA version in nvidia-smi's header; newer drivers call it "CUDA UMD Version"."""
    match = re.search(r"CUDA(?: UMD)? Version\s*:\s*(\d+\.\d+)", smi_output)
    return match.group(1) if match else None


def parse_gpu_query(output: str) -> tuple[tuple[Gpu, ...], str | None]:
    """GPUs and driver from `--query-gpu=name,compute_cap,memory.total,driver_version` in bare CSV."""
    gpus: list[Gpu] = []
    driver: str | None = None
    for line in output.splitlines():
        # The name is the only field that may hold a comma, so the line is read from its end.
        fields = [field.strip() for field in line.rsplit(",", 3)]
        if len(fields) != 4 or not re.fullmatch(r"\d+(\.\d+)+", fields[3]):
            continue
        capability = fields[1] if re.fullmatch(r"\d+\.\d+", fields[1]) else None
        memory = int(fields[2]) * 1024**2 if fields[2].isdigit() else None
        gpus.append(Gpu(fields[0], capability, memory))
        driver = fields[3]
    return tuple(gpus), driver


def nvidia_problem(query: CommandResult) -> str | None:
    """Why nvidia-smi gave no answer, in plain words, or None if it did or is not installed."""
    text = query.output.lower()
    if query.problem == "missing":
        return None
    if query.problem == "hanging":
        return f"nvidia-smi did not answer within {COMMAND_TIMEOUT_SECONDS:.0f} s: the NVIDIA driver hangs. Restart the machine."
    if "driver/library version mismatch" in text:
        return (
            "The NVIDIA driver was updated but the old one is still loaded"
            " (driver/library version mismatch). Restart the machine."
        )
    if "couldn't communicate with the nvidia driver" in text:
        return "nvidia-smi is installed but the NVIDIA driver is not running. Install or repair the driver."
    if "no devices were found" in text:
        return "The NVIDIA driver runs but sees no GPU."
    if query.returncode != 0:
        first = next((line.strip() for line in query.output.splitlines() if line.strip()), "no output")
        return f"nvidia-smi failed: {first}"
    return None


def detect_nvidia(run: Runner) -> Nvidia:
    """Ask nvidia-smi for driver, CUDA version and GPUs."""
    fields = "name,compute_cap,memory.total,driver_version"
    query = run(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"])
    problem = nvidia_problem(query)
    if query.problem or problem:
        return Nvidia(problem=problem)
    gpus, driver = parse_gpu_query(query.output)
    if not gpus:
        return Nvidia(problem="nvidia-smi answered in a form that Fettle does not know.")
    return Nvidia(driver, parse_cuda_version(run(["nvidia-smi"]).output), gpus)


def parse_rocminfo(output: str) -> tuple[Gpu, ...]:
    """AMD GPUs in rocminfo's list of agents; CPUs in the same list have no gfx name."""
    found: list[Gpu] = []
    for agent in re.split(r"\*{3,}\s*\n\s*Agent \d+", output)[1:]:
        name = re.search(r"^\s*Name:\s*(gfx[0-9a-f]+)\s*$", agent, re.MULTILINE)
        if name:
            market = re.search(r"^\s*Marketing Name:\s*(\S.*?)\s*$", agent, re.MULTILINE)
            found.append(Gpu(market.group(1) if market else name.group(1), name.group(1), None))
    return tuple(found)


def detect(root: Path | None = None, run: Runner = run_command) -> Hardware:
    """Detect this machine; `root` is the folder whose disk would hold environments."""
    system = _SYSTEMS.get(sys.platform, sys.platform)
    machine = platform.machine().lower()
    arch = _ARCHITECTURES.get(machine, machine)
    nvidia = Nvidia() if system == "macos" else detect_nvidia(run)
    gpus, accelerator = nvidia.gpus, _accelerator(system, arch, nvidia)
    notes = [nvidia.problem] if nvidia.problem else []
    if not gpus and system == "linux" and Path("/dev/kfd").exists():
        gpus = parse_rocminfo(run(["rocminfo"]).output)
        accelerator = "rocm" if gpus else "cpu"
    return Hardware(
        os=system,
        os_version=_os_version(system),
        arch=arch,
        cpu=_cpu_name(system, run),
        cores=_cores(),
        memory_bytes=_memory_bytes(system),
        disk_free_bytes=_disk_free(root or Path.home()),
        gpus=gpus,
        driver=nvidia.driver,
        cuda=nvidia.cuda,
        accelerator=accelerator,
        notes=tuple(notes),
    )


def _accelerator(system: str, arch: str, nvidia: Nvidia) -> Accelerator:
    if nvidia.gpus:
        return "cuda"
    return "mps" if (system, arch) == ("macos", "aarch64") else "cpu"


def _os_version(system: str) -> str:
    if system == "macos":
        return platform.mac_ver()[0]
    if system == "linux":
        try:
            return platform.freedesktop_os_release().get("PRETTY_NAME", platform.release())
        except OSError:
            return platform.release()
    return platform.version()


def _cores() -> int:
    # Affinity tells what a container or batch system lets us use; cpu_count does not.
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_name(system: str, run: Runner) -> str:
    if system == "linux":
        try:
            text = Path("/proc/cpuinfo").read_text(errors="replace")
        except OSError:
            text = ""
        match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
        if match:
            return match.group(1).strip()
    if system == "macos":
        name = run(["sysctl", "-n", "machdep.cpu.brand_string"]).output.strip()
        if name:
            return name
    return platform.processor() or platform.machine()


def _memory_bytes(system: str) -> int | None:
    if system == "windows":
        return _windows_memory()
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _windows_memory() -> int | None:
    # MEMORYSTATUSEX: a length, a load, then seven 64-bit numbers of which the first is the total.
    status = (ctypes.c_ulonglong * 8)()
    ctypes.cast(status, ctypes.POINTER(ctypes.c_ulong))[0] = ctypes.sizeof(status)
    windll: Any = getattr(ctypes, "windll", None)
    if windll is None or not windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return int(status[1])


def _disk_free(folder: Path) -> int | None:
    for candidate in (folder, *folder.parents):
        try:
            return shutil.disk_usage(candidate).free
        except OSError:
            continue
    return None
