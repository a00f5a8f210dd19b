"""Steps: how a queue is changed, whatever code of the program runs in the middle.

A step, such as an attempt with its accounting, is protected against KeyboardInterrupt and never yields. The program's
own code can still run in the middle of it: a finaliser, a signal handler, a buffer's ``__buffer__``, a port. What such
code asks for is noted and done at the end of the step, in the order in which it was asked for, so no step ever meets a
queue that changes under its hands. A start that was noted is answered "pending". A stop that was noted forbids the step
any further system call, so it takes effect before the next one; where all bytes have been accepted by then, completion
wins. The bit STEP of the gate says that a step is under way, and closes the fast path.

*No task is woken where none runs, or before it sleeps.* A signal handler or a finaliser may also strike in Trio's own
loop, between two tasks, where Trio's lists are not fit to be changed; or in a task that has begun to wait for the
socket and does not sleep yet. What would wake a task then is noted in the same way, and done as soon as Trio runs
something: the step is held until then.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from .._base.run_state import nobody_may_be_woken, run_soon
from .._tracing.instruments import NOBODY, Instruments
from .gate import NOTED, STEP

if TYPE_CHECKING:
    from collections.abc import Callable

    from .operation import Owner

T = TypeVar("T")


class Steps(abc.ABC):
    """What can be changed in steps alone."""

    __slots__ = ("gate", "halted", "held", "instruments", "notes", "watcher")

    def __init__(self) -> None:
        self.gate = 0
        #: What was asked for in the middle of a step, to be done at its end; None until there was something.
        self.notes: list[Callable[[], object]] | None = None
        #: Whether the step may make no more system calls, because a stop was noted.
        self.halted = False
        #: Whether the step is over but for what has to wait until Trio runs something.
        self.held = False
        #: Who is told of what happens here.
        self.instruments: Instruments = NOBODY
        #: Who has been asked to watch the socket. Always the owner of the head, None when there is no head.
        self.watcher: Owner | None = None

    @abc.abstractmethod
    def look_after(self) -> None:
        """Have the right owner watch, after operations may have ended, and those told who wait for room."""

    def _note(self, action: Callable[[], object], *, halts: bool = True) -> None:
        """Have something done at the end of the step that is under way."""
        if self.notes is None:
            self.notes = []
        self.notes.append(action)
        self.gate |= NOTED
        if halts:
            self.halted = True

    def _leave(self) -> None:
        """End a step: do what was noted in the middle of it."""
        if not self.gate & NOTED and not self.held:
            # Nothing is called between the look and this, so nothing can have been noted.
            self.gate &= ~STEP
        elif not self.held and not self._hold():
            self._do_noted()

    def _do_noted(self) -> None:
        try:
            while self.gate & NOTED:
                # In this order: what is noted from here on is either in the list already or brings another round.
                self.gate &= ~NOTED
                self.halted = False
                while self.notes:
                    self.notes.pop(0)()
        except BaseException:  # of a port of the program's own
            # The others are done all the same, and the step ends, or everybody would wait for that for ever.
            self.gate |= NOTED
            self._do_noted()
            raise
        # Nothing is called between the last look and this, so nothing can have been noted.
        self.gate &= ~STEP

    def _tell(self) -> None:
        """Let everybody know who watches, now that the queue is fit to be seen."""
        if self.instruments.watching:
            self.instruments.tell()

    def _hold(self) -> bool:
        """Put off the rest of the step until Trio runs something, if it must be; return whether that is so."""
        self.held = nobody_may_be_woken() and run_soon(self._finish_held)
        return self.held

    @trio.lowlevel.enable_ki_protection
    def _finish_held(self) -> None:
        """Go on with the step that is held; harmless if somebody else has done so."""
        if self.held:
            self.held = False
            self.look_after()
            self._do_noted()
            self._tell()

    def _take_over(self) -> bool:
        """Finish the step that is under way if it is merely held; return whether the queue is free."""
        if not self.held or nobody_may_be_woken():
            return False
        self._finish_held()
        return True

    @trio.lowlevel.enable_ki_protection
    def request(self, action: Callable[[], object], *, halts: bool = True) -> bool:
        """Do something as a step of its own: now, or at the end of the step that is under way.

        Args:
          action: what to do. It may be done where no step is under way but this one.
          halts: whether a step that is under way may make no system call before.

        Returns:
          Whether it was done now.
        """
        if self.gate & STEP and not self._take_over():
            self._note(action, halts=halts)
            return False
        self.gate |= STEP
        self.halted = False
        if self._hold():
            self._note(action, halts=halts)
            return False
        try:
            action()
        finally:
            self._leave()
        self._tell()
        return True

    def ask(self, call: Callable[..., T], *args: Any) -> T:
        """Make a system call, or something that makes one; unless a stop was noted, which is like a want of room."""
        if self.halted:
            raise BlockingIOError
        return call(*args)
