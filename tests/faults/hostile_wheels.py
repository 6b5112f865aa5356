"""Wheels made by somebody who means harm: each tries to write outside its environment, or to be two things at once."""

from __future__ import annotations

import base64
import hashlib
import io
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

NAME, MODULE = "fx-first", "fx_first"
INFO = f"{MODULE}-1.0.dist-info"
DATA = f"{MODULE}-1.0.data"
FILE_NAME = f"{MODULE}-1.0-py3-none-any.whl"
CANARY = "canary.txt"
GOOD = b'__version__ = "1.0"\n'
EVIL = b'__version__ = "evil"\n'

Entries = list[tuple[zipfile.ZipInfo, bytes]]


def entry(path: str, mode: int = 0o644 | stat.S_IFREG) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0))
    # Set again, as the constructor changes what it is given.
    made.filename = path
    made.external_attr, made.create_system = mode << 16, 3
    made.compress_type = zipfile.ZIP_DEFLATED
    return made


def entries(
    more: Mapping[str, bytes] | None = None,
    *,
    metadata: str = f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n",
    record: str = "",
    tag: str = "py3-none-any",
    info: str = INFO,
) -> Entries:
    """A good wheel with more files; `record` is added to the rows of its RECORD."""
    files = {f"{MODULE}/__init__.py": GOOD, **(more or {})}
    files[f"{info}/METADATA"] = metadata.encode()
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n".encode()
    rows = [f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in files.items()]
    files[f"{info}/RECORD"] = ("".join(rows) + record + f"{info}/RECORD,,\n").encode()
    return [(entry(path), data) for path, data in files.items()]


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def packed(content: Entries) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as wheel, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same name twice is what one of them is about
        for info, data in content:
            wheel.writestr(info, data)
    return out.getvalue()


def with_files(more: Callable[[Path], Mapping[str, bytes]]) -> Callable[[Path], bytes]:
    return lambda outside: packed(entries(more(outside)))


def up(path: str) -> Callable[[Path], bytes]:
    """A wheel with a file whose path begins there and climbs to the root, then to the folder outside."""
    return with_files(lambda outside: {f"{path}{'../' * 40}{str(outside).lstrip('/')}/{CANARY}": b"out"})


def absolute(prefix: str = "") -> Callable[[Path], bytes]:
    return with_files(lambda outside: {f"{prefix}{outside}/{CANARY}": b"out"})


def backslashes(outside: Path) -> bytes:
    return packed(entries({"..\\" * 40 + str(outside).lstrip("/").replace("/", "\\") + f"\\{CANARY}": b"out"}))


def through_a_link(outside: Path) -> bytes:
    """A symbolic link to the folder outside, then a file below it."""
    link = (entry(f"{MODULE}/link", 0o777 | stat.S_IFLNK), str(outside).encode())
    return packed([*entries(), link, (entry(f"{MODULE}/link/{CANARY}"), b"out")])


def link_alone(outside: Path) -> bytes:
    """A symbolic link to what only the user may read."""
    return packed([*entries(), (entry(f"{MODULE}/link", 0o777 | stat.S_IFLNK), str(outside).encode())])


def entry_point(name: str) -> Callable[[Path], bytes]:
    """A launcher of that name."""
    text = f"[console_scripts]\n{{}} = {MODULE}:main\n"
    return lambda outside: packed(
        entries({f"{INFO}/entry_points.txt": text.format(name.replace("OUT", str(outside))).encode()})
    )


def two_wheels(first: bytes, second: bytes) -> Callable[[Path], bytes]:
    """Two whole archives, one after the other: who reads from the front sees another than who reads from the end."""

    def build(outside: Path) -> bytes:
        def one(source: bytes) -> bytes:
            return packed(
                [(info, source if info.filename.endswith("__init__.py") else data) for info, data in entries()]
            )

        return one(first) + one(second)

    return build


def other_name_inside(outside: Path) -> bytes:
    """The name before the file's bytes is another than the one in the table of contents."""
    data = packed(entries({f"{MODULE}/aaaaaaaa.py": EVIL}))
    first = data.index(f"{MODULE}/aaaaaaaa.py".encode())
    return data[:first] + f"{MODULE}/bbbbbbbb.py".encode() + data[first + len(f"{MODULE}/aaaaaaaa.py") :]


def twice(outside: Path) -> bytes:
    """The same path with two contents."""
    return packed([*entries(), (entry(f"{MODULE}/__init__.py"), EVIL)])


def garbage_before(outside: Path) -> bytes:
    """A program before the archive, as in archives that unpack themselves."""
    return b"MZ" + b"\0" * 4000 + packed(entries())


def garbage_after(outside: Path) -> bytes:
    return packed(entries()) + b"#!/bin/sh\n" * 100


def false_end(outside: Path) -> bytes:
    """A comment at the end that holds the end record of another table of contents."""
    good = packed(entries())
    end = good.rindex(b"PK\x05\x06")
    comment = b"x" * 10 + good[end:]
    return good[:end] + good[end : end + 20] + struct.pack("<H", len(comment)) + comment


def lying_size(outside: Path) -> bytes:
    """100 MB of zeros that say they are 10 bytes, in both places."""
    data = packed(entries({f"{MODULE}/zeros.bin": b"\0" * 100_000_000}))
    real, said = struct.pack("<L", 100_000_000), struct.pack("<L", 10)
    assert data.count(real) == 2
    return data.replace(real, said)


def without_record(outside: Path) -> bytes:
    return packed([each for each in entries() if not each[0].filename.endswith("RECORD")])


def without_metadata(outside: Path) -> bytes:
    return packed([each for each in entries() if not each[0].filename.endswith("METADATA")])


def record_names_what_is_not_there(outside: Path) -> bytes:
    return packed(entries(record=f"{MODULE}/nowhere.py,sha256={_digest(b'')},0\n"))


def record_names_the_outside(outside: Path) -> bytes:
    """Who deletes the package by its RECORD deletes a file of the user's."""
    own = outside / "own.txt"
    own.write_text("mine")
    return packed(entries(record=f"{'../' * 40}{str(own).lstrip('/')},sha256={_digest(b'mine')},4\n"))


def runs_at_start(name: str, code: str) -> Callable[[Path], bytes]:
    """A file that Python runs whenever it starts, and that leaves its mark outside."""
    return with_files(lambda outside: {name: code.replace("OUT", str(outside / CANARY)).encode()})


def of_another(outside: Path) -> bytes:
    """The file is called after one package, its metadata after another."""
    return packed(entries(metadata="Metadata-Version: 2.1\nName: fx-evil\nVersion: 1.0\n"))


def of_another_version(outside: Path) -> bytes:
    return packed(entries(metadata=f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 6.6\n"))


def info_of_another(outside: Path) -> bytes:
    return packed(entries(info="fx_evil-1.0.dist-info"))


MARK = "open('OUT', 'a').write('ran ')"
RUNS = with_files(lambda outside: {f"{DATA}/scripts/python": b"#!/bin/sh\ntouch %a\n" % str(outside / CANARY)})
RUNS_TOO = with_files(lambda outside: {f"{DATA}/data/bin/python": b"#!/bin/sh\ntouch %a\n" % str(outside / CANARY)})
# uv leaves out what leads outside and installs the rest; what stays inside under a strange name is harmless.
TAMED: dict[str, Callable[[Path], bytes]] = {
    "climbs": up(""),
    "climbs-from-a-package": up(f"{MODULE}/"),
    "absolute": absolute(),
    "backslashes": backslashes,
    "link": link_alone,
    "data-climbs": up(f"{DATA}/data/"),
    "data-absolute": absolute(f"{DATA}/data/"),
    "script-climbs": up(f"{DATA}/scripts/"),
    "purelib-climbs": up(f"{DATA}/purelib/"),
    "headers-climb": up(f"{DATA}/headers/"),
    "record-of-nothing": record_names_what_is_not_there,
    "record-of-the-outside": record_names_the_outside,
}
REFUSED: dict[str, Callable[[Path], bytes]] = {
    "through-a-link": through_a_link,
    "script-is-python": RUNS,
    "data-is-python": RUNS_TOO,
    "launcher-is-python": entry_point("python"),
    "launcher-climbs": entry_point("../" * 40 + "OUT/" + CANARY),
    "launcher-absolute": entry_point("OUT/" + CANARY),
    "two-wheels": two_wheels(GOOD, EVIL),
    "two-wheels-the-other-way": two_wheels(EVIL, GOOD),
    "other-name-inside": other_name_inside,
    "twice": twice,
    "garbage-before": garbage_before,
    "garbage-after": garbage_after,
    "false-end": false_end,
    "lying-size": lying_size,
    "without-record": without_record,
    "without-metadata": without_metadata,
    "of-another": of_another,
    "of-another-version": of_another_version,
    "info-of-another": info_of_another,
}
AT_START: dict[str, Callable[[Path], bytes]] = {
    "zz_autorun.pth": runs_at_start("zz_autorun.pth", f"import os; {MARK}\n"),
    "sitecustomize.py": runs_at_start("sitecustomize.py", MARK + "\n"),
}
