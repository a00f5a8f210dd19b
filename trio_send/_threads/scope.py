"""The ``with`` block that says how long a thread that does not run Trio owns its sends."""

from __future__ import annotations

import sys
from _thread import interrupt_main
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, final

from .._base.inbox import LOCK
from .._base.interrupts import one_step, quietly
from .._base.wait_handle import WaitHandle
from .._owners.exit_policy import ExitPolicy, require_policy
from .._owners.initiator import Initiator, ThreadInitiator, face_of, owner_of
from .._owners.thread_owner import ThreadOwner
from .lifetime import enter, entered_owner, find_host, leave, require_plain_thread, wait

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType

    from .._owners.exiting_owner import ExitingOwner

_INTERRUPTED: Final = "the wait at its exit was interrupted"


@final
class _ThreadScope:
    """The context manager that `initiator` returns."""

    __slots__ = ("_grace", "_host", "_name", "_on_exit", "_owner", "_token")

    #: There while the block is entered.
    _owner: ThreadOwner

    def __init__(
        self, host: Initiator | None, on_exit: ExitPolicy, grace: float | None, name: str | None
    ) -> None:
        self._host = host
        self._on_exit = on_exit
        self._grace = grace
        self._name = name

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # Ctrl-C may strike where `__exit__` begins, and then nothing of it is done.
        if hasattr(self, "_owner") and not is_finalizing():
            with suppress(ValueError):  # another context would not be concerned
                leave(self._token)
            end = partial(self._owner.post_end, _INTERRUPTED)
            _ = [*map(interrupt_main, quietly(end))]

    @one_step
    def __enter__(self) -> ThreadInitiator:
        require_plain_thread("initiator", "use 'async with trio_send.open_initiator():'")
        around = entered_owner()
        if around is not None and (self._host is None or owner_of(self._host) is around.host):
            host = around.host
        else:
            host = find_host(self._host, "initiator")
        adopter: ExitingOwner | None = None
        if self._on_exit is ExitPolicy.ADOPT:
            adopter = around if around is not None and around.host is host else host
        owner = ThreadOwner(host, self._on_exit, self._grace, self._name, adopter)
        with LOCK:
            owner.require_open()
        self._token = enter(owner)
        self._owner = owner
        face = face_of(owner)
        assert isinstance(face, ThreadInitiator)
        return face

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        owner = self._owner
        left = WaitHandle()
        why = (
            "its thread's initiator exited"
            if exc is None
            else "its thread was left by an exception"
        )
        try:
            leave(self._token)
            # Otherwise it has ended everything, and there may be no Trio left to ask.
            if not owner.host.has_exited and owner.inbox.post(
                partial(owner.begin_exit, left, why, exc is not None)
            ):
                wait(left)
        except BaseException:
            if not owner.host.has_exited and owner.inbox.post(
                partial(owner.give_up, left, _INTERRUPTED)
            ):
                wait(left, cancellable=False)
            raise
        finally:
            del self._owner


def initiator(
    host: Initiator | None = None,
    on_exit: ExitPolicy = ExitPolicy.ABORT,
    *,
    grace: float | None = None,
    name: str | None = None,
) -> AbstractContextManager[ThreadInitiator]:
    """Say how long this thread owns the sends that it starts, and what becomes of those that are pending then.

    Use it as ``with from_thread.initiator(host=...):``. Leaving it blocks the thread until every send that was started
    inside has ended and its synchronous handlers were called. Initiators of one thread nest; the innermost one owns.

    Args:
      host: the initiator that serves this thread. Not needed in threads that inherit one, as those of
        `trio.to_thread.run_sync` do, and inside another such block.
      on_exit: as for `open_initiator`. ADOPT hands over to the block around this one, or to the host.
      grace: as for `open_initiator`.
      name: what to call it in representations.

    Returns:
      A context manager whose value is the `ThreadInitiator`.

    Raises:
      TypeError: ``on_exit`` is not an `ExitPolicy`; at the entry, ``host`` is something else.
      ValueError: ``grace`` is missing, not finite, negative, or not for this policy.
      InvalidOperationError: at the entry, if this thread runs Trio, has no host, or its host has exited.

    **Checkpoints**: none, because this is no task. Entering never blocks, leaving does.

    **If cancelled**: if this is a call of `trio.to_thread.run_sync` that is cancelled while it waits at the exit, or if
    Ctrl-C strikes there, what is pending is stopped, everything is told, and the exception leaves the block. If the
    host is cancelled, its own policy ends what is pending here.

    **Threads**: only those that do not run Trio; in Trio, `open_initiator`.

    Source: the `begin_send` page, "All I/O initiated by a given thread is canceled when that thread exits" (F222).
    """
    require_policy(on_exit, grace)
    return _ThreadScope(host, on_exit, grace, name)
