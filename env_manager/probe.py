"""Runs inside a candidate environment: proves packages by using them, one marked JSON line each.

Called as `python -I probe.py CHECK...`. A check is a name from CHECKS or `import:MODULE`. Only the
standard library is imported before a check starts, so that whatever breaks has a name. A line is
written when a check begins and when it ends: after a crash the one that began last is the culprit.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import warnings
from importlib import metadata
from typing import Any

MARK = "FETTLE-PROBE "


def numpy() -> str:
    import numpy as np

    total = float(np.arange(12.0).reshape(3, 4).sum())
    assert total == 66.0, f"the sum of 0 to 11 came out as {total}"
    return f"numpy {np.__version__} computes"


def torch() -> str:
    import numpy as np
    import torch

    # Fails in both directions of the ABI break between numpy 1 and 2.
    shared = torch.from_numpy(np.ones((2, 3), dtype=np.float32)).numpy()
    assert shared.sum() == 6.0, "an array did not survive the way to torch and back"
    device = _device(torch)
    left = torch.arange(6.0, device=device).reshape(2, 3)
    product = (left @ left.T).cpu().tolist()
    assert product == [[5.0, 14.0], [14.0, 50.0]], f"a matrix product on {device} came out as {product}"
    return f"torch {torch.__version__} multiplies on {device}"


def _device(torch: Any) -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def torchvision() -> str:
    import torch
    import torchvision

    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist()
    assert kept == [0], f"nms kept {kept}"
    return f"torchvision {torchvision.__version__} runs its own operators"


def xformers() -> str:
    import torch
    import xformers.ops

    query = torch.randn(1, 8, 2, 16, device="cuda", dtype=torch.float16)
    out = xformers.ops.memory_efficient_attention(query, query, query)
    assert out.shape == query.shape, f"attention returned the shape {tuple(out.shape)}"
    return f"xformers {metadata.version('xformers')} computes attention"


def transformers() -> str:
    import transformers
    from transformers import AutoModelForCausalLM, AutoProcessor, AutoTokenizer

    names = ", ".join(each.__name__ for each in (AutoModelForCausalLM, AutoProcessor, AutoTokenizer))
    return f"transformers {transformers.__version__} offers {names}"


def huggingface_hub() -> str:
    import huggingface_hub

    return f"huggingface_hub {huggingface_hub.__version__}, cache {huggingface_hub.constants.HF_HUB_CACHE}"


def bitsandbytes() -> str:
    import bitsandbytes
    import torch
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    device = "cuda" if torch.cuda.is_available() else "cpu"
    weights = torch.linspace(-1, 1, 64 * 64, device=device).reshape(64, 64)
    packed, state = quantize_4bit(weights, quant_type="nf4")
    worst = (dequantize_4bit(packed, state) - weights).abs().max().item()
    # The widest gap between two NF4 levels is 0.304, so no value is off by more than half of it.
    assert worst < 0.16, f"a 4-bit round trip is off by {worst:.3f}"
    return f"bitsandbytes {bitsandbytes.__version__} packs to 4 bits on {device}"


def triton() -> str:
    import triton
    import triton.language

    return f"triton {triton.__version__}"


def unsloth() -> str:
    import unsloth

    return f"unsloth {unsloth.__version__}"


def trl() -> str:
    import trl

    return f"trl {trl.__version__}, {trl.SFTConfig.__name__} available"


def peft() -> str:
    import peft
    import torch

    class Tiny(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = torch.nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            return self.line(x)

    model = peft.get_peft_model(Tiny(), peft.LoraConfig(r=2, target_modules=["line"]))  # type: ignore[arg-type]
    model(torch.ones(1, 4)).sum().backward()
    trained = [name for name, value in model.named_parameters() if value.grad is not None]
    assert any("lora_B" in name for name in trained), "no gradient reached the adapter"
    return f"peft {peft.__version__} trains an adapter"


def accelerate() -> str:
    import accelerate

    return f"accelerate {accelerate.__version__} on {accelerate.Accelerator().device}"


def datasets() -> str:
    import datasets
    import pyarrow

    rows = datasets.Dataset.from_dict({"a": [1, 2, 3]}).to_list()
    assert rows[2] == {"a": 3}, f"the third row came back as {rows[2]}"
    return f"datasets {datasets.__version__} with pyarrow {pyarrow.__version__}"


def tensorboard() -> str:
    import tensorboard

    return f"tensorboard {tensorboard.__version__}"


def pydantic() -> str:
    import pydantic

    class Row(pydantic.BaseModel):
        a: int

    assert Row.model_validate({"a": 1}).a == 1
    return f"pydantic {pydantic.VERSION} validates"


def filelock() -> str:
    import filelock

    return f"filelock {filelock.__version__}"


CHECKS = {
    check.__name__: check
    for check in (
        *(numpy, torch, torchvision, xformers, transformers, huggingface_hub, bitsandbytes, triton),
        *(unsloth, trl, peft, accelerate, datasets, tensorboard, pydantic, filelock),
    )
}


def _import(module: str) -> str:
    imported = importlib.import_module(module)
    return f"{module} {getattr(imported, '__version__', '')} imports".replace("  ", " ")


def _run(name: str) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        evidence = _import(name[7:]) if name.startswith("import:") else CHECKS[name]()
        ok = True
    except BaseException as error:  # whatever a broken library raises is the finding
        ok, evidence = False, f"{type(error).__name__}: {error}"
    seconds = round(time.perf_counter() - started, 3)
    return {"name": name, "event": "end", "ok": ok, "evidence": evidence[:2000], "seconds": seconds}


def main(names: list[str]) -> None:
    """Run the checks; each line goes to a private copy of stdout that no library can write into."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    for name in names:
        print(MARK + json.dumps({"name": name, "event": "begin"}), file=out, flush=True)
        print(MARK + json.dumps(_run(name)), file=out, flush=True)
    # A library's exit handlers may hang or crash; they are not what was asked.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
