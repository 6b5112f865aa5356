"""pip's own configuration, read as pip reads it and handed to uv."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from env_manager import pip_config
from env_manager.pip_config import broken_pip_file, pip_options, uv_environment


@pytest.fixture
def home(tmp_path, monkeypatch) -> dict[str, str]:
    """A shell of somebody with an empty home, on a machine without system-wide settings."""
    monkeypatch.setattr(pip_config, "_global_files", lambda environ: [tmp_path / "global.conf"])
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr(sys, "platform", "linux")
    return {"HOME": str(tmp_path)}


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_without_any_configuration_uv_is_told_nothing(home):
    """Only that it shall not read projects it happens to lie in."""
    assert uv_environment(home) == {"UV_NO_CONFIG": "1"}


def test_files_and_variables_count_in_pips_order(home, tmp_path):
    """global < user < site < PIP_CONFIG_FILE < PIP_*; each replaces the one before."""
    name = "pip.ini" if sys.platform == "win32" else "pip.conf"
    write(tmp_path / "global.conf", "[global]\nindex-url = http://global\ntimeout = 7\n")
    assert pip_options(home)["index-url"] == "http://global"
    write(tmp_path / ".config/pip/pip.conf", "[global]\nindex-url = http://user\n")
    assert pip_options(home)["index-url"] == "http://user"
    write(tmp_path / "prefix" / name, "[global]\nindex-url = http://site\n")
    assert pip_options(home)["index-url"] == "http://site"
    write(tmp_path / "named.conf", "[install]\nindex_url = http://named\n")
    named = home | {"PIP_CONFIG_FILE": str(tmp_path / "named.conf")}
    assert pip_options(named)["index-url"] == "http://named"
    assert pip_options(named | {"PIP_INDEX_URL": "http://variable"})["index-url"] == "http://variable"
    assert pip_options(named)["timeout"] == "7"


def test_the_install_section_wins_over_global(home, tmp_path):
    """As in pip, the command's own section comes last."""
    write(tmp_path / ".config/pip/pip.conf", "[install]\nindex-url = http://b\n[global]\nindex-url = http://a\n")
    assert pip_options(home)["index-url"] == "http://b"


def test_a_config_file_of_null_switches_all_files_off(home, tmp_path):
    """pip loads no file then."""
    write(tmp_path / ".config/pip/pip.conf", "[global]\nindex-url = http://user\n")
    assert pip_options(home | {"PIP_CONFIG_FILE": os.devnull}) == {}


def test_several_extra_indexes_mean_the_best_of_all(home):
    """uv would otherwise stop at the first index that knows a package."""
    found = uv_environment(home | {"PIP_EXTRA_INDEX_URL": "http://a/simple http://b/simple"})
    assert found["UV_EXTRA_INDEX_URL"] == "http://a/simple http://b/simple"
    assert found["UV_INDEX_STRATEGY"] == "unsafe-best-match"


def test_lists_may_stand_on_several_lines(home, tmp_path):
    """As in pip's own files."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    write(tmp_path / ".config/pip/pip.conf", f"[global]\nfind-links =\n    {one}\n    {two}\n")
    assert uv_environment(home)["UV_FIND_LINKS"] == f"{one},{two}"


def test_folders_that_do_not_exist_are_passed_over(home, tmp_path):
    """pip warns and goes on; uv would stop."""
    real = tmp_path / "real"
    real.mkdir()
    found = uv_environment(
        home
        | {
            "PIP_EXTRA_INDEX_URL": f"file:///surely/not/here {real.as_uri()}",
            "PIP_FIND_LINKS": "/surely/not/here https://example.invalid/links",
        }
    )
    assert found["UV_EXTRA_INDEX_URL"] == real.as_uri()
    assert found["UV_FIND_LINKS"] == "https://example.invalid/links"


def test_certificate_proxy_and_trusted_hosts_are_passed_on(home):
    """What a company network needs."""
    found = uv_environment(
        home | {"PIP_CERT": "/ca.pem", "PIP_PROXY": "http://proxy:3128", "PIP_TRUSTED_HOST": "a.example\nb.example"}
    )
    assert found["SSL_CERT_FILE"] == "/ca.pem"
    assert found["HTTPS_PROXY"] == found["HTTP_PROXY"] == "http://proxy:3128"
    assert found["UV_INSECURE_HOST"] == "a.example b.example"


def test_the_shells_own_certificate_and_proxy_win(home):
    """They are what every other program of this shell uses."""
    shell = home | {"SSL_CERT_FILE": "/own.pem", "https_proxy": "http://own:1"}
    found = uv_environment(shell | {"PIP_CERT": "/ca.pem", "PIP_PROXY": "http://proxy:3128"})
    assert "SSL_CERT_FILE" not in found
    assert "HTTPS_PROXY" not in found


def test_what_is_set_for_uv_wins(home):
    """Somebody who configured uv meant uv."""
    found = uv_environment(home | {"PIP_INDEX_URL": "http://pip", "UV_DEFAULT_INDEX": "http://uv"})
    assert found["UV_DEFAULT_INDEX"] == "http://uv"


def test_uvs_own_file_is_used_and_wins(home, tmp_path):
    """The user's uv.toml is named to uv, and what it answers is not answered by pip's."""
    write(tmp_path / ".config/uv/uv.toml", 'index-url = "http://uv"\n')
    found = uv_environment(home | {"PIP_INDEX_URL": "http://pip", "PIP_NO_INDEX": "true"})
    assert found["UV_CONFIG_FILE"] == str(tmp_path / ".config/uv/uv.toml")
    assert "UV_DEFAULT_INDEX" not in found
    assert found["UV_NO_INDEX"] == "1"


def test_variables_of_other_uv_commands_do_not_leak(home):
    """A surrounding project's lock or environment must not change what is installed."""
    found = uv_environment(home | {"UV_PROJECT_ENVIRONMENT": "/x", "UV_CONSTRAINT": "c.txt", "UV_PYTHON": "3.13"})
    assert found == {"UV_NO_CONFIG": "1"}


def test_credentials_of_named_indexes_are_kept(home):
    """uv's own way to give user and password of an index."""
    found = uv_environment(home | {"UV_INDEX_COMPANY_USERNAME": "u", "UV_INDEX_COMPANY_PASSWORD": "p"})
    assert found["UV_INDEX_COMPANY_PASSWORD"] == "p"


def test_a_file_that_cannot_be_parsed_is_named(home, tmp_path):
    """It stops nobody who installs nothing; who does must not take the public index in place of the one it names."""
    write(tmp_path / ".config/pip/pip.conf", "[global]\nindex-url = http://company\n")
    assert broken_pip_file(home) is None
    write(tmp_path / ".config/pip/pip.conf", "no section here\n")
    assert pip_options(home) == {}
    file, reason = broken_pip_file(home)
    assert file == tmp_path / ".config/pip/pip.conf" and "no section headers" in reason


def test_it_works_alone_with_the_standard_library_only():
    """The launcher reads this file before anything is installed."""
    code = f"import runpy; print(runpy.run_path({pip_config.__file__!r})['uv_environment']({{}}))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert "UV_" in done.stdout
