"""Python socket addresses: which are well-formed, and which hold a name that would have to be looked up.

The standard library finds out only when it makes the system call, which for an operation that waits in a queue is too
late to tell the caller; and it looks names up there and then, with every task waiting for the name server. So addresses
are checked when they are handed in, and only such as need no looking up get as far as the kernel.

An IPv6 socket without IPV6_V6ONLY takes IPv4 addresses as well. The kernel wants them written as IPv6 ones.
"""

from __future__ import annotations

import os
import socket as stdlib_socket
import sys
from typing import Any, Final

_INET: Final[int] = stdlib_socket.AF_INET
_INET6: Final[int] = stdlib_socket.AF_INET6
_UNIX: Final = getattr(stdlib_socket, "AF_UNIX", None)

#: The longest path of a Unix socket, its closing zero included: ``sun_path`` of Linux, and of the BSDs and macOS.
_PATH_SIZE: Final = 108 if sys.platform == "linux" else 104

#: What follows the host, and how big each may be.
_NUMBERS: Final = (("port", 0xFFFF), ("flow label", 0xFFFFF), ("scope", 0xFFFFFFFF))

_BROADCAST: Final = "255.255.255.255"

#: Hosts that the standard library gives a meaning without looking anything up.
_WORDS: Final[dict[int, tuple[str, ...]]] = {_INET: ("", "<broadcast>"), _INET6: ("",)}


def numeric(family: int, name: str, address: Any) -> Any | None:
    """Check the shape of an address and return it in the form the kernel takes, or None if a name must be looked up.

    Addresses of families other than IPv4, IPv6 and Unix are returned as they are.

    Raises:
      TypeError: ``address`` has the wrong shape; the message starts with ``name``.
      ValueError: a number in it, or a path, is out of range.
    """
    if family == _UNIX:
        return _path(name, address)
    if family not in (_INET, _INET6):
        return address
    host = _checked_host(family, name, address)
    if host in _WORDS[family]:
        return address
    if "\0" in host:
        return None  # the system would stop reading there, and the rest be lost without a word
    try:
        stdlib_socket.inet_pton(family, host)
    except (OSError, ValueError):
        pass  # not the plain notation; there are others, with a scope or fewer dots
    else:
        return address
    try:
        found = stdlib_socket.getaddrinfo(
            host, address[1], family, flags=stdlib_socket.AI_NUMERICHOST
        )
    except (stdlib_socket.gaierror, ValueError):
        return None
    # A flow label and a scope that were given by number are kept.
    return (*found[0][4][:2], *address[2:]) if len(address) > 2 else found[0][4]


def takes_ipv4(sock: stdlib_socket.socket) -> bool:
    """Tell whether an IPv6 socket takes IPv4 addresses as well, written as IPv6 ones."""
    if sock.family != _INET6:
        return False
    try:
        return not sock.getsockopt(stdlib_socket.IPPROTO_IPV6, stdlib_socket.IPV6_V6ONLY)
    except OSError:
        return False


def map_ipv4(host: str, port: int) -> tuple[str, int, int, int]:
    """Write an IPv4 address as an IPv6 one."""
    return f"::ffff:{_BROADCAST if host == '<broadcast>' else host}", port, 0, 0


def find_other_family(sock: stdlib_socket.socket, address: Any) -> list[Any] | None:
    """Look at an address whose host is none of the socket's own family.

    Returns:
      What to give the kernel for it, nothing perhaps, if it is one of the other family; None if it must be a name.
    """
    other = _INET6 if sock.family == _INET else _INET
    found = numeric(other, "address", address[:2])
    if found is None:
        return None
    return [map_ipv4(*found)] if takes_ipv4(sock) else []


def require_numeric(
    family: int, sock: stdlib_socket.socket | None, name: str, address: Any, purpose: str
) -> Any:
    """Check an address that may not hold a name and return it in the form the kernel takes (F250).

    Args:
      family: the address family.
      sock: what the address is for; None if there is nothing to ask whether it takes IPv4 addresses as well.
      name: what the messages start with.
      address: the address.
      purpose: what is done with it, for the message.

    Raises:
      TypeError: ``address`` has the wrong shape.
      ValueError: its host is a name, or a number in it, or a path, is out of range.
    """
    found = numeric(family, name, address)
    if found is None and sock is not None:
        others = find_other_family(sock, address)
        if others:
            return others[0]
    if found is None:
        version = "IPv4" if family == _INET else "IPv6"
        raise ValueError(
            f"{name} has the host {address[0]!r}, but must have an {version} address, because {purpose} looks no names "
            "up; look it up first, for example with trio.socket.getaddrinfo()"
        )
    return found


def _checked_host(family: int, name: str, address: Any) -> str:
    if type(address) is tuple and len(address) == 2:
        host, port = address
        if type(host) is str and type(port) is int and 0 <= port <= 0xFFFF:
            return host  # as nearly all are, and what follows takes as long as the kernel does
    if family == _INET:
        expected, longest = "(host, port)", 2
    else:
        expected, longest = "(host, port[, flowinfo[, scope_id]])", 4
    if not (
        isinstance(address, tuple)
        and 2 <= len(address) <= longest
        and isinstance(address[0], str)
        and all(isinstance(number, int) for number in address[1:])
    ):
        raise TypeError(f"{name} must be {expected} for this socket, not {address!r}")
    for number, (what, limit) in zip(address[1:], _NUMBERS, strict=False):
        if not 0 <= number <= limit:
            raise ValueError(
                f"{name} has the {what} {number}, but a {what} is a number from 0 to {limit}"
            )
    return address[0]


def _path(name: str, address: Any) -> bytes:
    """Return the path of a Unix socket, or its abstract name, as bytes."""
    try:
        is_text = isinstance(address, (str, os.PathLike))
        path = os.fsencode(address) if is_text else bytes(memoryview(address))
    except TypeError:
        raise TypeError(
            f"{name} must be a path, as str, bytes or os.PathLike, not {address!r}"
        ) from None
    except ValueError as error:
        raise ValueError(f"{name} is no path: {error}") from None
    # An abstract name begins with a zero and needs none at its end.
    limit = _PATH_SIZE if path[:1] == b"\0" else _PATH_SIZE - 1
    if len(path) > limit:
        raise ValueError(
            f"{name} is a path of {len(path)} bytes, but must have at most {limit} on this system"
        )
    return path
