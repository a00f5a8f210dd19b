"""Connect over TCP, send, and read the answer: both sides in one program."""

import trio

import trio_send


async def echo_to_one_client(listener: trio_send.SocketListener) -> None:
    """Accept one client, and send back what it sends until it has finished."""
    async with await listener.accept_socket() as connection:
        while data := await connection.receive():
            await connection.send(data)


async def main() -> None:
    # Port 0: the system chooses one that is free.
    [listener] = await trio_send.open_tcp_listeners(0, host="127.0.0.1")
    host, port = listener.socket.local_end_point

    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(echo_to_one_client, listener)

        async with await trio_send.connect_tcp(host, port) as client:
            count = await client.send(b"hello")
            print("sent", count, "bytes")
            print("received", await client.receive())


if __name__ == "__main__":
    trio.run(main)
