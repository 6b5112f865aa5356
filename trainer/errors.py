"""What a run can fail with: a stable code, a plain message, and what to do."""

from __future__ import annotations


class TrainError(Exception):
    """A failure the user can act on; shown without a traceback."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy
