"""The tests are strong enough: with any one safeguard of the environment manager taken away, a named test fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.env, pytest.mark.slow]

ROOT = Path(__file__).parent.parent.parent
ORDER = "tests/faults/test_order_on_disk.py"
INSTALL = "tests/env_manager/test_env_install.py"
TORN = "tests/env_manager/test_verify.py::test_an_environment_that_is_torn_twice_is_refused"
NOTE = '            self._note({"action": action, "id": id, "before": self.active_id()})\n'
SWITCH = '            durable.replace_text(self.pointer, id + "\\n")\n'
LARGE = "tests/env_manager/test_env_large.py"


@dataclass(frozen=True)
class Mutation:
    """One safeguard taken away: a text in a file of env_manager replaced, and the test that must notice."""

    name: str
    file: str
    text: str
    instead: str
    test: str


MUTATIONS = [
    Mutation("replaced text unsynced", "durable.py", "            out.flush()\n            os.fsync(out.fileno())\n            if os.name", "            if os.name", ORDER),
    Mutation("written in place", "durable.py", "os.replace(temporary, file)  # while", "file.write_text(text)  # while", ORDER),
    Mutation("folder of a replaced text unsynced", "durable.py", "        raise\n    sync_folder(file.parent)", "        raise", ORDER),
    Mutation("history unsynced", "durable.py", "        out.flush()\n        os.fsync(out.fileno())\n\n\ndef sync_folder", "        out.flush()\n\n\ndef sync_folder", ORDER),
    Mutation("environment unsynced", "build.py", "        durable.sync_tree(self.folder)\n", "", ORDER),
    Mutation("name of an environment unsynced", "build.py", "        durable.sync_folder(self.store.envs)\n", "", ORDER),
    Mutation("large wheel unsynced", "fetching/download.py", "                os.fsync(part.fileno())\n", "", ORDER),
    Mutation("name of a large wheel unsynced", "fetching/wheelstore.py", "        durable.sync_folder(folder)\n", "", ORDER),
    Mutation("deletion unsynced", "keeping/removal.py", "        durable.sync_folder(store.envs)\n", "", ORDER),
    Mutation("large wheel unchecked", "fetching/download.py", "if self._digest.hexdigest() == self.wheel.sha256:", "if self._digest:", LARGE + "::test_a_wheel_swapped_after_the_lock_is_refused"),
    Mutation("kept wheel believed", "fetching/wheelstore.py", "return digest.hexdigest() == sha256", "return True", LARGE + "::test_a_wheel_damaged_on_the_disk_is_fetched_again"),
    Mutation("installed without hashes", "planning/resolve.py", '*(f"--hash={each}" for each in self.hashes)', "*()", INSTALL + "::test_a_wheel_swapped_after_the_lock_is_refused"),
    Mutation("torn environments go on", "assemble.py", '    build.require_whole(lock)\n    build.phase("prove"', '    build.phase("prove"', TORN),
    Mutation("switched before it is noted", "generations.py", NOTE + SWITCH, SWITCH + NOTE, ORDER),
]  # fmt: skip


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The packages and their tests in a place of their own."""
    for name in ("app", "env_manager", "trainer", "tests"):
        shutil.copytree(
            ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "static", "captured")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run(copy: Path, test: str) -> subprocess.CompletedProcess[str]:
    """That test on the copy, whose packages go before the installed ones."""
    argv = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    return subprocess.run(argv, cwd=copy, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.parametrize("test", sorted({each.test for each in MUTATIONS}))
def test_without_a_mutation_the_tests_pass(copy, test):
    """Or their failing below would say nothing; and it is the copy that they test."""
    done = run(copy, test)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_missing_safeguard_is_noticed(copy, mutation):
    """The named test fails: it runs, and what it holds no longer holds."""
    file = copy / "env_manager" / mutation.file
    source = file.read_text()
    assert source.count(mutation.text) == 1, "the list of mutations is not of this source"
    file.write_text(source.replace(mutation.text, mutation.instead))
    done = run(copy, mutation.test)
    assert done.returncode == 1, done.stdout
    assert f"FAILED {mutation.test}" in done.stdout, done.stdout
