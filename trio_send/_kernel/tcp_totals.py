"""What the kernel itself says about a TCP connection, beside what the library counted."""

from __future__ import annotations

import socket as stdlib_socket
import struct
import sys
from typing import TYPE_CHECKING, Final

from .._base.codes import SocketError
from .._base.errors import SocketException
from .port import INET

if TYPE_CHECKING:
    from .port import Port

if sys.platform == "linux":
    import fcntl

# Linux's own numbers, from <linux/sockios.h> and <linux/tcp.h>; the standard library does not have them all.
_SIOCOUTQ: Final = 0x5411
_SIOCOUTQNSD: Final = 0x894B
#: Where the state and the count of acknowledged bytes stand in `struct tcp_info`, and how much of it is read.
_STATE_OFFSET: Final = 0
_BYTES_ACKED_OFFSET: Final = 120
_TCP_INFO_SIZE: Final = 128
#: States in which nothing can be acknowledged any more.
_TCP_CLOSE: Final = 7

#: How often to ask what was acknowledged, in seconds, because no event tells: soon enough for a peer next door, seldom
#: enough for one overseas. To ask takes 6 us, measured.
FIRST_PAUSE: Final = 0.001
LONGEST_PAUSE: Final = 0.05


def kernel_totals(port: Port) -> tuple[int, int, int, bool]:
    """Return what the kernel counted: acknowledged, unacknowledged, unsent bytes, and whether the connection is over.

    Acknowledged counts the connection's opening as one byte, as the sequence numbers do.

    Raises:
      SocketException: OPERATION_NOT_SUPPORTED for all but TCP on Linux.
    """
    sock = getattr(port, "sock", None)
    can_tell = (
        sys.platform == "linux"
        and isinstance(sock, stdlib_socket.socket)
        and sock.family in INET
        and sock.type == stdlib_socket.SOCK_STREAM
    )
    if not can_tell or sock is None:
        raise SocketException(
            SocketError.OPERATION_NOT_SUPPORTED,
            detail="only Linux tells what was acknowledged, and only of TCP connections",
        )
    # Acknowledgements come in while the questions are asked. The numbers belong together only if none did.
    while True:
        acknowledged, closed = _tcp_info(sock)
        unacknowledged, unsent = _ioctl(sock, _SIOCOUTQ), _ioctl(sock, _SIOCOUTQNSD)
        if _tcp_info(sock) == (acknowledged, closed):
            return acknowledged, unacknowledged, unsent, closed


def _tcp_info(sock: stdlib_socket.socket) -> tuple[int, bool]:
    option: int = stdlib_socket.TCP_INFO  # type: ignore[attr-defined,unused-ignore]
    info = sock.getsockopt(stdlib_socket.IPPROTO_TCP, option, _TCP_INFO_SIZE)
    if len(info) < _TCP_INFO_SIZE:
        raise SocketException(
            SocketError.OPERATION_NOT_SUPPORTED,
            detail="this kernel is too old to tell how many bytes were acknowledged",
        )
    (acknowledged,) = struct.unpack_from("=Q", info, _BYTES_ACKED_OFFSET)
    return acknowledged, info[_STATE_OFFSET] == _TCP_CLOSE


def _ioctl(sock: stdlib_socket.socket, request: int) -> int:
    answer = fcntl.ioctl(sock, request, struct.pack("i", 0))  # type: ignore[name-defined,unused-ignore]
    (number,) = struct.unpack("i", answer)
    return int(number)
