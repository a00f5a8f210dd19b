"""The classic client of .NET: one call begins an operation, a callback ends it."""

from __future__ import annotations

from functools import partial
from typing import Any

import trio

import trio_send
from trio_send import AsyncResult, ManualResetEvent, Socket, SocketException


class Client:
    def __init__(self) -> None:
        self.connect_done = ManualResetEvent()
        self.send_done = ManualResetEvent()
        self.receive_done = ManualResetEvent()
        self.socket = Socket()
        self.buffer = bytearray(256)
        self.response = bytearray()
        self.error: SocketException | None = None

    async def start(self, end_point: Any, message: bytes) -> None:
        async with self.socket:
            self.socket.begin_connect(end_point, self.on_connected, None)
            await self.connect_done.wait_one()

            if self.error is None:
                self.socket.begin_send(message, callback=self.on_sent)
                self.socket.begin_receive(self.buffer, callback=self.on_received)
                await self.send_done.wait_one()
                self.socket.shutdown(trio_send.SocketShutdown.SEND)
                await self.receive_done.wait_one()
        answer = self.error or self.response.decode()
        print("failed:" if self.error else "response:", answer)

    def on_connected(self, ar: AsyncResult) -> None:
        try:
            self.socket.end_connect_nowait(ar)
        except SocketException as error:
            self.error = error
        self.connect_done.set()

    def on_sent(self, ar: AsyncResult) -> None:
        try:
            print("sent", self.socket.end_send_nowait(ar), "bytes")
        except SocketException as error:
            self.error = error
        self.send_done.set()

    def on_received(self, ar: AsyncResult) -> None:
        try:
            count = self.socket.end_receive_nowait(ar)
            if count > 0:
                self.response += self.buffer[:count]
                self.socket.begin_receive(self.buffer, callback=self.on_received)
                return
        except SocketException as error:
            self.error = error
        self.receive_done.set()


async def echo(stream: trio.abc.HalfCloseableStream) -> None:
    """Be the server."""
    async for data in stream:
        await stream.send_all(data)


async def main() -> None:
    async with trio_send.open_initiator(), trio.open_nursery() as nursery:
        serve = partial(trio_send.serve_tcp, echo, 0, host="127.0.0.1")
        [listener] = await nursery.start(serve)
        await Client().start(listener.socket.local_end_point, b"This is a test")
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
