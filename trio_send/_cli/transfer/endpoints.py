"""Sockets for addresses: connecting to one, and listening at one."""

from __future__ import annotations

import os
import socket as stdlib_socket
import stat
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from ... import Socket, SocketError, SocketException
from ..addresses import Address, InternetAddress, UnixAddress, show_end_point
from ..failures import Failure, describe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def _unix_family() -> int:
    if sys.platform != "win32":
        return stdlib_socket.AF_UNIX
    raise Failure("this system has no Unix sockets for Python; use HOST:PORT")


async def _look_up(address: Address, *, passive: bool) -> list[tuple[int, Any]]:
    """Return the families and Python socket addresses that an address stands for, the best one first.

    Raises:
      Failure: it stands for none.
    """
    if isinstance(address, UnixAddress):
        return [(_unix_family(), address.path)]
    try:
        found = await trio.socket.getaddrinfo(
            address.host,
            address.port,
            type=stdlib_socket.SOCK_STREAM,
            flags=stdlib_socket.AI_PASSIVE if passive else 0,
        )
    except OSError as error:
        raise Failure(f"the host {address.host!r} cannot be found: {describe(error)}") from None
    except UnicodeError:
        raise Failure(
            f"the host {address.host!r} cannot be found: it is no legal host name"
        ) from None
    return [(family, end_point) for family, _, _, _, end_point in found]


async def connect(address: Address, *, send_buffer: int | None = None) -> Socket:
    """Connect to an address; where a name stands for several, to the first that answers.

    Args:
      address: where to.
      send_buffer: how large a buffer to ask the kernel for; None leaves the choice to it.

    Raises:
      Failure: nobody answers.
    """
    failure: OSError | None = None
    for family, end_point in await _look_up(address, passive=False):
        try:
            socket = Socket(family)
            try:
                if send_buffer is not None:
                    socket.setsockopt(
                        stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, send_buffer
                    )
                await socket.connect(end_point)
            except BaseException:
                socket.close()
                raise
        except OSError as error:
            failure = failure or error
        else:
            return socket
    assert failure is not None
    raise _cannot("connect to", address, failure)


def _cannot(verb: str, address: Address, error: OSError) -> Failure:
    why = describe(error)
    if (
        isinstance(address, UnixAddress)
        and isinstance(error, SocketException)
        and error.native_error_code
    ):
        # Of files the system speaks more clearly: "No such file or directory".
        why = os.strerror(error.native_error_code)
    return Failure(f"cannot {verb} {address}: {why}")


@asynccontextmanager
async def listening(
    address: Address, *, receive_buffer: int | None = None
) -> AsyncIterator[Socket]:
    """Listen at an address while the body runs. The socket may be closed before.

    Args:
      address: where; the port 0 stands for any that is free.
      receive_buffer: how large a buffer to ask the kernel for, for each connection; None leaves the choice to it.

    Raises:
      Failure: that is impossible.
    """
    (family, end_point), *_ = await _look_up(address, passive=True)
    socket = Socket(family)
    try:
        try:
            if receive_buffer is not None:
                socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_RCVBUF, receive_buffer)
            if isinstance(address, InternetAddress):
                socket.bind(end_point)
                socket.listen()
            else:
                await _make_room(address)
                socket.bind(end_point)
        except OSError as error:
            raise _cannot("listen at", address, error) from None
        if isinstance(address, InternetAddress):
            yield socket
            return
        identity = _identity(address.path)
        try:
            socket.listen()
            yield socket
        finally:
            # Somebody may have put another one in its place.
            if identity is not None and _identity(address.path) == identity:
                os.unlink(address.path)
    finally:
        socket.close()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


async def _make_room(address: UnixAddress) -> None:
    """Take a socket away that a receiver which was killed has left behind.

    Raises:
      Failure: what is there is something else, or in use.
    """
    try:
        status = os.lstat(address.path)
    except OSError:
        return  # nothing there, or nothing that can be reached; bind() tells
    if not stat.S_ISSOCK(status.st_mode):
        raise Failure(
            f"cannot listen at {address}: there is a file at that path, which is left alone; use another path"
        )
    # A datagram socket cannot be connected to a stream socket, but learns whether it is alive. A connection would be
    # noticed at the other end, and taken for that of a sender.
    probe = Socket(_unix_family(), stdlib_socket.SOCK_DGRAM)
    try:
        await probe.connect(address.path)
    except SocketException as error:
        left_over = error.socket_error_code is SocketError.CONNECTION_REFUSED
        if not left_over and error.socket_error_code is not SocketError.PROTOCOL_TYPE:
            raise
    else:
        left_over = False
    finally:
        probe.close()
    if not left_over:
        raise Failure(f"cannot listen at {address}: somebody else does; use another path")
    try:
        os.unlink(address.path)
    except OSError as error:
        raise Failure(
            f"cannot listen at {address}: a left-over socket cannot be removed: {describe(error)}"
        ) from None


def show_listener(socket: Socket) -> str:
    """Return the address at which a socket listens, fit for the command line of ``send``."""
    return show_end_point(socket.local_end_point)


def show_peer(socket: Socket) -> str:
    """Return the address of a connection's peer; nothing where it has none."""
    try:
        return show_end_point(socket.remote_end_point)
    except SocketException:
        return ""
