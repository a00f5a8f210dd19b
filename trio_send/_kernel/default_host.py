"""The default remote host of a datagram socket, changed as often as the program likes.

To connect a datagram socket once more is one call, and usually all there is to it. But the kernel keeps the own address
that it chose for the first host, and from that address not every other can be reached: from loopback nothing outside,
from IPv4 nothing of IPv6. Then the association is dissolved first, which gives the own address back. The kernel gives
the port back too, unless it was asked for, so the socket is bound to it again: whoever has it goes on reaching us.
"""

from __future__ import annotations

import errno
import os
import socket as stdlib_socket
import sys
from contextlib import suppress
from typing import Any, Final

_IS_LINUX: Final = bool(sys.platform == "linux")

#: Linux's number of an option that dissolving takes back, and the size of what it holds.
_SO_BINDTODEVICE: Final = getattr(stdlib_socket, "SO_BINDTODEVICE", 25)
_DEVICE_SIZE: Final = 16

#: What the kernel says when it is the own address that an address cannot be reached from.
_MAY_BE_OWN_ADDRESS: Final = frozenset(
    {
        errno.EINVAL,
        errno.EAFNOSUPPORT,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.EADDRNOTAVAIL,
    }
)

_MAPPED: Final = "::ffff:"
_LOOPBACK: Final = "::1"


def set_default_host(sock: stdlib_socket.socket, address: Any) -> None:
    """Connect an IPv4 or IPv6 datagram socket, whether or not it was connected before.

    Raises:
      OSError: refused. The former association is still there, if the kernel lets it be made again.
    """
    if not _IS_LINUX:
        sock.connect(address)  # other systems dissolve the former association themselves
        return
    former = get_peer(sock)
    own = sock.getsockname()
    try:
        sock.connect(address)
    except OSError as error:
        if former is None or error.errno not in _MAY_BE_OWN_ADDRESS:
            raise
    else:
        if former is None or _fits(sock.getsockname()[0], sock.getpeername()[0]):
            return
    device = b""
    if len(former) < 4 or not former[3]:  # a host with a scope has bound it to the device by itself
        device = sock.getsockopt(stdlib_socket.SOL_SOCKET, _SO_BINDTODEVICE, _DEVICE_SIZE)
    _dissolve(sock)
    try:
        if device:
            sock.setsockopt(stdlib_socket.SOL_SOCKET, _SO_BINDTODEVICE, device)
        left = sock.getsockname()
        if not left[1]:
            sock.bind((left[0], own[1], *left[2:]))
        sock.connect(address)
    except OSError:
        with suppress(OSError):
            sock.connect(former)
        raise


def get_peer(sock: stdlib_socket.socket) -> Any:
    """Return the address of the peer or the default remote host, None if there is none."""
    try:
        return sock.getpeername()
    except OSError:
        return None


def _fits(own: str, peer: str) -> bool:
    """Tell whether answers to an own address come from the peer, as far as that can be seen."""
    if own.startswith(_MAPPED) != peer.startswith(_MAPPED):
        return False
    return own != _LOOPBACK or peer == _LOOPBACK


def _dissolve(sock: stdlib_socket.socket) -> None:
    """Take the default remote host away; the standard library has no way to say so.

    Raises:
      OSError: refused.
    """
    try:
        import ctypes
    except ImportError:  # an interpreter can be built without it
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None
    # An address of no family, all zeros.
    nobody = bytes(16)
    if ctypes.CDLL(None, use_errno=True).connect(sock.fileno(), nobody, len(nobody)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
