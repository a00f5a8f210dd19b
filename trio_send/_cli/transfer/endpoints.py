"""Sockets for addresses: connecting to one, and listening at one."""

from __future__ import annotations

import os
import socket as stdlib_socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import trio

from ... import (
    Socket,
    SocketError,
    SocketException,
    connect_tcp,
    connect_unix,
    open_unix_listener,
)
from ..addresses import Address, InternetAddress, UnixAddress, show_end_point
from ..failures import Failure, describe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


#: What a name server's refusals are called.
_LOOKUP_CODES: Final = (
    SocketError.HOST_NOT_FOUND,
    SocketError.TRY_AGAIN,
    SocketError.NO_RECOVERY,
    SocketError.NO_DATA,
)


async def _look_up(address: InternetAddress) -> tuple[int, Any]:
    """Return the best family and Python socket address to listen at.

    Raises:
      Failure: there is none.
    """
    try:
        found = await trio.socket.getaddrinfo(
            address.host,
            address.port,
            type=stdlib_socket.SOCK_STREAM,
            flags=stdlib_socket.AI_PASSIVE,
        )
    except OSError as error:
        raise Failure(f"the host {address.host!r} cannot be found: {describe(error)}") from None
    except UnicodeError:
        raise Failure(
            f"the host {address.host!r} cannot be found: it is no legal host name"
        ) from None
    return found[0][0], found[0][4]


async def connect(address: Address, *, send_buffer: int | None = None) -> Socket:
    """Connect to an address; where a name stands for several, to whichever answers first.

    Args:
      address: where to.
      send_buffer: how large a buffer to ask the kernel for; None leaves the choice to it.

    Raises:
      Failure: nobody answers.
    """
    try:
        if isinstance(address, UnixAddress):
            socket = await connect_unix(address.path)
        else:
            socket = await connect_tcp(address.host, address.port, no_delay=False)
    except SocketException as error:
        if isinstance(address, InternetAddress) and error.socket_error_code in _LOOKUP_CODES:
            raise Failure(f"the host {address.host!r} cannot be found: {describe(error)}") from None
        raise _cannot("connect to", address, error) from None
    if send_buffer is not None:
        socket.send_buffer_size = send_buffer
    return socket


def _cannot(verb: str, address: Address, error: SocketException) -> Failure:
    why = describe(error)
    if isinstance(address, UnixAddress):
        if error.socket_error_code is SocketError.ADDRESS_ALREADY_IN_USE:
            why = str(error)  # which of the ways in which a path can be taken
        elif error.native_error_code:
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
    if isinstance(address, UnixAddress):
        try:
            listener = await open_unix_listener(address.path)
        except SocketException as error:
            raise _cannot("listen at", address, error) from None
        async with listener:
            yield listener.socket
        return
    family, end_point = await _look_up(address)
    socket = Socket(family)
    try:
        try:
            if receive_buffer is not None:
                socket.receive_buffer_size = receive_buffer
            socket.bind(end_point)
            socket.listen()
        except SocketException as error:
            raise _cannot("listen at", address, error) from None
        yield socket
    finally:
        socket.close()


def show_listener(socket: Socket) -> str:
    """Return the address at which a socket listens, fit for the command line of ``send``."""
    return show_end_point(socket.local_end_point)


def show_peer(socket: Socket) -> str:
    """Return the address of a connection's peer; nothing where it has none."""
    try:
        return show_end_point(socket.remote_end_point)
    except SocketException:
        return ""
