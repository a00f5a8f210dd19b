"""Ctrl-C and its like as a cancellation, so that what was under way can still be counted and told."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import trio

from .failures import Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

#: What a shell expects as the status of a command that a signal has ended is this plus the signal's number.
SIGNAL_STATUS = 128

#: The status after Ctrl-C.
INTERRUPTED = SIGNAL_STATUS + signal.SIGINT

_NAMES = {"SIGINT": "Ctrl-C", "SIGTERM": "SIGTERM", "SIGHUP": "SIGHUP"}


class Interruption:
    """Whether a signal has arrived.

    Attributes:
      signal: its number; None as long as none has.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def name(self) -> str:
        """What the user calls the signal that has arrived."""
        return "" if self.signal is None else _NAMES[signal.Signals(self.signal).name]

    @property
    def status(self) -> int:
        """The exit status that tells the shell of the signal."""
        return SIGNAL_STATUS + (self.signal or 0)


def _signals() -> list[int]:
    """Return the signals to listen to: those that would end the process now."""
    if threading.current_thread() is not threading.main_thread():
        return []  # only the main thread may
    # A signal that is ignored is so on purpose, as by nohup. None stands for a handler that Python cannot put back.
    leave_alone = (signal.SIG_IGN, None)
    return [
        getattr(signal, name)
        for name in _NAMES
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) not in leave_alone
    ]


@asynccontextmanager
async def interruptible() -> AsyncIterator[Interruption]:
    """Run the body until a signal arrives; then cancel it and go on behind it.

    Unlike a `KeyboardInterrupt`, which may strike between any two instructions, a cancellation comes where the body
    waits. Further signals are ignored, also behind it, because the command is on its way out and has something to say.
    An exception of the body leaves as it is, not wrapped in a group.
    """
    interruption = Interruption()
    error: Exception | None = None
    # Whatever is heard in addition when the receiver is closed is dropped then.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _signals()}
    try:
        with ExitStack() as stack:
            arriving = stack.enter_context(trio.open_signal_receiver(*before)) if before else None
            async with trio.open_nursery() as nursery:
                with trio.CancelScope() as scope:
                    if arriving is not None:
                        nursery.start_soon(_listen, arriving, interruption, scope)
                    try:
                        yield interruption
                    except Exception as raised:
                        error = raised
                nursery.cancel_scope.cancel()
    finally:
        if interruption.signal is None:
            for number, handler in before.items():
                signal.signal(number, handler)
    if error is not None:
        try:
            raise error
        finally:
            del error


async def _listen(
    arriving: AsyncIterator[int], interruption: Interruption, scope: trio.CancelScope
) -> None:
    async for number in arriving:
        if interruption.signal is None:
            interruption.signal = number
            scope.cancel(reason=f"{interruption.name} was received")


@contextmanager
def hearing_as_before() -> Iterator[None]:
    """Have signals handled behind the body as they are now, although the body may have made the process ignore them."""
    before = {number: signal.getsignal(number) for number in _signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """Make the process ignore signals for the rest of its life; Python would show a traceback while it exits."""
    for number in _signals():
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Keep signals from this thread, and from the processes that it starts, which cannot `ignore_signals` any earlier.

    A process inherits what its thread holds back. Otherwise a signal to a whole group, as from a terminal, could end
    one that has just been started.
    """
    if sys.platform == "win32":
        yield
        return
    numbers = [getattr(signal, name) for name in _NAMES]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def interrupted(interruption: Interruption) -> Failure:
    """Return the failure that ends a command which has nothing more to say about its interruption."""
    return Failure(f"interrupted by {interruption.name}", interruption.status)
