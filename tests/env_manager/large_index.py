"""An index whose wheels are streamed, counted byte by byte, and sent badly on demand."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from small_index import SmallIndex

BLOCK = 64 * 1024


@dataclass
class Answer:
    """One reply to a request for a wheel: what was asked and how many bytes of the wheel were sent."""

    path: str
    headers: dict[str, str]
    start: int = 0
    sent: int = 0


@dataclass
class Faults:
    """How wheels are sent; as it stands, well."""

    ranges: bool = True
    etag: str | None = '"one"'
    modified: str | None = None
    cut_at: int | None = None  # byte of the file at which the connection ends
    cuts: int = 2  # how often: a first time with bytes, a second with none
    hold_at: int | None = None  # byte of the file at which nothing more comes until `release`
    release: threading.Event = field(default_factory=threading.Event)
    status: int | None = None
    statuses: int = 1_000_000  # how often
    html: bool = False
    encoding: str | None = None
    redirect: str | None = None  # where every wheel is said to be
    seconds_per_block: float = 0.0
    password: str | None = None  # the Authorization that is asked for
    wrong_start: bool = False  # a range that begins elsewhere


class LargeIndex(SmallIndex):
    """A `SmallIndex` that keeps an account of each wheel's bytes; tails read for sizes are not in it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.faults = Faults()
        self.answers: list[Answer] = []

    def wheel_url(self, wheel: Path) -> str:
        return self.url.replace("/simple", f"/wheels/{wheel.name}")

    @property
    def sent(self) -> int:
        """Bytes of wheels that went out."""
        return sum(answer.sent for answer in self.answers)

    def _send_wheel(self, request: BaseHTTPRequestHandler, wheel: Path) -> None:
        asked = request.headers.get("Range", "")
        if request.command != "GET" or asked.startswith("bytes=-") or re.fullmatch(r"bytes=\d+-\d+", asked):
            return super()._send_wheel(request, wheel)
        answer = Answer(request.path, dict(request.headers.items()))
        self.answers.append(answer)
        faults = self.faults
        if faults.password and request.headers.get("Authorization") != faults.password:
            return self._plain(request, 401)
        if faults.redirect:
            return self._plain(request, 302, faults.redirect)
        if faults.status and faults.statuses > 0:
            faults.statuses -= 1
            return self._plain(request, faults.status)
        return self._stream(request, wheel.read_bytes(), asked, answer)

    def _plain(self, request: BaseHTTPRequestHandler, status: int, location: str | None = None) -> None:
        request.send_response(status)
        if location:
            request.send_header("Location", location)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def _stream(self, request: BaseHTTPRequestHandler, data: bytes, asked: str, answer: Answer) -> None:
        faults = self.faults
        same = request.headers.get("If-Range") in (None, faults.etag, faults.modified)
        if asked and faults.ranges and same:
            answer.start = int(re.findall(r"\d+", asked)[0]) - (100 if faults.wrong_start else 0)
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {answer.start}-{len(data) - 1}/{len(data)}")
        else:
            request.send_response(200)
        if faults.etag:
            request.send_header("ETag", faults.etag)
        if faults.modified:
            request.send_header("Last-Modified", faults.modified)
        if faults.encoding:
            request.send_header("Content-Encoding", faults.encoding)
        request.send_header("Content-Type", "text/html; charset=utf-8" if faults.html else "application/octet-stream")
        request.send_header("Content-Length", str(len(data) - answer.start))
        request.end_headers()
        self._body(request, data, answer)

    def _body(self, request: BaseHTTPRequestHandler, data: bytes, answer: Answer) -> None:
        faults = self.faults
        end = len(data)
        if faults.cut_at is not None and faults.cuts > 0 and answer.start <= faults.cut_at:
            faults.cuts -= 1
            end = faults.cut_at
        position = answer.start
        while position < end:
            if faults.hold_at is not None and position >= faults.hold_at:
                faults.release.wait(60)
            stop = min(position + BLOCK, end)
            if faults.hold_at is not None and position < faults.hold_at:
                stop = min(stop, faults.hold_at)
            request.wfile.write(data[position:stop])
            answer.sent += stop - position
            position = stop
            time.sleep(faults.seconds_per_block)


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
