"""Who takes note of what happens in a world, each thing at a moment of its own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, final

import trio

from ._record import Record

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

if TYPE_CHECKING:
    from ._case import Case


@final
class Witness:
    """Numbers the moments of a world, and keeps its record.

    Args:
      case: of the world.

    Attributes:
      case: the same.
      record: what has happened so far.
      moments: how many there were.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.record: Record = Record()
        self.moments = 0
        self._raised: set[int] = set()

    def moment(self) -> int:
        """Return the next moment."""
        self.moments += 1
        return self.moments

    def now(self) -> tuple[int, float]:
        """Return the next moment and the time."""
        return self.moment(), trio.current_time()

    def moment_of_stop(self) -> int:
        """Return the moment from which on a stop that comes now is in effect."""
        # One from inside of a system call takes effect behind it: what the call accepts is the next moment, however
        # many stops there are.
        return self.moments + 1 if self.case._is_inside else self.moment()

    # What handlers raise ----------------------------------------------------------------------------

    def note_raised(self, error: Exception) -> None:
        """Take note that a handler raises something, which stops the initiator that it belongs to."""
        self._raised.add(id(error))
        self.record.raised.append(error)  # so nothing else gets its number
        for initiator in self.record.initiators:
            if initiator.left is None:
                initiator.was_raised = True

    def without_raised(self, error: BaseException | None) -> BaseException | None:
        """Take what handlers have raised out of what leaves an initiator, and note that it came."""
        if error is None or not self._raised:
            return error
        if not isinstance(error, BaseExceptionGroup):
            if id(error) not in self._raised:
                return error
            self.record.surfaced += 1
            return None
        parts = [self.without_raised(part) for part in error.exceptions]
        left = [part for part in parts if part is not None]
        return error.derive(left) if left else None
