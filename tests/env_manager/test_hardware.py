"""Hardware detection on outputs in the forms that nvidia-smi and rocminfo print."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

from env_manager import hardware
from env_manager.hardware import CommandResult, Gpu

HEADER = """\
Tue Mar  4 10:00:00 2025
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 550.144.03             Driver Version: 550.144.03     CUDA Version: 12.4     |
|-----------------------------------------+------------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
"""
UMD_HEADER = """\
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 595.45.04              KMD Version: 595.45.04     CUDA UMD Version: 13.2     |
+-----------------------------------------+------------------------+----------------------+
"""
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.144\n"
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    " Make sure that the latest NVIDIA driver is installed and running.\n"
)
ROCMINFO = """\
ROCk module is loaded
*******
Agent 1
*******
  Name:                    AMD Ryzen 9 7950X 16-Core Processor
  Marketing Name:          AMD Ryzen 9 7950X 16-Core Processor
*******
Agent 2
*******
  Name:                    gfx1100
  Marketing Name:          Radeon RX 7900 XTX
"""


def answers(query: CommandResult, header: str = HEADER):
    """A machine on which nvidia-smi says these things and every other command is missing."""

    def run(argv: Sequence[str]) -> CommandResult:
        if argv[0] != "nvidia-smi":
            return CommandResult(problem="missing")
        return query if len(argv) > 1 else CommandResult(header, 0)

    return run


@pytest.mark.parametrize(("header", "version"), [(HEADER, "12.4"), (UMD_HEADER, "13.2"), ("nonsense", None)])
def test_both_forms_of_the_cuda_version_are_read(header, version):
    """Older drivers print "CUDA Version", newer ones "CUDA UMD Version"."""
    assert hardware.parse_cuda_version(header) == version


def test_gpus_are_read_with_capability_memory_and_driver():
    """One line a GPU; memory comes in MiB."""
    gpus, driver = hardware.parse_gpu_query(
        "NVIDIA GeForce RTX 3090, 8.6, 24576, 550.144.03\nNVIDIA H200, 9.0, 143771, 550.144.03\n"
    )
    assert driver == "550.144.03"
    assert gpus == (Gpu("NVIDIA GeForce RTX 3090", "8.6", 24576 * 2**20), Gpu("NVIDIA H200", "9.0", 143771 * 2**20))


def test_a_name_with_a_comma_and_fields_without_a_value_are_read():
    """The name may hold commas; "[N/A]" is no number."""
    gpus, _ = hardware.parse_gpu_query("Quadro, special, [N/A], [N/A], 470.57.02\n")
    assert gpus == (Gpu("Quadro, special", None, None),)


def test_lines_that_are_no_gpu_are_passed_over():
    """A warning among the lines is not a GPU."""
    assert hardware.parse_gpu_query("WARNING: infoROM is corrupted at gpu 0000:01:00.0\n") == ((), None)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (CommandResult(MISMATCH, 18), "Restart the machine"),
        (CommandResult(NO_DRIVER, 9), "driver is not running"),
        (CommandResult("No devices were found\n", 6), "sees no GPU"),
        (CommandResult("Unable to determine the device handle: Unknown Error\n", 255), "Unknown Error"),
        (CommandResult(problem="hanging"), "did not answer"),
        (CommandResult("??", 0), "does not know"),
    ],
)
def test_a_failing_nvidia_smi_is_explained_and_leaves_a_cpu_machine(query, words):
    """Every failure becomes one plain sentence among the notes."""
    found = hardware.detect(run=answers(query))
    assert found.accelerator in ("cpu", "mps")
    assert found.gpus == ()
    assert any(words in note for note in found.notes)


def test_a_missing_nvidia_smi_is_no_problem():
    """Most machines have none: there is nothing to say about it."""
    found = hardware.detect(run=answers(CommandResult(problem="missing")))
    assert found.notes == ()
    assert found.driver is None


def test_a_working_nvidia_smi_tells_driver_cuda_and_gpus():
    """All from two calls of nvidia-smi."""
    query = CommandResult("NVIDIA GeForce RTX 4090, 8.9, 24564, 595.45.04\n", 0)
    found = hardware.detect_nvidia(answers(query, UMD_HEADER))
    assert (found.driver, found.cuda, found.problem) == ("595.45.04", "13.2", None)
    assert found.gpus[0].compute_capability == "8.9"


def test_amd_gpus_are_told_from_the_cpus_in_the_same_list():
    """Only agents with a gfx name are GPUs."""
    assert hardware.parse_rocminfo(ROCMINFO) == (Gpu("Radeon RX 7900 XTX", "gfx1100", None),)


def test_a_command_that_hangs_is_given_up(monkeypatch):
    """A wedged driver must not hang the app."""
    monkeypatch.setattr(hardware, "COMMAND_TIMEOUT_SECONDS", 0.2)
    assert hardware.run_command([sys.executable, "-c", "import time; time.sleep(600)"]).problem == "hanging"


def test_a_command_that_is_not_there_is_missing():
    """No such program."""
    assert hardware.run_command(["surely-no-such-program"]).problem == "missing"


def test_this_machine_is_detected(tmp_path):
    """Whatever runs the tests has a CPU, memory and a disk, and can be written as JSON."""
    found = hardware.detect(tmp_path / "not" / "yet")
    assert found.cores >= 1
    assert found.cpu
    assert found.memory_bytes is None or found.memory_bytes > 2**28
    assert found.disk_free_bytes is not None
    assert found.as_json()["os"] == found.os
