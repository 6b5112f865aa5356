"""Settings that are made before the model is there: refused where they cannot act, else put into force."""

from __future__ import annotations

import os
import shutil
from typing import Any

import torch

from trainer.errors import TrainError
from trainer.memory import peak
from trainer.models.parts import language_model
from trainer.spec import RunSpec
from trainer.spec.setting import Section


def refuse_idle(spec: RunSpec, device: str) -> None:
    """Raise `TrainError` for the first setting that was changed and does nothing on this device."""
    sections = [("", spec), *((f"{name}.", part) for name, part in spec if isinstance(part, Section))]
    for prefix, section in sections:
        for key, field in type(section).model_fields.items():
            extra: Any = field.json_schema_extra
            if extra and device not in extra["acts_on"] and getattr(section, key) != field.default:
                raise TrainError(
                    "device-setting",
                    f"`{prefix}{key}` does nothing on {device}; it acts on {', '.join(extra['acts_on'])}.",
                    "Take the setting away, or choose another device.",
                )
    if spec.training.compile and device == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        raise TrainError(
            "device-setting",
            "`training.compile` needs a C++ compiler on a CPU, and none is installed.",
            "Install one, as g++, or switch compiling off.",
        )


def choose_gpu(index: int | None) -> None:
    """Let torch see one GPU only, by its number among those visible; has to come before the first look at CUDA."""
    if index is None:
        return
    visible = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
    if visible and index >= len(visible):
        raise TrainError(
            "device-missing",
            f"`training.gpu` is {index}, but there are only {len(visible)} GPUs, counted from 0.",
            "Choose one of them, or leave the setting empty.",
        )
    os.environ["CUDA_VISIBLE_DEVICES"] = visible[index] if visible else str(index)


def prepare_device(spec: RunSpec, device: str) -> None:
    """Put determinism, the choice of kernels, the memory limit and the keeping of memory into force."""
    if spec.training.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    if device == "cpu":
        peak.keep_freed()
    if device == "cuda":
        torch.backends.cudnn.benchmark = spec.training.cudnn_benchmark
        if spec.training.memory_limit is not None:
            whole = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, spec.training.memory_limit * 1e9 / whole))


def prepare_model(model: Any, spec: RunSpec) -> None:
    """Put noise on the embeddings and compiling into force."""
    if spec.training.neftune:
        _add_noise(model.get_input_embeddings(), spec.training.neftune)
    if spec.training.compile:
        for layer in decoder_layers(model):
            layer.compile(dynamic=True)


def decoder_layers(model: Any) -> list[torch.nn.Module]:
    """The repeated blocks that read tokens: the longest list of modules of one class."""
    lists = [module for module in language_model(model).modules() if isinstance(module, torch.nn.ModuleList)]
    return list(max(lists, key=len, default=[]))


def _add_noise(embeddings: torch.nn.Module, alpha: float) -> None:
    """Uniform noise of size alpha / sqrt(length * width) while training (NEFTune, arXiv 2310.05914)."""

    def noisy(module: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        if not module.training:
            return output
        size = alpha / (output.size(1) * output.size(2)) ** 0.5
        return output + torch.empty_like(output).uniform_(-size, size)

    embeddings.register_forward_hook(noisy)
