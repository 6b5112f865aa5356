"""Ways to break an environment or an installation that were written by somebody who had not read any signature.

The expected names come from the list of failures to name, and were committed before the first of these was diagnosed.
What installers said is what uv 0.13.8 and pip printed on Linux when they met such a server, disk, folder or lock, with
other names of packages, folders and hosts; the two answers of Windows, and the quota, are in the words of those systems.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace

from broken import Broken
from cases import Case

from env_manager.proving.verify import site_packages

Harm = Callable[[Broken], object]


@dataclass(frozen=True)
class Answer:
    """What an installer printed as it failed, and the names that count as right."""

    id: str
    names: tuple[str, ...]
    said: str
    held_out: bool = True


def pip(*arguments: str, probes: tuple[str, ...] = ()) -> Harm:
    """A user installs this from outside; `probes` look at it."""

    def harm(broken: Broken) -> None:
        broken.pip(*arguments)
        broken.probes.extend(probes)

    return harm


def built(path: str, text: str) -> Harm:
    """A module that was built so: no file differs from what was recorded."""

    def harm(broken: Broken) -> None:
        broken.rewrite(path, text)
        broken.as_built()

    return harm


def raises(path: str, kind: str, words: str) -> Harm:
    return built(path, f"raise {kind}({words!r})\n")


def cuda(harm: Harm) -> Harm:
    """On a machine for which a CUDA build was planned and installed."""

    def both(broken: Broken) -> None:
        broken.planned_for_cuda()
        harm(broken)

    return both


def printed(lines: str, status: int) -> str:
    """An nvidia-smi that says only this."""
    return f"#!/bin/sh\ncat <<'END'\n{lines}\nEND\nexit {status}\n"


def _cpu_build_again(broken: Broken) -> None:
    """`pip install --force-reinstall torch` with the CPU index: what says it is CUDA is replaced; the driver is well."""
    text = broken.file("torch/version.py").read_text()
    broken.driver("580.95.05", "8.9", "NVIDIA GeForce RTX 4070")
    broken.rewrite("torch/version.py", text.replace("'13.0'", "None"))


def _libc10_of_another(broken: Broken) -> None:
    """A wheel that was put together wrongly: another library lies under the name of libc10."""
    broken.rewrite("torch/lib/libc10.so", broken.file("pillow.libs/libXau-*.so*").read_bytes())
    broken.as_built()


def _no_cuda_library(broken: Broken) -> None:
    """bitsandbytes tells what it tells where it has no library for torch's CUDA."""
    path = "bitsandbytes/cextension.py"
    missing = "No compatible CUDA binary found at /home/mia/env/bitsandbytes/libbitsandbytes_cuda132.so"
    text = broken.file(path).read_text()
    broken.rewrite(path, f'{text}\nBNB_BACKEND = "CUDA"\nlib = ErrorHandlerMockBNBNativeLibrary("{missing}")\n')
    broken.as_built()


# The driver 450 does not know all that newer ones can be asked.
TOO_OLD_TO_ASK = """#!/bin/sh
case "$*" in
  *compute_cap*) echo 'Field "compute_cap" is not a valid field to query.'; echo; exit 2 ;;
  *--query-gpu=name,uuid,memory.total,memory.free,driver_version*)
    echo "GeForce GTX 1080 Ti, GPU-5b1c9f2e-0a7d-4c33-9e61-7f0d2b8a4c15, 11178, 10873, 450.203.03" ;;
  *) echo "| NVIDIA-SMI 450.203.03   Driver Version: 450.203.03   CUDA Version: 11.0     |" ;;
esac
"""
NO_NVML = printed(
    "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system. Please make sure that the NVIDIA Display Driver "
    "is properly installed and present in your system.\nPlease also try adding directory that contains libnvidia-ml.so "
    "to your system PATH.",
    12,
)
LOST = printed(
    "Unable to determine the device handle for GPU 0000:01:00.0: GPU is lost.  Reboot the system to recover this GPU",
    15,
)
NUMPY_C_API = """
try:
    raise RuntimeError(
        "module was compiled against NumPy C-API version 0x14 (NumPy 2.3) but the running NumPy has C-API version 0x11. "
        "Check the section C-API incompatibility at the Troubleshooting ImportError section for indications on how to "
        "solve this problem."
    )
except RuntimeError as error:
    raise ImportError("numpy._core.multiarray failed to import") from error
"""
DLL_GERMAN = (
    "[WinError 1114] Eine DLL-Initialisierungsroutine ist fehlgeschlagen. Error loading "
    '"C:\\Users\\Jürgen\\Fettle\\env\\Lib\\site-packages\\torch\\lib\\c10.dll" or one of its dependencies.'
)
DLL_PROCEDURE = "DLL load failed while importing lib: The specified procedure could not be found."
DYLIB_SYMBOL = (
    "dlopen(/Users/mia/env/lib/python3.11/site-packages/torch/_C.cpython-311-darwin.so, 0x0002): Symbol not found: "
    "__ZN2at4_ops5zeros4callEN3c108ArrayRefINS2_6SymIntEEE\n  Referenced from: <7D1F2E60-3B1C-3A44-9B55-0C8E4F2A9D10> "
    "/Users/mia/env/lib/python3.11/site-packages/torch/lib/libtorch_python.dylib\n  Expected in: "
    "<0E4C91AB-5D3F-3F0B-8A77-2B6D1C5E8F42> /Users/mia/env/lib/python3.11/site-packages/torch/lib/libtorch_cpu.dylib"
)
DYLIB_PROCESSOR = (
    "dlopen(/Users/mia/env/lib/python3.11/site-packages/safetensors/_safetensors_rust.abi3.so, 0x0002): tried: "
    "'/Users/mia/env/lib/python3.11/site-packages/safetensors/_safetensors_rust.abi3.so' (mach-o file, but is an "
    "incompatible architecture (have 'x86_64', need 'arm64e' or 'arm64'))"
)
NO_TRITON = (
    "Cannot find a working triton installation. Either the package is not installed or it is too old. "
    "More information on installing Triton can be found at: https://github.com/triton-lang/triton"
)
NUMPY_2, WRONG_WHEEL, TORN = ("numpy-2-under-numpy-1",), ("wheel-wrong-platform",), ("environment-torn",)

BROKEN = [
    Case("pandas of numpy 1's days with numpy 2.3", NUMPY_2, pip("numpy==2.3.5", "pandas==2.0.3")),
    Case("scikit-learn built for numpy 1 breaks transformers", NUMPY_2, pip("numpy==2.2.6", "scikit-learn==1.3.2", "scipy==1.11.4")),
    Case("datasets built with numpy 2.3's headers", ("numpy-1-under-numpy-2", "numpy-too-old"), built("datasets/__init__.py", NUMPY_C_API)),
    Case("a numpy older than pandas wants", ("numpy-too-old", "package-replaced"), pip("numpy==1.24.4")),
    Case("transformers too old for gemma3n", ("model-type-unknown", "package-replaced"), pip("transformers==4.50.0", probes=("model_type:gemma3n",))),
    Case("xformers for torch 2.8", ("xformers-other-torch",), pip("xformers==0.0.32.post2", probes=("xformers",))),
    Case("a CPU torch installed again over CUDA", ("cpu-torch-over-cuda",), cuda(_cpu_build_again)),
    Case("a driver without its library", ("driver-missing",), cuda(lambda broken: broken.smi(NO_NVML))),
    Case("the GPU fell off the bus", ("gpu-unusable",), cuda(lambda broken: broken.smi(LOST))),
    Case("a T4 with the driver of a data centre", ("driver-too-old",), cuda(lambda broken: broken.driver("515.105.01", "7.5", "Tesla T4"))),
    Case("a driver too old to be asked", ("driver-too-old",), cuda(lambda broken: broken.smi(TOO_OLD_TO_ASK))),
    Case("a V100 with a new driver", ("capability-outside-wheel",), cuda(lambda broken: broken.driver("580.82.07", "7.0", "Tesla V100-SXM2-32GB"))),
    Case("c10.dll does not start, on a German Windows", ("windows-dll-unloadable",), raises("torch/__init__.py", "OSError", DLL_GERMAN)),
    Case("a DLL of pyarrow lacks a procedure", ("windows-dll-unloadable",), raises("pyarrow/__init__.py", "ImportError", DLL_PROCEDURE)),
    Case("libtorch_cpu.dylib of another torch", ("torch-library-unloadable",), raises("torch/__init__.py", "ImportError", DYLIB_SYMBOL)),
    Case("libc10 is another library", ("torch-library-unloadable",), _libc10_of_another),
    Case("torch's compiler finds no Triton", ("triton-missing",), raises("trl/__init__.py", "RuntimeError", NO_TRITON)),
    Case("bitsandbytes has no library for CUDA 13.2", ("bitsandbytes-without-library",), _no_cuda_library),
    Case("torchvision for torch 2.9", ("torchvision-other-torch",), pip("torchvision==0.24.1", probes=("torchvision",))),
    Case("psutil for ARM", WRONG_WHEEL, pip("--python-platform", "aarch64-unknown-linux-gnu", "--reinstall", "psutil==7.2.2")),
    Case("tokenizers for Alpine", WRONG_WHEEL, pip("--python-platform", "x86_64-unknown-linux-musl", "--reinstall", "tokenizers==0.23.3")),
    Case("safetensors for an Intel Mac", WRONG_WHEEL, raises("safetensors/__init__.py", "ImportError", DYLIB_PROCESSOR)),
    Case("yaml for Python 3.10, which works slowly", WRONG_WHEEL, pip("--python-version", "3.10", "--reinstall", "pyyaml==6.0.3")),
    Case("RECORD of accelerate emptied", ("record-missing", *TORN), lambda broken: broken.rewrite("accelerate-*.dist-info/RECORD", b"")),
    Case("numpy's own libraries removed", TORN, lambda broken: broken.remove("numpy.libs")),
    Case("a folder of transformers removed", TORN, lambda broken: broken.remove("transformers/models/auto")),
]  # fmt: skip

FETCH = (
    "error: Request failed after 3 retries in 11.2s\n  cause: Failed to fetch: https://wheels.example/simple/peft/\n"
)
SENDING = (
    "  cause: error sending request for url (https://wheels.example/simple/peft/)\n  cause: client error (Connect)\n"
)

ANSWERS = [
    Answer("the user's quota is used up", ("disk-full",), """error: Failed to install: torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl (torch==2.13.0+cpu)
  cause: Failed to copy to `/home/mia/fettle/envs/.build-1/env/lib/python3.11/site-packages/torch/lib/libtorch_cpu.so`
  cause: failed to copy file from /home/mia/fettle/cache/uv/archive-v0/L7gk8W0w60bFznj4/torch/lib/libtorch_cpu.so to /home/mia/fettle/envs/.build-1/env/lib/python3.11/site-packages/torch/lib/.tmperR5nF: Disk quota exceeded (os error 122)
"""),
    Answer("a name that is too long", ("path-too-long",), f"""error: Failed to initialize cache at `/home/mia/{"n" * 300}/cache/uv`
  cause: failed to create directory `/home/mia/{"n" * 300}/cache/uv`: File name too long (os error 36)
"""),
    Answer("a folder of root", ("no-permission",), """error: Failed to initialize cache at `/srv/fettle/cache/uv`
  cause: failed to create directory `/srv/fettle/cache/uv`: Permission denied (os error 13)
"""),
    Answer("the proxy wants a password", ("proxy-refused",), f"{FETCH}{SENDING}  cause: tunnel error: proxy authorization required\n"),
    Answer("the proxy's name is unknown", ("proxy-refused",), f"""{FETCH}{SENDING}  cause: tunnel error: failed to create underlying connection
  cause: dns error
  cause: error resolving DNS
  cause: failed to lookup address information: Name or service not known
"""),
    Answer("a certificate that signed itself", ("certificate-unknown",), """error: Failed to fetch: https://wheels.example/simple/peft/
  cause: error sending request for url (https://wheels.example/simple/peft/)
  cause: client error (Connect)
  cause: invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))
"""),
    Answer("the index's name is unknown", ("index-down",), f"""{FETCH}{SENDING}  cause: dns error
  cause: error resolving DNS
  cause: failed to lookup address information: Name or service not known
"""),
    Answer("the index asks to wait", ("index-slow",), f"{FETCH}  cause: HTTP status client error (429 Too Many Requests) for url (https://wheels.example/simple/peft/)\n"),
    Answer("a web filter's page in place of a wheel", ("index-not-an-index",), """error: No solution found when resolving dependencies
  cause: Because peft==0.21.2 has an invalid package format and you require peft==0.21.2, we can conclude that your requirements are unsatisfiable.

hint: The structure of `peft` (v0.21.2) was invalid:
  Failed to read from zip file
"""),
    Answer("a wheel cut short by its server", ("wheel-truncated",), """Resolved 70 packages in 2.41s
error: Failed to download `sympy==1.14.0`
  cause: Failed to write to the distribution cache
  cause: error decoding response body
  cause: request or response body error
  cause: error reading a body from connection
  cause: end of file before message length reached
"""),
    Answer("pip meets another hash", ("hash-mismatch",), f"""Collecting absl-py==2.5.1 (from -r requirements.lock (line 1))
  Downloading absl_py-2.5.1-py3-none-any.whl (300 kB)
ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package versions, please update the hashes. Otherwise, examine the package contents carefully; someone may have tampered with them.
    absl-py==2.5.1 from https://wheels.example/absl_py-2.5.1-py3-none-any.whl (from -r requirements.lock (line 1)):
        Expected sha256 {"0" * 64}
             Got        31c5e0c119423ce60cd2785165a9a5f62b71cbd5813a012a19443c73456d2793
"""),
    Answer("a scanner calls a library a virus", ("blocked-by-antivirus",), r"""error: Failed to install: bitsandbytes-0.50.2-py3-none-win_amd64.whl (bitsandbytes==0.50.2)
  cause: failed to copy file from C:\Users\mia\Fettle\cache\uv\archive-v0\Qf3\bitsandbytes\libbitsandbytes_cpu.dll to C:\Users\mia\Fettle\envs\.build-1\env\Lib\site-packages\bitsandbytes\libbitsandbytes_cpu.dll: Operation did not complete successfully because the file contains a virus or potentially unwanted software. (os error 225)
"""),
    Answer("a cloud folder whose service is off", ("cloud-synced-folder",), r"""error: Failed to install: peft-0.21.2-py3-none-any.whl (peft==0.21.2)
  cause: failed to copy file from C:\Users\mia\OneDrive\Fettle\cache\uv\archive-v0\Qf3\peft\config.py to C:\Users\mia\OneDrive\Fettle\envs\.build-1\env\Lib\site-packages\peft\config.py: The cloud file provider is not running. (os error 362)
"""),
    Answer("another uv holds the cache", ("two-installs",), """Cache is currently in-use, waiting for other uv processes to finish (use `--force` to override)
error: Timeout (300s) when waiting for lock on `/home/mia/fettle/cache/uv` at `/home/mia/fettle/cache/uv/.lock`, is another uv process running? You can set `UV_LOCK_TIMEOUT` to increase the timeout.
"""),
]  # fmt: skip


def _leftovers(broken: Broken) -> None:
    """What pip, editors and file browsers leave behind."""
    site = site_packages(broken.env)
    shutil.copytree(broken.file("tqdm-*.dist-info"), site / "~qdm-4.67.1.dist-info")
    for name in (".DS_Store", "torch/version.py.orig", "peft/.config.py.swp", "transformers/Thumbs.db"):
        (site / name).write_bytes(b"\x00\x01left over")


def _dead_driver(broken: Broken) -> None:
    """A CPU build was wanted, so it does not matter what the graphics card does."""
    broken.smi(NO_NVML)


def _noise(broken: Broken) -> None:
    """Newer complaints of torchao and others on stderr, among bytes that are no text."""
    said = (
        "Skipping import of cpp extensions due to incompatible torch version. Please upgrade to torch >= 2.14.0 (found 2.13.0+cpu).",
        "Failed to load /home/mia/torchao/_C_mxfp8.abi3.so: Could not load this library: /home/mia/torchao/_C_mxfp8.abi3.so",
        "W1120 09:12:44 NOTE: Redirects are currently not supported in Windows or MacOs.",
        "Warning: You are sending unauthenticated requests to the HF Hub. Permission denied for cache metadata, continuing.",
    )
    text = broken.file("peft/__init__.py").read_text()
    lines = f"import sys as _sys\n_sys.stderr.buffer.write({chr(10).join(said).encode() + bytes(range(128, 160))!r})\n"
    broken.rewrite("peft/__init__.py", text + lines)
    broken.as_built()


def _link(broken: Broken) -> None:
    """The home is reached through a link whose name is not English."""
    there = broken.generation.folder.with_name("Zuhause für Modelle 模型")
    broken.generation.folder.rename(there)
    link = there.with_name("case")
    link.symlink_to(there.name)
    broken.record(folder=link)


def _shell(broken: Broken) -> None:
    """Settings for other programs, some of them nonsense for this one."""
    broken.variables |= {
        "OMP_NUM_THREADS": "many", "BNB_CUDA_VERSION": "118", "CUDA_HOME": "/usr/local/cuda-11.8", "LC_ALL": "tr_TR.UTF-8",
        "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "debug", "TOKENIZERS_PARALLELISM": "false",
        "PYTHONDONTWRITEBYTECODE": "1", "PIP_REQUIRE_VIRTUALENV": "1", "UV_PYTHON": "3.13", "TORCH_LOGS": "+dynamo",
    }  # fmt: skip


HEALTHY = [
    Case("healthy: leftovers of pip and editors", (), _leftovers),
    Case("healthy: a dead driver beside a CPU build", (), _dead_driver),
    Case("healthy: newer cosmetic complaints", (), _noise),
    Case("healthy: reached through a link", (), _link),
    Case("healthy: settings of other programs", (), _shell),
]

# This takes a few seconds and belongs into every run, as do the answers; the others belong into the slow tier.
QUICK = ("numpy's own libraries removed",)
CASES = [replace(case, held_out=True, slow=case.id not in QUICK) for case in (*HEALTHY, *BROKEN)]
