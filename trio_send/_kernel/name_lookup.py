"""From a name to the addresses a socket can connect to, and what a name server's refusals mean."""

from __future__ import annotations

import socket as stdlib_socket
from typing import Any, Final

import trio

from .._base.codes import SocketError
from .._base.errors import SocketException

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


def takes_ipv4(sock: stdlib_socket.socket) -> bool:
    """Tell whether an IPv6 socket connects to IPv4 addresses as well, written as IPv6 ones."""
    if sock.family != stdlib_socket.AF_INET6:
        return False
    try:
        return not sock.getsockopt(stdlib_socket.IPPROTO_IPV6, stdlib_socket.IPV6_V6ONLY)
    except OSError:
        return False


def map_ipv4(host: str, port: int) -> tuple[str, int, int, int]:
    """Write an IPv4 address as an IPv6 one."""
    return f"::ffff:{host}", port, 0, 0


def find_other_family(sock: stdlib_socket.socket, address: Any) -> list[Any] | None:
    """Look at a host that is no address of the socket's own family.

    Returns:
      The addresses to try, none perhaps, if it is one of the other family; None if it must be a name.
    """
    host, port = address[:2]
    own = sock.family
    other = stdlib_socket.AF_INET6 if own == stdlib_socket.AF_INET else stdlib_socket.AF_INET
    try:
        stdlib_socket.inet_pton(other, host)
    except (OSError, ValueError):
        return None
    return [map_ipv4(host, port)] if takes_ipv4(sock) else []


async def look_up(sock: stdlib_socket.socket, host: str, port: int) -> list[Any]:
    """Return the addresses of a host that ``sock`` can be connected to, best first; at least one.

    Raises:
      SocketException: there is none, or the name could not be looked up.
    """
    mapped = takes_ipv4(sock)
    try:
        found = await trio.socket.getaddrinfo(host, port, 0 if mapped else sock.family, sock.type)
    except stdlib_socket.gaierror as error:
        raise SocketException(
            _LOOKUP_ERRORS.get(error.errno or 0, SocketError.HOST_NOT_FOUND),
            detail=f"looking up {host!r}: {error.strerror}",
        ) from None
    except (OSError, UnicodeError) as error:
        raise SocketException(SocketError.HOST_NOT_FOUND, detail=str(error)) from None
    addresses: list[Any] = []
    for family, _, _, _, address in found:
        if family == sock.family:
            addresses.append(address)
        elif mapped and family == stdlib_socket.AF_INET:
            addresses.append(map_ipv4(str(address[0]), int(address[1])))
    if not addresses:
        raise SocketException(
            SocketError.NO_DATA, detail=f"{host!r} has no address of this socket's family"
        )
    return addresses
