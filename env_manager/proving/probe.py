"""Runs inside a candidate environment: proves packages by using them, one marked JSON line each.

Called as `python -I probe.py CHECK...`. A check is a name from CHECKS, `import:MODULE`, or one of
TOLD with what it is to hold against, as in `device:cuda`. Only the standard library is imported
before a check starts, so that whatever breaks has a name. A line is written when a check begins and
when it ends: after a crash the one that began last is the culprit. The beginning is written to stderr
too, so that what a library says there can be told apart by check.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import platform
import struct
import sys
import time
import warnings
from importlib import metadata
from types import ModuleType
from typing import Any

# A library is imported by name when its check begins: this file itself needs none of them.
use = importlib.import_module
MARK = "FETTLE-PROBE "
SECONDS = "FETTLE_PROBE_SECONDS"  # after so many it tells where it hangs, before it is ended


def numpy() -> str:
    np = use("numpy")
    total = float(np.arange(12.0).reshape(3, 4).sum())
    assert total == 66.0, f"the sum of 0 to 11 came out as {total}"
    return f"numpy {np.__version__} computes"


def torch() -> str:
    np, torch = use("numpy"), use("torch")
    # Fails in both directions of the ABI break between numpy 1 and 2.
    shared = torch.from_numpy(np.ones((2, 3), dtype=np.float32)).numpy()
    assert shared.sum() == 6.0, "an array did not survive the way to torch and back"
    device = _device(torch)
    left = torch.arange(6.0, device=device).reshape(2, 3)
    product = (left @ left.T).cpu().tolist()
    assert product == [[5.0, 14.0], [14.0, 50.0]], f"a product on {device} came out as {product}"
    return f"torch {torch.__version__} shares arrays with numpy {np.__version__} and multiplies on {device}"


def _device(torch: ModuleType) -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def torchvision() -> str:
    torch, torchvision = use("torch"), use("torchvision")
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist()
    assert kept == [0], f"nms kept {kept}"
    return f"torchvision {torchvision.__version__} runs its own operators"


def xformers() -> str:
    torch, ops = use("torch"), use("xformers.ops")
    query = torch.randn(1, 8, 2, 16, device="cuda", dtype=torch.float16)
    try:
        out = ops.memory_efficient_attention(query, query, query)
    except Exception as error:
        raise RuntimeError(f"xformers was built for {_xformers_build()}, torch is {torch.__version__}") from error
    assert out.shape == query.shape, f"attention returned the shape {tuple(out.shape)}"
    return f"xformers {metadata.version('xformers')} computes attention"


def _xformers_build() -> str:
    file = os.path.join(os.path.dirname(str(use("xformers").__file__)), "cpp_lib.json")
    try:
        with open(file, encoding="utf-8") as text:
            built = json.load(text)["version"]
        return f"torch {built.get('torch')} and CUDA {built.get('cuda')}"
    except (OSError, ValueError, KeyError, TypeError):
        return "an unknown torch"


def transformers() -> str:
    transformers = use("transformers")
    # Imported on first use, which is where a broken torch or numpy below them shows.
    for name in ("AutoModelForCausalLM", "AutoTokenizer", "AutoProcessor"):
        getattr(transformers, name)
    return f"transformers {transformers.__version__} has its models, tokenizers and processors"


def huggingface_hub() -> str:
    hub = use("huggingface_hub")
    assert callable(hub.snapshot_download)
    return f"huggingface_hub {hub.__version__}"


def bitsandbytes() -> str:
    torch, bnb = use("torch"), use("bitsandbytes")
    # It imports without its library too, and computes on a CPU all the same, only slowly.
    missing = vars(use("bitsandbytes.cextension").lib).get("formatted_error")
    assert not missing, missing
    device = "cuda" if torch.cuda.is_available() else "cpu"
    weights = torch.linspace(-1, 1, 64 * 64, device=device).reshape(64, 64)
    packed, state = bnb.functional.quantize_4bit(weights, quant_type="nf4")
    worst = (bnb.functional.dequantize_4bit(packed, state) - weights).abs().max().item()
    # The widest gap between two NF4 levels is 0.304, so no value is off by more than half of it.
    assert worst < 0.16, f"a 4-bit round trip is off by {worst:.3f}"
    inputs = torch.ones(1, 64, device=device)
    product = bnb.matmul_4bit(inputs, packed.t(), quant_state=state)
    expected = inputs @ bnb.functional.dequantize_4bit(packed, state).t()
    assert torch.allclose(product, expected, atol=1e-2), "a 4-bit product came out wrong"
    return f"bitsandbytes {bnb.__version__} multiplies in 4 bits on {device}"


def triton() -> str:
    use("triton.language")
    return f"triton {use('triton').__version__} imports"


def unsloth() -> str:
    return f"unsloth {use('unsloth').__version__} imports"


def trl() -> str:
    trl = use("trl")
    assert trl.SFTConfig
    return f"trl {trl.__version__} imports"


def peft() -> str:
    torch, peft = use("torch"), use("peft")
    config = peft.LoraConfig(r=2, target_modules=["0"])
    model = peft.get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config)
    model(torch.ones(1, 4)).sum().backward()
    trained = [name for name, value in model.named_parameters() if value.grad is not None]
    assert any("lora_B" in name for name in trained), "no gradient reached the adapter"
    return f"peft {peft.__version__} trains an adapter"


def accelerate() -> str:
    accelerate = use("accelerate")
    return f"accelerate {accelerate.__version__} on {accelerate.Accelerator().device}"


def datasets() -> str:
    datasets, pyarrow = use("datasets"), use("pyarrow")
    rows = datasets.Dataset.from_dict({"a": [1, 2, 3]}).to_list()
    assert rows[2] == {"a": 3}, f"the third row came back as {rows[2]}"
    return f"datasets {datasets.__version__} with pyarrow {pyarrow.__version__}"


def tensorboard() -> str:
    proto = use("tensorboard.compat.proto.summary_pb2")
    written = proto.Summary(value=[proto.Summary.Value(tag="loss", simple_value=0.5)]).SerializeToString()
    assert proto.Summary.FromString(written).value[0].simple_value == 0.5, "a value did not survive being written"
    return f"tensorboard {use('tensorboard').__version__} writes values"


def torchao() -> str:
    # It says at import that its C++ extensions are skipped, which changes nothing for training.
    return f"torchao {metadata.version('torchao')} {'imports' if use('torchao') else ''}"


def pydantic() -> str:
    pydantic = use("pydantic")
    row = pydantic.create_model("Row", a=(int, ...)).model_validate({"a": 1})
    assert row.a == 1, f"a field came back as {row.a}"
    return f"pydantic {pydantic.VERSION} validates"


def filelock() -> str:
    return f"filelock {use('filelock').__version__} imports"


CHECKS = {
    check.__name__: check
    for check in (
        *(numpy, torch, torchvision, xformers, transformers, huggingface_hub, bitsandbytes, triton),
        *(unsloth, trl, peft, accelerate, datasets, tensorboard, torchao, pydantic, filelock),
    )
}


def python(version: str, machine: str) -> str:
    found = f"{platform.python_implementation()} {platform.python_version()} for {platform.machine()}"
    assert platform.python_implementation() == "CPython", f"{found} is not CPython"
    assert struct.calcsize("P") == 8, f"{found} has 32 bits"
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" == version, f"{found} is not Python {version}"
    same = {"amd64": "x86_64", "arm64": "aarch64"}
    here = platform.machine().lower()
    assert same.get(here, here) == machine, f"{found} is not for {machine}"
    return found


def device(wanted: str) -> str:
    torch = use("torch")
    if wanted == "cuda":
        assert torch.version.cuda, f"torch {torch.__version__} is not a CUDA build"
        torch.cuda.init()  # says why the GPU cannot be used, where is_available only says no
    found = _device(torch)
    assert found == wanted, f"torch {torch.__version__} computes on {found}, not on {wanted}"
    if wanted == "cuda":
        builds = torch.cuda.get_arch_list()
        (torch.ones(8, device="cuda") * 2).sum().item()
        return f"{torch.cuda.get_device_name()} ({builds[0]} to {builds[-1]} are built in)"
    return f"torch computes on {found}"


def model_type(wanted: str) -> str:
    known = use("transformers.models.auto.configuration_auto").CONFIG_MAPPING
    version = use("transformers").__version__
    assert wanted in known, f"Transformers {version} does not recognize the model type {wanted}"
    return f"transformers {version} knows {wanted}"


TOLD = {"python": python, "device": device, "model_type": model_type}


def _import(module: str) -> str:
    version = getattr(use(module), "__version__", "")
    return f"{module} {version} imports" if version else f"{module} imports"


def _call(name: str) -> str:
    kind, _, rest = name.partition(":")
    if kind == "import":
        return _import(rest)
    told: dict[str, Any] = TOLD
    return str(told[kind](*rest.split(":")) if rest else CHECKS[name]())


def _run(name: str) -> dict[str, Any]:
    started = time.perf_counter()
    detail = ""
    try:
        evidence, ok = _call(name), True
    except BaseException as error:
        ok, evidence, detail = False, f"{type(error).__name__}: {error}", _chain(error)
    seconds = round(time.perf_counter() - started, 3)
    end = {"name": name, "event": "end", "ok": ok, "evidence": evidence[:2000], "seconds": seconds}
    return end | ({"detail": detail[:6000]} if detail else {})


def _chain(error: BaseException | None) -> str:
    """The error and what led to it, each with the place it came from: the first cause is often below."""
    lines: list[str] = []
    while error is not None and len(lines) < 12:
        at = error.__traceback__
        while at is not None and at.tb_next is not None:
            at = at.tb_next
        place = f" ({at.tb_frame.f_code.co_filename}:{at.tb_lineno})" if at else ""
        lines.append(f"{type(error).__name__}: {str(error)[:1500]}{place}")
        error = error.__cause__ or error.__context__
    return "\n".join(lines)


def main(names: list[str]) -> None:
    """Run the checks; each line goes to a private copy of stdout that no library can write into."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    faulthandler.enable()  # where a library crashed it is worth more than the signal
    if SECONDS in os.environ:
        faulthandler.dump_traceback_later(float(os.environ[SECONDS]))
    for name in names:
        begin = MARK + json.dumps({"name": name, "event": "begin"})
        print(begin, file=out, flush=True)
        print("\n" + begin, file=sys.stderr, flush=True)
        print(MARK + json.dumps(_run(name)), file=out, flush=True)
    # A library's exit handlers may hang or crash; they are not what was asked.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
