"""Everything that decides the rest of a run, taken out of the loop and put back bit for bit."""

from __future__ import annotations

import json
import random
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from trainer.data.masks import Example
from trainer.tensor_files import system_errors

TRAINABLE, BEST, OPTIMIZER, RANDOM, STATE = (
    "trainable.safetensors",
    "best.safetensors",
    "optimizer.safetensors",
    "random.safetensors",
    "state.json",
)
Tensors = dict[str, torch.Tensor]


@dataclass
class Progress:
    """Where a run is. `batches` counts those taken from the order of rows, which the seed decides."""

    step: int = 0
    batches: int = 0
    tokens: int = 0
    scored: int = 0
    seconds: float = 0.0
    micro_batch: int | None = None  # rows at once; None: all of a batch
    recomputes: bool = False  # whether want of memory has switched gradient checkpointing on
    best_loss: float | None = None  # of the held-out rows during training, in nats
    best_step: int = 0
    without_gain: int = 0  # evaluations since the best
    base: dict[str, Any] | None = None  # the base's score, which is measured once


@dataclass(frozen=True)
class Snapshot:
    """Copies on the CPU of one moment of a run, to be written while the run goes on."""

    tensors: dict[str, Tensors]
    state: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Put the files of a checkpoint into a folder."""
        with system_errors():
            for name, tensors in self.tensors.items():
                save_file(tensors, folder / name)
        (folder / STATE).write_text(json.dumps(self.state, allow_nan=False), encoding="utf-8")


def take(progress: Progress, model: Any, optimizer: Any, scaler: Any, best: Tensors, about: dict[str, Any]) -> Snapshot:
    """Copy all of it; `about` (data, versions) is what the run that goes on compares itself with."""
    tensors, optimizer_state = _take_optimizer(optimizer)
    random_tensors, random_state = take_random()
    state = {
        "progress": asdict(progress),
        "optimizer": optimizer_state,
        "random": random_state,
        "scaler": scaler.state_dict() if scaler else None,
        "about": about,
    }
    copies = {TRAINABLE: trainable(model), OPTIMIZER: tensors, RANDOM: random_tensors}
    return Snapshot(copies | ({BEST: best} if best else {}), state)


def read_state(folder: Path) -> tuple[Progress, dict[str, Any]]:
    """Where the run was, and what it was about; needs no model."""
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    known = {field.name for field in fields(Progress)}
    return Progress(**{key: value for key, value in state["progress"].items() if key in known}), state["about"]


def put_back(folder: Path, model: Any, optimizer: Any, scaler: Any) -> None:
    """Restore weights, optimiser and random states: nothing random may come between this and the next step."""
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    put_trainable(model, load_file(folder / TRAINABLE))
    _put_back_optimizer(optimizer, load_file(folder / OPTIMIZER), state["optimizer"])
    if scaler:
        scaler.load_state_dict(state["scaler"])
    put_back_random(load_file(folder / RANDOM), state["random"])


def fingerprint(examples: Sequence[Example]) -> str:
    """SHA-256 of all token ids and labels, in order."""
    digest = sha256()
    for example in examples:
        digest.update(array("q", [len(example.ids), *example.ids, *example.labels]).tobytes())
    return digest.hexdigest()


def _trained(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def trainable(model: Any) -> Tensors:
    """Copies on the CPU of everything that is trained."""
    return {name: _copy(parameter) for name, parameter in _trained(model)}


def put_trainable(model: Any, saved: Tensors) -> None:
    """Give the model those weights."""
    with torch.no_grad():
        for name, parameter in _trained(model):
            parameter.copy_(saved[name])


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def _take_optimizer(optimizer: Any) -> tuple[Tensors, dict[str, Any]]:
    """The optimiser's tensors by their path in its state, as `0/exp_avg`; everything else as JSON."""
    tensors: Tensors = {}
    whole = optimizer.state_dict()
    values = {str(number): _without_tensors(state, f"{number}", tensors) for number, state in whole["state"].items()}
    return tensors, {"state": values, "param_groups": whole["param_groups"]}


def _without_tensors(state: dict[str, Any], path: str, tensors: Tensors) -> dict[str, Any]:
    """What of a state is no tensor; bitsandbytes keeps its tensors in a dictionary within the dictionary."""
    values: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            tensors[f"{path}/{name}"] = _copy(value)
        else:
            values[name] = _without_tensors(value, f"{path}/{name}", tensors) if isinstance(value, dict) else value
    return values


def _put_back_optimizer(optimizer: Any, tensors: Tensors, told: dict[str, Any]) -> None:
    state: dict[int, dict[str, Any]] = {int(number): values for number, values in told["state"].items()}
    for path, tensor in tensors.items():
        number, *inner, name = path.split("/")
        values = state[int(number)]
        for part in inner:
            values = values[part]
        values[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": told["param_groups"]})


def take_random() -> tuple[Tensors, dict[str, Any]]:
    """The states of every generator that a library may draw from."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    tensors = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(keys.astype(np.int64))}
    if torch.cuda.is_available():
        tensors |= {f"cuda.{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    if torch.backends.mps.is_available():
        tensors["mps"] = torch.mps.get_rng_state()
    return tensors, {"python": random.getstate(), "numpy": [kind, position, has_gauss, gauss]}


def put_back_random(tensors: Tensors, told: dict[str, Any]) -> None:
    version, words, gauss = told["python"]
    random.setstate((version, tuple(words), gauss))
    kind, position, has_gauss, cached = told["numpy"]
    np.random.set_state((kind, tensors["numpy"].numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(tensors["torch"])
    if torch.cuda.is_available():  # a run may go on where there are fewer GPUs, or none
        for i in range(torch.cuda.device_count()):
            if f"cuda.{i}" in tensors:
                torch.cuda.set_rng_state(tensors[f"cuda.{i}"], i)
    if "mps" in tensors and torch.backends.mps.is_available():
        torch.mps.set_rng_state(tensors["mps"])
