"""What can be tuned and on what, before anything is downloaded: the starter and its two data sets."""

from __future__ import annotations

from pathlib import Path

import trainer
from app.api.schema import DatasetView, ModelView
from trainer.data.reading import mixed_in
from trainer.data.sources import HUB
from trainer.export.origin import home_relative
from trainer.models.hub import called_by
from trainer.spec import Data, RunSpec

STARTER = Path(trainer.__file__).parent / "starter"

# Found by trying: what teaches the starter either skill in about a minute on two cores.
_STARTER_SETTINGS = {
    "lora.rank": 32,
    "lora.alpha": 64,
    "lora.dropout": 0.1,
    "optimizer.learning_rate": 5e-3,
    "training.epochs": 12,
    "training.batch_size": 16,
    "data.max_length": 256,
    "evaluation.max_new_tokens": 80,
}


def models() -> list[ModelView]:
    """The models that come with Fettle."""
    return [
        ModelView(
            id="starter",
            title="Starter (1M parameters)",
            path=str(STARTER / "model"),
            about="A tiny chat model that comes with Fettle. It can copy and find; it is there to be taught.",
            recommended=dict(_STARTER_SETTINGS),
        )
    ]


def datasets() -> list[DatasetView]:
    """The data sets that come with Fettle."""
    return [
        DatasetView(
            id="ticket",
            title="Support messages to JSON",
            about="400 short messages and the JSON record of each: name, order, product, problem. 100 held out.",
            train=str(STARTER / "data" / "ticket" / "train.jsonl"),
            held_out=str(STARTER / "data" / "ticket" / "held_out.jsonl"),
            example_prompt=_first_prompt(STARTER / "data" / "ticket" / "held_out.jsonl"),
        ),
        DatasetView(
            id="calendar",
            title="Invitations to calendar lines",
            about="400 invitations and the line of each: ISO date, time, occasion, host. 100 held out.",
            train=str(STARTER / "data" / "calendar" / "train.jsonl"),
            held_out=str(STARTER / "data" / "calendar" / "held_out.jsonl"),
            example_prompt=_first_prompt(STARTER / "data" / "calendar" / "held_out.jsonl"),
        ),
    ]


def _first_prompt(path: Path) -> str:
    from trainer.data.reading import read_file

    return read_file(path)[0].messages[0]["content"]


def with_names_resolved(spec: RunSpec) -> RunSpec:
    """The spec with `starter`, `ticket` and `calendar` replaced by the paths they stand for, and paths made absolute."""
    known_model = next((model.path for model in models() if model.id == spec.model), None)
    known_data = next((dataset for dataset in datasets() if dataset.id == spec.data.train), None)
    held_out = spec.data.held_out
    return spec.with_changes(
        {
            "model": known_model or _absolute(spec.model),
            "data.train": known_data.train if known_data else _absolute(spec.data.train),
            "data.mix": "; ".join(f"{_absolute(name)} = {weight:g}" for name, weight in mixed_in(spec.data.mix)),
            "lora.start_from": _absolute(spec.lora.start_from),
            "data.held_out": _absolute(held_out) if held_out else known_data and known_data.held_out,
        }
    )


def names_of(spec: RunSpec) -> dict[str, str | None]:
    """The other way round: names for paths, and `~` for the home folder, so that the spec holds on other machines.

    Paths of a checkout or of a person are nobody else's business.
    """
    model = next((known.id for known in models() if known.path == spec.model), home_relative(spec.model))
    data = next((known for known in datasets() if known.train == spec.data.train), None)
    held_out = None if data and data.held_out == spec.data.held_out else spec.data.held_out
    return {
        "model": model,
        "data.train": data.id if data else home_relative(spec.data.train),
        "data.mix": "; ".join(f"{home_relative(name)} = {weight:g}" for name, weight in mixed_in(spec.data.mix)),
        "data.held_out": held_out and home_relative(held_out),
        "lora.start_from": spec.lora.start_from and home_relative(spec.lora.start_from),
    }


def with_data_resolved(data: Data) -> Data:
    """The data settings of a spec as `with_names_resolved` leaves them."""
    return with_names_resolved(RunSpec(data=data)).data


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path and not path.startswith(HUB) else path


def recommended_for(model: str) -> dict[str, object]:
    """The settings a known model likes best (by id or path); none for others."""
    return next((dict(known.recommended) for known in models() if model in (known.id, known.path)), {})


def title_of(spec: RunSpec) -> str:
    """What a run without a name of its own is called."""
    model = next((known.id for known in models() if known.path == spec.model), called_by(spec.model))
    data = next((known.id for known in datasets() if known.train == spec.data.train), Path(spec.data.train).name)
    return f"{model} on {data}"
