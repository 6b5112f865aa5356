"""How known failures show in what libraries and installers say: one row a failure, the specific above the general.

Patterns are matched case-insensitively, line breaks included, against a failing check's evidence and
detail, or against an installer's output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Action = Literal["install", "rollback", "repair"]


@dataclass(frozen=True)
class Signature:
    """A failure, the words it is known by, why it happens and what mends it."""

    name: str
    pattern: str
    cause: str
    remedy: str
    action: Action | None = None
    of: tuple[str, ...] = ()  # the checks in which it may show; all, if empty


_REBUILD = "Repair the environment: it is built again from its own lock."
_OTHER_PACKAGES = "Repair the environment, and do not install other packages into it."
_DRIVER = "Install or update the NVIDIA driver, then restart the machine; or install again to train on the CPU."

IN_CHECKS = (
    Signature(
        "numpy-2-under-numpy-1",
        r"compiled using NumPy 1\.x cannot be run in|_ARRAY_API not found|numpy\.core\.multiarray failed to import"
        r"|size changed.{0,80}Expected 9\d from C header, got 8\d|was removed in the NumPy 2\.0 release"
        r"|numpy[<>=!., \d]*<\s*2[^\n]*is required[^\n]*found numpy[= ]*2",
        "NumPy 2 lies below libraries that were built for NumPy 1.",
        _OTHER_PACKAGES,
        "repair",
    ),
    Signature(
        "numpy-1-under-numpy-2",
        r"requires NumPy 2|compiled against (NumPy C-API version 0x1[2-9a-f]|(ABI|API) version 0x2)"
        r"|size changed.{0,80}Expected 8\d from C header, got 9\d|No module named 'numpy\._core"
        r"|numpy[<>=!., \d]*>=\s*2[^\n]*is required[^\n]*found numpy[= ]*1",
        "A library that was built for NumPy 2 lies above NumPy 1.",
        _OTHER_PACKAGES,
        "repair",
    ),
    Signature(
        "model-type-unknown",
        r"does not recognize (this architecture|the model type)|has model type .{1,60} but Transformers",
        "This transformers is older than the model and does not know its type.",
        "Install the dependencies again with a newer transformers, or choose another model.",
        "install",
    ),
    Signature(
        "driver-missing",
        r"Found no NVIDIA driver|no CUDA-capable device|libcuda\.so[.\d]*: cannot open|no NVIDIA driver"
        r"|No CUDA GPUs are available",
        "This is a CUDA build of torch and there is no NVIDIA driver that it could use.",
        _DRIVER,
        "install",
    ),
    Signature(
        "driver-too-old",
        r"driver on your system is too old|driver version is insufficient|Driver [\d.]+ is too old"
        r"|forward compatibility was attempted|unsupported (display driver|toolchain)",
        "The NVIDIA driver is older than this CUDA build of torch needs.",
        "Update the NVIDIA driver; or install again, which chooses a build for the present one.",
        "install",
    ),
    Signature(
        "capability-outside-wheel",
        r"no kernel image is available|cuda capability sm_\d+ is not compatible|no longer supports this GPU"
        r"|has compute capability [\d.]+;|not compatible with the current PyTorch installation",
        "This build of torch has no kernels for this GPU.",
        "Install again: a build for this GPU is chosen, or the CPU if there is none.",
        "install",
    ),
    Signature(
        "torchvision-other-torch",
        r"operator torchvision::\w+ does not exist|torchvision[^\n]{0,200}(undefined symbol|different CUDA|_C\.so)"
        r"|Couldn't load custom C\+\+ ops|PyTorch and torchvision were compiled with different CUDA",
        "torchvision was built for another torch than the one that lies here.",
        _OTHER_PACKAGES,
        "repair",
    ),
    Signature(
        "xformers-other-torch",
        r"xformers was built for|xFormers can't load C\+\+/CUDA extensions"
        r"|xformers[^\n]{0,200}(undefined symbol|cannot open shared object)",
        "xformers was built for another torch or another CUDA than the ones that lie here.",
        _OTHER_PACKAGES,
        "repair",
    ),
    Signature(
        "bitsandbytes-without-library",
        r"libbitsandbytes_\w+|bitsandbytes library load error|CUDA Setup failed|Configured [\w ]*binary not found"
        r"|bitsandbytes native library|'NoneType' object has no attribute 'c\w*(quantize|get_)\w*'",
        "bitsandbytes lacks its own library for this kind of device.",
        _REBUILD,
        "repair",
    ),
    Signature(
        "unsloth-without-accelerator",
        r"Unsloth cannot find any torch accelerator|Unsloth (currently )?(only )?(works|supports)[^\n]*GPU",
        "This unsloth refuses to start without a GPU.",
        "Install again: it is left out on a machine without a GPU.",
        "install",
    ),
    Signature(
        "triton-missing",
        r"No module named 'triton|Cannot find a working triton|triton (is )?not (found|available|installed)",
        "Triton, which compiles GPU kernels, is not there.",
        "Repair the environment; on Windows it comes as triton-windows.",
        "repair",
    ),
    Signature(
        "windows-dll-unloadable",
        r"WinError (126|127|182|1114)\b|DLL load failed|Error loading \"[^\"]+\.dll\"",
        "Windows could not load one of torch's libraries: it, or one that it needs, is missing or of another version.",
        "Install the Microsoft Visual C++ Redistributable (x64), restart, then repair the environment.",
        "repair",
    ),
    Signature(
        "system-too-old",
        r"version [`'](GLIBC|GLIBCXX|CXXABI)_[\d.]+' not found|Symbol not found[^\n]*built for macOS",
        "This system is older than the one the package was built for.",
        "Update the system, or choose older versions of the package.",
    ),
    Signature(
        "wheel-wrong-platform",
        r"wrong ELF class|Exec format error|incompatible architecture|not a valid Win32 application"
        r"|cannot execute binary|is not for (x86_64|aarch64)|mach-o, but",
        "A package was built for another processor or system.",
        _OTHER_PACKAGES,
        "repair",
    ),
    Signature(
        "python-other",
        r"is not Python 3\.\d+\b|is not CPython|has 32 bits",
        "The interpreter below the environment was replaced by another one.",
        _REBUILD,
        "repair",
        of=("python",),
    ),
    Signature(
        "libraries-not-executable",
        r"failed to map segment from shared object|cannot enable executable stack",
        "The system does not let libraries in this folder run (it is mounted noexec, or a policy forbids it).",
        "Choose a folder on another disk in FETTLE_HOME, then install there.",
    ),
    Signature(
        "disk-full", r"No space left on device|\bErrno 28\b|Disk quota exceeded", "The disk is full.",
        "Free some space, then try again.",
    ),
    Signature(
        "no-permission",
        r"PermissionError|Permission denied|\bErrno 13\b|Operation not permitted",
        "A file may not be read or written by this user.",
        "Give your user the rights to Fettle's folder, then check again.",
    ),
    Signature(
        "too-many-open-files", r"Too many open files|\bErrno 24\b", "The limit of open files was reached.",
        "Close other programs, or raise the limit (`ulimit -n`).",
    ),
    Signature(
        "disk-error", r"\bErrno 5\b|Input/output error|\bEIO\b|SIGBUS", "The disk could not read a file.",
        "Check the disk, then repair the environment.", "repair",
    ),
    Signature(
        "out-of-memory",
        r"MemoryError|can't allocate memory|Cannot allocate memory|\(SIGKILL\)|out of memory",
        "The machine ran out of memory while the library was loaded.",
        "Close other programs, then check again.",
    ),
    Signature(
        "cpu-instructions",
        r"\(SIGILL\)|Illegal instruction|requires (AVX|SSE)",
        "A package uses instructions that this processor does not have.",
        "Choose an older version of the package, or another machine.",
    ),
    Signature(
        "torch-library-unloadable",
        r"lib(torch|c10|shm|torch_cpu|torch_python|gomp|cudart|cublas|cudnn|nccl|nvrtc)[\w.+-]*"
        r"[^\n]{0,120}(cannot open shared object|file too short|invalid ELF|not loaded|no such file|image not found"
        r"|cannot read file data|ELF load command|undefined symbol)"
        r"|dlopen[^\n]*libtorch|Library not loaded[^\n]*lib(torch|c10)|undefined symbol: _?_ZN?K?[35](c10|torch|at)",
        "A library of torch is missing, cut short or does not fit the others.",
        _REBUILD,
        "repair",
    ),
    Signature(
        "library-unloadable",
        r"cannot open shared object file|file too short|invalid ELF header|undefined symbol|ELF load command"
        r"|cannot read file data|Library not loaded|not a mach-o",
        "A compiled library of a package cannot be loaded.",
        _REBUILD,
        "repair",
    ),
    Signature(
        "file-corrupt",
        r"null bytes|bad marshal data|invalid non-printable character|SyntaxError|UnicodeDecodeError"
        r"|JSONDecodeError|unterminated (string|triple)|IndentationError",
        "A file of a package holds something that it should not.",
        _REBUILD,
        "repair",
    ),
    Signature(
        "hangs", r"did not answer within", "A library does not finish loading.",
        "Restart the machine; if it still hangs, roll back to the previous environment.", "rollback",
    ),
    Signature(
        "crashes", r"The interpreter crashed", "A compiled library crashes the interpreter.",
        "Repair the environment; if it still crashes, roll back to the previous one.", "repair",
    ),
)  # fmt: skip

# Said although nothing is wrong with it; named so that nobody looks for it.
COSMETIC = (
    Signature(
        "torchao-extensions-skipped",
        r"Skipping import of cpp extensions|torchao[^\n]*(C\+\+|cpp) extensions",
        "torchao's C++ extensions are not for this torch. Training does not use them.",
        "Nothing is to be done.",
    ),
)

IN_INSTALLS = (
    Signature(
        "hash-mismatch", r"hash mismatch", "A downloaded package is not the file that the lock names.",
        "Try again; if it stays so, the index or a proxy alters files: use another index.", "install",
    ),
    Signature(
        "cloud-synced-folder",
        r"os error (362|380|389|390|395|396|404)\b|cloud (operation|file provider|file)",
        "Fettle's folder is kept by a cloud service, which does not let files be linked or locked.",
        "Choose a folder outside of the synced ones in FETTLE_HOME.",
    ),
    Signature(
        "file-in-use",
        r"os error (32|33)\b|being used by another process|used by another program|sharing violation",
        "Another program, often a virus scanner, held a file that was being written.",
        "Exclude Fettle's folder from the scanner, or wait a moment, then install again.", "install",
    ),
    Signature(
        "path-too-long",
        r"os error (36|206)\b|file ?name too long|path[^\n]{0,20}too long|exceeds? [^\n]*260",
        "A path became longer than this system allows.",
        "Choose a folder with a short path in FETTLE_HOME; on Windows allow long paths.",
    ),
    Signature(
        "disk-full", r"no space left|os error (28|112)\b|not enough space|quota exceeded|GB are free",
        "The disk is full.", "Free some space or move Fettle's folder to a larger disk, then install again.", "install",
    ),
    Signature(
        "certificate-unknown",
        r"unknownissuer|invalid peer certificate|certificate verify failed|self.signed certificate",
        "The index shows a certificate that this machine does not trust, often a company proxy's.",
        "Name the proxy's certificate file in pip's configuration (`cert`) or in SSL_CERT_FILE.",
    ),
    Signature(
        "proxy-refused", r"\b407\b|proxy authentication|tunnel(ing)? (error|failed|unsuccessful)|proxyconnect|proxy error",
        "The proxy refused the connection.", "Check the proxy's address, user name and password in HTTPS_PROXY.",
    ),
    Signature(
        "index-refused", r"\b401\b|\b403\b|unauthorized|forbidden", "The index wants a user name and password.",
        "Correct them in pip's or uv's configuration.",
    ),
    Signature(
        "no-permission", r"permission denied|os error (5|13|30)\b|access is denied|read-only file system",
        "A file could not be written.", "Make Fettle's folder writable for your user, or choose another one.",
    ),
    Signature(
        "wheel-truncated",
        r"end of file before message length|unexpected end of (zip|file)|unexpected eof|end of central directory"
        r"|content.length|premature|incomplete (body|message)|error decoding response body|early eof",
        "A package arrived cut short.", "Try again; if it stays so, a proxy on the way cuts large files.", "install",
    ),
    Signature(
        "index-not-an-index",
        r"unsupported content.type|invalid html|not a valid (zip|wheel)|invalid (local file header|zip)"
        r"|failed to read[^\n]*zip|failed to parse[^\n]*(html|simple|json)|bad magic|file signature",
        "The index answered with something that is no package, often a login page.",
        "Open the index in a browser and sign in, or configure another one; then install again.", "install",
    ),
    Signature(
        "index-slow", r"timed? ?out|timeout|deadline", "The index answers too slowly.",
        "Try again later, or raise the time limit in pip's configuration (`timeout`).", "install",
    ),
    Signature(
        "wheel-wrong-platform",
        r"no (wheels|usable wheels)[^\n]*|no wheels with a matching|is not compatible with (this|the current)"
        r"|requires-python|requires python|building from source is disabled|no-build",
        "The index offers no wheel of a package for this Python and system.",
        "Check that the index is complete, or ask for another version.",
    ),
    Signature(
        "index-down",
        r"error sending request|dns error|lookup address|connection (refused|reset)|connect error|could not connect"
        r"|tcp connect|\b50\d\b|network (connectivity|was) (is )?disabled|failed to fetch|out of reach|cannot be reached",
        "The index does not answer.", "Check the network, the proxy and the index in pip's configuration.", "install",
    ),
    Signature(
        "package-not-offered",
        r"no versions? of|not found in the (package registry|provided)|does not offer",
        "The index does not offer a planned package or version: behind a login page it looks empty.",
        "Check the index, and the version if you asked for one.",
    ),
    Signature(
        "two-installs", r"another installation is running", "Another installation runs in this folder.",
        "Wait until it has ended, or stop it.",
    ),
    Signature(
        "versions-conflict", r"no solution found|unsatisfiable", "The planned versions cannot be installed together.",
        "Undo the version overrides if you gave any.",
    ),
)  # fmt: skip
