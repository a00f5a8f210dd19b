"""Whose operations are started in the current context."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .leaving_owner import Leaver

#: Whose operations are started in the current context.
current_owner: Final[contextvars.ContextVar[Leaver]] = contextvars.ContextVar("trio_send.initiator")


#: The fast path's way to the initiator; None where there is none.
get_initiator: Final = current_owner.get


def find_initiator() -> Leaver | None:
    """Return the initiator of the current context, or who has taken over from it."""
    initiator = current_owner.get(None)
    while initiator is not None and initiator._successor is not None:
        initiator = initiator._successor
    return initiator
