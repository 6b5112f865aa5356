"""Remembers how large wheels are, so that an index is asked once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import astuple
from pathlib import Path

from env_manager import durable
from env_manager.fetching.wheels import UNKNOWN, WheelSize, measure
from env_manager.uv import Uv


class WheelSizes:
    """Sizes of wheels, kept in a file by their address: a wheel at an address never changes."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.known: dict[str, WheelSize] = {}
        try:
            stored = durable.read_json(file)
            sizes = {
                url: WheelSize(*row) for url, row in stored.items() if len(row) == len(WheelSize.__dataclass_fields__)
            }
            self.known = {url: size for url, size in sizes.items() if size.sound()}
        except (OSError, ValueError, TypeError, AttributeError):
            # Only a cache: what cannot be read is measured again.
            self.known = {}

    def of(self, urls: Iterable[str], uv: Uv) -> dict[str, WheelSize]:
        """The size of each wheel, asking the index only for those not seen before."""
        wanted = set(urls)
        new = {url for url in wanted - set(self.known) if not (uv.offline and url.startswith("http"))}
        fresh = measure(sorted(new), uv.environ, uv.cancelled)
        for url, size in fresh.items():
            if size.unpacked is not None:
                self.known[url] = size
        rows = {url: astuple(size) for url, size in sorted(self.known.items())}
        with suppress(OSError):  # what cannot be kept is measured again
            self.file.parent.mkdir(parents=True, exist_ok=True)
            durable.replace_text(self.file, json.dumps(rows))
        return {url: self.known.get(url) or fresh.get(url) or UNKNOWN for url in wanted}
