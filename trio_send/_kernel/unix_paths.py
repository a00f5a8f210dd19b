"""The files of Unix sockets: which are left over, and which are still one's own.

To bind a Unix socket makes a file, and nobody removes it: not the system when the socket is closed, and not a program
that is killed. The next one cannot be bound there. So who listens removes its file in the end, and in the beginning one
that belongs to nobody any more.
"""

from __future__ import annotations

import errno
import os
import socket as stdlib_socket
import stat

from .._base.codes import SocketError
from .._base.errors import SocketException

#: What tells a file from another one: its device and its number there.
Identity = tuple[int, int]


def identity_of(path: bytes) -> Identity | None:
    """Say which file is at a path; None if there is none, or the path is an abstract name."""
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def remove_if_same(path: bytes, identity: Identity | None) -> None:
    """Remove the file of a socket that was closed, unless somebody has put another one in its place."""
    if identity is not None and identity_of(path) == identity:
        try:
            os.unlink(path)
        except OSError:
            pass  # it will be found to be left over


def remove_left_over(path: bytes) -> None:
    """Remove the file of a socket that nobody has any more, if there is one.

    Raises:
      SocketException: what is there is something else, or in use, or cannot be removed.
    """
    try:
        status = os.lstat(path)
    except (OSError, ValueError):
        return  # nothing there, or nothing that can be reached, and bind() will tell
    if not stat.S_ISSOCK(status.st_mode):
        raise SocketException(
            SocketError.ADDRESS_ALREADY_IN_USE,
            detail=f"there is a file at {os.fsdecode(path)!r}, which is left alone; use another path",
        )
    if _is_in_use(path):
        raise SocketException(
            SocketError.ADDRESS_ALREADY_IN_USE,
            detail=f"somebody else uses the socket at {os.fsdecode(path)!r}; use another path",
        )
    try:
        os.unlink(path)
    except OSError as error:
        raise SocketException(
            SocketError.ADDRESS_ALREADY_IN_USE,
            native_error_code=error.errno,
            detail=f"the socket that was left over at {os.fsdecode(path)!r} cannot be removed: {error.strerror}",
        ) from error


def _is_in_use(path: bytes) -> bool:
    # A datagram socket cannot be connected to a stream socket, but learns whether there is one. A connection would be
    # noticed at the other end, and taken for that of a client. Without Unix sockets in Python nobody comes here.
    family: int = getattr(stdlib_socket, "AF_UNIX", -1)
    with stdlib_socket.socket(family, stdlib_socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(path) != errno.ECONNREFUSED
