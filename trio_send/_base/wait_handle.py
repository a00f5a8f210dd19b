"""`WaitHandle` and `ManualResetEvent`: .NET's waitable flags, for Trio tasks and for other threads.

A flag may be set in one thread while another begins to wait for it. So whoever waits first says so and then looks at
the flag, and whoever sets it first sets it and then looks who waits: one of the two sees the other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, final

import trio

from .checks import NotCopied, require_seconds
from .interrupts import one_step
from .waiting_tasks import WaitingTasks

if TYPE_CHECKING:
    import threading


class WaitHandle(NotCopied):
    """A flag that can be waited for, as the page's ``WaitHandle`` is (F070, F071).

    `AsyncResult.async_wait_handle` is one; make a `ManualResetEvent` for a flag of your own. Tasks call `wait_one`,
    threads other than Trio's `trio_send.from_thread.wait_one`.
    """

    __slots__ = ("_blocked", "_is_set", "_lot", "_tasks", "_token")

    def __init__(self) -> None:
        self._is_set = False
        self._lot = WaitingTasks(None)
        #: How many tasks wait or are about to, and in which run.
        self._tasks = 0
        self._token: trio.lowlevel.TrioToken | None = None
        #: A lock for each thread that waits, released when the flag is set.
        self._blocked: list[threading.Lock] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'set' if self._is_set else 'not set'}, {len(self._lot)} waiting>"

    @one_step
    def _signal(self) -> None:
        self._is_set = True
        while self._blocked:
            try:
                self._blocked.pop().release()
            except IndexError:
                break  # its thread has just given up
        if self._tasks:
            assert self._token is not None
            if trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token:
                self._wake()
            else:
                try:
                    self._token.run_sync_soon(self._wake)
                except trio.RunFinishedError:
                    pass  # and its tasks with it

    def _wake(self) -> None:
        self._lot.wake(None)

    def _enlist(self, lock: threading.Lock) -> bool:
        """Have a lock released when the flag is set; return whether it is set, and so need not be."""
        self._blocked.append(lock)
        if self._is_set:
            self._withdraw(lock)
            return True
        return False

    def _withdraw(self, lock: threading.Lock) -> bool:
        """Wait with ``lock`` no more; return whether the flag was set meanwhile."""
        try:
            self._blocked.remove(lock)
        except ValueError:
            return True
        return False

    @trio.lowlevel.enable_ki_protection
    async def wait_one(self, timeout: float = math.inf) -> bool:
        """Wait until the flag is set.

        Args:
          timeout: how many seconds to wait at most.

        Returns:
          True when the flag is set, False when ``timeout`` ran out first.

        Raises:
          TypeError: ``timeout`` is no number.
          ValueError: ``timeout`` is negative or NaN.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`; the flag and the operation behind it are untouched.

        **Threads**: only from inside Trio; elsewhere, `trio_send.from_thread.wait_one`.

        Source: the `begin_send` page's ``WaitHandle::WaitOne``.
        """
        timeout = require_seconds("timeout", timeout)
        self._token = trio.lowlevel.current_trio_token()
        self._tasks += 1
        try:
            if self._is_set:
                await trio.lowlevel.checkpoint()
                return True
            with trio.move_on_after(timeout):
                await self._lot.wait(lambda: self._is_set)
                return True  # it was set, even if it has been reset since
        finally:
            self._tasks -= 1
        # It may have been set in the very step in which the time ran out.
        return self._is_set


@final
class ManualResetEvent(WaitHandle):
    """A flag that stays set until it is reset, as the page's ``ManualResetEvent`` is.

    Args:
      initial_state: whether the flag starts set.
    """

    __slots__ = ()

    def __init__(self, initial_state: bool = False) -> None:
        super().__init__()
        self._is_set = initial_state

    def set(self) -> None:
        """Set the flag and wake everybody who waits for it.

        **Threads**: from any.
        """
        self._signal()

    def reset(self) -> None:
        """Clear the flag.

        **Threads**: from any.
        """
        self._is_set = False


def signal(handle: WaitHandle) -> None:
    """Set a flag for good, because what it stands for has ended."""
    handle._signal()


def enlist(handle: WaitHandle, lock: threading.Lock) -> bool:
    """Have a lock released when a flag is set; return whether it is set already."""
    return handle._enlist(lock)


def withdraw(handle: WaitHandle, lock: threading.Lock) -> bool:
    """Give up waiting for a flag; return whether it was set meanwhile."""
    return handle._withdraw(lock)
