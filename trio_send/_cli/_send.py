"""``trio-send send``: send a file or standard input, and say exactly what was accepted."""

from __future__ import annotations

import argparse
import math

import trio

from .. import Socket, SocketError, SocketException, SocketShutdown
from ._addresses import Address, parse_peer
from ._command import Command
from ._endpoints import connect
from ._faces import FACES
from ._failures import FAILURE, Failure, describe
from ._interruption import Interruption, interruptible
from ._meter import keep_showing, meter
from ._output import complain, say
from ._peer import Peer
from ._source import Source, open_source
from ._transfer import Transfer
from ._values import (
    parse_count,
    parse_positive_size,
    parse_seconds,
    parse_size,
    show_bytes,
    show_seconds,
    show_size,
)

DEFAULT_CHUNK = 256 * 1024
DEFAULT_IN_FLIGHT = 4

#: How long to wait, at the end of a whole transfer, for the receiver to close its side. Only then could a connection
#: that breaks over the last bytes be noticed. Longer would be no help: some receivers never close.
CLOSING_PATIENCE = 5.0

DESCRIPTION = """\
Send a file, or standard input, and say how many bytes were accepted, and their SHA-256. Accepted means taken by this
machine's kernel; whether the receiver ever reads them, only the receiver can say. If the transfer is stopped, by
Ctrl-C, a time limit or a broken connection, it says from which offset to go on with --from, and ends with a status
other than 0.
"""


class _Options(argparse.Namespace):
    file: str
    address: Address
    face: str
    chunk: int
    in_flight: int
    timeout: float
    stall_timeout: float
    offset: int


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="what to send; - stands for standard input")
    parser.add_argument(
        "address",
        metavar="ADDRESS",
        type=parse_peer,
        help="where to send it: HOST:PORT, [V6]:PORT or unix:PATH",
    )
    parser.add_argument(
        "--face",
        choices=FACES,
        default="event",
        help="which of the library's three ways to use: event for send_async, begin for begin_send, "
        "await for await send (default: %(default)s)",
    )
    parser.add_argument(
        "--chunk",
        metavar="SIZE",
        type=parse_positive_size,
        default=DEFAULT_CHUNK,
        help="how many bytes each operation sends, such as 64K or 1M (default: 256K)",
    )
    parser.add_argument(
        "--in-flight",
        metavar="N",
        type=parse_count,
        default=DEFAULT_IN_FLIGHT,
        help="how many operations may be under way at once (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=parse_seconds,
        default=math.inf,
        help="stop if all of it, connecting included, takes longer than this (default: no limit)",
    )
    parser.add_argument(
        "--stall-timeout",
        metavar="SECONDS",
        type=parse_seconds,
        default=math.inf,
        help="stop if no byte was accepted for so long (default: no limit)",
    )
    parser.add_argument(
        "--from",
        dest="offset",
        metavar="OFFSET",
        type=parse_size,
        default=0,
        help="leave out the first OFFSET bytes, to go on with a transfer that was stopped (default: 0)",
    )


class _Sending:
    """One run of the command, from the connection to the report.

    Args:
      options: what the user wants.
      source: what to send.
    """

    def __init__(self, options: _Options, source: Source) -> None:
        self._options = options
        self._source = source
        self._transfer: Transfer | None = None
        self._peer: Peer | None = None
        self._peer_closed_early = False
        self._timed_out = False

    async def run(self, interruption: Interruption) -> int:
        """Connect and send, until that is done or cancelled; return the exit status."""
        with trio.move_on_after(self._options.timeout) as limit:
            socket = await connect(self._options.address)
            try:
                await self._use(socket)
            finally:
                # In order, even behind a message that was cut. A reset would be the honest end for a protocol of
                # messages, but it makes the kernels throw away what was accepted and not yet read, and a transfer that
                # is to go on at its offset needs that delivered. That it is not whole is told by the exit status.
                socket.close(reset=False)
        self._timed_out = limit.cancelled_caught
        return FAILURE

    async def _use(self, socket: Socket) -> None:
        options = self._options
        self._transfer = transfer = Transfer(
            socket,
            self._source,
            FACES[options.face],
            chunk_size=options.chunk,
            in_flight=options.in_flight,
        )
        self._peer = peer = Peer(socket)

        async def listen() -> None:
            await peer.listen()
            if peer.error is not None:
                transfer.connection_broke(peer.error)

        with meter(self._source.name, self._source.remaining) as shown:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                nursery.start_soon(keep_showing, shown, lambda: transfer.accepted)
                await transfer.run(stall_timeout=options.stall_timeout)
                if transfer.is_complete:
                    await self._see_off(socket, peer)
                nursery.cancel_scope.cancel()

    async def _see_off(self, socket: Socket, peer: Peer) -> None:
        """Tell the receiver that this was all, and see how it takes it."""
        self._peer_closed_early = peer.closed.is_set()
        try:
            socket.shutdown(SocketShutdown.SEND)
        except SocketException as error:
            peer.error = peer.error or error
            return
        with trio.move_on_after(CLOSING_PATIENCE):
            await peer.closed.wait()
