"""A fresh descriptor under the number of one that was used up by an attempt to connect.

What an attempt leaves behind depends on the system. On Linux an IPv6 socket that has tried an IPv4 address never
reaches an IPv6 one; on other systems a socket that has failed once may be of no use at all; and one that is still
trying cannot be told to stop. The fresh descriptor takes the number of the old one, so whoever holds that number, the
socket object of the standard library included, need not know.

What cannot be carried stays behind: filters and other programs, keys for signatures, who gets signals, and whatever
other processes, or duplicates of the descriptor, have in their hands. Windows has no call for this, nor the need.
"""

from __future__ import annotations

import os
import socket as stdlib_socket
import sys
from typing import Any, Final, NamedTuple

import trio

from .carried_options import Option, carry_options, read_settled

HAVE_FRESH_DESCRIPTORS: Final = bool(sys.platform != "win32")

#: What lets two sockets of one program have the same address for a moment.
_SHARE: Final[int] = (
    stdlib_socket.SO_REUSEADDR
    if sys.platform == "linux"
    else getattr(stdlib_socket, "SO_REUSEPORT", 0)
)


class Untried(NamedTuple):
    """What a socket was before it began to connect.

    Attributes:
      address: its own address, None if it was not bound.
      options: those that cannot be read later.
    """

    address: Any
    options: dict[Option, bytes | None]


def describe_untried(sock: stdlib_socket.socket) -> Untried:
    """Note what cannot be read any more when a socket has begun to connect."""
    host, port, *_ = address = sock.getsockname()
    is_bound = port or host not in ("0.0.0.0", "::")
    return Untried(address if is_bound else None, read_settled(sock))


def renew(sock: stdlib_socket.socket, untried: Untried) -> None:
    """Put a fresh descriptor in the place of the one that a socket has.

    Raises:
      OSError: that is impossible, and the socket is as it was. There is no descriptor left, or an option or the address
        cannot be had any more.
    """
    with stdlib_socket.socket(sock.family, sock.type, sock.proto) as fresh:
        fresh.setblocking(False)
        carry_options(sock, fresh, untried.options)
        if untried.address is not None:
            _share_address(sock, fresh, untried.address)
        # Whoever waits for the old one would not hear of the fresh one.
        if trio.lowlevel.in_trio_run():
            trio.lowlevel.notify_closing(sock)
        number = sock.fileno()
        os.dup2(fresh.fileno(), number, inheritable=os.get_inheritable(number))


def _share_address(old: stdlib_socket.socket, fresh: stdlib_socket.socket, address: Any) -> None:
    """Bind a socket to the address of another one, which goes on having it, so nobody can take it in between."""
    level = stdlib_socket.SOL_SOCKET
    before = old.getsockopt(level, _SHARE)
    for sock in (old, fresh):
        sock.setsockopt(level, _SHARE, 1)
    try:
        fresh.bind(address)
    finally:
        for sock in (old, fresh):
            sock.setsockopt(level, _SHARE, before)
