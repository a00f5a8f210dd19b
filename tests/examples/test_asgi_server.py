"""The ASGI server of ``examples/``, asked by clients that share no code with it."""

from __future__ import annotations

import http.client
import os
import socket as stdlib_socket

import pytest

from tests.helpers import bytes_of
from tests.served import served

pytestmark = pytest.mark.skipif(os.name == "nt", reason="it is stopped by a signal, as on Unix")


def test_requests_on_one_connection_and_a_large_body() -> None:
    large = bytes_of(3_000_000, seed=7)
    with served("asgi_server.py") as port:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for _ in range(2):
            client.request("GET", "/page?x=1")
            assert client.getresponse().read() == b"GET /page\n"
        first = client.sock
        client.request("POST", "/echo", body=large)
        assert client.getresponse().read() == large
        assert client.sock is first
        client.close()


def test_a_client_that_goes_away_leaves_the_others_alone() -> None:
    with served("asgi_server.py") as port:
        with stdlib_socket.create_connection(("127.0.0.1", port), timeout=60) as gone:
            gone.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        idle = stdlib_socket.create_connection(("127.0.0.1", port), timeout=60)
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        client.request("GET", "/")
        assert client.getresponse().read() == b"GET /\n"
        client.close()
    # It was told to end while a client was connected that asks for nothing.
    with idle:
        assert idle.recv(1) == b""
