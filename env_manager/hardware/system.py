"""System, processor, memory, and what the system runs inside of."""

from __future__ import annotations

import ctypes
import math
import platform
import re
from collections.abc import Mapping
from typing import Any

from env_manager.hardware.outside import Outside

# What numerical libraries choose their kernels by, under the names that Linux gives them.
_TOLD_SETS = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2", "sme"),
)
# Intel Macs write them in capitals, Apple silicon as features of the Arm architecture.
_MAC_NAMES = {
    **{"SSE4.2": "sse4_2", "AVX1.0": "avx", "AVX2": "avx2", "FMA": "fma", "F16C": "f16c", "AVX512F": "avx512f"},
    **{"FEAT_FP16": "asimdhp", "FEAT_DotProd": "asimddp", "FEAT_BF16": "bf16", "FEAT_I8MM": "i8mm", "FEAT_SME": "sme"},
}
# Numbers of IsProcessorFeaturePresent, from winnt.h.
_WINDOWS_FEATURES = {38: "sse4_2", 39: "avx", 40: "avx2", 41: "avx512f", 43: "asimddp"}
_CPU_KEY = r"HKLM\HARDWARE\DESCRIPTION\System\CentralProcessor\0"


def os_version(outside: Outside) -> str:
    """The system's version as its maker writes it."""
    if outside.system == "macos":
        return outside.said("sw_vers", "-productVersion").strip() or platform.mac_ver()[0]
    if outside.system == "windows":
        return parse_windows_version(outside.said("cmd", "/c", "ver")) or platform.version()
    return parse_os_release(outside.read("/etc/os-release") or outside.read("/usr/lib/os-release") or "") or (
        platform.release()
    )


def parse_os_release(text: str) -> str | None:
    """The full name in an os-release file."""
    match = re.search(r"""^PRETTY_NAME=["']?(.*?)["']?\s*$""", text, re.MULTILINE)
    return match.group(1) if match else None


def parse_windows_version(text: str) -> str | None:
    """Windows 10 and 11 share version 10.0: the build tells them apart."""
    match = re.search(r"(\d+)\.(\d+)\.(\d+)(?:\.\d+)?", text)
    if not match:
        return None
    name = "11" if int(match.group(3)) >= 22000 else match.group(1)
    return f"{name} ({match.group()})"


def libc(outside: Outside) -> str | None:
    """The C library: wheels of torch need glibc."""
    if outside.system != "linux":
        return None
    match = re.search(r"(\d+\.\d+)\s*$", outside.said("getconf", "GNU_LIBC_VERSION"))
    if match:
        return f"glibc {match.group(1)}"
    musl = any(name.startswith("ld-musl-") for name in outside.names("/lib"))
    return "musl" if musl else None


def wsl(outside: Outside) -> int | None:
    """1 or 2 inside Windows' Subsystem for Linux, else None."""
    release = outside.read("/proc/sys/kernel/osrelease") or "" if outside.system == "linux" else ""
    if "microsoft" not in release.lower():
        return None
    # The first kind's kernel is Windows itself, "4.4.0-19041-Microsoft"; the second's a real Linux.
    return 2 if "wsl2" in release.lower() or "microsoft-standard" in release else 1


def container(outside: Outside) -> str | None:
    """What kind of container this is, or None."""
    if outside.system != "linux":
        return None
    return parse_container(
        names=outside.names("/") + tuple(f"run/{name}" for name in outside.names("/run")),
        systemd=outside.read("/run/systemd/container") or "",
        cgroup=outside.read("/proc/1/cgroup") or "",
        environ=outside.environ,
    )


def parse_container(names: tuple[str, ...], systemd: str, cgroup: str, environ: Mapping[str, str]) -> str | None:
    """The container by the marks that its maker leaves; Kubernetes first, whose pods look like other kinds too."""
    if environ.get("KUBERNETES_SERVICE_HOST") or "kubepods" in cgroup:
        return "kubernetes"
    if "run/.containerenv" in names or environ.get("container") == "podman":
        return "podman"
    if ".dockerenv" in names or "/docker" in cgroup:
        return "docker"
    if "/lxc" in cgroup or environ.get("container") == "lxc":
        return "lxc"
    return systemd.strip() or None


def cpu_name(outside: Outside) -> str:
    """The processor's name for people."""
    name = None
    if outside.system == "linux":
        name = parse_cpu_name(outside.read("/proc/cpuinfo") or "")
    elif outside.system == "macos":
        name = outside.said("sysctl", "-n", "machdep.cpu.brand_string").strip()
    elif outside.system == "windows":
        name = parse_registry(outside.said("reg", "query", _CPU_KEY, "/v", "ProcessorNameString"))
    return name or platform.processor() or outside.arch


def parse_cpu_name(cpuinfo: str) -> str | None:
    """The model in /proc/cpuinfo; many Arm kernels give none."""
    match = re.search(r"^model name\s*:\s*(\S.*?)\s*$", cpuinfo, re.MULTILINE)
    return match.group(1) if match else None


def parse_registry(output: str) -> str | None:
    """The value that `reg query` prints."""
    match = re.search(r"\sREG_\w+\s+(\S.*?)\s*$", output, re.MULTILINE)
    return match.group(1) if match else None


def instruction_sets(outside: Outside) -> tuple[str, ...]:
    """The processor's vector and matrix instructions, under Linux' names; empty where they cannot be learned."""
    if outside.system == "linux":
        return parse_cpu_flags(outside.read("/proc/cpuinfo") or "")
    if outside.system == "macos":
        asked = ("machdep.cpu.features", "machdep.cpu.leaf7_features", "hw.optional.arm")
        return parse_mac_features("".join(outside.run(("sysctl", name)).output for name in asked))
    return _windows_sets()


def parse_cpu_flags(cpuinfo: str) -> tuple[str, ...]:
    """Of the first processor's flags those that numerical code is chosen by."""
    match = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    flags = set(match.group(1).split()) if match else set()
    return tuple(name for name in _TOLD_SETS if name in flags)


def parse_mac_features(output: str) -> tuple[str, ...]:
    """The same from sysctl: lists of names on Intel, one switch a line on Apple silicon."""
    words = {word for line in re.findall(r"^machdep.*?:(.*)$", output, re.MULTILINE) for word in line.split()}
    words |= set(re.findall(r"hw\.optional\.arm\.(\w+): 1", output))
    found = {_MAC_NAMES[word] for word in words if word in _MAC_NAMES}
    if "hw.optional.arm" in output:
        found.add("asimd")
    return tuple(name for name in _TOLD_SETS if name in found)


def _windows_sets() -> tuple[str, ...]:
    windll: Any = getattr(ctypes, "windll", None)
    if windll is None:
        return ()
    return tuple(
        name for number, name in _WINDOWS_FEATURES.items() if windll.kernel32.IsProcessorFeaturePresent(number)
    )


def cores(outside: Outside) -> int:
    """The cores that this process may use, a container's share included."""
    share = parse_cpu_quota(outside.read("/sys/fs/cgroup/cpu.max") or "") if outside.system == "linux" else None
    return min(outside.cores, share) if share else outside.cores


def parse_cpu_quota(cpu_max: str) -> int | None:
    """Whole cores in a cgroup's "quota period"; None without a limit."""
    match = re.fullmatch(r"(\d+) (\d+)\s*", cpu_max)
    return max(1, math.ceil(int(match.group(1)) / int(match.group(2)))) if match else None


def memory(outside: Outside) -> int | None:
    """The memory that this process may use, in bytes, a container's limit included."""
    if outside.system == "macos":
        said = outside.said("sysctl", "-n", "hw.memsize").strip()
        return int(said) if said.isdigit() else None
    if outside.system == "windows":
        return _windows_memory()
    total = parse_meminfo(outside.read("/proc/meminfo") or "")
    limits = [outside.read(f"/sys/fs/cgroup/{name}") or "" for name in ("memory.max", "memory/memory.limit_in_bytes")]
    # Without a limit the first says "max" and the second a number above any machine's memory.
    known = [int(each) for each in map(str.strip, limits) if each.isdigit()]
    return min([total, *known]) if total else None


def parse_meminfo(text: str) -> int | None:
    """All memory in /proc/meminfo, in bytes."""
    match = re.search(r"^MemTotal:\s*(\d+) kB", text, re.MULTILINE)
    return int(match.group(1)) * 1024 if match else None


def _windows_memory() -> int | None:
    # MEMORYSTATUSEX: a length, a load, then seven 64-bit numbers of which the first is the total.
    status = (ctypes.c_ulonglong * 8)()
    ctypes.cast(status, ctypes.POINTER(ctypes.c_ulong))[0] = ctypes.sizeof(status)
    windll: Any = getattr(ctypes, "windll", None)
    if windll is None or not windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return int(status[1])


def true_arch(outside: Outside) -> str:
    """The processor's architecture, also for an Intel Python that Apple's Rosetta translates."""
    if outside.system == "macos" and outside.arch == "x86_64":
        return "aarch64" if outside.said("sysctl", "-n", "hw.optional.arm64").strip() == "1" else "x86_64"
    return outside.arch
