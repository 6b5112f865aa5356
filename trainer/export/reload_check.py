"""Proof that what was saved is what was trained: the adapter read back from disk says the same as the model in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from peft import PeftModel

from trainer.data.samples import Sample
from trainer.errors import TrainError
from trainer.export.agreement import Agreement, Said, compare, prompts_of, said_by
from trainer.models.tokenizer import load_tokenizer
from trainer.report import Report
from trainer.speed.choice import fuse_like
from trainer.vision.sight import Sight

ROOM = 1.2  # times the base's size that has to be free for a second one
READ_BACK = "read-back"
FreshBase = Callable[[], Any]


def check_reload(
    model: PeftModel,
    tokenizer: Any,
    adapter: Path,
    samples: Sequence[Sample],
    fresh_base: FreshBase,
    autocast: AbstractContextManager[Any],
    precision: str,
    sight: Sight | None = None,
) -> tuple[Agreement, str]:
    """Compare them, and say what the saved adapter was put on: a base from disk, or where memory is short the one in use.

    The saved tokenizer has to render and cut the same prompts into the same tokens, or `ValueError` is raised.
    """
    prompts = prompts_of(tokenizer, samples, sight)
    texts = [each.text for each in prompts]
    again = load_tokenizer(adapter)
    if prompts_of(again, samples, sight) != prompts or again(texts)["input_ids"] != tokenizer(texts)["input_ids"]:
        raise ValueError("the saved tokenizer makes other tokens of the same text")
    ours, theirs = (partial(said_by, tokenizer=each, prompts=prompts) for each in (tokenizer, again))
    return compare_with_saved(model, adapter, fresh_base, autocast, precision, ours, theirs)


def compare_with_saved(
    model: PeftModel,
    adapter: Path,
    fresh_base: FreshBase,
    autocast: AbstractContextManager[Any],
    precision: str,
    say: Callable[[Any], Said],
    say_again: Callable[[Any], Said],
) -> tuple[Agreement, str]:
    """The same for whatever a model says: `say` asks the one in memory, `say_again` the one that was saved."""
    was_training = model.training
    model.eval()
    try:
        with autocast:
            ours = say(model)
            if _room_for_another(model):
                where = "a base loaded from disk again"
                theirs = say_again(_loaded(fresh_base, adapter, model))
            else:
                where = "the base in memory, which leaves no room for another"
                theirs = _on_the_base_in_memory(model, adapter, say_again)
    finally:
        model.train(was_training)
    return compare(ours, theirs, precision), where


def read_back(run: Report, check: Callable[[], tuple[Agreement, str]]) -> Agreement | None:
    """Make the check and tell how it went; None where it was not made. No outcome ends the run: what was saved stays."""
    if run.ending():
        return None
    run.phase("checking", "Reading the adapter back from disk")
    try:
        found, where = check()
    except (TrainError, OSError, ValueError, RuntimeError) as error:
        run.warn(f"The saved adapter could not be checked: {str(error).strip().splitlines()[0][:300]}")
        return None
    run.read_back(found.good, str(found), where)
    if not found.good:
        run.warn(
            f"The saved adapter does not answer as the model in memory did: {found}. "
            "It is kept, as is the last checkpoint; judge it again with `fettle runs evaluate` before you use it."
        )
    return found


def _loaded(fresh_base: FreshBase, adapter: Path, model: PeftModel) -> Any:
    loaded = PeftModel.from_pretrained(fresh_base(), adapter).eval().to(model.device)
    return fuse_like(loaded, model)


def _on_the_base_in_memory(model: PeftModel, adapter: Path, say_again: Callable[[Any], Said]) -> Said:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    used = model.active_adapter
    model.load_adapter(str(adapter), READ_BACK)
    try:
        model.set_adapter(READ_BACK)
        return say_again(model)
    finally:
        model.set_adapter(used)
        model.delete_adapter(READ_BACK)
        for parameter in trained:  # switching adapters has frozen them
            parameter.requires_grad_(True)


def _room_for_another(model: Any) -> bool:
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    if model.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(model.device)
        return free > ROOM * size
    return psutil.virtual_memory().available > ROOM * size
