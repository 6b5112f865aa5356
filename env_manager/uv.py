"""The one place that runs uv: a clean environment, streamed output, cancellation."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from env_manager import child
from env_manager.errors import EnvError, InstallStopped, UvFailed, from_uv
from env_manager.pip_config import broken_pip_file, uv_environment

# What the outside may tell a child: where things are, which language, which proxy and
# certificate. Anything else, PYTHONPATH and VIRTUAL_ENV first of all, stays out.
_KEPT_VARIABLES = frozenset(
    (
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE"),
        *("TZ", "TMPDIR", "TEMP", "TMP", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"),
        *("XDG_DATA_HOME", "SYSTEMROOT", "WINDIR", "COMSPEC", "PATHEXT", "APPDATA"),
        *("LOCALAPPDATA", "PROGRAMDATA", "PROGRAMFILES", "USERPROFILE", "HOMEDRIVE", "HOMEPATH"),
        *(
            "NUMBER_OF_PROCESSORS",
            "PROCESSOR_ARCHITECTURE",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "SSL_CLIENT_CERT",
            "NETRC",
        ),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
        *("CUDA_VISIBLE_DEVICES", "CUDA_HOME", "CUDA_PATH"),
    )
)


# As uv itself understands a variable that switches something.
_NO = ("0", "false", "f", "no", "n", "off", "")


def clean_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a child: nothing of Python's or uv's settings leaks in from outside."""
    environ = os.environ if environ is None else environ
    return {
        name: value
        for name, value in environ.items()
        if name.upper() in _KEPT_VARIABLES or name.upper().startswith("LC_")
    }


def _refusal() -> EnvError | None:
    broken = broken_pip_file(os.environ)
    return broken and EnvError(
        "pip-config-broken",
        f"pip's configuration {broken[0]} cannot be understood, so it is unknown which index it names: {broken[1]}",
        "Correct the file, or take it away. To pass over all of pip's files, set PIP_CONFIG_FILE to the null device.",
    )


def find_uv() -> str:
    """The uv binary of the uv package, else the one on the path."""
    try:
        import uv

        return os.fsdecode(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found:
        return found
    raise EnvError(
        "uv-missing",
        "The program uv, which installs packages, is not here.",
        "Install Fettle again, or install uv so that it is on the path.",
    )


@dataclass(frozen=True)
class Uv:
    """uv with everything it may know: its cache, the user's index configuration, where its output goes."""

    cache: Path
    environ: dict[str, str]
    log: Callable[[str], None] = lambda line: None
    cancelled: Callable[[], bool] = lambda: False
    offline: bool = False
    # Asks the network only for what the cache cannot give.
    cache_first: bool = False
    # Why nothing may be asked of an index.
    refused: EnvError | None = None
    # For resolves on behalf of a machine that is not here.
    target: tuple[str, ...] = ()

    @classmethod
    def create(cls, cache: Path, log: Callable[[str], None], cancelled: Callable[[], bool]) -> Uv:
        settings = uv_environment(os.environ)
        own_cache = settings.pop("UV_CACHE_DIR", None)
        offline = settings.pop("UV_OFFLINE", "no").lower() not in _NO
        environ = clean_environment() | settings
        return cls(Path(own_cache or cache), environ, log, cancelled, offline, refused=_refusal())

    def with_offline(self) -> Uv:
        return replace(self, offline=True)

    def with_cache_first(self) -> Uv:
        return replace(self, cache_first=True)

    def for_target(self, target: tuple[str, ...]) -> Uv:
        """uv that resolves for the platform and Python that these arguments name."""
        return replace(self, target=target)

    def only_from(self, folder: Path) -> Uv:
        """uv that knows one folder of wheels and nothing else."""
        kept = {name: value for name, value in self.environ.items() if not name.startswith(("UV_INDEX", "UV_EXTRA"))}
        kept = {name: value for name, value in kept.items() if name not in ("UV_DEFAULT_INDEX", "UV_CONFIG_FILE")}
        # As an address, because uv splits a plain path at commas.
        only = {"UV_NO_INDEX": "1", "UV_NO_CONFIG": "1", "UV_FIND_LINKS": folder.absolute().as_uri()}
        return replace(self, environ=kept | only, offline=True)

    def with_environ(self, **variables: str) -> Uv:
        return replace(self, environ=self.environ | variables)

    def run(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        on_tick: Callable[[], None] = lambda: None,
        undo: Callable[[], None] = lambda: None,
    ) -> str:
        """Run uv and return its stdout; raises a plain error from its stderr, after each failed try has been undone."""
        if self.refused:
            raise self.refused
        if self.cache_first and not self.offline:
            try:
                return self.with_offline().run(arguments, cwd=cwd, on_tick=on_tick, undo=undo)
            except UvFailed as error:
                self.log(f"{error.message} The cache does not have all of it; trying with the network.")
        argv = [find_uv(), *arguments, "--cache-dir", str(self.cache), "--color", "never", "--no-progress"]
        if list(arguments[:2]) == ["pip", "compile"]:
            argv += self.target
        if self.offline:
            argv.append("--offline")
        self.log("$ uv " + " ".join(argv[1:]))
        done = child.run(argv, env=self.environ, cwd=cwd, on_line=self.log, on_tick=on_tick, cancelled=self.cancelled)
        if done.ended == "cancelled":
            raise InstallStopped()
        if done.returncode != 0:
            undo()
            raise from_uv(done.stderr, done.returncode)
        return done.stdout
