"""How a clause says no."""

from __future__ import annotations

from isthmus.contracts.errors import RefusedError


def refuse_if(broken: bool, clause: str, message: str, next_step: str) -> None:
    """Raises RefusedError naming the clause, where it is broken. The message says nothing of records."""
    if broken:
        raise RefusedError(clause, message, next_step)
