"""Code of packages that Python runs by itself whenever it starts: seen before it is run, told, and recorded.

It is normal for a few (setuptools brings a `.pth` file that imports), so it is no reason to refuse; but nobody
imports it, and whoever wonders what runs in an environment must be able to read it.
"""

from __future__ import annotations

from pathlib import Path

from env_manager.proving import verify
from env_manager.proving.finding import Check

_CUSTOMIZE = ("sitecustomize", "usercustomize")


def startup_code(env: Path) -> dict[str, str]:
    """Each file that is run when Python starts, with the package it belongs to ("" for nobody's)."""
    return owned(env, startup_files(env))


def startup_files(env: Path) -> list[str]:
    """The files that are run when Python starts, below `env`."""
    site = verify.site_packages(env)
    found = [file for file in sorted(site.glob("*.pth")) if _runs(file)]
    found += [
        file for name in _CUSTOMIZE for file in sorted((*site.glob(f"{name}.*"), *site.glob(f"{name}/__init__.*")))
    ]
    return [file.relative_to(env).as_posix() for file in found]


def owned(env: Path, paths: list[str]) -> dict[str, str]:
    """The package that each of these files belongs to ("" for nobody's)."""
    owners = verify.owners(env, paths) if paths else {}
    return {path: owners.get(path, "") for path in paths}


def _runs(file: Path) -> bool:
    """Whether a `.pth` file does more than name folders: lines that begin with an import are run."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return True  # what cannot be read is not called harmless
    return any(line.startswith(("import ", "import\t")) for line in lines)


def startup_check(env: Path) -> Check:
    """What runs at each start of this environment's Python, as a finding that is never a failure."""
    found = startup_code(env)
    if not found:
        return Check("startup", True, "No package runs code when Python starts.")
    told = ", ".join(f"{path.rpartition('/')[2]} ({owner or 'of no package'})" for path, owner in found.items())
    return Check("startup", True, f"Run whenever Python starts in this environment: {told}.")
