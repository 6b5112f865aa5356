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
    # user:password@ in an address, also with the password alone
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/@\"']+@"), r"\1***@"),
    # what well-known services issue
    (re.compile(r"\b(hf_|gh[pousr]_|github_pat_|glpat-|sk-|npm_|xox[abp]-|AKIA|ASIA)[A-Za-z0-9_-]{10,}"), r"\1***"),
    (re.compile(r"\bpypi-[A-Za-z0-9_-]{20,}"), "pypi-***"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]+)*"), "***"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{12,}"), r"\1 ***"),
    # name=value and "name": "value" where the name says that it is one
    (
        re.compile(
            r"(?i)([\w-]*(?:token|secret|passw(?:or)?d|api[_-]?key|access[_-]?key|credentials?)[\"']?\s*[=:]\s*[\"']?)"
            r"[^\s\"',;&]+"
        ),
        r"\1***",
    ),
    (re.compile(r"(?i)([?&](?:sig|signature|key|auth|x-amz-[\w-]+)=)[^&\s\"']+"), r"\1***"),
)  # fmt: skip
_NAMES = re.compile(r"(?i)[\w-]*(token|secret|password|passwd|api[_-]?key|access[_-]?key|credentials?)")
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
        text = re.sub(r"(?i)([\\/](?:home|Users)[\\/]+)[^\\/\s:\"']+", r"\1<user>", text)
        for name in self._names:
            text = re.sub(rf"(?i)(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", "<name>", text)
        return text

    def value(self, value: Any) -> Any:
        """A JSON value with every text in it redacted, so that it stays JSON."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {
                key: "***" if isinstance(each, str) and _NAMES.fullmatch(key) else self.value(each)
                for key, each in value.items()
            }
        return [self.value(each) for each in value] if isinstance(value, list) else value


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
