"""A connection with both ends in this process, and a slow reader at the other one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from ..addresses import InternetAddress
from ..transfer.endpoints import connect, listening
from ..transfer.reception import Reception

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ... import Socket

LOOPBACK = InternetAddress("127.0.0.1", 0)

#: What both kernel buffers are asked to be: so small that the sender feels the reader at once.
SMALL_BUFFER = 16 * 1024


@asynccontextmanager
async def slow_connection(rate: int) -> AsyncIterator[tuple[Socket, Reception]]:
    """Connect to a sink that reads no faster than ``rate`` bytes per second.

    The value is the sender's socket, which the body has to close, and what the sink receives. It has received
    everything when this is left.
    """
    async with listening(LOOPBACK, receive_buffer=SMALL_BUFFER) as listener:
        host, port = listener.local_end_point
        sender = await connect(InternetAddress(host, port), send_buffer=SMALL_BUFFER)
        try:
            connection = await listener.accept()
            reception = Reception(connection, rate=rate)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_receive, connection, reception)
                yield sender, reception
        finally:
            sender.close()


async def _receive(connection: Socket, reception: Reception) -> None:
    async with connection:
        await reception.run()
