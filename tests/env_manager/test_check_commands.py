"""`fettle env check`, `repair`, `diagnose` and `fettle doctor` on a small environment, as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from install_bench import Bench

from env_manager.proving.verify import site_packages

pytestmark = pytest.mark.env
ROOT = Path(__file__).parents[2]


def fettle(bench: Bench, *arguments: str, **variables: str) -> tuple[int, str]:
    """Exit status and standard output of a command; never a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        cwd=ROOT,
        env=dict(os.environ) | {"FETTLE_HOME": str(bench.store.root)} | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


def test_a_damaged_environment_is_found_named_and_repaired(bench):
    """Check says which file, diagnose what it means, repair builds a new one, after which all is well."""
    older, generation = bench.install(), bench.install()
    assert fettle(bench, "env", "check", "--full")[0] == 0
    assert fettle(bench, "env", "diagnose") == (0, "Nothing is wrong with it.\n")
    (site_packages(generation.env) / "fx_first/payload.bin").unlink()

    status, out = fettle(bench, "env", "check", "--json")
    assert status == 1
    assert [file["package"] for file in json.loads(out)["files"]] == ["fx-first"]
    status, out = fettle(bench, "env", "check")
    assert status == 1 and "payload.bin is missing (fx-first)" in out
    status, out = fettle(bench, "env", "diagnose", "--json")
    assert status == 1
    assert [each["name"] for each in json.loads(out)["findings"]] == ["environment-torn"]

    status, out = fettle(bench, "env", "repair", "--json")
    assert status == 0
    assert json.loads(out.splitlines()[-1])["type"] == "done"
    assert bench.store.active_id() != generation.id
    assert fettle(bench, "env", "check", "--full")[0] == 0
    assert fettle(bench, "env", "check", generation.id)[0] == 1
    status, out = fettle(bench, "env", "status")
    assert f"previous: {older.id}\n" in out and f"passed over: {generation.id} is damaged: " in out
    assert json.loads(fettle(bench, "env", "rollback", "--json")[1])["active"] == older.id


def test_a_repair_that_is_not_needed_says_so(bench):
    bench.install()
    status, out = fettle(bench, "env", "repair", "--json")
    assert status == 1
    assert json.loads(out.splitlines()[-1])["code"] == "nothing-to-repair"


def test_doctor_packs_a_bundle_without_secrets(bench, tmp_path, monkeypatch):
    """A password in the index's address, which uv writes into its log, is in no file of the bundle."""
    monkeypatch.setenv("PIP_INDEX_URL", bench.index.url.replace("http://", "http://someone:geheim-123@"))
    generation = bench.install()
    log = generation.folder / "install.log"
    log.write_text(
        log.read_text() + "\nindex http://someone:geheim-123@127.0.0.1/simple HF_TOKEN=hf_abcdefghijklmnop\n"
    )
    bundle = tmp_path / "report.zip"
    status, out = fettle(bench, "doctor", "--bundle", str(bundle))
    assert status == 0, out
    with zipfile.ZipFile(bundle) as packed:
        names = packed.namelist()
        texts = {name: packed.read(name).decode() for name in names}
    assert {"report.txt", "report.json", f"envs/{generation.id}/install.log", "history.jsonl"} <= set(names)
    for text in (out, *texts.values()):
        assert "geheim" not in text and "abcdefghijklmnop" not in text
    assert json.loads(texts["report.json"])["sound"] is True
    assert str(Path.home()) not in texts["report.txt"]


def test_doctor_names_what_is_wrong(bench):
    generation = bench.install()
    (site_packages(generation.env) / "fx_first/payload.bin").unlink()
    status, out = fettle(bench, "doctor")
    assert status == 1
    assert "environment-torn" in out and "fettle env repair" in out


def test_a_bundle_that_cannot_be_written_is_said(bench, tmp_path):
    status, out = fettle(bench, "doctor", "--json", "--bundle", str(tmp_path / "none" / "report.zip"))
    assert status == 1
    assert json.loads(out.splitlines()[-1])["code"] == "bundle-unwritable"


def test_an_environment_whose_python_vanished_is_built_again_from_its_lock(bench):
    """As after an upgrade of the system: diagnosed, repaired, exported all the same; a check does not call it sound."""
    generation = bench.install()
    generation.python.unlink()
    generation.python.symlink_to("/nowhere/python3")
    assert fettle(bench, "env", "check")[0] == 1
    status, out = fettle(bench, "env", "diagnose", "--json")
    assert status == 1 and json.loads(out)["findings"][0]["name"] == "interpreter-missing"
    assert fettle(bench, "env", "export")[0] == 0
    assert fettle(bench, "env", "repair")[0] == 0
    assert bench.store.active_id() != generation.id
    assert fettle(bench, "env", "check")[0] == 0
