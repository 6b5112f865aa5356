"""The desktop entry for Linux: written for one user, starts this checkout, goes again without a trace."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
STARTED = '#!/bin/sh\nprintf "%s" "$0" > "$STARTED_AT"\n'
Install = Callable[..., subprocess.CompletedProcess[str]]


def checkout(folder: Path) -> Path:
    """A checkout of the installer alone, whose `fettle` notes in a file as what it was started."""
    shutil.copytree(ROOT / "installers" / "linux", folder / "installers" / "linux")
    (folder / "fettle").write_text(STARTED, encoding="utf-8")
    (folder / "fettle").chmod(0o755)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def install(data: Path) -> Install:
    def run(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-I", str(root / "installers" / "linux" / "install.py"), *arguments],
            capture_output=True,
            text=True,
            env=os.environ | {"XDG_DATA_HOME": str(data)} | environment,
        )

    return run


def entry(data: Path) -> dict[str, str]:
    """The keys of the installed entry, their values unescaped as the specification says for strings."""
    lines = (data / "applications" / "fettle.desktop").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "[Desktop Entry]"
    pairs = [line.partition("=") for line in lines[1:]]
    assert all(equals for _, equals, _ in pairs) and len({key for key, _, _ in pairs}) == len(pairs)
    return {key: re.sub(r"\\(.)", r"\1", value) for key, _, value in pairs}


def words(command: str) -> list[str]:
    """The arguments of an Exec value after its string escapes: quotes, marks inside quotes, doubled percent signs."""
    assert re.fullmatch(r"([^%]|%%)*", command), "a single percent sign would be a field code"
    found = []
    for quoted, bare in re.findall(r'"((?:\\.|[^"\\])*)"|([^\s"]+)', command):
        found.append((re.sub(r'\\(["`$\\])', r"\1", quoted) if quoted else bare).replace("%%", "%"))
    return found


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_entry_has_what_a_menu_needs_and_nothing_the_specification_does_not_know(
    install: Install, data: Path
) -> None:
    done = install(ROOT)
    assert done.returncode == 0, done.stderr
    keys = entry(data)
    assert keys["Type"] == "Application" and keys["Name"] == "Fettle" and keys["Terminal"] == "false"
    assert keys["Icon"] == "fettle"
    assert keys["Categories"].endswith(";") and keys["Keywords"].endswith(";")
    known = "Type Version Name GenericName Comment TryExec Exec Icon Terminal Categories Keywords".split()
    assert set(keys) == set(known)
    assert words(keys["Exec"]) == [str(ROOT / "fettle")] and keys["TryExec"] == str(ROOT / "fettle")


def test_the_icon_lies_in_the_theme_that_every_desktop_falls_back_to_and_is_a_square_picture(
    install: Install, data: Path
) -> None:
    install(ROOT)
    picture = ElementTree.parse(data / "icons" / "hicolor" / "scalable" / "apps" / "fettle.svg").getroot()
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    assert picture.attrib["viewBox"] == "0 0 128 128"


@pytest.mark.parametrize(
    "name", ["plain", "with spaces", "100% $HOME", 'quotes " and `ticks`', "back\\slash", "ünïcödé;&(x)", "it's ~ #1"]
)
def test_the_entry_starts_the_checkout_wherever_it_lies(
    install: Install, data: Path, tmp_path: Path, name: str
) -> None:
    root = checkout(tmp_path / name)
    assert install(root).returncode == 0
    note = tmp_path / "note"
    subprocess.run(words(entry(data)["Exec"]), check=True, env=os.environ | {"STARTED_AT": str(note)})
    assert note.read_text(encoding="utf-8") == str(root / "fettle")
    assert entry(data)["TryExec"] == str(root / "fettle")


def test_a_path_with_a_space_is_quoted_and_a_plain_one_is_not(install: Install, data: Path, tmp_path: Path) -> None:
    install(checkout(tmp_path / "two words"))
    assert f'Exec="{tmp_path}/two words/fettle"\n' in (data / "applications" / "fettle.desktop").read_text()
    install(checkout(tmp_path / "one"))
    assert f"Exec={tmp_path}/one/fettle\n" in (data / "applications" / "fettle.desktop").read_text()


def test_installing_twice_is_installing_once(install: Install, data: Path) -> None:
    install(ROOT)
    first = {name: (data / name).read_bytes() for name in files(data)}
    assert install(ROOT).returncode == 0
    assert {name: (data / name).read_bytes() for name in files(data)} == first
    assert len(first) == 2


def test_uninstalling_removes_both_files_and_leaves_the_neighbours(install: Install, data: Path) -> None:
    (data / "applications").mkdir(parents=True)
    (data / "applications" / "other.desktop").write_text("[Desktop Entry]\n")
    install(ROOT)
    assert install(ROOT, "--uninstall").returncode == 0
    assert files(data) == {"applications/other.desktop"}


def test_uninstalling_what_is_not_there_is_no_failure(install: Install) -> None:
    done = install(ROOT, "--uninstall")
    assert done.returncode == 0 and "not in the menu" in done.stdout


def test_the_newest_checkout_takes_over_and_an_older_one_does_not_remove_it(
    install: Install, data: Path, tmp_path: Path
) -> None:
    old, new = checkout(tmp_path / "old"), checkout(tmp_path / "new")
    install(old)
    install(new)
    refused = install(old, "--uninstall")
    assert refused.returncode == 1 and "[entry-foreign]" in refused.stderr
    assert entry(data)["TryExec"] == str(new / "fettle")
    shutil.rmtree(new)
    assert install(old, "--uninstall").returncode == 0, "the entry of a checkout that is gone may be removed by any"
    assert files(data) == set()


@pytest.mark.parametrize("named", ["", "relative/folder"])
def test_without_a_usable_data_folder_the_users_own_is_taken(install: Install, tmp_path: Path, named: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    assert install(ROOT, HOME=str(home), XDG_DATA_HOME=named).returncode == 0
    assert (home / ".local" / "share" / "applications" / "fettle.desktop").is_file()


def assert_refused(done: subprocess.CompletedProcess[str], code: str) -> None:
    assert done.returncode == 1
    assert f"[{code}]" in done.stderr and done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_a_path_that_no_entry_can_name_is_refused_and_nothing_is_written(
    install: Install, data: Path, tmp_path: Path
) -> None:
    assert_refused(install(checkout(tmp_path / "a=b")), "path-unusable")
    assert not data.exists()


def test_a_checkout_without_its_program_is_refused(install: Install, data: Path, tmp_path: Path) -> None:
    root = checkout(tmp_path / "torn")
    (root / "fettle").unlink()
    assert_refused(install(root), "checkout-incomplete")
    assert not data.exists()


def test_a_folder_that_cannot_be_written_is_named(install: Install, data: Path) -> None:
    data.write_text("a file where the folder should be")
    done = install(ROOT)
    assert_refused(done, "menu-unwritable")
    assert str(data) in done.stderr


def test_an_unknown_option_is_a_usage_error(install: Install, data: Path) -> None:
    assert install(ROOT, "--system").returncode == 2
    assert not data.exists()
