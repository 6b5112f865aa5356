"""The base with its adapter merged into its weights, as a model folder of its own, proved before it gets its name."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import psutil
import torch
from peft import PeftModel
from transformers import GenerationConfig

from trainer.data.reading import read_samples
from trainer.data.samples import Sample
from trainer.device import choose_threads
from trainer.errors import TrainError
from trainer.export.adapter import write_whole
from trainer.export.agreement import Agreement, compare, prompts_of, said_by
from trainer.export.card import CARD, card
from trainer.export.origin import Origin
from trainer.models.code import wants_code
from trainer.models.folder import read_config
from trainer.models.loading import load_base
from trainer.models.tokenizer import load_tokenizer
from trainer.models.weights import read_weights
from trainer.operation import Operation, read_record
from trainer.report import Report
from trainer.spec import RunSpec
from trainer.vision.sight import Sight

SHARD = "5GB"
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}  # that a parameter takes
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def export_merged(operation: Operation) -> None:
    """Merge as the operation's record asks; the last event is `done` with `output`, or `stopped`; failures are raised.

    The record names `run_folder` and its `spec`, `adapter`, `output` and, where it is not the base's own, the `precision`.
    """
    run, record = Report(operation), read_record(operation.folder)
    adapter, target = Path(record["adapter"]), Path(record["output"])
    origin = Origin.of(Path(record["run_folder"]), RunSpec.model_validate(record["spec"]))
    if wants_code(read_config(origin.base)):
        raise TrainError(
            "model-needs-code",
            f"{origin.base_id()} runs code from its own folder, which a merged model would have to carry along.",
            "Use the adapter as it is.",
        )
    parameters = sum(map(math.prod, read_weights(origin.base).shapes.values()))
    precision = record["precision"] or own_precision(origin.base)
    require_memory(parameters)

    if origin.spec.quantise != "none":
        run.warn(
            f"The adapter was trained on a base of {origin.spec.quantise}; it is merged into the base's full weights."
        )
    run.phase("model", f"Loading {origin.base_id()} and its adapter")
    tokenizer = load_tokenizer(adapter)
    model: Any = PeftModel.from_pretrained(load_base(origin.base, torch.float32), adapter).eval()
    torch.set_num_threads(choose_threads(None, model)[0])
    sight = Sight.of(origin.base, tokenizer)
    expected = said_by(model, tokenizer, prompts_of(tokenizer, _rows(origin.spec), sight))
    if run.ending():
        operation.emit("stopped", output=None)
        return

    run.phase("merging", f"Merging in fp32, to be stored in {precision}")
    model = merge(model).to(TYPES[precision])
    found: list[Agreement] = []

    def fill(folder: Path) -> None:
        nonlocal model
        run.phase("saving", f"Writing {parameters * BYTES[precision] / 1e6:,.0f} MB")
        model.generation_config = GenerationConfig.from_model_config(model.config)  # the base's own is copied below
        model.save_pretrained(folder, max_shard_size=SHARD)
        tokenizer.save_pretrained(folder)
        if sight:
            sight.processor.save(folder)
        del model  # one at a time in memory
        if (origin.base / "generation_config.json").is_file():
            shutil.copy(origin.base / "generation_config.json", folder)
        run.phase("checking", "Reading the merged model back from disk")
        again = load_tokenizer(folder)
        prompts = prompts_of(again, _rows(origin.spec), Sight.of(folder, again))
        said = said_by(load_base(folder, torch.float32).eval(), again, prompts)
        found.append(compare(expected, said, precision))
        if not found[0].good:
            raise TrainError(
                "export-differs",
                f"The merged model does not answer as base and adapter do, so it was not kept: {found[0]}.",
                "Choose fp32, or use the adapter as it is; the message is worth a report.",
            )
        note = f"Merged in fp32, stored in {precision}, and compared with base and adapter: {found[0]}."
        (folder / CARD).write_text(card(origin, note, merged=True), encoding="utf-8")

    write_whole(target, fill, "merged model", "Free some space, or name a folder on another disk.", replace=False)
    run.read_back(True, str(found[0]), "a model loaded from disk")
    operation.emit("done", output=str(target), difference=found[0].difference)


def merge(model: PeftModel) -> Any:
    """The plain model with the adapter's update in its weights.

    Head and embeddings that share one matrix are parted where only one of them was trained, or both would change.
    """
    base = model.get_base_model()
    head, embeddings = base.get_output_embeddings(), base.get_input_embeddings()
    if head is not None and _trained(head) != _trained(embeddings) and _plain(head).weight is _plain(embeddings).weight:
        _plain(head).weight = torch.nn.Parameter(_plain(head).weight.detach().clone(), requires_grad=False)
    return model.merge_and_unload()


def _trained(module: Any) -> bool:
    return hasattr(module, "lora_A") or hasattr(module, "modules_to_save")


def _plain(module: Any) -> Any:
    """The model's own module within what PEFT has put around it."""
    for name in ("base_layer", "original_module"):
        module = getattr(module, name, module)
    return module


def _rows(spec: RunSpec) -> list[Sample]:
    """The run's rows, held-out ones first; none where the data is no longer what it was."""
    try:
        samples = read_samples(spec.data)
    except (TrainError, OSError):
        return []
    return samples.held_out or samples.train


def own_precision(base: Path) -> str:
    """What the base says it is stored in; fp32 where it is something else, as 8 bits."""
    told = read_config(base)
    name = told.get("dtype") or told.get("torch_dtype")
    return next((precision for precision, kind in TYPES.items() if name == str(kind).removeprefix("torch.")), "fp32")


def require_memory(parameters: int) -> None:
    """Raise `TrainError` where the model in fp32, in which it is merged, does not fit into what is free."""
    needed, free = parameters * BYTES["fp32"], psutil.virtual_memory().available
    if needed > free:
        raise TrainError(
            "out-of-memory",
            f"Merging takes {needed / 1e9:.1f} GB of memory for the weights in fp32; {free / 1e9:.1f} GB are free.",
            "Close other programs, merge on a larger machine, or use the adapter as it is.",
        )
