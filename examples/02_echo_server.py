"""A server for many clients at once: it answers each line that a client sends."""

from __future__ import annotations

from typing import Any

import trio

import trio_send


async def serve(listener: trio_send.SocketListener) -> None:
    """Accept clients until this task is cancelled; each gets a task of its own."""
    async with trio.open_nursery() as nursery:
        while True:
            connection = await listener.accept_socket()
            nursery.start_soon(serve_client, connection)


async def serve_client(connection: trio_send.Socket) -> None:
    """Answer one client until it has finished."""
    try:
        async with connection:
            receiver = trio_send.Receiver(connection)
            while True:
                line = await receiver.receive_until(b"\n", max_bytes=1000)
                # One message in two pieces.
                await connection.send([line.upper(), b"\n"])
    except EOFError:
        pass  # the client has finished
    except trio_send.SocketException as error:
        print("a client was lost:", error)  # the others go on


async def ask(name: str, address: Any, answers: dict[str, list[bytes]]) -> None:
    """Be a client: ask twice, and keep the answers."""
    async with await trio_send.connect_tcp(*address) as socket:
        receiver = trio_send.Receiver(socket)
        for question in (f"hello from {name}\n", f"goodbye from {name}\n"):
            await socket.send(question.encode())
            answers[name].append(await receiver.receive_until(b"\n", max_bytes=1000))


async def main() -> None:
    names = ("ann", "bob", "eve")
    answers: dict[str, list[bytes]] = {name: [] for name in names}

    [listener] = await trio_send.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, trio.open_nursery() as server:
        server.start_soon(serve, listener)

        async with trio.open_nursery() as clients:
            for name in names:
                clients.start_soon(ask, name, listener.socket.local_end_point, answers)
        server.cancel_scope.cancel()

    for name in names:
        print(name, *answers[name])


if __name__ == "__main__":
    trio.run(main)
