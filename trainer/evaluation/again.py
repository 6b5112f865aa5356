"""Judge the adapter of an earlier run once more, on the same or on other rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from trainer.data.masks import encode
from trainer.data.reading import read_samples
from trainer.data.samples import Sample
from trainer.device import choose_base_precision, choose_device, choose_precision, choose_threads
from trainer.errors import TrainError
from trainer.evaluation.answers import Answers
from trainer.evaluation.before_after import BeforeAfter, Judge
from trainer.evaluation.predictions import pictures_judge
from trainer.models.folder import read_config
from trainer.models.hub import called_by, model_folder
from trainer.models.loading import DTYPES, load_base
from trainer.models.task import adapter_classes
from trainer.models.tokenizer import load_tokenizer
from trainer.needs import bf16_is_exact
from trainer.operation import Operation, read_record
from trainer.report import Report
from trainer.snapshot import Progress
from trainer.spec import Data, RunSpec
from trainer.speed.choice import fuse_all
from trainer.vision import classifies
from trainer.vision.sight import Sight


def judge_again(operation: Operation) -> None:
    """Judge both sides as the record asks (`spec`, `adapter`, `data` or None for the run's own held-out rows, `rows`).

    The last event is `done` or `stopped`; failures are raised.
    """
    run, record = Report(operation), read_record(operation.folder)
    spec, adapter = RunSpec.model_validate(record["spec"]), Path(record["adapter"])
    run.phase("data", "Reading the data")
    rows = rows_to_judge(spec.data, record["data"])[: record["rows"] or spec.evaluation.rows]
    judge, classes = _judge(spec, adapter, rows)
    run.counts = "pictures" if classes else "tokens"

    device, why_device = choose_device("auto")
    asked = "fp32" if spec.training.precision == "fp32" else "auto"  # where it trained in fp16, this device may not
    precision, why_precision = choose_precision(asked, device, bf16_is_exact=bf16_is_exact(spec))
    base_precision, why_base = choose_base_precision(spec.base_precision, precision)
    run.phase("model", f"Loading {called_by(spec.model)} and its adapter")
    base = load_base(model_folder(spec.model), DTYPES[base_precision], spec.quantise, device, spec.trust_code, classes)
    model: Any = PeftModel.from_pretrained(base, adapter).eval().to(device)
    if spec.training.end_to_end != "off" and not classes:
        fuse_all(model)
    threads, why_threads = choose_threads(spec.training.threads, model)
    torch.set_num_threads(threads)
    run.chosen(device=why_device, precision=why_precision, base=why_base, threads=why_threads)
    judged = BeforeAfter(operation.folder, judge, run)
    with torch.autocast(device, torch.bfloat16, enabled=precision not in ("fp32", base_precision)):
        judged.judge_base(model, Progress())
        judged.judge_tuned(model)
    operation.emit("stopped" if run.ending() else "done")


def _judge(spec: RunSpec, adapter: Path, rows: list[Sample]) -> tuple[Judge, tuple[str, ...]]:
    """How the adapter's kind of model is judged, and the classes that it tells apart, if it does."""
    base = model_folder(spec.model)
    if classifies(read_config(base)):
        return pictures_judge(base, adapter, rows), adapter_classes(adapter)
    tokenizer = load_tokenizer(adapter)
    sight = Sight.of(base, tokenizer)
    return Answers(tokenizer, rows, encode(tokenizer, rows, spec.data, sight), spec.evaluation, sight), ()


def rows_to_judge(data: Data, file: str | None) -> list[Sample]:
    """All rows of a file, read as the run's own; without one its held-out rows. Raises `TrainError` where there are none."""
    if file is not None:
        alone = {"train": file, "held_out": None, "held_out_share": 0.0, "mix": "", "deduplicate": False}
        return read_samples(data.model_copy(update=alone)).train
    held_out = read_samples(data).held_out
    if not held_out:
        raise TrainError(
            "held-out-missing", "This run has no held-out rows to be judged on.", "Name a file of rows: `--data FILE`."
        )
    return held_out
