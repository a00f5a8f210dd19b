"""``trio-send sink``: receive, and say what came in on each connection."""

from __future__ import annotations

import argparse
from contextlib import asynccontextmanager
from itertools import count
from typing import TYPE_CHECKING

import trio

from ... import Socket, SocketException
from ..addresses import Address, InternetAddress, parse_address
from ..command import Command
from ..failures import Failure, describe
from ..interruption import interruptible
from ..meter import Meter, keep_showing, meter
from ..output import complain, say
from ..values import parse_rate, show_bytes
from .endpoints import listening, show_listener, show_peer
from .reception import AppendingFile, Reception

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

#: Only this machine, and any port that is free.
DEFAULT_ADDRESS = InternetAddress("127.0.0.1", 0)

#: A limited sink asks for a small buffer, so that the sender feels the limit, not megabytes of patience in the kernel.
LIMITED_BUFFER = 64 * 1024

#: How long to wait before the next try when no connection can be accepted, as when too many files are open.
ACCEPT_PAUSE = 0.1

DESCRIPTION = """\
Receive. Print where that is, as "listening on ADDRESS" in the first line, and for each connection how many bytes came
in and their SHA-256. End with Ctrl-C.
"""


class _Options(argparse.Namespace):
    address: Address
    rate: int | None
    out: str | None
    once: bool


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "address",
        metavar="ADDRESS",
        nargs="?",
        type=parse_address,
        default=DEFAULT_ADDRESS,
        help="where to listen: HOST:PORT, [V6]:PORT or unix:PATH; the port 0 stands for any that is free "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--rate",
        metavar="BYTES_PER_S",
        type=parse_rate,
        help="read each connection no faster than this, such as 64K or 1M (default: no limit)",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="append what comes in to FILE, one connection after the other",
    )
    parser.add_argument(
        "--once", action="store_true", help="end after one connection, with status 1 if it broke"
    )


class _Sink:
    """A receiver at work.

    Args:
      options: what the user wants.
      file: where to keep what comes in, if anywhere.
      shown: the meter.
    """

    def __init__(self, options: _Options, file: AppendingFile | None, shown: Meter) -> None:
        self._options = options
        self._file = file
        self._shown = shown
        self._numbers = count(1)
        self._done = 0
        self._under_way: set[Reception] = set()

    def received(self) -> int:
        """How many bytes have come in so far, on all connections."""
        return self._done + sum(reception.count for reception in self._under_way)

    async def serve(self, listener: Socket) -> Reception:
        """Receive from whoever connects.

        Returns:
          What the one connection brought. Without ``--once`` there is no end.
        """
        if self._options.once:
            connection = await self._accept(listener)
            listener.close()  # whoever else comes is refused at once, not left waiting
            return await self._receive(connection)
        async with trio.open_nursery() as nursery:
            while True:
                connection = await self._accept(listener)
                if self._file is None:
                    nursery.start_soon(self._receive, connection)
                else:
                    # One after the other, so that what each sender sends stays together in the file, and in the order
                    # in which they came. The others wait in the kernel's queue: their connections stand, and what they
                    # send fills the buffers until it is their turn.
                    await self._receive(connection)

    async def _accept(self, listener: Socket) -> Socket:
        while True:
            try:
                return await listener.accept()
            except SocketException as error:
                self._print(
                    complain, f"trio-send sink: cannot accept a connection: {describe(error)}"
                )
                await trio.sleep(ACCEPT_PAUSE)

    async def _receive(self, connection: Socket) -> Reception:
        number = next(self._numbers)
        peer = show_peer(connection)
        reception = Reception(
            connection,
            rate=self._options.rate,
            write=None if self._file is None else self._file.write,
        )
        self._under_way.add(reception)
        try:
            await reception.run()
        finally:
            # A sender that has not come to its end must not take this for one.
            connection.close(reset=not reception.ended)
            self._under_way.discard(reception)
            self._done += reception.count
            self._print(
                say, f"connection {number}{peer and f' from {peer}'}: {self._account_of(reception)}"
            )
        return reception

    def _account_of(self, reception: Reception) -> str:
        if reception.ended:
            end = "ended by the sender"
        elif reception.error is not None:
            end = f"broken: {describe(reception.error)}"
        else:
            end = "stopped here before its end"
        kept = (
            ""
            if self._file is None
            else f"; {self._file.path!r} now has {show_bytes(self._file.size())}"
        )
        return f"{show_bytes(reception.count)}, sha256 {reception.digest()}, {end}{kept}"

    def _print(self, how: Callable[[str], None], text: str) -> None:
        self._shown.hide()
        how(text)


async def _run(options: _Options) -> int:
    only: Reception
    async with interruptible() as interruption:
        # The file before the socket, so that nobody connects to a sink that cannot keep what it is sent.
        async with _opened(options.out) as file:
            buffer = None if options.rate is None else LIMITED_BUFFER
            async with listening(options.address, receive_buffer=buffer) as listener:
                say(f"listening on {show_listener(listener)}")
                if file is not None:
                    say(f"appending to {file.path!r}, which has {show_bytes(file.size())}")
                with meter("received") as shown:
                    sink = _Sink(options, file, shown)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(keep_showing, shown, sink.received)
                        only = await sink.serve(listener)
                        nursery.cancel_scope.cancel()
    if interruption.signal is not None:
        raise Failure(f"ended by {interruption.name}", interruption.status)
    if only.error is not None:
        raise Failure(f"the connection broke: {describe(only.error)}")
    return 0


@asynccontextmanager
async def _opened(path: str | None) -> AsyncIterator[AppendingFile | None]:
    if path is None:
        yield None
        return
    # To open a named pipe takes until somebody reads from it.
    file = await trio.to_thread.run_sync(AppendingFile, path, abandon_on_cancel=True)
    try:
        yield file
    finally:
        file.close()


SINK = Command("sink", "receive, and say what came in", DESCRIPTION, _add_arguments, _run)
