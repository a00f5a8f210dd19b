"""Sockets of the library in a program that runs asyncio's code in Trio, by trio-asyncio."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.helpers import bytes_of
from trio_send import (
    ExitPolicy,
    InvalidOperationError,
    Receiver,
    SocketAsyncEventArgs,
    SocketError,
    open_initiator,
    open_tcp_listeners,
    serve_tcp,
    socketpair,
)

trio_asyncio = pytest.importorskip("trio_asyncio", exc_type=ImportError)

BIG = bytes_of(300_000, seed=3)


def in_asyncio(function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    """What to await in Trio for a coroutine function of asyncio's."""
    return trio_asyncio.aio_as_trio(function)(*arguments)


async def test_trio_and_asyncio_send_on_one_socket_in_turn() -> None:
    ours, peer = socketpair()
    async with ours, peer, trio_asyncio.open_loop():
        send = trio_asyncio.trio_as_aio(ours.send)

        async def from_asyncio() -> int:
            counts = await asyncio.gather(send(b"A" * 100_000), send(b"B" * 100_000))
            return sum(counts)

        async with trio.open_nursery() as nursery:
            sent: list[int] = []

            async def run_asyncio() -> None:
                sent.append(await in_asyncio(from_asyncio))

            nursery.start_soon(run_asyncio)
            nursery.start_soon(ours.send, b"C" * 100_000)
            received = await Receiver(peer).receive_exactly(300_000)
        assert sent == [200_000]
    runs = [received[begin : begin + 100_000] for begin in range(0, 300_000, 100_000)]
    assert sorted(runs) == [bytes([letter]) * 100_000 for letter in b"ABC"]


async def test_a_callback_of_asyncio_starts_for_an_initiator() -> None:
    ours, peer = socketpair()
    async with ours, peer, trio_asyncio.open_loop() as loop:
        args = SocketAsyncEventArgs(BIG)
        told: list[SocketError] = []
        args.completed += lambda socket, args: told.append(args.socket_error)
        async with open_initiator(ExitPolicy.JOIN) as initiator:
            started = trio.Event()
            loop.call_soon(lambda: (initiator.run_sync(ours.send_async, args), started.set()))
            await started.wait()
            assert await Receiver(peer).receive_exactly(len(BIG)) == BIG
    assert told == [SocketError.SUCCESS]


async def test_a_cancel_of_asyncio_cuts_a_send_and_leaves_its_count() -> None:
    ours, peer = socketpair()
    async with ours, peer, trio_asyncio.open_loop():
        send = trio_asyncio.trio_as_aio(ours.send)

        async def give_up() -> None:
            task = asyncio.ensure_future(send(BIG))
            await trio_asyncio.trio_as_aio(wait_all_tasks_blocked)()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        await in_asyncio(give_up)
        torn = ours.torn
        assert torn is not None
        cut = torn.bytes_transferred
        assert 0 < cut < len(BIG)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.send_rest)
            assert await Receiver(peer).receive_exactly(len(BIG)) == BIG


async def test_a_client_of_asyncio_and_a_server_here() -> None:
    async def echo(stream: trio.abc.HalfCloseableStream) -> None:
        async for data in stream:
            await stream.send_all(data)

    async def client(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(BIG)
        writer.write_eof()
        data = await reader.read()
        writer.close()
        await writer.wait_closed()
        return data

    async with trio_asyncio.open_loop(), trio.open_nursery() as nursery:
        [listener] = await nursery.start(
            lambda task_status: serve_tcp(echo, 0, host="127.0.0.1", task_status=task_status)
        )
        port = listener.socket.local_end_point[1]
        assert await in_asyncio(client, port) == BIG
        nursery.cancel_scope.cancel()


async def test_without_run_sync_a_callback_of_asyncio_has_no_initiator_of_later() -> None:
    [listener] = await open_tcp_listeners(0, host="127.0.0.1")
    async with listener, trio_asyncio.open_loop() as loop, open_initiator():
        answer: list[BaseException] = []
        done = trio.Event()

        def callback() -> None:
            try:
                listener.socket.begin_accept()
            except InvalidOperationError as error:
                answer.append(error)
            done.set()

        loop.call_soon(callback, context=contextvars.Context())
        await done.wait()
        assert "initiator.run_sync()" in str(answer[0])
