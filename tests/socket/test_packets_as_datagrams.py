"""Hold packets on sockets that keep messages apart to what they say: which are datagrams, and which of them went."""

from __future__ import annotations

import os
import socket as stdlib_socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from trio.testing import wait_all_tasks_blocked

from tests.datagrams import take_all, udp_ends as udp_ends
from tests.helpers import never_called, nothing_to_read, scripted
from trio_send import (
    SendPacketsElement,
    Socket,
    SocketAsyncEventArgs,
    SocketAsyncOperation,
    SocketError,
    TracedOperation,
    abc,
    add_instrument,
    open_initiator,
)
from trio_send._messages import files
from trio_send.testing import Blocked

DGRAM = stdlib_socket.SOCK_DGRAM

Ends = tuple[Socket, stdlib_socket.socket]


@pytest.fixture
def records() -> Iterator[Ends]:
    """A Unix socket that waits when its peer is full."""
    left, right = stdlib_socket.socketpair(stdlib_socket.AF_UNIX, DGRAM)
    right.setblocking(False)
    with right, closing(Socket.from_stdlib(left)) as socket:
        yield socket, right


def element_of(source: Any) -> SendPacketsElement:
    """An element as it is, or one of what it is to send; a tuple ends a packet."""
    if isinstance(source, SendPacketsElement):
        return source
    if isinstance(source, tuple):
        return SendPacketsElement(*source, end_of_packet=True)
    return SendPacketsElement(source)


def args_of(*elements: Any) -> SocketAsyncEventArgs:
    """Args with elements of all this."""
    args = SocketAsyncEventArgs()
    args.send_packets_elements = [element_of(each) for each in elements]
    return args


async def send(socket: Socket, args: SocketAsyncEventArgs) -> int:
    async with open_initiator():
        if socket.send_packets_async(args):
            await args.wait()
    assert args.last_operation is SocketAsyncOperation.SEND_PACKETS
    assert args.outcome is not None
    return args.outcome.unwrap()


@pytest.mark.fact("F203", "F204")
async def test_each_element_is_a_datagram(udp_ends: Ends, tmp_path: Path) -> None:
    """Buffers and files, whole or in part, and empty ones."""
    socket, peer = udp_ends
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    with path.open("rb") as file:
        args = args_of(
            b"one",
            path,
            b"",
            SendPacketsElement(file, 2, 3),
            bytearray(b"two"),
            SendPacketsElement(b"three", 2),
            empty,
        )
        assert await send(socket, args) == 3 + 10 + 3 + 3 + 3
    assert take_all(peer) == [b"one", b"0123456789", b"", b"234", b"two", b"ree", b""]
    assert args.remaining_elements == []


async def test_marks_say_where_a_datagram_ends(udp_ends: Ends, tmp_path: Path) -> None:
    """With one mark, all elements are joined up to marks or the end."""
    socket, peer = udp_ends
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    args = args_of(b"one", path, (b"!",), (b"",), b"two", bytearray(b"three"))
    assert await send(socket, args) == 22
    assert take_all(peer) == [b"one0123456789!", b"", b"twothree"]
    assert await send(socket, args_of(b"a", b"b", (b"c",))) == 3
    assert take_all(peer) == [b"abc"]


async def test_nothing_at_all(udp_ends: Ends) -> None:
    socket, peer = udp_ends
    assert await send(socket, args_of()) == 0
    assert nothing_to_read(peer)


async def test_a_datagram_of_more_pieces_than_one_call_takes(udp_ends: Ends, records: Ends) -> None:
    socket, peer = udp_ends
    count = 1500
    assert await send(socket, args_of(*[b"x"] * count, (b"!",))) == count + 1
    assert take_all(peer) == [b"x" * count + b"!"]
    socket, peer = records
    assert await send(socket, args_of(*[b"x" * 60] * count, (b"!",))) == 60 * count + 1
    assert peer.recv(200_000) == b"x" * 60 * count + b"!"


async def test_one_that_is_too_long_ends_the_operation(udp_ends: Ends) -> None:
    """Those in front went, and the rest can be sent: with the marks that they had."""
    socket, peer = udp_ends
    args = args_of(b"one", (b"1",), (bytes(100_000),), b"two", b"2")
    async with open_initiator():
        assert socket.send_packets_async(args) is False
    assert args.socket_error is SocketError.MESSAGE_SIZE
    assert args.bytes_transferred == 4
    assert take_all(peer) == [b"one1"]
    rest = args.remaining_elements
    assert [each.count for each in rest] == [100_000, 3, 1]
    args.send_packets_elements = rest[1:]
    assert await send(socket, args) == 4
    assert take_all(peer) == [b"two2"]
    args = args_of(b"one", bytes(100_000), b"", b"two")
    async with open_initiator():
        assert socket.send_packets_async(args) is False
    assert [each.buffer for each in args.remaining_elements[1:]] == [b"", b"two"]


async def test_files_that_no_datagram_holds_are_not_read(
    udp_ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket, peer = udp_ends
    monkeypatch.setattr(files, "read_at", never_called)
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(1_100_000)
    for elements in ((path, path, (b"",)), (path, SendPacketsElement(path, 50_000, 0), (path,))):
        args = args_of(*elements)
        async with open_initiator():
            assert socket.send_packets_async(args) is False
        assert args.socket_error is SocketError.MESSAGE_SIZE
        assert args.bytes_transferred == 0
    assert nothing_to_read(peer)


async def test_a_file_that_became_shorter(records: Ends, tmp_path: Path) -> None:
    """It fails when its turn comes, and those in front went."""
    socket, peer = records
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    async with open_initiator():
        while not socket.queued_operations:
            socket.begin_send(bytes(30_000))
        args = args_of(b"one", path)
        assert socket.send_packets_async(args) is True
        os.truncate(path, 5)
        taken: list[bytes] = []
        while args.pending:
            taken += take_all(peer)
            await wait_all_tasks_blocked()
        assert args.socket_error is SocketError.FAULT
        assert args.bytes_transferred == 3
        assert [*taken, *take_all(peer)][-1] == b"one"
    assert args.remaining_elements[0].file_path == path


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere files are as long as they say")
async def test_a_file_that_claims_to_be_longer(udp_ends: Ends) -> None:
    socket, peer = udp_ends
    path = "/sys/kernel/mm/transparent_hugepage/enabled"
    if not os.path.exists(path):
        pytest.skip("there is no such file")
    with open(path, "rb") as file:
        content = file.read()
    args = args_of(path, b"next")
    assert await send(socket, args) == len(content) + 4
    assert take_all(peer) == [content, b"next"]
    blocked, port = scripted(Blocked(), 3, Blocked(), is_stream=False)
    async with open_initiator():
        args = args_of(b"one", path, b"next")
        assert blocked.send_packets_async(args) is True
        port.unblock()
        await wait_all_tasks_blocked()
        assert args.bytes_transferred == 3
        assert blocked.queued_bytes == len(content) + 4
        port.unblock()
        assert await args.wait() == 3 + len(content) + 4
    assert blocked.queued_bytes == 0
    blocked.close()


async def test_they_wait_for_room_and_nothing_comes_between() -> None:
    socket, port = scripted(3, Blocked(), is_stream=False)
    args = args_of(b"one", b"two", b"", b"three")
    async with open_initiator():
        assert socket.send_packets_async(args) is True
        result = socket.begin_send(b"behind")
        assert args.bytes_transferred == 3
        assert socket.queued_bytes == 8 + 6
        port.unblock()
        assert await args.wait() == 11
        assert await socket.end_send(result) == 6
    assert socket.queued_bytes == 0
    socket.close()


async def test_what_is_stopped_sends_no_more(records: Ends) -> None:
    """None in part, and nothing is torn."""
    socket, peer = records
    async with open_initiator():
        args = args_of(*[b"%05d" % number for number in range(5000)])
        assert socket.send_packets_async(args) is True
        args.cancel()
        await args.wait()
        assert args.socket_error is SocketError.OPERATION_ABORTED
    taken = take_all(peer)
    assert len(taken) * 5 == args.bytes_transferred
    assert taken == [b"%05d" % number for number in range(len(taken))]
    assert len(args.remaining_elements) == 5000 - len(taken)
    assert socket.torn is None


@pytest.mark.skipif(sys.version_info < (3, 12), reason="a class cannot have a __buffer__")
@pytest.mark.parametrize("when", [0, 1])
async def test_a_stop_in_the_middle_of_an_attempt(udp_ends: Ends, when: int) -> None:
    """The datagram that is being made ready then is not sent."""
    socket, peer = udp_ends
    armed = False

    class Meddler:
        def __buffer__(self, flags: int) -> memoryview:
            if armed:
                assert args.cancel() is True
            return memoryview(b"meddler")

    elements: list[Any] = [b"one", Meddler(), b"two"]
    args = args_of(*elements[1 - when :])
    armed = True
    async with open_initiator():
        if socket.send_packets_async(args):
            await args.wait()
    assert args.socket_error is SocketError.OPERATION_ABORTED
    assert args.bytes_transferred == 3 * when
    assert take_all(peer) == [b"one"] * when
    assert len(args.remaining_elements) == 2


async def test_without_a_default_host_there_is_nowhere_to_send_to() -> None:
    with closing(Socket(type=DGRAM)) as socket:
        args = args_of(b"one")
        async with open_initiator():
            assert socket.send_packets_async(args) is False
        assert args.socket_error is SocketError.NOT_CONNECTED


async def test_memory_that_is_short_for_a_while() -> None:
    """The one that failed is tried again, and those in front are not."""
    socket, port = scripted(3, "ENOBUFS", is_stream=False)
    async with open_initiator():
        args = args_of(b"one", b"two")
        assert socket.send_packets_async(args) is True
        assert await args.wait() == 6
    assert port.messages == [b"one", b"two"]
    socket.close()


class Counting(abc.Instrument):
    """Notes how many datagrams operations say they had."""

    def __init__(self) -> None:
        self.seen: list[tuple[int | None, int]] = []

    def operation_completed(
        self,
        operation: TracedOperation,
        error: SocketError,
        count: int,
        delay: float | None,
        detail: str | None,
    ) -> None:
        self.seen.append((operation.datagrams, count))


async def test_instruments_count_datagrams(udp_ends: Ends) -> None:
    socket, _ = udp_ends
    instrument = Counting()
    with add_instrument(instrument):
        await send(socket, args_of(b"one", b"", b"two"))
        await send(socket, args_of(b"one", (b"",), b"two"))
    assert instrument.seen == [(3, 6), (2, 6)]
