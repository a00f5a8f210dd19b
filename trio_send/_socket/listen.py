"""The listening side of a socket: bind, listen, and accept in all three faces."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

import trio

from .._base.checks import require_whole_number
from .._base.codes import SocketAsyncOperation
from .._base.errors import InvalidOperationError
from .._kernel.addresses import require_numeric
from .._kernel.port import KernelPort
from .._operations.operation import Operation, Step
from .._owners.awaiting_task import perform
from .core import Verb, core_of, translate
from .event_args_operation import EventArgsOperation
from .results import begin_step, end_value, wait_for_end
from .starts import args_to_start, make_step, start_step

if TYPE_CHECKING:
    import socket as stdlib_socket
    from collections.abc import Callable

    from typing_extensions import Self

    from .async_result import AsyncResult
    from .core import OnTorn, SocketCore
    from .event_args import SocketAsyncEventArgs

_ACCEPT: Final = SocketAsyncOperation.ACCEPT


#: What an accept finds missing that other connections give back when they end, and for how many seconds no other one is
#: tried then, as long as Trio's listeners wait. The connection stays where it is and the listener ready, so a server
#: that starts the next accept at once would fail again and again, and do nothing else.
_SHORTAGE_ERRNOS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
SHORTAGE_PAUSE: Final = 0.1


class _AcceptStep(Step):
    """Accepts one connection."""

    __slots__ = ("_pauses_until", "accepted", "address")

    def __init__(self) -> None:
        #: Until when to wait before the next attempt; None if that takes a connection and no more.
        self._pauses_until: float | None = None
        #: The connection, until whoever asked for it has taken it. Args have a place for it themselves.
        self.accepted: Any = None
        self.address: Any = None

    @property
    def must_be_awaited(self) -> bool:  # type: ignore[override]
        """True while it pauses."""
        return self._pauses_until is not None

    async def wait_ready(self, operation: Operation) -> None:
        """Wait until the pause is over."""
        assert self._pauses_until is not None
        await trio.sleep_until(self._pauses_until)
        self._pauses_until = None

    def attempt(self, operation: Operation) -> None:
        listener = operation.socket
        core = core_of(listener)
        if trio.current_time() < core.accepts_again_at:
            self._pauses_until = core.accepts_again_at
            raise BlockingIOError
        try:
            connection, self.address = core.require_kernel().accept()
        except OSError as error:
            if error.errno in _SHORTAGE_ERRNOS:
                core.accepts_again_at = trio.current_time() + SHORTAGE_PAUSE
            raise
        accepted = _adopt(core, type(listener), connection, self.address)
        if isinstance(operation, EventArgsOperation):
            operation.accept_socket = accepted
        else:
            self.accepted = accepted

    def result(self, count: int) -> Any:
        return self.accepted


class Accepting(Verb):
    """The part of `Socket` that listens and accepts."""

    __slots__ = ()

    # -- the listening side -------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    def bind(self, address: Any) -> None:
        """Give the socket its own address.

        Except on Windows, SO_REUSEADDR is set on a TCP socket, as .NET and Trio's listeners do. So a server can be
        started again while old connections of its port are remembered, which takes a minute; at an address where
        another socket listens, no second one can.

        Args:
          address: a Python socket address. A host must be numeric or empty, because looking a name up would have to
            wait. An IPv6 socket takes IPv4 addresses as well, unless IPV6_V6ONLY is set.

        Raises:
          SocketException: the system refused, for example with ADDRESS_ALREADY_IN_USE. Where SO_REUSEADDR is set, Linux
            may say so to `listen` only.
          TypeError: ``address`` is of the wrong shape.
          ValueError: the host is a name, or the port is none.
          ObjectDisposedError: the socket was closed.
          InvalidOperationError: the call comes from another thread.

        **Threads**: only from the Trio thread that uses the socket.
        """
        self._core.require_usable()
        sock = self._core.require_kernel()
        port = self._core.port
        assert isinstance(port, KernelPort)
        address = require_numeric(int(sock.family), sock, "address", address, "bind()")
        try:
            port.bind(address)
        except OSError as error:
            raise translate(error) from error

    @trio.lowlevel.enable_ki_protection
    def listen(self, backlog: int = 128) -> None:
        """Let peers connect.

        Args:
          backlog: how many connections may wait to be accepted.

        Raises:
          TypeError: ``backlog`` is no whole number.
          SocketException: the system refused.
          ObjectDisposedError: the socket was closed.
          InvalidOperationError: the call comes from another thread.

        **Threads**: only from the Trio thread that uses the socket.
        """
        self._core.require_usable()
        backlog = require_whole_number("backlog", backlog, "connections")
        try:
            self._core.require_kernel().listen(backlog)
        except OSError as error:
            raise translate(error) from error
        self._core.is_listening = True

    # -- accept -------------------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def accept(self) -> Self:
        """Wait for a connection and accept it.

        Returns:
          The socket of the connection; its `remote_end_point` is the peer.

        Raises:
          SocketException: the system refused, for example with TOO_MANY_OPEN_SOCKETS.
          InvalidOperationError: the socket does not listen (F246), or the call comes from another thread.
          ObjectDisposedError: the socket was closed.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and no connection has been accepted.

        **Threads**: only from the Trio thread that uses the socket.
        """
        core = self._core
        step = _accept_step(core)
        await trio.lowlevel.checkpoint_if_cancelled()
        await perform(make_step(core, self, step, _ACCEPT), core.reading_queue())
        return step.accepted  # type: ignore[no-any-return]

    @trio.lowlevel.enable_ki_protection
    def accept_async(self, args: SocketAsyncEventArgs) -> bool:
        """Start to accept a connection into ``args.accept_socket``.

        If the process has no descriptor left for the connection, the accept fails with TOO_MANY_OPEN_SOCKETS and the
        connection waits on. The next accept on the same socket, in whichever face, is tried 0.1 seconds later.

        Args:
          args: whom to tell. They are in use until the operation has ended.

        Returns:
          True if the operation is pending, and `SocketAsyncEventArgs.completed` will be raised; False if it has ended
          on the spot.

        Raises:
          TypeError: ``args`` is no args (F246).
          ValueError: ``args`` has a buffer list (F246) or a buffer (F247).
          InvalidOperationError: the socket does not listen (F246), ``args.accept_socket`` is set already, for
            example to the connection before (F153), no initiator is open, the call comes from another thread, or the
            message of ``args`` was cut and stands half sent on a torn stream.
          OperationInProgressError: ``args`` is in use.
          ObjectDisposedError: the socket or ``args`` was closed.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here. The operation belongs to the initiator and ends with it, and no
        connection has been accepted then.

        **Threads**: only from the Trio thread that uses the socket.
        """
        core = self._core
        operation = args_to_start(core, args)
        if operation.buffer_list is not None:
            raise ValueError(
                "buffer_list is set, but an accept receives nothing; set it to None first"
            )
        if operation.buffer is not None:
            raise ValueError(
                "buffer is set, but an accept receives nothing; call set_buffer(None) first"
            )
        if operation.accept_socket is not None:
            raise InvalidOperationError(
                "accept_socket is set already, to a connection that was accepted before or to a socket of yours, "
                "but each accept makes a socket of its own; set it to None first"
            )
        step = _accept_step(core)
        core.require_owner()
        return start_step(core, self, args, step, core.reading_queue(), _ACCEPT)

    @trio.lowlevel.enable_ki_protection
    def begin_accept(
        self,
        callback: Callable[[AsyncResult], object] | None = None,
        state: Any = None,
    ) -> AsyncResult:
        """Start to accept a connection.

        Args:
          callback: a function or async function to call with the result when the operation has ended. It should call
            `end_accept_nowait` or await `end_accept`.
          state: anything of yours, found again as `AsyncResult.async_state`.

        Returns:
          The result to hand to `end_accept`.

        Raises:
          SocketException: the accept failed on the spot.
          InvalidOperationError: the socket does not listen, no initiator is open, or the call comes from another
            thread.
          ObjectDisposedError: the socket was closed.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here; see `accept_async`.

        **Threads**: only from the Trio thread that uses the socket.
        """
        core = self._core
        step = _accept_step(core)
        return begin_step(core, self, step, core.reading_queue(), callback, state, _ACCEPT)

    @trio.lowlevel.enable_ki_protection
    async def end_accept(self, ar: AsyncResult) -> Self:
        """Wait until an accept has ended and take its result; once for each.

        Args:
          ar: what `begin_accept` returned.

        Returns:
          The socket of the connection.

        Raises:
          SocketException: the accept failed or was stopped.
          TypeError: ``ar`` is None.
          ValueError: ``ar`` is no result of an accept on this socket; it is left as it was.
          InvalidOperationError: the result was taken already, or the call comes from another thread.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`; the operation goes on, because it belongs to its initiator.

        **Threads**: only from the Trio thread that uses the socket.
        """
        await wait_for_end(self._core, self, ar, _ACCEPT)
        return self.end_accept_nowait(ar)

    @trio.lowlevel.enable_ki_protection
    def end_accept_nowait(self, ar: AsyncResult) -> Self:
        """Take the result of an accept that has ended, as a synchronous callback does.

        Args:
          ar: what `begin_accept` returned.

        Returns:
          The socket of the connection.

        Raises:
          trio.WouldBlock: the accept is pending.
          SocketException: the accept failed or was stopped.
          TypeError: ``ar`` is None.
          ValueError: ``ar`` is no result of an accept on this socket; it is left as it was.
          InvalidOperationError: the result was taken already, or the call comes from another thread.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here.

        **Threads**: only from the Trio thread that uses the socket.
        """
        return end_value(self._core, self, ar, _ACCEPT)  # type: ignore[no-any-return]


def _accept_step(core: SocketCore) -> _AcceptStep:
    core.require_usable()
    if not core.is_listening:
        raise InvalidOperationError(
            "this socket does not listen; call bind() and listen() before accepting"
        )
    return _AcceptStep()


def _adopt(core: SocketCore, kind: type[Any], connection: stdlib_socket.socket, peer: Any) -> Any:
    """Make a socket of the same kind and settings as a listener's of an accepted connection."""
    on_torn: OnTorn = "refuse" if core.sends.refuse_torn else "allow"
    adopted = kind.from_port(KernelPort(connection), on_torn=on_torn)
    inner = core_of(adopted)
    inner.peer = peer
    inner.require_usable()  # from now on it is of this run, and its end is told there
    return adopted
