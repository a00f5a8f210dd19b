"""How many connections there may be."""

from __future__ import annotations

import os
import resource

#: What everything else needs: the interpreter, the loops, the control connection.
SPARE = 200


def raise_limit() -> None:
    """Raise the limit of open files as far as it may be raised; receivers inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        pass  # macOS says that there is no limit, and refuses it


def room_for(wanted: int) -> int:
    """Return how many of the connections that are wanted can be opened."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    try:
        used = len(os.listdir("/dev/fd"))
    except OSError:
        used = SPARE
    return max(1, min(wanted, soft - used - SPARE))
