"""Fettle by command in surroundings that mean no good: odd folders, nonsense in variables, nobody who listens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_bench import Checkout
from generation_bench import code
from install_bench import Bench
from small_index import SmallIndex, fill

from env_manager.errors import EnvError, from_uv
from env_manager.planning.interpreter import choose_interpreter
from env_manager.uv import Uv

pytestmark = pytest.mark.env
EVERYTHING = "ü e\u0301 ☃ 'q\" $HOME `x` #%20?,;[1]{z}\\\n-end"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout whose catalog has every wheel fetched piece by piece."""
    folder = tmp_path_factory.mktemp("shell")
    fill(folder / "wheels")
    made = Checkout.make(folder / "checkout", folder / "home", SmallIndex(folder / "wheels"))
    made.catalog.write_text("large_wheel_bytes = 100\n" + made.catalog.read_text(encoding="utf-8"), encoding="utf-8")
    return made


def test_a_folder_of_any_name_carries_everything(checkout, tmp_path):
    """Installed, exported with its wheels, imported without an index, rolled back; of some 200 letters at that."""
    name = EVERYTHING + "x" * (200 - len(EVERYTHING.encode()))
    checkout.home = tmp_path / name / "home"
    assert checkout.run("env", "install").status == 0
    house = tmp_path / name / "house"
    assert checkout.run("env", "wheelhouse", str(house)).status == 0
    away = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple"}
    assert checkout.run("env", "import", str(house), **away).status == 0
    assert checkout.run("env", "check", "--full").status == 0
    assert checkout.run("env", "rollback").status == 0


def test_a_linked_home_is_a_home_and_a_link_to_nowhere_is_named(checkout, tmp_path):
    """A disk that is not there gets no empty folder in its place."""
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    checkout.home = tmp_path / "link"
    assert checkout.run("env", "list").code == "home-missing"
    (tmp_path / "disk").mkdir()
    assert checkout.run("env", "list").status == 0


def test_a_home_whose_name_is_no_text_is_refused(checkout, tmp_path):
    checkout.home = Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff"))
    assert checkout.run("env", "install").code == "home-name"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"PIP_TIMEOUT": "9" * 50}, "index-setting"),
        ({"UV_HTTP_TIMEOUT": "soon"}, "index-setting"),
        ({"UV_FIND_LINKS": "/nowhere"}, "index-setting"),
        ({"UV_LINK_MODE": "nonsense"}, "index-setting"),
        ({"PIP_FIND_LINKS": "http://"}, "index-setting"),
        ({"UV_CACHE_DIR": __file__}, "index-setting"),
        ({"UV_CONFIG_FILE": __file__}, "index-setting"),
        ({"PIP_CONFIG_FILE": __file__}, "pip-config-broken"),
        ({"ALL_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}, "index-unreachable"),
    ],
)
def test_nonsense_in_a_variable_is_told_as_that(bench: Bench, monkeypatch, variables, expected):
    """Not as a network that is down; and nothing is begun."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert code(bench.install) == expected
    assert bench.store.list() == ()


def test_variables_of_an_active_project_change_nothing(checkout, tmp_path):
    """Other Pythons, other resolutions, modules named like ours in the current folder, another language, no home."""
    checkout.home = tmp_path / "home"
    here = tmp_path / "here"
    here.mkdir()
    for name in ("torch", "fx_base", "json", "sitecustomize", "app"):
        (here / f"{name}.py").write_text("raise SystemExit('poison')")
    poison = {"UV_PYTHON": "3.7", "UV_RESOLUTION": "lowest", "UV_EXCLUDE_NEWER": "2001-01-01", "UV_TARGET": "/x"}
    poison |= {"UV_PROJECT": "/x", "UV_NO_CACHE": "1", "VIRTUAL_ENV": "/nowhere", "CONDA_PREFIX": "/nowhere"}
    poison |= {"LANG": "C", "LC_ALL": "C", "UV_OFFLINE": "0", "COLUMNS": "x", "TERM": "dumb", "PYTHONSAFEPATH": "1"}
    assert checkout.run("env", "install", cwd=here, **poison, HOME=None).status == 0
    assert checkout.run("env", "check", "--full", cwd=here, **poison, HOME=None).status == 0


def test_a_python_that_cannot_be_fetched_is_told_as_a_python(tmp_path):
    """Not as an index of packages out of reach."""
    uv = Uv.create(tmp_path / "cache", lambda line: None, lambda: False).with_environ(
        PATH="",
        UV_PYTHON_INSTALL_DIR=str(tmp_path / "none"),
        UV_PYTHON_INSTALL_MIRROR="http://127.0.0.1:9",
        UV_HTTP_RETRIES="0",
    )
    with pytest.raises(EnvError) as caught:
        choose_interpreter(uv, ("3.12",), tmp_path / "own", tmp_path)
    assert caught.value.code == "python-missing"
    assert "No Python 3.12 was found, and none could be fetched" in caught.value.message


def test_a_full_disk_under_the_cache_is_no_setting():
    """Words that both kinds of failure have in common."""
    said = (
        "error: Failed to initialize cache at `/x`\n  cause: failed to create directory `/x`: No space left on device"
    )
    assert from_uv(said + " (os error 28)\n", 2).code == "disk-full"


@pytest.mark.parametrize("words", ["certificate expired: verification time 1 (UNIX)", "NotValidYet"])
def test_a_wrong_clock_is_not_a_certificate_to_trust(words):
    """A clock set back or forward makes every certificate invalid."""
    said = f"error: Failed to fetch: `https://x/`\n  Caused by: invalid peer certificate: {words}\n"
    assert from_uv(said, 2).code == "certificate-date"
    assert from_uv(said.replace(words, "UnknownIssuer"), 2).code == "certificate-unknown"


@pytest.mark.parametrize("words", [("env", "list"), ("env", "export"), ("doctor",)])
def test_output_that_cannot_be_written_is_said(checkout, tmp_path, words):
    """A full disk behind standard output is not a problem that Fettle does not know."""
    if not Path("/dev/full").exists():
        return
    checkout.home = tmp_path / "home"
    checkout.run("env", "list")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *words], env=checkout.environ({}), stdout=full, stderr=subprocess.PIPE
        )
    said = done.stderr.decode()
    assert done.returncode == 1 and "unexpected" not in said and "Traceback" not in said


def test_who_stops_listening_stops_nothing(checkout, tmp_path):
    """`| head -1` ends the display, not the installation."""
    checkout.home = tmp_path / "home"
    command = f'"{sys.executable}" -m app.cli env install | head -1'
    done = subprocess.run(command, shell=True, env=checkout.environ({}), capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stderr
    deadline = time.monotonic() + 300
    while not (checkout.home / "envs" / "active").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert checkout.run("env", "status").status == 0


@pytest.mark.parametrize("module", ["app.cli", "typer", "app.operations", "env_manager.generations"])
def test_ctrl_c_while_it_loads_is_no_traceback(tmp_path, module):
    """The first half second of every command is the loading of modules."""
    press = f"""
import os, signal, sys
class Press:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Press())
signal.signal(signal.SIGINT, signal.default_int_handler)
from app.entry import main
main()
"""
    done = subprocess.run([sys.executable, "-c", press, "env", "list"], capture_output=True, text=True, timeout=60)
    assert done.returncode in (-signal.SIGINT, 130)
    assert done.stderr == ""
