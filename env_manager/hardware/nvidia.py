"""NVIDIA: what nvidia-smi tells, and what the driver's own files tell where nvidia-smi does not."""

from __future__ import annotations

import re
from dataclasses import dataclass

from env_manager.hardware import outside as edge
from env_manager.hardware.outside import CommandResult, Outside
from env_manager.hardware.record import Gpu

# Not always on the path: inside WSL2, and on Windows with drivers before 2021.
PLACES = {
    "linux": ("nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi"),
    "windows": (
        "nvidia-smi",
        r"C:\Windows\System32\nvidia-smi.exe",
        r"C:\Program Files\NVIDIA Corporation\NVSMI\nvidia-smi.exe",
    ),
}
# The name stands first: it alone may hold a comma, so lines are read from their end.
FIELDS: tuple[str, ...] = ("name", "uuid", "compute_cap", "memory.total", "memory.free", "driver_version")
_MIB = 1024**2


@dataclass(frozen=True)
class Nvidia:
    """What was learned of NVIDIA GPUs; `problem` says what stands in the way of using or knowing them."""

    driver: str | None = None
    cuda: str | None = None
    gpus: tuple[Gpu, ...] = ()
    problem: str | None = None


def parse_cuda_version(smi_output: str) -> str | None:
    """The CUDA version in nvidia-smi's header; drivers from 595 on call it "CUDA UMD Version"."""
    match = re.search(r"CUDA(?: UMD)? Version\s*:\s*(\d+\.\d+)", smi_output)
    return match.group(1) if match else None


def parse_driver_version(smi_output: str) -> str | None:
    """The driver in nvidia-smi's header."""
    match = re.search(r"Driver Version\s*:\s*(\d+(?:\.\d+)+)", smi_output)
    return match.group(1) if match else None


def parse_gpu_query(output: str, fields: tuple[str, ...] = FIELDS) -> tuple[tuple[Gpu, ...], str | None]:
    """GPUs and driver from `--query-gpu` with these fields in bare CSV; other lines are passed over."""
    gpus: list[Gpu] = []
    driver: str | None = None
    for line in output.splitlines():
        cells = [cell.strip() for cell in line.rsplit(",", len(fields) - 1)]
        row = dict(zip(fields, cells, strict=False))
        if len(cells) != len(fields) or not re.fullmatch(r"\d+(\.\d+)+", row["driver_version"]):
            continue
        driver = row["driver_version"]
        gpus.append(
            Gpu(
                name=row["name"],
                compute_capability=_matching(row.get("compute_cap"), r"\d+\.\d+"),
                memory_bytes=_mebibytes(row.get("memory.total")),
                free_bytes=_mebibytes(row.get("memory.free")),
                uuid=_matching(row.get("uuid"), r"(GPU|MIG)-[0-9a-fA-F-]+"),
            )
        )
    return tuple(gpus), driver


def _matching(cell: str | None, pattern: str) -> str | None:
    return cell if cell and re.fullmatch(pattern, cell) else None


def _mebibytes(cell: str | None) -> int | None:
    # "[N/A]" where GPU and CPU share one memory, "[Insufficient Permissions]" inside some containers.
    return int(cell) * _MIB if cell and cell.isdigit() else None


def problem_of(query: CommandResult) -> str | None:
    """Why nvidia-smi gave no answer, in plain words, or None if it did or is not installed."""
    text = query.output.lower()
    if query.problem == "missing":
        return None
    if query.problem == "hanging":
        limit = edge.COMMAND_TIMEOUT_SECONDS
        return f"nvidia-smi did not answer within {limit:.0f} s: the NVIDIA driver hangs. Restart the machine."
    if "driver/library version mismatch" in text:
        return (
            "The NVIDIA driver was updated but the old one is still loaded"
            " (driver/library version mismatch). Restart the machine."
        )
    if "couldn't communicate with the nvidia driver" in text:
        return "nvidia-smi is installed but the NVIDIA driver is not running. Install or repair the driver."
    if "no devices were found" in text:
        return "The NVIDIA driver runs but sees no GPU."
    if "gpu is lost" in text:
        return "The NVIDIA driver has lost a GPU. Restart the machine; if it happens again, check its power and slot."
    if query.returncode != 0:
        first = next((line.strip() for line in query.output.splitlines() if line.strip()), "no output")
        return f"nvidia-smi failed: {first}"
    return None


def parse_proc_version(text: str) -> str | None:
    """The loaded driver in /proc/driver/nvidia/version."""
    match = re.search(r"^NVRM version:.*?\s(\d+(?:\.\d+)+)\s", text, re.MULTILINE)
    return match.group(1) if match else None


def parse_proc_gpu(text: str) -> str | None:
    """The model in /proc/driver/nvidia/gpus/<bus>/information."""
    match = re.search(r"^Model:\s*(\S.*?)\s*$", text, re.MULTILINE)
    return match.group(1) if match else None


def detect_nvidia(outside: Outside | None = None) -> Nvidia:
    """Ask nvidia-smi for driver, CUDA version and GPUs; without it, read what the driver shows as files."""
    outside = outside or Outside.here()
    for program in PLACES.get(outside.system, ()):
        fields = FIELDS
        query = _query(outside, program, fields)
        if query.problem == "missing":
            continue
        if "is not a valid field to query" in query.output:
            # Drivers before 510 do not know compute_cap.
            fields = tuple(field for field in FIELDS if field != "compute_cap")
            query = _query(outside, program, fields)
        problem = problem_of(query)
        gpus, driver = parse_gpu_query(query.output, fields)
        if not gpus:
            known = "nvidia-smi answered in a form that Fettle does not know."
            header = "" if problem else outside.run([program]).output
            driver = _loaded_driver(outside) or parse_driver_version(header)
            return Nvidia(driver, parse_cuda_version(header), problem=problem or known)
        header = outside.run([program]).output
        return Nvidia(driver, parse_cuda_version(header), gpus, problem)
    return _without_smi(outside)


def _query(outside: Outside, program: str, fields: tuple[str, ...]) -> CommandResult:
    return outside.run([program, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"])


def _loaded_driver(outside: Outside) -> str | None:
    return parse_proc_version(outside.read("/proc/driver/nvidia/version") or "")


def _without_smi(outside: Outside) -> Nvidia:
    driver = _loaded_driver(outside)
    if driver is None:
        return Nvidia()
    folder = "/proc/driver/nvidia/gpus"
    told = (outside.read(f"{folder}/{name}/information") or "" for name in outside.names(folder))
    gpus = tuple(Gpu(model, None, None) for model in map(parse_proc_gpu, told) if model)
    return Nvidia(
        driver=driver,
        gpus=gpus,
        problem="The NVIDIA driver is loaded, but nvidia-smi is missing, so what the GPU can do is not known."
        " Install the driver's utilities.",
    )
