"""How known failures show in what checks of an environment say: one row a failure, the specific above the general.

What is said differs between versions, languages and systems, so a pattern names the mechanism (the symbol, the
operator, the number of the error) rather than a sentence.
"""

from __future__ import annotations

from env_manager.diagnosing.signature import NO_STRANGERS, REBUILD, Signature
from env_manager.diagnosing.signatures_system import IN_SYSTEM

_DRIVER = "Install or update the NVIDIA driver, then restart the machine; or install again to train on the CPU."
_TORCH_LIBRARY = r"(lib|\b)(torch|c10|shm|torch_\w+|gomp|i?omp5?|cu[a-z]+|nv[a-zA-Z]+|nccl|mkl_\w+|aoti_\w+|caffe2\w*)[\w-]*\.(so|dylib|dll)"

_PACKAGES = (
    Signature(
        "numpy-2-under-numpy-1",
        r"compiled using NumPy 1\.x cannot be run in|_ARRAY_API not found"
        r"|compiled against (the )?(C-)?(API|ABI) version 0x1\d{6}[^\n]*numpy is 0x2\d{6}"
        r"|size changed[^\n]{0,120}Expected 9\d from C header, got 8\d|was removed in the NumPy 2\.0 release"
        r"|module 'numpy' has no attribute '(float_|complex_|unicode_|string_|NaN|Inf|product|cumproduct|sometrue|alltrue|in1d|trapz)'"
        r"|not compatible with NumPy 2"
        r"|numpy[<>=!.,~ \d]*<\s*2[^\n]*(is required|but)[^\n]*(found|have|got|installed)[^\n]*numpy[= ]*2",
        "NumPy 2 lies below libraries that were built for NumPy 1.",
        NO_STRANGERS,
        "repair",
    ),
    Signature(
        "numpy-1-under-numpy-2",
        r"requires NumPy (>=\s*)?2|compiled against (NumPy )?(C-)?(API|ABI) version 0x(1[2-9a-f]\b(?![^\n]*numpy is 0x1[2-9a-f]\b)|2\d{6}(?![^\n]*numpy is 0x2))"
        r"|size changed[^\n]{0,120}Expected 8\d from C header, got 9\d|No module named 'numpy\._core|needs NumPy 2|NumPy >= ?2"
        r"|module 'numpy' has no attribute '(ulong|astype|isdtype|concat|permute_dims|unique_values|vecdot|matrix_transpose)'"
        r"|numpy[<>=!.,~ \d]*>=?\s*2[^\n]*(is required|but)[^\n]*(found|have|got|installed)[^\n]*numpy[= ]*1",
        "A library that was built for NumPy 2 lies above NumPy 1.",
        NO_STRANGERS,
        "repair",
    ),
    Signature(
        "numpy-too-old",
        r"compiled against (C-)?(API|ABI) version 0x[0-9a-f]+ but this version of numpy is 0x[0-9a-f]+",
        "NumPy is older than the one that a library was built for.",
        NO_STRANGERS,
        "repair",
    ),
    Signature(
        "numpy-2-under-numpy-1",
        r"numpy\.core\.(multiarray|_multiarray_umath|umath) failed to import|Numpy is not available|Failed to initialize NumPy",
        "NumPy 2 lies below libraries that were built for NumPy 1.",
        NO_STRANGERS,
        "repair",
    ),
    Signature(
        "model-type-unknown",
        r"does not recognize (this architecture|the model type)|has model type .{1,60} but Transformers"
        r"|Unrecognized (model|configuration class)|configuration_auto\.py[\s\S]{0,400}KeyError: '|Tokenizer class \w+ does not exist"
        r"|cannot import name '(?!Auto)\w+(ForCausalLM|ForConditionalGeneration|ForImageTextToText|Config)' from 'transformers"
        r"|transformers[^\n]{0,40} has no attribute '?(?!Auto)\w+(ForCausalLM|ForConditionalGeneration|ForImageTextToText|Config)",
        "This transformers is older than the model and does not know its type.",
        "Install the dependencies again with a newer transformers, or choose another model.",
        "install",
    ),
    Signature(
        "gpu-unusable",
        r"driver has lost a GPU|driver runs but sees no GPU|GPU is lost|fallen off the bus",
        "The NVIDIA driver runs and its GPU does not answer.",
        "Restart the machine; if it happens again, check the GPU's power and slot.",
    ),
    Signature(
        "driver-missing",
        r"Found no NVIDIA driver|no CUDA-capable device|libcuda\.so[.\d]*:? [^\n]*cannot open|no NVIDIA driver|nvcuda\.dll"
        r"|No CUDA GPUs are available|cudaErrorNoDevice|CUDA_ERROR_NO_DEVICE|couldn't communicate with the NVIDIA driver"
        r"|Driver/library version mismatch|NVIDIA-SMI has failed|driver (is )?not (loaded|installed|found)|cuInit[^\n]*\b100\b"
        r"|might not have a CUDA gpu|CUDA driver initialization failed|Error 100\b",
        "This is a CUDA build of torch and there is no NVIDIA driver that it could use.",
        _DRIVER,
        "install",
    ),
    Signature(
        "driver-too-old",
        r"driver on your system is too old|driver version is insufficient|Driver [\d.]+ is too old|cudaErrorInsufficientDriver"
        r"|forward compatibility was attempted|unsupported (display driver|toolchain)|CUDA_ERROR_UNSUPPORTED_PTX|Error 80[34]\b"
        r"|update your (GPU|NVIDIA) driver|requires? [^\n]{0,40}driver[^\n]{0,30}(newer|>=|at least|or later)|Error 35\b"
        r"|driver[^\n]{0,60}(older than|is outdated|too old)",
        "The NVIDIA driver is older than this CUDA build of torch needs.",
        "Update the NVIDIA driver; or install again, which chooses a build for the present one.",
        "install",
    ),
    Signature(
        "capability-outside-wheel",
        r"no kernel image is available|cudaErrorNoKernelImageForDevice|cuda capability sm_\d+ is not compatible"
        r"|no longer supports this GPU|has compute capability [\d.]+;|not compatible with the current PyTorch installation"
        r"|(minimum|supported)[^\n]{0,40} (cuda )?capability[^\n]{0,60}(supported|required|is \d)|Value 'sm_\d+\w?' is not defined"
        r"|(invalid|unknown|unsupported|unrecognized) (device architecture|gpu arch\w*|target)[^\n]*sm_|CUDA_ERROR_NO_BINARY_FOR_GPU"
        r"|compute capability[^\n]{0,80}(too (old|low|new)|not supported|unsupported|below)|invalid device function",
        "This build of torch has no kernels for this GPU.",
        "Install again: a build for this GPU is chosen, or the CPU if there is none.",
        "install",
    ),
    Signature(
        "cpu-torch-over-cuda",
        r"Torch not compiled with CUDA enabled|is not a CUDA build|PyTorch[^\n]{0,40}(without|no) CUDA support|torch\+cpu[^\n]*CUDA",
        "A CPU build of torch lies where a CUDA build was installed.",
        NO_STRANGERS,
        "repair",
    ),
    Signature(
        "gpu-unusable",
        r"computes on \w+, not on (cuda|mps)|cudaErrorDevicesUnavailable|all CUDA-capable devices are busy|CUDA unknown error"
        r"|cudaErrorUnknown|invalid device ordinal|uncorrectable ECC|Unable to determine the device handle"
        r"|cudaGetDeviceCount|cudaErrorSystemNotReady|Error (80[26]|999)\b|MPS backend[^\n]*not (available|built)",
        "torch cannot use the GPU of this machine.",
        "Close what else uses the GPU and restart the machine; check CUDA_VISIBLE_DEVICES if you set it.",
    ),
    Signature(
        "torchvision-other-torch",
        r"(operator|No such operator|find the operator) torchvision::\w+|torchvision::\w+[^\n]*does not exist"
        r"|torchvision[^\n]{0,300}(undefined symbol|different CUDA|_C\.(so|pyd)|Symbol not found)|Failed to load image Python extension"
        r"|Couldn't load custom C\+\+ ops|PyTorch and torchvision (were|has|have)[^\n]*different CUDA"
        r"|No module named 'torchvision\._C|partially initialized module 'torchvision' has no attribute 'extension'",
        "torchvision was built for another torch than the one that lies here.",
        NO_STRANGERS,
        "repair",
    ),
    Signature(
        "xformers-other-torch",
        r"xformers was built for|xFormers can't load C\+\+/CUDA extensions|xFormers wasn't buil[dt] with CUDA"
        r"|No operator found for `memory_efficient_attention|No such operator xformers::|Could not (run|find)[^\n]*xformers::"
        r"|xformers[^\n]{0,300}(undefined symbol|cannot open shared object|Symbol not found|DLL load failed)"
        r"|xFormers[^\n]*(built|compiled) (for|with|against)[^\n]*(torch|cuda)",
        "xformers was built for another torch or another CUDA than the ones that lie here.",
        NO_STRANGERS,
        "repair",
    ),
    Signature(
        "bitsandbytes-without-library",
        r"libbitsandbytes_\w+|bitsandbytes (library load error|native library)|CUDA[ _]SETUP|Configured [\w ]*binary not found"
        r"|bitsandbytes[^\n]{0,80}(binary|compiled|built|library)[^\n]{0,40}(not found|without|missing|not load)"
        r"|compiled without GPU support|'NoneType' object has no attribute 'c\w*(quantize|get_|gemm|gemv|dequant)\w*'"
        r"|bitsandbytes[^\n]*Required library version not found",
        "bitsandbytes lacks its own library for this kind of device.",
        REBUILD,
        "repair",
    ),
    Signature(
        "unsloth-without-accelerator",
        r"Unsloth cannot find any torch accelerator|Unsloth[^\n]{0,60}(works|supports|needs|requires)[^\n]*(GPU|accelerator)"
        r"|No GPU (found|detected)[^\n]*unsloth",
        "This unsloth refuses to start without a GPU.",
        "Install again: it is left out on a machine without a GPU.",
        "install",
    ),
    Signature(
        "triton-missing",
        r"No module named 'triton|Cannot find a working triton|triton (is )?not (found|available|installed)|TritonMissing"
        r"|(requires|needs|install) triton\b|'triton' is not a package|libtriton|triton[^\n]*DLL load failed"
        r"|0 active drivers \(\[\]\)|No module named 'torch\._inductor\.runtime\.triton",
        "Triton, which compiles GPU kernels, is not there or does not load.",
        "Repair the environment; on Windows it comes as triton-windows.",
        "repair",
    ),
    Signature(
        "system-too-old",
        r"version [`'](GLIBC|GLIBCXX|CXXABI)_[\d.]+' not found|Symbol not found[\s\S]{0,300}built for macOS"
        r"|(was built|requires|needs|minos)[^\n]{0,60}(macOS|Mac OS X|glibc)[^\n]{0,40}(newer|later|or above|\d)"
        r"|load command 0x[0-9a-f]+ is unknown|(kernel|OS) too old",
        "This system is older than the one the package was built for.",
        "Update the system, or choose older versions of the package.",
    ),
    Signature(
        "wheel-wrong-platform",
        r"wrong ELF class|Exec format error|Errno 8\b|incompatible architecture|(os error|WinError) (193|216)\b"
        r"|not a valid Win32 application|cannot execute binary|is not for (x86_64|aarch64)|mach-o, but|wrong architecture"
        r"|ELF file (OS ABI|data encoding|version)|ELF header[^\n]*machine|Module use of python\d+\.dll conflicts"
        r"|(undefined symbol|Symbol not found): _?(_Py\w+|Py[A-Z]\w+)|initialization of \w+ did not return an extension module"
        r"|dynamic module does not define|python3\d+\.dll|0xC000007B|was built for another (processor|system|Python)",
        "A package was built for another processor, system or Python.",
        NO_STRANGERS,
        "repair",
    ),
    Signature(
        "python-other",
        r"is not Python 3\.\d+\b|is not CPython|has 32 bits",
        "The interpreter below the environment was replaced by another one.",
        REBUILD,
        "repair",
        of=("python",),
    ),
    Signature(
        "interpreter-unusable",
        r"No module named '_(ctypes|lzma|bz2|ssl|sqlite3|hashlib|uuid|struct|socket|json|decimal)'|No module named 'encodings'"
        r"|(failed|unable) to (import|get) [^\n]{0,20}(encodings|the Python codec|python home)|init_(fs_encoding|import_site)|libpython3",
        "The Python below the environment lacks a part of itself.",
        REBUILD,
        "repair",
    ),
    Signature(
        "openmp-twice",
        r"OMP: Error #15|multiple copies of the OpenMP|already initialized[^\n]*(omp|mkl)|libiomp5[^\n]*already",
        "Two packages brought their own copy of the OpenMP library, and the second refuses to start.",
        NO_STRANGERS,
        "repair",
    ),
    Signature(
        "cpu-instructions",
        r"\(SIGILL\)|Illegal instruction|requires (AVX|SSE|FMA)|0xC000001D|CPU (does not|doesn't) support|without AVX"
        r"|compiled to use (AVX|SSE)[^\n]*not available|NumPy was built with baseline optimizations",
        "A package uses instructions that this processor does not have.",
        "Choose an older version of the package, or another machine.",
    ),
    Signature(
        "package-replaced",
        r"is required for a normal functioning of this module, but found|incompatible version of|only versions? [^\n]{0,40}supported"
        r"|VersionConflict|DistributionNotFound|Descriptors cannot (not )?be created"
        r"|incompatible Protobuf|gencode version|(cannot|could not) import name '\w+' from '[\w.]+'(?! \(most likely)"
        r"|(?<!partially initialized )module '(?!numpy)[\w.]+' has no attribute"
        r"|(requires|needs) [\w.-]+\s*(\(|version )?[<>=!~]=?[^\n]{0,60}(found|installed|have|got|you|but)"
        r"|Disabling PyTorch because PyTorch[^\n]*is required|(>=|==|<=?)\s*[\d.]+ is required[^\n]*(found|got|have)",
        "A package is of another version than those above it need.",
        NO_STRANGERS,
        "repair",
    ),
    Signature(
        "package-missing",
        r"PackageNotFoundError|No package metadata was found",
        "A package, or its metadata, is not there.",
        REBUILD,
        "repair",
    ),
)  # fmt: skip

_LIBRARIES = (
    Signature(
        "windows-dll-unloadable",
        r"WinError (126|127|182|487|998|1114)\b|DLL load failed|[^\n]*Error loading \"[^\"]+\.dll\"|0xC0000(135|139|142)"
        r"|Could not find module '[^']+\.(dll|pyd)|(VCRUNTIME|MSVCP|vcomp|libomp)\d*\w*\.(x86_64\.)?dll|Visual C\+\+ Redist"
        r"|The specified (module|procedure) could not be found|dynamic link library \(DLL\) initialization",
        "Windows could not load one of torch's libraries: it, or one that it needs, is missing or of another version.",
        "Install the Microsoft Visual C++ Redistributable (x64), restart, then repair the environment.",
        "repair",
    ),
    Signature(
        "torch-library-unloadable",
        _TORCH_LIBRARY + r"[\w.]*[^\n]{0,160}(cannot open shared object|too short|invalid ELF|not loaded|no such file|image not found"
        r"|cannot read file data|ELF load command|undefined symbol|not a mach-o|no suitable image|slice is not valid)"
        r"|dlopen[^\n]*libtorch|Library not loaded[^\n]*lib(torch|c10|omp|shm)|undefined symbol:? _?_ZN?K?\w*(c10|5torch|2at)\d*"
        r"|undefined symbol:? (nccl|cu[A-Z]|cudnn|__nvJitLink|nvJitLink|iJIT_|mkl_|ncclComm)\w*|Symbol not found:? _?_ZN?K?\w*(c10|5torch|2at)"
        r"|/torch/(lib|_C)[^\n]*(cannot open shared object|too short|invalid ELF|undefined symbol|cannot read file data)"
        r"|No module named 'torch\._C|Failed to load PyTorch C extensions|Could not load library lib\w+|Unable to load any of \{"
        r"|CUDNN_STATUS_(NOT_INITIALIZED|SUBLIBRARY\w*|VERSION_MISMATCH)",
        "A library of torch is missing, cut short or does not fit the others.",
        REBUILD,
        "repair",
    ),
    Signature(
        "library-unloadable",
        r"cannot open shared object file|file too short|invalid ELF header|undefined symbol|ELF load command|symbol lookup error"
        r"|cannot read file data|Library not loaded|not a mach-o|Symbol not found|image not found|no suitable image|dlopen\("
        r"|static TLS block|cannot dynamically load|object file has no dynamic section|ELF file's phentsize",
        "A compiled library of a package cannot be loaded.",
        REBUILD,
        "repair",
    ),
    Signature(
        "file-corrupt",
        r"null bytes|bad marshal data|bad magic number|invalid non-printable character|SyntaxError|UnicodeDecodeError"
        r"|JSONDecodeError|unterminated (string|triple)|IndentationError|TabError|EOFError|marshal data too short"
        r"|invalid (continuation|start) byte|source code (string )?cannot contain|TOMLDecodeError|Expecting value: line"
        r"|BadZipFile|InvalidHeaderDeserialization|invalid decimal literal|was never closed",
        "A file of a package holds something that it should not.",
        REBUILD,
        "repair",
    ),
    Signature(
        "hangs", r"did not answer within", "A library does not finish loading.",
        "Restart the machine; if it still hangs, roll back to the previous environment.", "rollback",
    ),
    Signature(
        "crashes", r"The interpreter (crashed|ended with exit code)", "A compiled library crashes the interpreter.",
        "Repair the environment; if it still crashes, roll back to the previous one.", "repair",
    ),
)  # fmt: skip

IN_CHECKS = (*_PACKAGES, *IN_SYSTEM, *_LIBRARIES)

# Said although nothing is wrong with it; named so that nobody looks for it.
COSMETIC = (
    Signature(
        "torchao-extensions-skipped",
        r"Skipping import of cpp extensions|torchao[^\n]*(C\+\+|cpp)[ _]?extensions?|torchao[^\n]*\.so[^\n]*(skip|failed|incompatible)"
        r"|incompatible torch version[^\n]*torchao|torchao/issues/2919",
        "torchao's C++ extensions are not for this torch. Training does not use them.",
        "Nothing is to be done.",
    ),
)
