"""The table of errors and the source agree: every code that can be emitted is documented, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from emitted_codes import Codes, read_codes

ROOT = Path(__file__).parents[2]
KEBAB = re.compile(r"[a-z]+(-([a-z]+|<[a-z]+>))*")


@pytest.fixture(scope="module")
def codes() -> Codes:
    return read_codes(ROOT)


@pytest.fixture(scope="module")
def rows() -> list[list[str]]:
    """The cells of each documented code: code, what happened, what to do."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]


def test_every_code_that_can_be_emitted_is_documented(codes: Codes, rows: list[list[str]]) -> None:
    documented = {row[0].strip("`") for row in rows}
    missing = {code: places for code, places in codes.emitted.items() if code not in documented}
    assert missing == {}, "add a row to docs/troubleshooting.md"


def test_every_documented_code_can_be_emitted(codes: Codes, rows: list[list[str]]) -> None:
    assert [row[0] for row in rows if row[0].strip("`") not in codes.emitted] == []


def test_each_code_has_one_row_with_a_cause_and_a_remedy(rows: list[list[str]]) -> None:
    names = [row[0] for row in rows]
    assert len(names) == len(set(names))
    assert [row for row in rows if len(row) != 3 or not all(cell.endswith(".") for cell in row[1:])] == []


def test_rows_of_a_group_are_in_the_order_of_the_alphabet() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    for group in text.split("\n## ")[1:]:
        names = re.findall(r"^\| `([^`]+)`", group, re.MULTILINE)
        assert names == sorted(names), group.splitlines()[0]


def test_every_code_is_readable_from_the_source_and_well_formed(codes: Codes) -> None:
    assert codes.unreadable == [], "write the code as text where it is given"
    assert [code for code in codes.emitted if not KEBAB.fullmatch(code)] == []


def test_no_room_waits_for_a_code_that_nobody_emits(codes: Codes) -> None:
    assert {code: places for code, places in codes.asked_for.items() if code not in codes.emitted} == {}


EXAMPLE = """
class Failure(Exception):
    def __init__(self, code: str, message: str) -> None: ...

class Stopped(Failure):
    def __init__(self) -> None:
        super().__init__("from-super", "…")

class Late(Failure): ...

class Record:
    pattern: str
    code: str

def shown(code: str, message: str) -> None:
    Failure(code, message)

def _private(identity: str, code: str) -> None: ...

def give(error, kind, row, line):
    Failure("positional", "…"), Failure(code="by-keyword", message="…"), Late("inherited", "…")
    Record("pattern", "in-a-record"), shown("in-a-function", "…"), _private("id", "in-a-private-one")
    emit("failed", code="in-an-event"), say({"code": "in-a-dictionary"})
    what = "run" if kind else "install"
    Failure(f"{what}-chosen", "…"), Failure("left" if kind else "right", "…")
    Failure(error.code, "…"), Failure(line["code"], "…")
    return error.code in ("asked-for",), TABLE.get(error.code)

TABLE = {"in-a-table": 404}
"""


def test_every_way_of_giving_a_code_is_seen(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "all.py").write_text(EXAMPLE, encoding="utf-8")
    (tmp_path / "app" / "other.py").write_text('_private("not", "a-code")', encoding="utf-8")
    (tmp_path / "installers").mkdir()
    (tmp_path / "installers" / "start.py").write_text('print(f"  {remedy}  [from-installer]")', encoding="utf-8")
    (tmp_path / "fettle").write_text('echo "…  [from-shell]" >&2\n', encoding="utf-8")
    (tmp_path / "ui" / "src").mkdir(parents=True)
    (tmp_path / "ui" / "src" / "api.ts").write_text("x = { code: 'from-page' }; y = { code: `http-${n}` }")
    found = read_codes(tmp_path)
    assert found.unreadable == []
    assert set(found.emitted) == {
        *("from-super", "positional", "by-keyword", "inherited", "in-a-record", "in-a-function", "in-a-private-one"),
        *("in-an-event", "in-a-dictionary", "run-chosen", "install-chosen", "left", "right"),
        *("from-installer", "from-shell", "from-page", "http-<status>"),
    }
    assert set(found.asked_for) == {"asked-for", "in-a-table"}


@pytest.mark.parametrize("given", ["pick()", "'a-' + kind", "*row", "unknown"])
def test_a_code_that_cannot_be_read_is_reported_with_its_place(tmp_path: Path, given: str) -> None:
    (tmp_path / "app").mkdir()
    source = f"def problem(code: str, message: str): ...\n\nproblem({given}, 'message')\n"
    (tmp_path / "app" / "one.py").write_text(source, encoding="utf-8")
    assert read_codes(tmp_path).unreadable == ["app/one.py:3"]
