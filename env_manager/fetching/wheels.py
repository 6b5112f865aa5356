"""How large wheels are, packed and unpacked, read from their ends without downloading them."""

from __future__ import annotations

import io
import os
import posixpath
import struct
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import astuple, dataclass, replace
from http.client import HTTPException
from urllib.parse import unquote, urlsplit

from env_manager.fetching.web import Access, CannotFollow

# Holds the whole table of contents of all but the largest wheels.
_TAIL_BYTES = 128 * 1024
_READ_SECONDS = 10.0
_POLL_SECONDS = 0.1
_THREADS = 8
BLOCK_BYTES = 4096
# What a line of the RECORD and one of our record hold beside the path: a hash and a size each.
_LISTED_BYTES = 130
_PATIENCE_SECONDS = 3.0


@dataclass(frozen=True)
class WheelSize:
    """Bytes to download and bytes of the files in it; None where the index would not tell.

    `blocks` is what the files take on a disk, `folders` counts what they lie in, `sources` is the
    part that Python compiles and `source_folders` where that lies, `listed` what lists of the files take.
    """

    packed: int | None
    unpacked: int | None
    blocks: int = 0
    folders: int = 0
    sources: int = 0
    source_folders: int = 0
    listed: int = 0

    @classmethod
    def of(cls, packed: int, entries: Sequence[zipfile.ZipInfo]) -> WheelSize:
        """The size of a wheel from its table of contents."""
        files = [entry for entry in entries if not entry.is_dir()]
        sources = [entry for entry in files if entry.filename.endswith(".py")]
        return cls(
            packed=packed,
            unpacked=sum(entry.file_size for entry in files),
            blocks=sum(on_disk(entry.file_size) for entry in files),
            folders=len({folder for entry in files for folder in _above(entry.filename)}),
            sources=sum(entry.file_size for entry in sources),
            source_folders=len({posixpath.dirname(entry.filename) for entry in sources}),
            # Its own RECORD, written anew in each environment, and a line of ours for each file.
            listed=sum(2 * len(entry.filename) + _LISTED_BYTES for entry in files),
        )

    def sound(self) -> bool:
        """Whether all are numbers of bytes, where they are known."""
        return all(each is None or (type(each) is int and each >= 0) for each in astuple(self))


UNKNOWN = WheelSize(None, None)


def on_disk(size: int) -> int:
    """The room that a file takes: whole blocks."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def _above(path: str) -> Iterator[str]:
    # A hostile name may begin at the root, above which is the root again, or have more folders than a disk takes.
    path = path.lstrip("/")[:4096]
    while path := posixpath.dirname(path):
        yield path


def measure(
    urls: Iterable[str], environ: Mapping[str, str], cancelled: Callable[[], bool] = lambda: False
) -> dict[str, WheelSize]:
    """Sizes of wheels by their address; `environ` names certificate and proxy as for uv.

    After a cancellation the sizes found so far are returned at once.
    """
    try:
        access = Access.from_environ(environ)
        access = replace(access, read_seconds=min(access.read_seconds, _READ_SECONDS))
    except OSError:
        # uv names a certificate that cannot be read; sizes are not worth a failure of their own.
        return {}
    found: dict[str, WheelSize] = {}
    left = list(dict.fromkeys(urls))
    if left:
        started = time.monotonic()
        found[left[0]] = _measure_one(left[0], access)
        near = (time.monotonic() - started) * len(left) < _PATIENCE_SECONDS
        # A near index needs no threads, and some resolvers drop lookups that come all at once.
        pool = ThreadPoolExecutor(1 if near else _THREADS)
        waiting = {pool.submit(_measure_one, url, access): url for url in left[1:]}
        while waiting and not cancelled():
            for done in wait(waiting, _POLL_SECONDS, FIRST_COMPLETED).done:
                found[waiting.pop(done)] = done.result()
        pool.shutdown(wait=False, cancel_futures=True)
    return found


def _measure_one(url: str, access: Access) -> WheelSize:
    parts = urlsplit(url)
    try:
        if parts.scheme in ("", "file"):
            path = urllib.request.url2pathname(parts.path) if parts.scheme else unquote(url)
            with zipfile.ZipFile(path) as wheel:
                return WheelSize.of(os.stat(path).st_size, wheel.infolist())
        return _measure_remote(url, access)
    except (OSError, HTTPException, CannotFollow, ValueError, zipfile.BadZipFile, struct.error):
        # Sizes only feed the progress display and the disk estimate. An index that needs a
        # password that only uv knows still installs, with its sizes unknown.
        return UNKNOWN


def _measure_remote(url: str, access: Access) -> WheelSize:
    tail, total = _read_end(url, access, _TAIL_BYTES)
    if not tail:
        return WheelSize(total, None)
    try:
        return WheelSize.of(total, _entries(tail, total))
    except zipfile.BadZipFile:
        # The table of contents is longer than the tail: the end record says how much is needed.
        needed = _contents_bytes(tail)
        tail, total = _read_end(url, access, needed)
        return WheelSize.of(total, _entries(tail, total))


def _read_end(url: str, access: Access, count: int) -> tuple[bytes, int]:
    with access.open(url, {"Range": f"bytes=-{count}"}) as reply:
        if reply.status == 200 and "html" not in reply.headers.get("Content-Type", ""):
            # Without ranges the whole wheel would come: only its length is used.
            return b"", int(reply.headers.get("Content-Length", ""))
        if reply.status != 206:
            raise ValueError(f"no size: {reply.status}")
        total = int(reply.headers.get("Content-Range", "").rpartition("/")[2])
        return reply.read(), total


def _entries(tail: bytes, total: int) -> list[zipfile.ZipInfo]:
    # zipfile follows offsets from the start of the file; a file that begins with a hole is as good.
    with zipfile.ZipFile(_Tail(tail, total)) as wheel:
        return wheel.infolist()


def _contents_bytes(tail: bytes) -> int:
    end = tail.rfind(b"PK\x05\x06")
    if end < 0:
        raise ValueError("not a zip file")
    (size,) = struct.unpack_from("<L", tail, end + 12)
    return int(size) + len(tail) - end + 1024


class _Tail(io.RawIOBase):
    """A file of which only the end is known; reading before that is an error."""

    def __init__(self, tail: bytes, total: int) -> None:
        self.tail, self.total, self.position = tail, total, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = (0, self.position, self.total)[whence] + offset
        if self.position < 0:
            raise OSError("before the start of the file")
        return self.position

    def tell(self) -> int:
        return self.position

    def read(self, size: int = -1) -> bytes:
        start = self.position - (self.total - len(self.tail))
        if start < 0:
            raise zipfile.BadZipFile("before the part that was read")
        data = self.tail[start:] if size < 0 else self.tail[start : start + size]
        self.position += len(data)
        return data
