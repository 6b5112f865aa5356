"""AMD, Intel and driverless NVIDIA GPUs, and which of several kinds counts."""

from __future__ import annotations

import pytest
from other_machine import captured, other_machine, with_smi

from env_manager.hardware import CommandResult, Gpu, detect
from env_manager.hardware.other_gpus import Display, parse_kfd_node, parse_rocminfo, parse_video_controllers

KFD = "/sys/class/kfd/kfd/topology/nodes"
PCI = "/sys/bus/pci/devices"


def device(slot: str, vendor: str, kind: str = "0x030000") -> dict[str, str]:
    """A device on the bus as the kernel shows it."""
    return {f"{PCI}/{slot}/class": kind, f"{PCI}/{slot}/vendor": f"0x{vendor}\n", f"{PCI}/{slot}/device": "0x1234\n"}


def test_amd_gpus_are_told_from_the_cpus_in_the_same_list():
    """Only agents with a gfx name are GPUs; the first pool is their memory."""
    expected = Gpu("Radeon RX 7900 XTX", "gfx1100", 25149440 * 1024)
    assert parse_rocminfo(captured("rocminfo_7900xtx.txt")) == (expected,)


@pytest.mark.parametrize(
    ("file", "name"), [("kfd_cpu.txt", None), ("kfd_gfx90a.txt", "gfx90a"), ("kfd_gfx1100.txt", "gfx1100")]
)
def test_the_kernels_number_of_an_amd_gpu_becomes_its_name(file, name):
    """The stepping is hexadecimal; a CPU's node has no version."""
    assert parse_kfd_node(captured(file)) == name


@pytest.mark.parametrize("program", ["rocminfo", "/opt/rocm/bin/rocminfo"])
def test_an_amd_machine_is_recognised_by_rocminfo(program):
    """On the path or where ROCm installs it."""
    machine = other_machine(
        commands={program: captured("rocminfo_7900xtx.txt")},
        files={f"{KFD}/1/properties": captured("kfd_gfx1100.txt")},
    )
    found = detect(outside=machine)
    assert (found.accelerator, found.gpus[0].compute_capability) == ("rocm", "gfx1100")


def test_an_amd_machine_without_rocminfo_is_recognised_by_its_kernel():
    """The driver alone names the generation."""
    files = {f"{KFD}/0/properties": captured("kfd_cpu.txt"), f"{KFD}/1/properties": captured("kfd_gfx90a.txt")}
    found = detect(outside=other_machine(files=files))
    assert (found.accelerator, found.gpus) == ("rocm", (Gpu("AMD gfx90a", "gfx90a", None),))


def test_rocminfo_is_not_run_where_the_kernel_has_no_amd_driver():
    """It would only complain."""
    found = detect(outside=other_machine(commands={"rocminfo": captured("rocminfo_7900xtx.txt")}))
    assert (found.accelerator, found.gpus) == ("cpu", ())


def test_an_intel_gpu_is_recognised_by_its_vendor_on_the_bus():
    """8086 with a graphics class; a network card of the same vendor is none."""
    files = device("0000:00:02.0", "8086") | device("0000:00:1f.6", "8086", "0x020000")
    found = detect(outside=other_machine(files=files))
    assert found.accelerator == "xpu"
    assert [gpu.name for gpu in found.gpus] == ["Intel graphics device 8086:1234"]


def test_an_nvidia_gpu_without_driver_is_told():
    """The machine trains on its CPU, and the user learns why."""
    found = detect(outside=other_machine(files=device("0000:01:00.0", "10de", "0x030200")))
    assert found.accelerator == "cpu"
    assert any("no driver for it" in note for note in found.notes)


def test_a_broken_nvidia_driver_is_not_told_twice():
    """One note with the cause is enough."""
    machine = with_smi(CommandResult(captured("smi_mismatch.txt"), 18), files=device("0000:01:00.0", "10de"))
    assert len(detect(outside=machine).notes) == 1


def test_windows_lists_one_device_without_a_list_around_it():
    """And several as a list, devices without a bus among them."""
    assert parse_video_controllers(captured("video_one.json")) == (Display("8086", "Intel(R) Arc(TM) A770 Graphics"),)
    assert parse_video_controllers(captured("video_two.json")) == (Display("10de", "NVIDIA GeForce RTX 3060"),)


@pytest.mark.parametrize("text", ["", "null", "[]", "[null, 3]", "{}", "not json", '"text"'])
def test_windows_list_in_another_form_holds_no_gpu(text):
    """Whatever PowerShell prints, detection goes on."""
    assert parse_video_controllers(text) == ()


def test_an_arc_gpu_on_windows_is_recognised():
    """By the same vendor number."""
    found = detect(outside=other_machine("windows", commands={"powershell": captured("video_one.json")}))
    assert (found.accelerator, found.gpus[0].name) == ("xpu", "Intel Intel(R) Arc(TM) A770 Graphics")


def test_nvidia_goes_before_the_intel_graphics_of_the_same_laptop():
    """What can be trained on counts."""
    found = detect(outside=with_smi("query_3090.txt", files=device("0000:00:02.0", "8086")))
    assert (found.accelerator, len(found.gpus)) == ("cuda", 1)


def test_in_wsl_2_the_drivers_number_is_the_one_of_windows():
    """nvidia-smi prints its own Linux number beside it, which does not count."""
    machine = with_smi(
        "query_wsl2.txt", "smi_wsl2.txt", files={"/proc/sys/kernel/osrelease": "5.15.153.1-microsoft-standard-WSL2"}
    )
    found = detect(outside=machine)
    assert (found.wsl, found.driver, found.notes) == (2, "566.36", ())
