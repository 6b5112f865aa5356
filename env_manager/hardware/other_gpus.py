"""AMD and Intel GPUs, and NVIDIA ones that have no driver."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from env_manager.hardware.outside import Outside
from env_manager.hardware.record import Gpu

NVIDIA, AMD, INTEL = "10de", "1002", "8086"
_PCI = "/sys/bus/pci/devices"
_KFD = "/sys/class/kfd/kfd/topology/nodes"


@dataclass(frozen=True)
class Display:
    """A graphics device on the bus: its vendor's PCI number, and a name where the system has one."""

    vendor: str
    name: str


def parse_rocminfo(output: str) -> tuple[Gpu, ...]:
    """AMD GPUs in rocminfo's list of agents; CPUs in the same list have no gfx name."""
    found: list[Gpu] = []
    for agent in re.split(r"\*{3,}\s*\n\s*Agent \d+", output)[1:]:
        name = re.search(r"^\s*Name:\s*(gfx[0-9a-f]+)\s*$", agent, re.MULTILINE)
        if name:
            market = re.search(r"^\s*Marketing Name:\s*(\S.*?)\s*$", agent, re.MULTILINE)
            pool = re.search(r"Segment:\s*GLOBAL.*?Size:\s*(\d+)\(\S+\)\s*KB", agent, re.DOTALL)
            memory = int(pool.group(1)) * 1024 if pool else None
            found.append(Gpu(market.group(1) if market else name.group(1), name.group(1), memory))
    return tuple(found)


def parse_kfd_node(properties: str) -> str | None:
    """The gfx name in a node of the kernel's AMD topology; a CPU's node has version 0."""
    match = re.search(r"^gfx_target_version (\d+)$", properties, re.MULTILINE)
    version = int(match.group(1)) if match else 0
    if not version:
        return None
    # 90010 is gfx90a: major, two digits of minor, two of stepping, the stepping written in hexadecimal.
    return f"gfx{version // 10000}{version // 100 % 100}{version % 100:x}"


def detect_amd(outside: Outside) -> tuple[Gpu, ...]:
    """AMD GPUs that the ROCm driver has taken, named by rocminfo or else by the kernel."""
    if outside.system != "linux" or not outside.names(_KFD):
        return ()
    told = parse_rocminfo(outside.said("rocminfo")) or parse_rocminfo(outside.said("/opt/rocm/bin/rocminfo"))
    if told:
        return told
    nodes = (outside.read(f"{_KFD}/{node}/properties") or "" for node in outside.names(_KFD))
    return tuple(Gpu(f"AMD {name}", name, None) for name in map(parse_kfd_node, nodes) if name)


def parse_video_controllers(output: str) -> tuple[Display, ...]:
    """Graphics devices in Windows' list as JSON; one device comes without the list around it."""
    try:
        rows = json.loads(output)
    except ValueError:
        return ()
    found: list[Display] = []
    for row in rows if isinstance(rows, list) else [rows]:
        vendor = re.search(r"VEN_([0-9A-F]{4})", str(row.get("PNPDeviceID"))) if isinstance(row, dict) else None
        if vendor:
            found.append(Display(vendor.group(1).lower(), str(row.get("Name"))))
    return tuple(found)


def displays(outside: Outside) -> tuple[Display, ...]:
    """Every graphics device that the system lists, with a driver or without."""
    if outside.system == "windows":
        query = "Get-CimInstance Win32_VideoController | Select-Object Name,PNPDeviceID | ConvertTo-Json"
        return parse_video_controllers(outside.said("powershell", "-NoProfile", "-NonInteractive", "-Command", query))
    found: list[Display] = []
    for slot in outside.names(_PCI):
        kind = (outside.read(f"{_PCI}/{slot}/class") or "").strip()
        if kind.startswith("0x03"):
            vendor = (outside.read(f"{_PCI}/{slot}/vendor") or "").strip().removeprefix("0x")
            device = (outside.read(f"{_PCI}/{slot}/device") or "").strip().removeprefix("0x")
            found.append(Display(vendor, f"graphics device {vendor}:{device}"))
    return tuple(found)
