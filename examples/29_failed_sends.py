"""Sends that end with an error: the sentence, the code and the count of each."""

from __future__ import annotations

import socket as stdlib_socket
from collections.abc import Awaitable, Callable

import trio

import trio_send
from trio_send import Socket, SocketAsyncEventArgs
from trio_send.testing import Blocked, ScriptedPort


def socket_with(*script: int | str | Blocked) -> Socket:
    """Make a socket whose kernel does what the script says."""
    return Socket.from_port(ScriptedPort(script))


async def never_connected() -> None:
    async with Socket() as socket:
        await socket.send(b"message")


async def nobody_listens() -> None:
    async with Socket() as bound, Socket() as socket:
        bound.bind(("127.0.0.1", 0))
        await socket.connect(bound.local_end_point)


async def initiator_was_left() -> None:
    socket = socket_with(4, Blocked())
    async with trio_send.open_initiator():
        result = socket.begin_send(b"message")
    await socket.end_send(result)


async def time_is_up() -> None:
    args = SocketAsyncEventArgs(b"message")
    args.timeout = 0.1
    await socket_with(4, Blocked()).send(args)


async def behind_a_cut_message() -> None:
    socket = socket_with(4, Blocked())
    with trio.move_on_after(0.1):
        await socket.send(b"message")
    await socket.send(b"next")


async def peer_is_gone() -> None:
    await socket_with(4, "ECONNRESET").send(b"message")


async def too_long_for_a_datagram() -> None:
    async with Socket(stdlib_socket.AF_INET, stdlib_socket.SOCK_DGRAM) as socket:
        await socket.send_to(bytes(100_000), ("127.0.0.1", 9))


async def no_memory_in_the_kernel() -> None:
    await socket_with(4, *["ENOBUFS"] * 20).send(b"message")


async def show(call: Callable[[], Awaitable[None]]) -> None:
    try:
        await call()
    except trio_send.SocketException as error:
        print(f"{call.__name__}: {error.error_code}\n   {error}")


async def main() -> None:
    for call in (never_connected, nobody_listens, initiator_was_left, time_is_up):
        await show(call)
    for call in (behind_a_cut_message, peer_is_gone, too_long_for_a_datagram):
        await show(call)
    await show(no_memory_in_the_kernel)


if __name__ == "__main__":
    trio.run(main)
