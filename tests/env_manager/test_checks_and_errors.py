"""Probes in a subprocess, file records, and uv's words turned into plain ones."""

from __future__ import annotations

import errno
import sys
import threading
import time
from pathlib import Path

import pytest
from small_index import build_wheel

from env_manager import child
from env_manager.errors import EnvError, InstallStopped, from_os, from_uv
from env_manager.fetching.wheels import measure
from env_manager.planning.resolve import parse_lock
from env_manager.proving import verify
from env_manager.proving.preflight import probe, probes_for
from env_manager.uv import clean_environment

HERE = Path(sys.executable)


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Makes modules that a probe can import: the interpreter runs isolated, so they come by a .pth-like path."""
    folder = tmp_path / "modules"
    folder.mkdir()
    launcher = tmp_path / "python"
    launcher.write_text(
        f'#!/bin/sh\nshift\nexec "{HERE}" -c "import sys; sys.path.insert(0, \'{folder}\');'
        ' sys.argv = sys.argv[1:]; import runpy; runpy.run_path(sys.argv[0], run_name=\'__main__\')" "$@"\n'
    )
    launcher.chmod(0o755)

    def add(name: str, source: str) -> None:
        (folder / f"{name}.py").write_text(source)

    add.python = launcher
    return add


def test_a_probe_reports_what_it_did(modules):
    """One finding a check, in order."""
    modules("good", "__version__ = '3.2'\n")
    found = probe(modules.python, ["import:good", "import:json"])
    assert [(check.name, check.ok) for check in found] == [("import:good", True), ("import:json", True)]
    assert found[0].evidence == "good 3.2 imports"


@pytest.mark.parametrize(
    "source", ["raise OSError('libx.so: cannot open')", "raise ImportError('x')", "import sys; sys.exit(3)", "1/0", "("]
)
def test_whatever_a_library_raises_is_a_finding(modules, source):
    """OSError, SystemExit and syntax errors included; the checks after it still run."""
    modules("bad", source)
    found = probe(modules.python, ["import:bad", "import:json"])
    assert [check.ok for check in found] == [False, True]
    assert found[0].remedy


def test_a_crash_is_a_finding_and_the_rest_still_runs(modules):
    """The signal is named, with the last words."""
    modules("crash", "import os, sys; print('last words', file=sys.stderr, flush=True); os.abort()")
    found = probe(modules.python, ["import:json", "import:crash", "import:csv"])
    assert [(check.name, check.ok) for check in found] == [
        ("import:json", True),
        ("import:crash", False),
        ("import:csv", True),
    ]
    assert "SIGABRT" in found[1].evidence and "last words" in found[1].evidence


def test_a_hang_is_a_finding(modules):
    """A probe that does not answer is ended."""
    modules("hang", "import time; time.sleep(600)")
    found = probe(modules.python, ["import:hang", "import:json"], timeout=1.5)
    assert [check.ok for check in found] == [False, True]
    assert "did not answer" in found[0].evidence


def test_a_library_that_prints_cannot_disturb_the_findings(modules):
    """Even one that writes to descriptor 1 a line that looks like a finding."""
    line = 'FETTLE-PROBE {"name": "import:json", "event": "end", "ok": false, "evidence": "", "seconds": 0}'
    modules("loud", f"import os; os.write(1, {line!r}.encode() + b'\\n'); print('hello')")
    found = probe(modules.python, ["import:loud", "import:json"])
    assert [(check.name, check.ok) for check in found] == [("import:loud", True), ("import:json", True)]


def test_an_interpreter_that_cannot_start_is_a_finding(tmp_path):
    """The environment's Python was removed."""
    found = probe(tmp_path / "nowhere/python", ["import:json"])
    assert [check.name for check in found] == ["interpreter"]
    assert not found[0].ok


def test_a_cancelled_probe_stops(modules):
    """Cancelling does not wait for a slow import."""
    modules("hang", "import time; time.sleep(600)")
    with pytest.raises(InstallStopped):
        probe(modules.python, ["import:hang"], cancelled=lambda: True)


def test_only_probes_of_what_is_installed_run():
    """A left-out package is not probed."""
    assert probes_for(["torch", "huggingface-hub"], ["torch", "xformers", "huggingface_hub", "import:x"]) == (
        "torch",
        "huggingface_hub",
        "import:x",
    )


def test_ending_a_child_ends_what_it_started(tmp_path):
    """The whole group goes, not only the first process."""
    alive = tmp_path / "alive"
    grandchild = f"import time, pathlib\nwhile True: pathlib.Path({str(alive)!r}).write_text('x'); time.sleep(.05)"
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {grandchild!r}]); time.sleep(600)"
    done = child.run([sys.executable, "-c", code], env=clean_environment(), cwd=tmp_path, cancelled=alive.exists)
    assert done.ended == "cancelled"
    alive.unlink(missing_ok=True)
    time.sleep(0.5)
    assert not alive.exists()


def test_a_child_gets_a_clean_environment():
    """No Python, uv, pip or virtual-environment setting goes to a child; paths and proxies do."""
    shell = {"PATH": "/bin", "PYTHONPATH": "x", "VIRTUAL_ENV": "x", "UV_PYTHON": "x", "PIP_X": "x", "LC_ALL": "C"}
    assert clean_environment(shell | {"https_proxy": "p"}) == {"PATH": "/bin", "LC_ALL": "C", "https_proxy": "p"}


def environment(folder: Path) -> Path:
    """A folder like a virtual environment with one unpacked wheel."""
    import zipfile

    env = folder / "env"
    site = env / ("Lib/site-packages" if sys.platform == "win32" else "lib/python3.11/site-packages")
    with zipfile.ZipFile(build_wheel(folder / "wheels", "fx-first", "1.0", payload=5000)) as wheel:
        wheel.extractall(site)
    return env


def test_a_whole_environment_has_no_damage(tmp_path):
    """Neither against the wheels' records nor against ours; bytecode does not count."""
    env = environment(tmp_path)
    size = verify.take_record(env, tmp_path / "files.tsv")
    assert size > 5000
    cache = verify.site_packages(env) / "fx_first/__pycache__"
    cache.mkdir()
    (cache / "x.pyc").write_bytes(b"x")
    assert verify.against_records(env) == []
    assert verify.against_own_record(env, tmp_path / "files.tsv") == []
    assert verify.installed(env) == {"fx-first": "1.0"}


@pytest.mark.parametrize("harm", ["missing", "truncated", "longer"])
def test_a_torn_environment_is_found_both_ways(tmp_path, harm):
    """A file that is gone, shorter or longer, by the wheel's record and by ours."""
    env = environment(tmp_path)
    verify.take_record(env, tmp_path / "files.tsv")
    payload = verify.site_packages(env) / "fx_first/payload.bin"
    if harm == "missing":
        payload.unlink()
    else:
        payload.write_bytes(b"x" * (10 if harm == "truncated" else 6000))
    for damage in (verify.against_records(env), verify.against_own_record(env, tmp_path / "files.tsv")):
        assert len(damage) == 1
        assert "payload.bin" in str(damage[0])


@pytest.mark.parametrize("harm", [Path.unlink, lambda record: record.write_bytes(b"")], ids=["missing", "empty"])
def test_a_package_without_a_record_is_found(tmp_path, harm):
    """uv could not remove it and nobody could check it."""
    env = environment(tmp_path)
    harm(verify.site_packages(env) / "fx_first-1.0.dist-info/RECORD")
    assert len(verify.against_records(env)) == 1


def test_wheel_sizes_are_read_from_a_file(tmp_path):
    """Packed size is the file's, unpacked the sum of its content."""
    wheel = build_wheel(tmp_path, "fx-first", "1.0", payload=300_000)
    size = measure([wheel.as_uri()], {})[wheel.as_uri()]
    assert size.packed == wheel.stat().st_size
    assert 300_000 < size.unpacked < 310_000


def test_a_wheel_that_cannot_be_measured_has_no_size(tmp_path):
    """Missing, or not a wheel: unknown, not zero."""
    (tmp_path / "bad.whl").write_text("no")
    for url in ((tmp_path / "bad.whl").as_uri(), (tmp_path / "none.whl").as_uri()):
        assert measure([url], {})[url].unpacked is None


LOCK = """\
alpha==1.0 \\
    --hash=sha256:{a} \\
    --hash=sha256:{b}
    # via -r requirements.in
beta-x==2.0+cpu \\
    --hash=sha256:{a}
    # via alpha
gamma==3 \\
    --hash=sha256:{b}
    # via
    #   -c constraints.txt
    #   alpha
    #   beta-x
""".format(a="a" * 64, b="b" * 64)


def test_a_lock_is_read_with_hashes_and_dependants():
    """Files named in "via" are not packages."""
    lock = parse_lock(LOCK)
    assert lock.versions == {"alpha": "1.0", "beta-x": "2.0+cpu", "gamma": "3"}
    assert [len(package.hashes) for package in lock.packages] == [2, 1, 1]
    assert [set(package.needed_by) for package in lock.packages] == [set(), {"alpha"}, {"alpha", "beta-x"}]


# What uv 0.13 says in each case, shortened.
@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("error: Hash mismatch for `fx-first==1.0`\n\nExpected:\n  sha256:a\n", "hash-mismatch"),
        ("error: Failed to extract archive\n  cause: No space left on device (os error 28)", "disk-full"),
        ("error: failed to create directory\n  cause: Permission denied (os error 13)", "no-permission"),
        ("error: Failed to fetch\n  cause: invalid peer certificate: UnknownIssuer", "certificate-unknown"),
        ("error: Failed to fetch\n  cause: HTTP status client error (401 Unauthorized)", "index-refused"),
        ("error: Request failed after 3 retries\n  cause: dns error", "index-unreachable"),
        ("error: Failed to fetch\n  cause: HTTP status server error (503 Service Unavailable)", "index-unreachable"),
        (
            "error: Querying Python at `python3.11` failed with exit status: 1\n"
            'File "<frozen posixpath>", line 401, in realpath\nOSError: [Errno 30] Read-only file system',
            "no-permission",
        ),
        ("error: No solution found\n  cause: Because a==1 depends on b==2 and you require b==3", "resolve-impossible"),
        ("error: No solution found\n  cause: Because there is no version of a==9", "package-missing"),
        ("error: No interpreter found for Python 3.11 in managed installations", "python-missing"),
        ("uv: error while loading shared libraries: libc.so.6: cannot open it: Error 30", "no-permission"),
        ("uv: error while loading shared libraries: libc.so.6: cannot open it: Error 24", "system-error"),
        ("error: something new", "uv-failed"),
        ("", "uv-failed"),
    ],
)
def test_uvs_words_become_a_code_a_message_and_a_remedy(said, code):
    """What is not recognised is shown as it is."""
    error = from_uv(said, 2)
    assert error.code == code
    assert error.message and error.remedy
    assert error.output == said


def test_a_killed_uv_is_said_to_be_killed():
    """As the system does when memory runs out."""
    assert from_uv("", -9).code == "uv-killed"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "disk-full"),
        (errno.EROFS, "no-permission"),
        (errno.EACCES, "no-permission"),
        (errno.EIO, "system-error"),
    ],
)
def test_errors_of_the_system_become_plain(number, code):
    """With the file, and what Fettle was doing."""
    error = from_os(OSError(number, "text", "/some/file"), "write the record")
    assert isinstance(error, EnvError)
    assert error.code == code
    assert "/some/file" in error.message and "write the record" in error.message


def test_lines_of_a_child_arrive_while_it_runs(tmp_path):
    """A log that is followed must not wait for the end."""
    seen = threading.Event()

    def on_line(line: str) -> None:
        if line == "first":
            seen.set()

    code = "import time; print('first', flush=True); time.sleep(600)"
    done = child.run(
        [sys.executable, "-c", code], env=clean_environment(), cwd=tmp_path, on_line=on_line, cancelled=seen.is_set
    )
    assert done.stdout == "first\n"
