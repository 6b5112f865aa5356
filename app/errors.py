"""One shape for every failure a person can meet, whichever room it comes from."""

from __future__ import annotations

from app.api.schema import Action, Problem
from env_manager.errors import EnvError
from trainer.errors import TrainError


class AppError(Exception):
    """A failure of the app itself: code, plain message, remedy."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy


KNOWN = (AppError, EnvError, TrainError)

# The click that mends a problem, where one click can.
_ACTIONS: dict[str, Action] = {
    "no-environment": "install",
    "environment-broken": "rollback",
    "interpreter-missing": "install",
    "active-missing": "rollback",
}


def problem(code: str, message: str, remedy: str, action: Action | None = None) -> Problem:
    """The problem as the page shows it, with the click that was told or that its code has."""
    return Problem(code=code, message=message, remedy=remedy, action=action or _ACTIONS.get(code))


def problem_of(error: AppError | EnvError | TrainError) -> Problem:
    """The problem behind an exception of any room."""
    return problem(error.code, error.message, error.remedy)
