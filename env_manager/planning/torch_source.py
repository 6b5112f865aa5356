"""Finds the right build of torch: in what the user configured, then at PyTorch, never a wrong one silently."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from env_manager.errors import EnvError, InstallStopped, UvFailed
from env_manager.fetching.wheel_sizes import WheelSizes
from env_manager.planning.catalog import Catalog
from env_manager.planning.plan import Plan, TorchSource
from env_manager.planning.resolve import (
    LOCK_NAME,
    chosen_wheels,
    is_impossible,
    is_unreachable,
    name_wheels,
    parse_lock,
    resolve,
)
from env_manager.uv import Uv

# CPU builds of torch are around 200 MB, CUDA builds with their libraries above 2 GB.
LARGE_BYTES = 1_000_000_000


def find_torch(
    plan: Plan, catalog: Catalog, uv: Uv, python: Path, folder: Path, sizes: WheelSizes, allow_large: bool
) -> TorchSource | None:
    """Where the planned build of torch comes from; None if the plan has no torch.

    Raises `torch-build-large` where only a CUDA build of several gigabytes could be had for a
    machine without a usable GPU, unless `allow_large`, and `platform-unsupported` where torch has
    no build for the system at all.
    """
    if plan.torch.build == "none":
        raise EnvError(
            "platform-unsupported",
            f"Training cannot be installed on this machine. {plan.torch.reason}",
            "Use a 64-bit Linux with glibc, Windows on x86-64, or a Mac with Apple silicon.",
        )
    built = {package.name for step in catalog.steps for package in step.packages if package.build}
    wanted = [each for step in plan.steps for each in step.requirements if each.split("==")[0] in built]
    if not wanted:
        return None
    names = tuple(requirement.split("==")[0] for requirement in wanted)
    if not plan.torch.local:
        return TorchSource("default-index", "", None, names)
    search = _Search(uv, python, folder)
    found = search.found(wanted, None)
    if names[0] in found:
        return TorchSource("configured", plan.torch.local, None, found)
    found = search.found(wanted, plan.torch.index_url)
    if names[0] in found:
        return TorchSource("pytorch-index", plan.torch.local, plan.torch.index_url, found)
    if plan.torch.build != "cpu":
        raise _not_found(plan)
    plain = TorchSource("default-index", "", None, names)
    if not allow_large:
        _refuse_if_large(plan, plain, uv, python, folder, sizes)
    return plain


class _Search:
    """Asks uv whether exact requirements can be had."""

    def __init__(self, uv: Uv, python: Path, folder: Path) -> None:
        self.uv, self.python, self.folder = uv, python, folder

    def found(self, requirements: list[str], index_url: str | None) -> tuple[str, ...]:
        """The names that can be had; nothing of the family if the first, torch itself, cannot."""
        names: list[str] = []
        for requirement in requirements:
            if self._can_be_had(requirement, index_url):
                names.append(requirement.split("==")[0])
            elif not names:
                break
        return tuple(names)

    def _can_be_had(self, requirement: str, index_url: str | None) -> bool:
        (self.folder / "search.in").write_text(requirement + "\n", encoding="utf-8")
        arguments = ["pip", "compile", "search.in", "--no-deps", "--only-binary", ":all:"]
        arguments += ["--python", str(self.python), "--quiet"]
        uv = self.uv
        if index_url:
            arguments += ["--index", index_url, "--index-strategy", "unsafe-best-match"]
            # Where PyTorch's index is out of reach, that should be known soon.
            uv = uv.with_environ(UV_HTTP_RETRIES="0", UV_HTTP_TIMEOUT="10", UV_HTTP_CONNECT_TIMEOUT="5")
        try:
            uv.run(arguments, cwd=self.folder)
        except InstallStopped:
            raise
        except UvFailed as error:
            if is_impossible(error) or (index_url and is_unreachable(error)):
                return False
            raise
        return True


def _refuse_if_large(plan: Plan, source: TorchSource, uv: Uv, python: Path, folder: Path, sizes: WheelSizes) -> None:
    attempt = folder / "default-torch"
    attempt.mkdir(exist_ok=True)
    local = plan.torch.local
    steps = tuple(
        replace(step, requirements=tuple(each.removesuffix(local) for each in step.requirements)) for step in plan.steps
    )
    default = replace(plan, source=source, steps=steps)
    resolve(default, uv, python, attempt)
    name_wheels(uv, default, python, attempt)
    chosen = chosen_wheels(attempt)
    measured = sizes.of(chosen.values(), uv)
    of_gpu = [
        package.name
        for package in parse_lock((attempt / LOCK_NAME).read_text(encoding="utf-8")).packages
        if package.name.startswith(("nvidia-", "cuda-", "triton"))
    ]
    packed = {name: measured[url].packed or 0 for name, url in chosen.items()}
    total = sum(packed.values())
    if not of_gpu and total < LARGE_BYTES:
        return
    family = packed.get("torch", 0) + sum(packed.get(name, 0) for name in of_gpu)
    raise EnvError(
        "torch-build-large",
        f"No CPU build of torch can be reached; the configured index has only a CUDA build. Installing it would"
        f" download {total / 1e9:.1f} GB in all, {family / 1e9:.1f} GB of them for an NVIDIA GPU that is not here.",
        "Allow the large download, or name an index or wheel folder that has a CPU build of torch"
        " in pip's configuration (extra-index-url or find-links).",
    )


def _not_found(plan: Plan) -> EnvError:
    return EnvError(
        "torch-build-missing",
        f"The build of torch that this machine needs ({plan.torch.build}) cannot be found:"
        f" {plan.torch.index_url} is out of reach or does not have it.",
        "Check the network connection, or name an index that has it in pip's configuration (extra-index-url).",
    )
