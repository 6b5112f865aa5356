"""Fetches large wheels over HTTP so that nothing that has arrived is fetched twice.

uv starts an interrupted download from zero, which for a wheel of gigabytes is an evening. Here what
has arrived stays in a file, the rest is asked for by range, and the lock's hash decides in the end.
"""

from __future__ import annotations

import hashlib
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from ssl import SSLCertVerificationError
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from env_manager.child import TICK_SECONDS
from env_manager.errors import EnvError, InstallStopped, from_os
from env_manager.fetching.web import Access, CannotFollow, shown
from env_manager.fetching.wheelstore import Origin, WheelStore, plain_name

_BLOCK_BYTES = 256 * 1024
_AT_ONCE = 4
_POLL_SECONDS = 0.05
_ZIP_START = b"PK\x03\x04"
_RETRY_LATER = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class WheelFile:
    """A wheel of the lock: where it lies, its hash, and its size where somebody told it."""

    url: str
    sha256: str
    size: int | None = None

    @property
    def file_name(self) -> str:
        return unquote(urlsplit(self.url).path).rpartition("/")[2]

    @property
    def remote(self) -> bool:
        return self.url.startswith(("http://", "https://"))


class _Interrupted(Exception):
    """The connection ended too early, or the server asked to come again; what has arrived counts."""


class _DiskError(OSError):
    """The disk failed, not the network: trying again would not help."""


@contextmanager
def _on_disk(part: BinaryIO) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _DiskError(error.errno, error.strerror, part.name) from error


class Transfer:
    """One wheel on its way. Read from any thread; `run` belongs to one."""

    def __init__(self, wheel: WheelFile, store: WheelStore, access: Access, retries: int) -> None:
        self.wheel = wheel
        self.store = store
        self.access = access
        self.retries = retries
        self.received = 0
        self.error: EnvError | None = None
        self._here = store.part_bytes(wheel.sha256)
        self._joined = False
        self._total = wheel.size
        self._digest = hashlib.sha256()
        self._stop = threading.Event()
        self._socket: socket.socket | None = None

    @property
    def remaining(self) -> int:
        """Bytes that are still to come, as far as is known."""
        return max(0, (self._total or 0) - self._here)

    def stop(self) -> None:
        """End it from another thread, also while it waits for the server."""
        self._stop.set()
        waiting = self._socket
        if waiting is not None:
            try:
                # Below TLS, whose own shutdown would wait for the other side.
                socket.socket.shutdown(waiting, socket.SHUT_RDWR)
            except OSError:
                # It has ended by itself.
                return

    def run(self) -> None:
        """Fetch the wheel into the store; a failure is left in `error`."""
        try:
            self.store.folder.mkdir(parents=True, exist_ok=True)
            self._fetch()
        except EnvError as error:
            self.error = error
        except OSError as error:
            self.error = from_os(error, f"store {self.wheel.file_name}")
        finally:
            self._socket = None

    def _fetch(self) -> None:
        if not plain_name(self.wheel.file_name):
            raise self._invalid("its name is not that of a wheel")
        with self.store.part(self.wheel.sha256).open("ab+", buffering=0) as part:
            self._read_part(part)
            whole = self._receive_whole(part)
        if whole:
            self.store.keep(self.wheel.sha256, self.wheel.file_name)

    def _receive_whole(self, part: BinaryIO) -> bool:
        """Receive until the hash is right; False after a stop."""
        for second_chance in (True, False):
            self._receive(part)
            if self._stop.is_set():
                return False
            if self._digest.hexdigest() == self.wheel.sha256:
                os.fsync(part.fileno())
                return True
            # What was put together may come from two versions of the file, or be damaged on the disk.
            if not (self._joined and second_chance):
                break
            self._start_over(part)
        self.store.discard(self.wheel.sha256)
        raise self._altered()

    def _read_part(self, part: BinaryIO) -> None:
        part.seek(0)
        here = 0
        most = self.wheel.size
        while not self._stop.is_set() and (most is None or here <= most) and (block := part.read(_BLOCK_BYTES)):
            self._digest.update(block)
            here += len(block)
        self._here, self._joined = here, here > 0
        if self.wheel.size is not None and here > self.wheel.size:
            self._start_over(part)

    def _start_over(self, part: BinaryIO) -> None:
        with _on_disk(part):
            part.truncate(0)
            part.seek(0)
        self._digest = hashlib.sha256()
        self._here, self._joined = 0, False

    def _receive(self, part: BinaryIO) -> None:
        """Attempt after attempt until the last byte; attempts that bring nothing new are counted."""
        furthest, failures = self._here, 0
        while not self._stop.is_set():
            try:
                return self._attempt(part)
            except _Interrupted as error:
                reason = str(error)
            if self._here > furthest:
                furthest, failures = self._here, 0
            elif failures == self.retries:
                raise self._unreachable(reason)
            else:
                failures += 1
            self._stop.wait(0.25 * 2**failures)

    def _attempt(self, part: BinaryIO) -> None:
        if self._here and self._here == self.wheel.size:
            return
        try:
            reply = self.access.open(self.wheel.url, self._headers(), self._hold)
            with reply:
                self._begin(reply, part)
                self._copy(reply, part)
        except SSLCertVerificationError as error:
            raise EnvError(
                "certificate-unknown",
                f"The package index shows a certificate that this machine does not trust ({error.verify_message}).",
                "Behind a company proxy, name its certificate file in pip's configuration (`cert`) or in SSL_CERT_FILE.",
            ) from error
        except CannotFollow as error:
            raise self._invalid(str(error)) from error
        except (_DiskError, _Interrupted, EnvError):
            raise
        except (OSError, HTTPException, ValueError) as error:
            raise _Interrupted(str(error) or type(error).__name__) from error

    def _hold(self, sock: socket.socket) -> None:
        self._socket = sock
        if self._stop.is_set():
            raise _Interrupted("stopped")

    def _headers(self) -> dict[str, str]:
        headers = {"Accept-Encoding": "identity"}
        if self._here:
            headers["Range"] = f"bytes={self._here}-"
            origin = self.store.origin(self.wheel.sha256)
            # Another address may serve the same file under another tag: there the hash alone decides.
            if origin and origin.address == shown(self.wheel.url):
                # A weak tag is not allowed here: it does not promise the same bytes.
                strong = origin.etag if origin.etag and not origin.etag.startswith("W/") else None
                validator = strong or origin.modified
                headers |= {"If-Range": validator} if validator else {}
        return headers

    def _begin(self, reply: HTTPResponse, part: BinaryIO) -> None:
        """Check that the answer is the wheel or the asked-for rest of it, and stand at its first byte."""
        self._refuse(reply, part)
        length = reply.headers.get("Content-Length", "")
        if reply.status == 206:
            first, _, total = reply.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
            known = self.store.origin(self.wheel.sha256)
            same = not known or known.total is None or not total.isdigit() or known.total == int(total)
            if not first.startswith(f"{self._here}-") or not same:
                self._start_over(part)
                raise _Interrupted("the server sent another part of the file than was asked for")
            self._total = int(total) if total.isdigit() else self._total
            self._joined = True
            return
        # The whole file, although the rest was asked for: ranges are unknown there, or the file is another.
        self._start_over(part)
        self._total = int(length) if length.isdigit() else self.wheel.size
        address, tag, date = shown(self.wheel.url), reply.headers.get("ETag"), reply.headers.get("Last-Modified")
        with _on_disk(part):
            self.store.note_origin(self.wheel.sha256, Origin(address, tag, date, self._total))

    def _refuse(self, reply: HTTPResponse, part: BinaryIO) -> None:
        if reply.status in (401, 403, 407):
            raise EnvError(
                "index-refused",
                f"The package index refused the request for {self.wheel.file_name} (not authorised, {reply.status}).",
                "Check the user name and password of the index in pip's or uv's configuration.",
            )
        if reply.status in _RETRY_LATER:
            raise _Interrupted(f"the server answered {reply.status}")
        if reply.status == 416:
            self._start_over(part)
            raise _Interrupted("the server does not know the part that was asked for")
        if reply.status not in (200, 206):
            raise self._invalid(f"the server answered {reply.status}")
        if "html" in reply.headers.get("Content-Type", "").lower():
            raise self._invalid("a web page came in its place")
        if reply.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise self._invalid("it came packed once more, although that was not asked for")

    def _copy(self, reply: HTTPResponse, part: BinaryIO) -> None:
        total = self._total
        while total is None or self._here < total:
            block = reply.read1(_BLOCK_BYTES if total is None else min(_BLOCK_BYTES, total - self._here))
            if self._stop.is_set() or not block:
                break
            if self._here == 0 and not block.startswith(_ZIP_START[: len(block)]):
                raise self._invalid("what came is not a wheel")
            self._store(part, block)
            if total is None and self.wheel.size is not None and self._here > self.wheel.size:
                self._start_over(part)
                raise self._invalid("more came than the wheel has")
        if total is not None and self._here < total:
            raise _Interrupted(f"the connection ended after {self._here} of {total} bytes")

    def _store(self, part: BinaryIO, block: bytes) -> None:
        left = memoryview(block)
        with _on_disk(part):
            while left:
                left = left[part.write(left) :]
        self._digest.update(block)
        self._here += len(block)
        self.received += len(block)

    def _invalid(self, reason: str) -> EnvError:
        return EnvError(
            "index-invalid",
            f"The package index did not send {self.wheel.file_name}: {reason}.",
            "Open the index in a browser: a login page or a proxy may answer in its place. Then try again.",
        )

    def _altered(self) -> EnvError:
        return EnvError(
            "hash-mismatch",
            f"A downloaded package is not the file that the lock names (its hash differs): {self.wheel.file_name}.",
            "Try again. If it stays so, the package index or a proxy on the way alters files: use another index.",
        )

    def _unreachable(self, reason: str) -> EnvError:
        return EnvError(
            "index-unreachable",
            f"The download of {self.wheel.file_name} broke off at {self._here / 1e6:.1f} MB: {reason}.",
            "Check the network connection, then start again: what has arrived is kept and goes on from there.",
        )


class Transfers:
    """Several wheels on their way at once."""

    def __init__(self, wheels: Sequence[WheelFile], store: WheelStore, access: Access, retries: int) -> None:
        self.all = [Transfer(wheel, store, access, retries) for wheel in wheels]
        self._open: queue.SimpleQueue[Transfer] = queue.SimpleQueue()
        for transfer in self.all:
            self._open.put(transfer)

    @property
    def received(self) -> int:
        """Bytes that have come over the network."""
        return sum(transfer.received for transfer in self.all)

    @property
    def remaining(self) -> int:
        """Bytes that are still to come."""
        return sum(transfer.remaining for transfer in self.all)

    def run(self, *, on_tick: Callable[[], None], cancelled: Callable[[], bool]) -> None:
        """Fetch all; failures are left in the transfers, a cancellation is raised.

        No thread of it outlives the call, unless one is still looking up a name, and that one ends
        without having written anything.
        """
        threads = [threading.Thread(target=self._work, daemon=True) for _ in self.all[:_AT_ONCE]]
        for thread in threads:
            thread.start()
        try:
            self._follow(threads, on_tick, cancelled)
        finally:
            # Also on an exception in a callback.
            self._end(threads)
        if cancelled():
            raise InstallStopped()

    def _follow(
        self, threads: Sequence[threading.Thread], on_tick: Callable[[], None], cancelled: Callable[[], bool]
    ) -> None:
        next_tick = 0.0
        while any(thread.is_alive() for thread in threads):
            if cancelled() or any(transfer.error for transfer in self.all):
                return
            if time.monotonic() >= next_tick:
                on_tick()
                next_tick = time.monotonic() + TICK_SECONDS
            time.sleep(_POLL_SECONDS)
        on_tick()

    def _work(self) -> None:
        while transfer := self._take():
            transfer.run()

    def _take(self) -> Transfer | None:
        try:
            return self._open.get_nowait()
        except queue.Empty:
            return None

    def _end(self, threads: Sequence[threading.Thread]) -> None:
        while self._take():
            pass
        for transfer in self.all:
            transfer.stop()
        patience = time.monotonic() + 0.5
        for thread in threads:
            thread.join(max(0.0, patience - time.monotonic()))
