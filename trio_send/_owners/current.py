"""Whose operations are started in the current context."""

from __future__ import annotations

import contextvars
from threading import get_ident
from typing import TYPE_CHECKING, Final

from .._base.errors import InvalidOperationError

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


def require_owner() -> ExitingOwner:
    """Return the owner that operations started here belong to, or raise."""
    owner = find_owner()
    if owner is None:
        raise InvalidOperationError(
            "no initiator is open here to own the operation; start it inside "
            "'async with trio_send.open_initiator():', or use the awaiting form, which needs none; a callback that is "
            "called from outside of that block starts it with initiator.run_sync()",
        )
    if get_ident() != owner.trio_thread:
        raise InvalidOperationError(
            "the initiator that this thread has inherited lives in the Trio thread; from here, start operations with "
            "trio_send.from_thread.start(), for which it is the host",
        )
    if owner.budget < 0 or not owner.is_host:  # else nothing was refused there
        owner.require_open()
    return owner
