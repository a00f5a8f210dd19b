"""What a socket tells of its descriptor: addresses, options by number, and whether it is connected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import trio

from .._base.checks import counted
from .._operations.gate import CLOSED
from .core import Verb, translate

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Endpoint(Verb):
    """The part of `Socket` that tells of the descriptor, and closes it."""

    __slots__ = ()

    def __repr__(self) -> str:
        if self._core.sends.gate & CLOSED:
            return "<trio_send.Socket: closed>"
        state = (
            "torn" if self._core.sends.torn else "connected" if self.connected else "not connected"
        )
        return (
            f"<trio_send.Socket: {state}, {counted(self._core.sends.length, 'operation')} queued>"
        )

    @property
    def connected(self) -> bool:
        """Whether the socket was connected and has not been closed or found dead since."""
        return self._core.connected

    @property
    def family(self) -> int:
        """The address family, such as `socket.AF_INET`."""
        return self._core.require_kernel().family

    @property
    def type(self) -> int:
        """The type, such as `socket.SOCK_STREAM`."""
        return self._core.require_kernel().type

    @property
    def local_end_point(self) -> Any:
        """The own address, a Python socket address."""
        self._core.require_open()
        try:
            return self._core.require_kernel().getsockname()
        except OSError as error:
            raise translate(error) from error

    @property
    def remote_end_point(self) -> Any:
        """The address of the peer, a Python socket address.

        It is remembered from the connect or the accept, so it can be read when the peer has gone as well. Reading it
        raises `SocketException` with NOT_CONNECTED if there never was one, and after `disconnect` with
        ``reuse_socket``.
        """
        self._core.require_open()
        try:
            return self._core.require_kernel().getpeername()
        except OSError as error:
            if self._core.peer is not None:
                return self._core.peer
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

    def fileno(self) -> int:
        """Return the descriptor, or -1 if the socket is closed.

        To look at, not to use: do not send through it, wait for it or close it. `Socket.trio` is for that.
        """
        return self._core.port.fileno()

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
        if buflen is None:
            return self._core.get_option(level, optname)
        return self._core.get_option(level, optname, buflen)

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
        self._core.set_option(level, optname, value)
