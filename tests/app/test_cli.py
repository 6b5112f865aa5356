"""The command line: bad input gets one plain message, a code, an exit status, and loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock


def fettle(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env=os.environ | environment,
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")  # no tensors
    return folder


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "a", "completion": "b"}) + "\n", encoding="utf-8")
    return path


def assert_plain(done: subprocess.CompletedProcess[str], code: str, status: int = 1) -> None:
    """One message with its code on stderr, nothing that looks like a traceback."""
    assert done.returncode == status, done.stderr
    assert f"[{code}]" in done.stderr
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr + done.stdout


def test_training_without_an_environment_says_what_to_type(model: Path, rows: Path) -> None:
    done = fettle("train", "--model", str(model), "--data", str(rows))
    assert_plain(done, "no-environment")
    assert "fettle env install" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--model", "nowhere", "--data", "{rows}"), "model-missing"),
        (("--model", "{model}", "--data", "nowhere.jsonl"), "data-missing"),
        (("--model", "{model}", "--data", "{broken}"), "data-row-invalid"),
        (("--model", "{model}", "--data", "{rows}", "--eval", "{empty}"), "data-empty"),
        (("--model", "{model}"), "spec-incomplete"),
        (("--model", "{model}", "--data", "{rows}", "--set", "lora.rank"), "setting-invalid"),
        (("--model", "{model}", "--data", "{rows}", "--set", "lora.rank=many"), "setting-invalid"),
        (("--model", "{model}", "--data", "{rows}", "--set", "lora.depth=3"), "setting-unknown"),
        (("{broken}",), "spec-unreadable"),
        (("{empty}",), "spec-incomplete"),
        (("nowhere.yaml",), "spec-unreadable"),
    ],
)
def test_a_bad_run_is_refused_before_anything_is_written(
    arguments: tuple[str, ...], code: str, model: Path, rows: Path, tmp_path: Path, own_home: Path
) -> None:
    (tmp_path / "broken.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": \n')
    (tmp_path / "empty.jsonl").write_text("")
    places = {"rows": rows, "model": model, "broken": tmp_path / "broken.jsonl", "empty": tmp_path / "empty.jsonl"}
    done = fettle("train", *(argument.format(**places) for argument in arguments), cwd=tmp_path)
    assert_plain(done, code)
    assert not list((own_home / "runs").glob("*"))


def test_programs_get_the_failure_as_one_json_line(model: Path) -> None:
    done = fettle("train", "--model", str(model), "--data", "nowhere.jsonl", "--json")
    (line,) = done.stdout.splitlines()
    assert done.returncode == 1
    assert json.loads(line) | {"message": "", "remedy": ""} == {
        "type": "failed",
        "code": "data-missing",
        "message": "",
        "remedy": "",
    }


def test_a_model_that_wants_to_run_code_is_refused(model: Path, rows: Path) -> None:
    (model / "config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}')
    assert_plain(fettle("train", "--model", str(model), "--data", str(rows)), "model-needs-code")


@pytest.mark.parametrize("command", [("runs", "show", "none"), ("runs", "stop", "none"), ("chat", "none", "hello")])
def test_an_unknown_run_is_named(command: tuple[str, ...]) -> None:
    assert_plain(fettle(*command), "operation-unknown")


def test_rolling_back_with_nothing_to_go_back_to_says_so() -> None:
    assert_plain(fettle("env", "rollback"), "nothing-to-roll-back")


def test_status_of_an_empty_home_is_sound_and_machine_readable() -> None:
    done = fettle("env", "status", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["active"] is None


def test_a_second_instance_says_so_and_leaves_the_first_alone(own_home: Path) -> None:
    own_home.mkdir(parents=True)
    with FileLock(own_home / "app.lock"):
        assert_plain(fettle("serve"), "already-open")


def test_a_taken_port_is_named(own_home: Path) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert_plain(fettle("serve", "--port", str(other.getsockname()[1])), "port-in-use")


def test_a_home_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert_plain(fettle("env", "list", FETTLE_HOME=str(tmp_path / "file" / "home")), "home-unwritable")


def test_usage_errors_have_the_usual_status() -> None:
    assert fettle("env", "instal").returncode == 2
    assert fettle("--version").stdout.startswith("fettle ")


def test_without_a_display_the_page_is_served_instead_and_the_reason_is_one_line(own_home: Path) -> None:
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    # A program that was started in the background of a script would ignore Ctrl-C, and so would its children.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from app.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    try:
        assert process.stdout.readline() == "There is no display. Serving the page for a browser instead.\n"
        assert process.stdout.readline().startswith("Fettle is at http://127.0.0.1:")
    finally:
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in complaint
