"""A library that crashes, hangs, eats memory or prints without end is a named finding; the checks after it still run."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import pytest

from env_manager.diagnosing import diagnosis
from env_manager.proving.finding import Check
from env_manager.proving.preflight import probe


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An interpreter that finds the modules in `tmp_path / "modules"`."""
    (tmp_path / "modules").mkdir()
    launcher = tmp_path / "python"
    code = f"import runpy, sys; sys.path.insert(0, {str(tmp_path / 'modules')!r}); sys.argv = sys.argv[1:]"
    code += "; runpy.run_path(sys.argv[0], run_name='__main__')"
    launcher.write_text(f'#!/bin/sh\nshift\nexec "{sys.executable}" -c "{code}" "$@"\n')
    launcher.chmod(0o755)
    return launcher


def found(python: Path, source: str, **options: float) -> tuple[Check, str]:
    """The finding of a module that does this, and the name it gets; what comes after it is checked as well."""
    (python.parent / "modules" / "bad.py").write_text(source)
    bad, after = probe(python, ["import:bad", "import:json"], **options)
    assert (bad.name, bad.ok, after.name, after.ok) == ("import:bad", False, "import:json", True)
    (named,) = diagnosis._from_checks([bad])
    return bad, named.name


@pytest.mark.parametrize(
    ("signal", "name"),
    [
        ("SIGSEGV", "crashes"),
        ("SIGABRT", "crashes"),
        ("SIGFPE", "crashes"),
        ("SIGILL", "cpu-instructions"),
        ("SIGBUS", "disk-error"),
        ("SIGKILL", "out-of-memory"),
        ("SIGTERM", "crashes"),
    ],
)
def test_a_signal_is_named(python: Path, signal: str, name: str) -> None:
    bad, named = found(python, f"import os, signal\nos.kill(os.getpid(), signal.{signal})\n")
    assert named == name
    assert signal in bad.evidence


def test_a_crash_tells_where_it_happened(python: Path) -> None:
    """Read through a null pointer, really."""
    bad, named = found(python, "import ctypes, sys\nprint('loading', file=sys.stderr)\nctypes.string_at(0)\n")
    assert named == "crashes"
    assert "SIGSEGV" in bad.evidence and "Last words: loading" in bad.evidence
    assert "ctypes" in bad.evidence
    assert "bad.py" in bad.detail


def test_memory_that_the_system_refuses_is_named(python: Path) -> None:
    """The library really asks for more than it may have."""
    source = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\nx = bytearray(2**33)\n"
    _, named = found(python, source)
    assert named == "out-of-memory"


def test_a_hang_is_named_and_tells_where(python: Path) -> None:
    bad, named = found(python, "import time\ndef waits():\n    time.sleep(600)\nwaits()\n", timeout=3.0)
    assert named == "hangs"
    assert "bad.py:3" in bad.evidence


def test_an_end_without_a_word_is_named(python: Path) -> None:
    bad, named = found(python, "import os\nos._exit(7)\n")
    assert named == "crashes"
    assert "exit code 7" in bad.evidence


def test_garbage_on_every_descriptor_is_no_answer(python: Path) -> None:
    """Not even on the private one, and not if it looks like half an answer."""
    source = "import os\nfor fd in range(1, 12):\n    try:\n"
    source += '        os.write(fd, b\'FETTLE-PROBE [1]\\nFETTLE-PROBE {"event": "end"}\\n\\xff\\x00garbage\\nFETTLE-PROBE nul\\n\')\n'
    source += "    except OSError:\n        continue\nos._exit(0)\n"
    _, named = found(python, source)
    assert named == "crashes"


def test_a_forged_answer_of_another_check_does_not_count(python: Path) -> None:
    line = '{"name": "import:json", "event": "end", "ok": "yes", "evidence": "", "seconds": 0}'
    source = f"import os\nfor fd in range(1, 12):\n    try:\n        os.write(fd, b'FETTLE-PROBE ' + {line!r}.encode() + b'\\n')\n"
    source += "    except OSError:\n        continue\nos._exit(0)\n"
    (python.parent / "modules" / "bad.py").write_text(source)
    checks = {each.name: each.ok for each in probe(python, ["import:bad", "import:json"])}
    assert checks["import:bad"] is False


@pytest.mark.parametrize("end", ["", "\\n"], ids=["one line", "many lines"])
def test_two_gigabytes_of_output_fill_neither_memory_nor_log(python: Path, end: str) -> None:
    """The process that reads it stays small, and its log gets some thousand lines."""
    source = f"import os\npiece = b'x' * 65535 + b'x{end}'\n"
    source += "for _ in range(2**31 // len(piece)):\n    os.write(2, piece)\nraise RuntimeError('afterwards')\n"
    (python.parent / "modules" / "bad.py").write_text(source)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    logged: list[str] = []
    (bad,) = probe(python, ["import:bad"], log=logged.append)
    assert "afterwards" in bad.evidence
    assert sum(map(len, logged)) < 16 * 2**20
    kilobyte = 1 if sys.platform == "darwin" else 1024  # the unit of this figure there and elsewhere
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * kilobyte < 300 * 2**20


def test_an_interpreter_that_ends_at_once_is_one_finding(tmp_path: Path) -> None:
    """As one whose own library is gone: not every package is blamed for it."""
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\necho 'error while loading shared libraries: libpython3.11.so.1.0: cannot open' >&2\nexit 127\n"
    )
    python.chmod(0o755)
    checks = probe(python, ["import:json", "import:csv"])
    assert [(each.name, each.ok) for each in checks] == [("interpreter", False)]
    assert [each.name for each in diagnosis._from_checks(checks)] == ["interpreter-unusable"]


@pytest.mark.parametrize(("status", "name"), [(139, "crashes"), (137, "out-of-memory"), (132, "cpu-instructions")])
def test_a_shells_word_for_a_signal_is_understood(python: Path, status: int, name: str) -> None:
    _, named = found(python, f"import os\nos._exit({status})\n")
    assert named == name
