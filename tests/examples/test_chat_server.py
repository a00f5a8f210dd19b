"""The chat server of ``examples/``, with 200 clients that are plain sockets, some of whom do not read."""

from __future__ import annotations

import os
import socket as stdlib_socket
from contextlib import ExitStack

import pytest

from tests.served import served

pytestmark = pytest.mark.skipif(os.name == "nt", reason="it is stopped by a signal, as on Unix")

CLIENTS = 200
SLOW = 10


class Client:
    """One who talks and reads lines."""

    def __init__(self, port: int, *, reads: bool = True) -> None:
        self.sock = stdlib_socket.socket()
        if not reads:
            self.sock.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_RCVBUF, 1)
        self.sock.settimeout(60)
        self.sock.connect(("127.0.0.1", port))
        self.name = b"%d" % self.sock.getsockname()[1]
        self._file = self.sock.makefile("rb")
        self.lines: list[bytes] = []

    def say(self, text: bytes) -> None:
        self.sock.sendall(text + b"\n")

    def read_until(self, line: bytes) -> None:
        """Read lines, the last of which is this one."""
        while not self.lines or self.lines[-1] != line:
            read = self._file.readline()
            assert read.endswith(b"\n"), "the server has closed the connection"
            self.lines.append(read[:-1])

    def close(self) -> None:
        self._file.close()
        self.sock.close()


def test_slow_readers_are_dropped_and_the_others_never_notice() -> None:
    with served("chat_server.py") as port, ExitStack() as stack:
        clients: list[Client] = []
        for number in range(CLIENTS):
            client = Client(port, reads=number >= SLOW)
            stack.callback(client.close)
            clients.append(client)
            if number >= SLOW:
                client.read_until(client.name + b" is here")
        slow, quick = clients[:SLOW], clients[SLOW:]
        speaker = quick[0]
        # Far more than what a connection and the server together keep for one who does not read.
        text = b"x" * 900
        said = 0
        while True:
            for _ in range(20):
                speaker.say(text + b"%d" % said)
                said += 1
            last = speaker.name + b": " + text + b"%d" % (said - 1)
            for client in quick:
                client.read_until(last)
            left = {line for line in speaker.lines if line.endswith(b" has left")}
            if len(left) == SLOW:
                break
            assert said < 20_000, "those who do not read are still there"
        assert left == {client.name + b" has left" for client in slow}
        expected = [speaker.name + b": " + text + b"%d" % number for number in range(said)]
        for client in quick:
            heard = [line for line in client.lines if line.startswith(speaker.name + b": ")]
            assert heard == expected
        for client in slow:
            # Whole lines, and then a reset: nobody takes what he got for all there was.
            with pytest.raises(ConnectionResetError):
                while client.sock.recv(65536):
                    pass


def test_lines_without_an_end_and_clients_that_leave() -> None:
    with served("chat_server.py") as port, ExitStack() as stack:
        first, second, third = clients = [Client(port) for _ in range(3)]
        for client in clients:
            stack.callback(client.close)
            client.read_until(client.name + b" is here")
        second.sock.sendall(b"y" * 5000)
        first.read_until(second.name + b" has left")
        third.say(b"good-bye\r")
        third.sock.shutdown(stdlib_socket.SHUT_WR)
        first.read_until(third.name + b" has left")
        assert third.name + b": good-bye" in first.lines
        # Who leaves in order is told everything up to then.
        third.read_until(third.name + b": good-bye")
