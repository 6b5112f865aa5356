"""Takes out of a text what nobody else should read: tokens, passwords in addresses, the user's name and home."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_SECRETS = (
    (re.compile(r"(?s)(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)"), r"\1 *** \2"),
    # user:password@ in an address, also with the password alone, with an @ or a / in it, and without a scheme
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/?#\"']+@"), r"\1***@"),
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/:@\"']+:(?!\d+/)[^\s@\"']+@"), r"\1***@"),
    (re.compile(r"(?<![\w/:\\@.*-])[A-Za-z_][\w.\\%+-]*:[^\s:@/\"']+@(?=[\w.-]+)"), "***@"),
    # what well-known services issue
    (re.compile(r"\b(hf_|gh[pousr]_|github_pat_|glpat-|sk-|npm_|xox[abp]-|AKIA|ASIA|AIza)[A-Za-z0-9_-]{10,}"), r"\1***"),
    (re.compile(r"\bpypi-[A-Za-z0-9_-]{20,}"), "pypi-***"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]+)*"), "***"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{12,}"), r"\1 ***"),
    (re.compile(r"(?i)(\bauthorization[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|token|digest)\s+)?)[^\s\"',;]+"), r"\1***"),
    (re.compile(r"(?i)(\b(?:set-)?cookie[\"']?\s*:\s*)[^\r\n]+"), r"\1***"),
    (re.compile(r"(?i)(--(?:token|password|secret|api-key)\s+)[^\s\"']+"), r"\1***"),
    # a line of netrc
    (re.compile(r"(?i)\b(login\s+)\S+(\s+(?:account\s+\S+\s+)?password\s+)\S+"), r"\1***\2***"),
    # name=value and "name": "value" where the name says that it is one
    (
        re.compile(
            r"(?i)([\w-]*(?:token|username|secret|passw(?:or)?d|api[_-]?key|access[_-]?key|credentials?)[\"']?\s*[=:]\s*[\"']?)"
            r"[^\s\"',;&]+"
        ),
        r"\1***",
    ),
    (re.compile(r"(?i)([?&](?:sig|signature|key|auth|x-amz-[\w-]+)=)[^&\s\"']+"), r"\1***"),
)  # fmt: skip
_NAMES = re.compile(r"(?i)[\w-]*(token|username|secret|password|passwd|api[_-]?key|access[_-]?key|credentials?)")
# A user's folder may have spaces in its name: then what follows is a separator.
_USER_FOLDER = re.compile(
    r"(?i)([\\/](?:home|Users)[\\/]+)(?:[^\\/\s:\"',;]+(?: [^\\/\s:\"',;]+){1,2}(?=[\\/])|[^\\/\s:\"']+)"
)
_LEAST_NAME = 3  # a shorter name would be found inside ordinary words


class Redaction:
    """Replaces secrets, home folders, the user's and the machine's name."""

    def __init__(self, *, homes: Sequence[str] | None = None, names: Sequence[str] | None = None) -> None:
        homes = [str(Path.home()), os.environ.get("USERPROFILE", "")] if homes is None else homes
        names = [_user(), socket.gethostname()] if names is None else names
        # The longest first, or a part of it would be replaced before.
        self._homes = sorted({each for each in homes if len(each) > 1}, key=len, reverse=True)
        common = {"root", "user", "localhost", "linux", "windows", "admin"}
        self._names = [each for each in names if len(each) >= _LEAST_NAME and each.lower() not in common]

    def __call__(self, text: str) -> str:
        """The text without them."""
        for pattern, shown in _SECRETS:
            text = pattern.sub(shown, text)
        for home in self._homes:
            text = re.sub(re.escape(home) + r"(?![\w.-])", "~", text)
            # In JSON a Windows path has its backslashes twice.
            text = text.replace(home.replace("\\", "\\\\") + "\\\\", "~\\\\")
        text = _USER_FOLDER.sub(r"\1<user>", text)
        for name in self._names:
            text = re.sub(rf"(?i)(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", "<name>", text)
        return text

    def value(self, value: Any) -> Any:
        """A JSON value with every text in it redacted, so that it stays JSON."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {self(key): self._named(key, each) for key, each in value.items()}
        return [self.value(each) for each in value] if isinstance(value, list) else value

    def _named(self, key: str, value: Any) -> Any:
        # A number is a count of tokens, and not one.
        return "***" if _NAMES.fullmatch(key) and isinstance(value, str | list | dict) else self.value(value)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
