"""How a connection ends: by a shutdown, by a disconnect whose socket lives on, or by the close of its socket."""

from __future__ import annotations

import errno as errno_module
import socket as stdlib_socket
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING

from .._base.codes import SocketError, SocketShutdown
from .._base.error_numbers import SHUTDOWN
from .._base.errors import SocketException
from .._base.interrupts import one_step
from .._kernel.port import INET, KernelPort
from .._operations.gate import CLOSED, FORKED, TORN, UNCONNECTED
from .._owners.engine import SOCKET_ALLOWANCE
from .core import translate

if TYPE_CHECKING:
    from .core import SocketCore


def shut_down(core: SocketCore, how: SocketShutdown) -> None:
    """Say that nothing more will be sent, or received, or both."""
    try:
        how = SocketShutdown(how)
    except ValueError:
        raise ValueError(
            f"how is {how!r}, but must be a SocketShutdown, such as SocketShutdown.SEND"
        ) from None
    if core.sends.gate & UNCONNECTED and core.sends.length:
        # The system would call the connecting off without a word, and begin it anew when it is asked about it.
        raise SocketException(
            SocketError.NOT_CONNECTED, detail="it is still being connected; close it instead"
        )
    shutdown = core.port.shutdown
    if shutdown is None:
        raise core.not_supported()
    if core.sends.gate & UNCONNECTED and core.port.family in INET and not core.port.is_stream:
        # Linux says so too, and shuts it down all the same.
        raise SocketException(SocketError.NOT_CONNECTED)
    try:
        shutdown(int(how))
    except OSError as error:
        raise translate(error) from error
    core.note_shutdown(how)


def end_connection(core: SocketCore, reuse: bool) -> None:
    """End a connection in both directions.

    Args:
      core: of the socket.
      reuse: whether the socket is to be connected again, for which it gets a fresh descriptor.

    Raises:
      SocketException: there is no connection, or the system refused.
    """
    if core.sends.gate & UNCONNECTED:
        raise SocketException(SocketError.NOT_CONNECTED)
    fresh = _fresh_port(core) if reuse else None
    try:
        core.require_usable()
        shut_down(core, SocketShutdown.BOTH)
    except SocketException as error:
        # The peer has reset the connection, and that is an end too.
        if error.socket_error_code is not SocketError.NOT_CONNECTED:
            if fresh is not None:
                fresh.close(reset=False)
            raise
    core.sends.break_connection(SHUTDOWN, errno_module.EPIPE)
    if fresh is not None:
        _replace_port(core, fresh)


def _fresh_port(core: SocketCore) -> KernelPort:
    sock = core.require_kernel()
    try:
        return KernelPort(stdlib_socket.socket(sock.family, sock.type, sock.proto))
    except OSError as error:
        raise translate(error) from error


def _replace_port(core: SocketCore, port: KernelPort) -> None:
    """Stand on another descriptor, that is not connected."""
    stand_on = partial(_stand_on, core, port)
    receives = core.receives
    core.sends.renew(
        port,
        SOCKET_ALLOWANCE,
        stand_on if receives is None else partial(receives.renew, port, SOCKET_ALLOWANCE, stand_on),
    )


def _stand_on(core: SocketCore, port: KernelPort) -> None:
    # An instrument, or a buffer's own code, has closed the socket meanwhile.
    if core.sends.gate & CLOSED:
        port.close(reset=False)
        return
    core.port.close(reset=False)
    core.port = port
    core.kernel = port.sock
    core.send = port.send
    core.send_was_shut_down = core.receive_was_shut_down = False
    core.acknowledged_before = -core.sends.accepted
    core.trio_face = core.peer = None


@one_step
def close(core: SocketCore, reset: bool | None = None) -> None:
    """Close a socket at once.

    Args:
      core: of the socket.
      reset: whether the peer sees a reset; None stands for: if something is cut by this.
    """
    if core.sends.gate & CLOSED and core.ending is None:
        return
    if core.sends.gate & FORKED:
        # Another process waits for the socket, and sends on it. Whatever is more than this would strike there.
        core.sends.gate |= CLOSED
        if core.kernel is not None:
            core.kernel.close()
        return
    if get_ident() != core.thread:
        core.require_usable()
    if reset is None:
        cut = core.sends.gate & TORN or core.sends.goes_on()
        reset = bool(cut) and core.port.is_stream and not core.send_was_shut_down
    core.close_queues(partial(core.close_port, reset))
