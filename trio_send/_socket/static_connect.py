""".NET's static ``ConnectAsync``: args that are given a socket when it is connected, and none before.

Which family the socket will have is decided by who answers. So the operation stands in the queue of a socket that is
made for it and has no descriptor yet. It takes over the one of the attempt that succeeds, and then a message goes out
as the first on the connection, from the queue in which it has waited all the time.
"""

from __future__ import annotations

import socket as stdlib_socket
from typing import TYPE_CHECKING, Any, NoReturn

import trio

from .._base.errors import SocketException
from .._kernel.addresses import numeric
from .._kernel.name_lookup import look_up_all
from .._kernel.port import KernelPort, Port
from .._operations.gate import UNCONNECTED
from .._operations.operation import Operation, Step
from .connect import args_to_connect, stand_connected, start_connect
from .connect_by_name import DELAY, Race, in_turn, unix_family
from .core import core_of
from .socket import Socket

if TYPE_CHECKING:
    from .._kernel.name_lookup import Found
    from .core import SocketCore
    from .event_args import SocketAsyncEventArgs


class _NoPort(Port):
    """What a socket without a descriptor stands on."""

    __slots__ = ()

    is_stream = True

    def send(self, *arguments: object) -> NoReturn:
        raise AssertionError("nobody can send on a socket that nobody has")

    send_gather = send_to = send_segments = send

    def fileno(self) -> int:
        return -1

    async def wait_writable(self) -> None:
        """Return at once: there is nothing to wait for here, the step does the waiting."""
        await trio.lowlevel.checkpoint()

    async def wait_readable(self) -> None:
        raise AssertionError("nobody can receive on a socket that nobody has")

    def close(self, *, reset: bool) -> None:
        """Close nothing."""


class _ConnectNewStep(Step):
    """Connects a new socket to the first address that answers; looks a name up before that."""

    __slots__ = ("_failure", "_is_over", "_targets", "_winner", "address")

    sends_message = True

    def __init__(self, address: Any) -> None:
        self.address = address
        #: Where to connect to; None if that must be looked up.
        self._targets = _targets("remote_end_point", address)
        self._winner: Socket | None = None
        self._failure: SocketException | None = None
        #: Whether nobody waits for the outcome any more.
        self._is_over = False

    @property
    def is_by_name(self) -> bool:
        return self._targets is None

    @property
    def must_be_awaited(self) -> bool:  # type: ignore[override]
        """True until there is a socket, or a reason for which there is none."""
        return self._winner is None and self._failure is None

    @trio.lowlevel.enable_ki_protection
    async def wait_ready(self, operation: Operation) -> None:
        """Look the name up and connect."""
        try:
            targets = self._targets
            if targets is None:
                targets = in_turn(await look_up_all(*self.address[:2]))
            host = self.address[0] if isinstance(self.address, tuple) else self.address
            race = Race(host, targets, None, False, "refuse")
            winner = await race.run(DELAY)
        except SocketException as error:
            self._failure = error
            return
        # One that was handed over looks for its winner again, and may find the one that was on its way.
        if self._is_over or self._winner is not None:
            winner.close()
        else:
            self._winner = winner

    def attempt(self, operation: Operation) -> None:
        if self._failure is not None:
            raise self._failure
        if self._winner is None:
            raise BlockingIOError
        core = core_of(operation.socket)
        winner, self._winner = self._winner, None
        self._is_over = True
        _take_over(core, core_of(winner))
        stand_connected(core, operation)

    def abandon(self, socket: object) -> None:
        self._is_over = True
        if self._winner is not None:
            self._winner.close()


def _take_over(core: SocketCore, other: SocketCore) -> None:
    """Stand on the descriptor of a socket that is connected, and leave it with none."""
    port = other.port
    assert isinstance(port, KernelPort)
    other.port = _NoPort()
    core.port = core.sends.port = port
    core.kernel = port.sock
    core.send = port.send
    core.peer = other.peer
    core.acknowledged_before = other.acknowledged_before
    core.sends.gate &= ~UNCONNECTED


def _targets(name: str, address: Any) -> list[Found] | None:
    """Check an address and say where it leads to; None if that has to be looked up."""
    if address is None:
        raise TypeError(f"{name} is None, but must be the address to connect to")
    stream = int(stdlib_socket.SOCK_STREAM)
    if not isinstance(address, tuple):
        family = unix_family()
        return [(family, stream, 0, "", numeric(family, name, address))]
    families = [stdlib_socket.AF_INET6]
    if len(address) <= 2:
        families.insert(0, stdlib_socket.AF_INET)
    for family in families:
        known = numeric(family, name, address)
        if known is not None:
            return [(int(family), stream, 0, "", known)]
    return None


@trio.lowlevel.enable_ki_protection
def connect_async(args: SocketAsyncEventArgs) -> bool:
    """Start to connect a new socket to ``args.remote_end_point``, by name over both families, and to send a buffer.

    The socket is made here and handed over as `SocketAsyncEventArgs.connect_socket`; after a failure, or a stop, there
    is none (F244). The addresses of a name are tried as `connect_tcp` tries them. The socket is as a bare `Socket` is.
    If a buffer is set, it is sent as the first message, as by `Socket.connect_async`; if that then fails or is stopped,
    the operation ends as such a send does, and there is a socket all the same. Handlers of
    `SocketAsyncEventArgs.completed` are called with it; after a failure, with a socket that is of no use.

    Args:
      args: where to connect to: a host and a port, or the path of a Unix socket. They are in use until the operation
        has ended.

    Returns:
      True if the operation is pending, and `SocketAsyncEventArgs.completed` will be raised. False if it has ended on
      the spot, which it does when the initiator is being left.

    Raises:
      TypeError: ``args`` is no args, or its ``remote_end_point`` is None or of the wrong shape (F233).
      ValueError: ``args`` has a buffer list (F234); or a number in its ``remote_end_point``, or a path, is out of
        range.
      SocketException: the path is one of a Unix socket, and this system has none.
      InvalidOperationError: no initiator is open, or the message of ``args`` was cut and stands half sent on a torn
        stream.
      OperationInProgressError: ``args`` is in use.
      ObjectDisposedError: ``args`` was closed.

    **Checkpoints**: never.

    **If cancelled**: nothing is raised here. The operation belongs to the initiator and ends with it, and no socket is
    left then. `Socket.cancel_connect_async` stops it, too.

    **Threads**: only from inside Trio.

    Source: .NET's static ``Socket.ConnectAsync``.
    """
    socket = Socket.from_port(_NoPort(), connected=False)
    core = core_of(socket)
    operation = args_to_connect(core, args)
    step = _ConnectNewStep(operation.remote_end_point)
    return start_connect(core, socket, args, step, is_by_name=step.is_by_name)
