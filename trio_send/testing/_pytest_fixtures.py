"""The fixtures of `trio_send.testing.pytest_plugin`."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Literal

import pytest

from .._socket.socket import Socket, socketpair
from ._ledger import Ledger
from ._read_slowly import read_slowly
from ._scripted_port import Blocked, ScriptedPort

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def scripted_socket() -> Iterator[Callable[..., tuple[Socket, ScriptedPort]]]:
    """Give a function that makes a socket on a port that follows a script, and returns both.

    It is called as ``scripted_socket(4, Blocked(25), "ECONNRESET", is_stream=True, on_torn="refuse")``, with the lines
    of the script; see `ScriptedPort`. The sockets are closed when the test is over.
    """
    made: list[Socket] = []

    def make(
        *script: int | str | Blocked,
        is_stream: bool = True,
        on_torn: Literal["refuse", "allow"] = "refuse",
    ) -> tuple[Socket, ScriptedPort]:
        port = ScriptedPort(script, is_stream=is_stream)
        made.append(Socket.from_port(port, on_torn=on_torn))
        return made[-1], port

    yield make
    for socket in made:
        socket.close()


@pytest.fixture
def small_pair() -> Iterator[tuple[Socket, Socket]]:
    """Give two stream sockets that are connected, with the smallest buffers that the system makes.

    A message of a few hundred KiB has to wait there for the peer to read. They are closed when the test is over.
    """
    pair = socketpair()
    for socket in pair:
        socket.send_buffer_size = socket.receive_buffer_size = 1
    yield pair
    for socket in pair:
        socket.close()


@pytest.fixture
def slow_reader() -> Callable[..., object]:
    """Give `trio_send.testing.read_slowly`, an async function for a task of its own."""
    return read_slowly


@pytest.fixture
def send_ledger() -> Iterator[Ledger]:
    """Give a ledger for the test to let watch; at its end the counts must add up, and nothing may be pending."""
    ledger = Ledger()
    yield ledger
    ledger.check()
    assert not ledger.pending, f"sends are pending although the test is over: {ledger!r}"


@pytest.fixture
def socket_leaks() -> Iterator[None]:
    """Fail the test if it leaves a socket of the library open that it has made; ask for it first."""
    before = _open_sockets()
    yield
    left = [socket for socket in _open_sockets() if not any(socket is each for each in before)]
    assert not left, f"sockets were left open: {left!r}"


def _open_sockets() -> list[Socket]:
    return [each for each in gc.get_objects() if type(each) is Socket and each.fileno() >= 0]
