"""What is wrong is named: installations that really fail, environments that are really broken, and words alone."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from install_bench import Bench, Recorder
from small_index import build_wheel

from env_manager.diagnosing import diagnosis, signatures, signatures_install
from env_manager.diagnosing.diagnosis import diagnose, diagnose_install
from env_manager.diagnosing.inventory import fits
from env_manager.errors import EnvError
from env_manager.generations import Generation, Store
from env_manager.proving.before_run import PROOF_NAME, check_before_run
from env_manager.proving.file_record import RECORD_NAME, take_record
from env_manager.proving.finding import Check
from env_manager.proving.verify import site_packages
from env_manager.repair import repair


def install_fails(bench: Bench, **options: object) -> str:
    """The name of why an installation fails; the active environment is the one from before."""
    before = bench.store.active_id()
    with pytest.raises(EnvError) as caught:
        bench.install(**options)
    (found,) = diagnose_install(caught.value)
    print(caught.value.code, caught.value, getattr(caught.value, "output", ""), sep="\n")
    assert found.cause and found.evidence and found.remedy
    assert bench.store.active_id() == before
    return found.name


class Answers:
    """A server on the loopback address that gives every request the same answer, with TLS if asked."""

    def __init__(self, status: int, body: bytes = b"", certificate: Path | None = None) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_CONNECT = do_HEAD = do_GET

            def log_message(self, *arguments: object) -> None:
                """Nothing: a test's output is its own."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def at(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *reason: object) -> None:
        self.server.shutdown()
        self.server.server_close()


BAD_INDEX = {
    "error-500": "index-down",
    "login-page": "package-not-offered",
    "garbage-wheels": "index-not-an-index",
    "truncated-wheels": "wheel-truncated",
    "wrong-hash": "hash-mismatch",
}


@pytest.mark.env
@pytest.mark.parametrize("behaviour", BAD_INDEX)
def test_a_bad_index_is_named(bench, behaviour):
    bench.index.behaviour = behaviour
    bench.index.ranges = False
    assert install_fails(bench) == BAD_INDEX[behaviour]


@pytest.mark.env
@pytest.mark.parametrize(("status", "name"), [(401, "index-refused"), (403, "index-refused"), (503, "index-down")])
def test_an_index_that_refuses_is_named(bench, monkeypatch, status, name):
    with Answers(status) as server:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://{server.at}/simple")
        assert install_fails(bench) == name


@pytest.mark.env
def test_a_proxy_that_refuses_is_named(bench, monkeypatch):
    with Answers(407) as server:
        monkeypatch.setenv("PIP_INDEX_URL", "https://index.invalid/simple")
        monkeypatch.setenv("HTTPS_PROXY", f"http://{server.at}")
        assert install_fails(bench) == "proxy-refused"


@pytest.mark.env
def test_an_unknown_certificate_is_named(bench, monkeypatch, tmp_path):
    pem = tmp_path / "both.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    argv += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(tmp_path / "key"), "-out", str(pem)]
    subprocess.run(argv, check=True, capture_output=True)
    pem.write_text(pem.read_text() + (tmp_path / "key").read_text())
    with Answers(200, certificate=pem) as server:
        monkeypatch.setenv("PIP_INDEX_URL", f"https://{server.at}/simple")
        assert install_fails(bench) == "certificate-unknown"


@pytest.mark.env
def test_an_index_that_is_away_or_unknown_is_named(bench, monkeypatch):
    bench.index.close()
    assert install_fails(bench) == "index-down"
    monkeypatch.setenv("PIP_INDEX_URL", "http://index.invalid/simple")
    assert install_fails(bench) == "index-down"


@pytest.mark.env
def test_a_silent_index_is_slow(bench, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        monkeypatch.setenv("PIP_TIMEOUT", "1")
        assert install_fails(bench) == "index-slow"


@pytest.mark.env
@pytest.mark.parametrize("tag", ["cp27-cp27m-manylinux1_x86_64", "py3-none-win_amd64", "cp39-cp39-macosx_14_0_arm64"])
def test_an_index_with_only_the_wrong_wheels_is_named(bench, tag):
    next(bench.wheels.glob("fx_first-1.0-*")).unlink()
    build_wheel(bench.wheels, "fx-first", "1.0", tag=tag)
    assert install_fails(bench) == "wheel-wrong-platform"


@pytest.mark.env
def test_two_installations_at_once_are_named(bench):
    with bench.store.install_lock():
        assert install_fails(bench) == "two-installs"


@pytest.mark.env
@pytest.mark.skipif(os.name == "nt", reason="Windows has other limits, whose words are tested below")
def test_a_path_that_is_too_long_is_named(bench, tmp_path):
    """A home so deep that the environment's files exceed the system's limit."""
    deep = tmp_path
    while len(str(deep)) < 4000:
        deep = deep / ("d" * min(200, 4000 - len(str(deep))))
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        for part in deep.relative_to(tmp_path).parts:
            os.mkdir(part, dir_fd=handle)
            inner = os.open(part, os.O_RDONLY, dir_fd=handle)
            os.close(handle)
            handle = inner
    finally:
        os.close(handle)
    bench.store = Store(deep)
    assert install_fails(bench) == "path-too-long"


@pytest.mark.env
def test_a_broken_package_is_named_by_its_own_words(bench):
    source = "raise OSError('[WinError 126] Error loading \"fbgemm.dll\" or one of its dependencies.')\n"
    build_wheel(bench.wheels, "fx-first", "1.0", source=source)
    assert install_fails(bench) == "windows-dll-unloadable"


# Environments of small packages, broken for real.


def remove(path: str):
    def harm(generation: Generation) -> None:
        (found,) = site_packages(generation.env).glob(path)
        shutil.rmtree(found) if found.is_dir() else found.unlink()

    return harm


def write(path: str, text: str):
    def harm(generation: Generation) -> None:
        (found,) = site_packages(generation.env).glob(path)
        found.unlink()
        found.write_text(text)

    return harm


def as_if_built(path: str, text: str):
    def harm(generation: Generation) -> None:
        write(path, text)(generation)
        take_record(generation.env, generation.folder / RECORD_NAME)

    return harm


def no_python(generation: Generation) -> None:
    generation.python.unlink()


def two_versions(generation: Generation) -> None:
    info = next(site_packages(generation.env).glob("fx_base-*.dist-info"))
    shutil.copytree(info, info.with_name("fx_base-0.9.dist-info"))


def other_version(generation: Generation) -> None:
    info = next(site_packages(generation.env).glob("fx_base-*.dist-info"))
    info.rename(info.with_name("fx_base-0.9.dist-info"))


def wrong_tag(generation: Generation) -> None:
    write("fx_first-*.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: cp27-cp27m-win32\n")(generation)


def other_content(generation: Generation) -> None:
    file = site_packages(generation.env) / "fx_base/payload.bin"
    size = file.stat().st_size
    file.unlink()
    file.write_bytes(b"x" * size)


HARMS = [
    ("files-altered", other_content),
    ("environment-torn", remove("fx_first/payload.bin")),
    ("environment-torn", write("fx_base/__init__.py", "")),
    ("record-missing", remove("fx_first-*.dist-info/RECORD")),
    ("package-missing", remove("fx_third-*.dist-info")),
    ("interpreter-missing", no_python),
    ("package-twice", two_versions),
    ("package-replaced", other_version),
    ("wheel-wrong-platform", wrong_tag),
    ("file-corrupt", as_if_built("fx_first/__init__.py", "def (:\n")),
    ("crashes", as_if_built("fx_first/__init__.py", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")),
    ("hangs", as_if_built("fx_first/__init__.py", "import time\ntime.sleep(600)\n")),
    ("module-missing", as_if_built("fx_first/__init__.py", "import fx_nowhere\n")),
    ("unknown", as_if_built("fx_first/__init__.py", "raise RuntimeError('something that nobody has seen yet')\n")),
]


@pytest.mark.env
@pytest.mark.parametrize(("name", "harm"), HARMS, ids=[f"{name}-{at}" for at, (name, _) in enumerate(HARMS)])
def test_a_broken_environment_is_named_and_nothing_else_changes(bench, name, harm):
    """An unknown failure is called so, with what was seen; the good environment beside it stays untouched."""
    good = bench.install()
    broken = bench.install()
    bench.store.point_to(good.id, "activate")
    assert diagnose(good) == diagnose(broken) == []
    harm(broken)
    found = diagnose(broken, timeout=5)
    assert [each.name for each in found] == [name]
    assert found[0].evidence and found[0].remedy
    assert bench.store.active_id() == good.id
    assert diagnose(good) == []


@pytest.mark.env
def test_what_an_action_says_mends_it(bench):
    """A torn environment asks for a repair, and is healthy after it."""
    broken = bench.install()
    remove("fx_first/payload.bin")(broken)
    assert [each.action for each in diagnose(broken)] == ["repair"]
    assert diagnose(repair(bench.store, report=Recorder()).generation) == []


@pytest.mark.env
def test_checks_before_a_run_are_remembered_until_something_changes(bench):
    """What the installation proved is not imported again, until a file is lost."""
    generation = bench.install()
    as_if_built("fx_first/__init__.py", "raise OSError('libx')\n")(generation)
    remembered = check_before_run(generation)
    assert all(each.ok for each in remembered)
    assert {*generation.probes, "interpreter", "files", "packages", "disk"} <= {each.name for each in remembered}
    remove("fx_base/payload.bin")(generation)
    broken = {each.name for each in check_before_run(generation) if not each.ok}
    assert {"files", "import:fx_first"} <= broken


@pytest.mark.env
def test_a_bad_result_is_not_remembered(bench):
    """Nor is a memory that cannot be read trusted."""
    generation = bench.install()
    (generation.folder / PROOF_NAME).write_text("{")
    as_if_built("fx_first/__init__.py", "raise OSError('libx')\n")(generation)
    for _ in range(2):
        assert "import:fx_first" in {each.name for each in check_before_run(generation) if not each.ok}


@pytest.mark.env
def test_another_interpreter_below_is_checked_again(bench):
    """A system upgrade replaces the Python that the environment is built on."""
    generation = bench.install()
    as_if_built("fx_first/__init__.py", "raise OSError('libx')\n")(generation)
    real = Path(os.path.realpath(generation.python))
    copy = generation.folder / "other-python"
    copy.write_text(f'#!/bin/sh\nexec "{real}" "$@"\n')
    copy.chmod(0o755)
    generation.python.unlink()
    generation.python.symlink_to(copy)
    assert [each.name for each in check_before_run(generation) if not each.ok] != []


# Words alone, for what cannot be made to happen here.


def named(evidence: str, detail: str = "", check: str = "torch") -> list[str]:
    return [each.name for each in diagnosis._from_checks([Check(check, False, evidence, detail=detail)])]


def texts() -> list[tuple[str, str, str]]:
    """What libraries and installers really said, from reports of their users; a tab between name, place and text."""
    file = Path(__file__).with_name("failure_texts.tsv")
    rows = [line.split("\t", 2) for line in file.read_text(encoding="utf-8").splitlines()]
    return [(name, place, text.replace("\\n", "\n").replace("\\\\", "\\")) for name, place, text in rows]


@pytest.mark.parametrize(("name", "place", "text"), texts())
def test_words_of_libraries_and_installers_are_known(name, place, text):
    found = named(text) if place == "check" else [each.name for each in diagnose_install(text)]
    assert found == ([] if (name, place) == ("unknown", "check") else [name])


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("index-unreachable", "index-down"),
        ("resolve-impossible", "versions-conflict"),
        ("uv-killed", "out-of-memory"),
        ("python-missing", "python-missing"),
        ("uv-failed", "unknown"),
    ],
)
def test_a_failure_that_was_named_where_it_happened_keeps_its_name(code, name):
    """Unless its words say more."""
    (found,) = diagnose_install(EnvError(code, "It did not go on.", "Do this."))
    assert found.name == name
    assert name == "unknown" or found.remedy == "Do this."
    assert diagnose_install(EnvError(code, "No space left on device", "Do this."))[0].name == "disk-full"


def test_a_broken_numpy_is_not_one_of_another_version():
    said = "ImportError: Original error was: No module named 'numpy._core._multiarray_umath'"
    assert named(said, check="numpy") == ["module-missing"]
    assert named(said, check="datasets") == ["numpy-1-under-numpy-2"]


def test_the_cause_below_an_error_counts():
    """`cannot import name 'AutoProcessor'` says nothing; the numpy failure that led to it does."""
    below = "ImportError: cannot import name 'AutoProcessor'\nImportError: numpy.core.multiarray failed to import"
    assert named("ImportError: cannot import name 'AutoProcessor' from 'transformers'", below) == [
        "numpy-2-under-numpy-1"
    ]


def test_a_cosmetic_complaint_is_called_so():
    found = diagnosis.cosmetic("Skipping import of cpp extensions due to incompatible torch version 2.13.0 for torchao")
    assert [(each.name, each.cosmetic) for each in found] == [("torchao-extensions-skipped", True)]
    assert diagnosis.cosmetic("all is well") == []


def test_every_signature_is_whole_and_no_action_is_unknown():
    for each in (*signatures.IN_CHECKS, *signatures_install.IN_INSTALLS, *signatures.COSMETIC):
        assert each.cause.endswith(".") and each.remedy.endswith((".", ")"))
        assert each.action in (None, "install", "rollback", "repair")


@pytest.mark.parametrize(
    ("tag", "fitting"),
    [
        ("py3-none-any", True),
        ("py2.py3-none-any", True),
        ("cp311-cp311-manylinux_2_28_x86_64", True),
        ("cp39-abi3-manylinux2014_x86_64", True),
        ("cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64", True),
        ("py311-none-any", True),
        ("py310-none-any", True),
        ("py312-none-any", False),
        ("cp312-abi3-manylinux2014_x86_64", False),
        ("cp310-cp310-manylinux_2_28_x86_64", False),
        ("cp311-cp311-manylinux_2_28_aarch64", False),
        ("cp311-cp311-win_amd64", False),
        ("cp311-cp311-macosx_14_0_universal2", False),
        ("py2-none-any", False),
        ("cp311-cp311-musllinux_1_2_x86_64", False),
    ],
)
def test_a_wheel_tag_fits_or_not(tag, fitting):
    assert (fits(tag, "3.11", "linux", "x86_64") is None) == fitting
