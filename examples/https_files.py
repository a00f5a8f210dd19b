"""An HTTPS server for the files of a directory, with h11 for HTTP and Trio for TLS.

    python https_files.py DIRECTORY AUTHORITY.pem

writes the certificate of an authority of its own and says on which port it serves,
until Ctrl-C. To fetch a file:

    curl --cacert AUTHORITY.pem https://localhost:PORT/FILE
"""

from __future__ import annotations

import signal
import ssl
import sys
from functools import partial
from pathlib import Path

import h11
import trio
import trustme

import trio_send

PIECE = 1 << 18  # bytes of a file that are in memory at a time
Stream = trio.SSLStream[trio.abc.HalfCloseableStream]


async def answer(
    tls: Stream, http: h11.Connection, directory: Path, request: h11.Request
) -> None:
    """Send the file that was asked for, or say that there is none."""
    path = (directory / request.target.decode().lstrip("/")).resolve()
    is_there = request.method == b"GET" and directory in path.parents and path.is_file()
    status, size = (200, path.stat().st_size) if is_there else (404, 0)
    headers = [("Content-Length", str(size))]
    await tls.send_all(
        http.send(h11.Response(status_code=status, headers=headers)) or b""
    )
    if is_there:
        async with await trio.open_file(path, "rb") as file:
            while piece := await file.read(PIECE):
                await tls.send_all(http.send(h11.Data(data=piece)) or b"")
    await tls.send_all(http.send(h11.EndOfMessage()) or b"")


async def serve_client(
    context: ssl.SSLContext, directory: Path, stream: trio.abc.HalfCloseableStream
) -> None:
    """Answer the requests of one client until it goes away."""
    http = h11.Connection(h11.SERVER)
    async with trio.SSLStream(
        stream, context, server_side=True, https_compatible=True
    ) as tls:
        try:
            while http.our_state is not h11.MUST_CLOSE:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    http.receive_data(bytes(await tls.receive_some(65536)))
                elif isinstance(event, h11.Request):
                    await answer(tls, http, directory, event)
                elif isinstance(event, h11.ConnectionClosed):
                    break
                elif http.their_state is h11.DONE is http.our_state:
                    http.start_next_cycle()
        except (h11.RemoteProtocolError, trio.BrokenResourceError):
            pass  # the client is gone, or talks nonsense; the others are served on


async def main(directory: Path, authority_file: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(authority_file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
    handler = partial(serve_client, context, directory)
    async with trio.open_nursery() as nursery:
        serve = partial(trio_send.serve_tcp, handler, 0, host="127.0.0.1")
        [listener] = await nursery.start(serve)
        with trio.open_signal_receiver(signal.SIGINT) as signals:
            print("port", listener.socket.local_end_point[1], flush=True)
            await signals.__anext__()
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
