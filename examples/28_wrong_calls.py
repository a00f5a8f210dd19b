"""Calls that are refused, and the sentence of each. None has changed anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

import trio_send
from trio_send import Socket, SocketAsyncEventArgs
from trio_send.testing import Blocked, ScriptedPort


def slow_socket() -> Socket:
    """Make a socket whose kernel takes 4 bytes, and then no more."""
    return Socket.from_port(ScriptedPort([4, Blocked()]))


async def no_initiator() -> None:
    slow_socket().send_async(SocketAsyncEventArgs(b"message"))


async def exited_initiator() -> None:
    async with trio.open_nursery() as nursery, trio_send.open_initiator():
        nursery.start_soon(show, start_later)  # goes on when the initiator has exited


async def start_later() -> None:
    await trio.sleep(0.1)
    slow_socket().send_async(SocketAsyncEventArgs(b"message"))


async def args_in_use() -> None:
    socket, args = slow_socket(), SocketAsyncEventArgs(b"message")
    socket.send_async(args)
    socket.send_async(args)


async def args_that_were_cut() -> None:
    socket, args = slow_socket(), SocketAsyncEventArgs(b"message")
    socket.send_async(args)
    args.cancel()
    socket.send_async(args)


async def end_twice() -> None:
    socket = slow_socket()
    result = socket.begin_send(b"1234")
    await socket.end_send(result)
    await socket.end_send(result)


async def closed_socket() -> None:
    socket = slow_socket()
    socket.close()
    await socket.send(b"message")


async def other_thread() -> None:
    await trio.to_thread.run_sync(slow_socket().begin_send, b"message")


async def show(call: Callable[[], Awaitable[None]]) -> None:
    try:
        await call()
    except Exception as error:
        print(f"{call.__name__}: {type(error).__name__}\n   {error}")


async def main() -> None:
    for call in (no_initiator, exited_initiator):
        await show(call)
    async with trio_send.open_initiator():
        for call in (args_in_use, args_that_were_cut, end_twice, closed_socket):
            await show(call)
        await show(other_thread)


if __name__ == "__main__":
    trio.run(main)
