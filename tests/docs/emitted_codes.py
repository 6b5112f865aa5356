"""Reads from the source which error codes the product can emit, without importing or running it.

Whatever takes a parameter or field `code: str` is a place where a code is given: exception classes, records,
functions. Added to that are `code=` in any other call, `"code"` in a dictionary, codes in brackets in what the
launchers print, and `code:` in the page's TypeScript.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

BRACKETED = re.compile(r"\[([a-z]+(?:-[a-z]+)+)\]")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Codes:
    """What was found: where each code is emitted, codes the source asks for, and code positions nobody can read."""

    emitted: dict[str, list[str]] = field(default_factory=dict)
    asked_for: dict[str, list[str]] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)


class Unreadable(Exception):
    """The expression in the position of a code can be anything."""


def read_codes(root: Path) -> Codes:
    """All codes of a checkout."""
    codes = Codes()
    files = [file for room in ("app", "env_manager", "trainer", "installers") for file in _python(root / room)]
    trees = {file: ast.parse(file.read_text(encoding="utf-8")) for file in files}
    everywhere = {name: at for name, at in _takers(trees.values()).items() if not name.startswith("_")}
    for file, tree in trees.items():
        where = file.relative_to(root).as_posix()
        # What begins with an underscore counts in its own module only.
        _Reader(where, tree, everywhere | _takers([tree]), codes).read()
        if where.startswith("installers/"):
            _read_bracketed(where, ast.unparse(tree), codes)
    for name in ("fettle", "fettle.cmd"):
        if (root / name).is_file():
            _read_bracketed(name, (root / name).read_text(encoding="utf-8"), codes)
    _read_page(root, codes)
    return codes


def _python(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "static" not in path.parts)


def _read_bracketed(where: str, text: str, codes: Codes) -> None:
    for code in BRACKETED.findall(text):
        codes.emitted.setdefault(code, []).append(where)


def _read_page(root: Path, codes: Codes) -> None:
    for file in sorted((root / "ui" / "src").rglob("*")):
        if file.suffix in (".ts", ".svelte"):
            for _, code in re.findall(r"\bcode: (['`])(.+?)\1", file.read_text(encoding="utf-8")):
                named = re.sub(r"\$\{.*?\}", "<status>", code)
                codes.emitted.setdefault(named, []).append(file.relative_to(root).as_posix())


def _takers(trees: Iterable[ast.Module]) -> dict[str, int]:
    """Name of each function or class that takes a code, and its position among the arguments."""
    nodes = [node for tree in trees for node in ast.walk(tree)]
    found: dict[str, int] = {}
    for node in nodes:
        name, names = "", []
        if isinstance(node, FUNCTIONS) and node.name != "__init__":
            name, names = node.name, _text_parameters(node)
        elif isinstance(node, ast.ClassDef):
            made = _initialiser(node)
            name, names = node.name, _text_parameters(made) if made else _fields(node)
        if "code" in names:
            found[name] = names.index("code")
    # A subclass without an `__init__` of its own takes what its parent takes.
    for node in nodes:
        if isinstance(node, ast.ClassDef) and not _initialiser(node):
            for parent in _names(node.bases):
                if parent in found:
                    found.setdefault(node.name, found[parent])
    return found


def _initialiser(node: ast.ClassDef) -> Function | None:
    return next((part for part in node.body if isinstance(part, FUNCTIONS) and part.name == "__init__"), None)


def _names(expressions: Iterable[ast.AST | None]) -> list[str]:
    return [each.id for each in expressions if isinstance(each, ast.Name)]


def _text_parameters(function: Function) -> list[str]:
    """Parameters in order without `self`; one called `code` counts only where it is text."""
    every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    named = [each.arg if each.arg != "code" or _is_text(each.annotation) else "" for each in every]
    return [name for name in named if name not in ("self", "cls")]


def _fields(node: ast.ClassDef) -> list[str]:
    """Fields of a record in order; one called `code` counts only where it is text."""
    parts = [part for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)]
    return [
        ast.unparse(part.target) if ast.unparse(part.target) != "code" or _is_text(part.annotation) else ""
        for part in parts
    ]


def _is_text(annotation: ast.expr | None) -> bool:
    return isinstance(annotation, ast.Name) and annotation.id == "str"


class _Reader:
    """Reads one module."""

    def __init__(self, where: str, tree: ast.Module, takers: dict[str, int], codes: Codes) -> None:
        self.where, self.tree, self.takers, self.codes = where, tree, takers, codes
        self.parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}

    def read(self) -> None:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                self._call(node)
            elif isinstance(node, ast.Dict):
                self._dictionary(node)
            elif isinstance(node, ast.Compare) and _hands_on(node.left):
                for text in _texts(node.comparators):
                    self._note(self.codes.asked_for, text, node)

    def _call(self, node: ast.Call) -> None:
        position = self._position(node)
        given = next((keyword.value for keyword in node.keywords if keyword.arg == "code"), None)
        if position is not None and given is None:
            before = node.args[: position + 1]
            if len(before) <= position or any(isinstance(each, ast.Starred) for each in before):
                self.codes.unreadable.append(f"{self.where}:{node.lineno}")
                return
            given = before[position]
        if given is not None:
            self._emitted(given, strict=position is not None)
        self._table(node)

    def _position(self, node: ast.Call) -> int | None:
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name == "__init__" and ast.unparse(node.func).startswith("super()"):
            within = self._around(node, ast.ClassDef)
            parents = _names(within.bases) if isinstance(within, ast.ClassDef) else []
            return next((self.takers[parent] for parent in parents if parent in self.takers), None)
        return self.takers.get(name)

    def _table(self, node: ast.Call) -> None:
        """`TABLE.get(error.code)`: the keys of the module's table are codes that must exist."""
        if not (isinstance(node.func, ast.Attribute) and node.func.attr == "get" and node.args):
            return
        by_code = _hands_on(node.args[0]) or _names(node.args[:1]) == ["code"]
        tables = _names([node.func.value]) if by_code else []
        for statement in self.tree.body:
            if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Dict):
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                if tables and tables[0] in _names(targets):
                    for text in _texts(statement.value.keys):
                        self._note(self.codes.asked_for, text, statement)

    def _dictionary(self, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "code":
                self._emitted(value, strict=False)

    def _emitted(self, expression: ast.expr, *, strict: bool) -> None:
        try:
            for code in self._values(expression):
                self._note(self.codes.emitted, code, expression)
        except Unreadable:
            if strict:
                self.codes.unreadable.append(f"{self.where}:{expression.lineno}")

    def _values(self, expression: ast.expr) -> set[str]:
        """Every text that the expression can be; nothing where a code is only handed on."""
        if _hands_on(expression):
            return set()
        if isinstance(expression, ast.Constant):
            return {expression.value} if isinstance(expression.value, str) else set()
        if isinstance(expression, ast.IfExp):
            return self._values(expression.body) | self._values(expression.orelse)
        if isinstance(expression, ast.JoinedStr):
            texts = {""}
            for part in expression.values:
                more = self._values(part.value if isinstance(part, ast.FormattedValue) else part)
                texts = {text + end for text in texts for end in more}
            return texts
        if isinstance(expression, ast.Name):
            return self._of_name(expression)
        raise Unreadable

    def _of_name(self, name: ast.Name) -> set[str]:
        function = self._around(name, *FUNCTIONS)
        if isinstance(function, FUNCTIONS) and name.id == "code" and "code" in _text_parameters(function):
            return set()
        given = [
            node.value
            for node in ast.walk(function or self.tree)
            if isinstance(node, ast.Assign) and name.id in _names(node.targets)
        ]
        if not given:
            raise Unreadable
        return set().union(*(self._values(each) for each in given))

    def _around(self, node: ast.AST, *kinds: type[ast.AST]) -> ast.AST | None:
        while node in self.parents:
            node = self.parents[node]
            if isinstance(node, kinds):
                return node
        return None

    def _note(self, found: dict[str, list[str]], code: str, node: ast.AST) -> None:
        found.setdefault(code, []).append(f"{self.where}:{getattr(node, 'lineno', 0)}")


def _hands_on(expression: ast.expr) -> bool:
    """Whether this is `something.code` or `something["code"]`."""
    if isinstance(expression, ast.Attribute):
        return expression.attr == "code"
    return (
        isinstance(expression, ast.Subscript)
        and isinstance(expression.slice, ast.Constant)
        and expression.slice.value == "code"
    )


def _texts(expressions: Iterable[ast.expr | None]) -> list[str]:
    return [
        node.value
        for expression in expressions
        if expression is not None
        for node in ast.walk(expression)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
