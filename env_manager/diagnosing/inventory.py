"""The packages that lie in an environment: versions, builds, wheel tags, what they ask for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from env_manager.proving.verify import site_packages


@dataclass(frozen=True)
class Distribution:
    """One metadata folder."""

    name: str
    version: str
    folder: Path
    tags: tuple[str, ...]
    requires: tuple[str, ...]
    has_record: bool

    @property
    def local(self) -> str:
        """The part of the version that marks a build, as "cpu" in 2.13.0+cpu."""
        return self.version.partition("+")[2]

    def wants(self, package: str) -> str | None:
        """The exact version of another package that this one was made for."""
        for line in self.requires:
            found = re.match(rf"{re.escape(package)}\s*\(?==\s*([^\s;,)]+)\)?", line)
            if found:
                return found.group(1)
        return None


def read_inventory(env: Path) -> list[Distribution]:
    """Every package of the environment; one that is there twice comes twice."""
    found = []
    for info in sorted(site_packages(env).glob("*.dist-info")):
        name, _, version = info.name.removesuffix(".dist-info").rpartition("-")
        metadata = _text(info / "METADATA")
        found.append(
            Distribution(
                re.sub(r"[-_.]+", "-", name).lower(),
                version,
                info,
                tuple(re.findall(r"^Tag:\s*(\S+)", _text(info / "WHEEL"), re.MULTILINE)),
                tuple(re.findall(r"^Requires-Dist:\s*(.+?)\s*$", metadata, re.MULTILINE)),
                bool(_text(info / "RECORD")),
            )
        )
    return found


def same_version(one: str, other: str) -> bool:
    """Whether two versions name one release; a build that only one of them tells does not count."""
    if "+" in one and "+" in other:
        return one == other
    return one.partition("+")[0] == other.partition("+")[0]


def torch_build(env: Path) -> tuple[str, str | None] | None:
    """Version of the torch that lies there and the CUDA it was built for; None if there is no torch."""
    text = _text(site_packages(env) / "torch" / "version.py")
    version = re.search(r"__version__\s*(?::[^=]*)?=\s*['\"]([^'\"]+)", text)
    cuda = re.search(r"^cuda\s*(?::[^=]*)?=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    return (version.group(1), cuda.group(1) if cuda else None) if version else None


def numpy_version(env: Path) -> str | None:
    """The version that the code of numpy calls itself; None if it does not tell."""
    found = re.search(
        r"""^(?:short_)?version\s*=\s*["'](\d[\w.]*)""", _text(site_packages(env) / "numpy/version.py"), re.MULTILINE
    )
    return found.group(1) if found else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def fits(tag: str, python: str, system: str, arch: str, libc: str = "glibc") -> str | None:
    """Why a wheel with this tag is not for that Python ("3.11"), system, architecture and C library; None if it is."""
    parts = tag.split("-")
    if len(parts) != 3:
        return None
    major, minor = python.split(".")[:2]
    pythons, abis, platforms = (part.split(".") for part in parts)
    if "abi3" in abis:
        oldest = min((int(each[3:]) for each in pythons if re.fullmatch(r"cp3\d+", each)), default=0)
        right_python = int(minor) >= oldest
    else:
        # Pure Python of an older minor version fits, compiled code does not.
        older = {f"py{major}{each}" for each in range(int(minor) + 1)}
        right_python = any(each in (f"cp{major}{minor}", f"py{major}") or each in older for each in pythons)
    if not right_python:
        return f"made for Python {parts[0]}, this is {python}"
    return None if any(_platform_fits(each, system, arch, libc) for each in platforms) else f"made for {parts[2]}"


def _platform_fits(platform: str, system: str, arch: str, libc: str) -> bool:
    if platform == "any":
        return True
    many = "musllinux" if libc.startswith("musl") else "manylinux"
    starts = {"linux": (many, "linux"), "macos": ("macosx",), "windows": ("win",)}
    ends = {"x86_64": ("x86_64", "amd64", "universal2"), "aarch64": ("aarch64", "arm64", "universal2")}
    return platform.startswith(starts.get(system, ("",))) and platform.endswith(ends.get(arch, ("",)))
