"""Print the OpenAPI document that the page's types are generated from: `python -m app.api.openapi`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from app.operations import Operations
from app.paths import Home
from app.server import build_api


def document() -> str:
    """The document as JSON, the same on every machine."""
    with tempfile.TemporaryDirectory() as folder:
        return json.dumps(build_api(Operations(Home(Path(folder)))).openapi(), indent=1, sort_keys=True)


if __name__ == "__main__":
    print(document())
