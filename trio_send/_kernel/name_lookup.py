"""From a name to the addresses a socket can connect to, and what a name server's refusals mean."""

from __future__ import annotations

import socket as stdlib_socket
from typing import Any, Final

import trio

from .._base.codes import SocketError
from .._base.errors import SocketException
from .addresses import map_ipv4, takes_ipv4

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


async def look_up(sock: stdlib_socket.socket, host: str, port: int) -> list[Any]:
    """Return the addresses of a host that ``sock`` can be connected to, each once, best first; at least one.

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
    return list(dict.fromkeys(addresses))
