"""The options that a fresh descriptor takes over from the one whose place it takes.

Every option that can be read and set is carried, unless it says something about one connection or one moment. An
option is set only where it differs from what a fresh socket has, because to set one can have effects of its own: a
buffer size that was set is not adapted to the connection any more.

Python knows few of the names, so Linux's own numbers stand here. Those of SOL_SOCKET are others on MIPS, SPARC, Alpha
and PA-RISC, where only what Python knows by name is carried, as on other systems.
"""

from __future__ import annotations

import socket as stdlib_socket
import struct
import sys
from typing import Final

_SOL_SOCKET: Final = stdlib_socket.SOL_SOCKET
_TCP: Final = stdlib_socket.IPPROTO_TCP
_IP: Final = stdlib_socket.IPPROTO_IP
_IPV6: Final = stdlib_socket.IPPROTO_IPV6

_IS_LINUX: Final = bool(sys.platform == "linux")

#: Options by name, with Linux's number where Python may not know the name.
_Names = dict[str, int | None]

_IP_OPTIONS: Final[_Names] = {
    "IP_TOS": 1,
    "IP_TTL": 2,
    "IP_OPTIONS": 4,
    "IP_RECVOPTS": 6,
    "IP_RETOPTS": 7,
    "IP_PKTINFO": 8,
    "IP_MTU_DISCOVER": 10,
    "IP_RECVERR": 11,
    "IP_RECVTTL": 12,
    "IP_RECVTOS": 13,
    "IP_FREEBIND": 15,
    "IP_PASSSEC": 18,
    "IP_TRANSPARENT": 19,
    "IP_RECVORIGDSTADDR": 20,
    "IP_MINTTL": 21,
    "IP_CHECKSUM": 23,
    "IP_BIND_ADDRESS_NO_PORT": 24,
    "IP_RECVFRAGSIZE": 25,
    "IP_RECVERR_RFC4884": 26,
    "IP_UNICAST_IF": 50,
    "IP_LOCAL_PORT_RANGE": 51,
}

_IPV6_OPTIONS: Final[_Names] = {
    "IPV6_V6ONLY": 26,
    "IPV6_MTU_DISCOVER": 23,
    "IPV6_RECVERR": 25,
    "IPV6_RECVERR_RFC4884": 31,
    "IPV6_FLOWINFO_SEND": 33,
    "IPV6_RECVPKTINFO": 49,
    "IPV6_RECVHOPLIMIT": 51,
    "IPV6_RECVHOPOPTS": 53,
    "IPV6_HOPOPTS": 54,
    "IPV6_RTHDRDSTOPTS": 55,
    "IPV6_RECVRTHDR": 56,
    "IPV6_RTHDR": 57,
    "IPV6_RECVDSTOPTS": 58,
    "IPV6_DSTOPTS": 59,
    "IPV6_RECVPATHMTU": 60,
    "IPV6_DONTFRAG": 62,
    "IPV6_RECVTCLASS": 66,
    "IPV6_TCLASS": 67,
    "IPV6_AUTOFLOWLABEL": 70,
    "IPV6_ADDR_PREFERENCES": 72,
    "IPV6_MINHOPCOUNT": 73,
    "IPV6_RECVORIGDSTADDR": 74,
    "IPV6_TRANSPARENT": 75,
    "IPV6_UNICAST_IF": 76,
    "IPV6_RECVFRAGSIZE": 77,
    "IPV6_FREEBIND": 78,
}

_TCP_OPTIONS: Final[_Names] = {
    "TCP_NODELAY": 1,
    "TCP_CORK": 3,
    "TCP_KEEPIDLE": 4,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 6,
    "TCP_SYNCNT": 7,
    "TCP_LINGER2": 8,
    "TCP_DEFER_ACCEPT": 9,
    "TCP_THIN_LINEAR_TIMEOUTS": 16,
    "TCP_THIN_DUPACK": 17,
    "TCP_USER_TIMEOUT": 18,
    "TCP_NOTSENT_LOWAT": 25,
    "TCP_SAVE_SYN": 27,
    "TCP_FASTOPEN_CONNECT": 30,
    "TCP_FASTOPEN_NO_COOKIE": 34,
    "TCP_INQ": 36,
    "TCP_TX_DELAY": 37,
    # Of macOS and the BSDs.
    "TCP_KEEPALIVE": None,
    "TCP_CONNECTIONTIMEOUT": None,
    "TCP_NOOPT": None,
    "TCP_NOPUSH": None,
}

# Last, because setting IP_TOS sets the priority, and SO_RCVLOWAT the size of the buffer.
_SOCKET_OPTIONS: Final[_Names] = {
    "SO_DEBUG": 1,
    "SO_REUSEADDR": 2,
    "SO_DONTROUTE": 5,
    "SO_BROADCAST": 6,
    "SO_KEEPALIVE": 9,
    "SO_OOBINLINE": 10,
    "SO_PRIORITY": 12,
    "SO_LINGER": 13,
    "SO_REUSEPORT": 15,
    "SO_RCVLOWAT": 18,
    "SO_RCVTIMEO": 20,
    "SO_SNDTIMEO": 21,
    "SO_TIMESTAMP": 29,
    "SO_TIMESTAMPNS": 35,
    "SO_MARK": 36,
    "SO_TIMESTAMPING": 37,
    "SO_RXQ_OVFL": 40,
    "SO_SELECT_ERR_QUEUE": 45,
    "SO_BUSY_POLL": 46,
    "SO_MAX_PACING_RATE": 47,
    "SO_ZEROCOPY": 60,
    "SO_TXTIME": 61,
    "SO_PREFER_BUSY_POLL": 69,
    "SO_BUSY_POLL_BUDGET": 70,
    "SO_RESERVE_MEM": 73,
    "SO_TXREHASH": 74,
    "SO_RCVMARK": 75,
    "SO_RCVPRIORITY": 82,
    "SO_NOSIGPIPE": None,
    "SO_SNDBUF": 7,
    "SO_RCVBUF": 8,
    # Whether the two sizes were set, or are adapted.
    "SO_BUF_LOCK": 72,
}

# Once an attempt has begun the kernel answers for these with what it has settled on, and what was set may be forgotten.
# An attempt at a link-local address binds the socket to the device.
_SETTLED_TCP_OPTIONS: Final[_Names] = {
    "TCP_MAXSEG": 2,
    "TCP_WINDOW_CLAMP": 10,
    "TCP_CONGESTION": 13,
}
_SETTLED_SOCKET_OPTIONS: Final[_Names] = {"SO_BINDTODEVICE": 25}

#: What raises a buffer size above the system's limit, for those who may.
_FORCES: Final = {7: 32, 8: 33}

#: More than any option has.
_SIZE: Final = 256

#: An option as its level and its number.
Option = tuple[int, int]


def _numbers(level: int, names: _Names) -> tuple[Option, ...]:
    by_number = _IS_LINUX and (level != _SOL_SOCKET or _SOL_SOCKET == 1)
    found = (
        getattr(stdlib_socket, name, number if by_number else None)
        for name, number in names.items()
    )
    return tuple((level, number) for number in found if number is not None)


_OF_IPV4: Final = (
    *_numbers(_IP, _IP_OPTIONS),
    *_numbers(_TCP, _TCP_OPTIONS),
    *_numbers(_SOL_SOCKET, _SOCKET_OPTIONS),
)
_OF_IPV6: Final = (*_numbers(_IPV6, _IPV6_OPTIONS), *_OF_IPV4)
_SETTLED: Final = (
    *_numbers(_TCP, _SETTLED_TCP_OPTIONS),
    *_numbers(_SOL_SOCKET, _SETTLED_SOCKET_OPTIONS),
)


def _read(sock: stdlib_socket.socket, option: Option) -> bytes | None:
    try:
        return sock.getsockopt(*option, _SIZE)
    except OSError:
        return None  # this kernel, or this kind of socket, knows no such option


def read_settled(sock: stdlib_socket.socket) -> dict[Option, bytes | None]:
    """Read what has to be read before a socket begins to connect."""
    return {option: _read(sock, option) for option in _SETTLED}


def carry_options(
    old: stdlib_socket.socket,
    fresh: stdlib_socket.socket,
    settled: dict[Option, bytes | None],
) -> None:
    """Give a fresh TCP socket the options of another one.

    Args:
      old: whose options.
      fresh: a socket that nothing was set on.
      settled: what `read_settled` returned of the old one.

    Raises:
      OSError: the system refuses one of them now, as it does when the program has given up the right to set it.
    """
    for option in _OF_IPV6 if old.family == stdlib_socket.AF_INET6 else _OF_IPV4:
        _carry(fresh, option, _read(old, option))
    for option, value in settled.items():
        _carry(fresh, option, value)


def _carry(fresh: stdlib_socket.socket, option: Option, value: bytes | None) -> None:
    if value is None or value == _read(fresh, option):
        return
    level, number = option
    if level != _SOL_SOCKET or number not in (stdlib_socket.SO_SNDBUF, stdlib_socket.SO_RCVBUF):
        fresh.setsockopt(level, number, value)
        return
    size = struct.unpack("=i", value)[0]
    if _IS_LINUX:
        size //= 2  # it doubles what it is given
    fresh.setsockopt(level, number, size)
    if _IS_LINUX and _SOL_SOCKET == 1 and value != _read(fresh, option):
        fresh.setsockopt(level, _FORCES[number], size)
