"""What a process that is forked off shares with the one that it comes from, and must leave alone.

The descriptors of a forked process are the same open sockets and epoll sets, not copies: to shut one down, to set an
option, to take an event from one, changes it for both. Objects that stand on one are told in each new process, before
anything else runs there, so that no call has to ask first which process it is in.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_told: Final[weakref.WeakKeyDictionary[Any, Callable[[Any], None]]] = weakref.WeakKeyDictionary()


def when_forked(thing: T, leave: Callable[[T], None]) -> None:
    """Have ``leave(thing)`` called in every process that is forked off while ``thing`` lives.

    Args:
      thing: what stands on a descriptor that both processes have then.
      leave: has it leave the descriptor alone from then on; a function that does not hold ``thing``.
    """
    _told[thing] = leave


def _tell() -> None:
    for thing, leave in tuple(_told.items()):
        leave(thing)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell)
