"""What a run needs, as far as its model's folder tells: large libraries, precision. Torch-free."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from trainer.errors import TrainError
from trainer.models.folder import read_config, stored_in_bf16
from trainer.models.hub import model_folder

if TYPE_CHECKING:
    from trainer.spec import RunSpec

# Instructions of processors that compute in bf16, under the names that Linux and torch give them.
BF16_INSTRUCTIONS = frozenset(("amx_bf16", "avx512_bf16"))


def needs_bitsandbytes(spec: RunSpec) -> bool:
    """Whether the base is packed or will be, the optimiser keeps 8 bits, or nobody can tell before the run."""
    if spec.quantise != "none" or spec.optimizer.kind.startswith("adamw-8bit") or spec.trust_code:
        return True
    try:
        config = read_config(model_folder(spec.model))
    except TrainError:  # it is still to be fetched
        return True
    return "quantization_config" in json.dumps(config)


def bf16_is_exact(spec: RunSpec) -> bool:
    """Whether a base in bf16 has the very weights of the model's files; raises `TrainError` where there are none."""
    return spec.quantise == "none" and stored_in_bf16(model_folder(spec.model))


def leave_out_bitsandbytes() -> None:
    """Make it look as if it were not installed: PEFT would load it, and with it torch's compiler, for every run.

    It also looks at CUDA as it is loaded, after which no other GPU can be chosen.
    """
    sys.modules.setdefault("bitsandbytes", None)  # type: ignore[arg-type]
