"""hypercorn serves an ASGI application over the listeners and streams of this library.

    python asgi_server.py

says on which port it serves, until Ctrl-C. To try it: curl http://127.0.0.1:PORT/
"""

from __future__ import annotations

import signal
from functools import partial
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

import trio_send


async def application(
    scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
) -> None:
    """Answer with what was asked for, or send it back if something was posted."""
    if scope["type"] != "http":
        raise NotImplementedError  # so an application says that it has no use for it
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return  # the client is gone
        body += message["body"]
        if not message["more_body"]:
            break
    text = body or f"{scope['method']} {scope['path']}\n".encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(text))]
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": headers,
            "trailers": False,
        }
    )
    await send({"type": "http.response.body", "body": text, "more_body": False})


async def serve_client(config: Config, context: WorkerContext, stream: Any) -> None:
    """Let hypercorn speak HTTP on a stream. Any that has a socket will do."""
    await TCPServer(ASGIWrapper(application), config, context, {}, stream)


async def main() -> None:
    context = WorkerContext(None)
    handler = partial(serve_client, Config(), context)
    async with trio.open_nursery() as nursery:
        serve = partial(trio_send.serve_tcp, handler, 0, host="127.0.0.1")
        [listener] = await nursery.start(serve)
        with trio.open_signal_receiver(signal.SIGINT) as signals:
            print("port", listener.socket.local_end_point[1], flush=True)
            await signals.__anext__()
            await context.terminated.set()  # ends connections that are idle
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
