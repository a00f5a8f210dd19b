"""The client of ``examples/`` that uses httpx, with servers that speak HTTP and HTTPS, and with none."""

from __future__ import annotations

import importlib.util
import os
import socket as stdlib_socket
import ssl
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import httpx
import pytest
import trio

import trio_send
from tests.served import EXAMPLES, served

PROGRAM = EXAMPLES / "httpx_client.py"

pytestmark = pytest.mark.skipif(
    os.name == "nt", reason="the servers are stopped by a signal, as on Unix"
)


def run(*arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("httpx_client", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_over_http() -> None:
    with served("asgi_server.py") as port:
        assert run(f"http://localhost:{port}/page") == ["200 10 GET /page"] * 2


def test_over_https(tmp_path: Path) -> None:
    (tmp_path / "hello").write_text("hello\n")
    authority = tmp_path / "authority.pem"
    with served("https_files.py", str(tmp_path), str(authority)) as port:
        assert run(f"https://localhost:{port}/hello", str(authority)) == ["200 6 hello"] * 2


async def test_errors_and_limits_are_those_of_httpx(example: ModuleType) -> None:
    with stdlib_socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        transport = example.Transport(ssl.create_default_context())
        async with httpx.AsyncClient(transport=transport, timeout=0.05) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get(f"http://127.0.0.1:{port}/")
            with pytest.raises(httpx.ConnectTimeout):
                await client.get(f"https://127.0.0.1:{port}/")
    async with httpx.AsyncClient(
        transport=example.Transport(ssl.create_default_context())
    ) as client:
        with pytest.raises(httpx.ConnectError, match="nobody listens"):
            await client.get(f"http://127.0.0.1:{port}/")


async def test_a_connection_that_the_server_has_closed_is_not_used_again(
    example: ModuleType,
) -> None:
    """The pool asks the backend whether there is something to read, which on an idle connection is its end."""
    closed: list[trio.Event] = []

    async def answer_once(stream: trio.abc.HalfCloseableStream) -> None:
        closed.append(trio.Event())
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        closed[-1].set()

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(
            partial(trio_send.serve_tcp, answer_once, 0, host="127.0.0.1")
        )
        url = f"http://127.0.0.1:{listener.socket.local_end_point[1]}/"
        transport = example.Transport(ssl.create_default_context())
        async with httpx.AsyncClient(transport=transport) as client:
            for _ in range(2):
                assert (await client.get(url)).text == "ok"
                await closed[-1].wait()
        nursery.cancel_scope.cancel()
    assert len(closed) == 2
