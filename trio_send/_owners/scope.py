"""`open_initiator` and `current_initiator`: the scope of an initiator, from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import trio

from .._base.errors import InvalidOperationError
from .current import current_owner, find_owner, require_owner
from .exception_groups import combine, has_cancellation
from .exit_policy import ExitPolicy, require_policy
from .initiator import Initiator, face_of
from .scope_owner import ScopeOwner

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from .exiting_owner import ExitingOwner
    from .initiator import ThreadInitiator


def current_initiator() -> Initiator | ThreadInitiator:
    """Return the initiator that operations started here belong to.

    In a callback or handler of a send that another thread started, that is the thread's.

    Raises:
      InvalidOperationError: no initiator is open around the calling task, the one that it inherited has exited, or this
        is another thread, which has inherited it with a copied context.

    **Checkpoints**: never.

    **Threads**: only from inside Trio.
    """
    return face_of(require_owner())


@final
class _OpenInitiator:
    """The context manager that `open_initiator` returns."""

    __slots__ = ("_grace", "_manager", "_name", "_on_exit", "_owner", "_token")

    def __init__(self, on_exit: ExitPolicy, grace: float | None, name: str | None) -> None:
        self._on_exit = on_exit
        self._grace = grace
        self._name = name

    def _find_adopter(self) -> ExitingOwner | None:
        if self._on_exit is not ExitPolicy.ADOPT:
            return None
        adopter = find_owner()
        if adopter is None or adopter.has_exited or adopter.stopped is not None:
            raise InvalidOperationError(
                "ExitPolicy.ADOPT needs an enclosing initiator that is open, and here is none; "
                "open one around this one, or choose another policy",
            )
        return adopter

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> Initiator:
        adopter = self._find_adopter()
        self._manager = trio.open_nursery()
        nursery = await self._manager.__aenter__()
        self._owner = owner = ScopeOwner(nursery, self._on_exit, self._grace, self._name, adopter)
        # Before anybody can ask for it, as an instrument may in what follows.
        owner.face = initiator = Initiator(owner)
        self._token = current_owner.set(owner)
        # The tasks that serve it later run in a context of the entry, too, in which it is the one to be found.
        owner.entry.run(current_owner.set, owner)
        owner.instruments.enter(owner)
        # They inherit the context as it is here, not that of whoever happens to start the first pending operation.
        nursery.start_soon(owner.engine.run, name=f"{owner!r} engine")
        nursery.start_soon(owner.dispatcher.run, name=f"{owner!r} dispatcher")
        return initiator

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        owner = self._owner
        try:
            own = await owner.exit(exc)
        finally:
            current_owner.reset(self._token)
        # The nursery puts whatever passes through it into a group. It has to see cancellations, because they may be its
        # own; any other exception of the body's leaves as it came.
        passing = own.pop(0) if own and has_cancellation(own[0]) else None
        try:
            caught = await self._manager.__aexit__(
                None if passing is None else type(passing),
                passing,
                None if passing is None else passing.__traceback__,
            )
            escaped = None if caught else passing
        except BaseException as nursery_error:
            escaped = nursery_error
        final = combine(own, passing, escaped, owner.errors)
        owner.errors = []
        # They know the initiator too, and a scope that has been left should go away without the garbage collector.
        del owner.engine, owner.dispatcher, owner.timers, owner.entry
        owner.face = None
        try:
            if final is None:
                return True
            if final is exc:
                return False
            context = final.__context__
            try:
                raise final
            finally:
                final.__context__ = context
        finally:
            # A frame that holds the exception it raised is a cycle.
            del exc, passing, own, escaped, final, owner


def open_initiator(
    on_exit: ExitPolicy = ExitPolicy.ABORT,
    *,
    grace: float | None = None,
    name: str | None = None,
) -> AbstractAsyncContextManager[Initiator]:
    """Open a scope that owns the operations started inside it.

    Use it as ``async with open_initiator() as initiator:``. Tasks that are started inside inherit it, as they inherit
    any context variable. Initiators nest; the innermost one owns.

    While it is open it holds two tasks. On Linux it also holds one descriptor, once an operation has had to wait for a
    socket. If the process has none left, it does without.

    Args:
      on_exit: what happens to operations that are pending when the scope is left.
      grace: for how many seconds at most DRAIN and FINISH_STARTED let operations go on, counted from the first of an
        outside cancel and the exit. These two need it, and it must be finite; the others must not have it.
      name: what to call it in representations.

    Returns:
      An async context manager whose value is the `Initiator`. An exception of the body leaves it unchanged; exceptions
      of handlers leave it as an `ExceptionGroup`, the body's own first if there is one, after everything else was told.

    Raises:
      TypeError: ``on_exit`` is not an `ExitPolicy`.
      ValueError: ``grace`` is missing, not finite, negative, or not for this policy.
      InvalidOperationError: at the entry, for ADOPT, if there is no enclosing initiator that is open.

    **Checkpoints**: entering never does, leaving always does.

    **If cancelled**: the policy is applied to what is pending; what is stopped has exact counts, and everything is told
    before the scope is left.

    **Threads**: only from inside Trio.

    Source: the `begin_send` page, "All I/O initiated by a given thread is canceled when that thread exits".
    """
    require_policy(on_exit, grace)
    return _OpenInitiator(on_exit, grace, name)
