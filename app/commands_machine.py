"""`fettle env hardware`: this machine, the build of torch for it, and the interpreters on it, with reasons."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from app.terminal import say_json, size
from env_manager.generations import Store
from env_manager.hardware import Hardware, detect
from env_manager.planning.catalog_file import load_catalog
from env_manager.planning.interpreter import Candidate, candidates
from env_manager.planning.torch_index import Asked, TorchChoice, choose_torch
from env_manager.uv import Uv


def show(store: Store, asked: Asked, *, as_json: bool) -> None:
    """Print what an installation would start from; nothing is changed."""
    catalog = load_catalog()
    machine = detect(store.root)
    choice = choose_torch(machine, catalog, asked=asked)
    with tempfile.TemporaryDirectory() as folder:
        uv = Uv.create(store.cache, lambda line: None, lambda: False)
        pythons = candidates(uv, catalog.python, Path(folder))
    if as_json:
        say_json(_record(machine, choice, pythons))
        return
    for line in _lines(machine, choice, pythons):
        print(line)


def _record(machine: Hardware, choice: TorchChoice, pythons: tuple[Candidate, ...]) -> dict[str, Any]:
    torch = {
        "build": choice.build,
        "index_url": choice.index_url,
        "reason": choice.reason,
        "advice": list(choice.advice),
    }
    return {"hardware": machine.as_json(), "torch": torch, "pythons": [each.as_json() for each in pythons]}


def _lines(machine: Hardware, choice: TorchChoice, pythons: tuple[Candidate, ...]) -> list[str]:
    inside = [f"WSL {machine.wsl}"] if machine.wsl else []
    inside += [f"{machine.container} container"] if machine.container else []
    lines = [
        f"system: {machine.os} {machine.os_version} {machine.arch}" + "".join(f", {each}" for each in inside),
        f"processor: {machine.cpu}, {machine.cores} cores, {' '.join(machine.instruction_sets) or 'unknown instructions'}",
        f"memory: {size(machine.memory_bytes or 0)}; disk: {size(machine.disk_free_bytes or 0)} free",
    ]
    for number, gpu in enumerate(machine.gpus):
        memory = f", {size(gpu.memory_bytes)}" if gpu.memory_bytes else ""
        free = f" ({size(gpu.free_bytes)} free)" if gpu.free_bytes is not None else ""
        lines.append(f"gpu {number}: {gpu.name} ({gpu.compute_capability or 'capability unknown'}){memory}{free}")
    if machine.driver:
        lines.append(f"NVIDIA driver: {machine.driver}, CUDA {machine.cuda or 'unknown'}")
    lines.append(f"torch: {choice.build}. {choice.reason}")
    lines += [f"note: {each}" for each in (*machine.notes, *choice.advice)]
    lines += [f"python {each.version}: {each.path}. {each.why}" for each in pythons]
    return lines
