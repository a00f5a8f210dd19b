"""Threads that are not Trio's: how long each lasts, whose host serves it, and how it waits.

A start needs somebody to own it. Where the program has not said who, in a ``with`` block, that is the thread, for as
long as it lasts; and this is how that is found out:

*A thread of the program* lasts until it ends. Python clears a thread's `threading.local` values when it does, before
`threading.Thread.join` returns (on 3.10 to 3.13, and however the thread ends). So a value that nobody else refers to is
finalised then.

*A call of* `trio.to_thread.run_sync` lasts until it returns; its thread goes on to the next call. Nothing tells of that
but this: Trio names the thread after each call while it runs, and takes the name back when the function has returned or
raised, before anybody is told. So the name is replaced by an equal one that is finalised when it is taken back. What is
posted then is taken in before the task goes on that has waited for the call.

Somebody may refer to the name for longer, such as a log that keeps its records. So which call this is stands in a
context variable as well, because Trio runs each call in a context of its own and drops that when the call is over; only
a copy of it, or the traceback of an exception that left the call, could keep it. Then the call's sends end when both
are gone; at the latest, as all others, with their host. A ``with`` block is exact in every case.

The finalisers work by reference counts alone, and none waits for anything: they may run in the Trio thread, which would
have to do what they waited for.
"""

from __future__ import annotations

import contextvars
import math
import sys
import threading
import time
import weakref
from _thread import interrupt_main
from threading import get_ident
from typing import TYPE_CHECKING, Final

import trio

from .._base.errors import InvalidOperationError
from .._base.interrupts import one_step, quietly
from .._base.wait_handle import enlist, withdraw
from .._owners.current import current_owner, find_owner
from .._owners.initiator import Initiator, owner_of
from .._owners.scope_owner import ScopeOwner
from .._owners.thread_owner import ThreadOwner

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from .._base.wait_handle import WaitHandle
    from .._owners.exiting_owner import ExitingOwner

#: Trio tells a thread that its call of `trio.to_thread.run_sync` was cancelled when it is asked, and only then; so a
#: thread that blocks asks this often, in seconds. One that asks costs 0.2 % of a core.
POLL: Final = 0.05


def require_plain_thread(name: str, instead: str) -> None:
    """Raise if this thread runs Trio, where ``instead`` is to be called."""
    if trio.lowlevel.in_trio_run():
        raise InvalidOperationError(
            f"from_thread.{name}() is for threads that do not run Trio; in this one, {instead}"
        )


def is_trio_call() -> bool:
    """Tell whether this is a call of `trio.to_thread.run_sync`, rather than a thread of the program's own."""
    try:
        trio.from_thread.check_cancelled()
    except RuntimeError:
        return False
    except trio.Cancelled:
        pass
    return True


# Whose sends these are ------------------------------------------------------------------------------------------------


class _Life:
    """What the life of a thread, or of a call, holds on to; when it is finalised, the thread or call is over."""

    __slots__ = ("__weakref__", "_why", "ident", "is_over", "owners")

    def __init__(self, why: str) -> None:
        self._why = why
        self.ident = get_ident()
        self.is_over = False
        #: The implicit owners, by host.
        self.owners: dict[ScopeOwner, ThreadOwner] = {}

    def owner(self, host: ScopeOwner) -> ThreadOwner:
        """Return the implicit owner that ``host`` serves."""
        found = self.owners.get(host)
        if found is None or found.host is not host:
            # A thread that outlives many hosts must not keep them.
            for past, owner in list(self.owners.items()):
                if owner.host.has_exited:
                    del self.owners[past]
            name = f"thread {threading.current_thread().name}"
            found = self.owners[host] = ThreadOwner(host, name=name)
        return found

    @one_step
    def end(self) -> None:
        """Have the sends of the implicit owners end."""
        self.is_over = True
        while self.owners:
            _, owner = self.owners.popitem()
            owner.post_end(self._why)

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # At the end of the process daemon threads stop where they are, with the locks that they hold. The one that runs
        # Trio may hold the lock of Trio's way in for other threads, and whoever wakes it then would wait for ever.
        # And Ctrl-C may have struck before there was anything to end.
        if not is_finalizing() and hasattr(self, "owners"):
            _ = [*map(interrupt_main, quietly(self.end))]


class _Name(str):
    """The name of a thread while it runs a call; equal to what it was."""

    __slots__ = ("_life",)

    #: Weak, or whoever keeps the name would keep the life.
    _life: weakref.ref[_Life]

    def __new__(cls, name: str, life: _Life) -> Self:
        made = super().__new__(cls, name)
        made._life = weakref.ref(life)
        return made

    def __str__(self) -> str:
        return self  # `threading.Thread` keeps the string that the name says it is

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return str, (str.__str__(self),)

    def __del__(self) -> None:
        # Unless the thread was just given another name in the middle of its call.
        life = self._life()
        if life is not None and life.ident == get_ident() and not is_trio_call():
            life.end()


class _Locals(threading.local):
    life: _Life | None = None


_locals: Final = _Locals()
_call: Final[contextvars.ContextVar[_Life | None]] = contextvars.ContextVar(
    "trio_send.call", default=None
)

#: The innermost ``with`` block, and in which thread it is; a copy of the context may be anywhere.
_entered: Final[contextvars.ContextVar[tuple[int, ThreadOwner] | None]] = contextvars.ContextVar(
    "trio_send.thread_initiator", default=None
)


def _current_life() -> _Life:
    if is_trio_call():
        life = _call.get()
        if life is None or life.is_over or life.ident != get_ident():
            life = _Life("the call of trio.to_thread.run_sync() that started it is over")
            _call.set(life)
            thread = threading.current_thread()
            thread.name = _Name(thread.name, life)
        return life
    life = _locals.life
    if life is None:
        life = _locals.life = _Life("the thread that started it has exited")
    return life


def entered_owner() -> ThreadOwner | None:
    """Return the owner of the innermost ``with`` block of this thread."""
    entered = _entered.get()
    if entered is None or entered[0] != get_ident():
        return None
    owner: ExitingOwner | None = entered[1]
    while owner is not None and owner.adopted_by is not None:
        owner = owner.adopted_by
    return owner if isinstance(owner, ThreadOwner) and not owner.has_exited else None


def enter(owner: ThreadOwner) -> contextvars.Token[tuple[int, ThreadOwner] | None]:
    """Have the sends that this thread starts belong to ``owner``."""
    return _entered.set((get_ident(), owner))


leave: Final = _entered.reset


def find_host(host: Initiator | None, name: str) -> ScopeOwner:
    """Return who serves this thread: ``host``, or who was inherited."""
    if host is not None and not isinstance(host, Initiator):
        raise TypeError(
            f"host must be what 'async with trio_send.open_initiator()' gave, not {type(host).__name__}"
        )
    found: ExitingOwner | None = find_owner() if host is None else owner_of(host)
    if found is None:
        raise InvalidOperationError(
            f"no initiator serves this thread; pass one that is open as host= to from_thread.{name}(), or start the "
            "thread with trio.to_thread.run_sync() inside 'async with trio_send.open_initiator():'",
        )
    while found.adopted_by is not None:
        found = found.adopted_by
    served_by = found.host
    assert isinstance(served_by, ScopeOwner)
    if served_by.is_closed:
        raise InvalidOperationError(
            "the initiator that would serve this thread has exited, and perhaps its run of Trio with it; "
            "pass host= one that is open",
        )
    return served_by


def find_thread_owner(host: Initiator | None, name: str) -> ThreadOwner:
    """Return who owns what this thread starts."""
    entered = entered_owner()
    if entered is not None and (host is None or owner_of(host) is entered.host):
        return entered
    return _current_life().owner(find_host(host, name))


def prepare_for_handlers(owner: ThreadOwner) -> None:
    """Make the current context one for the handlers of a send: what they start belongs to ``owner`` as well."""
    current_owner.set(owner)
    _entered.set(None)
    _call.set(None)  # or the call could not be over before its sends are


# Waiting --------------------------------------------------------------------------------------------------------------


def wait(handle: WaitHandle, timeout: float = math.inf, *, cancellable: bool = True) -> bool:
    """Block until a flag is set, for at most ``timeout`` seconds; return whether it was.

    Raises:
      trio.Cancelled: if ``cancellable``, this is a call of `trio.to_thread.run_sync`, and was cancelled.
    """
    lock = threading.Lock()
    lock.acquire()
    try:
        if enlist(handle, lock) or _acquire(lock, timeout, polls=cancellable and is_trio_call()):
            return True
        return withdraw(handle, lock)
    except BaseException:
        withdraw(handle, lock)
        raise


def _acquire(lock: threading.Lock, timeout: float, *, polls: bool) -> bool:
    ends_at = time.monotonic() + timeout
    while True:
        if polls:
            trio.from_thread.check_cancelled()
        left = min(max(0.0, ends_at - time.monotonic()), threading.TIMEOUT_MAX)
        if lock.acquire(timeout=min(left, POLL) if polls else left):
            return True
        if left == 0.0:
            return False
