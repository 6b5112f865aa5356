"""One request to a package index: its certificate, its proxy, its credentials and nobody else's."""

from __future__ import annotations

import netrc
import os
import re
import socket
import ssl
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit, urlunsplit

CONNECT_SECONDS = 10.0
_READ_SECONDS = 30.0
_MOST_REDIRECTS = 10
_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_INDEX", "UV_FIND_LINKS")


class CannotFollow(Exception):
    """The answer leads nowhere: redirects without end or to something that is not the web."""


@dataclass(frozen=True)
class Origin:
    """What credentials belong to: scheme, host and port, all three."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, parts: SplitResult) -> Origin:
        return cls(parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))


@dataclass(frozen=True)
class Access:
    """How the configured indexes are reached; made from the same variables that uv gets."""

    environ: Mapping[str, str]
    credentials: Mapping[Origin, str] = field(default_factory=dict)
    trusting: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    read_seconds: float = _READ_SECONDS

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Access:
        """Read certificate, proxy, patience and the credentials in index addresses."""
        context = ssl.create_default_context(
            cafile=environ.get("SSL_CERT_FILE") or None, capath=environ.get("SSL_CERT_DIR") or None
        )
        if environ.get("SSL_CLIENT_CERT"):
            context.load_cert_chain(environ["SSL_CLIENT_CERT"])
        patience = environ.get("UV_HTTP_TIMEOUT", "")
        return cls(environ, _credentials(environ), context, float(patience) if patience.isdigit() else _READ_SECONDS)

    def open(
        self, url: str, headers: Mapping[str, str], on_socket: Callable[[socket.socket], None] = lambda sock: None
    ) -> HTTPResponse:
        """Send a GET, following redirects; `on_socket` gets each socket, so that it can be cut from outside.

        Every hop gets the credentials of its own origin only, and once a request was secret it is
        never repeated in the clear with a password.
        """
        was_secret = False
        for _ in range(_MOST_REDIRECTS + 1):
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise CannotFollow(f"it leads to {parts.scheme or 'nothing'}, which is not the web")
            was_secret = was_secret or parts.scheme == "https"
            may_sign = parts.scheme == "https" or not was_secret
            reply = self._send(parts, dict(headers) | (self._authorization(parts) if may_sign else {}), on_socket)
            onward = reply.headers.get("Location")
            if reply.status not in (301, 302, 303, 307, 308) or not onward:
                return reply
            reply.close()
            url = urljoin(url, onward)
        raise CannotFollow("it is redirected without end")

    def _send(
        self, parts: SplitResult, headers: dict[str, str], on_socket: Callable[[socket.socket], None]
    ) -> HTTPResponse:
        origin = Origin.of(parts)
        target = _quoted(urlunsplit(("", "", parts.path or "/", parts.query, "")))
        proxy = self._proxy(parts)
        via = urlsplit(proxy) if proxy else None
        host, port = (via.hostname or "", via.port or 80) if via else (origin.host, origin.port)
        connection: HTTPConnection
        if origin.scheme == "https":
            connection = HTTPSConnection(host, port, timeout=CONNECT_SECONDS, context=self._context(origin))
            if via:
                connection.set_tunnel(origin.host, origin.port, _basic("Proxy-Authorization", via))
        else:
            connection = HTTPConnection(host, port, timeout=CONNECT_SECONDS)
            if via:
                target = f"http://{_host(parts)}{target}"
                headers |= _basic("Proxy-Authorization", via) | {"Host": _host(parts)}
        try:
            connection.connect()
            connection.sock.settimeout(self.read_seconds)
            on_socket(connection.sock)
            connection.request("GET", target, headers=headers | {"Connection": "close", "User-Agent": "fettle"})
            return connection.getresponse()
        finally:
            # An answer holds the socket for itself; without one it is closed here.
            if connection.sock is not None:
                connection.sock.close()

    def _context(self, origin: Origin) -> ssl.SSLContext:
        named = re.split(r"[\s,]+", self.environ.get("UV_INSECURE_HOST", ""))
        if not {"*", origin.host, f"{origin.host}:{origin.port}"} & set(named):
            return self.trusting
        # The user has said that this host is to be trusted without a certificate.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    def _proxy(self, parts: SplitResult) -> str | None:
        proxies = _proxies(self.environ)
        proxy = proxies.get(parts.scheme) or proxies.get("all")
        if proxy and urllib.request.proxy_bypass_environment(_host(parts), {"no": proxies.get("no", "")}):  # type: ignore[attr-defined]
            return None
        return proxy if not proxy or "://" in proxy else f"http://{proxy}"

    def _authorization(self, parts: SplitResult) -> dict[str, str]:
        known = self.credentials.get(Origin.of(parts)) or _from_netrc(self.environ, parts.hostname or "")
        return {"Authorization": known} if known else {}

    def left_to_uv(self) -> str | None:
        """Why only uv can reach the indexes as configured; None where this module can."""
        if self.environ.get("UV_KEYRING_PROVIDER", "disabled") != "disabled":
            return "passwords come from a keyring"
        proxies = (each for name, each in _proxies(self.environ).items() if name != "no")
        if any("://" in each and not each.startswith("http://") for each in proxies):
            return "the proxy is not a plain HTTP proxy"
        return None


def shown(url: str) -> str:
    """An address without user name, password, query and fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, _host(parts), parts.path, "", ""))


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _quoted(target: str) -> str:
    # A redirect may carry a space or a letter that the protocol cannot; what is quoted stays.
    return quote(target, safe="/%:=&?~#+!$,;'@()*[]")


def _basic(header: str, parts: SplitResult) -> dict[str, str]:
    if not parts.username:
        return {}
    return {header: _encoded(unquote(parts.username), unquote(parts.password or ""))}


def _encoded(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def _credentials(environ: Mapping[str, str]) -> dict[Origin, str]:
    found: dict[Origin, str] = {}
    for variable in _INDEX_VARIABLES:
        for entry in re.split(r"[\s,]+", environ.get(variable, "")):
            name, address = re.fullmatch(r"(?:([\w.-]+)=)?(.*)", entry, re.DOTALL).groups()  # type: ignore[union-attr]
            parts = urlsplit(address)
            if parts.scheme not in ("http", "https"):
                continue
            key = re.sub(r"[^A-Z0-9]", "_", (name or "").upper())
            user = environ.get(f"UV_INDEX_{key}_USERNAME") if name else None
            if user:
                found.setdefault(Origin.of(parts), _encoded(user, environ.get(f"UV_INDEX_{key}_PASSWORD", "")))
            elif parts.username:
                found.setdefault(Origin.of(parts), _basic("it", parts)["it"])
    return found


def _from_netrc(environ: Mapping[str, str], host: str) -> str | None:
    named = environ.get("NETRC")
    home = Path(environ.get("USERPROFILE" if sys.platform == "win32" else "HOME") or Path.home())
    for file in [Path(named)] if named else [home / ".netrc", home / "_netrc"]:
        try:
            entry = netrc.netrc(os.fspath(file)).hosts.get(host)
        except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
            # A broken file is passed over, as uv and pip do; the index then asks for a password.
            continue
        if entry:
            # A "default" entry is not used: it would tell a password to any host that redirects name.
            return _encoded(entry[0], entry[2] or "")
    return None


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for kind in ("http", "https", "all", "no"):
        value = environ.get(f"{kind}_proxy") or environ.get(f"{kind.upper()}_PROXY")
        if value:
            found[kind] = value
    if set(found) <= {"no"} and sys.platform in ("darwin", "win32"):
        # Nothing in the shell: the system's own setting counts, as it does for uv.
        return urllib.request.getproxies() | found
    return found
