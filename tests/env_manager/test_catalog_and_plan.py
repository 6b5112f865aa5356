"""The catalog as it is shipped and as it may be broken, and the plans made from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from small_index import CPU_MACHINE, catalog_data

from env_manager.errors import EnvError
from env_manager.hardware import Gpu
from env_manager.planning.catalog import numbers
from env_manager.planning.catalog_file import load_catalog, parse_catalog
from env_manager.planning.plan import TorchSource, make_plan
from env_manager.planning.torch_index import Asked, choose_torch
from env_manager.proving.probe import CHECKS

SHIPPED = load_catalog()


def machine(os="linux", accelerator="cpu", driver=None, *capabilities, arch="x86_64"):
    gpus = tuple(Gpu(f"GPU {each}", each, None) for each in capabilities)
    return replace(CPU_MACHINE, os=os, accelerator=accelerator, driver=driver, gpus=gpus, arch=arch)


def requirements(plan) -> dict[str, str]:
    pairs = (each.split("==") for step in plan.steps for each in step.requirements)
    return {name: version for name, version in pairs}


def test_the_steps_come_in_the_order_that_binaries_need():
    """numpy decides which binaries fit, torch which kernels; what trains comes last."""
    assert [step.id for step in SHIPPED.steps] == [
        *("numpy", "torch", "transformers", "bitsandbytes", "triton", "unsloth", "training")
    ]


def test_every_probe_of_the_shipped_catalog_exists():
    """A probe that is misspelt would prove nothing."""
    named = {probe for step in SHIPPED.steps for probe in step.probe}
    assert named <= set(CHECKS)


def test_every_step_says_why():
    """A user reads why each step is there."""
    assert all(len(step.why) > 20 for step in SHIPPED.steps)


def test_numpy_stays_below_2_and_pyarrow_below_26():
    """Both bounds are held with a reason."""
    assert {hold.requirement for hold in SHIPPED.holds} == {"numpy<2", "pyarrow<26"}
    assert all(hold.reason for hold in SHIPPED.holds)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "format is 2"),
        ({"format": None}, "format is None"),
        ({"date": 3}, "date"),
        ({"python": []}, "no Python version"),
        ({"steps": []}, "no steps"),
        ({"steps": "all"}, "not a list"),
        ({"surprise": 1}, "unknown field 'surprise'"),
        ({"holds": [{"requirement": "numpy>2", "reason": "x"}]}, "requirement"),
        ({"holds": [{"requirement": "fx-first<1", "reason": "x"}]}, "breaks the hold"),
    ],
)
def test_a_broken_catalog_is_refused_with_the_place(change, words):
    """The message names what is wrong; nothing is guessed."""
    with pytest.raises(EnvError) as caught:
        parse_catalog(catalog_data() | change)
    assert caught.value.code == "catalog-invalid"
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("version", ">=1", "version"),
        ("version", None, "version is missing"),
        ("name", "Fx_First", "name"),
        ("accelerators", ["cuda"], "left_out"),
        ("platforms", ["beos"], "platforms"),
        ("colour", "red", "unknown field 'colour'"),
    ],
)
def test_a_broken_package_is_refused_with_its_name(field, value, words):
    """Pins are exact, names normal, and a package that is not for everyone says why."""
    data = catalog_data()
    data["steps"][0]["packages"][0] |= {field: value}
    if value is None:
        del data["steps"][0]["packages"][0][field]
    with pytest.raises(EnvError) as caught:
        parse_catalog(data)
    assert words in caught.value.message


def test_a_package_listed_twice_is_refused():
    """Two pins of one package would contradict each other."""
    data = catalog_data()
    data["steps"][1]["packages"] += data["steps"][0]["packages"]
    with pytest.raises(EnvError, match="listed twice"):
        parse_catalog(data)


WHEELS = {"torch": ["2.9", "2.10"], "python": ["3.10", "3.14"], "machines": ["linux-x86_64"]}


@pytest.mark.parametrize(
    ("wheels", "words"),
    [
        ([WHEELS | {"torch": ["2.10", "2.9"]}], "torch is not a first and a last release"),
        ([WHEELS | {"torch": ["2.9"]}], "torch is not a first and a last release"),
        ([WHEELS | {"torch": ["2"] * 2}], "torch is not valid"),
        ([WHEELS | {"python": 3}], "python is not valid"),
        ([WHEELS | {"machines": ["amiga-m68k"]}], "machines is not valid"),
        ([WHEELS | {"sm": ["sm_75"]}], "sm is not valid"),
        ([WHEELS | {"experimental": "yes"}], "experimental is not true or false"),
        ([WHEELS | {"colour": "red"}], "unknown field 'colour'"),
        ([WHEELS, WHEELS | {"torch": ["2.10", "2.12"]}], "torch 2.10 twice for the same machine"),
    ],
)
def test_broken_wheels_of_an_index_are_refused_with_the_place(wheels, words):
    """A span that runs backwards, a machine that is not known, two rows for one release."""
    index = {"name": "cu130", "url": "https://cuda.invalid/whl", "local": "+cu130", "accelerator": "cuda"}
    with pytest.raises(EnvError) as caught:
        parse_catalog(catalog_data() | {"torch_indexes": [index | {"wheels": wheels}]})
    assert caught.value.code == "catalog-invalid"
    assert "'cu130'" in caught.value.message
    assert words in caught.value.message


@pytest.mark.parametrize("text", ["steps = [", "\x00", ""])
def test_a_file_that_is_no_catalog_is_refused(tmp_path, text):
    """Not TOML, or TOML of something else."""
    (tmp_path / "catalog.toml").write_text(text)
    with pytest.raises(EnvError) as caught:
        load_catalog(tmp_path / "catalog.toml")
    assert caught.value.code == "catalog-invalid"


def test_a_catalog_that_is_not_there_is_refused(tmp_path):
    """The message says that it cannot be read."""
    with pytest.raises(EnvError, match="cannot be read"):
        load_catalog(tmp_path / "none.toml")


def test_too_old_a_driver_says_so():
    """The advice is to update the driver."""
    assert "update it" in choose_torch(machine("linux", "cuda", "470.57.02", "8.6"), SHIPPED).reason


def test_a_machine_without_gpu_takes_the_cpu_build():
    """On Linux it is marked by its local version; elsewhere the default index serves it."""
    assert requirements(make_plan(machine("linux"), SHIPPED))["torch"] == "2.13.0+cpu"
    assert requirements(make_plan(machine("windows"), SHIPPED))["torch"] == "2.13.0"
    mac = machine("macos", "mps", arch="aarch64")
    assert requirements(make_plan(mac, SHIPPED))["torch"] == "2.13.0"


@pytest.mark.parametrize("accelerator", ["rocm", "xpu"])
def test_other_gpus_train_on_the_cpu_and_are_told_so(accelerator):
    """This version has no stack for them and says it."""
    plan = make_plan(machine("linux", accelerator), SHIPPED)
    assert plan.accelerator == "cpu"
    assert "not used by this version" in plan.torch.reason


def test_what_is_left_out_on_a_cpu_machine_has_a_reason_each():
    """xformers, triton and unsloth need a GPU; torchaudio nobody needs."""
    left = {each.package: each.reason for each in make_plan(machine("linux"), SHIPPED).left_out}
    assert set(left) == {"torchaudio", "xformers", "triton", "triton-windows", "unsloth"}
    assert all(left.values())


def test_torchvision_is_left_out_where_only_a_cuda_build_exists():
    """A CUDA torchvision breaks beside a CPU torch."""
    source = TorchSource("configured", "+cpu", None, ("torch",))
    plan = make_plan(machine("linux"), SHIPPED, source=source)
    assert "torchvision" not in requirements(plan)
    assert "torchvision" in {left.package for left in plan.left_out}


def test_cpu_and_cuda_pin_the_same_versions_of_what_they_share():
    """What is tested without a GPU is what GPU users get."""
    cpu = requirements(make_plan(machine("linux"), SHIPPED))
    cuda = requirements(make_plan(machine("linux", "cuda", "580.65.06", "8.6"), SHIPPED))
    assert {name: numbers(version) for name, version in cpu.items()}.items() <= {
        name: numbers(version) for name, version in cuda.items()
    }.items()
    assert {"xformers", "triton", "unsloth"} <= set(cuda)


def test_an_override_keeps_the_build():
    """Another version of torch is still the CPU build."""
    plan = make_plan(machine("linux"), SHIPPED, overrides={"torch": "2.12.1", "peft": "0.21.1"})
    assert requirements(plan)["torch"] == "2.12.1+cpu"
    assert requirements(plan)["peft"] == "0.21.1"
    assert plan.overrides == {"torch": "2.12.1", "peft": "0.21.1"}


def test_an_override_against_a_hold_is_refused_with_the_reason():
    """numpy 2 is refused even when asked for."""
    with pytest.raises(EnvError) as caught:
        make_plan(machine("linux"), SHIPPED, overrides={"numpy": "2.1.0"})
    assert caught.value.code == "override-held"
    assert "numpy<2" in caught.value.message


def test_what_the_user_chose_wins_and_stands_in_the_plan():
    """Packages for CUDA come with a CUDA build, also where no GPU was found; both are recorded with the advice."""
    plan = make_plan(machine("linux"), SHIPPED, asked=Asked("cu126"))
    assert (plan.accelerator, requirements(plan)["torch"]) == ("cuda", "2.13.0+cu126")
    assert "xformers" in requirements(plan)
    assert plan.as_json()["asked"] == {"accelerator": "cu126", "gpu": None}
    assert any("No usable NVIDIA GPU" in note for note in plan.notes)
    on_cpu = make_plan(machine("linux", "cuda", "580.65.06", "8.6"), SHIPPED, asked=Asked("cpu", 0))
    assert (on_cpu.accelerator, requirements(on_cpu)["torch"]) == ("cpu", "2.13.0+cpu")
    assert on_cpu.as_json()["asked"] == {"accelerator": "cpu", "gpu": 0}


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        (Asked("cu999"), "accelerator-unknown", "auto, cpu, mps, cu132, cu130, cu128, cu126"),
        (Asked("gpu"), "accelerator-unknown", "auto, cpu"),
        (Asked("cu128"), "accelerator-unavailable", "auto"),
        (Asked("mps"), "accelerator-unavailable", "auto"),
        (Asked(None, 2), "gpu-unknown", "the oldest decides"),
        (Asked(None, -1), "gpu-unknown", "the oldest decides"),
    ],
)
def test_a_choice_that_is_not_there_is_refused(asked, code, words):
    """The remedy names what can be chosen."""
    with pytest.raises(EnvError) as caught:
        make_plan(machine("linux", "cuda", "580.65.06", "8.6", "7.5"), SHIPPED, asked=asked)
    assert caught.value.code == code
    assert words in caught.value.remedy


@pytest.mark.parametrize(
    ("capabilities", "asked", "devices"),
    [
        (["8.6"], Asked(), ()),
        (["8.6", "7.5"], Asked(), ()),
        (["12.0", "7.0"], Asked(), ("1",)),
        (["7.0", "12.0", "6.1"], Asked(), ("0", "2")),
        (["8.9", "6.1"], Asked(None, 0), ("0",)),
        (["8.6", "8.6"], Asked(None, 1), ("1",)),
        (["12.0"], Asked("cu126"), ()),
        (["8.6", "7.5"], Asked("cpu"), ()),
    ],
)
def test_only_gpus_that_the_build_has_kernels_for_are_shown_to_training(capabilities, asked, devices, monkeypatch):
    """CUDA would otherwise begin with the fastest; a choice of the user's own is left alone."""
    chosen = make_plan(machine("linux", "cuda", "580.65.06", *capabilities), SHIPPED, asked=asked).torch
    assert chosen.devices == devices
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    expected = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(devices)} if devices else {}
    assert chosen.environ() == expected
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert chosen.environ() == {}


def test_gpus_are_named_by_what_stays_theirs():
    """A number changes when a card is added."""
    gpus = (Gpu("New", "12.0", None, uuid="GPU-aa"), Gpu("Old", "7.0", None, uuid="GPU-bb"))
    both = replace(machine("linux", "cuda", "580.65.06"), gpus=gpus)
    assert choose_torch(both, SHIPPED).devices == ("GPU-bb",)


def test_the_plan_keeps_what_the_build_needs_of_driver_and_gpu():
    """So that a later check needs no catalog."""
    chosen = make_plan(machine("linux", "cuda", "580.65.06", "8.6"), SHIPPED).as_json()["torch"]
    assert (chosen["driver"], chosen["sm"][0]) == ("580", "7.5")
    assert make_plan(machine("linux"), SHIPPED).torch.driver is None


def test_auto_is_no_choice():
    """As on the command line."""
    assert Asked.of("auto", None) == Asked.of(None, None) == Asked.of("", None) == Asked()
    assert Asked.of("cpu", 1) == Asked("cpu", 1)


def test_another_release_of_torch_takes_the_build_that_goes_with_it():
    """Release 2.10 has its CUDA 12.8 on the default index, where the pinned one has 13.0."""
    gpu = machine("linux", "cuda", "580.65.06", "8.6")
    assert make_plan(gpu, SHIPPED).torch.build == "cu130"
    assert make_plan(gpu, SHIPPED, overrides={"torch": "2.10.0"}).torch.build == "cu128"


def test_planning_is_pure_and_shows_as_json():
    """The same machine gives the same plan."""
    first, second = (make_plan(machine("linux"), SHIPPED) for _ in range(2))
    assert first == second
    assert first.as_json()["steps"][0]["id"] == "numpy"
