"""The end of a connection that loses nothing: input is read and thrown away until the peer has everything.

A kernel that closes a connection on which input is unread, or to which some comes afterwards, resets it. With the reset
go all accepted bytes that have not reached the peer yet. So whoever wants them to arrive has to keep the descriptor
until they have, and to read meanwhile.

TCP on Linux tells what has arrived: what the peer's kernel has acknowledged. No event tells of an acknowledgement, so
the kernel is asked again and again, and at once when input comes, because most peers answer the end with their own.
Elsewhere nobody tells. Then what is there already is read, and that is all that can be done.
"""

from __future__ import annotations

import enum
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from .readable_bytes import readable_bytes
from .tcp_totals import FIRST_PAUSE, LONGEST_PAUSE, kernel_totals

if TYPE_CHECKING:
    import socket as stdlib_socket

    from .port import KernelPort

#: How much is read with one call, and in all before other tasks have a turn: 4 calls of 7 us each, measured
#: on loopback.
_PIECE: Final = 64 * 1024
_ROUND: Final = 4 * _PIECE

#: After the shutdown of the own side the end of the stream counts as one byte, the last. It need not be waited for:
#: when a connection on which nothing is unread is closed, the kernel itself goes on repeating the end. Peers take
#: their time to acknowledge it, 48 ms were measured on Linux.
_END: Final = 1


class _Input(enum.Enum):
    NONE = enum.auto()
    MORE = enum.auto()
    ENDED = enum.auto()
    GONE = enum.auto()


async def read_until_acknowledged(port: KernelPort, closed: trio.Event) -> None:
    """Read and throw away what comes in until the peer's kernel has acknowledged everything, or the peer is gone.

    The own side has been shut down. Where nobody tells what was acknowledged, what is there already is read.

    Args:
      port: the descriptor, for which no other task waits.
      closed: what is set when the port is closed meanwhile.

    **Checkpoints**: unless there is nothing to wait for.

    **If cancelled**: `trio.Cancelled`; the descriptor stands.

    **Threads**: only from the Trio thread that uses the socket.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            _, unacknowledged, _, is_over = kernel_totals(port)
        except OSError:
            with suppress(OSError):
                _read_away(port.sock, readable_bytes(port.sock))
            return
        # In this order: what is acknowledged now is acknowledged, and what comes now is read.
        state = _read_away(port.sock, _ROUND)
        if is_over or unacknowledged == 0 or state is _Input.GONE:
            return
        if unacknowledged <= _END and state is not _Input.MORE:
            return
        if state is _Input.MORE:
            await trio.lowlevel.checkpoint()
        else:
            with trio.move_on_after(pause):
                if state is _Input.NONE:
                    try:
                        await port.wait_readable()
                    except trio.ClosedResourceError:
                        return
                    except OSError:  # the system has no means to wait for it just now
                        await closed.wait()
                else:
                    await closed.wait()  # it would be readable for ever
            pause = min(2 * pause, LONGEST_PAUSE)
        if closed.is_set():
            return


def _read_away(sock: stdlib_socket.socket, limit: int) -> _Input:
    """Read and throw away what is there, about ``limit`` bytes at most."""
    while limit > 0:
        try:
            count = len(sock.recv(_PIECE))
        except BlockingIOError:
            return _Input.NONE
        except OSError:
            return _Input.GONE
        if count == 0:
            return _Input.ENDED
        limit -= count
    return _Input.MORE
