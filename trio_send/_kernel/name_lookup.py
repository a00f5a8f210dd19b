"""From a name to the addresses a socket can connect to, and what a name server's refusals mean."""

from __future__ import annotations

import socket as stdlib_socket
from typing import Any, Final

import trio

from .._base.codes import SocketError
from .._base.errors import SocketException
from .addresses import map_ipv4, takes_ipv4
from .port import INET

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


#: One answer: family, type, protocol, canonical name, and the address.
Found = tuple[int, int, int, str, Any]


async def resolve(
    host: str | None, port: int, family: int, type: int, *, passive: bool = False
) -> list[Found]:
    """Ask for the addresses of a host, best first; those to listen at if ``passive``.

    Raises:
      SocketException: the name could not be looked up.
    """
    flags = stdlib_socket.AI_PASSIVE if passive else 0
    try:
        found = await trio.socket.getaddrinfo(host, port, family, type, flags=flags)
    except stdlib_socket.gaierror as error:
        raise SocketException(
            _LOOKUP_ERRORS.get(error.errno or 0, SocketError.HOST_NOT_FOUND),
            detail=f"looking up {host!r}: {error.strerror}",
        ) from None
    except (OSError, UnicodeError) as error:
        raise SocketException(SocketError.HOST_NOT_FOUND, detail=str(error)) from None
    return [(int(entry[0]), int(entry[1]), *entry[2:]) for entry in found]


async def look_up(sock: stdlib_socket.socket, host: str, port: int) -> list[Any]:
    """Return the addresses of a host that ``sock`` can be connected to, each once, best first; at least one.

    Raises:
      SocketException: there is none, or the name could not be looked up.
    """
    mapped = takes_ipv4(sock)
    addresses: list[Any] = []
    for family, _, _, _, address in await resolve(
        host, port, 0 if mapped else sock.family, sock.type
    ):
        if family == sock.family:
            addresses.append(address)
        elif mapped and family == stdlib_socket.AF_INET:
            addresses.append(map_ipv4(str(address[0]), int(address[1])))
    if not addresses:
        raise SocketException(
            SocketError.NO_DATA, detail=f"{host!r} has no address of this socket's family"
        )
    return list(dict.fromkeys(addresses))


async def look_up_all(host: str | None, port: int, *, passive: bool = False) -> list[Found]:
    """Return the addresses of a host for streams over IPv4 and IPv6, each once, best first; at least one.

    Raises:
      SocketException: there is none, or the name could not be looked up.
    """
    found = await resolve(host, port, 0, stdlib_socket.SOCK_STREAM, passive=passive)
    each: dict[Any, Found] = {}
    for entry in found:
        if entry[0] in INET:
            each.setdefault(entry[4], entry)  # files of hosts may say a thing twice
    if not each:
        raise SocketException(
            SocketError.NO_DATA, detail=f"{host!r} has no address of IPv4 or IPv6"
        )
    return list(each.values())
