"""What a model is for, and whether the data is of that kind: asked before anything is loaded. Torch-free."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.data.labels import settle_classes
from trainer.data.reading import Samples
from trainer.errors import TrainError
from trainer.models.folder import read_config
from trainer.models.hub import model_folder
from trainer.spec import RunSpec
from trainer.vision import classifies

TEXT_ONLY = ("quantise", "training.neftune", "training.sample_every")


def check_task(spec: RunSpec, found: Samples) -> None:
    """Raise `TrainError` where model and data are not of one kind; a model that is still to be fetched is not asked."""
    folder = model_folder(spec.model)
    if (folder / "config.json").is_file():
        classes_to_learn(spec, found)


def classes_to_learn(spec: RunSpec, found: Samples) -> tuple[str, ...]:
    """The classes that a run learns, in the order of its head; none where it learns to write.

    Raises `TrainError` where model, data and settings do not belong together.
    """
    folder = model_folder(spec.model)
    config = read_config(folder)
    labelled = {bool(sample.label): sample for sample in (*found.held_out, *found.train)}
    if len(labelled) == 2:
        raise TrainError(
            "class-mixed",
            f"{labelled[True].place} is a picture with a class, and {labelled[False].place} is a row to write.",
            "Take one of both out: a run learns to tell classes apart, or to write.",
        )
    if classifies(config) != (True in labelled):
        model, data = "writes text", "pictures with classes"
        if classifies(config):
            model, data = "tells classes of pictures apart", "rows to write"
        raise TrainError(
            "task-mismatch",
            f"{folder.name} {model}, and the data are {data}.",
            "Choose a model and data of one kind: docs/data.md and docs/models.md say which there are.",
        )
    if not classifies(config):
        return ()
    _refuse_idle(spec)
    start = Path(spec.lora.start_from) if spec.lora.start_from else None
    return settle_classes(found, adapter_classes(start) if start else own_classes(config), fixed=start is not None)


def own_classes(config: dict[str, Any]) -> tuple[str, ...]:
    """What a model's head tells apart, in its order; none where it has no head, or names none."""
    names = config.get("id2label")
    if not any(str(each).endswith("ForImageClassification") for each in config.get("architectures") or ()):
        return ()
    if not isinstance(names, dict) or not all(str(number).isdecimal() for number in names):
        return ()
    return tuple(str(names[number]) for number in sorted(names, key=int))


def adapter_classes(adapter: Path) -> tuple[str, ...]:
    """What an adapter tells apart; raises `TrainError` where it does not say."""
    try:
        config = json.loads((adapter / "config.json").read_text(encoding="utf-8"))
        classes = tuple(str(config["id2label"][str(number)]) for number in range(len(config["id2label"])))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        classes = ()
    if not classes:
        raise TrainError(
            "adapter-mismatch",
            f"The adapter in {adapter} does not say which classes it tells apart.",
            "Choose the adapter of a run on pictures with classes, with its `config.json`.",
        )
    return classes


def _refuse_idle(spec: RunSpec) -> None:
    defaults, told = RunSpec().model_dump(), spec.model_dump()
    for name in TEXT_ONLY:
        section, _, key = name.rpartition(".")
        value, usual = ((tree[section] if section else tree)[key] for tree in (told, defaults))
        if value != usual:
            raise TrainError(
                "task-setting",
                f"`{name}` does nothing for a model that tells classes of pictures apart.",
                "Take the setting away.",
            )
