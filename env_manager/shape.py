"""The shapes of what Fettle wrote and somebody may have edited: looked at before anything relies on it."""

from __future__ import annotations

from typing import Any

_NUMBER = (int, float)
MAYBE_TEXT = (str, type(None))
_TEXTS = {...: str}
_TORCH = {"build": str, "reason": str, "index_url": MAYBE_TEXT, "devices": [str]}
_SOURCE = {"index_url": MAYBE_TEXT}
RECORD: dict[Any, Any] = {
    "id": str,
    "created": str,
    "serial": int,
    "packages": _TEXTS,
    "hardware": {"os": str, "arch": str, "gpus": [{}]},
    "plan": {"accelerator": str, "notes": [str], "torch": (_TORCH, type(None)), "source": (_SOURCE, type(None))},
    "overrides": _TEXTS,
    "lock_sha256": str,
    "interpreter": _TEXTS,
    "steps": [{}],
    "checks": [{"name": str, "evidence": str}],
    "probes": [str],
    "proof": str,
    "proved_by": MAYBE_TEXT,
    "bytes": int,
    "seconds": _NUMBER,
}


def fits(value: Any, shape: Any) -> bool:
    """Whether a JSON value has a shape: a type, several shapes in a tuple, `[shape]` for a list, or a table.

    A table may lack what its shape names and have what it does not; `...` stands for every name.
    """
    if isinstance(shape, tuple):
        return any(fits(value, each) for each in shape)
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(each, shape[0]) for each in value)
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(
            fits(each, shape.get(name, shape.get(..., object))) for name, each in value.items()
        )
    return isinstance(value, shape) and not (shape is int and isinstance(value, bool))
