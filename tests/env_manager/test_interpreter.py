"""Which Python an environment is built on, and what is said about it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from other_machine import captured

from env_manager.errors import EnvError, from_uv
from env_manager.planning.interpreter import candidates, choose_interpreter, parse_python_list
from env_manager.uv import Uv

WANTED = ("3.11", "3.12", "3.10")


@dataclass
class Answers:
    """uv as it answers on another machine: which releases it finds, and after a download."""

    there: tuple[str, ...]
    fetches: bool = True
    asked: list[str] = field(default_factory=list)

    def with_environ(self, **variables: str) -> Answers:
        return self

    def run(self, arguments: list[str], *, cwd: object) -> str:
        self.asked.append(" ".join(arguments))
        release = next(each for each in arguments if each.startswith("cpython-")).split("-")[1]
        if arguments[1] == "install":
            self.there += (release,) if self.fetches else ()
        elif release not in self.there:
            raise from_uv("error: No interpreter found for CPython in search path", 2)
        return f"/python/{release}/bin/python\n"


@pytest.mark.parametrize(
    ("there", "version", "words"),
    [
        (("3.10", "3.11", "3.12"), "3.11", "goes before all others"),
        (("3.12",), "3.12", "Python 3.11, which goes before it, is not"),
        (("3.10",), "3.10", "Python 3.11 or Python 3.12, which goes before it, is not"),
        ((), "3.11", "was fetched: Python 3.11 or Python 3.12 or Python 3.10 was not here"),
    ],
)
def test_the_first_release_in_order_is_taken_and_the_reason_is_told(tmp_path, there, version, words):
    """3.11 before 3.12 before 3.10, else one is fetched."""
    chosen = choose_interpreter(Answers(there), WANTED, tmp_path, tmp_path)
    assert (chosen.version, chosen.path) == (version, f"/python/{version}/bin/python")
    assert words in chosen.reason


def test_without_any_and_without_a_download_the_failure_is_named(tmp_path):
    """The user is told what to install."""
    with pytest.raises(EnvError) as caught:
        choose_interpreter(Answers((), fetches=False), WANTED, tmp_path, tmp_path)
    assert caught.value.code == "python-missing"


def test_each_interpreter_on_the_machine_is_judged_with_a_reason():
    """Release, architecture, implementation and build all count."""
    found = {each.path: each for each in parse_python_list(captured("python_list.json"), WANTED, "aarch64")}
    assert [each.fits for each in found.values()] == [False, False, False, False, True]
    assert "3.10, 3.11, 3.12 only" in found["/opt/homebrew/bin/python3.13"].why
    assert "made for x86_64" in found["/usr/local/bin/python3.11"].why
    assert "pypy" in found["/opt/homebrew/bin/pypy3"].why
    assert "debug build" in found["/opt/debug/bin/python3.12"].why


@pytest.mark.env
def test_the_interpreters_of_this_machine_are_listed(tmp_path):
    """By the real uv; whatever runs the tests is among them, those that fit first."""
    found = candidates(Uv.create(tmp_path / "cache", lambda line: None, lambda: False), WANTED, tmp_path)
    assert found
    assert [each.fits for each in found] == sorted((each.fits for each in found), reverse=True)
