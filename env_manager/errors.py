"""Failures a user can meet: a stable code, a plain message, what to do."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from pathlib import Path


class EnvError(Exception):
    """A failure with a stable `code`, a plain `message` and a `remedy`; `log` names the full output if kept."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy
        self.log: Path | None = None

    def as_json(self) -> dict[str, str]:
        shown = {"code": self.code, "message": self.message, "remedy": self.remedy}
        return shown | ({"log": str(self.log)} if self.log else {})


class InstallStopped(EnvError):
    """The installation was stopped on request; the active environment was not touched."""

    def __init__(self) -> None:
        super().__init__(
            "install-stopped",
            "The installation was stopped. The active environment was not touched.",
            "Start it again when you like: what was downloaded is kept.",
        )


class UvFailed(EnvError):
    """uv ended with an error; `output` is what it said."""

    def __init__(self, code: str, message: str, remedy: str, output: str) -> None:
        super().__init__(code, message, remedy)
        self.output = output


@dataclass(frozen=True)
class _Symptom:
    pattern: str
    code: str
    message: str
    remedy: str
    whole: bool = False  # the cause alone would not tell which setting


# Read top to bottom; the first match wins, so the specific stand above the general.
_UV_SYMPTOMS = (
    _Symptom(
        # uv says in which way, and the list of ways is in tests/faults/hostile_wheels.py.
        r"wheel is invalid|wheel version does not match|metadata (name|version) .* does not match|"
        r"must not use the reserved name|dist-info.RECORD`: no such file|unexpected header \(actual|"
        r"zip file (uses|contains)|did not bind to the end record|bad (un)?compressed size|"
        r"failed to create directory `[^`]*[/\\]\.tmp[^`]*`: file exists",
        "package-malformed",
        "A package is not built as packages are, and was refused.",
        "Take another version of it (`--set name=version`) or another index; its publisher may want to know.",
    ),
    _Symptom(
        r"failed to parse environment variable|invalid value .* for '--|toml parse error|failed to parse: .*\.toml|"
        r"failed to read `--find-links`|failed to create directory.*file exists",
        "index-setting",
        "A setting for the installer program uv cannot be used.",
        "Correct or unset it: a variable UV_… or PIP_…, a line of uv.toml, or one of pip's configuration.",
        whole=True,
    ),
    _Symptom(
        r"hash mismatch",
        "hash-mismatch",
        "A downloaded package is not the file that the lock names (its hash differs).",
        "Try again. If it stays so, the package index or a proxy on the way alters files: use another index.",
    ),
    _Symptom(
        r"no space left on device|os error 28\b|not enough space|disk quota exceeded",
        "disk-full",
        "The disk is full.",
        "Free some space or move the Fettle folder to a larger disk, then try again.",
    ),
    _Symptom(
        r"notvalidyet|not valid yet|certexpired|certificate (has )?expired",
        "certificate-date",
        "The package index shows a certificate that is not valid on this machine's date.",
        "Check the machine's date and time; where they are right, the index's certificate has run out.",
    ),
    # "Error 24" and "Error 30" are what Linux' loader says before uv itself has begun.
    _Symptom(
        r"input/output error|os error 5\b|too many open files|error 24\b",
        "system-error",
        "The system reported an error while packages were read or written.",
        "Check the disk that holds the Fettle folder, then try again.",
    ),
    _Symptom(
        r"unknownissuer|invalid peer certificate|certificate verify failed|self.signed certificate",
        "certificate-unknown",
        "The package index shows a certificate that this machine does not trust.",
        "Behind a company proxy, name its certificate file in pip's configuration (`cert`) or in SSL_CERT_FILE.",
    ),
    _Symptom(
        r"\((401|403)\b|unauthorized|forbidden",  # a bare number may be that of a line in a traceback
        "index-refused",
        "The package index refused the request (not authorised).",
        "Check the user name and password of the index in pip's or uv's configuration.",
    ),
    _Symptom(
        r"permission denied|os error 13\b|read-only file system|error 30\b",
        "no-permission",
        "A file could not be written: permission denied.",
        "Make the Fettle folder writable for your user or choose another one with FETTLE_HOME.",
    ),
    _Symptom(
        r"unsupported content.type|failed to parse.*(html|simple|json)|invalid html|"
        r"expected.*(json|html).*content.type|not a valid (zip|wheel)|failed to read.*zip|"
        r"invalid (local file header|zip)|unexpected end of (zip|file)|end of file before message length|end of central directory",
        "index-invalid",
        "The package index answered with something that is not a package or a package list.",
        "Open the index in a browser: a login page or a proxy may answer in its place. Then try again.",
    ),
    _Symptom(
        r"network connectivity is disabled|network was disabled",
        "index-unreachable",
        "The package index cannot be reached and the packages are not in the cache.",
        "Check the network connection and the index in pip's configuration, then try again.",
    ),
    _Symptom(
        r"error sending request|dns error|failed to lookup address|connection (refused|reset)|connect error|"
        r"could not connect|tcp connect|timed? ?out|failed to fetch|request failed after|\(50[0-9]\b|network",
        "index-unreachable",
        "The package index cannot be reached.",
        "Check the network connection, the proxy and the index in pip's configuration, then try again.",
    ),
    _Symptom(
        r"no interpreter found|failed to inspect python|python interpreter not found|failed to download.*python|no download found for request",
        "python-missing",
        "No Python 3.11 or 3.12 was found, and none could be downloaded.",
        "Install Python 3.11 (for example from your system's package manager), then try again.",
    ),
    _Symptom(
        r"there (is|are) no versions? of|was not found in the (package registry|provided)",
        "package-missing",
        "The configured package index does not offer a package or version that is planned.",
        "Check the version if you asked for one, and the index: behind a login page it looks empty.",
    ),
    _Symptom(
        r"no solution found|unsatisfiable|no matching",
        "resolve-impossible",
        "The planned package versions cannot be installed together from the configured indexes.",
        "Undo the version overrides if you gave any; otherwise check that the configured index is complete.",
    ),
)


def from_uv(output: str, returncode: int) -> UvFailed:
    """Turn uv's stderr into a plain error; what is not recognised is shown as it is."""
    for symptom in _UV_SYMPTOMS:
        if re.search(symptom.pattern, output, re.IGNORECASE | re.DOTALL):
            detail = _error_line(output) if symptom.whole else _detail(output)
            message = f"{symptom.message} ({detail})" if detail else symptom.message
            return UvFailed(symptom.code, message, symptom.remedy, output)
    if returncode < 0:
        return UvFailed(
            "uv-killed",
            f"The installer program uv was ended by the system (signal {-returncode}).",
            "Memory may have run out: close other programs, then try again.",
            output,
        )
    return UvFailed(
        "uv-failed",
        f"The installer program uv failed: {_detail(output) or f'exit code {returncode}'}",
        "Read the installation log for the whole output, then try again.",
        output,
    )


def _error_line(output: str) -> str:
    """All of uv's error in one line, what follows as picture or hint left away."""
    kept = re.split(r"\n\s*\n|\n\s*\|", output.strip())[0]
    return _shortened(" ".join(kept.removeprefix("error:").split()))


def _detail(output: str) -> str:
    """The line of uv's error that says most: the innermost cause, else the error line, cut to one line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    causes = [line.split(":", 1)[1].strip() for line in lines if re.match(r"(?i)(cause|caused by):", line)]
    errors = [line.split(":", 1)[1].strip() for line in lines if line.lower().startswith("error:")]
    chosen = (causes or errors or lines or [""])[-1 if causes else 0]
    return _shortened(chosen)


def _shortened(text: str) -> str:
    return text if len(text) <= 300 else text[:297] + "..."


def from_os(error: OSError, doing: str) -> EnvError:
    """Turn an operating-system error into a plain one; `doing` completes "Fettle could not ..."."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return EnvError(
            "disk-full",
            f"The disk is full: Fettle could not {doing}{where}.",
            "Free some space or move the Fettle folder to a larger disk, then try again.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return EnvError(
            "no-permission",
            f"Permission denied: Fettle could not {doing}{where}.",
            "Make the Fettle folder writable for your user or choose another one with FETTLE_HOME.",
        )
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
        return EnvError(
            "in-the-way",
            f"Something else lies there: Fettle could not {doing}{where}: {error.strerror}.",
            "Move or rename what lies there, or name another place, then try again.",
        )
    if error.errno == errno.ENOENT:
        return EnvError(
            "path-missing",
            f"A folder on the way is not there: Fettle could not {doing}{where}.",
            "Check the name, and that the disk is connected, then try again.",
        )
    return EnvError(
        "system-error",
        f"The system reported an error: Fettle could not {doing}{where}: {error.strerror or error}.",
        "Check the disk that holds the Fettle folder, then try again.",
    )
