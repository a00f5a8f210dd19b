"""What has the program sent and received? Counters for Prometheus, over HTTP.

A `CountingInstrument` counts what all sockets do. A small server hands the numbers to
whoever asks; Prometheus does so every few seconds, and needs nothing else. Here the
program asks itself, so that there is something to see: it sends 12,000 bytes from one
socket to another, fetches its own page and prints it.

Look for `trio_send_bytes_sent_total`. The bytes of the request are among them, because
they were sent, too. Those of the answer are not, because they have not been sent yet.
"""

import trio

from trio_send import (
    Counters,
    CountingInstrument,
    Receiver,
    Socket,
    SocketException,
    add_instrument,
    socketpair,
)


def page(counters: Counters) -> str:
    """Write the counters for Prometheus: text, type and value, a line each."""
    lines: list[str] = []
    for name, text, value in (
        ("bytes_sent", "Bytes that the kernel has accepted.", counters.bytes_sent),
        ("bytes_received", "Bytes that were received.", counters.bytes_received),
        (
            "connections_accepted",
            "Connections that were accepted.",
            counters.incoming_connections_established,
        ),
    ):
        metric = f"trio_send_{name}_total"
        lines += [
            f"# HELP {metric} {text}",
            f"# TYPE {metric} counter",
            f"{metric} {value}",
        ]
    return "\n".join(lines) + "\n"


async def answer(connection: Socket, counting: CountingInstrument) -> None:
    """Answer one request, whatever it asks for."""
    async with connection:
        try:
            with trio.fail_after(5):
                await Receiver(connection).receive_until(b"\r\n\r\n", max_bytes=10_000)
                body = page(counting.snapshot()).encode()
                head = (
                    "HTTP/1.1 200 OK\r\n"
                    "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
                    f"Content-Length: {len(body)}\r\n"
                    "Connection: close\r\n\r\n"
                )
                await connection.send(head.encode() + body)
        except (EOFError, SocketException, trio.TooSlowError):
            pass  # who asks comes again


async def serve(listener: Socket, counting: CountingInstrument) -> None:
    """Answer for ever."""
    async with trio.open_nursery() as nursery:
        while True:
            nursery.start_soon(answer, await listener.accept(), counting)


async def main() -> None:
    counting = CountingInstrument()
    with add_instrument(counting):
        async with trio.open_nursery() as nursery, Socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            nursery.start_soon(serve, listener, counting)

            left, right = socketpair()
            async with left, right:
                await left.send(bytes(12_000))
                await Receiver(right).receive_exactly(12_000)

            async with Socket() as client:
                await client.connect(listener.local_end_point)
                await client.send(
                    b"GET /metrics HTTP/1.1\r\nHost: localhost:0000\r\n\r\n"
                )
                while data := await client.receive():
                    print(data.decode().replace("\r", ""), end="")
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
