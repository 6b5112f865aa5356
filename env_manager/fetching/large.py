"""Decides which wheels of a step are fetched here rather than by uv, and hands them over as files."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from env_manager.errors import EnvError
from env_manager.fetching.download import Transfers, WheelFile
from env_manager.fetching.watch import StepWatch
from env_manager.fetching.web import Access
from env_manager.fetching.wheels import WheelSize
from env_manager.fetching.wheelstore import WheelStore
from env_manager.keeping.disk import CachedWheel, downloaded
from env_manager.planning.resolve import LOCK_NAME, Locked, wheel_address
from env_manager.uv import Uv

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WHEELS = "wheels"  # beside the environments
# What uv may still manage: it can ask a keyring, and it trusts certificates of its own.
_UV_MAY_KNOW = ("index-refused", "certificate-unknown")


def wheel_files(folder: Path, chosen: Mapping[str, str], sizes: Mapping[str, WheelSize]) -> dict[str, WheelFile]:
    """The wheel of each package with its hash, from the `pylock.toml` that `choose_wheels` left in `folder`."""
    data = tomllib.loads((folder / "pylock.toml").read_text(encoding="utf-8"))
    files: dict[str, WheelFile] = {}
    for package in data.get("packages", []):
        for wheel in package.get("wheels", []):
            address, sha256 = wheel_address(wheel), wheel.get("hashes", {}).get("sha256")
            if sha256 and address == chosen.get(package["name"]):
                files[package["name"]] = WheelFile(address, sha256, sizes[address].packed or wheel.get("size"))
    return files


def collect_wheels(folder: Path, envs: Path) -> None:
    """Forget the large wheels that no generation's lock names; what cannot be removed now is left to the next time."""
    with suppress(OSError):
        WheelStore(folder).collect(_named(envs.glob("*")))


def only_for(folder: Path, envs: Path, leaving: Collection[Path]) -> list[Path]:
    """The large wheels that only the `leaving` generations' locks name; none where a lock cannot be read."""
    try:
        kept = _named(each for each in envs.glob("*") if each not in leaving)
        return [folder / sha256 for sha256 in sorted(_named(leaving) - kept) if (folder / sha256).is_dir()]
    except OSError:
        return []


def _named(generations: Iterable[Path]) -> set[str]:
    found: set[str] = set()
    for generation in generations:
        with suppress(FileNotFoundError, NotADirectoryError):
            text = (generation / LOCK_NAME).read_text(encoding="utf-8", errors="replace")
            found.update(re.findall(r"sha256:([0-9a-f]{64})", text))
    return found


class LargeWheels:
    """The wheels of one installation: which come over the network, and which of those come through here.

    `files` has the wheel of each package; those on the web and above `above` bytes are fetched here.
    """

    def __init__(self, uv: Uv, folder: Path, files: Mapping[str, WheelFile], above: int) -> None:
        self.uv = uv
        self.store = WheelStore(folder)
        self.files = files
        self.large = {name: file for name, file in files.items() if file.remote and (file.size or 0) > above}

    def network_bytes(self, packages: Sequence[Locked]) -> dict[str, int | None]:
        """What will come over the network for each package; None where its size is unknown."""
        cached = downloaded(self.uv.cache)
        return {package.name: self._network_bytes(package.name, cached) for package in packages}

    def _network_bytes(self, name: str, cached: Collection[CachedWheel]) -> int | None:
        file = self.files.get(name)
        if file is None:
            return None
        if not file.remote or any(each.is_of(name, file.file_name) for each in cached) or self.store.find(file.sha256):
            return 0
        if file.size is None or name not in self.large:
            return file.size
        return max(0, file.size - self.store.part_bytes(file.sha256))

    def room_needed(self, packages: Sequence[Locked]) -> int:
        """Bytes that the folder of large wheels will grow by."""
        return sum(size or 0 for name, size in self.network_bytes(packages).items() if name in self.large)

    def bring(self, packages: Sequence[Locked], watch: StepWatch) -> dict[str, Path]:
        """Fetch what is missing of these packages' large wheels; the file of each that uv need not fetch."""
        to_come = self.network_bytes([package for package in packages if package.name in self.large])
        missing = {name: self.large[name] for name, size in to_come.items() if size}
        # A part may have all its bytes and still wait for the check of its hash.
        missing |= {name: self.large[name] for name, size in to_come.items() if size == 0 and self._unchecked(name)}
        if missing and not self.uv.offline:
            self._fetch(missing, watch)
        found = {name: self.store.find(self.large[name].sha256) for name in to_come}
        return {name: file for name, file in found.items() if file}

    def _unchecked(self, name: str) -> bool:
        file = self.large[name]
        return self.store.find(file.sha256) is None and self.store.part_bytes(file.sha256) == file.size

    def _fetch(self, missing: Mapping[str, WheelFile], watch: StepWatch) -> None:
        try:
            access = Access.from_environ(self.uv.environ)
            reason = access.left_to_uv()
        except OSError as error:
            reason = f"the certificate cannot be read: {error}"
        if reason:
            self.uv.log(f"{', '.join(missing)}: fetched by uv, because {reason}")
            return
        for name, file in missing.items():
            here = self.store.part_bytes(file.sha256)
            self.uv.log(f"fetching {name}: {file.size or 0:,} bytes, {here:,} of them are here")
        retries = self.uv.environ.get("UV_HTTP_RETRIES", "")
        transfers = Transfers(tuple(missing.values()), self.store, access, int(retries) if retries.isdigit() else 3)
        watch.transfers(transfers, missing)
        transfers.run(on_tick=watch.tick, cancelled=self.uv.cancelled)
        for transfer in transfers.all:
            if transfer.error:
                self._judge(transfer.error)

    def _judge(self, error: EnvError) -> None:
        if error.code not in _UV_MAY_KNOW:
            raise error
        self.uv.log(f"{error.message} Trying it with uv.")

    def discard_damaged(self, names: Collection[str]) -> tuple[str, ...]:
        """Forget those wheels whose file has no longer the hash under which it is kept."""
        damaged = tuple(name for name in names if not self.store.sound(self.files[name].sha256))
        for name in damaged:
            self.store.discard(self.files[name].sha256)
        return damaged
