"""Connecting to a name: all of its addresses, of both families, without waiting long for one that does not answer.

Who connects to one address after the other waits for the first as long as the system does, a minute or two, before the
second has its turn. So the attempts are staggered, as RFC 8305 ("happy eyeballs") has it: the next one starts when the
one before has failed, or when some time has passed, and those before go on. The first that succeeds is taken, and the
others are closed.

Each attempt has a socket of its own, of the family of its address. So whoever is connected in the end speaks with the
peer by the family that the peer's address has.
"""

from __future__ import annotations

import math
import socket as stdlib_socket
import sys
from typing import TYPE_CHECKING, Any, Final

import trio

from .._base.checks import require_seconds, require_whole_number
from .._base.codes import SocketError
from .._base.errors import SocketException
from .._kernel.addresses import numeric
from .._kernel.name_lookup import look_up_all
from .core import require_on_torn
from .socket import Socket

if TYPE_CHECKING:
    import os

    from .._kernel.name_lookup import Found
    from .core import OnTorn

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

#: In seconds; what RFC 8305 recommends, and what Trio and anyio take.
DELAY: Final = 0.25

_HIGHEST_PORT: Final = 0xFFFF

#: Linux's option by which a port is chosen only when the peer is known, so that one local address serves for more
#: connections than it has ports. Python has the name from 3.12 on.
_NO_PORT_YET: Final[int | None] = getattr(
    stdlib_socket, "IP_BIND_ADDRESS_NO_PORT", 24 if sys.platform == "linux" else None
)


@trio.lowlevel.enable_ki_protection
async def connect_tcp(
    host: str,
    port: int,
    *,
    happy_eyeballs_delay: float | None = DELAY,
    local_address: str | None = None,
    no_delay: bool = True,
    on_torn: OnTorn = "refuse",
) -> Socket:
    """Connect to a host by name, over IPv4 or IPv6, whichever answers first.

    The addresses of the name are tried in the order in which they were found, IPv4 and IPv6 in turn. The next one is
    tried when the one before has failed, or after a delay during which nobody has answered. What has been begun goes on
    meanwhile, and the first that succeeds is taken. To set options before connecting, make a `Socket` and use
    `Socket.connect`, which has one family and tries one address after the other.

    Args:
      host: a name or a numeric address.
      port: the port.
      happy_eyeballs_delay: how many seconds to wait for an answer before the next address is tried as well; None waits
        for each until the system gives it up.
      local_address: a numeric address of this machine to connect from; only peers of its family are tried then. None
        leaves the choice to the system.
      no_delay: whether to send small messages at once; see `Socket.no_delay`.
      on_torn: as for `Socket`.

    Returns:
      A connected socket, which the caller has to close.

    Raises:
      SocketException: nobody could be reached. The text has the reason of each address, the code is that of the attempt
        that failed last, and the cause is a group with an error for each. Or the name could not be looked up.
      TypeError: ``host``, ``port`` or another argument is of the wrong type.
      ValueError: ``port`` is none, ``happy_eyeballs_delay`` is negative, ``local_address`` is not numeric, or
        ``on_torn`` is neither of the two.

    **Checkpoints**: always.

    **If cancelled**: `trio.Cancelled`, and all attempts are given up; no socket is left.

    **Threads**: only from inside Trio; the socket belongs to the calling thread and run.

    Source: `trio.open_tcp_stream`; .NET's static ``Socket.ConnectAsync`` with a ``ConnectAlgorithm``.
    """
    if not isinstance(host, str):
        raise TypeError(f"host must be a str, not {host!r}")
    port = require_port(port)
    delay = (
        math.inf
        if happy_eyeballs_delay is None
        else require_seconds("happy_eyeballs_delay", happy_eyeballs_delay)
    )
    require_no_delay(no_delay)
    require_on_torn(on_torn)
    local = None if local_address is None else _local(local_address)
    targets = in_turn(await look_up_all(host, port))
    if local is not None:
        targets = [target for target in targets if target[0] == local[0]]
        if not targets:
            raise SocketException(
                SocketError.ADDRESS_FAMILY_NOT_SUPPORTED,
                detail=f"{host!r} has no address of the family of local_address, which is {local_address!r}",
            )
    return await Race(host, targets, local, no_delay, on_torn).run(delay)


@trio.lowlevel.enable_ki_protection
async def connect_unix(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> Socket:
    """Connect to a Unix socket by its path.

    Args:
      path: the path, or an abstract name, which begins with a zero.

    Returns:
      A connected socket, which the caller has to close.

    Raises:
      SocketException: nobody could be reached, or this system has no Unix sockets.
      TypeError: ``path`` is no path.
      ValueError: ``path`` is too long.

    **Checkpoints**: always.

    **If cancelled**: `trio.Cancelled`, and no socket is left.

    **Threads**: only from inside Trio; the socket belongs to the calling thread and run.

    Source: `trio.open_unix_socket`.
    """
    family = unix_family()
    address = numeric(family, "path", path)
    socket = Socket(family)
    try:
        await socket.connect(address)
    except BaseException:
        socket.close()
        raise
    return socket


def unix_family() -> int:
    """Return the family of Unix sockets, or raise `SocketException` where there is none."""
    family: int | None = getattr(stdlib_socket, "AF_UNIX", None)
    if family is None:
        raise SocketException(
            SocketError.ADDRESS_FAMILY_NOT_SUPPORTED,
            detail="this system has no Unix sockets for Python",
        )
    return family


def require_port(port: int) -> int:
    """Return a port as an int.

    Raises:
      TypeError: it is no whole number.
      ValueError: there is no such port.
    """
    port = require_whole_number("port", port, "ports")
    if not 0 <= port <= _HIGHEST_PORT:
        raise ValueError(f"port is {port}, but must be a number from 0 to {_HIGHEST_PORT}")
    return port


def require_no_delay(no_delay: bool) -> None:
    """Raise `TypeError` unless it says yes or no."""
    if not isinstance(no_delay, bool):
        raise TypeError(f"no_delay must be True or False, not {no_delay!r}")


def _local(host: str) -> tuple[int, Any]:
    """Return the family of a numeric address, and the address to bind to."""
    for family in (stdlib_socket.AF_INET, stdlib_socket.AF_INET6):
        address = numeric(family, "local_address", (host, 0))
        if host and address is not None:
            return family, address
    raise ValueError(f"local_address is {host!r}, but must be a numeric address of this machine")


def in_turn(targets: list[Found]) -> list[Found]:
    """Order addresses so that the two families take turns, the family of the first one first (RFC 8305, section 4)."""
    first = [target for target in targets if target[0] == targets[0][0]]
    other = [target for target in targets if target[0] != targets[0][0]]
    ordered: list[Found] = []
    for number in range(max(len(first), len(other))):
        ordered += first[number : number + 1] + other[number : number + 1]
    return ordered


class Race:
    """The attempts to reach one host.

    Args:
      host: its name.
      targets: its addresses, in the order in which to try them; at least one.
      local: the family and the address to connect from, if there is one.
      no_delay: for the sockets.
      on_torn: for the sockets.
    """

    def __init__(
        self,
        host: str,
        targets: list[Found],
        local: tuple[int, Any] | None,
        no_delay: bool,
        on_torn: OnTorn,
    ) -> None:
        self._host = host
        self._targets = targets
        self._local = local
        self._no_delay = no_delay
        self._on_torn: OnTorn = on_torn
        self._winner: Socket | None = None
        #: The addresses that failed and why, in the order of the failures.
        self._failures: list[tuple[Any, SocketException]] = []

    @trio.lowlevel.enable_ki_protection
    async def run(self, delay: float) -> Socket:
        """Return the socket that was connected first."""
        try:
            async with trio.open_nursery() as nursery:
                for target in self._targets:
                    failed = trio.Event()
                    nursery.start_soon(self._attempt, target, failed, nursery.cancel_scope)
                    with trio.move_on_after(delay):
                        await failed.wait()
        except BaseException:
            # A cancellation from outside may come in the moment of success.
            if self._winner is not None:
                self._winner.close()
            raise
        if self._winner is None:
            raise self._error() from self._reasons()
        return self._winner

    @trio.lowlevel.enable_ki_protection
    async def _attempt(self, target: Found, failed: trio.Event, others: trio.CancelScope) -> None:
        family, type_, proto, _, address = target
        try:
            socket = Socket(family, type_, proto, on_torn=self._on_torn)
            try:
                if self._no_delay:
                    socket.no_delay = True
                if self._local is not None:
                    self._bind(socket, self._local[1])
                await socket.connect(address)
            except BaseException:
                socket.close()
                raise
        except SocketException as error:
            self._failures.append((address, error))
            failed.set()
        else:
            if self._winner is None:
                self._winner = socket
                others.cancel(reason="another address has answered")
            else:
                socket.close()  # two have succeeded at the same moment

    @staticmethod
    def _bind(socket: Socket, address: Any) -> None:
        if _NO_PORT_YET is not None:
            try:
                socket.setsockopt(stdlib_socket.IPPROTO_IP, _NO_PORT_YET, 1)
            except SocketException:
                pass  # an older kernel; then the port is chosen here
        socket.bind(address)

    def _error(self) -> SocketException:
        _, last = self._failures[-1]
        what = (
            "its address has not answered"
            if len(self._failures) == 1
            else f"none of its {len(self._failures)} addresses has answered"
        )
        reasons = "; ".join(
            f"{_show(address)}: {error.socket_error_code.name}" for address, error in self._failures
        )
        return SocketException(
            last.socket_error_code,
            native_error_code=last.native_error_code,
            detail=f"connecting to {self._host!r}, {what}: {reasons}",
        )

    def _reasons(self) -> ExceptionGroup[SocketException]:
        reasons = []
        for address, error in self._failures:
            reason = SocketException(
                error.socket_error_code,
                native_error_code=error.native_error_code,
                detail=f"tried {_show(address)}",
            )
            reason.__cause__ = error
            reasons.append(reason)
        return ExceptionGroup(f"the attempts to reach {self._host!r}", reasons)


def _show(address: Any) -> str:
    if not isinstance(address, tuple):
        return repr(address)
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
