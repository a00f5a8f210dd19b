"""How a socket gets its peer: bind and listen, connect and accept in all three faces."""

from __future__ import annotations

import socket as stdlib_socket
from typing import TYPE_CHECKING, Any, Final

import trio

from ._addresses import numeric
from ._awaiting import perform
from ._codes import SocketAsyncOperation, SocketError
from ._endpoint import Endpoint, translate
from ._event_args import SocketAsyncEventArgs
from ._exceptions import InvalidOperationError, SocketException
from ._operation import Operation, Step
from ._port import KernelPort
from ._queue import UNCONNECTED
from ._sending_datagrams import SendingDatagrams

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from ._async_result import AsyncResult

_ACCEPT: Final = SocketAsyncOperation.ACCEPT
_CONNECT: Final = SocketAsyncOperation.CONNECT

#: What a name server's answers mean; the rest, and what a platform lacks, is HOST_NOT_FOUND.
_LOOKUP_ERRORS: Final = {
    getattr(stdlib_socket, name): code
    for name, code in {
        "EAI_AGAIN": SocketError.TRY_AGAIN,
        "EAI_FAIL": SocketError.NO_RECOVERY,
        "EAI_NODATA": SocketError.NO_DATA,
    }.items()
    if hasattr(stdlib_socket, name)
}


class _ConnectStep(Step):
    """Connects to the first of several addresses that answers; looks a name up before that."""

    __slots__ = ("_addresses", "_begun", "_failure", "_socket", "address")

    def __init__(self, socket: Endpoint, name: str, address: Any) -> None:
        self._socket = socket
        self.address = address
        known = numeric(socket.family, name, address)
        self._addresses: list[Any] | None = None if known is None else [known]
        self._failure: OSError | None = None
        #: Whether the kernel is at work on the first of the addresses.
        self._begun = False

    @property
    def must_be_awaited(self) -> bool:  # type: ignore[override]
        """True until a name was looked up."""
        return self._addresses is None and self._failure is None

    async def wait_ready(self) -> None:
        """Look the name up."""
        sock = self._socket._require_kernel()
        try:
            found = await trio.socket.getaddrinfo(
                self.address[0], self.address[1], sock.family, sock.type
            )
        except stdlib_socket.gaierror as error:
            self._failure = SocketException(
                _LOOKUP_ERRORS.get(error.errno or 0, SocketError.HOST_NOT_FOUND),
                detail=f"looking up {self.address[0]!r}: {error.strerror}",
            )
        except (OSError, UnicodeError) as error:
            self._failure = SocketException(SocketError.HOST_NOT_FOUND, detail=str(error))
        else:
            self._addresses = [entry[4] for entry in found]

    def attempt(self, operation: Operation) -> None:
        if self._failure is not None:
            raise self._failure
        addresses = self._addresses
        if addresses is None:
            raise BlockingIOError
        port = self._socket._port
        assert isinstance(port, KernelPort)
        while True:
            try:
                connected = (
                    port.connect_poll(addresses[0])
                    if self._begun
                    else port.connect_begin(addresses[0])
                )
            except OSError:
                self._begun = False
                if len(addresses) == 1:
                    raise
                del addresses[0]
                continue
            if not connected:
                self._begun = True
                raise BlockingIOError
            break
        self._socket._sends.gate &= ~UNCONNECTED
        self._socket._acknowledged_before = (
            1  # the kernel counts the opening of a connection by its active side
        )
        if isinstance(operation, SocketAsyncEventArgs):
            operation._connect_socket = self._socket

    def abandon(self) -> None:
        # The kernel goes on connecting, and nothing can call it back. A socket whose state nobody knows is of no use.
        if self._begun:
            self._socket.close()


class _AcceptStep(Step):
    """Accepts one connection."""

    __slots__ = ("_listener", "accepted", "address")

    def __init__(self, listener: Connecting) -> None:
        self._listener = listener
        self.accepted: Any = None
        self.address: Any = None

    def attempt(self, operation: Operation) -> None:
        connection, self.address = self._listener._require_kernel().accept()
        self.accepted = self._listener._adopt(connection)
        if isinstance(operation, SocketAsyncEventArgs):
            operation._accept_socket = self.accepted


class Connecting(SendingDatagrams):
    """The part of `Socket` that connects and accepts."""

    __slots__ = ()

    def _adopt(self, connection: stdlib_socket.socket) -> Self:
        """Make a socket of the same kind and settings of an accepted connection."""
        adopted = type(self).__new__(type(self))
        Endpoint.__init__(
            adopted,
            KernelPort(connection),
            connected=True,
            on_torn="refuse" if self._sends.refuse_torn else "allow",
        )
        adopted._require_usable()  # from now on it is of this run, and its end is told there
        return adopted

    # -- the listening side -------------------------------------------------------------------------------------------

    def bind(self, address: Any) -> None:
        """Give the socket its own address.

        Args:
          address: a Python socket address. A host must be numeric or empty, for looking a name up would have to wait.

        Raises:
          SocketException: the system refused, for example with ADDRESS_ALREADY_IN_USE.
          TypeError: ``address`` is of the wrong shape.
          ValueError: the host is a name, or the port is none.
          ObjectDisposedError: the socket was closed.

        **Threads**: only from the Trio thread that uses the socket.
        """
        self._require_usable()
        sock = self._require_kernel()
        if numeric(sock.family, "address", address) is None:
            raise ValueError(
                f"address has the host {address[0]!r}, but bind takes an IP address or an empty string"
            )
        try:
            sock.bind(address)
        except OSError as error:
            raise translate(error) from error

    def listen(self, backlog: int = 128) -> None:
        """Let peers connect.

        Args:
          backlog: how many connections may wait to be accepted.

        Raises:
          SocketException: the system refused.
          ObjectDisposedError: the socket was closed.

        **Threads**: only from the Trio thread that uses the socket.
        """
        self._require_usable()
        try:
            self._require_kernel().listen(backlog)
        except OSError as error:
            raise translate(error) from error
        self._listening = True

    # -- connect ------------------------------------------------------------------------------------------------------

    async def connect(self, address: Any) -> None:
        """Connect to a peer, or on a datagram socket set the default remote host, for which it may be called again.

        Args:
          address: a Python socket address. A name is looked up, and each of its addresses tried in turn.

        Raises:
          SocketException: nobody could be reached; or the socket is connected already, with IS_CONNECTED.
          TypeError: ``address`` is None or of the wrong shape.
          InvalidOperationError: the socket listens, or the call comes from another thread.
          ObjectDisposedError: the socket was closed.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and the socket is closed if the system had begun to connect, for nothing can
        call that back.

        **Threads**: only from the Trio thread that uses the socket.
        """
        step = self._connect_step("address", address)
        await trio.lowlevel.checkpoint_if_cancelled()
        operation = Operation()
        self._note(operation, step, _CONNECT)
        await perform(operation, self._sends)
        if operation._code:
            raise operation._exception()

    def connect_async(self, args: SocketAsyncEventArgs) -> bool:
        """Start to connect to ``args.remote_end_point``.

        Args:
          args: where to connect to. They are in use until the operation has ended.

        Returns:
          True if the operation is pending, and `SocketAsyncEventArgs.completed` will be raised; False if it has ended
          on the spot.

        Raises:
          TypeError: ``args`` is no args, or its ``remote_end_point`` is None or of the wrong shape (F233).
          ValueError: ``args`` has a buffer list (F234).
          SocketException: the socket is connected already, with IS_CONNECTED (F236).
          InvalidOperationError: the socket listens (F236), no initiator is open, or the call comes from another thread.
          OperationInProgressError: ``args`` is in use.
          ObjectDisposedError: the socket or ``args`` was closed.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here. The operation belongs to the initiator and ends with it; then the
        socket is closed if the system had begun to connect.

        **Threads**: only from the Trio thread that uses the socket.
        """
        self._require_usable()
        self._require_args(args)
        self._require_startable(args)
        if args._buffer_list is not None:
            raise ValueError(
                "buffer_list is set, but a connect sends nothing; set it to None first"
            )
        step = self._connect_step("remote_end_point", args._remote_end_point)
        self._require_initiator()
        args._connect_socket = None
        self._note(args, step, _CONNECT)
        args._capture_context()
        return self._begin(args, self._sends, _CONNECT) or self._settle(args)

    def begin_connect(
        self,
        address: Any,
        callback: Callable[[AsyncResult], object] | None = None,
        state: Any = None,
    ) -> AsyncResult:
        """Start to connect to a peer.

        Args:
          address: as for `connect`.
          callback: a function or async function to call with the result when the operation has ended.
          state: anything of yours, found again as `AsyncResult.async_state`.

        Returns:
          The result to hand to `end_connect`.

        Raises:
          SocketException: the connect failed on the spot, or the socket is connected already.
          TypeError: ``address`` is None or of the wrong shape.
          InvalidOperationError: the socket listens, no initiator is open, or the call comes from another thread.
          ObjectDisposedError: the socket was closed.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here; see `connect_async`.

        **Threads**: only from the Trio thread that uses the socket.
        """
        step = self._connect_step("address", address)
        return self._begin_step(step, self._sends, _CONNECT, callback, state)

    async def end_connect(self, ar: AsyncResult) -> None:
        """Wait until a connect has ended and take its result; once for each.

        Args:
          ar: what `begin_connect` returned.

        Raises:
          SocketException: the connect failed or was stopped.
          TypeError: ``ar`` is None.
          ValueError: ``ar`` is no result of a connect on this socket; it is left as it was.
          InvalidOperationError: the result was taken already.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`; the operation goes on, for it belongs to its initiator.

        **Threads**: only from the Trio thread that uses the socket.
        """
        await self._end(ar, _CONNECT)

    def _connect_step(self, name: str, address: Any) -> _ConnectStep:
        self._require_usable()
        if address is None:
            raise TypeError(f"{name} is None, but must be the address to connect to")
        if self._listening:
            raise InvalidOperationError(
                "this socket listens for connections and cannot be connected; make another"
            )
        sock = self._require_kernel()
        if sock.type != stdlib_socket.SOCK_DGRAM and not self._sends.gate & UNCONNECTED:
            raise SocketException(
                SocketError.IS_CONNECTED, detail="make another socket for another connection"
            )
        return _ConnectStep(self, name, address)

    # -- accept -------------------------------------------------------------------------------------------------------

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
        step = self._accept_step()
        await trio.lowlevel.checkpoint_if_cancelled()
        operation = Operation()
        self._note(operation, step, _ACCEPT)
        await perform(operation, self._reading_queue())
        if operation._code:
            raise operation._exception()
        return step.accepted  # type: ignore[no-any-return]

    def accept_async(self, args: SocketAsyncEventArgs) -> bool:
        """Start to accept a connection into ``args.accept_socket``.

        Args:
          args: whom to tell. They are in use until the operation has ended.

        Returns:
          True if the operation is pending, and `SocketAsyncEventArgs.completed` will be raised; False if it has ended
          on the spot.

        Raises:
          TypeError: ``args`` is no args (F246).
          ValueError: ``args`` has a buffer list (F246).
          InvalidOperationError: the socket does not listen (F246), ``args.accept_socket`` still holds the previous
            connection (F153), no initiator is open, or the call comes from another thread.
          OperationInProgressError: ``args`` is in use.
          ObjectDisposedError: the socket or ``args`` was closed.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here. The operation belongs to the initiator and ends with it, and no
        connection has been accepted then.

        **Threads**: only from the Trio thread that uses the socket.
        """
        self._require_usable()
        self._require_args(args)
        self._require_startable(args)
        if args._buffer_list is not None:
            raise ValueError(
                "buffer_list is set, but an accept receives nothing; set it to None first"
            )
        if args._accept_socket is not None:
            raise InvalidOperationError(
                "accept_socket still holds the previous connection; set it to None first"
            )
        step = self._accept_step()
        self._require_initiator()
        self._note(args, step, _ACCEPT)
        args._capture_context()
        return self._begin(args, self._reading_queue(), _ACCEPT) or self._settle(args)

    def begin_accept(
        self,
        callback: Callable[[AsyncResult], object] | None = None,
        state: Any = None,
    ) -> AsyncResult:
        """Start to accept a connection.

        Args:
          callback: a function or async function to call with the result when the operation has ended.
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
        step = self._accept_step()
        return self._begin_step(step, self._reading_queue(), _ACCEPT, callback, state)

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
          InvalidOperationError: the result was taken already.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`; the operation goes on, for it belongs to its initiator.

        **Threads**: only from the Trio thread that uses the socket.
        """
        await self._end(ar, _ACCEPT)
        step = ar._step
        assert isinstance(step, _AcceptStep)
        return step.accepted  # type: ignore[no-any-return]

    def _accept_step(self) -> _AcceptStep:
        self._require_usable()
        if not self._listening:
            raise InvalidOperationError(
                "this socket does not listen; call bind() and listen() before accepting"
            )
        return _AcceptStep(self)
