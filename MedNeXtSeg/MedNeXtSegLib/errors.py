"""What goes wrong in the module itself, in words for the person."""

from __future__ import annotations


class UserError(Exception):
    """One sentence that names the cause, and a hint of what to do next (may be empty)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class CancelledError(UserError):
    """The run was stopped as asked, or because what it worked on went away."""
