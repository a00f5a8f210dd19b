"""The receiver of a measurement, a program of its own: it reads when it is told to, and as fast as it can.

It is run by its path, with nothing but the standard library, so that it starts quickly and has no part in what is
measured. Its arguments are the family, ``tcp`` or ``unix``, the path for the latter, and the processor core to run on,
-1 for any. It prints the address it listens at. The first connection carries commands, one per line::

    accept N     take N more connections
    read N       read until N more bytes have come in, over all connections
    creep N      the same on one connection, with a pause before each look at it
    answer N     receive something on one connection and send it back, N times
    quit         end, as does the end of the connection

Each is answered with an empty line once it is done.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket as stdlib_socket
import sys
import time

#: The size of the one buffer that everything is read into.
BUFFER_SIZE = 1 << 20

#: Seconds; with what a sleep takes anyway, several times what sending a piece takes.
PAUSE = 20e-6


def listen(family: str, path: str) -> tuple[stdlib_socket.socket, str]:
    """Return a listening socket and what to call its address."""
    if sys.platform != "win32" and family == "unix":
        listener = stdlib_socket.socket(stdlib_socket.AF_UNIX)
        listener.bind(path)
        address = path
    else:
        listener = stdlib_socket.socket()
        listener.bind(("127.0.0.1", 0))
        address = str(listener.getsockname()[1])
    # What is accepted inherits the size, and TCP negotiates by it from the first packet on.
    with contextlib.suppress(OSError):
        listener.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_RCVBUF, 4 * BUFFER_SIZE)
    listener.listen(1024)
    return listener, address


class Receiver:
    """The connections, and the buffer that they are read into."""

    def __init__(self, listener: stdlib_socket.socket) -> None:
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._connections: dict[stdlib_socket.socket, None] = {}  # in the order in which they came
        self._buffer = bytearray(BUFFER_SIZE)

    def accept(self, count: int) -> None:
        """Take some connections."""
        for _ in range(count):
            connection, _ = self._listener.accept()
            self._connections[connection] = None
            self._selector.register(connection, selectors.EVENT_READ)

    def read(self, count: int) -> None:
        """Read so many bytes, or until nobody is left who could send them."""
        buffer = self._buffer
        while count > 0 and self._connections:
            if len(self._connections) == 1:
                count -= self._read_one(next(iter(self._connections)), buffer)
                continue
            for key, _ in self._selector.select():
                assert isinstance(key.fileobj, stdlib_socket.socket)
                count -= self._read_one(key.fileobj, buffer)

    def creep(self, count: int) -> None:
        """Read so many bytes, always later than the sender could send more."""
        while count > 0 and self._connections:
            time.sleep(PAUSE)
            count -= self._read_one(next(iter(self._connections)), self._buffer)

    def answer(self, count: int) -> None:
        """Send back what comes in, so many times, or until nobody is left who could send it."""
        connection = next(iter(self._connections))
        for _ in range(count):
            received = connection.recv(BUFFER_SIZE)
            if not received:
                break
            connection.sendall(received)

    def _read_one(self, connection: stdlib_socket.socket, buffer: bytearray) -> int:
        try:
            received = connection.recv_into(buffer)
        except ConnectionError:
            received = 0
        if not received:
            self._selector.unregister(connection)
            del self._connections[connection]
            connection.close()
        return received


def main(family: str, path: str, core: str) -> None:
    """Serve one sender."""
    if sys.platform == "linux" and int(core) >= 0:
        os.sched_setaffinity(0, {int(core)})
    listener, address = listen(family, path)
    print(address, flush=True)
    control, _ = listener.accept()
    receiver = Receiver(listener)
    commands_by_name = {
        b"accept": receiver.accept,
        b"read": receiver.read,
        b"creep": receiver.creep,
        b"answer": receiver.answer,
    }
    with control, control.makefile("rwb", buffering=0) as commands:
        for line in commands:
            name, *arguments = line.split()
            if name == b"quit":
                return
            commands_by_name[name](*map(int, arguments))
            commands.write(b"\n")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError, ConnectionResetError):
        main(*sys.argv[1:])
