"""Where torch comes from, with small wheels in its place: never a wrong build in silence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from install_bench import Bench
from small_index import CPU_MACHINE, SmallIndex, build_wheel, catalog_data

from env_manager.errors import EnvError
from env_manager.generations import Generation
from env_manager.hardware import Gpu
from env_manager.planning.catalog import Catalog
from env_manager.planning.catalog_file import load_catalog, parse_catalog
from env_manager.planning.torch_index import Asked
from env_manager.proving.preflight import check

pytestmark = pytest.mark.env

GPU_MACHINE = replace(CPU_MACHINE, accelerator="cuda", driver="580.65.06", gpus=(Gpu("GPU", "8.6", None),), cuda="13.0")


def catalog(cpu_index: str) -> Catalog:
    """Torch and torchvision in builds for CPU and CUDA, as in the shipped catalog."""
    data = catalog_data()
    data["torch_indexes"] = [
        {
            "name": "cu130",
            "url": "https://cuda.invalid/whl",
            "local": "+cu130",
            "accelerator": "cuda",
            "default_on": ["linux"],
            "linux_driver": "580",
        },
        {"name": "cpu", "url": cpu_index, "local": "+cpu", "accelerator": "cpu", "default_on": ["macos"]},
    ]
    vision = {"name": "torchvision", "version": "0.9", "build": "torch", "optional": True, "left_out": "No build."}
    data["steps"][0] |= {
        "packages": [{"name": "torch", "version": "2.9", "build": "torch"}, vision],
        "probe": ["import:torch"],
    }
    return parse_catalog(data)


@pytest.fixture
def torch_bench(bench: Bench) -> Bench:
    """The index carries a CUDA build of torch with a library beside it, as the public one does."""
    build_wheel(bench.wheels, "nvidia-cublas", "13.0", payload=1000)
    build_wheel(bench.wheels, "torch", "2.9", requires=["nvidia-cublas"])
    build_wheel(bench.wheels, "torchvision", "0.9", requires=["torch==2.9"])
    return bench


def install(bench: Bench, cpu_index: str = "http://127.0.0.1:9/simple", **options: object) -> Generation:
    return bench.install(catalog=catalog(cpu_index), **options)


def test_a_cpu_build_in_a_configured_wheel_folder_is_taken(torch_bench, tmp_path, monkeypatch):
    """The user's own wheels come first; torchvision has no such build and is left out."""
    build_wheel(tmp_path / "own", "torch", "2.9+cpu")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "own"))
    generation = install(torch_bench)
    assert generation.packages["torch"] == "2.9+cpu"
    assert "torchvision" not in generation.packages
    assert generation.plan["source"]["where"] == "configured"
    assert [left["package"] for left in generation.plan["left_out"]] == ["torchvision"]


def test_otherwise_the_cpu_build_of_pytorchs_index_is_taken(torch_bench, tmp_path):
    """Only torch's family comes from there."""
    build_wheel(tmp_path / "pytorch", "torch", "2.9+cpu")
    build_wheel(tmp_path / "pytorch", "torchvision", "0.9+cpu", requires=["torch==2.9"])
    pytorch = SmallIndex(tmp_path / "pytorch")
    generation = install(torch_bench, pytorch.url)
    pytorch.close()
    assert generation.packages["torch"] == "2.9+cpu"
    assert generation.packages["torchvision"] == "0.9+cpu"
    assert generation.packages["fx-second"] == "1.0"
    assert generation.plan["source"]["where"] == "pytorch-index"


def test_a_cuda_build_for_a_machine_without_gpu_is_not_downloaded_unasked(torch_bench):
    """The error says how much it would be, nothing is fetched, nothing is left behind."""
    with pytest.raises(EnvError) as caught:
        install(torch_bench)
    assert caught.value.code == "torch-build-large"
    assert "would download" in caught.value.message
    assert torch_bench.index.wheels_sent == []
    assert torch_bench.store.active() is None


def test_a_cuda_build_is_installed_when_it_was_allowed(torch_bench):
    """Asked and answered."""
    generation = install(torch_bench, allow_large=True)
    assert generation.packages["torch"] == "2.9"
    assert "nvidia-cublas" in generation.packages


def test_a_small_build_without_gpu_libraries_is_a_cpu_build(torch_bench):
    """A mirror may carry a CPU build without the mark in its version."""
    build_wheel(torch_bench.wheels, "torch", "2.9")
    generation = install(torch_bench)
    assert generation.packages["torch"] == "2.9"
    assert "nvidia-cublas" not in generation.packages


def test_a_gpu_machine_never_gets_the_cpu_build(torch_bench, tmp_path, monkeypatch):
    """Also where a CPU build lies in the user's wheel folder and would count as the better match."""
    build_wheel(tmp_path / "own", "torch", "2.9+cpu")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "own"))
    generation = install(torch_bench, hardware=GPU_MACHINE)
    assert generation.packages["torch"] == "2.9"


def test_what_the_user_chose_is_installed_and_recorded(torch_bench, tmp_path, monkeypatch):
    """The CPU build on a machine with a GPU; the generation tells who decided."""
    build_wheel(tmp_path / "own", "torch", "2.9+cpu")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "own"))
    generation = install(torch_bench, hardware=GPU_MACHINE, asked=Asked("cpu", 0))
    assert generation.packages["torch"] == "2.9+cpu"
    kept = torch_bench.store.get(generation.id).plan
    assert kept["asked"] == {"accelerator": "cpu", "gpu": 0}
    assert kept["torch"]["reason"] == "You chose cpu."
    assert "You chose cpu." in (generation.folder / "install.log").read_text()


def test_probes_see_only_the_gpu_that_was_chosen(torch_bench, monkeypatch):
    """While installing and whenever the environment is checked."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    seen = 'import os\nassert os.environ["CUDA_VISIBLE_DEVICES"] == "1", "all are visible"\n'
    build_wheel(torch_bench.wheels, "torch", "2.9", requires=["nvidia-cublas"], source=seen)
    two = replace(GPU_MACHINE, gpus=GPU_MACHINE.gpus * 2)
    generation = install(torch_bench, hardware=two, asked=Asked(None, 1))
    assert [each.ok for each in check(generation) if each.name == "import:torch"] == [True]


def test_a_choice_that_is_not_there_leaves_nothing_behind(torch_bench):
    """Refused while planning."""
    with pytest.raises(EnvError) as caught:
        install(torch_bench, hardware=GPU_MACHINE, asked=Asked("cu999"))
    assert caught.value.code == "accelerator-unknown"
    assert torch_bench.store.active() is None


def test_a_system_without_any_build_of_torch_is_told_at_once(torch_bench):
    """No index is searched for what cannot be there."""
    with pytest.raises(EnvError) as caught:
        torch_bench.install(catalog=load_catalog(), hardware=replace(CPU_MACHINE, libc="musl"))
    assert caught.value.code == "platform-unsupported"
    assert "glibc" in caught.value.message


def test_a_cuda_build_that_is_out_of_reach_is_named(torch_bench):
    """The driver needs a build that only PyTorch's index has."""
    windows = replace(GPU_MACHINE, os="windows")
    with pytest.raises(EnvError) as caught:
        install(torch_bench, hardware=windows)
    assert caught.value.code == "torch-build-missing"
