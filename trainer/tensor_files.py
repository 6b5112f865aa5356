"""Safetensors files whose failures are the system's own errors."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EIO

from safetensors import SafetensorError


@contextmanager
def system_errors() -> Iterator[None]:
    """Raise the OSError that safetensors has wrapped into words of its own, such as that of a full disk."""
    try:
        yield
    except SafetensorError as error:
        found = re.search(r"os error (\d+)", str(error))
        if found is None:
            raise OSError(EIO, str(error)) from error
        number = int(found[1])
        text = os.strerror(number)
        raise (OSError(0, text, None, number) if sys.platform == "win32" else OSError(number, text)) from error
