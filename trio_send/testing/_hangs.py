"""A step that does not end: a loop without a checkpoint, which no cancel can reach.

A thread looks now and then whether a run still makes steps. If one step has used seconds of processor time, an
exception is raised in the middle of it, from outside. Only CPython can do that, and it does so between two instructions
of Python: a call that never returns stays one.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, final

from ._places import place_of_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._places import Place

#: After how many seconds of processor time a step is held not to end, and how often somebody looks.
PATIENCE = 5.0
INTERVAL = 0.5


class Hung(BaseException):
    """Raised in the middle of a step that does not end."""


class _Run(Protocol):
    """What is watched."""

    @property
    def step(self) -> object:
        """Something that is equal for as long as a step goes on; None while there is none."""

    def hangs(self, place: Place | None) -> None:
        """Take note that the current step does not end; called from another thread."""


@final
class _Watched:
    def __init__(self, run: _Run) -> None:
        self.run = run
        self.step: object = None
        self.since = 0.0
        #: Whether something was raised in this thread, which may not have come out yet.
        self.is_struck = False


_watched: dict[int, _Watched] = {}
_lock = threading.Lock()
_thread: threading.Thread | None = None


def is_watch(thread: threading.Thread) -> bool:
    """Tell whether a thread is the one that looks, which wakes nobody."""
    return thread is _thread


def _raise_in(ident: int) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(Hung))


def _take_what_is_on_its_way() -> None:
    """Have what was raised in this thread come out, if it did not yet.

    CPython can forget such an exception by `PyThreadState_SetAsyncExc(ident, None)`, but not the note that there is
    one. From then on its eval loop looks for it at each jump, and never ends if a profiler is on (seen with 3.11). So
    the exception is raised once more, in the place of an earlier one, and caught.
    """
    try:
        _raise_in(threading.get_ident())
        while True:
            pass
    except Hung:
        pass


def _look() -> None:
    now = time.process_time()
    for ident, watched in _watched.items():
        step = watched.run.step
        if step is None or step != watched.step:
            watched.step, watched.since = step, now
        elif now - watched.since > PATIENCE:
            watched.since = now  # should the program swallow it, it is raised again
            frame = sys._current_frames().get(ident)
            watched.run.hangs(place_of_frame(frame))
            watched.is_struck = True
            _raise_in(ident)


def _look_for_ever() -> None:
    while True:
        time.sleep(INTERVAL)
        with _lock:
            if not _watched:
                return
            _look()


def _leave(ident: int, own: _Watched) -> None:
    while ident in _watched or own.is_struck:
        try:
            with _lock:
                _watched.pop(ident, None)
            if own.is_struck:
                _take_what_is_on_its_way()
                own.is_struck = False
        except Hung:  # it has come out here
            pass


@contextmanager
def watched(run: _Run) -> Iterator[None]:
    """Have an exception raised in this thread if a step of a run does not end."""
    global _thread
    if sys.implementation.name != "cpython":
        yield
        return
    ident = threading.get_ident()
    own = _Watched(run)
    with _lock:
        _watched[ident] = own
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(
                target=_look_for_ever, name="looks for steps that do not end", daemon=True
            )
            _thread.start()
    try:
        yield
    finally:
        _leave(ident, own)
