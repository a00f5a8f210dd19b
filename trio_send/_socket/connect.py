"""Connecting in all three faces: to an address, or to the first address of a name that answers."""

from __future__ import annotations

import errno
import math
import os
import socket as stdlib_socket
from typing import TYPE_CHECKING, Any, Final

import trio

from .._base.codes import SocketAsyncOperation, SocketError
from .._base.errors import InvalidOperationError, SocketException
from .._kernel.addresses import find_other_family, numeric
from .._kernel.name_lookup import look_up
from .._kernel.port import KernelPort
from .._operations.gate import UNCONNECTED
from .._operations.operation import Operation, Step, describe_os_error
from .._operations.send_queue import FIRST_BACKOFF, LONGEST_POLL
from .._owners.awaiting_task import perform
from .connection_end import close
from .core import Verb, core_of
from .event_args import SocketAsyncEventArgs
from .event_args_operation import EventArgsOperation
from .results import begin_step, end, end_nowait
from .starts import args_to_start, begin, make_step, prepare, record_of, set_send_flags, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from .async_result import AsyncResult
    from .core import SocketCore

_CONNECT: Final = SocketAsyncOperation.CONNECT


#: How long an address is waited for while there is another one to try, in seconds. Linux asks again after 1, 3 and 7 s,
#: newer kernels (measured with 6.18) after 1, 2, 3, 4, 5 and 7 s. So this is time for four questions or more, the last
#: of which may take 3 s to be answered. Linux itself gives a host up after one to two minutes.
ANSWER_LIMIT: Final = 10.0


class _ConnectStep(Step):
    """Connects to the first of several addresses that answers; looks a name up before that."""

    __slots__ = ("_addresses", "_begun", "_failure", "_leave_at", "_pause", "address", "is_by_name")

    def __init__(self, sock: stdlib_socket.socket, name: str, address: Any) -> None:
        self.address = address
        #: Why there is nothing to try, as code and sentence.
        self._failure: tuple[int, str | None] | None = None
        #: Whether the kernel is at work on the first of the addresses.
        self._begun = False
        #: When the first of the addresses is given up for the next.
        self._leave_at = math.inf
        #: How long to pause before the next attempt, because nothing could begin; 0 when there is no need.
        self._pause = 0.0
        known = numeric(sock.family, name, address)
        self._addresses: list[Any] | None = (
            find_other_family(sock, address) if known is None else [known]
        )
        self.is_by_name = self._addresses is None
        if self._addresses == []:
            self._failure = (
                SocketError.ADDRESS_FAMILY_NOT_SUPPORTED,
                f"{address[0]} is an address of another family than the socket's",
            )

    sends_message = True

    @property
    def must_be_awaited(self) -> bool:  # type: ignore[override]
        """True for the looking up of a name, for pauses, and while there is a time to leave an address."""
        if self._addresses is None:
            return self._failure is None
        return self._pause > 0 or self._leave_at < math.inf

    async def wait_ready(self, operation: Operation) -> None:
        """Look the name up, pause, or wait for an answer as long as one is waited for."""
        if self._addresses is not None:
            if self._pause:
                await trio.sleep(self._pause)
            else:
                with trio.move_on_at(self._leave_at):
                    await core_of(operation.socket).port.wait_writable()
            return
        try:
            self._addresses = await look_up(
                core_of(operation.socket).require_kernel(), *self.address[:2]
            )
        except SocketException as error:
            code, _, detail = describe_os_error(error)
            self._failure = code, detail

    def attempt(self, operation: Operation) -> None:
        if self._failure is not None:
            code, detail = self._failure
            raise SocketException(code, detail=detail)
        if self._addresses is None:
            raise BlockingIOError
        core = core_of(operation.socket)
        self._connect(core, self._addresses)
        core.note_connection(self._addresses[0])
        # The kernel counts the opening of a connection by its active side.
        core.acknowledged_before = 1 - core.sends.accepted
        stand_connected(core, operation)

    def _connect(self, core: SocketCore, addresses: list[Any]) -> None:
        """Go on connecting to the first address, or if that fails to the next; return when connected."""
        port = core.port
        assert isinstance(port, KernelPort)
        while True:
            try:
                if self._begun:
                    self._go_on(port, addresses[0])
                else:
                    self._begin(core, port, addresses)
                return
            except BlockingIOError:
                raise
            except OSError:
                self._begun = False
                self._leave_at = math.inf
                core.note_failed_connect(port)
                if len(addresses) == 1:
                    raise
                del addresses[0]

    def _begin(self, core: SocketCore, port: KernelPort, addresses: list[Any]) -> None:
        """Begin to connect to the first address, and return if the connection stands at once."""
        core.renew_descriptor(port)
        try:
            connected = core.sends.ask(port.connect_begin, addresses[0])
        except BlockingIOError:  # there is no room, or a stop was noted
            self._pause = min(max(2 * self._pause, FIRST_BACKOFF), LONGEST_POLL)
            raise
        self._pause = 0.0
        if not connected:
            self._begun = True
            if len(addresses) > 1 and port.is_renewable:
                self._leave_at = trio.current_time() + ANSWER_LIMIT
            raise BlockingIOError

    def _go_on(self, port: KernelPort, address: Any) -> None:
        """Return if the connection that was begun stands."""
        if port.connect_poll(address):
            self._leave_at = math.inf
        elif trio.current_time() >= self._leave_at:
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        else:
            raise BlockingIOError

    def result(self, count: int) -> None:
        return None

    def abandon(self, socket: object) -> None:
        # The kernel goes on connecting, and nothing can call it back. A socket whose state nobody knows is of no use.
        if self._begun:
            close(core_of(socket))


class Connecting(Verb):
    """The part of `Socket` that connects."""

    __slots__ = ()

    # -- connect ------------------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def connect(self, address: Any) -> None:
        """Connect to a peer, or on a datagram socket set the default remote host, for which it may be called again.

        Each address of a name is tried in turn, as far as the socket can use it. One that does not answer within 10 s
        is left for the next. Each attempt behind one that has failed, in this call or an earlier one, has a fresh
        descriptor under the same number, with the options and the own address of the old one. A Unix listener that
        has no room is waited for. The page on addresses tells more. To reach a host by name use
        `trio_send.connect_tcp`, because a socket has one family, and here the next address is not tried before the one
        in front of it has failed.

        Args:
          address: a Python socket address. A name is looked up. An IPv6 socket takes IPv4 addresses as well, unless
            IPV6_V6ONLY is set.

        Raises:
          SocketException: nobody could be reached, of which the last address tells why; the system has no descriptor
            left for another attempt, or refuses to set an option again; or the socket is connected already, with
            IS_CONNECTED.
          TypeError: ``address`` is None or of the wrong shape.
          ValueError: a number in ``address``, or a path, is out of range.
          InvalidOperationError: the socket listens, or the call comes from another thread.
          ObjectDisposedError: the socket was closed.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and the socket is closed if the system had begun to connect, because nothing
        can call that back.

        **Threads**: only from the Trio thread that uses the socket.
        """
        core = self._core
        step = _connect_step(core, "address", address)
        await trio.lowlevel.checkpoint_if_cancelled()
        await perform(make_step(core, self, step, _CONNECT), core.sends)

    @trio.lowlevel.enable_ki_protection
    def connect_async(self, args: SocketAsyncEventArgs) -> bool:
        """Start to connect to ``args.remote_end_point``, and if a buffer is set, to send it as the first message.

        Addresses are tried as by `connect`; the time limits of ``args`` hold for all of them together.
        `SocketAsyncEventArgs.bytes_transferred` counts what was accepted of the message (F239). If the connection
        stands and the message then fails or is stopped, the operation ends as such a send does.

        Args:
          args: where to connect to. They are in use until the operation has ended.

        Returns:
          True if the operation is pending, and `SocketAsyncEventArgs.completed` will be raised; False if it has ended
          on the spot.

        Raises:
          TypeError: ``args`` is no args, or its ``remote_end_point`` is None or of the wrong shape (F233).
          ValueError: ``args`` has a buffer list (F234); or a number in its ``remote_end_point``, or a path, is out of
            range.
          SocketException: the socket is connected already, with IS_CONNECTED (F236).
          InvalidOperationError: the socket listens (F236), no initiator is open, the call comes from another thread, or
            the message of ``args`` was cut and stands half sent on a torn stream.
          OperationInProgressError: ``args`` is in use.
          ObjectDisposedError: the socket or ``args`` was closed.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here. The operation belongs to the initiator and ends with it; then the
        socket is closed if the system had begun to connect.

        **Threads**: only from the Trio thread that uses the socket.
        """
        core = self._core
        operation = args_to_connect(core, args)
        step = _connect_step(core, "remote_end_point", operation.remote_end_point)
        return start_connect(core, self, args, step, is_by_name=step.is_by_name)

    @staticmethod
    def cancel_connect_async(args: SocketAsyncEventArgs) -> None:
        """Stop the connect that `connect_async` started with ``args``, if one is pending; else do nothing (F241).

        It ends with OPERATION_ABORTED, and its event is raised. If the system had begun to connect, the socket is
        closed, because nothing can call that back (F242); if a name was being looked up, it stays open (F243). Neither
        the socket nor an instance is needed to call this.

        Args:
          args: the ones that were passed to `connect_async`.

        Raises:
          TypeError: ``args`` is None or something else (F241).

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here.

        **Threads**: only from the Trio thread that uses the socket.
        """
        if not isinstance(args, SocketAsyncEventArgs):
            raise TypeError(f"args must be a SocketAsyncEventArgs, not {type(args).__name__}")
        if args.last_operation == _CONNECT:
            args.cancel("cancel_connect_async() was called")

    @trio.lowlevel.enable_ki_protection
    def begin_connect(
        self,
        address: Any,
        callback: Callable[[AsyncResult], object] | None = None,
        state: Any = None,
    ) -> AsyncResult:
        """Start to connect to a peer.

        Args:
          address: as for `connect`.
          callback: a function or async function to call with the result when the operation has ended. It should call
            `end_connect_nowait` or await `end_connect`.
          state: anything of yours, found again as `AsyncResult.async_state`.

        Returns:
          The result to hand to `end_connect`.

        Raises:
          SocketException: the connect failed on the spot, or the socket is connected already.
          TypeError: ``address`` is None or of the wrong shape.
          ValueError: a number in ``address``, or a path, is out of range.
          InvalidOperationError: the socket listens, no initiator is open, or the call comes from another thread.
          ObjectDisposedError: the socket was closed.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here; see `connect_async`.

        **Threads**: only from the Trio thread that uses the socket.
        """
        core = self._core
        step = _connect_step(core, "address", address)
        return begin_step(core, self, step, core.sends, callback, state, _CONNECT)

    @trio.lowlevel.enable_ki_protection
    async def end_connect(self, ar: AsyncResult) -> None:
        """Wait until a connect has ended and take its result; once for each.

        Args:
          ar: what `begin_connect` returned.

        Raises:
          SocketException: the connect failed or was stopped.
          TypeError: ``ar`` is None.
          ValueError: ``ar`` is no result of a connect on this socket; it is left as it was.
          InvalidOperationError: the result was taken already, or the call comes from another thread.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`; the operation goes on, because it belongs to its initiator.

        **Threads**: only from the Trio thread that uses the socket.
        """
        await end(self._core, self, ar, _CONNECT)

    @trio.lowlevel.enable_ki_protection
    def end_connect_nowait(self, ar: AsyncResult) -> None:
        """Take the result of a connect that has ended, as a synchronous callback does.

        Args:
          ar: what `begin_connect` returned.

        Raises:
          trio.WouldBlock: the connect is pending.
          SocketException: the connect failed or was stopped.
          TypeError: ``ar`` is None.
          ValueError: ``ar`` is no result of a connect on this socket; it is left as it was.
          InvalidOperationError: the result was taken already, or the call comes from another thread.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here.

        **Threads**: only from the Trio thread that uses the socket.
        """
        end_nowait(self._core, self, ar, _CONNECT)


def _connect_step(core: SocketCore, name: str, address: Any) -> _ConnectStep:
    core.require_usable()
    if address is None:
        raise TypeError(f"{name} is None, but must be the address to connect to")
    if core.is_listening:
        raise InvalidOperationError(
            "this socket listens for connections and cannot be connected; make another"
        )
    sock = core.require_kernel()
    if sock.type != stdlib_socket.SOCK_DGRAM and not core.sends.gate & UNCONNECTED:
        raise SocketException(
            SocketError.IS_CONNECTED, detail="make another socket for another connection"
        )
    return _ConnectStep(sock, name, address)


def args_to_connect(core: SocketCore, args: SocketAsyncEventArgs) -> EventArgsOperation:
    """Return the operation of args that can connect, or raise."""
    operation = args_to_start(core, args)
    if operation.buffer_list is not None:
        raise ValueError(
            "buffer_list is set, but a connect sends a single buffer at most; set it to None first"
        )
    return operation


def start_connect(
    core: SocketCore, socket: Verb, args: SocketAsyncEventArgs, step: Step, *, is_by_name: bool
) -> bool:
    """Begin to connect with args that were checked, and to send their buffer; return whether it is pending."""
    core.require_owner()
    operation = record_of(args)
    operation.connect_socket = None
    operation.is_by_name = is_by_name
    operation.claim()
    prepare(core, socket, operation, _CONNECT, face=args, step=step)
    if operation.message is not None and not set_send_flags(operation, operation.socket_flags):
        return settle(core, operation)
    return begin(core, operation, core.sends) or settle(core, operation)


def stand_connected(core: SocketCore, operation: Operation) -> None:
    """Go on with an operation whose connection stands: give args their socket, and send their buffer."""
    if isinstance(operation, EventArgsOperation):
        operation.connect_socket = operation.socket
        if operation.message is not None and operation.message.size:
            # From here on it is a send like any other, the first on the connection (F239).
            operation.step = None
            core.sends.attempt(operation)
