"""Systems, processors, memory, containers and folders, on files and outputs in the forms that systems give."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from other_machine import captured, other_machine

from env_manager.hardware import detect, folder, system


@pytest.mark.parametrize(
    ("file", "name"), [("os_release_ubuntu.txt", "Ubuntu 24.04.1 LTS"), ("os_release_alpine.txt", "Alpine Linux v3.20")]
)
def test_the_name_of_a_linux_is_read(file, name):
    """In full, as its maker writes it."""
    assert detect(outside=other_machine(files={"/etc/os-release": captured(file)})).os_version == name


@pytest.mark.parametrize(
    ("file", "name"), [("ver_10.txt", "10 (10.0.19045.5487)"), ("ver_11.txt", "11 (10.0.22631.3007)")]
)
def test_windows_10_and_11_are_told_apart_by_their_build(file, name):
    """Both call themselves 10.0."""
    assert detect(outside=other_machine("windows", commands={"cmd /c ver": captured(file)})).os_version == name


@pytest.mark.parametrize(
    ("release", "kind"),
    [
        ("4.4.0-19041-Microsoft", 1),
        ("5.15.153.1-microsoft-standard-WSL2", 2),
        ("5.10.16.3-microsoft-standard", 2),
        ("6.1.0-18-amd64", None),
    ],
)
def test_both_kinds_of_windows_subsystem_are_recognised(release, kind):
    """Only the second can reach a GPU."""
    found = detect(outside=other_machine(files={"/proc/sys/kernel/osrelease": release}))
    assert found.wsl == kind
    assert any("WSL" in note for note in found.notes) == (kind is not None)


@pytest.mark.parametrize(
    ("files", "environ", "kind"),
    [
        ({"/.dockerenv": ""}, {}, "docker"),
        ({"/proc/1/cgroup": "12:memory:/docker/0123abcd\n"}, {}, "docker"),
        ({"/run/.containerenv": "engine=podman"}, {}, "podman"),
        ({}, {"container": "podman"}, "podman"),
        ({"/proc/1/cgroup": "4:cpu:/lxc/web\n"}, {}, "lxc"),
        ({}, {"container": "lxc"}, "lxc"),
        ({"/.dockerenv": ""}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({"/proc/1/cgroup": "0::/kubepods.slice/pod1\n"}, {}, "kubernetes"),
        ({"/run/systemd/container": "systemd-nspawn\n"}, {}, "systemd-nspawn"),
        ({"/proc/1/cgroup": "0::/init.scope\n"}, {}, None),
        ({}, {}, None),
    ],
)
def test_containers_are_recognised_by_the_marks_of_their_makers(files, environ, kind):
    """Docker, Podman, LXC, Kubernetes and what systemd names; a plain system is none."""
    assert detect(outside=other_machine(files=files, environ=environ)).container == kind


@pytest.mark.parametrize(
    ("file", "arch", "name", "sets"),
    [
        (
            "cpuinfo_zen4.txt",
            "x86_64",
            "AMD Ryzen 9 7950X 16-Core Processor",
            "sse4_2 avx avx2 fma f16c avx512f avx512_vnni avx512_bf16",
        ),
        ("cpuinfo_atom.txt", "x86_64", "Intel(R) Celeron(R) J4125 CPU @ 2.00GHz", "sse4_2"),
        ("cpuinfo_grace.txt", "aarch64", None, "asimd asimdhp asimddp bf16 i8mm sve sve2"),
    ],
)
def test_a_processors_name_and_instructions_are_read_on_linux(file, arch, name, sets):
    """Of the first processor; Arm kernels give no name."""
    found = detect(outside=other_machine(arch=arch, files={"/proc/cpuinfo": captured(file)}))
    assert found.instruction_sets == tuple(sets.split())
    assert found.cpu == name or name is None
    assert any("AVX2" in note for note in found.notes) == (file == "cpuinfo_atom.txt")


@pytest.mark.parametrize(
    ("file", "sets"),
    [("sysctl_m2.txt", "asimd asimdhp asimddp bf16 i8mm"), ("sysctl_intel.txt", "sse4_2 avx avx2 fma f16c")],
)
def test_a_macs_instructions_are_read(file, sets):
    """Lists of names on Intel, one switch a line on Apple silicon."""
    assert system.parse_mac_features(captured(file)) == tuple(sets.split())


def test_windows_is_asked_for_processor_and_long_paths_in_the_registry():
    """Both commands answer in the same form."""
    commands = {
        "reg query HKLM\\HARDWARE": captured("reg_cpu.txt"),
        "reg query HKLM\\SYSTEM": captured("reg_long_paths_off.txt"),
    }
    found = detect(outside=other_machine("windows", commands=commands))
    assert found.cpu == "13th Gen Intel(R) Core(TM) i7-13700K"
    assert found.long_paths is False
    assert any("long paths" in note for note in found.notes)
    commands["reg query HKLM\\SYSTEM"] = captured("reg_long_paths_on.txt")
    found = detect(outside=other_machine("windows", commands=commands))
    assert found.long_paths is True
    assert not any("long paths" in note for note in found.notes)


def test_a_containers_share_of_memory_and_cores_counts():
    """What the machine has beyond it cannot be used."""
    files = {
        "/proc/meminfo": "MemTotal:       65842960 kB\nMemFree:  100 kB\n",
        "/sys/fs/cgroup/memory.max": "8589934592\n",
        "/sys/fs/cgroup/cpu.max": "250000 100000\n",
    }
    found = detect(outside=other_machine(files=files, cores=16))
    assert (found.memory_bytes, found.cores) == (8 * 2**30, 3)
    files |= {"/sys/fs/cgroup/memory.max": "max\n", "/sys/fs/cgroup/cpu.max": "max 100000\n"}
    found = detect(outside=other_machine(files=files, cores=16))
    assert (found.memory_bytes, found.cores) == (65842960 * 1024, 16)


def test_the_older_kind_of_memory_limit_counts_only_where_it_limits():
    """Without a limit it is a number that no machine has."""
    files = {
        "/proc/meminfo": "MemTotal:       1000 kB\n",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    }
    assert detect(outside=other_machine(files=files)).memory_bytes == 1000 * 1024


@pytest.mark.parametrize(
    ("commands", "files", "libc"),
    [
        ({"getconf GNU_LIBC_VERSION": "glibc 2.39\n"}, {}, "glibc 2.39"),
        ({}, {"/lib/ld-musl-x86_64.so.1": ""}, "musl"),
        ({}, {}, None),
    ],
)
def test_the_c_library_is_told(commands, files, libc):
    """Wheels of torch need glibc."""
    assert detect(outside=other_machine(commands=commands, files=files)).libc == libc


def test_an_apple_silicon_mac_is_recognised():
    """Its GPU shares the machine's memory."""
    commands = {
        "sw_vers -productVersion": "15.6.1\n",
        "sysctl -n machdep.cpu.brand_string": "Apple M2 Pro\n",
        "sysctl -n hw.memsize": "17179869184\n",
        "sysctl hw.optional.arm": captured("sysctl_m2.txt"),
    }
    found = detect(outside=other_machine("macos", "aarch64", commands=commands))
    assert (found.accelerator, found.os_version, found.arch) == ("mps", "15.6.1", "aarch64")
    assert (found.gpus[0].name, found.gpus[0].memory_bytes) == ("Apple M2 Pro", 16 * 2**30)
    assert "bf16" in found.instruction_sets
    assert found.notes == ()


def test_a_mac_below_14_is_told_to_update():
    """Current builds of torch are made for 14."""
    found = detect(outside=other_machine("macos", "aarch64", commands={"sw_vers -productVersion": "13.6.9\n"}))
    assert any("Update macOS" in note for note in found.notes)


def test_an_intel_python_on_apple_silicon_does_not_hide_the_gpu():
    """Rosetta tells programs that the processor is an Intel."""
    commands = {"sysctl -n hw.optional.arm64": "1\n", "sw_vers -productVersion": "15.1\n"}
    found = detect(outside=other_machine("macos", "x86_64", commands=commands))
    assert (found.arch, found.accelerator) == ("aarch64", "mps")
    assert any("Rosetta" in note for note in found.notes)
    intel = detect(outside=other_machine("macos", "x86_64", commands={"sysctl -n hw.optional.arm64": "0\n"}))
    assert (intel.arch, intel.accelerator) == ("x86_64", "cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' file systems fold case")
def test_case_matters_on_linux_also_below_a_folder_that_is_not_there_yet(tmp_path):
    """The nearest folder that exists answers, and nothing is written."""
    before = sorted(tmp_path.iterdir())
    assert folder.case_sensitive(tmp_path / "not" / "Yet") is True
    assert sorted(tmp_path.iterdir()) == before


def test_case_does_not_matter_where_both_spellings_are_one_folder(tmp_path):
    """A link stands in for a file system that folds case."""
    (tmp_path / "abc").mkdir()
    (tmp_path / "ABC").symlink_to(tmp_path / "abc")
    assert folder.case_sensitive(tmp_path / "abc") is False


def test_a_path_without_letters_cannot_tell_about_case():
    """The root of a drive has no name to write in another case."""
    assert folder.case_sensitive(Path("/")) is None
