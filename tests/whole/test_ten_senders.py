"""Ten tasks send on one TCP socket at once, through all faces, and a plain reader takes the stream apart.

Trio itself refuses the second of two tasks that send on one stream. Here they take turns, message by message.
"""

from __future__ import annotations

import random
import socket as stdlib_socket
import struct
from collections.abc import Iterator
from contextlib import closing

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.helpers import CountingPort, stdlib_pair
from trio_send import (
    AsyncResult,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    open_initiator,
)

TASKS = 10
MESSAGES = 1000

#: Whose message it is, its number, and how many bytes follow.
HEADER = struct.Struct("!HHI")


def message(task: int, number: int) -> bytes:
    """A message of its own size, whose bytes tell of every piece that is lost, doubled or moved."""
    chance = random.Random(task * MESSAGES + number)
    size = chance.choice((0, 1, chance.randrange(64), chance.randrange(1000), 0))
    if number % 250 == 7:
        size = 20_000  # more than the buffers take at once
    return HEADER.pack(task, number, size) + chance.randbytes(size)


def take_apart(peer: stdlib_socket.socket) -> list[tuple[int, int]]:
    """Read the stream to its end in a thread; return who sent which message, in the order of arrival.

    Raises:
      AssertionError: a message is not what was sent.
    """
    arrived: list[tuple[int, int]] = []
    with peer.makefile("rb") as stream:
        while header := stream.read(HEADER.size):
            task, number, size = HEADER.unpack(header)
            assert header + stream.read(size) == message(task, number)
            arrived.append((task, number))
    return arrived


@pytest.fixture
def ends() -> Iterator[tuple[Socket, CountingPort, stdlib_socket.socket]]:
    """A TCP stream with tiny buffers, its port, and a plain blocking peer."""
    left, peer = stdlib_pair("tcp4", tiny=True)
    port = CountingPort(left)
    with peer, closing(Socket.from_port(port)) as socket:
        yield socket, port, peer


@pytest.mark.fact("F192", "F193", "F194")
async def test_ten_tasks_on_one_socket(
    ends: tuple[Socket, CountingPort, stdlib_socket.socket],
) -> None:
    """Every message arrives whole, each task's messages in its order, and the counts add up."""
    socket, port, peer = ends
    counts = [0] * TASKS
    called: list[list[int]] = [[] for _ in range(TASKS)]
    on_the_spot = [0] * TASKS
    arrived: list[tuple[int, int]] = []

    async def with_args(task: int) -> None:
        """Wait for each operation before the next."""
        args = SocketAsyncEventArgs()
        for number in range(MESSAGES):
            args.set_buffer(message(task, number))
            if socket.send_async(args):
                await args.wait()
            assert args.socket_error is SocketError.SUCCESS
            counts[task] += args.bytes_transferred

    async def with_many_args(task: int) -> None:
        """Have several operations pending at once, and let handlers count."""

        def completed(_: Socket, args: SocketAsyncEventArgs) -> None:
            called[task].append(args.user_token)
            counts[task] += args.bytes_transferred

        batch: list[SocketAsyncEventArgs] = []
        for number in range(MESSAGES):
            args = SocketAsyncEventArgs(message(task, number), user_token=number)
            args.completed += completed
            if socket.send_async(args):
                batch.append(args)
            else:
                # It may be here before an earlier one is told of, so it does not go on the list.
                counts[task] += args.bytes_transferred
                on_the_spot[task] += 1
            if len(batch) == 20:
                for args in batch:
                    await args.wait()
                batch.clear()
        for args in batch:
            await args.wait()

    async def with_results(task: int) -> None:
        """Begin several, with a callback each, and end some of them oneself."""

        def called_back(result: AsyncResult) -> None:
            called[task].append(result.async_state)
            counts[task] += socket.end_send_nowait(result)

        for number in range(MESSAGES):
            data = message(task, number)
            if number % 20 == 19:
                result = socket.begin_send(data)
                count = await socket.end_send(result)
                counts[task] += count  # in a step of its own: callbacks count too
            elif number % 2:
                half = len(data) // 2
                socket.begin_send([data[:half], data[half:]], callback=called_back, state=number)
            else:
                socket.begin_send(data, callback=called_back, state=number)

    async def awaiting(task: int) -> None:
        """Just await each."""
        for number in range(MESSAGES):
            data = message(task, number)
            count = await socket.send(bytearray(data) if number % 2 else data)
            counts[task] += count

    async def awaiting_args(task: int) -> None:
        """Await, with args that tell the count."""
        args = SocketAsyncEventArgs()
        for number in range(MESSAGES):
            args.set_buffer(message(task, number))
            assert await socket.send(args) == args.bytes_transferred
            counts[task] += args.bytes_transferred

    ways = (with_args, with_many_args, with_results, awaiting, awaiting_args)

    async def send_all() -> None:
        async with open_initiator(), trio.open_nursery() as senders:
            for task in range(TASKS):
                senders.start_soon(ways[task % len(ways)], task)
        await socket.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_all)
        # Nobody reads yet, so they meet in the queue: each of them waits for an operation of its own.
        await wait_all_tasks_blocked()
        assert socket.queued_operations >= TASKS
        arrived.extend(await trio.to_thread.run_sync(take_apart, peer))

    assert len(arrived) == TASKS * MESSAGES
    for task in range(TASKS):
        assert [number for whose, number in arrived if whose == task] == list(range(MESSAGES))
        expected = sum(len(message(task, number)) for number in range(MESSAGES))
        assert counts[task] == expected
        assert called[task] == sorted(called[task])
    for task in (1, 6):
        assert len(called[task]) + on_the_spot[task] == MESSAGES
    for task in (2, 7):
        assert len(called[task]) == MESSAGES - MESSAGES // 20
    assert sum(counts) == len(port.accepted)
    assert arrived != sorted(arrived)  # no task had the socket to itself
