"""`SocketCore`: what every verb of a socket stands on: the descriptor, its queues, and who may use them.

A `Socket` holds one. The verbs, such as sending and connecting, stand side by side on top of it, and none on another.
"""

from __future__ import annotations

import math
import operator
from contextlib import suppress
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args, overload

import trio

from .._base.checks import NotCopied
from .._base.codes import SocketError, SocketShutdown
from .._base.errors import InvalidOperationError, SocketClosedError, SocketException
from .._base.statistics import SocketStatistics
from .._kernel.addresses import require_numeric
from .._kernel.default_host import get_peer
from .._kernel.forks import when_forked
from .._kernel.port import KernelPort, Port
from .._operations.gate import BROKEN, CLOSED, FORKED, UNCONNECTED
from .._operations.operation import describe_os_error
from .._operations.queue import OperationQueue
from .._operations.send_queue import SendQueue
from .._owners.current import get_owner, require_owner
from .._owners.engine import SOCKET_ALLOWANCE
from .._tracing.instruments import current_instruments

if TYPE_CHECKING:
    import socket as stdlib_socket
    from collections import deque
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    from .._owners.exiting_owner import ExitingOwner
    from .async_result import ResultOperation
    from .trio_face import TrioFace

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


class SocketCore:
    """The part of a `Socket` that all its verbs share.

    Args:
      port: what it stands on.
      connected: whether there is a peer.
      on_torn: what to do when a message on a stream was cut.
    """

    __slots__ = (
        "__weakref__",
        "accepts_again_at",
        "acknowledged_before",
        "broadcasts",
        "checked",
        "ending",
        "is_listening",
        "kernel",
        "peer",
        "port",
        "receive_was_shut_down",
        "receives",
        "send",
        "send_was_shut_down",
        "sends",
        "thread",
        "token",
        "trio_face",
    )

    def __init__(self, port: Port, *, connected: bool, on_torn: OnTorn) -> None:
        require_on_torn(on_torn)
        self.port = port
        self.kernel = port.sock if isinstance(port, KernelPort) else None
        self.send = port.send
        self.sends = SendQueue(port, refuse_torn=on_torn == "refuse")
        if not connected:
            self.sends.gate |= UNCONNECTED
        self.receives: OperationQueue | None = None
        self.is_listening = False
        #: Whom the socket was connected to, to be told when the system has forgotten it.
        self.peer: Any = None
        #: Until when no accept is tried, by Trio's clock, because the latest one found no descriptor.
        self.accepts_again_at = -math.inf
        self.send_was_shut_down = False
        self.receive_was_shut_down = False
        # Who may use it: the thread that made it, and the run in which it was first used.
        self.thread = get_ident()
        self.token: trio.lowlevel.TrioToken | None = None
        #: The owner that was found fit for this socket at the latest start, so that the next one need not look.
        self.checked: ExitingOwner | None = None
        self.trio_face: TrioFace | None = None
        #: The broadcasts that had to wait, oldest first; the first ones may have ended, or begun to go.
        self.broadcasts: deque[ResultOperation] | None = None
        #: Set when the descriptor is closed; None unless `aclose` has closed the socket and still reads from it.
        self.ending: trio.Event | None = None
        #: What the kernel counted as acknowledged, or about to be, before the library's first byte.
        self.acknowledged_before = 0
        when_forked(self, SocketCore.leave_alone)

    # -- checks, in the order of the design's first step ---------------------------------------------------------------

    def require_usable(self) -> None:
        """Raise unless the call comes from the right thread and run, and the socket is open."""
        checked = self.checked
        if (
            checked is not None
            and checked is get_owner(None)
            and get_ident() == self.thread
            and not self.sends.gate & CLOSED
        ):
            return  # an owner that was found fit is one of the run
        if get_ident() != self.thread:
            self.sends.require_own()
            raise InvalidOperationError(
                "this socket belongs to another thread; from here, start operations with "
                "trio_send.from_thread.start(), or call it there, for example with trio.from_thread.run_sync()",
            )
        if self.sends.gate & CLOSED:
            raise SocketClosedError("this socket was closed")
        try:
            token = trio.lowlevel.current_trio_token()
        except RuntimeError:
            return  # outside of Trio there are things to do with a socket too
        if token is not self.token:
            if self.token is not None:
                raise InvalidOperationError(
                    "this socket was used in another call of trio.run(), whose tasks are gone; make a socket for each",
                )
            self.token = token
            self.sends.instruments = current_instruments()
            self.sends.socket_id = self.sends.instruments.number_socket()

    def require_owner(self) -> ExitingOwner:
        """Return the owner that operations started here belong to, or raise."""
        owner = require_owner()
        self.checked = owner
        return owner

    def reading_queue(self) -> OperationQueue:
        if self.receives is None:
            self.receives = OperationQueue(self.port)
            self.receives.instruments = self.sends.instruments
            self.receives.socket_id = self.sends.socket_id
            self.receives.others_wait = self.sends.others_wait
        return self.receives

    def let_others_wait(self, port: KernelPort) -> None:
        """Expect others than the library to wait for the descriptor."""
        for queue in (self.sends, self.receives):
            if queue is not None:
                queue.others_wait = True
        if get_ident() == self.thread:
            # Whoever waits goes on in the way that disturbs nobody.
            self.sends.request(port.wake_all, halts=False)

    def require_kernel(self) -> stdlib_socket.socket:
        """Return the socket of the system, or raise."""
        if self.kernel is None:
            raise self.not_supported()
        return self.kernel

    def require_kernel_port(self) -> KernelPort:
        """Return the port if that is one of the system's sockets, or raise."""
        self.require_kernel()
        assert isinstance(self.port, KernelPort)
        return self.port

    def require_receiver(self) -> Callable[[Sequence[memoryview], int], int]:
        """Return what receives, or raise."""
        receive_into = self.port.receive_into
        if receive_into is None:
            raise self.not_supported()
        return receive_into

    def not_supported(self) -> SocketException:
        """Return the error for what the port does not offer."""
        offers = "send" if self.port.receive_into is None else "send and receive"
        return SocketException(
            SocketError.OPERATION_NOT_SUPPORTED,
            detail=f"this socket stands on a port that can only {offers}",
        )

    def note_connection(self, address: Any) -> None:
        """Take note that the socket was connected to an address."""
        self.sends.gate &= ~UNCONNECTED
        try:
            self.peer = self.require_kernel().getpeername()
        except OSError:
            self.peer = address  # the peer has gone already

    def renew_descriptor(self, port: KernelPort) -> None:
        """Stand on a fresh descriptor under the same number if the one that there is was used up by a connect.

        Raises:
          OSError: there is none to be had.
        """
        if port.untried is not None:
            self.sends.unwatch()
            port.renew()

    def note_failed_connect(self, port: KernelPort) -> None:
        """Be as before the attempt, as far as the system allows it."""
        with suppress(OSError):  # the next attempt will find out that there is no fresh descriptor
            self.renew_descriptor(port)
        if self.peer is not None and get_peer(port.sock) is None:
            # It was the default remote host, which could be neither changed nor kept.
            self.sends.gate |= UNCONNECTED
            self.peer = None

    def require_own(self) -> None:
        """Raise if the socket is closed, or another process's."""
        self.sends.require_own()
        self.require_open()

    @overload
    def get_option(self, level: int, name: int, length: None = None) -> int: ...

    @overload
    def get_option(self, level: int, name: int, length: int) -> bytes: ...

    def get_option(self, level: int, name: int, length: int | None = None) -> int | bytes:
        """Return a socket option: a number, or ``length`` bytes."""
        self.require_open()
        sock = self.require_kernel()
        try:
            return (
                sock.getsockopt(level, name)
                if length is None
                else sock.getsockopt(level, name, length)
            )
        except OSError as error:
            raise translate(error) from error

    @trio.lowlevel.enable_ki_protection
    def set_option(self, level: int, name: int, value: int | Buffer) -> None:
        """Set a socket option."""
        self.require_own()
        try:
            self.require_kernel().setsockopt(level, name, value)
        except OSError as error:
            raise translate(error) from error

    @property
    def connected(self) -> bool:
        """Whether the socket was connected and has not been closed or found dead since."""
        return not self.sends.gate & (UNCONNECTED | CLOSED | BROKEN)

    def require_open(self) -> None:
        """Raise if the socket is closed."""
        if self.sends.gate & CLOSED:
            raise SocketClosedError("this socket was closed")

    # -- what happens to the connection --------------------------------------------------------------------------------

    def leave_alone(self) -> None:
        """Leave the socket to the process that made it: no thread of this one is the thread that may use it."""
        self.thread = _NO_THREAD
        for queue in (self.sends, self.receives):
            if queue is not None:
                queue.gate |= FORKED

    def note_shutdown(self, how: int) -> None:
        """Take note of what was shut down."""
        if how != SocketShutdown.SEND:
            self.receive_was_shut_down = True
        if how != SocketShutdown.RECEIVE:
            self.send_was_shut_down = True
            # What is pending learns of it now. Not every kind of socket becomes writable by being shut down.
            self.sends.request_drain(SOCKET_ALLOWANCE)

    def close_queues(self, then: Callable[[], object]) -> None:
        """End every operation, and let nobody start another; then do something else.

        It waits for either queue to be out of a step, in which the descriptor may be in use.
        """
        receives = self.receives
        self.sends.close(then if receives is None else partial(receives.close, then))

    def close_port(self, reset: bool) -> None:
        self.checked = None
        self.port.close(reset=reset)
        if self.ending is not None:
            self.ending.set()
            self.ending = None
        if self.sends.instruments.watching:
            self.sends.instruments.closed(self.sends.socket_id, reset)

    def statistics(self) -> SocketStatistics:
        """Return a snapshot of what is known."""
        sends, receives = self.sends, self.receives
        return SocketStatistics(
            queued_operations=sends.length,
            queued_bytes=sends.queued_bytes,
            bytes_accepted=sends.accepted,
            is_torn=sends.torn is not None,
            is_above_high_water=sends.marks.is_above,
            tasks_waiting_below_low_water=sends.marks.tasks_waiting,
            queued_receives=0 if receives is None else receives.length,
            watched_by=None if sends.watcher is None else repr(sends.watcher),
            started=sends.started,
            succeeded=sends.succeeded,
            failed=sends.failed,
            aborted=sends.aborted,
            bytes_offered=sends.accepted - sends.drained + sends.offered,
            bytes_abandoned=sends.abandoned,
        )

    def destination(self, name: str, address: Any) -> Any:
        """Check an address and return what to give the kernel: None where there is no choice of receivers."""
        if address is None:
            raise TypeError(f"{name} is None, but must be the address to send to")
        port = self.port
        if port.family is not None:
            address = require_numeric(port.family, self.kernel, name, address, "sending")
        return None if port.is_stream or port.has_one_receiver else address


class Verb(NotCopied):
    """A group of methods of `Socket`; they stand on its core alone."""

    __slots__ = ()

    _core: SocketCore


#: Returns the core of a socket, for those who are none of its verbs.
core_of: Final[Callable[[object], SocketCore]] = operator.attrgetter("_core")
