"""Listening by port or path, and serving: what stands between a program and the sockets that it accepts."""

from __future__ import annotations

import errno
import socket as stdlib_socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, final

import trio

from .._base.checks import NotCopied, require_whole_number
from .._base.codes import SocketError
from .._base.errors import SocketException
from .._kernel.addresses import numeric
from .._kernel.name_lookup import look_up_all
from .._kernel.port import INET
from .._kernel.unix_paths import Identity, identity_of, remove_if_same, remove_left_over
from .connect_by_name import require_no_delay, require_port, unix_family
from .socket import Socket
from .stream import SocketStream

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable

    from .._kernel.name_lookup import Found

#: As many connections may wait as the system allows. More than 16 bits would be cut off without a word.
_LARGEST_BACKLOG: Final = 0xFFFF

#: How many ports to try until one is free for every family. anyio tries as many.
_TRIES: Final = 10

#: What is wrong with one connection that was to be accepted, and not with the listener. The list is Linux's, of what
#: accept() passes on from the network, and ECONNABORTED of the others.
_OF_ONE_CONNECTION: Final = frozenset(
    getattr(errno, name)
    for name in (
        "ECONNABORTED",
        "ECONNRESET",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ENETDOWN",
        "ENETUNREACH",
        "ENONET",
        "ENOPROTOOPT",
        "EOPNOTSUPP",
        "EPERM",
        "EPROTO",
        "ETIMEDOUT",
    )
    if hasattr(errno, name)
)


@final
class SocketListener(NotCopied, trio.abc.Listener[SocketStream]):
    """A listening socket, for `trio.serve_listeners` and whatever else serves Trio's listeners.

    Args:
      socket: a socket that listens; the listener closes it.
      no_delay: whether accepted TCP sockets send small messages at once; see `Socket.no_delay`.

    Raises:
      TypeError: ``socket`` is no `Socket`, or ``no_delay`` is neither True nor False.
      ValueError: ``socket`` does not listen.
      ObjectDisposedError: ``socket`` was closed.
      SocketException: ``socket`` stands on a port that can only send.

    Source: `trio.SocketListener`; .NET's ``TcpListener``.
    """

    def __init__(self, socket: Socket, *, no_delay: bool = True) -> None:
        if not isinstance(socket, Socket):
            raise TypeError(f"socket must be a trio_send.Socket, not {type(socket).__name__}")
        require_no_delay(no_delay)
        try:
            listens = bool(socket.getsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_ACCEPTCONN))
        except SocketException as error:
            if error.socket_error_code is not SocketError.PROTOCOL_OPTION:
                raise
            listens = True  # macOS does not say, and the accept will
        if not listens:
            raise ValueError("socket does not listen; call its bind() and listen() first")
        self._socket = socket
        self._no_delay = no_delay
        #: The file to remove in the end, if there is one.
        self._path = b""
        self._identity: Identity | None = None

    def __repr__(self) -> str:
        return f"<SocketListener of {self._socket!r}>"

    @property
    def socket(self) -> Socket:
        """The socket that listens."""
        return self._socket

    @trio.lowlevel.enable_ki_protection
    async def accept(self) -> SocketStream:
        """Wait for a connection and accept it as a stream.

        Returns:
          What `Socket.as_stream` gives; its ``socket`` is the socket.

        Raises:
          SocketException: the system refused, for example with TOO_MANY_OPEN_SOCKETS, after which
            `trio.serve_listeners` goes on. What is wrong with one connection alone is passed over.
          ObjectDisposedError: the listener was closed.
          InvalidOperationError: the call comes from another thread.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and no connection has been accepted.

        **Threads**: only from the Trio thread that uses the socket.
        """
        return (await self._accept()).as_stream(no_delay=self._no_delay)

    @trio.lowlevel.enable_ki_protection
    async def accept_socket(self) -> Socket:
        """Wait for a connection and accept it as a socket.

        Returns:
          The socket of the connection.

        Raises:
          SocketException: as `accept`. If the process had no descriptor left, the next accept is tried 0.1 seconds
            later, so a loop that goes on at once does no harm.
          ObjectDisposedError: the listener was closed.
          InvalidOperationError: the call comes from another thread.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and no connection has been accepted.

        **Threads**: only from the Trio thread that uses the socket.
        """
        connection = await self._accept()
        if self._no_delay and connection.family in INET:
            with suppress(SocketException):  # some systems refuse when the peer is gone already
                connection.no_delay = True
        return connection

    async def _accept(self) -> Socket:
        while True:
            try:
                return await self._socket.accept()
            except SocketException as error:
                if error.native_error_code not in _OF_ONE_CONNECTION:
                    raise

    @trio.lowlevel.enable_ki_protection
    async def aclose(self) -> None:
        """Close the socket, and remove the file that `open_unix_listener` has made.

        **Checkpoints**: always.

        **If cancelled**: `trio.Cancelled`, and it is closed all the same.

        **Threads**: only from the Trio thread that uses the socket.
        """
        self._close()
        await trio.lowlevel.checkpoint()

    def _close(self) -> None:
        self._socket.close()
        identity, self._identity = self._identity, None
        remove_if_same(self._path, identity)


@trio.lowlevel.enable_ki_protection
async def open_tcp_listeners(
    port: int,
    *,
    host: str | None = None,
    backlog: int | None = None,
    no_delay: bool = True,
) -> list[SocketListener]:
    """Listen at a port, over IPv4 and IPv6.

    Args:
      port: the port. 0 has the system choose one that is free, the same for all addresses.
      host: the name or address to listen at; all of its addresses are listened at. None stands for all addresses of
        this machine.
      backlog: how many connections may wait to be accepted; None stands for as many as the system allows.
      no_delay: as for `SocketListener`.

    Returns:
      A listener for each address.

    Raises:
      SocketException: the name could not be looked up, or the system refused, for example with ADDRESS_ALREADY_IN_USE.
        Then nobody listens anywhere.
      TypeError: an argument is of the wrong type.
      ValueError: ``port`` is none, or ``backlog`` is negative.

    **Checkpoints**: always.

    **If cancelled**: `trio.Cancelled`, and nobody listens.

    **Threads**: only from inside Trio; the sockets belong to the calling thread and run.

    Source: `trio.open_tcp_listeners`; .NET's ``TcpListener.Start``.
    """
    port = require_port(port)
    if not isinstance(host, str) and host is not None:
        raise TypeError(f"host must be a str or None, not {host!r}")
    backlog = _backlog(backlog)
    require_no_delay(no_delay)
    targets = await look_up_all(host, port, passive=True)
    # The last try leaves in any case.
    for tries_left in reversed(range(_TRIES)):  # pragma: no branch
        try:
            sockets = _listen_everywhere(targets, host, port, backlog)
        except SocketException as error:
            is_taken = error.socket_error_code is SocketError.ADDRESS_ALREADY_IN_USE
            if port or not is_taken or not tries_left:
                raise
        else:
            break  # else the port that one family was given is not free for the other
    return [SocketListener(socket, no_delay=no_delay) for socket in sockets]


def _listen_everywhere(
    targets: list[Found], host: str | None, port: int, backlog: int
) -> list[Socket]:
    """Listen at each of the addresses, or at none and raise."""
    sockets: list[Socket] = []
    missing: SocketException | None = None
    try:
        for family, type_, proto, _, address in targets:
            if not port and sockets:
                address = (address[0], sockets[0].local_end_point[1], *address[2:])
            try:
                sockets.append(_listen(Socket(family, type_, proto), address, backlog))
            except SocketException as error:
                if not _lacks_family(error, host):
                    raise
                missing = error
        if not sockets and missing is not None:
            raise missing
    except BaseException:
        for socket in sockets:
            socket.close()
        raise
    return sockets


def _lacks_family(error: SocketException, host: str | None) -> bool:
    """Tell whether the machine has only one of the two families, where all of its addresses were asked for."""
    code = error.socket_error_code
    return code is SocketError.ADDRESS_FAMILY_NOT_SUPPORTED or (
        host is None and code is SocketError.ADDRESS_NOT_AVAILABLE
    )


def _listen(socket: Socket, address: Any, backlog: int) -> Socket:
    try:
        if socket.family == stdlib_socket.AF_INET6:
            socket.dual_mode = False  # the other family has a socket of its own
        socket.bind(address)
        socket.listen(backlog)
    except BaseException:
        socket.close()
        raise
    return socket


def _backlog(backlog: int | None) -> int:
    if backlog is None:
        return _LARGEST_BACKLOG
    backlog = require_whole_number("backlog", backlog, "connections")
    if backlog < 0:
        raise ValueError(f"backlog is {backlog}, but must be a number of connections from 0 on")
    return min(backlog, _LARGEST_BACKLOG)


@trio.lowlevel.enable_ki_protection
async def open_unix_listener(
    path: str | bytes | os.PathLike[str] | os.PathLike[bytes], *, backlog: int | None = None
) -> SocketListener:
    """Listen at the path of a Unix socket.

    A socket that a program which was killed has left behind at that path is removed first. `SocketListener.aclose`
    removes the file, unless somebody has put another one in its place.

    Args:
      path: the path, or an abstract name, which begins with a zero.
      backlog: how many connections may wait to be accepted; None stands for as many as the system allows.

    Returns:
      The listener.

    Raises:
      SocketException: somebody else listens there, or there is a file that is no socket, with ADDRESS_ALREADY_IN_USE;
        or the system refused, or has no Unix sockets.
      TypeError: ``path`` is no path, or ``backlog`` is no whole number.
      ValueError: ``path`` is too long, or ``backlog`` is negative.

    **Checkpoints**: always.

    **If cancelled**: `trio.Cancelled`, and nobody listens.

    **Threads**: only from inside Trio; the socket belongs to the calling thread and run.
    """
    backlog = _backlog(backlog)
    family = unix_family()
    name = numeric(family, "path", path)
    assert isinstance(name, bytes)
    await trio.lowlevel.checkpoint()
    socket = Socket(family)
    try:
        remove_left_over(name)
        socket.bind(name)
        identity = identity_of(name)
        try:
            socket.listen(backlog)
            listener = SocketListener(socket)
        except BaseException:
            remove_if_same(name, identity)
            raise
    except BaseException:
        socket.close()
        raise
    listener._path, listener._identity = name, identity
    return listener


@trio.lowlevel.enable_ki_protection
async def serve_tcp(
    handler: Callable[[SocketStream], Awaitable[object]],
    port: int,
    *,
    host: str | None = None,
    backlog: int | None = None,
    no_delay: bool = True,
    handler_nursery: trio.Nursery | None = None,
    task_status: trio.TaskStatus[list[SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen at a port, and run a handler in a task of its own for each connection.

    It is `open_tcp_listeners` and `trio.serve_listeners`. With ``await nursery.start(serve_tcp, handler, 0)`` a program
    is given the listeners as soon as they listen.

    Args:
      handler: an async function of a stream, which is closed when the handler returns. What it raises ends the server.
      port: as for `open_tcp_listeners`.
      host: as for `open_tcp_listeners`.
      backlog: as for `open_tcp_listeners`.
      no_delay: as for `SocketListener`.
      handler_nursery: where to run the handlers; None stands for a nursery inside.
      task_status: for ``nursery.start``.

    Raises:
      SocketException: as `open_tcp_listeners`.
      TypeError: as `open_tcp_listeners`.
      ValueError: as `open_tcp_listeners`.

    **Checkpoints**: always. It returns only by being cancelled.

    **If cancelled**: `trio.Cancelled`; the listeners are closed, and so are the handlers' tasks if the nursery is the
    one inside.

    **Threads**: only from inside Trio.

    Source: `trio.serve_tcp`.
    """
    listeners = await open_tcp_listeners(port, host=host, backlog=backlog, no_delay=no_delay)
    await trio.serve_listeners(
        handler, listeners, handler_nursery=handler_nursery, task_status=task_status
    )
