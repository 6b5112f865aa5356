"""What a run would need, answered while its form is filled in: nothing is loaded, and no process is started."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from app import models
from app.api.schema_estimate import EstimateView, MemoryPart, MemoryView
from app.environment import hardware
from app.errors import AppError
from app.operations import Operations
from trainer.data.reading import mixed_in, read_samples
from trainer.data.samples import Sample
from trainer.data.sources import find
from trainer.errors import TrainError
from trainer.memory.choice import Choice, choose
from trainer.memory.estimate import FAMILIES, Load, Row
from trainer.memory.room import free_memory
from trainer.memory.shape import read_shape
from trainer.models.hub import HUB, model_folder
from trainer.needs import BF16_INSTRUCTIONS, bf16_is_exact
from trainer.schedule import planned_steps
from trainer.spec import Data, RunSpec, Training

READ_AT_MOST = 20_000_000  # bytes of data that are read for an estimate; more takes longer than a person waits
CHARACTERS_A_TOKEN = 3  # rather fewer than text has, so that the guess is rather too long than too short
SMALL_VOCABULARY, CHARACTERS_OF_SMALL = 8000, 2
TEMPLATE_TOKENS = 8  # what a chat template puts around a turn
BF16_FROM = (8, 0)  # compute capability of the first NVIDIA GPUs that compute in bf16


def estimate_run(operations: Operations, spec: RunSpec) -> EstimateView:
    """The run's rows, steps and memory; raises `TrainError` where its model cannot be read, or is not here yet."""
    spec = models.with_names_resolved(spec)
    shape = read_shape(_folder(spec.model))
    lengths = _lengths(spec.data, CHARACTERS_OF_SMALL if shape.vocabulary < SMALL_VOCABULARY else CHARACTERS_A_TOKEN)
    rows = len(lengths) if lengths else None
    machine = _machine(operations, spec)
    at_once = min(spec.training.batch_size, rows or spec.training.batch_size)
    longest = lengths[:at_once] or (spec.data.max_length,) * at_once
    load = Load(at_once, longest[0], machine.device, machine.precision, base_precision=machine.base_precision)
    if _lies_end_to_end(shape.family, spec.training):
        load = replace(load, end_to_end=tuple(Row(length, length) for length in longest))
    choice = choose(shape, spec, load, machine.free)
    return EstimateView(
        device=machine.device,
        rows=rows,
        steps=planned_steps(spec.training, rows) if rows else None,
        longest=longest[0],
        fits=choice.fits,
        text=_text(choice, at_once),
        memory=MemoryView(
            parts=MemoryPart.named(choice.parts.by_name()),
            predicted=choice.parts.total,
            free=choice.free,
            rough=choice.parts.rough,
            rows=choice.load.rows,
            recomputes=choice.load.recomputes,
        ),
    )


def _lies_end_to_end(family: str, training: Training) -> bool:
    """Whether the run's own trial will have it so, as far as can be told without the model."""
    return training.end_to_end == "auto" and not training.compile and not training.neftune and family in FAMILIES


def _folder(model: str) -> Path:
    folder = model_folder(model)
    if model.startswith(HUB) and not folder.is_dir():
        raise TrainError(
            "model-missing",
            "The model is not on this machine yet. The run fetches it; what it needs can be told then.",
            "Start the run, or name a folder.",
        )
    return folder


def _text(choice: Choice, at_once: int) -> str:
    load = choice.load
    if not choice.fits:
        return (
            f"Expected not to fit with {load.rows} row{'' if load.rows == 1 else 's'} at once: lower the longest row, "
            "quantise the base, or take a smaller model."
        )
    how = f"all {at_once} rows of a batch" if load.rows == at_once else f"{load.rows} of {at_once} rows"
    return f"Fits with {how} at once" + (", activations computed twice instead of kept." if load.recomputes else ".")


@dataclass(frozen=True)
class _Machine:
    """Where a run would compute, in what, and how many bytes are free there."""

    device: str
    precision: str
    base_precision: str
    free: int


def _machine(operations: Operations, spec: RunSpec) -> _Machine:
    """The same choices as the run's own (`trainer.device`), from what is known without torch."""
    here = hardware(operations.home.root)
    try:
        torch = operations.active_generation().plan.get("torch") or {}
    except AppError:  # nothing is installed yet
        torch = {"accelerator": here.accelerator}
    asked = spec.training.device
    device = str(torch.get("accelerator", "cpu")) if asked == "auto" else asked
    gpus = here.gpus if device == "cuda" else ()
    main = free_memory() or here.memory_bytes or 0
    if not gpus:
        device = "cpu" if device == "cuda" else device
        able = device == "cpu" and not BF16_INSTRUCTIONS.isdisjoint(here.instruction_sets) and bf16_is_exact(spec)
        return _Machine(device, *_precisions(spec, able=able), main)
    gpu = gpus[min(spec.training.gpu or 0, len(gpus) - 1)]
    able = tuple(int(part) for part in (gpu.compute_capability or "0.0").split(".")) >= BF16_FROM
    limit = spec.training.memory_limit
    whole = gpu.memory_bytes or 0
    return _Machine(device, *_precisions(spec, able=able), min(whole, int(limit * 1e9)) if limit else whole)


def _precisions(spec: RunSpec, *, able: bool) -> tuple[str, str]:
    """Of the products and of the base, on a device that is able to compute in bf16, or not."""
    precision = ("bf16" if able else "fp32") if spec.training.precision == "auto" else spec.training.precision
    base = spec.base_precision if spec.base_precision != "auto" else "bf16" if precision == "bf16" else "fp32"
    return precision, base


def _lengths(data: Data, characters: int) -> tuple[int, ...]:
    """Tokens of the rows that are trained on, the longest first; empty where they are not read here."""
    try:
        files = [find(data.train).path, *(find(name).path for name, _ in mixed_in(data.mix))]
        stamps = tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in files if path)
        if len(stamps) < len(files) or sum(size for _, size in stamps) > READ_AT_MOST:
            return ()
        return tuple(min(length, data.max_length) for length in _read(data, characters, stamps))
    except (TrainError, OSError):  # the doctor and the start say what is wrong with the data
        return ()


@lru_cache(maxsize=8)
def _read(data: Data, characters: int, stamps: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """As `_lengths`, uncut; read again when a file's `stamps` have changed."""
    return tuple(sorted((_tokens(each, characters) for each in read_samples(data).train), reverse=True))


def _tokens(sample: Sample, characters: int) -> int:
    texts = [turn["content"] for turn in sample.messages] or [sample.prompt, sample.completion, sample.text]
    return sum(len(text) // characters + TEMPLATE_TOKENS for text in texts if text)
