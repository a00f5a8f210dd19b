"""Whose operations are started in the current context."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .exiting_owner import ExitingOwner

#: Whose operations are started in the current context.
current_owner: Final[contextvars.ContextVar[ExitingOwner]] = contextvars.ContextVar(
    "trio_send.initiator"
)


#: The fast path's way to it; None where there is none.
get_owner: Final = current_owner.get


def find_owner() -> ExitingOwner | None:
    """Return the owner of what is started in the current context, or who has taken over from it."""
    owner = current_owner.get(None)
    while owner is not None and owner.adopted_by is not None:
        owner = owner.adopted_by
    return owner
