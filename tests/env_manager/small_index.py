"""Small hand-made wheels, a loopback index that serves them well or badly, and a catalog for them."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
import threading
import time
import zipfile
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from env_manager.hardware import Hardware
from env_manager.planning.catalog import Catalog
from env_manager.planning.catalog_file import parse_catalog

# The interpreter that runs the tests is certainly on this machine.
PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

CPU_MACHINE = Hardware(
    os="linux",
    os_version="test",
    arch="x86_64",
    cpu="test",
    cores=2,
    memory_bytes=8 * 2**30,
    disk_free_bytes=None,
    gpus=(),
    driver=None,
    cuda=None,
    accelerator="cpu",
)
# As the great indexes say it: a wheel at an address never changes.
IMMUTABLE = "max-age=365000000, immutable, public"


def build_wheel(
    folder: Path,
    name: str,
    version: str,
    *,
    source: str | None = None,
    requires: Sequence[str] = (),
    payload: int | bytes = 0,
    tag: str = "py3-none-any",
    extra: Mapping[str, str] | None = None,
    wrong_record: bool = False,
) -> Path:
    """Write a whole wheel with one module of that name and, if asked, a data file: `payload`, or that many zeros.

    With `wrong_record` its RECORD claims the hashes of other files, as some published wheels do.
    """
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    files = {f"{module}/__init__.py": (source or f'__version__ = "{version}"\n').encode()}
    if payload:
        files[f"{module}/payload.bin"] = payload if isinstance(payload, bytes) else b"\0" * payload
    files |= {path: text.encode() for path, text in (extra or {}).items()}
    needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}".encode()
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n".encode()
    rows = [f"{path},sha256={_digest(data + b'?' * wrong_record)},{len(data)}\n" for path, data in files.items()]
    files[f"{info}/RECORD"] = "".join([*rows, f"{info}/RECORD,,\n"]).encode()
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{module}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as out:
        for path, data in files.items():
            out.writestr(path, data)
    return wheel


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


class SmallIndex:
    """A package index on the loopback address for the wheels in one folder.

    `behaviour` makes it answer badly: "login-page" sends HTML for lists, "error-500" fails,
    "garbage-wheels" sends HTML for wheels, "truncated-wheels" half of them, "no-length" keeps their
    length to itself, "wrong-hash" announces hashes of other files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.behaviour = "good"
        self.ranges = True
        self.seconds_per_wheel = 0.0
        self.wheels_sent: list[str] = []
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    index.answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def do_HEAD(self) -> None:
                self.do_GET()

            def log_message(self, *arguments: Any) -> None:
                """Nothing: a test's output is its own."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/simple"

    def close(self) -> None:
        """Stop serving: from now on the index is out of reach."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if self.behaviour == "error-500":
            return _send(request, 500, "text/plain", b"broken")
        page = re.fullmatch(r"/simple/([a-z0-9-]+)/", request.path)
        if page:
            return self._send_list(request, page.group(1))
        return self._send_wheel(request, self.folder / request.path.rpartition("/")[2])

    def _send_list(self, request: BaseHTTPRequestHandler, name: str) -> None:
        if self.behaviour == "login-page":
            body = b"<!DOCTYPE html><html><body><form>Please sign in</form></body></html>"
            return _send(request, 200, "text/html", body)
        found = self.folder.glob(f"{name.replace('-', '_')}-*")
        wheels = sorted(file for file in found if file.name.endswith((".whl", ".tar.gz")))
        if not wheels:
            return _send(request, 404, "text/plain", b"not here")
        links = [f'<a href="/wheels/{wheel.name}#sha256={self._announced(wheel)}">{wheel.name}</a>' for wheel in wheels]
        body = "<!DOCTYPE html><html><body>" + "\n".join(links) + "</body></html>"
        return _send(request, 200, "text/html", body.encode())

    def _announced(self, wheel: Path) -> str:
        data = b"another file" if self.behaviour == "wrong-hash" else wheel.read_bytes()
        return hashlib.sha256(data).hexdigest()

    def _send_wheel(self, request: BaseHTTPRequestHandler, wheel: Path) -> None:
        if not wheel.is_file():
            return _send(request, 404, "text/plain", b"not here")
        data = wheel.read_bytes()
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
        if asked and self.ranges:
            return _send_range(request, data, asked.group(1), asked.group(2))
        if request.command == "GET":
            self.wheels_sent.append(wheel.name)
            time.sleep(self.seconds_per_wheel)
        if self.behaviour == "garbage-wheels":
            return _send(request, 200, "text/html", b"<html>Please sign in</html>")
        if self.behaviour == "truncated-wheels":
            return _send(request, 200, "application/octet-stream", data[: len(data) // 2], len(data))
        if self.behaviour == "no-length":
            return _send_without_length(request, data)
        return _send(request, 200, "application/octet-stream", data, ranges=self.ranges)


def _send_without_length(request: BaseHTTPRequestHandler, data: bytes) -> None:
    request.send_response(200)
    request.send_header("Content-Type", "application/octet-stream")
    request.send_header("Cache-Control", IMMUTABLE)
    request.end_headers()
    if request.command == "GET":
        request.wfile.write(data)


def _send_range(request: BaseHTTPRequestHandler, data: bytes, first: str, last: str) -> None:
    start = int(first) if first else max(0, len(data) - int(last))
    end = min(int(last), len(data) - 1) if first and last else len(data) - 1
    part = data[start : end + 1]
    request.send_response(206)
    request.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
    request.send_header("Content-Length", str(len(part)))
    request.send_header("Accept-Ranges", "bytes")
    request.send_header("Cache-Control", IMMUTABLE)
    request.end_headers()
    request.wfile.write(part)


def _send(
    request: BaseHTTPRequestHandler,
    status: int,
    kind: str,
    body: bytes,
    length: int | None = None,
    ranges: bool = False,
) -> None:
    request.send_response(status)
    if ranges:
        request.send_header("Accept-Ranges", "bytes")
    if kind == "application/octet-stream":
        request.send_header("Cache-Control", IMMUTABLE)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body) if length is None else length))
    request.end_headers()
    if request.command == "GET":
        request.wfile.write(body)


def catalog_data() -> dict[str, Any]:
    """A catalog of three steps: first, then second which needs base, then an optional third."""

    def step(name: str, version: str, **more: Any) -> dict[str, Any]:
        package = {"name": f"fx-{name}", "version": version}
        probe = [f"import:fx_{name}"]
        return {
            "id": name,
            "title": f"The {name}",
            "why": "A test needs it.",
            "probe": probe,
            "packages": [package],
        } | more

    return {
        "format": 1,
        "date": "2026-01-01",
        "python": [PYTHON_VERSION],
        "holds": [{"requirement": "fx-base<2", "reason": "Second is proved with base 1."}],
        "steps": [step("first", "1.0"), step("second", "1.0"), step("third", "1.0", optional=True)],
    }


def small_catalog() -> Catalog:
    return parse_catalog(catalog_data())


def fill(folder: Path, payload: int = 200_000) -> None:
    """The wheels of the small catalog, with a second version of some and one beyond the hold."""
    build_wheel(folder, "fx-first", "1.0", payload=payload)
    build_wheel(folder, "fx-first", "1.1", payload=payload)
    build_wheel(folder, "fx-second", "1.0", requires=["fx-base"], source="import fx_base\n")
    build_wheel(folder, "fx-third", "1.0")
    for version in ("1.0", "1.5", "2.0"):
        build_wheel(folder, "fx-base", version, payload=payload)
