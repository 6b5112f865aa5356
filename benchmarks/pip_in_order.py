"""What many guides tell a user to type: pip commands one after the other, each resolved by itself."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from env_manager.generations import Generation

# In the order of the guides. What they also name and this machine may lack is left out: torchvision and torchaudio of
# the same build, xformers and unsloth without a GPU, triton for Windows elsewhere.
COMMANDS = (
    ["numpy<2"],
    ["torch"],
    ["--upgrade", "transformers", "huggingface_hub"],
    ["bitsandbytes"],
    ["trl", "peft", "accelerate", "datasets", "tensorboard"],
)
WORKS = "import numpy, torch; torch.from_numpy(numpy.ones(2)); from transformers import AutoProcessor; import datasets, peft, trl"


@dataclass(frozen=True)
class ByPip:
    """Seconds of all commands, and the last line of what happened when the packages were used together."""

    seconds: float
    outcome: str


def pip_in_order(folder: Path, name: str, generation: Generation) -> ByPip:
    """Run the commands in a new environment, with the same Python and the same build of torch as `generation`."""
    python = folder / name / generation.python.relative_to(generation.env)
    began = time.monotonic()
    _run([generation.interpreter["path"], "-m", "venv", str(folder / name)])
    for words in COMMANDS:
        # By exact version: a plain "torch" may be a build of several gigabytes for a GPU that is not here.
        words = [f"torch=={generation.packages['torch']}" if word == "torch" else word for word in words]
        pip = [str(python), "-m", "pip", "install", "-qq", "--cache-dir", str(folder / "pip-cache")]
        _run([*pip, *words, *_index(generation)])
    seconds = time.monotonic() - began
    used = subprocess.run([str(python), "-c", WORKS], capture_output=True, text=True)
    print(f"  {name}: {seconds:.1f} s", flush=True)
    return ByPip(seconds, "works" if used.returncode == 0 else used.stderr.strip().splitlines()[-1])


def _index(generation: Generation) -> list[str]:
    url = (generation.plan.get("source") or {}).get("index_url")
    return ["--extra-index-url", url] if url else []


def _run(command: list[str]) -> None:
    quiet = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run(command, check=True, env=quiet)
