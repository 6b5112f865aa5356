"""The page's types and the server's OpenAPI document belong together."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from app.api.openapi import document

TYPES = Path(__file__).parents[2] / "ui" / "src" / "lib" / "schema.ts"


def test_page_types_were_generated_from_the_document_that_the_server_has_now() -> None:
    """The hash in the generated file is that of today's document; after a change run `uv run npm --prefix ui run types`."""
    found = re.search(r"SHA-256 ([0-9a-f]{64})", TYPES.read_text(encoding="utf-8"))
    assert found
    assert found[1] == hashlib.sha256(document().strip().encode()).hexdigest()


def test_no_two_records_share_a_name() -> None:
    """Else both are renamed after their modules, and the page no longer knows either."""
    assert not re.findall(r'"app__\w+"', document())
