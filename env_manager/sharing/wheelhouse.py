"""A folder with every wheel of a generation, from which it can be installed without a network."""

from __future__ import annotations

import hashlib
import shutil
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import unquote, urlsplit

from env_manager import durable
from env_manager.errors import EnvError, InstallStopped, from_os
from env_manager.fetching.web import Access, CannotFollow
from env_manager.generations import Generation, Store
from env_manager.sharing.exchange import FILE_NAMES, export
from env_manager.uv import Uv

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_BLOCK = 1024 * 1024


@dataclass(frozen=True)
class Wheel:
    """One wheel of a generation: its file name, where it came from, its SHA-256."""

    package: str
    file_name: str
    address: str
    sha256: str


def wheels_of(generation: Generation) -> list[Wheel]:
    """The wheels that the generation was installed from, as its pylock names them."""
    try:
        rows = tomllib.loads((generation.folder / "pylock.toml").read_text(encoding="utf-8"))["packages"]
        return [_wheel(row["name"], row["wheels"][0]) for row in rows]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, IndexError, TypeError) as error:
        raise EnvError(
            "lock-damaged",
            f"The list of wheels of environment {generation.id} cannot be read.",
            "Export another environment, or install the dependencies again.",
        ) from error


def _wheel(package: str, row: dict[str, object]) -> Wheel:
    address = str(row.get("url") or row.get("path"))
    hashes = row["hashes"]
    assert isinstance(hashes, dict)
    return Wheel(package, unquote(urlsplit(address).path).rpartition("/")[2], address, str(hashes["sha256"]))


def fill(
    store: Store,
    generation: Generation,
    folder: Path,
    *,
    tell: Callable[[str], None] = lambda line: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[Wheel, ...]:
    """Put every wheel of a generation and its manifest into `folder`; each file is checked against the lock.

    The manifest comes last: a folder without it is not complete and is refused by an import. What is
    there already is kept, so that an interrupted export goes on where it stopped.
    """
    wheels = wheels_of(generation)
    uv = Uv.create(store.cache, lambda line: None, cancelled)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        manifest = folder / FILE_NAMES["json"]
        manifest.unlink(missing_ok=True)
        for wheel in wheels:
            if cancelled():
                raise InstallStopped()
            tell(wheel.file_name)
            _bring(store, generation, wheel, folder / wheel.file_name, uv)
        durable.replace_text(manifest, export(generation, "json"))
    except OSError as error:
        raise from_os(error, "write the folder of wheels") from error
    return tuple(wheels)


def _bring(store: Store, generation: Generation, wheel: Wheel, target: Path, uv: Uv) -> None:
    if target.is_file() and _sha256(target) == wheel.sha256:
        return
    partial = target.with_name(f".{target.name}.part")
    kept = next(iter((store.root / "wheels" / wheel.sha256).glob("*.whl")), None)
    try:
        if kept:
            shutil.copyfile(kept, partial)
        elif urlsplit(wheel.address).scheme in ("http", "https"):
            _download(wheel, partial, uv)
        else:
            shutil.copyfile(_local(generation, wheel.address), partial)
        if _sha256(partial) != wheel.sha256:
            raise EnvError(
                "hash-mismatch",
                f"{wheel.file_name} is not the file that the lock names (its hash differs).",
                "Try again. If it stays so, the package index or a proxy on the way alters files.",
            )
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _local(generation: Generation, address: str) -> Path:
    parts = urlsplit(address)
    path = Path(urllib.request.url2pathname(parts.path) if parts.scheme == "file" else address)
    # pylock writes a path below or beside itself, and it was written in the build folder.
    found = path if path.is_absolute() else generation.folder / path
    if not found.is_file():
        raise EnvError(
            "wheel-gone",
            f"{found.name} came from a local folder and is no longer there.",
            "Put the wheel back, or install the dependencies again and export that environment.",
        )
    return found


def _download(wheel: Wheel, target: Path, uv: Uv) -> None:
    try:
        reply = Access.from_environ(uv.environ).open(wheel.address, {})
    except (OSError, HTTPException, CannotFollow) as error:
        raise _not_fetched(wheel, str(error)) from error
    with reply, target.open("wb") as out:
        if reply.status != 200:
            raise _not_fetched(wheel, f"the index answered {reply.status}")
        while block := _read(reply, wheel):
            if uv.cancelled():
                raise InstallStopped()
            out.write(block)


def _read(reply: HTTPResponse, wheel: Wheel) -> bytes:
    try:
        return reply.read(_BLOCK)
    except (OSError, HTTPException) as error:
        raise _not_fetched(wheel, str(error) or type(error).__name__) from error


def _not_fetched(wheel: Wheel, why: str) -> EnvError:
    return EnvError(
        "index-unreachable",
        f"{wheel.file_name} cannot be fetched for the folder of wheels ({why}).",
        "Check the network connection and the index in pip's configuration, then try again: it goes on from here.",
    )


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as data:
        while block := data.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
