"""A copy of a real environment that can be broken in real ways, and the list of ways."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from env_manager.diagnosis import Finding, diagnose
from env_manager.file_record import RECORD_NAME, take_record
from env_manager.generations import MANIFEST, Generation
from env_manager.uv import clean_environment, find_uv
from env_manager.verify import site_packages

SMI = """#!/bin/sh
case "$*" in
*query-gpu*) echo "{name}, {capability}, 24564, {driver}" ;;
*) echo "| NVIDIA-SMI {driver}   Driver Version: {driver}   CUDA Version: 12.4 |" ;;
esac
"""


class Quiet:
    """A reporter for installations that are not what a test is about."""

    def phase(self, name: str, text: str) -> None:
        """Nothing is told."""

    def step(self, progress: object) -> None:
        """Nothing is told."""

    def log(self, line: str) -> None:
        """Nothing is told."""


@dataclass
class Broken:
    """A copy of a good generation, its files hard links to the good one's until they are rewritten."""

    generation: Generation
    scratch: Path
    probes: list[str] = field(default_factory=list)
    timeout: float = 120.0

    @classmethod
    def copy(cls, good: Generation, folder: Path) -> Broken:
        shutil.copytree(good.folder, folder, symlinks=True, copy_function=os.link)
        generation = replace(good, id=folder.name, folder=folder)
        (folder / MANIFEST).unlink()
        (folder / MANIFEST).write_text(json.dumps(generation.record()))
        scratch = folder / "scratch"
        scratch.mkdir()
        return cls(generation, scratch)

    @property
    def env(self) -> Path:
        return self.generation.env

    def file(self, path: str) -> Path:
        """One file below site-packages; `*` stands for what differs between versions."""
        (found,) = site_packages(self.env).glob(path)
        return found

    def rewrite(self, path: str, data: bytes | str) -> None:
        """Give a file another content without touching the good environment's."""
        file = self.file(path)
        file.unlink()
        file.write_bytes(data.encode() if isinstance(data, str) else data)

    def overwrite(self, path: str, data: bytes, at: int = 0) -> None:
        """Change bytes inside a file, its size and times staying as they were."""
        file = self.file(path)
        status, old = file.stat(), bytearray(file.read_bytes())
        old[at : at + len(data)] = data
        self.rewrite(path, bytes(old[: status.st_size]))
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    def cut(self, path: str, share: float) -> None:
        data = self.file(path).read_bytes()
        self.rewrite(path, data[: int(len(data) * share)])

    def remove(self, path: str) -> None:
        file = self.file(path)
        shutil.rmtree(file) if file.is_dir() else file.unlink()

    def pip(self, *arguments: str) -> None:
        """Install into the environment from outside, as users do."""
        argv = [find_uv(), "pip", "install", "--python", str(self.generation.python), "--no-deps", "--quiet"]
        done = subprocess.run(
            [*argv, "--only-binary", ":all:", *arguments],
            env=clean_environment() | {"UV_LINK_MODE": "copy"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr

    def uninstall(self, name: str) -> None:
        argv = [find_uv(), "pip", "uninstall", "--python", str(self.generation.python), "--quiet", name]
        subprocess.run(argv, env=clean_environment(), check=True, capture_output=True)

    def as_built(self) -> None:
        """Take the record anew: what is there counts as what was built, so that only its effect shows."""
        record = self.generation.folder / RECORD_NAME
        record.unlink()  # still the good environment's, by hard link
        take_record(self.env, record)

    def record(self, **changes: Any) -> None:
        self.generation = replace(self.generation, **changes)

    def python_is(self, target: str | None) -> None:
        link = self.env / "bin/python"
        link.unlink()
        if target:
            link.symlink_to(target)

    def planned_for_cuda(self, built: str | None = "13.0") -> None:
        """As if this had been planned for an NVIDIA GPU; `built` is the CUDA that torch claims."""
        plan = self.generation.plan
        needs = {
            "driver": "580",
            "sm": ["7.5", "8.0", "8.6", "9.0", "10.0", "12.0"],
        }  # as a plan for cu130 records them
        torch = plan["torch"] | {"build": "cu130", "local": "", "index_url": None, "accelerator": "cuda"} | needs
        self.record(
            plan=plan | {"accelerator": "cuda", "torch": torch},
            packages=self.generation.packages | {"torch": self.generation.packages["torch"].partition("+")[0]},
        )
        if built:
            text = self.file("torch/version.py").read_text()
            text = text.replace("cuda: Optional[str] = None", f"cuda: Optional[str] = {built!r}")
            text = text.replace("cuda = None", f"cuda = {built!r}")
            assert built in text
            self.rewrite("torch/version.py", text)
            self.as_built()

    def driver(self, driver: str, capability: str, name: str = "NVIDIA GeForce") -> None:
        """Put an nvidia-smi on the path that tells this."""
        self.smi(SMI.format(driver=driver, capability=capability, name=name))

    def smi(self, script: str) -> None:
        (self.scratch / "nvidia-smi").write_text(script)
        (self.scratch / "nvidia-smi").chmod(0o755)

    def diagnose(self) -> list[Finding]:
        old = os.environ["PATH"]
        os.environ["PATH"] = f"{self.scratch}{os.pathsep}{old}"
        try:
            return diagnose(self.generation, more=self.probes, timeout=self.timeout)
        finally:
            os.environ["PATH"] = old


@dataclass(frozen=True)
class Case:
    """One way to break it, the names that count as right, and whether the signatures' author looked at it."""

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
    Case("a DLL of torch, as on Windows", ("windows-dll-unloadable",), _built("torch/__init__.py", f"raise OSError({DLL.format(126, 'fbgemm.dll')!r})\n")),
]  # fmt: skip

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


# A third of those that were looked at belong into every run, the others into the slow tier.
CASES = [
    *(replace(case, slow=at % 3 > 0) for at, case in enumerate(SEEN)),
    *(replace(case, held_out=True, slow=True) for case in HELD_OUT),
]
