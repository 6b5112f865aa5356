"""Ugly data files as people have them, each with what the doctor is to say of it."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from typing import Any

HI, HELLO = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}


def line(row: Any) -> str:
    return json.dumps(row, ensure_ascii=False)


def pair(asked: Any, answer: Any, **more: Any) -> str:
    return line({"prompt": asked, "completion": answer, **more})


def talk(*turns: Any) -> str:
    return line({"messages": list(turns)})


GOOD = [pair(f"How much is {n} and {n}?", f"That makes {2 * n}.") for n in range(5)]


@dataclass(frozen=True)
class Ugly:
    """A file's name and bytes; the findings as (kind, line, words in the message); how many rows are usable."""

    name: str
    content: bytes
    findings: tuple[tuple[str, int, str], ...]
    usable: int
    mended: int = 0  # rows that are usable in the mended copy only


def lines(*rows: str, end: str = "\n") -> bytes:
    return (end.join(rows) + end).encode()


UGLY: dict[str, Ugly] = {
    "a download that was cut short": Ugly(
        "rows.jsonl", lines(*GOOD)[:-20], (("json-truncated", 5, "ends in the middle"),), 4
    ),
    "written by str() in Python": Ugly(
        "rows.jsonl",
        lines(GOOD[0], "{'prompt': 'Hi', 'completion': 'Hello'}", '{"prompt": "Hi", "completion": None}'),
        (("json-broken", 2, "double quotes"), ("json-broken", 3, "None as null")),
        1,
    ),
    "edited by hand": Ugly(
        "rows.jsonl",
        lines(GOOD[0], GOOD[1][:-1] + ",}", '{"prompt": "a"b", "completion": "c"}', GOOD[2] + GOOD[3], "# a comment"),
        (
            ("json-broken", 2, "comma before a closing bracket"),
            ("json-broken", 3, "a quote inside the text"),
            ("json-broken", 4, "a second value follows"),
            ("json-broken", 5, "a comment"),
        ),
        1,
    ),
    "put together by string": Ugly(
        "rows.jsonl",
        lines(GOOD[0], GOOD[1] + ",", GOOD[2].replace('"', "“", 1), "// so far", "{", '  "prompt": "a",', '  "completion": "b"', "}"),
        (
            ("json-broken", 2, "a comma stands behind the row"),
            ("json-broken", 3, "typographic"),
            ("json-broken", 4, "a comment"),
            *(("json-broken", line, "a part of a row") for line in (5, 6, 7, 8)),
        ),
        1,
    ),
    "from an old Mac": Ugly("rows.jsonl", lines(*GOOD, end="\r"), (("json-broken", 1, "carriage returns alone"),), 0),
    "a list in its wrapping": Ugly(
        "rows.json", lines(line({"rows": [{"a": 1}, {"a": 2}]})), (("columns-unknown", 1, "seem to lie in `rows`"),), 0
    ),
    "whole columns": Ugly(
        "rows.json", lines(pair(["a", "b"], ["c", "d"])), (("content-type", 1, "whole columns"),), 0
    ),
    "roles in capitals": Ugly(
        "rows.jsonl", lines(talk({"role": "User", "content": "Hi"}, {"role": "Assistant", "content": "Yo"})), (), 1
    ),
    "from a table program on Windows": Ugly(
        "rows.jsonl", b"\xef\xbb\xbf" + lines(*GOOD, end="\r\n"), (("encoding-mark", 1, "byte order mark"), ("line-breaks", 1, "CRLF")), 5
    ),
    "UTF-16": Ugly("rows.jsonl", lines(*GOOD).decode().encode("utf-16"), (("encoding-utf16", 1, "UTF-16"),), 5),
    "Latin-1": Ugly(
        "rows.jsonl",
        lines(GOOD[0], pair("Grüße", "Schöne Grüße"), pair("Café?", "Olé")).decode().encode("latin-1"),
        (("encoding-latin", 1, "Windows-1252"), ("encoding-broken", 2, "0xfc"), ("encoding-broken", 3, "0xe9")),
        1,
        mended=2,
    ),
    "one broken byte": Ugly(
        "rows.jsonl",
        lines(pair("Grüße", "Hallo"), pair("Füße", "Ja")) + GOOD[0].encode().replace(b"much", b"mu\xffch") + b"\n",
        (("encoding-broken", 3, "0xff"),),
        2,
    ),
    "binary garbage": Ugly(
        "rows.jsonl", lines(*GOOD) + bytes(n for n in range(256) if n != 10) * 3 + b"\n" + lines(pair("Hi", "Hello")), (("binary", 6, "not text"),), 6
    ),
    "numbers that are none": Ugly(
        "rows.jsonl",
        lines(GOOD[0], '{"prompt": "a", "completion": "b", "score": NaN}', '{"prompt": "c", "completion": "d", "score": -Infinity}'),
        (("not-finite", 2, "`NaN`"), ("not-finite", 3, "`-Infinity`")),
        1,
        mended=2,
    ),
    "half an emoji": Ugly(
        "rows.jsonl",
        lines(GOOD[0], '{"prompt": "Hi \\ud83d", "completion": "Hello \\ud83d\\ude00"}', '{"prompt": "C:\\\\ud83d", "completion": "x"}'),
        (("surrogate", 2, "only half there"),),
        2,
        mended=1,
    ),
    "columns of every kind": Ugly(
        "rows.jsonl",
        lines(GOOD[0], line({"prompt": "Hi"}), line({"promt": "Hi", "completion": "x"}), '["Hi", "Hello"]', "7", pair("a", "b", id=4)),
        (
            ("columns-unknown", 2, "Beside `prompt`, `completion` is needed"),
            ("columns-unknown", 3, "Is `promt` meant to be `prompt`?"),
            ("not-object", 4, "named columns"),
            ("not-object", 5, "named columns"),
            ("columns-extra", 6, "`id`"),
        ),
        2,
    ),
    "mixed types": Ugly(
        "rows.jsonl",
        lines(GOOD[0], pair("a", 7), pair(["a"], "b"), pair("a", None), pair("a", {"text": "b"})),
        (
            ("content-type", 2, "a number"),
            ("content-type", 3, "a list"),
            ("content-type", 4, "null"),
            ("content-type", 5, "an object"),
        ),
        1,
    ),
    "nothing to learn": Ugly(
        "rows.jsonl",
        lines(GOOD[0], pair("a", ""), pair("a", " \t\n"), talk(HI), talk(HI, {"role": "assistant", "content": ""})),
        (
            ("target-empty", 2, "`completion`"),
            ("target-empty", 3, "is empty"),
            ("no-answer", 4, "assistant"),
            ("no-answer", 5, "assistant"),
        ),
        1,
    ),
    "turns in disorder": Ugly(
        "rows.jsonl",
        lines(
            talk(HI, HELLO),
            talk(HELLO, HI, HELLO),
            talk(HI, HI, HELLO),
            talk(HI, {"role": "system", "content": "x"}, HELLO),
            talk(HI, HELLO, {"role": "user", "content": "Bye"}),
            talk(HI, {"role": "robot", "content": "x"}),
            talk({"content": "Hi"}, HELLO),
            line({"messages": "Hi"}),
            line({"messages": []}),
        ),
        (
            ("role-order", 2, "before anybody asked"),
            ("role-order", 3, "both by the user"),
            ("role-order", 4, "by the system"),
            ("role-order", 5, "nothing is learned"),
            ("role-unknown", 6, "'robot'"),
            ("role-unknown", 7, "no `role`"),
            ("messages-shape", 8, "not a list"),
            ("messages-shape", 9, "empty list"),
        ),
        5,
    ),
    "trouble behind good rows": Ugly(
        "rows.jsonl",
        lines(
            talk(HI, HELLO),
            talk(HI, {"role": "assistant", "content": "Yes"}),
            talk({"role": "user", "content": " "}, {"role": "assistant", "content": "No"}),
            talk(HI, {"role": "assistant", "content": " \n"}),
            talk(HI, {"role": "assistant", "content": "So", "weight": 1}),
            talk(HI, {"role": "assistant", "content": 8}),
            talk(HELLO, {"role": "user", "content": "So?"}),
            line({"text": "a"}),
            line({"text": "b"}),
            line({"text": " "}),
            line({"text": 9}),
        ),
        (
            ("content-empty", 3, "`messages[0]`"),
            ("no-answer", 4, "assistant"),
            ("turn-fields", 5, "`weight`"),
            ("content-type", 6, "not text"),
            ("role-order", 7, "before anybody asked"),
            ("format-mixed", 8, "text"),
            ("target-empty", 10, "`text`"),
            ("content-type", 11, "a number"),
        ),
        7,
    ),
    "the same again": Ugly(
        "rows.jsonl",
        lines(GOOD[0], GOOD[1], GOOD[0], "", GOOD[0], "", " "),
        (("duplicate-row", 3, "line 1"), ("duplicate-row", 5, "line 1")),
        4,
    ),
    "almost the same, and a column twice": Ugly(
        "rows.jsonl",
        lines(
            pair("Tell me about the long road to the sea", "It winds through hills and woods, then falls down to the water far below."),
            pair("Tell me about the long road to the sea", "It winds through hills and woods, then falls down to the water far below!"),
            '{"prompt": "a", "completion": "b", "completion": "c"}',
        ),
        (("near-duplicate", 2, "row 1"), ("duplicate-key", 3, "`completion`")),
        3,
    ),
    "what nobody should learn": Ugly(
        "rows.jsonl",
        lines(
            pair("Who?", "Write to jane.doe@acme-corp.de"),
            pair("Key?", "AKIA" + "ABCDEFGHIJKLMNOP"),
            pair("Whom?", "Write to me@example.com"),
        ),
        (("personal-email", 1, "jane.doe@acme-corp.de"), ("key-secret", 2, "AWS")),
        3,
    ),
    "enormous lines": Ugly(
        "rows.jsonl",
        lines(GOOD[0], pair("a", "x" * 1_200_000), pair("b", "y" * (17 << 20)), GOOD[1]),
        (("line-long", 2, "1,200,"), ("line-enormous", 3, "18 MB")),
        3,
    ),
    "nested without end": Ugly(
        "rows.jsonl", lines(GOOD[0], "[" * 100_000, '{"prompt": "a", "completion": ' + "[" * 900 + "]" * 900 + "}"),
        (("json-depth", 2, "deep"), ("content-type", 3, "a list")), 1,
    ),
    "a list that stops being one": Ugly(
        "rows.json",
        ("[\n" + ",\n".join(GOOD[:3]) + "\n" + GOOD[3] + "]").encode(),
        (("json-array-broken", 5, "a comma is missing between two rows"),),
        3,
    ),
    "a list cut short": Ugly(
        "rows.json", ("[\n" + ",\n".join(GOOD)).encode()[:-9], (("json-truncated", 6, "not closed"),), 4
    ),
    "a table with loose fields": Ugly(
        "rows.csv",
        b'prompt;completion\n"a;b";c\nd;e;f\ng\n"h\ni";j\nk;\n"l;m\n',
        (("csv-fields", 3, "3 fields"), ("csv-fields", 4, "1 field"), ("target-empty", 7, "empty"), ("csv-broken", 8, "never ends")),
        2,
    ),
    "packed and cut": Ugly(
        "rows.jsonl.gz", gzip.compress(lines(*(pair(f"{n} {n * n}", f"{n**3} {n**5}") for n in range(400))))[:-900], (("gzip-broken", 0, "to its end"),), -1
    ),
    "preference pairs": Ugly(
        "rows.jsonl", lines(line({"prompt": "a", "chosen": "b", "rejected": "c"})), (("preference", 1, "preference"),), 0
    ),
}  # fmt: skip
