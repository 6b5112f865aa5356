"""The trainer's own tests, run by the interpreter that training runs in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from product import Fettle

pytestmark = pytest.mark.real
CHECKOUT = Path(__file__).parents[2]

# pytest comes from the development environment, behind everything that the managed one has itself.
RUN = """
import sys
checkout, tools, *arguments = sys.argv[1:]
sys.path.insert(0, checkout)
sys.path.append(tools)
import pytest
sys.exit(pytest.main(arguments))
"""


def test_the_trainer_passes_its_tests_in_the_installed_environment(fettle: Fettle, tmp_path: Path) -> None:
    python = next((fettle.home / "envs" / fettle.active).glob("env/bin/python"))
    tools = next(path for path in sys.path if path.endswith("site-packages"))
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "default",
        "--rootdir",
        str(tmp_path),
        "--confcutdir",
        str(tmp_path),
    ]
    # What measures the process goes first, before others have filled it.
    tests = sorted(
        (CHECKOUT / "tests" / "managed").glob("test_*.py"), key=lambda file: (file.stem != "test_memory", file)
    )
    done = subprocess.run(
        [str(python), "-I", "-c", RUN, str(CHECKOUT), tools, *options, *map(str, tests)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout
