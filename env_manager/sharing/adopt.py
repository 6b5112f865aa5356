"""Takes the versions of an environment that Fettle did not make, so that a generation can be built with them."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from env_manager import child
from env_manager.errors import EnvError
from env_manager.planning.catalog import Catalog, numbers
from env_manager.uv import clean_environment

_ASK = """
import importlib.metadata as metadata, json, sys
found = {each.metadata["Name"]: each.version for each in metadata.distributions() if each.metadata["Name"]}
print(json.dumps({"python": "%d.%d" % sys.version_info[:2], "packages": found}))
"""
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_VERSION = re.compile(r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?")
_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True)
class Adoption:
    """What is taken over: `pinned` for packages of the catalog, `preferred` for what they pull in, and what is not."""

    python: str
    pinned: dict[str, str]
    preferred: dict[str, str]
    refused: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def look(python: Path) -> tuple[str, dict[str, str]]:
    """The version of an interpreter and of every package that it sees; nothing there is changed."""
    if python.is_dir():
        candidates = [python / place for place in ("bin/python", "Scripts/python.exe")]
        python = next((each for each in candidates if each.exists()), python)
    try:
        done = child.run(
            [str(python), "-I", "-c", _ASK], env=clean_environment(), cwd=Path.cwd(), timeout=_TIMEOUT_SECONDS
        )
        data = json.loads(done.stdout)
        return str(data["python"]), {_normal(name): str(version) for name, version in data["packages"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EnvError(
            "python-unusable",
            f"{python} did not tell which packages it has.",
            "Name the Python of an environment, for example path/to/venv/bin/python, or its folder.",
        ) from error


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def adoption(python: str, packages: dict[str, str], catalog: Catalog) -> Adoption:
    """Sort the versions found: those the catalog lists, those that may be pulled in, those that must not be taken."""
    listed = {package.name: package for step in catalog.steps for package in step.packages}
    holds = {hold.name: hold for hold in catalog.holds}
    pinned: dict[str, str] = {}
    preferred: dict[str, str] = {}
    refused: dict[str, str] = {}
    if not listed.keys() & packages.keys():
        raise EnvError(
            "nothing-to-adopt",
            "That Python has none of the packages that training needs.",
            "Name the Python of the environment that you train in.",
        )
    for name, found in sorted(packages.items()):
        # The build, as in 2.13.0+cu130, is chosen for this machine.
        version = found.partition("+")[0]
        if not _NAME.fullmatch(name):
            # It would be a line in a file of requirements, where words have other meanings.
            refused[repr(name)[:80]] = "That is not the name of a package."
        elif not _VERSION.fullmatch(version):
            refused[name] = f"{found} is not a version that an index could have."
        elif name in holds and numbers(version) >= holds[name].below:
            refused[name] = f"{version} breaks {holds[name].requirement}. {holds[name].reason}"
        elif name in listed:
            pinned[name] = version
        else:
            preferred[name] = version
    return Adoption(python, pinned, preferred, refused)
