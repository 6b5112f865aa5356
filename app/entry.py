"""Where the `fettle` command begins: Ctrl-C ends it without a traceback also while its modules are being loaded."""

from __future__ import annotations

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Load the command line and run it."""
    # Where the shell had Ctrl-C ignored it stays so.
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from app.cli import main as run

    if heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()
