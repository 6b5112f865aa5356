"""The launcher: which uv it takes, what it asks uv for, and what it says when there is none."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
# Stands for uv: says its version, and writes down with what it was called.
UV = """#!/bin/sh
[ "$1" = --version ] && echo "uv {version}" && exit 0
exec {python} -c 'import json, os, sys; json.dump([sys.argv[1:], dict(os.environ)], open(os.environ["CALLED"], "w"))' "$@"
"""
# Stands for an interpreter: `venv` and `pip` do as they are told, and it writes down what it was asked for.
INTERPRETER = """#!/bin/sh
echo "$*" >> "{log}"
case "$*" in
  "-m venv "*) {venv} ;;
  "-m pip install "*) {pip} ;;
esac
"""


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def fake_uv(path: Path, version: str = "0.13.8") -> Path:
    return script(path, UV.format(version=version, python=sys.executable))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The launcher with what it reads, as if freshly cloned."""
    for name in ("installers/launch.py", "env_manager/__init__.py", "env_manager/pip_config.py"):
        target = tmp_path / "clone" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    return tmp_path / "clone"


class Launched:
    """What the launcher called uv with, or how it failed."""

    def __init__(self, checkout: Path, *arguments: str, **environment: str) -> None:
        called = checkout / "called.json"
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "FETTLE_"))}
        for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
            outside.pop(name, None)
        # Whatever is not named by the test is not found: no uv of this machine, none fetched.
        outside |= {"PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": str(checkout / "cache"), "PIP_NO_INDEX": "1"}
        outside |= {"PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
        self.done = subprocess.run(
            [sys.executable, "-I", str(checkout / "installers" / "launch.py"), *arguments],
            capture_output=True,
            text=True,
            env=outside | {"CALLED": str(called)} | environment,
        )
        assert "Traceback" not in self.done.stderr
        self.argv, self.environment = json.loads(called.read_text()) if called.exists() else ([], {})

    @property
    def extras(self) -> list[str]:
        return [word for before, word in zip(self.argv, self.argv[1:], strict=False) if before == "--extra"]


@pytest.mark.parametrize(
    ("arguments", "display", "extras"),
    [
        ((), ":0", ["qt"]),
        (("open",), ":0", ["qt"]),
        (("open",), "", []),
        (("--version",), ":0", []),
        (("--help",), ":0", []),
        (("train", "--help"), ":0", []),
        (("demo", "--json"), ":0", []),
        (("env", "install"), ":0", []),
        (("test",), "", ["qt"]),
    ],
)
def test_the_windows_engine_is_asked_for_only_when_a_window_will_open(
    checkout: Path, tmp_path: Path, arguments: tuple[str, ...], display: str, extras: list[str]
) -> None:
    launched = Launched(checkout, *arguments, FETTLE_UV=str(fake_uv(tmp_path / "uv")), DISPLAY=display)
    assert launched.extras == extras
    assert launched.argv[launched.argv.index("fettle") + 1 :] == list(arguments)


def test_only_the_tests_bring_the_developers_packages(checkout: Path, tmp_path: Path) -> None:
    uv = str(fake_uv(tmp_path / "uv"))
    assert "--no-dev" in Launched(checkout, "doctor", FETTLE_UV=uv).argv
    assert "--no-dev" not in Launched(checkout, "test", FETTLE_UV=uv).argv


def test_the_first_start_says_that_it_takes_a_while_and_later_ones_are_quiet(checkout: Path, tmp_path: Path) -> None:
    uv = str(fake_uv(tmp_path / "uv"))
    first = Launched(checkout, "doctor", FETTLE_UV=uv)
    assert "Preparing Fettle" in first.done.stderr and "--quiet" not in first.argv
    assert first.argv[first.argv.index("--python") + 1] == sys.executable
    (checkout / ".venv").mkdir()
    later = Launched(checkout, "doctor", FETTLE_UV=uv)
    assert later.done.stderr == "" and "--quiet" in later.argv and "--python" not in later.argv


def test_the_uv_named_in_fettle_uv_is_taken_before_the_one_on_the_path(checkout: Path, tmp_path: Path) -> None:
    fake_uv(tmp_path / "bin" / "uv", version="9.9.9")
    named = fake_uv(tmp_path / "named" / "my-uv", version="0.8.0")
    launched = Launched(checkout, "doctor", FETTLE_UV=str(named), PATH=f"{tmp_path / 'bin'}{os.pathsep}/usr/bin:/bin")
    assert launched.argv[:3] == ["run", "--project", str(checkout)]
    assert "Fetching" not in launched.done.stderr


@pytest.mark.parametrize("version", ["0.7.22", "0.4.0", "unknown"])
def test_a_uv_that_is_too_old_is_passed_over_for_the_one_fetched_before(
    checkout: Path, tmp_path: Path, version: str
) -> None:
    fake_uv(tmp_path / "bin" / "uv", version=version)
    fetched = fake_uv(tmp_path / "cache" / "fettle" / "uv-0.13.8" / "bin" / "uv")
    fetched.write_text(fetched.read_text().replace("exec ", "FETCHED=yes exec "))
    launched = Launched(
        checkout,
        "doctor",
        PATH=f"{tmp_path / 'bin'}{os.pathsep}/usr/bin:/bin",
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )
    assert launched.environment.get("FETCHED") == "yes"
    assert "Fetching" not in launched.done.stderr


def test_what_the_shell_has_active_does_not_reach_the_app(checkout: Path, tmp_path: Path) -> None:
    outside = {name: "from the shell" for name in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "UV_PROJECT")}
    launched = Launched(checkout, "doctor", FETTLE_UV=str(fake_uv(tmp_path / "uv")), **outside)
    assert [name for name in outside if name in launched.environment] == []


def test_pips_index_becomes_uvs_index(checkout: Path, tmp_path: Path) -> None:
    launched = Launched(
        checkout,
        "doctor",
        FETTLE_UV=str(fake_uv(tmp_path / "uv")),
        PIP_INDEX_URL="http://127.0.0.1:9/simple",
    )
    assert launched.environment["UV_DEFAULT_INDEX"] == "http://127.0.0.1:9/simple"


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The launcher as a module, with a cache of its own."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spec = importlib.util.spec_from_file_location("launch", ROOT / "installers" / "launch.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, venv: str, pip: str) -> Path:
    """The launcher's own Python is a fake from now on; returns the file with what it was asked for."""
    log = tmp_path / "asked.txt"
    fake = script(tmp_path / "python", INTERPRETER.format(log=log, venv=venv, pip=pip))
    monkeypatch.setattr(sys, "executable", str(fake))
    return log


def test_uv_is_fetched_into_an_environment_of_its_own(
    launcher: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    uv = fake_uv(tmp_path / "wheel" / "uv")
    install = f'cp {uv} "$(dirname "$0")/uv"'
    log = interpreter(tmp_path, monkeypatch, venv='mkdir -p "$3/bin" && cp "$0" "$3/bin/python"', pip=install)
    found = Path(launcher.fetch_uv())
    assert found == launcher.private_folder() / "bin" / "uv" and found.is_file()
    asked = log.read_text().splitlines()
    assert len(asked) == 2 and asked[1].endswith(f"uv=={launcher.UV_VERSION}") and "--target" not in asked[1]
    assert launcher.find_uv() is not None


def test_where_venv_is_missing_uv_is_fetched_into_a_plain_folder(
    launcher: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    uv = fake_uv(tmp_path / "wheel" / "uv")
    install = f'[ "$5" = --target ] && mkdir -p "$6/bin" && cp {uv} "$6/bin/uv"'
    interpreter(tmp_path, monkeypatch, venv="echo 'ensurepip is not available' >&2; exit 1", pip=install)
    assert Path(launcher.fetch_uv()) == launcher.private_folder() / "bin" / "uv"


def test_without_pip_the_launcher_says_what_to_do_and_leaves_nothing_behind(
    launcher: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interpreter(
        tmp_path,
        monkeypatch,
        venv="mkdir -p \"$3/bin\"; echo 'No module named ensurepip' >&2; exit 1",
        pip="mkdir -p \"$6/half\"; echo 'No module named pip' >&2; exit 1",
    )
    with pytest.raises(SystemExit) as left:
        launcher.fetch_uv()
    assert left.value.code == 1
    said = capsys.readouterr().err
    assert "error: uv could not be fetched: No module named pip\n" in said
    assert "FETTLE_UV" in said and "[uv-missing]" in said
    assert not launcher.private_folder().exists()


def test_an_index_without_uv_is_told_in_pips_own_last_line(
    launcher: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = "printf 'Looking in indexes\\nERROR: No matching distribution found for uv\\n' >&2; exit 1"
    interpreter(tmp_path, monkeypatch, venv='mkdir -p "$3/bin" && cp "$0" "$3/bin/python"', pip=refusal)
    with pytest.raises(SystemExit):
        launcher.fetch_uv()
    assert "error: uv could not be fetched: ERROR: No matching distribution found for uv\n" in capsys.readouterr().err
