"""A training run from its folder's record to its adapter: read it top to bottom."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from trainer import checkpoints, report
from trainer.acting import choose_gpu, prepare_device, prepare_model, refuse_idle
from trainer.awake import kept_awake
from trainer.data.reading import read_samples
from trainer.device import (
    choose_base_precision,
    choose_device,
    choose_precision,
    choose_threads,
    hardware,
    memory_in_use,
)
from trainer.export.adapter import describe
from trainer.going_on import go_on
from trainer.memory import peak
from trainer.memory.settling import Step
from trainer.models.adapting import with_lora
from trainer.models.hub import called_by, fetch, model_folder
from trainer.models.loading import DTYPES
from trainer.needs import bf16_is_exact
from trainer.not_finite import require_finite
from trainer.operation import Operation
from trainer.optimizers import make_optimizer
from trainer.portions import Portions
from trainer.profiling import profiled
from trainer.saving import Saving
from trainer.schedule import learning_rate, planned_steps
from trainer.snapshot import Progress, put_back, take
from trainer.spec import RunSpec
from trainer.tasks.choice import task_of


def train(operation: Operation, spec: RunSpec) -> None:
    """Train with the machine kept awake; see `_train`."""
    with kept_awake() as why_awake:
        _train(operation, spec, why_awake)


def _train(operation: Operation, spec: RunSpec, why_awake: str) -> None:
    """Train one adapter; the last event is `done`, `stopped` or `paused`, and failures are raised."""
    # What was before: a run that was paused, stopped or killed goes on from its newest whole checkpoint.
    found = checkpoints.newest(operation.folder)
    run = report.Report(operation, found.step)
    run.warn(*map("A checkpoint is damaged and was skipped: {}.".format, found.damaged))

    # The model's files, where they have to come from the hub first.
    if not fetch(spec.model, spec.trust_code, run):
        run.finish(run.ending() or "stopped", None)
        return
    called, spec = called_by(spec.model), spec.with_changes({"model": str(model_folder(spec.model))})

    # Data: every row is read, checked and made into what the model takes before a weight is loaded.
    run.phase("data", "Reading the data")
    samples = read_samples(spec.data)
    run.warn(*samples.left_out())
    task = task_of(spec, samples, run, operation.folder)
    sampling, watch = task.sampling(), task.watch()

    # Device and precision: chosen by rule, with the reason in the record.
    choose_gpu(spec.training.gpu)
    device, why_device = choose_device(spec.training.device)
    refuse_idle(spec, device)
    prepare_device(spec, device)
    precision, why_precision = choose_precision(spec.training.precision, device, bf16_is_exact=bf16_is_exact(spec))
    base_precision, why_base = choose_base_precision(spec.base_precision, precision)
    casts = precision not in ("fp32", base_precision)
    accelerator = Accelerator(mixed_precision=precision if casts else "no", cpu=device == "cpu")
    set_seed(spec.training.seed)

    # Model: frozen base, fresh adapter.
    run.phase("model", f"Loading {called}")
    fresh_base = partial(task.load, DTYPES[base_precision], device)
    adapted = with_lora(fresh_base(), spec.lora)
    model: Any = adapted.model
    threads, why_threads = choose_threads(spec.training.threads, model)
    torch.set_num_threads(threads)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer: Any = make_optimizer(spec.optimizer, trained, device)
    prepare_model(model, spec)
    model, optimizer = accelerator.prepare(model, optimizer)
    way, why_way = task.way(model)
    run.chosen(
        **why_way,
        device=why_device,
        precision=why_precision,
        base=why_base,
        threads=why_threads,
        sleep=why_awake,
        hardware=hardware(device),
        target_modules=adapted.why,
    )
    run.coverage(adapted.coverage)
    run.warn(*adapted.warnings)

    about = {"data": task.fingerprint(), "versions": report.versions()}
    progress = go_on(run, found.folder, about) if found.folder else Progress(micro_batch=spec.training.micro_batch_size)
    judged = task.judged()
    judged.judge_base(model, progress)

    # The loop: `accumulation` batches make one optimiser step; the epochs asked for decide how many steps.
    accumulation = spec.training.gradient_accumulation
    batches_an_epoch = math.ceil(len(task.examples) / spec.training.batch_size)
    steps = planned_steps(spec.training, len(task.examples))
    seconds = 3600 * (spec.training.max_hours or math.inf)
    portions = Portions(
        accelerator, model, spec.training.gradient_checkpointing, spec.training.label_smoothing, run.warn, way
    )
    batches = task.batches(progress.batches, by_length=not portions.end_to_end)
    model.train()
    task.settle(Step(model, optimizer, portions, device, precision, base_precision), progress)
    if found.folder:
        watch.load(found.folder)
        put_back(found.folder, model, optimizer, accelerator.scaler)
    run.begin(steps, batches_an_epoch / accumulation, progress)
    peak.begin(device)
    with (
        Saving(operation.folder, run, spec.training.checkpoint_every, spec.training.checkpoints_kept) as saving,
        profiled(operation.folder / "profile", spec.training.profile_steps, run) as traced,
    ):
        while progress.step < steps and progress.seconds < seconds and not (run.ending() or watch.enough(progress)):
            progress.step += 1
            rate = learning_rate(spec.optimizer, progress.step, steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            micro = [next(batches) for _ in range(accumulation)]
            loss = portions.forward_and_backward(micro, progress)
            grad_norm = float(accelerator.clip_grad_norm_(trained, spec.optimizer.max_grad_norm or math.inf))
            if accelerator.scaler is None:  # in fp16 the scaler passes over such a step and lowers its scale
                require_finite(model, portions.losses(micro, progress.micro_batch), progress.step, loss, grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            progress.batches += accumulation
            progress.tokens += sum(batch.tokens for batch in micro)
            progress.scored += sum(batch.scored for batch in micro)
            run.step(progress, loss=loss, learning_rate=rate, grad_norm=grad_norm, memory=memory_in_use(device))
            watch.after_step(model, progress)
            sampling.after_step(model, progress.step)
            traced()
            if saving.due(progress.step):
                saving.begin(progress.step, take(progress, model, optimizer, accelerator.scaler, watch.best, about))
        # A pause is worth nothing without its checkpoint; a run that has its adapter to save goes on without.
        last = saving.finish if run.ending() == "paused" else saving.begin
        last(progress.step, take(progress, model, optimizer, accelerator.scaler, watch.best, about))

    # What remains: the adapter, then the verdict.
    run.held(peak.peak(device))
    run.end()
    if run.ending() == "paused":
        run.finish("paused", None)
        return
    run.phase("saving", "Saving the adapter")
    watch.put_best(model, progress)
    own = accelerator.unwrap_model(model)
    adapter = task.save(own)
    proof = task.read_back(own, adapter, fresh_base, accelerator.autocast(), precision)
    judged.judge_tuned(model)
    describe(adapter, operation.folder, spec, proof)
    run.finish(run.ending() or "done", adapter, base=judged.base, tuned=judged.tuned)
