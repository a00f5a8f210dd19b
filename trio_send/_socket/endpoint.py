"""What every face of a socket stands on: the descriptor, its queues, its options, its end."""

from __future__ import annotations

import math
from contextlib import suppress
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args, overload

import trio

from .._base.checks import counted
from .._base.codes import SocketAsyncOperation, SocketError, SocketShutdown
from .._base.errors import (
    InvalidOperationError,
    OperationInProgressError,
    SocketClosedError,
    SocketException,
)
from .._base.interrupts import one_step
from .._kernel.default_host import get_peer
from .._kernel.forks import when_forked
from .._kernel.port import INET, KernelPort, Port
from .._operations.operation import ARRIVED, IDLE, IN_USE, Operation, Step, describe_os_error
from .._operations.queue import BROKEN, CLOSED, FORKED, TORN, UNCONNECTED, OperationQueue
from .._operations.send_queue import SendQueue
from .._owners.current import get_initiator
from .._owners.engine import SOCKET_ALLOWANCE
from .._owners.scope import current_initiator
from .._tracing.audience import current_audience
from .back_pressure import BackPressure

if TYPE_CHECKING:
    import socket as stdlib_socket
    from collections import deque
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    from .._owners.leaving_owner import Leaver
    from .async_result import AsyncResult

#: What to do when a message on a stream was cut.
OnTorn: TypeAlias = Literal["refuse", "allow"]

#: A number that no thread has.
_NO_THREAD: Final = -1

_ON_TORN: Final = get_args(OnTorn)


def translate(error: OSError) -> SocketException:
    """Return the error of a call that transfers no bytes as ours, to be raised ``from`` it."""
    code, number, detail = describe_os_error(error)
    return SocketException(code, native_error_code=number, detail=detail)


def require_on_torn(on_torn: OnTorn) -> None:
    """Raise `ValueError` unless ``on_torn`` says what to do about a cut message."""
    if on_torn not in _ON_TORN:
        raise ValueError(
            f"on_torn must be one of {', '.join(map(repr, _ON_TORN))}, not {on_torn!r}"
        )


class Endpoint(BackPressure):
    """The part of `Socket` that all its faces share."""

    __slots__ = (
        "__weakref__",
        "_accepts_again_at",
        "_acknowledged_before",
        "_broadcasts",
        "_checked",
        "_ending",
        "_kernel",
        "_listening",
        "_peer",
        "_port",
        "_receive_was_shut_down",
        "_receives",
        "_send",
        "_send_was_shut_down",
        "_sends",
        "_thread",
        "_token",
        "_trio",
    )

    def __init__(self, port: Port, *, connected: bool, on_torn: OnTorn) -> None:
        require_on_torn(on_torn)
        self._port = port
        self._kernel = port.sock if isinstance(port, KernelPort) else None
        self._send = port.send
        self._sends = SendQueue(port, refuse_torn=on_torn == "refuse")
        if not connected:
            self._sends.gate |= UNCONNECTED
        self._receives: OperationQueue | None = None
        self._listening = False
        #: Whom the socket was connected to, to be told when the system has forgotten it.
        self._peer: Any = None
        #: Until when no accept is tried, by Trio's clock, because the latest one found no descriptor.
        self._accepts_again_at = -math.inf
        self._send_was_shut_down = False
        self._receive_was_shut_down = False
        # Who may use it: the thread that made it, and the run in which it was first used.
        self._thread = get_ident()
        self._token: trio.lowlevel.TrioToken | None = None
        #: The initiator that was found fit for this socket at the latest start, so that the next one need not look.
        self._checked: Leaver | None = None
        self._trio: Any = None
        #: The broadcasts that had to wait, oldest first; the first ones may have ended, or begun to go.
        self._broadcasts: deque[AsyncResult] | None = None
        #: Set when the descriptor is closed; None unless `aclose` has closed the socket and still reads from it.
        self._ending: trio.Event | None = None
        #: What the kernel counted as acknowledged, or about to be, before the library's first byte.
        self._acknowledged_before = 0
        when_forked(self, Endpoint._leave_alone)

    # -- checks, in the order of the design's first step ---------------------------------------------------------------

    def _require_usable(self) -> None:
        """Raise unless the call comes from the right thread and run, and the socket is open."""
        checked = self._checked
        if (
            checked is not None
            and checked is get_initiator(None)
            and get_ident() == self._thread
            and not self._sends.gate & CLOSED
        ):
            return  # an initiator that was found fit is one of the run
        if get_ident() != self._thread:
            self._sends.require_own()
            raise InvalidOperationError(
                "this socket belongs to another thread; from here, start operations with "
                "trio_send.from_thread.start(), or call it there, for example with trio.from_thread.run_sync()",
            )
        if self._sends.gate & CLOSED:
            raise SocketClosedError("this socket was closed")
        try:
            token = trio.lowlevel.current_trio_token()
        except RuntimeError:
            return  # outside of Trio there are things to do with a socket too
        if token is not self._token:
            if self._token is not None:
                raise InvalidOperationError(
                    "this socket was used in another call of trio.run(), whose tasks are gone; make a socket for each",
                )
            self._token = token
            self._sends.audience = current_audience()
            self._sends.socket_id = self._sends.audience.number_socket()

    def _require_startable(self, operation: Operation) -> None:
        """Raise unless the operation is free."""
        if operation._state in (IDLE, ARRIVED):
            return
        if operation._pending:
            raise OperationInProgressError(IN_USE)
        operation._require_free()

    def _require_initiator(self) -> Leaver:
        """Return the initiator that operations started here belong to, or raise."""
        initiator = current_initiator()
        self._checked = initiator
        return initiator

    def _reading_queue(self) -> OperationQueue:
        if self._receives is None:
            self._receives = OperationQueue(self._port)
            self._receives.audience = self._sends.audience
            self._receives.socket_id = self._sends.socket_id
        return self._receives

    def _require_kernel(self) -> stdlib_socket.socket:
        if self._kernel is None:
            raise self._not_supported()
        return self._kernel

    def _require_receiver(self) -> Callable[[Sequence[memoryview], int], int]:
        """Return what receives, or raise."""
        receive_into = self._port.receive_into
        if receive_into is None:
            raise self._not_supported()
        return receive_into

    def _not_supported(self) -> SocketException:
        """Return the error for what the port does not offer."""
        offers = "send" if self._port.receive_into is None else "send and receive"
        return SocketException(
            SocketError.OPERATION_NOT_SUPPORTED,
            detail=f"this socket stands on a port that can only {offers}",
        )

    def _note_connection(self, address: Any) -> None:
        """Take note that the socket was connected to an address."""
        self._sends.gate &= ~UNCONNECTED
        try:
            self._peer = self._require_kernel().getpeername()
        except OSError:
            self._peer = address  # the peer has gone already

    def _renew_descriptor(self, port: KernelPort) -> None:
        """Stand on a fresh descriptor under the same number if the one that there is was used up by a connect.

        Raises:
          OSError: there is none to be had.
        """
        if port.untried is not None:
            self._sends.unwatch()
            port.renew()

    def _note_failed_connect(self, port: KernelPort) -> None:
        """Be as before the attempt, as far as the system allows it."""
        with suppress(OSError):  # the next attempt will find out that there is no fresh descriptor
            self._renew_descriptor(port)
        if self._peer is not None and get_peer(port.sock) is None:
            # It was the default remote host, which could be neither changed nor kept.
            self._sends.gate |= UNCONNECTED
            self._peer = None

    def _note(self, operation: Operation, step: Step, kind: SocketAsyncOperation) -> None:
        """Prepare an operation that is no send."""
        operation._claim()
        operation._reset_results()
        operation._socket = self
        operation._step = step
        operation._address = None
        operation._last_operation = kind
        if self._sends.audience.instruments:
            self._sends.audience.started(operation, self._sends)

    def _begin(
        self, operation: Operation, queue: OperationQueue, kind: SocketAsyncOperation
    ) -> bool:
        """Begin an operation for the initiator that was checked; return whether it is pending."""
        initiator = self._checked
        operation._last_operation = kind
        operation._socket = self
        if initiator is None:
            return queue.refuse_closed(operation)
        if initiator._stopped is not None:
            operation._set_error(SocketError.OPERATION_ABORTED, 0, initiator._stopped)
            return False
        return queue.start(operation, initiator)

    def _settle(self, operation: Operation) -> bool:
        """Answer for an operation that ended on the spot; return whether the answer is "pending" all the same."""
        initiator = self._checked
        # If there is none, the socket was closed from inside the attempt.
        pending = initiator is not None and initiator._spend()
        if operation._code:
            self._sends.count_on_the_spot(operation)
            if initiator is not None:
                initiator._count_failure_on_the_spot(operation)
        if pending and initiator is not None:
            operation._queue = self._sends  # knows whether it was the rest of a message, cut again
            initiator._pace(operation)
        else:
            operation._socket = operation._context = None
            operation._rest(self._sends)
        if self._sends.audience.instruments:
            self._sends.audience.ended_on_the_spot(operation, self._sends)
        return pending

    # -- properties ---------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        if self._sends.gate & CLOSED:
            return "<trio_send.Socket: closed>"
        state = "torn" if self._sends.torn else "connected" if self.connected else "not connected"
        return f"<trio_send.Socket: {state}, {counted(self._sends.length, 'operation')} queued>"

    @property
    def connected(self) -> bool:
        """Whether the socket was connected and has not been closed or found dead since."""
        return not self._sends.gate & (UNCONNECTED | CLOSED | BROKEN)

    @property
    def family(self) -> int:
        """The address family, such as `socket.AF_INET`."""
        return self._require_kernel().family

    @property
    def type(self) -> int:
        """The type, such as `socket.SOCK_STREAM`."""
        return self._require_kernel().type

    @property
    def local_end_point(self) -> Any:
        """The own address, a Python socket address."""
        self._require_open()
        try:
            return self._require_kernel().getsockname()
        except OSError as error:
            raise translate(error) from error

    @property
    def remote_end_point(self) -> Any:
        """The address of the peer, a Python socket address.

        It is remembered from the connect or the accept, so it can be read when the peer has gone as well. Reading it
        raises `SocketException` with NOT_CONNECTED if there never was one, and after `disconnect` with
        ``reuse_socket``.
        """
        self._require_open()
        try:
            return self._require_kernel().getpeername()
        except OSError as error:
            if self._peer is not None:
                return self._peer
            raise translate(error) from error

    def getpeername(self) -> Any:
        """Return `remote_end_point`, by the name that sockets of Trio and of the standard library have for it.

        Returns:
          The address of the peer, a Python socket address.

        Raises:
          SocketException: NOT_CONNECTED, if there is no peer.
          ObjectDisposedError: the socket was closed.
        """
        return self.remote_end_point

    def getsockname(self) -> Any:
        """Return `local_end_point`, by the name that sockets of Trio and of the standard library have for it.

        Returns:
          The own address, a Python socket address.

        Raises:
          SocketException: the system does not tell.
          ObjectDisposedError: the socket was closed.
        """
        return self.local_end_point

    def _leave_alone(self) -> None:
        """Leave the socket to the process that made it: no thread of this one is the thread that may use it."""
        self._thread = _NO_THREAD
        for queue in (self._sends, self._receives):
            if queue is not None:
                queue.gate |= FORKED

    def _require_own(self) -> None:
        """Raise if the socket is closed, or another process's."""
        self._sends.require_own()
        self._require_open()

    def _require_open(self) -> None:
        if self._sends.gate & CLOSED:
            raise SocketClosedError("this socket was closed")

    def fileno(self) -> int:
        """Return the descriptor, or -1 if the socket is closed.

        To look at, not to use: do not send through it or close it.
        """
        return self._port.fileno()

    @overload
    def getsockopt(self, level: int, optname: int, buflen: None = None) -> int: ...

    @overload
    def getsockopt(self, level: int, optname: int, buflen: int) -> bytes: ...

    def getsockopt(self, level: int, optname: int, buflen: int | None = None) -> int | bytes:
        """Return a socket option, as `socket.socket.getsockopt` does.

        Args:
          level: the protocol level, such as `socket.SOL_SOCKET`.
          optname: the option.
          buflen: how many bytes to read; None for an option that is a number.

        Returns:
          The number, or the bytes.

        Raises:
          SocketException: the system refused.
          ObjectDisposedError: the socket was closed.
        """
        self._require_open()
        sock = self._require_kernel()
        try:
            return (
                sock.getsockopt(level, optname)
                if buflen is None
                else sock.getsockopt(level, optname, buflen)
            )
        except OSError as error:
            raise translate(error) from error

    @trio.lowlevel.enable_ki_protection
    def setsockopt(self, level: int, optname: int, value: int | Buffer) -> None:
        """Set a socket option, as `socket.socket.setsockopt` does.

        Args:
          level: the protocol level, such as `socket.SOL_SOCKET`.
          optname: the option.
          value: a number, or bytes.

        Raises:
          SocketException: the system refused.
          ObjectDisposedError: the socket was closed.
          InvalidOperationError: the call comes from a process that was forked off.
        """
        self._require_own()
        try:
            self._require_kernel().setsockopt(level, optname, value)
        except OSError as error:
            raise translate(error) from error

    # -- the end ------------------------------------------------------------------------------------------------------

    @one_step
    def shutdown(self, how: SocketShutdown) -> None:
        """Say that nothing more will be sent, or received, or both.

        A send that is pending ends with SHUTDOWN and its exact count (F215), as does every later one (F214).

        Args:
          how: which direction to end.

        Raises:
          SocketException: the system refused, for example because the socket is not connected.
          ValueError: ``how`` is no `SocketShutdown`.
          ObjectDisposedError: the socket was closed.
          InvalidOperationError: the call comes from another thread.

        **Threads**: only from the Trio thread that uses the socket.
        """
        self._require_usable()
        try:
            how = SocketShutdown(how)
        except ValueError:
            raise ValueError(
                f"how is {how!r}, but must be a SocketShutdown, such as SocketShutdown.SEND"
            ) from None
        if self._sends.gate & UNCONNECTED and self._sends.length:
            # The system would call the connecting off without a word, and begin it anew when it is asked about it.
            raise SocketException(
                SocketError.NOT_CONNECTED, detail="it is still being connected; close it instead"
            )
        shutdown = self._port.shutdown
        if shutdown is None:
            raise self._not_supported()
        if (
            self._sends.gate & UNCONNECTED
            and self._port.family in INET
            and not self._port.is_stream
        ):
            # Linux says so too, and shuts it down all the same.
            raise SocketException(SocketError.NOT_CONNECTED)
        try:
            shutdown(int(how))
        except OSError as error:
            raise translate(error) from error
        self._note_shutdown(how)

    def _note_shutdown(self, how: int) -> None:
        """Take note of what was shut down."""
        if how != SocketShutdown.SEND:
            self._receive_was_shut_down = True
        if how != SocketShutdown.RECEIVE:
            self._send_was_shut_down = True
            # What is pending learns of it now. Not every kind of socket becomes writable by being shut down.
            self._sends.request_drain(SOCKET_ALLOWANCE)

    @one_step
    def close(self, *, reset: bool | None = None) -> None:
        """Close the socket at once; repeated calls are harmless.

        Every pending operation ends with OPERATION_ABORTED and its exact count (F205, F206), each once, and its error
        is an `ObjectDisposedError` too. Bytes that the kernel has accepted are still delivered in the background, with
        two exceptions. A reset drops those that have not reached the peer, also of messages that had ended with
        success. And if something has arrived that nobody has read, or still arrives, the kernel itself resets a TCP
        connection, whatever ``reset`` says. `aclose` loses nothing in that way.

        The call never waits, whatever SO_LINGER says: a time other than 0 makes no difference, and 0 seconds ask for a
        reset, as ever.

        In a process that was forked off, it closes the descriptor of that process and touches nothing else.

        Args:
          reset: whether the peer sees a reset instead of an orderly end. None stands for: if sends were pending or the
            stream is torn, and `shutdown` did not come first (F210, F211); so a message that was cut cannot be taken
            for a complete one. Unix sockets know no reset, so there the peer sees an orderly end.

        Raises:
          InvalidOperationError: the call comes from another thread.

        **Checkpoints**: never.

        **If cancelled**: nothing is raised here.

        **Threads**: only from the Trio thread that uses the socket.
        """
        if self._sends.gate & CLOSED and self._ending is None:
            return
        if self._sends.gate & FORKED:
            # Another process waits for the socket, and sends on it. Whatever is more than this would strike there.
            self._sends.gate |= CLOSED
            if self._kernel is not None:
                self._kernel.close()
            return
        if get_ident() != self._thread:
            self._require_usable()
        if reset is None:
            cut = self._sends.gate & TORN or self._sends.length
            reset = bool(cut) and self._port.is_stream and not self._send_was_shut_down
        self._close_queues(partial(self._close_port, reset))

    def _close_queues(self, then: Callable[[], object]) -> None:
        """End every operation, and let nobody start another; then do something else.

        It waits for either queue to be out of a step, in which the descriptor may be in use.
        """
        receives = self._receives
        self._sends.close(then if receives is None else partial(receives.close, then))

    def _close_port(self, reset: bool) -> None:
        self._checked = None
        self._port.close(reset=reset)
        if self._ending is not None:
            self._ending.set()
            self._ending = None
        if self._sends.audience.instruments:
            self._sends.audience.closed(self._sends.socket_id, reset)
