"""The ways in which a real environment is broken, and those in which it is healthy although it looks odd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from broken import Broken

from env_manager.proving.verify import site_packages
from env_manager.uv import find_uv


@dataclass(frozen=True)
class Case:
    """One way to break it, the names that count as right, and whether the signatures' author looked at it.

    Without a name nothing is wrong, and any finding is a false one.
    """

    id: str
    names: tuple[str, ...]
    harm: Callable[[Broken], object]
    held_out: bool = False
    slow: bool = False


def _in_turn(*harms: Callable[[Broken], object]) -> Callable[[Broken], object]:
    return lambda broken: [harm(broken) for harm in harms]


def _built(path: str, text: str) -> Callable[[Broken], object]:
    """A module that was built so: the record knows it, only its effect can be seen."""
    return _in_turn(lambda broken: broken.rewrite(path, text), lambda broken: broken.as_built())


def _pip(*arguments: str) -> Callable[[Broken], object]:
    return lambda broken: broken.pip(*arguments)


def _with(probes: Sequence[str], harm: Callable[[Broken], object] = lambda broken: None) -> Callable[[Broken], object]:
    return _in_turn(harm, lambda broken: broken.probes.extend(probes))


def _signal(name: str) -> str:
    return f"import os, signal\nos.kill(os.getpid(), signal.{name})\n"


def _hang(broken: Broken) -> None:
    _built("tensorboard/__init__.py", "import time\ntime.sleep(3600)\n")(broken)
    broken.timeout = 25


def _twice(name: str, version: str) -> Callable[[Broken], object]:
    def harm(broken: Broken) -> None:
        info = broken.file(f"{name}-*.dist-info")
        shutil.copytree(info, info.with_name(f"{name}-{version}.dist-info"), copy_function=os.link)

    return harm


def _pyc(broken: Broken) -> None:
    """Bytecode with a right header and a body of zeros, as after a power cut."""
    file = broken.file("peft/__pycache__/config.*.pyc")
    head = file.read_bytes()[:16]
    file.unlink()
    file.write_bytes(head + bytes(500))


def _library_path(broken: Broken) -> None:
    """Somebody's LD_LIBRARY_PATH leads to another library of the same name."""
    folder = broken.scratch / "cuda"
    folder.mkdir()
    shutil.copy(broken.file("tokenizers/tokenizers*.so"), folder / "libc10.so")
    broken.variables["LD_LIBRARY_PATH"] = str(folder)


def _processor(path: str) -> Callable[[Broken], object]:
    """As if the wheel had been built for another processor: the header of the library says so."""
    return _in_turn(
        lambda broken: broken.overwrite(path, b"\xb7\x00", 18),
        lambda broken: broken.as_built(),
    )


def _tag(broken: Broken) -> None:
    """As if the wheel had been built for Python 3.12."""
    file = broken.file("regex/_regex.cpython-311*.so")
    file.rename(file.with_name(file.name.replace("311", "312")))
    broken.as_built()


def _pure(broken: Broken) -> None:
    """A package that nothing here needs is added by its user."""
    added = site_packages(broken.env) / "somebodys"
    added.mkdir()
    (added / "__init__.py").write_text("import sys\nprint('hello from outside', file=sys.stderr)\n")


def _no_bytecode(broken: Broken) -> None:
    for folder in site_packages(broken.env).rglob("__pycache__"):
        shutil.rmtree(folder)


def _loud(broken: Broken) -> None:
    """torchao's complaint on stderr, and others that sound worse than they are."""
    file = broken.file("accelerate/__init__.py")
    said = (
        "Skipping import of cpp extensions due to incompatible torch version 2.13.0 for torchao",
        "error: 404 timed out",
    )
    lines = "".join(f"_sys.stderr.write({line!r} + chr(10))\n" for line in said)
    text = file.read_text().replace("from .accelerator", f"import sys as _sys\n{lines}from .accelerator", 1)
    broken.rewrite("accelerate/__init__.py", text)
    broken.as_built()


def _moved(broken: Broken) -> None:
    """The whole home was moved; nothing in it knows its place."""
    there = broken.generation.folder.with_name("moved here")
    broken.generation.folder.rename(there)
    broken.record(folder=there)


def _settings(broken: Broken) -> None:
    """What a developer's shell is full of, and another language."""
    broken.variables |= {
        "PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere", "VIRTUAL_ENV": "/nowhere", "CONDA_PREFIX": "/nowhere",
        "CUDA_VISIBLE_DEVICES": "", "LD_LIBRARY_PATH": "/usr/local/cuda/lib64", "LC_ALL": "C", "PYTHONWARNINGS": "error",
        "HTTPS_PROXY": "http://nowhere.invalid:1",
    }  # fmt: skip


NUMPY_2, NUMPY_1 = ("numpy-2-under-numpy-1",), ("numpy-1-under-numpy-2",)
TORN = ("environment-torn",)
OTHER_TORCHVISION, OTHER_XFORMERS = ("torchvision-other-torch",), ("xformers-other-torch",)
WRONG_WHEEL = ("wheel-wrong-platform",)
MISMATCH = "#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18\n"
NO_CONTACT = (
    '#!/bin/sh\necho "NVIDIA-SMI has failed because it couldn\'t communicate with the NVIDIA driver."\nexit 9\n'
)
DLL = (
    'OSError: [WinError {0}] The specified module could not be found. Error loading "C:\\\\env\\\\torch\\\\lib\\\\{1}"'
)
DYLIB = "dlopen(/env/torch/_C.so, 0x0002): Library not loaded: @rpath/libtorch_cpu.dylib"

SEEN = [
    Case("numpy 2 installed from outside", NUMPY_2, _pip("numpy==2.3.4")),
    Case("pyarrow that wants numpy 2", NUMPY_1, _pip("pyarrow==26.0.1")),
    Case("pandas built for numpy 1 above numpy 2", NUMPY_2, _pip("numpy==2.2.6", "pandas==2.1.0")),
    Case("AutoProcessor hides a numpy failure", NUMPY_2, _pip("numpy==2.0.2", "pyarrow==14.0.2")),
    Case("torchvision for CUDA beside a CPU torch", OTHER_TORCHVISION, _with(["torchvision"], _pip("torchvision==0.28.0"))),
    Case("xformers beside a CPU torch", OTHER_XFORMERS, _with(["xformers"], _pip("xformers==0.0.35"))),
    Case("a model that is too new", ("model-type-unknown",), _with(["model_type:qwen9_moe"])),
    Case("libtorch_cpu removed", TORN, lambda broken: broken.remove("torch/lib/libtorch_cpu.so")),
    Case("libtorch_python cut short", TORN, lambda broken: broken.cut("torch/lib/libtorch_python.so", 0.5)),
    Case(
        "libtorch_cpu with a broken head",
        ("files-altered",),
        lambda broken: broken.overwrite("torch/lib/libtorch_cpu.so", bytes(64)),
    ),
    Case(
        "a wheel without bitsandbytes' library",
        ("bitsandbytes-without-library",),
        _in_turn(lambda broken: broken.remove("bitsandbytes/libbitsandbytes_cpu.so"), lambda broken: broken.as_built()),
    ),
    Case("RECORD of peft lost", ("record-missing",), lambda broken: broken.remove("peft-*.dist-info/RECORD")),
    Case("the Python below is gone", ("interpreter-missing",), lambda broken: broken.python_is("/nowhere/python3.11")),
    Case("another Python below", ("python-other",), lambda broken: broken.python_is(other_python("3.12"))),
    Case("a wheel for another processor", WRONG_WHEEL, _pip("--python-platform", "aarch64-manylinux_2_28", "--reinstall", "numpy==1.26.4")),
    Case("a wheel for another Python", WRONG_WHEEL, _pip("--python-version", "3.12", "--reinstall", "regex")),
    Case("tensorboard never finishes", ("hangs",), _hang),
    Case("peft crashes", ("crashes",), _built("peft/__init__.py", _signal("SIGSEGV"))),
    Case("zeros in transformers after a power cut", ("files-altered",), lambda broken: broken.overwrite("transformers/__init__.py", bytes(4096))),
    Case("safetensors uninstalled", ("package-missing",), lambda broken: broken.uninstall("safetensors")),
    Case("a CPU torch where CUDA was planned", ("cpu-torch-over-cuda",), lambda broken: broken.planned_for_cuda(None)),
    Case("CUDA without a driver", ("driver-missing",), lambda broken: broken.planned_for_cuda()),
    Case("driver too old", ("driver-too-old",), _in_turn(lambda broken: broken.planned_for_cuda(), lambda broken: broken.driver("470.82.01", "8.6"))),
    Case("GPU too old", ("capability-outside-wheel",), _in_turn(lambda broken: broken.planned_for_cuda(), lambda broken: broken.driver("580.95.05", "5.2"))),
    Case("a CUDA torch where a CPU build was planned", ("cuda-torch-over-cpu",), lambda broken: claims_cuda(broken)),
    Case("peft's metadata twice", ("package-twice",), _twice("peft", "0.10.0")),
    Case("accelerate replaced", ("package-replaced",), _pip("accelerate==1.2.0")),
    Case("triton is wanted and missing", ("triton-missing",), _with(["triton"])),
    Case("unsloth without a GPU", ("unsloth-without-accelerator",), _with(["unsloth"], _pip("unsloth==2026.10.7", "unsloth_zoo==2026.10.5"))),
    Case("another libc10 by LD_LIBRARY_PATH", ("library-path-set",), _library_path),
    Case("tokenizers for another processor", WRONG_WHEEL, _processor("tokenizers/tokenizers*.so")),
    Case("libtorch_cpu cut short, as built", ("torch-library-unloadable",), _in_turn(lambda broken: broken.cut("torch/lib/libtorch_cpu.so", 0.4), lambda broken: broken.as_built())),
    Case("tokenizers cut short, as built", ("library-unloadable",), _in_turn(lambda broken: broken.cut("tokenizers/tokenizers*.so", 0.3), lambda broken: broken.as_built())),
    Case("bitsandbytes' library emptied, as built", ("bitsandbytes-without-library",), _built("bitsandbytes/libbitsandbytes_cpu.so", "")),
    Case("a protobuf that is too old", ("package-replaced",), _pip("protobuf==3.20.3")),
    Case("regex for another Python, as built", WRONG_WHEEL, _tag),
    Case("no memory left while bitsandbytes loads", ("out-of-memory",), _built("bitsandbytes/__init__.py", "raise OSError('[WinError 1455] The paging file is too small')\n")),
    Case("a DLL of torch, as on Windows", ("windows-dll-unloadable",), _built("torch/__init__.py", f"raise OSError({DLL.format(126, 'fbgemm.dll')!r})\n")),
]  # fmt: skip


HEALTHY = [
    Case("healthy: untouched", (), lambda broken: None),
    Case("healthy: a package was added", (), _pure),
    Case("healthy: no bytecode", (), _no_bytecode),
    Case("healthy: cosmetic complaints", (), _loud),
    Case("healthy: moved", (), _moved),
    Case("healthy: a developer's shell", (), _settings),
]

# Written together with the ones above, before any of them was run, and not used to improve a signature.
HELD_OUT = [
    Case("numpy 2.0 installed from outside", NUMPY_2, _pip("numpy==2.0.0")),
    Case("numpy 2 and a pyarrow built for numpy 1", NUMPY_2, _pip("numpy==2.1.3", "pyarrow==13.0.0")),
    Case("an older torchvision", OTHER_TORCHVISION, _with(["torchvision"], _pip("torchvision==0.22.0"))),
    Case("torchvision built for the right torch and another CUDA", OTHER_TORCHVISION, _pip("torchvision==0.28.0")),
    Case("an older xformers", OTHER_XFORMERS, _with(["xformers"], _pip("xformers==0.0.31.post1"))),
    Case("transformers too old for qwen3", ("model-type-unknown", "package-replaced"), _with(["model_type:qwen3"], _pip("transformers==4.48.0"))),
    Case("libc10 removed", TORN, lambda broken: broken.remove("torch/lib/libc10.so")),
    Case("libtorch_cpu emptied", TORN, lambda broken: broken.rewrite("torch/lib/libtorch_cpu.so", b"")),
    Case("a module of transformers removed", TORN, lambda broken: broken.remove("transformers/modeling_utils.py")),
    Case("numpy's core with a broken head", ("files-altered",), lambda broken: broken.overwrite("numpy/core/_multiarray_umath.*.so", bytes(16))),
    Case("tokenizers' library with a broken head", ("files-altered",), lambda broken: broken.overwrite("tokenizers/tokenizers*.so", b"garbage!")),
    Case("a wheel without libtorch_python", ("torch-library-unloadable",), _in_turn(lambda broken: broken.remove("torch/lib/libtorch_python.so"), lambda broken: broken.as_built())),
    Case("RECORD of torch lost", ("record-missing",), lambda broken: broken.remove("torch-*.dist-info/RECORD")),
    Case("metadata of trl lost", ("package-missing", *TORN), lambda broken: broken.remove("trl-*.dist-info")),
    Case("no Python link", ("interpreter-missing",), lambda broken: broken.python_is(None)),
    Case("an older Python below", ("python-other",), lambda broken: broken.python_is(other_python("3.10"))),
    Case("a wheel for Windows", WRONG_WHEEL, _pip("--python-platform", "x86_64-pc-windows-msvc", "--reinstall", "safetensors")),
    Case("a wheel for macOS", WRONG_WHEEL, _pip("--python-platform", "aarch64-apple-darwin", "--reinstall", "pydantic-core==2.50.4")),
    Case("trl aborts", ("crashes",), _built("trl/__init__.py", _signal("SIGABRT"))),
    Case("datasets wants other instructions", ("cpu-instructions",), _built("datasets/__init__.py", _signal("SIGILL"))),
    Case("zeros at the end of peft's config", ("files-altered",), lambda broken: broken.overwrite("peft/config.py", bytes(300), 2000)),
    Case("bytecode of zeros", ("file-corrupt",), _pyc),
    Case("tqdm uninstalled", ("package-missing",), lambda broken: broken.uninstall("tqdm")),
    Case("driver and library differ", ("driver-missing",), _in_turn(lambda broken: broken.planned_for_cuda(), lambda broken: broken.smi(MISMATCH))),
    Case("the driver does not run", ("driver-missing",), _in_turn(lambda broken: broken.planned_for_cuda(), lambda broken: broken.smi(NO_CONTACT))),
    Case("driver of the year before", ("driver-too-old",), _in_turn(lambda broken: broken.planned_for_cuda(), lambda broken: broken.driver("535.183.06", "8.9"))),
    Case("GPU newer than the wheel", ("capability-outside-wheel",), _in_turn(lambda broken: broken.planned_for_cuda(), lambda broken: broken.driver("600.10", "13.0"))),
    Case("torch's metadata twice", ("package-twice",), _twice("torch", "2.9.0")),
    Case("an old hub library", ("package-replaced",), _pip("huggingface-hub==0.26.0")),
    Case("an old tokenizers", ("package-replaced",), _pip("tokenizers==0.20.3")),
    Case("another DLL of torch, as on Windows", ("windows-dll-unloadable",), _built("torch/__init__.py", f"raise OSError({DLL.format(127, 'c10.dll')!r})\n")),
    Case("a dylib of torch, as on macOS", ("torch-library-unloadable",), _built("torch/__init__.py", f"raise ImportError({DYLIB!r})\n")),
    # Written after the first score of the ones above (31 of 34), before any of these was run.
    Case("an old datasets with its launcher", ("package-replaced",), _pip("datasets==2.19.0")),
    Case("tensorboard uninstalled", ("package-missing",), lambda broken: broken.uninstall("tensorboard")),
    Case("a launcher lost", TORN, lambda broken: (broken.env / "bin/torchrun").unlink()),
    Case("zeros inside libc10", ("files-altered",), lambda broken: broken.overwrite("torch/lib/libc10.so", bytes(64), 200_000)),
    Case("pandas for another Python", WRONG_WHEEL, _pip("--python-version", "3.12", "--reinstall", "pandas==3.0.6")),
    Case("a GPU of 2014", ("capability-outside-wheel",), _in_turn(lambda broken: broken.planned_for_cuda(), lambda broken: broken.driver("580.65.06", "3.5"))),
    Case("no memory while torch loads", ("out-of-memory",), _built("accelerate/__init__.py", "raise MemoryError\n")),
]  # fmt: skip


def claims_cuda(broken: Broken) -> None:
    text = broken.file("torch/version.py").read_text()
    text = text.replace("+cpu", "+cu130").replace("= None", "= '13.0'", 1)
    broken.rewrite("torch/version.py", text)


def other_python(version: str) -> str:
    """An interpreter of that version: beside the one that runs the tests, or where uv finds one."""
    beside = sorted(Path(sys.base_prefix).parent.glob(f"*{version}*/bin/python{version}"))
    if beside:
        return str(beside[0])
    argv = [find_uv(), "python", "find", f"cpython-{version}", "--system"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


# A quarter of those that were looked at belong into every run, the others into the slow tier.
CASES = [
    *(replace(case, slow=at > 1) for at, case in enumerate(HEALTHY)),
    *(replace(case, slow=at % 4 > 0) for at, case in enumerate(SEEN)),
    *(replace(case, held_out=True, slow=True) for case in HELD_OUT),
]
