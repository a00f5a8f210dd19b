"""Ctrl-C in a thread that runs no Trio.

In the main thread Python raises KeyboardInterrupt where a function begins, behind a call of a function that is written
in C, and where a loop goes round. Where that thread runs Trio, what must not be left in the middle is marked with
`trio.lowlevel.enable_ki_protection`, which costs nothing at a call, and Trio keeps the interrupt for later. Where Trio
runs in another thread, or has yet to run, nobody looks at the marks: Python's own handler raises at once.

There a handler of ours takes the place of Python's for as long as a step lasts. It takes note of the interrupt, which
is repeated when the step is done. A handler is set in one step itself: what is struck before it has changed nothing
yet.
"""

from __future__ import annotations

import threading
from _signal import (  # type: ignore[import-not-found]  # what `signal` wraps, without enums
    SIGINT,
    getsignal,
    signal as set_handler,
)
from _thread import interrupt_main
from functools import wraps
from threading import get_ident
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    Handler = Callable[[int, Any], object]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _handler_to_replace() -> Handler | None:
    """Return the handler of Ctrl-C if it may raise in this thread, which runs no Trio; None otherwise."""
    if get_ident() != threading.main_thread().ident:
        return None
    handler: Handler | None = getsignal(SIGINT)
    return handler if callable(handler) else None


def one_step(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Make a synchronous function one step for Ctrl-C, whichever thread calls it.

    An interrupt comes right behind the step, in the code of whoever has called it. The function should not wait in a
    thread that runs no Trio, because whoever presses Ctrl-C would wait with it. What it costs there is two system calls
    in the main thread, and little in any other.
    """

    @trio.lowlevel.enable_ki_protection
    def step(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        # Where Trio runs, the mark does.
        handler = None if trio.lowlevel.in_trio_run() else _handler_to_replace()
        if handler is None:
            return function(*args, **kwargs)
        kept: list[Any] = []
        try:
            set_handler(SIGINT, lambda *_: kept.append(SIGINT))
            return function(*args, **kwargs)
        finally:
            set_handler(SIGINT, handler)
            # Python looks at signals behind a call, and this is none: a list is filled, and then the step is over.
            _ = [*map(interrupt_main, kept)]

    return wraps(function)(step)


def _be_interrupted() -> None:
    """Let Python look at signals, which it does where a function begins."""


def quietly(step: Callable[[], None]) -> list[Any]:
    """Take a step in a finaliser, out of which Python lets no exception, and hold the interrupt back.

    Args:
      step: what to do. It is done again if Ctrl-C strikes before it has begun, or behind it.

    Returns:
      What the finaliser has to pass to `interrupt_main` in the end, as `one_step` does.
    """
    struck: list[Any] = []
    while True:
        try:
            step()
            _be_interrupted()
            return struck
        except KeyboardInterrupt:
            struck = [SIGINT]
