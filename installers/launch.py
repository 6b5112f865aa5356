"""Start Fettle from a checkout: find uv or fetch it into a private folder, then run the app with it.

Standard library only, for whatever Python the system has (3.10 or newer). pip's configuration is honoured
for uv itself and for the app's packages.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
UV_VERSION = "0.13.8"  # fetched when there is none
UV_OLDEST = (0, 8)  # an older one on the PATH is passed over

sys.path.insert(0, str(ROOT))
from env_manager.pip_config import uv_environment  # noqa: E402 - found only through the line above


def main(arguments: list[str]) -> int:
    """Run `fettle` with the arguments; returns its exit status."""
    uv = find_uv() or fetch_uv()
    environment = os.environ | uv_environment()
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "UV_PROJECT", "UV_PROJECT_ENVIRONMENT"):
        environment.pop(name, None)
    first = not (ROOT / ".venv").exists()
    if first:
        print("Preparing Fettle; the first start takes about half a minute.", file=sys.stderr, flush=True)
    command = [
        uv,
        "run",
        "--project",
        str(ROOT),
        *([] if first else ["--quiet"]),
        *interpreter(first),
        *extras(arguments),
        "fettle",
        *arguments,
    ]
    if os.name == "nt":
        return subprocess.call(command, env=environment)
    os.execve(uv, command, environment)


def interpreter(first: bool) -> list[str]:
    """This Python for the app's environment when it fits; else uv looks for one."""
    return ["--python", sys.executable] if first and (3, 10) <= sys.version_info[:2] <= (3, 12) else []


def extras(arguments: list[str]) -> list[str]:
    """Dependency groups for what is about to happen: the window's engine only when a window will open."""
    command = next((word for word in arguments if not word.startswith("-")), "open")
    if command == "test":
        return ["--extra", "qt"]
    asks_only = any(word in ("--help", "--version") for word in arguments)
    return ["--no-dev", *(window_extra() if command == "open" and not asks_only else [])]


def window_extra() -> list[str]:
    """Qt on Linux with a display, the system's web view elsewhere, nothing where no window can open."""
    if not sys.platform.startswith("linux"):
        return ["--extra", "window"]
    has_display = (
        os.environ.get("DISPLAY")
        or os.environ.get("WAYLAND_DISPLAY")
        or os.environ.get("QT_QPA_PLATFORM") == "offscreen"
    )
    return ["--extra", "qt"] if has_display else []


def private_folder() -> Path:
    """Where a uv of our own lies: the user's cache, shared by all checkouts."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "fettle" / f"uv-{UV_VERSION}"


def find_uv() -> str | None:
    """A usable uv: the one named in FETTLE_UV, on the PATH, or fetched before."""
    for candidate in (
        os.environ.get("FETTLE_UV"),
        shutil.which("uv"),
        *(str(path) for path in uv_places(private_folder())),
    ):
        if candidate and Path(candidate).is_file() and uv_version(candidate) >= UV_OLDEST:
            return candidate
    return None


def uv_places(folder: Path) -> list[Path]:
    """Where uv lies in an environment or in a `--target` folder."""
    name = "uv.exe" if os.name == "nt" else "uv"
    return [folder / "bin" / name, folder / "Scripts" / name]


def uv_version(uv: str) -> tuple[int, ...]:
    """Major and minor version; (0,) when it does not answer."""
    try:
        answer = subprocess.run([uv, "--version"], capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return (0,)
    found = re.search(r"(\d+)\.(\d+)", answer)
    return (int(found[1]), int(found[2])) if found else (0,)


def fetch_uv() -> str:
    """Install uv into the private folder; never into the system's Python, which may rightly refuse that."""
    folder = private_folder()
    print("Fetching uv, the package engine.", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    package = f"uv=={UV_VERSION}"
    reason = "the fetched one does not run here"
    for prepare, install in (
        ([sys.executable, "-m", "venv", str(folder)], [*inside(folder), "-m", "pip", "install", "--quiet", package]),
        (None, [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), package]),
    ):
        for command in filter(None, (prepare, install)):
            done = subprocess.run(
                command, capture_output=True, text=True, env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
            )
            if done.returncode:
                reason = ((done.stderr or done.stdout).strip().splitlines() or [f"status {done.returncode}"])[-1]
                break
        uv = next((str(path) for path in uv_places(folder) if path.is_file()), None)
        if uv and uv_version(uv) >= UV_OLDEST:
            return uv
        shutil.rmtree(folder, ignore_errors=True)
    leave(reason)


def inside(folder: Path) -> list[str]:
    """The Python of a virtual environment."""
    return [str(folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python")]


def leave(reason: str) -> NoReturn:
    """Say that uv could not be fetched, and what to do."""
    print(f"error: uv could not be fetched: {reason}", file=sys.stderr)
    print(
        "  Check the network and pip's index, install uv yourself, or name it in FETTLE_UV.  [uv-missing]",
        file=sys.stderr,
    )
    sys.exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
