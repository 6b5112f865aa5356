"""What lies behind the words of a failing check: a library for another system, a wheel that was never whole."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from env_manager.generations import Generation
from env_manager.proving import verify
from env_manager.proving.file_record import RECORD_NAME, unrecorded
from env_manager.proving.verify import site_packages

_MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64", 21: "ppc64le", 22: "s390x"}
_MOST_NAMED = 20


def foreign_libraries(generation: Generation, said: str) -> Iterator[str]:
    """Of the libraries that a check complains of those that were built for another machine or Python, in words."""
    arch = generation.hardware.get("arch", "")
    named = re.findall(r"[^\s:'\"(),]+\.(?:so|dylib|pyd|dll)\b[\w.]*", said)
    for path in list(dict.fromkeys(named))[:_MOST_NAMED]:
        file = Path(path)
        if file.is_absolute() and file.is_relative_to(generation.env) and file.is_file():
            made_for = built_for(file, "linux" if arch and generation.hardware.get("os") == "linux" else "")
            if made_for and made_for != arch:
                yield f"{file.name} is built for {made_for}, this is {arch}."
    yield from _of_other_python(generation, said)


def built_for(file: Path, system: str) -> str | None:
    """The processor of a Linux library, or the system that another one was built for; None where it does not tell."""
    try:
        with file.open("rb") as data:
            head = data.read(64)
    except OSError:
        return None
    if head[:4] == b"\x7fELF" and len(head) == 64:
        (machine,) = struct.unpack_from(">H" if head[5] == 2 else "<H", head, 18)
        return _MACHINES.get(machine, f"processor {machine}")
    if system != "linux":
        return None
    if head[:4] in (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe"):
        return "macOS"
    return "Windows" if head[:2] == b"MZ" else None


def _of_other_python(generation: Generation, said: str) -> Iterator[str]:
    """A compiled module that is not found because only one for another Python is there."""
    own = generation.interpreter.get("version", "").replace(".", "")
    missing = re.findall(r"No module named '([\w.]+)'", said)
    missing += [
        f"{b}.{a}" for a, b in re.findall(r"cannot import name '(\w+)' from (?:partially[^']*)?'([\w.]+)'", said)
    ]
    for module in dict.fromkeys(missing):
        *parents, name = module.split(".")
        folder = site_packages(generation.env).joinpath(*parents)
        for file in sorted(folder.glob(f"{name}.c*")) if own and name.isidentifier() else ():
            tag = re.search(r"\.(?:cpython-|cp)(3\d+)\D", file.name)
            if tag and tag.group(1) != own:
                yield f"{module} is there as {file.name}, for Python 3.{tag.group(1)[1:]}."


def cut_modules(generation: Generation, said: str) -> Iterator[str]:
    """Modules that lack what others import from them, because they are not as their package lists them."""
    named = re.findall(r"cannot import name '\w+' from '[\w.]+' \(([^)]+\.py)\)", said)
    site = site_packages(generation.env)
    damaged = {str(site / each.path): each for each in verify.against_records(generation.env)} if named else {}
    yield from (f"{damaged[path]}, by its package's own list." for path in dict.fromkeys(named) if path in damaged)


def cut_libraries(generation: Generation, said: str) -> Iterator[Path]:
    """Libraries that end before the tables that their own header names; what loads one may crash."""
    if not re.search(r"\(SIG(BUS|SEGV)\)", said):
        return
    for file in sorted(site_packages(generation.env).rglob("*.so*")):
        try:
            with file.open("rb") as data:
                head = data.read(64)
                size = os.fstat(data.fileno()).st_size
        except OSError:
            continue  # a link that leads nowhere is what other checks tell
        if head[:6] == b"\x7fELF\x02\x01" and len(head) == 64:
            (at,) = struct.unpack_from("<Q", head, 40)
            entry, count = struct.unpack_from("<HH", head, 58)
            if at + entry * count > size:
                yield file


def other_library_path(generation: Generation, said: str) -> str | None:
    """Where a variable leads to a library that the environment has its own of, if a check complains of one."""
    if not re.search(r"undefined symbol|symbol lookup error|version [`'\w.]+ not found|shared object", said):
        return None
    own = {file.name for file in generation.env.rglob("*.so*")}
    for name in ("LD_LIBRARY_PATH", "LD_PRELOAD"):
        for place in filter(None, re.split(r"[:\s]", os.environ.get(name, ""))):
            path = Path(place)
            for file in sorted(path.glob("*.so*")) if path.is_dir() else [path]:
                if file.name in own and file.is_file():
                    return f"{name} leads to {file}, which the environment has its own of."
    return None


def not_as_packed(generation: Generation) -> str | None:
    """A file that is not as its wheel lists it; asked only where something fails, since some wheels list wrongly."""
    damage = [each for each in verify.against_records(generation.env) if not each.path.endswith("/RECORD")]
    return f"{damage[0]}, by its package's own list." if damage else None


def added_from_outside(generation: Generation) -> list[str]:
    """Files that the installation did not make, those that Python runs at its start first."""
    added = unrecorded(generation.env, generation.folder / RECORD_NAME)
    return sorted(added, key=lambda path: not re.search(r"\.pth$|(site|user)customize", path))
