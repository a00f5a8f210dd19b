"""The limits of one operation: how long it may be pending, and how long it may stand still."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from .._base.error_numbers import TIMED_OUT

if TYPE_CHECKING:
    from .operation import Operation


class Timer:
    """Something that is due at some time."""

    __slots__ = ()

    def is_live(self) -> bool:
        """Tell whether it still matters."""
        raise NotImplementedError

    def due(self) -> float:
        """Return when it is due, by Trio's clock."""
        raise NotImplementedError

    def fire(self) -> None:
        """Do what is to be done when it is due."""
        raise NotImplementedError


class TimeLimit(Timer):
    """The limits of one activation of an operation.

    Args:
      timeout: seconds from now until it must have ended.
      stall_timeout: seconds without an accepted byte, counted only while it heads its queue.
    """

    __slots__ = ("_ends_at", "_moved_at", "_operation", "_stall_timeout", "_timeout")

    def __init__(self, operation: Operation, timeout: float, stall_timeout: float) -> None:
        #: None once the activation is over: the heap must not keep its buffer alive.
        self._operation: Operation | None = operation
        self._timeout = timeout
        self._stall_timeout = stall_timeout
        self._ends_at = trio.current_time() + timeout
        #: When the last byte was accepted, or the head of the queue was reached.
        self._moved_at = math.inf

    def moved(self) -> None:
        """Note that the operation has come to the head, or that bytes of it were accepted."""
        self._moved_at = trio.current_time()

    def over(self) -> None:
        """Forget the operation, which has ended."""
        self._operation = None

    def is_live(self) -> bool:
        return self._operation is not None

    def due(self) -> float:
        return min(self._ends_at, self._moved_at + self._stall_timeout)

    def fire(self) -> None:
        if self._ends_at <= trio.current_time():
            why = f"it was not finished {self._timeout:g} s after its start"
        else:
            why = f"no byte was accepted for {self._stall_timeout:g} s"
        operation = self._operation
        if operation is not None:  # else it has ended at this very moment
            assert operation.queue is not None
            operation.queue.stop(operation, TIMED_OUT, why)
