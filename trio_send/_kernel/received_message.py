"""Receiving with all that the kernel tells beside the bytes: from whom, whether it is all, and how it came."""

from __future__ import annotations

import socket as stdlib_socket
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import attrs

from .._base.codes import SocketFlags
from .port import HAVE_SCATTER

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What the kernels call it to tell of each IPv4 datagram how it came; older Pythons do not know the name. Linux and
#: macOS take the same structure.
_IP_PKTINFO: Final[int | None] = getattr(
    stdlib_socket, "IP_PKTINFO", {"linux": 8, "darwin": 26}.get(sys.platform)
)

#: The same for IPv6: the option that asks for it, and the name of what is told.
_IPV6_RECVPKTINFO: Final[int | None] = getattr(stdlib_socket, "IPV6_RECVPKTINFO", None)
_IPV6_PKTINFO: Final[int | None] = getattr(stdlib_socket, "IPV6_PKTINFO", None)

#: How many bytes there are of it: an interface and two addresses, or an address and an interface.
_IPV4_SIZE: Final = 12
_IPV6_SIZE: Final = 20

#: No datagram of UDP is longer. Where the standard library cannot tell whether one was cut off, this much room is made.
_LONGEST: Final = 65536

#: What the kernel says of a message, by the names of the `socket` module.
_FLAGS: Final = tuple(
    (int(getattr(stdlib_socket, name)), flag)
    for name, flag in (
        ("MSG_OOB", SocketFlags.OUT_OF_BAND),
        ("MSG_TRUNC", SocketFlags.TRUNCATED),
        ("MSG_CTRUNC", SocketFlags.CONTROL_DATA_TRUNCATED),
    )
    if hasattr(stdlib_socket, name)
)


@attrs.frozen(slots=True)
class IPPacketInformation:
    """How a datagram came.

    Attributes:
      address: the own address to which it was sent, as text. An IPv6 socket sees an IPv4 address as ``"::ffff:..."``.
      interface: the index of the interface by which it came, as `socket.if_indextoname` takes it.

    Source: .NET's ``IPPacketInformation``.
    """

    address: str
    interface: int


class Received(NamedTuple):
    """What one call has received."""

    size: int
    data: bytes  # empty if it went into buffers
    address: Any
    flags: SocketFlags
    information: IPPacketInformation | None


def ask_for_information(sock: stdlib_socket.socket) -> None:
    """Have the kernel tell of each datagram how it came, where it can.

    Raises:
      OSError: refused.
    """
    if sock.type != stdlib_socket.SOCK_DGRAM or not HAVE_SCATTER:
        return
    if sock.family == stdlib_socket.AF_INET and _IP_PKTINFO is not None:
        sock.setsockopt(stdlib_socket.IPPROTO_IP, _IP_PKTINFO, 1)
    elif sock.family == stdlib_socket.AF_INET6 and _IPV6_RECVPKTINFO is not None:
        sock.setsockopt(stdlib_socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)


def receive_message(
    sock: stdlib_socket.socket,
    room: int | Sequence[memoryview],
    flags: int,
    *,
    informs: bool,
) -> Received:
    """Receive once.

    Args:
      sock: where from.
      room: how many bytes at most; or buffers, one of which is filled after the other.
      flags: the native flags.
      informs: whether it is wanted how the message came, for which `ask_for_information` was called.

    Raises:
      OSError: as `socket.socket.recvmsg`.
    """
    data = b""
    if sys.platform == "win32" or not HAVE_SCATTER:
        return _receive_and_cut(sock, room, flags)
    size = stdlib_socket.CMSG_SPACE(_IPV6_SIZE) + stdlib_socket.CMSG_SPACE(_IPV4_SIZE)
    if isinstance(room, int):
        data, ancillary, told, address = sock.recvmsg(room, size * informs, flags)
        count = len(data)
    else:
        count, ancillary, told, address = sock.recvmsg_into(room, size * informs, flags)
    found = SocketFlags.NONE
    for native, flag in _FLAGS:
        if told & native:
            found |= flag
    return Received(count, data, address, found, _read_information(ancillary))


def _receive_and_cut(
    sock: stdlib_socket.socket, room: int | Sequence[memoryview], flags: int
) -> Received:
    """Receive where the standard library raises for a message that is too long, and drops it."""
    size = room if isinstance(room, int) else sum(view.nbytes for view in room)
    if sock.type == stdlib_socket.SOCK_STREAM:
        whole, address = sock.recvfrom(size, flags)
    else:
        whole, address = sock.recvfrom(max(size, _LONGEST), flags)
    found = SocketFlags.TRUNCATED if len(whole) > size else SocketFlags.NONE
    data = whole[:size]
    if isinstance(room, int):
        return Received(len(data), data, address, found, None)
    left = memoryview(data)
    for view in room:
        count = min(view.nbytes, left.nbytes)
        view[:count] = left[:count]
        left = left[count:]
    return Received(len(data), b"", address, found, None)


def _read_information(ancillary: list[tuple[int, int, bytes]]) -> IPPacketInformation | None:
    for level, kind, told in ancillary:
        if level == stdlib_socket.IPPROTO_IP and kind == _IP_PKTINFO and len(told) >= _IPV4_SIZE:
            interface, address = (
                told[:4],
                stdlib_socket.inet_ntop(stdlib_socket.AF_INET, told[8:12]),
            )
        elif (
            level == stdlib_socket.IPPROTO_IPV6
            and kind == _IPV6_PKTINFO
            and len(told) >= _IPV6_SIZE
        ):
            interface, address = (
                told[16:20],
                stdlib_socket.inet_ntop(stdlib_socket.AF_INET6, told[:16]),
            )
        else:
            continue
        return IPPacketInformation(address, int.from_bytes(interface, sys.byteorder))
    return None
