"""HTTPS over a stream of this library: a server that answers, and a client that asks."""

from __future__ import annotations

import ssl
from functools import partial
from pathlib import Path

import trio

import trio_send

# A certificate for examples, and its key.
PEM = Path(__file__).with_name("localhost.pem")


async def read_head(stream: trio.abc.ReceiveStream, held: bytearray) -> bytes:
    """Read a head, up to the empty line; what comes behind it stays in ``held``."""
    while b"\r\n\r\n" not in held:
        data = await stream.receive_some()
        if not data:
            raise EOFError
        held += data
        if len(held) > 16384:
            raise ValueError("the head is too long")
    head, _, rest = bytes(held).partition(b"\r\n\r\n")
    held[:] = rest
    return head


async def serve_client(context: ssl.SSLContext, stream: trio.abc.Stream) -> None:
    """Answer the requests of one client until it goes away."""
    # The stream has what Trio's streams have, so TLS goes on top of it.
    tls = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
    held = bytearray()
    async with tls:
        try:
            while True:
                request = await read_head(tls, held)
                body = request.partition(b"\r\n")[0] + b"\n"
                await tls.send_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                    b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
                )
        except (EOFError, trio.BrokenResourceError):
            pass  # the client is gone; the others are served on


async def ask(host: str, port: int, path: str) -> bytes:
    """Ask for one page, and return the first line of the answer and its body."""
    socket = await trio_send.connect_tcp(host, port)
    context = ssl.create_default_context(cafile=PEM)
    tls = trio.SSLStream(
        socket.as_stream(), context, server_hostname="localhost", https_compatible=True
    )
    async with tls:
        await tls.send_all(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        held = bytearray()
        head = await read_head(tls, held)
        return head.partition(b"\r\n")[0] + b" / " + bytes(held)


async def main() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(PEM)
    async with trio.open_nursery() as nursery:
        # `serve_tcp` gives a stream to the handler.
        handler = partial(serve_client, context)
        serve = partial(trio_send.serve_tcp, handler, 0, host="127.0.0.1")
        [listener] = await nursery.start(serve)
        host, port = listener.socket.local_end_point
        for path in ("/", "/news"):
            print((await ask(host, port, path)).decode(), end="")
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
