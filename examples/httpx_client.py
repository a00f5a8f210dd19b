"""httpx over the sockets of this library: python httpx_client.py URL [AUTHORITY.pem]"""

from __future__ import annotations

import ssl
import sys
from typing import Any

import httpcore
import httpx
import trio

import trio_send


async def within(timeout: float | None, what: str, call: Any) -> Any:
    """Await a call, but not for too long; raise httpcore's exceptions for Trio's."""
    try:
        with trio.fail_after(float("inf") if timeout is None else timeout):
            return await call
    except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise getattr(httpcore, f"{what}Error")(str(error)) from error
    except trio.TooSlowError as error:
        raise getattr(httpcore, f"{what}Timeout") from error


class Stream(httpcore.AsyncNetworkStream):
    def __init__(self, socket: trio_send.Socket, stream: trio.abc.Stream) -> None:
        self._socket, self._stream = socket, stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return bytes(await within(timeout, "Read", self._stream.receive_some(max_bytes)))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await within(timeout, "Write", self._stream.send_all(buffer))

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: Any = None,
    ) -> Stream:
        name = server_hostname
        tls = trio.SSLStream(
            self._stream, ssl_context, server_hostname=name, https_compatible=True
        )
        try:
            await within(timeout, "Connect", tls.do_handshake())
        except BaseException:
            await trio.aclose_forcefully(tls)
            raise
        return Stream(self._socket, tls)

    def get_extra_info(self, info: str) -> Any:
        return self._socket.trio.is_readable() if info == "is_readable" else None


class Backend(httpcore.AsyncNetworkBackend):
    async def connect_tcp(
        self, host: str, port: int, timeout: Any = None, *_: Any, **__: Any
    ) -> Stream:
        socket = await within(timeout, "Connect", trio_send.connect_tcp(host, port))
        return Stream(socket, socket.as_stream())


class Transport(httpx.AsyncHTTPTransport):
    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        self._pool = httpcore.AsyncConnectionPool(context, network_backend=Backend())


async def main(url: str, authority: str | None) -> None:
    context = ssl.create_default_context(cafile=authority)
    async with httpx.AsyncClient(transport=Transport(context)) as client:
        for _ in range(2):  # on one connection
            answer = await client.get(url)
            print(answer.status_code, len(answer.content), answer.text[:60].rstrip())


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
