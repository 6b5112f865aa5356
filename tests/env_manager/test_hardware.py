"""NVIDIA GPUs, on outputs in the forms that drivers give."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from other_machine import captured, other_machine, with_smi

from env_manager.hardware import CommandResult, Gpu, detect, outside, run_command
from env_manager.hardware.nvidia import parse_cuda_version, parse_gpu_query, parse_proc_gpu, parse_proc_version

MIB = 2**20
UUID = "GPU-3f2a1b0c-9d8e-7f60-5a4b-3c2d1e0f9a8b"


@pytest.mark.parametrize(
    ("header", "version"), [("smi_550.txt", "12.4"), ("smi_610.txt", "13.3"), ("smi_wsl2.txt", "12.7")]
)
def test_both_forms_of_the_cuda_version_are_read(header, version):
    """Older drivers print "CUDA Version", newer ones "CUDA UMD Version"."""
    assert parse_cuda_version(captured(header)) == version


def test_a_table_without_a_cuda_version_gives_none():
    """Nothing is guessed from other numbers."""
    assert parse_cuda_version("| NVIDIA-SMI 550.144.03   Driver Version: 550.144.03   CUDA Version: N/A |") is None


def test_gpus_are_read_with_capability_memory_and_driver():
    """One line a GPU; memory comes in MiB, all of it and what is free."""
    gpus, driver = parse_gpu_query(captured("query_two.txt"))
    assert driver == "580.65.06"
    assert gpus[0] == Gpu("NVIDIA GeForce RTX 4090", "8.9", 24564 * MIB, 24010 * MIB, UUID)
    assert (gpus[1].name, gpus[1].compute_capability) == ("NVIDIA GeForce GTX 1080 Ti", "6.1")


@pytest.mark.parametrize(
    ("query", "gpu"),
    [
        ("query_gb10.txt", Gpu("NVIDIA GB10", "12.1", None, None, UUID)),
        ("query_comma.txt", Gpu("Quadro RTX 5000, with Max-Q Design", "7.5", 16384 * MIB, None, UUID)),
        ("query_warning.txt", Gpu("Tesla T4", "7.5", 15360 * MIB, 15102 * MIB, UUID)),
    ],
)
def test_names_with_commas_fields_without_value_and_warnings_are_read(query, gpu):
    """A name may hold a comma, "[N/A]" is no number, and a warning is no GPU."""
    assert parse_gpu_query(captured(query))[0] == (gpu,)


@pytest.mark.parametrize("text", ["", "\n\n", "??", "a, b, c, d, e, f", "a,b\n1,2,3,4,5,6,7\n"])
def test_what_is_no_list_of_gpus_gives_none(text):
    """Lines without a driver version are passed over."""
    assert parse_gpu_query(text) == ((), None)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (CommandResult(captured("smi_mismatch.txt"), 18), "Restart the machine"),
        (CommandResult(captured("smi_no_driver.txt"), 9), "driver is not running"),
        (CommandResult(captured("smi_no_devices.txt"), 6), "sees no GPU"),
        (CommandResult(captured("smi_lost.txt"), 15), "lost a GPU"),
        (CommandResult(captured("smi_unknown_error.txt"), 255), "Unknown Error"),
        (CommandResult("", 1), "no output"),
        (CommandResult(problem="hanging"), "did not answer"),
        (CommandResult("??", 0), "does not know"),
    ],
)
def test_a_failing_nvidia_smi_is_explained_and_leaves_a_cpu_machine(query, words):
    """Every failure becomes one plain sentence among the notes."""
    found = detect(outside=with_smi(query))
    assert (found.accelerator, found.gpus) == ("cpu", ())
    assert [note for note in found.notes if words in note]


def test_a_mismatch_still_tells_the_driver_that_is_loaded():
    """The kernel's module says its version when nvidia-smi cannot."""
    machine = with_smi(
        CommandResult(captured("smi_mismatch.txt"), 18),
        files={"/proc/driver/nvidia/version": captured("proc_driver_version.txt")},
    )
    assert detect(outside=machine).driver == "550.144.03"


def test_a_missing_nvidia_smi_is_no_problem():
    """Most machines have none: there is nothing to say about it."""
    found = detect(outside=other_machine())
    assert found.notes == ()
    assert found.driver is None


@pytest.mark.parametrize(
    ("query", "header", "driver", "cuda", "capability"),
    [
        ("query_3090.txt", "smi_550.txt", "550.144.03", "12.4", "8.6"),
        ("query_5090.txt", "smi_610.txt", "610.43.02", "13.3", "12.0"),
    ],
)
def test_a_working_nvidia_smi_makes_a_cuda_machine(query, header, driver, cuda, capability):
    """Driver, CUDA version and GPU are all there."""
    found = detect(outside=with_smi(query, header))
    assert (found.accelerator, found.driver, found.cuda) == ("cuda", driver, cuda)
    assert found.gpus[0].compute_capability == capability
    assert found.notes == ()


def test_a_driver_that_does_not_know_capabilities_is_asked_without_them():
    """Drivers before 510 refuse the field; name, memory and driver still come."""
    machine = with_smi(
        CommandResult(captured("query_old.txt"), 2),
        commands={"nvidia-smi --query-gpu=name,uuid,memory.total": captured("query_old_retry.txt")},
    )
    found = detect(outside=machine)
    assert (found.driver, found.accelerator) == ("470.256.02", "cuda")
    assert found.gpus == (Gpu("GeForce GTX 1080", None, 8119 * MIB, 7700 * MIB, UUID),)


def test_a_lost_gpu_is_told_beside_the_one_that_works():
    """What answers is used; what does not is said."""
    found = detect(outside=with_smi(CommandResult(captured("query_one_lost.txt"), 15)))
    assert [gpu.name for gpu in found.gpus] == ["NVIDIA A100-SXM4-80GB"]
    assert [note for note in found.notes if "lost a GPU" in note]


@pytest.mark.parametrize(
    ("system", "program"),
    [
        ("linux", "/usr/lib/wsl/lib/nvidia-smi"),
        ("windows", r"C:\Windows\System32\nvidia-smi.exe"),
        ("windows", r"C:\Program Files\NVIDIA Corporation\NVSMI\nvidia-smi.exe"),
    ],
)
def test_nvidia_smi_is_found_where_it_is_not_on_the_path(system, program):
    """Inside WSL and with older drivers for Windows it lies elsewhere."""
    found = detect(outside=with_smi("query_3090.txt", program=program, system=system))
    assert (found.accelerator, found.cuda) == ("cuda", "12.4")


def test_without_nvidia_smi_the_drivers_own_files_are_read():
    """As in a container without the driver's utilities: driver and model are known, and what is missing is said."""
    machine = other_machine(
        files={
            "/proc/driver/nvidia/version": captured("proc_driver_version.txt"),
            "/proc/driver/nvidia/gpus/0000:01:00.0/information": captured("proc_gpu_information.txt"),
        }
    )
    found = detect(outside=machine)
    assert (found.accelerator, found.driver) == ("cuda", "550.144.03")
    assert found.gpus == (Gpu("NVIDIA GeForce RTX 3090", None, None),)
    assert [note for note in found.notes if "nvidia-smi is missing" in note]


def test_files_of_the_driver_in_another_form_give_none():
    """Both parsers refuse what they do not know."""
    assert parse_proc_version("something else") is None
    assert parse_proc_gpu("something else") is None


@pytest.mark.parametrize(("value", "words"), [("1", "only to 1"), ("", "to none of them"), ("-1", "to none of them")])
def test_a_limit_on_visible_gpus_is_told(value, words):
    """Training inherits it, so its effect would otherwise be a riddle."""
    found = detect(outside=with_smi("query_two.txt", environ={"CUDA_VISIBLE_DEVICES": value}))
    assert [note for note in found.notes if words in note]


def test_a_command_that_hangs_is_given_up(monkeypatch):
    """A wedged driver must not hang the app."""
    monkeypatch.setattr(outside, "COMMAND_TIMEOUT_SECONDS", 0.2)
    assert run_command([sys.executable, "-c", "import time; time.sleep(600)"]).problem == "hanging"


@pytest.mark.skipif(sys.platform != "linux", reason="the state of the child is read from /proc")
def test_a_command_that_hangs_leaves_no_child_behind(monkeypatch, tmp_path):
    """A wrapper's own child is ended with it."""
    # Long enough for a shell to start on a busy machine.
    monkeypatch.setattr(outside, "COMMAND_TIMEOUT_SECONDS", 4.0)
    assert run_command(["/bin/sh", "-c", f"sleep 600 & echo $! > '{tmp_path}/pid'; wait"]).problem == "hanging"
    state = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    end = time.monotonic() + 60  # a busy machine takes a moment to end what was killed
    while not dead(state) and time.monotonic() < end:
        time.sleep(0.05)
    assert dead(state)


def dead(state: Path) -> bool:
    """Whether a process has ended, be it that its new parent has not collected it yet."""
    try:
        return state.read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_command_that_is_not_there_is_missing():
    """No such program."""
    assert run_command(["surely-no-such-program"]).problem == "missing"


def test_both_outputs_of_a_command_are_kept_with_its_exit_code():
    """nvidia-smi writes its refusals to either."""
    done = run_command([sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(9)"])
    assert (done.returncode, done.problem) == (9, None)
    assert sorted(done.output.split()) == ["err", "out"]


def test_this_machine_is_detected(tmp_path):
    """Whatever runs the tests has a CPU, memory and a disk, and can be written as JSON."""
    found = detect(tmp_path / "not" / "yet")
    assert found.cores >= 1
    assert found.cpu
    assert found.memory_bytes is None or found.memory_bytes > 2**28
    assert found.disk_free_bytes is not None
    assert found.as_json()["os"] == found.os


def test_what_passes_within_minutes_is_not_the_machines_identity():
    """Free memory, free space and notes may differ; another driver is another machine."""
    machine = detect(outside=with_smi("query_3090.txt"))
    later = detect(outside=with_smi(CommandResult(captured("query_3090.txt").replace("23588", "100"), 0)))
    updated = detect(outside=with_smi(CommandResult(captured("query_3090.txt").replace("550.144.03", "580.65.06"), 0)))
    assert machine.gpus != later.gpus
    assert machine.identity() == later.identity() != updated.identity()
