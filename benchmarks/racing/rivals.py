"""The rivals' own environments, made when first asked for."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from env_manager.uv import Uv


@dataclass(frozen=True)
class Rival:
    """What to install; `overrides` replace what a package asks for where an index cannot give it."""

    packages: list[str]
    overrides: list[str] = field(default_factory=list)


# They are of use for pictures and sound alone, and their builds on an index are for CUDA: beside a torch for the CPU they
# do not load, and packages that find them fail.
NO_SIGHT, NO_SOUND = "torchvision; sys_platform == 'never'", "torchaudio; sys_platform == 'never'"
RIVALS = {
    # TRL needs triton for its loss, also on a CPU.
    "trl": Rival(["trl", "peft", "triton"]),
    "vision": Rival(["trl", "peft", "triton", "pillow"]),
    "peft": Rival(["peft", "transformers", "accelerate"]),
    "llamafactory": Rival(["llamafactory"], [NO_SIGHT, NO_SOUND]),
    # The first that trains on a CPU. It asks for a certifi of the day before it came out, which indexes with a delay lack.
    "unsloth": Rival(["unsloth>=2026.10.9"], [NO_SIGHT, "certifi"]),
}


def interpreter(home: Path, lane: str, python: Path) -> Path:
    """The interpreter of a lane's rival below `home`; `python` is Fettle's, whose build of torch all have."""
    name = lane.split("-")[0]
    env = home / name
    if not (env / "whole").exists():
        rival = RIVALS[name]
        home.mkdir(parents=True, exist_ok=True)
        uv = Uv.create(home / "cache", print, lambda: False)
        uv.run(["venv", str(env), "--clear", "--python", str(python), "--quiet"], cwd=home)
        overrides = home / f"{name}.overrides"
        overrides.write_text("\n".join(rival.overrides), encoding="utf-8")
        torch = f"torch==={version(python, 'torch')}"
        command = ["pip", "install", "--quiet", "--python", str(env / "bin" / "python"), "--override", str(overrides)]
        uv.run([*command, torch, *rival.packages], cwd=home)
        (env / "whole").touch()
    return env / "bin" / "python"


def version(python: Path, package: str) -> str:
    """A package's version as an interpreter sees it."""
    asked = [str(python), "-c", f"import importlib.metadata as m; print(m.version({package!r}))"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def about(home: Path, lane: str, python: Path) -> str:
    """The versions that a lane runs with."""
    used = interpreter(home, lane, python)
    own = RIVALS[lane.split("-")[0]].packages[0].partition(">")[0]
    packages = dict.fromkeys([own, "transformers", "peft", "torch"])
    return ", ".join(f"{package} {version(used, package)}" for package in packages)
