"""Pickled weights as safetensors: a script for an interpreter with torch, in a process of its own.

    python -I pickled.py FOLDER OUTPUT

Writes one safetensors file for each pickled one, and their index. torch's restricted unpickler builds tensors and
calls nothing else; memory and processor time are limited to what the files can need. What is refused ends the script
with one line on standard error and status 3. Imports nothing of its siblings.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import re
import sys
from pathlib import Path
from typing import Any

REFUSED = 3
INDEX = "pytorch_model.bin.index.json"
SECONDS = 3600  # of processor time


def main(folder: Path, output: Path) -> int:
    """Convert every file; returns the exit status."""
    import torch
    from safetensors.torch import save_file

    files = sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        return _refuse(f"{folder.name} holds no pytorch_model.bin")
    _limit(4 * max(file.stat().st_size for file in files) + (1 << 30))
    place: dict[str, str] = {}
    for file in files:
        try:
            told = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            named = re.search(r"GLOBAL ([\w.]+)", str(error))
            return _refuse(f"{file.name} is no plain weights" + (f": it would call {named[1]}" if named else ""))
        except (RuntimeError, ValueError, EOFError, OSError, MemoryError, KeyError, TypeError) as error:
            return _refuse(
                f"{file.name} cannot be read ({str(error).strip().splitlines()[0] if str(error) else 'no memory'})"
            )
        tensors = _tensors(told, torch.Tensor)
        if tensors is None:
            return _refuse(f"{file.name} holds other things than tensors by name")
        name = file.stem.replace("pytorch_model", "model") + ".safetensors"
        # Copies, for safetensors lets no two names share their bytes.
        save_file(
            {key: each.detach().clone().contiguous() for key, each in tensors.items()}, output / name, {"format": "pt"}
        )
        place |= dict.fromkeys(tensors, name)
    if len(files) > 1:
        (output / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": place}))
    return 0


def _tensors(told: Any, kind: type) -> dict[str, Any] | None:
    if isinstance(told, dict) and isinstance(told.get("state_dict"), dict):
        told = told["state_dict"]
    plain = isinstance(told, dict) and all(isinstance(k, str) and isinstance(v, kind) for k, v in told.items())
    return told if plain else None


def _limit(more: int) -> None:
    """Let this process take so many bytes more than now, an hour of processor time, and write no core."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        for what, most in ((resource.RLIMIT_AS, now + more), (resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_CORE, 0)):
            resource.setrlimit(what, (most, most))


def _refuse(reason: str) -> int:
    print(reason, file=sys.stderr)
    return REFUSED


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
