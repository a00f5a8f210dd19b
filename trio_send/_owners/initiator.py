"""`Initiator` and `ThreadInitiator`: what a program holds of the owners of its operations."""

from __future__ import annotations

import inspect
from threading import get_ident
from typing import TYPE_CHECKING, cast, final

from .._base.checks import NotCopied
from .._base.errors import InvalidOperationError
from .thread_owner import ThreadOwner

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    import trio
    from typing_extensions import TypeVarTuple, Unpack

    from .._base.statistics import InitiatorStatistics
    from .exit_policy import ExitPolicy
    from .exiting_owner import ExitingOwner
    from .scope_owner import ScopeOwner

    _T = TypeVar("_T")
    _Arguments = TypeVarTuple("_Arguments")


class _Face(NotCopied):
    """What both show."""

    __slots__ = ("__weakref__", "_owner")

    _owner: ExitingOwner

    def __repr__(self) -> str:
        return repr(self._owner)

    @property
    def name(self) -> str | None:
        """What it is called in representations."""
        return self._owner.name

    @property
    def on_exit(self) -> ExitPolicy:
        """Its exit policy."""
        return self._owner.on_exit

    @property
    def grace(self) -> float | None:
        """The seconds that DRAIN and FINISH_STARTED give; None for the others."""
        return self._owner.grace

    @property
    def pending_operations(self) -> int:
        """How many operations of this initiator are pending."""
        return self._owner.pending_operations


@final
class Initiator(_Face):
    """The scope that starts operations, and that ends them when it exits.

    Made by `open_initiator` alone.
    """

    __slots__ = ()

    _owner: ScopeOwner

    def __init__(self, owner: ScopeOwner) -> None:
        self._owner = owner

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """The scope around the body, engine and handlers; cancelling it stops the pending operations."""
        return self._owner.cancel_scope

    def statistics(self) -> InitiatorStatistics:
        """Return a snapshot of what is known of the initiator; also after it has exited.

        **Threads**: only from the Trio thread that uses the initiator.
        """
        return self._owner.statistics()

    def run_sync(
        self, function: Callable[[Unpack[_Arguments]], _T], *args: Unpack[_Arguments]
    ) -> _T:
        """Call a function whose starts belong to this initiator, from where it is not the current one.

        That is any code in the Trio thread outside of the initiator's body: a callback of
        `trio.lowlevel.TrioToken.run_sync_soon`, of the host loop in guest mode, or of another initiator's handler. The
        function is called here and now, in a copy of the context in which the initiator was opened.

        Args:
          function: a synchronous function; often a method of a socket, such as ``socket.send_async``.
          args: what to call it with.

        Returns:
          What the function returns.

        Raises:
          TypeError: ``function`` is an async function.
          InvalidOperationError: the initiator has exited, or the call comes from another thread. Nothing was called.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here.

        **Threads**: only the Trio thread. Others use `trio_send.from_thread`, or `trio.from_thread.run_sync` with this.
        """
        if get_ident() != self._owner.trio_thread:
            raise InvalidOperationError(
                "initiator.run_sync() is for the Trio thread; from here, start operations with "
                "trio_send.from_thread.start() inside 'with trio_send.from_thread.initiator(host=initiator):', or call "
                "it there, for example with trio.from_thread.run_sync()"
            )
        self._owner.require_open()
        # A context can be entered once at a time, and this call may be inside another one.
        result = self._owner.entry.copy().run(function, *args)
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError(
                "function must be synchronous, and it has returned a coroutine; start a task for it instead"
            )
        return result


@final
class ThreadInitiator(_Face):
    """What owns the sends that a thread starts, and ends them when the thread is over.

    Made by `initiator`, and implicitly for each thread and each call of `trio.to_thread.run_sync` that starts a send
    without one.
    """

    __slots__ = ()

    _owner: ThreadOwner

    def __init__(self, owner: ThreadOwner) -> None:
        self._owner = owner

    @property
    def ident(self) -> int:
        """The number of the thread that made it."""
        return self._owner.ident


def face_of(owner: ExitingOwner) -> Initiator | ThreadInitiator:
    """Return what the program holds of an owner: the same object each time, until the owner has exited."""
    if owner.face is None:
        assert isinstance(owner, ThreadOwner)  # any other has one for as long as it can be found
        owner.face = ThreadInitiator(owner)
    return cast("Initiator | ThreadInitiator", owner.face)


def owner_of(initiator: Initiator) -> ScopeOwner:
    """Return the owner behind an initiator."""
    return initiator._owner
