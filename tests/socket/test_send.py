"""Hold the three faces of sending to what they say of a send, on real sockets.

Every test is about what one can see: what a call answers, what the args and results say, and what the peer, a plain
socket, receives. Numbers of kernel buffers are never assumed; that a message is pending is asked for and asserted.
"""

from __future__ import annotations

import array
import ctypes
import inspect
import math
import mmap
import select
import socket as stdlib_socket
from contextlib import closing
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.datagrams import receiver, udp_ends as udp_ends
from tests.helpers import (
    BIG,
    FACES,
    KINDS,
    CountingPort,
    Ends,
    bytes_of,
    connected,
    ends as ends,
    failure_on_the_spot,
    kind as kind,
    needs_sigpipe,
    never_called,
    nothing_to_read,
    read_exactly,
    read_some,
    read_to_end,
    reset,
    run_where_sigpipe_kills,
    send_through,
    stdlib_pair,
    tcp as tcp,
    values_of,
)
from tests.scripted import Call, SpyPort
from trio_send import (
    InvalidOperationError,
    ObjectDisposedError,
    OperationInProgressError,
    Socket,
    SocketAsyncEventArgs,
    SocketAsyncOperation,
    SocketError,
    SocketException,
    SocketFlags,
    SocketShutdown,
    open_initiator,
)
from trio_send.testing import Blocked, ScriptedPort

every_face = pytest.mark.parametrize("face", FACES)


# On the spot, and pending ---------------------------------------------------------------------


@pytest.mark.page("S01", "S02", "S03", "S06", "S07")
@pytest.mark.fact("F119", "F122", "F125")
async def test_a_message_that_fits_is_sent_on_the_spot(ends: Ends) -> None:
    """The answer is False, the args tell now, and the event is never raised (F119, F122)."""
    socket, peer = ends
    args = SocketAsyncEventArgs(b"hello")
    args.completed += never_called
    async with open_initiator():
        # The first start goes another way through the code than the later ones.
        for number in range(3):
            assert socket.send_async(args) is False, number
            assert args.bytes_transferred == 5
            assert args.socket_error is SocketError.SUCCESS
            assert args.last_operation is SocketAsyncOperation.SEND
            assert args.outcome is not None
            assert args.outcome.unwrap() == 5
            assert args.remaining == []
            assert not args.pending
            assert socket.queued_operations == 0
        args.set_buffer(b"")
        assert socket.send_async(args) is False
        assert args.bytes_transferred == 0
        await wait_all_tasks_blocked()
        assert await read_exactly(peer, 15) == b"hello" * 3
    assert nothing_to_read(peer)


@pytest.mark.page("B45", "S01", "S02", "S04", "S05", "S21")
@pytest.mark.fact("F119", "F123", "F126", "F131", "F139", "F140")
async def test_a_message_that_does_not_fit_is_pending_and_completes_once(ends: Ends) -> None:
    """The answer is True, and the event is raised once, from neither inside nor before the start (F119, F123, F126)."""
    socket, peer = ends
    events: list[tuple[object, object]] = []
    args = SocketAsyncEventArgs(BIG)
    args.completed += lambda sender, event_args: events.append((sender, event_args))
    async with open_initiator():
        for number in range(3):
            del events[:]
            assert socket.send_async(args) is True
            assert events == []
            assert args.pending
            assert args.socket_error is SocketError.IO_PENDING
            assert args.last_operation is SocketAsyncOperation.SEND  # F139
            assert args.outcome is None
            assert 0 <= args.bytes_transferred < len(BIG)
            assert args.activation == number + 1
            assert socket.queued_operations == 1
            await wait_all_tasks_blocked()
            assert events == []
            assert await read_exactly(peer, len(BIG)) == BIG
            assert await args.wait() == len(BIG)
            await wait_all_tasks_blocked()
            assert events == [(socket, args)]
            assert args.bytes_transferred == len(BIG)
            assert args.socket_error is SocketError.SUCCESS
            assert socket.queued_operations == 0
    assert events == [(socket, args)]


@pytest.mark.fact("F135")
async def test_a_handler_that_starts_the_next_send_does_not_deepen_the_stack(ends: Ends) -> None:
    """Completed is raised from the same depth, however long the chain is (F135)."""
    socket, peer = ends
    depths: list[int] = []

    def next_one(_: Socket, args: SocketAsyncEventArgs) -> None:
        depths.append(len(inspect.stack(0)))
        if len(depths) < 5:
            assert socket.send_async(args) is True

    args = SocketAsyncEventArgs(BIG)
    args.completed += next_one
    async with open_initiator():
        assert socket.send_async(args) is True
        assert await read_exactly(peer, 5 * len(BIG)) == 5 * BIG
        while args.pending:
            await args.wait()
    assert depths == [depths[0]] * 5


@pytest.mark.fact("F123", "F135")
async def test_a_caller_that_never_waits_is_made_to_wait_now_and_then() -> None:
    """Among many starts that end on the spot, one is answered "pending": it is done, and its event is raised."""
    events: list[int] = []
    with closing(Socket.from_port(ScriptedPort())) as socket:  # takes everything at once
        args = SocketAsyncEventArgs(b"x")
        args.completed += lambda *_: events.append(args.bytes_transferred)
        async with open_initiator():
            for _ in range(2):
                starts = 1
                while not socket.send_async(args):
                    starts += 1
                    assert starts < 10_000
                assert starts > 1
                assert args.pending
                assert args.bytes_transferred == 1
                assert args.cancel() is False  # completion has won already
                assert events == []
                assert await args.wait() == 1
                assert events == [1]
                del events[:]


async def test_a_caller_that_tries_again_for_ever_is_made_to_wait_too() -> None:
    """Starts that fail on the spot count as well, or a loop on a dead socket would hold everybody up."""
    with closing(Socket()) as socket:
        args = SocketAsyncEventArgs(b"x")
        async with open_initiator():
            starts = 1
            while not socket.send_async(args):
                assert args.socket_error is SocketError.NOT_CONNECTED
                starts += 1
                assert starts < 10_000
            assert starts > 1
            assert await args.wait() == 0
            assert args.socket_error is SocketError.NOT_CONNECTED


async def test_a_loop_over_sends_and_waits_lets_other_tasks_run() -> None:
    """Even if the kernel takes everything at once."""
    sent = 0
    with closing(Socket.from_port(ScriptedPort())) as socket:

        async def send_for_ever() -> None:
            nonlocal sent
            args = SocketAsyncEventArgs(b"x")
            while True:
                if socket.send_async(args):
                    await args.wait()
                sent += 1

        async with open_initiator(), trio.open_nursery() as nursery:
            nursery.start_soon(send_for_ever)
            while not sent:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert sent > 1


@pytest.mark.page("S14")
@pytest.mark.fact("F041", "F161")
@every_face
async def test_every_face_sends_small_and_big_messages(ends: Ends, face: str) -> None:
    """What one asks for arrives, and that many bytes are counted (F041, F161)."""
    socket, peer = ends
    async with open_initiator(), trio.open_nursery() as nursery:
        for data in (b"x", BIG, b"", BIG[:1000], BIG):
            received: list[bytes] = []

            async def read(count: int, received: list[bytes] = received) -> None:
                received.append(await read_exactly(peer, count))

            nursery.start_soon(read, len(data))
            assert await send_through(face, socket, data) == len(data)
            await wait_all_tasks_blocked()
            assert received == [data]
    assert nothing_to_read(peer)


async def test_an_awaited_send_needs_no_initiator(ends: Ends) -> None:
    socket, peer = ends
    args = SocketAsyncEventArgs(b" and args")
    args.completed += never_called
    assert await socket.send(b"bytes") == 5
    assert await socket.send(args) == 9
    assert args.bytes_transferred == 9
    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.send, BIG)
        args.set_buffer(BIG)
        nursery.start_soon(socket.send, args)
        assert await read_exactly(peer, 14) == b"bytes and args"
        assert await read_exactly(peer, 2 * len(BIG)) == 2 * BIG
    assert args.bytes_transferred == len(BIG)
    assert args.socket_error is SocketError.SUCCESS
    assert not args.pending


@pytest.mark.parametrize("with_args", [False, True])
async def test_an_awaited_send_is_always_a_checkpoint(ends: Ends, with_args: bool) -> None:
    """On success and on failure alike."""
    socket, _ = ends
    with trio.testing.assert_checkpoints():
        await socket.send(SocketAsyncEventArgs(b"x") if with_args else b"x")
    socket.shutdown(SocketShutdown.SEND)
    with trio.testing.assert_checkpoints(), pytest.raises(SocketException):
        await socket.send(SocketAsyncEventArgs(b"x") if with_args else b"x")
    with trio.testing.assert_checkpoints(), pytest.raises(SocketException):
        await socket.send(SocketAsyncEventArgs(b"x") if with_args else b"x")


@pytest.mark.parametrize("with_args", [False, True])
async def test_an_awaited_send_that_was_cancelled_before_it_began_sends_nothing(
    ends: Ends, with_args: bool
) -> None:
    """And args do not claim a success."""
    socket, peer = ends
    args = SocketAsyncEventArgs(b"hello")
    with trio.CancelScope() as scope:
        scope.cancel()
        await socket.send(args if with_args else b"hello")
    assert scope.cancelled_caught
    assert nothing_to_read(peer)
    assert socket.torn is None
    if with_args:
        assert args.bytes_transferred == 0
        assert b"".join(args.remaining) == b"hello"
        assert not args.pending
        assert args.socket_error is SocketError.OPERATION_ABORTED
    assert await socket.send(args) == 5
    assert await read_exactly(peer, 5) == b"hello"


# What can be sent -----------------------------------------------------------------------------


class Bytes(bytes):
    """Bytes of a class of one's own."""


def buffers() -> dict[str, Any]:
    mapping = mmap.mmap(-1, 7)
    mapping[:] = b"mapping"
    return {
        "bytes": b"bytes",
        "empty bytes": b"",
        "a subclass of bytes": Bytes(b"subclass"),
        "bytearray": bytearray(b"bytearray"),
        "empty bytearray": bytearray(),
        "read-only view": memoryview(b"read-only view"),
        "writable view": memoryview(bytearray(b"writable view")),
        "slice of a view": memoryview(bytearray(b"0123456789"))[3:7],
        "two dimensions": memoryview(b"abcdef").cast("B", (2, 3)),
        "no dimension": memoryview(ctypes.c_uint32(0x01020304)),
        "array of numbers": array.array("I", [1, 2, 0xFFFFFFFF]),
        "empty array": array.array("d"),
        "signed bytes": memoryview(array.array("b", [-1, 0, 1])),
        "ctypes array": (ctypes.c_ubyte * 4)(9, 8, 7, 6),
        "mapped memory": mapping,
    }


@pytest.mark.page("B05")
@pytest.mark.parametrize("what", buffers())
@every_face
async def test_buffers_of_all_sorts(face: str, what: str) -> None:
    """Any contiguous buffer goes, counted in bytes, and comes back as the very object that was set."""
    buffer = buffers()[what]
    expected = bytes(memoryview(buffer).cast("B")) if memoryview(buffer).nbytes else b""
    with connected("unix", tiny=False) as (socket, peer):
        async with open_initiator():
            assert await send_through(face, socket, buffer) == len(expected)
            assert await send_through(face, socket, [buffer, b"|", buffer]) == 2 * len(expected) + 1
            assert await socket.send(b"$") == 1
        whole = expected + expected + b"|" + expected + b"$"
        assert await read_exactly(peer, len(whole)) == whole
        assert nothing_to_read(peer)
    assert SocketAsyncEventArgs(buffer).buffer is buffer


@pytest.mark.parametrize("length", [1, 5, 4096, 300_000])
async def test_wide_items_are_sent_from_where_the_last_attempt_stopped(
    ends: Ends, length: int
) -> None:
    """A partial write need not end where an item does."""
    socket, peer = ends
    numbers = array.array("Q", bytes_of(8 * length))
    async with open_initiator():
        args = SocketAsyncEventArgs(numbers)
        pending = socket.send_async(args)
        assert pending or length < 4096
        assert await read_exactly(peer, 8 * length) == numbers.tobytes()
        if pending:
            await args.wait()
    assert args.bytes_transferred == 8 * length


@pytest.mark.page("B13", "S08")
@pytest.mark.fact("F003", "F016", "F019", "F114")
@pytest.mark.parametrize(
    ("buffer", "sentence"),
    [
        (None, "is None"),
        ("text", "not str"),
        (5, "not (int|a number)"),
        (memoryview(b"abcdef")[::2], "must be contiguous"),
    ],
    ids=["None", "str", "int", "strided"],
)
async def test_what_is_no_buffer_is_refused_by_its_parameters_name(
    tcp: Ends, buffer: Any, sentence: str
) -> None:
    """F003, F019."""
    socket, peer = tcp
    async with open_initiator():
        with pytest.raises(TypeError, match=f"^buffer_or_list .*{sentence}"):
            socket.begin_send(buffer)
        with pytest.raises(TypeError, match=f"^buffer_or_list .*{sentence}"):
            socket.try_begin_send(buffer)
        with pytest.raises(TypeError, match=f"^data .*{sentence}"):
            await socket.send(buffer)
        with pytest.raises(TypeError, match=rf"^buffer_or_list\[1\] .*{sentence}"):
            socket.begin_send([b"x", buffer])
        with pytest.raises(TypeError, match=rf"^data\[1\] .*{sentence}"):
            await socket.send((b"x", buffer))
        if buffer is not None:  # None stands for no buffer there
            with pytest.raises(TypeError, match=f"^buffer .*{sentence}"):
                SocketAsyncEventArgs(buffer)
        with pytest.raises(TypeError, match=rf"^buffer_list\[1\] .*{sentence}"):
            SocketAsyncEventArgs(buffer_list=[b"x", buffer])
    assert nothing_to_read(peer)


@pytest.mark.page("B06", "B07", "B16")
@pytest.mark.fact("F005", "F102", "F146")
@pytest.mark.parametrize(
    "make", [bytes, bytearray, memoryview, lambda data: array.array("H", data)]
)
async def test_ranges(ends: Ends, make: Any) -> None:
    """A range is counted in bytes; it may be empty, at the very end too (F005, F102)."""
    socket, peer = ends
    data = bytes_of(100)
    buffer = make(data)
    ranges = [(0, None), (0, 100), (10, None), (10, 20), (99, 1), (33, 1), (100, None), (100, 0)]
    async with open_initiator():
        for offset, size in ranges:
            piece = data[offset:][:size]
            args = SocketAsyncEventArgs(buffer, offset, size)
            assert (args.offset, args.count) == (offset, len(piece))
            assert socket.send_async(args) is False
            assert args.bytes_transferred == len(piece)
            assert (args.offset, args.count) == (offset, len(piece))  # F146
            result = socket.begin_send(buffer, offset, size)
            assert await socket.end_send(result) == len(piece)
            assert await read_exactly(peer, 2 * len(piece)) == 2 * piece
            assert nothing_to_read(peer)


async def test_a_range_of_a_big_buffer_is_sent_and_nothing_around_it(ends: Ends) -> None:
    socket, peer = ends
    for make in (bytes, bytearray):
        async with open_initiator():
            args = SocketAsyncEventArgs(make(BIG), 1000, 200_000)
            assert socket.send_async(args) is True
            result = socket.begin_send(make(BIG), 299_000)
            assert await read_exactly(peer, 200_000) == BIG[1000:201_000]
            assert await read_exactly(peer, 1000) == BIG[299_000:]
            assert await args.wait() == 200_000
            assert await socket.end_send(result) == 1000
    assert nothing_to_read(peer)


@pytest.mark.page("S14")
@pytest.mark.fact("F022")
@every_face
async def test_a_list_is_one_message(ends: Ends, face: str) -> None:
    """Its members are gathered, empty ones are skipped, and the count is the sum (F022)."""
    socket, peer = ends
    small = [b"", b"a", bytearray(b"bc"), b"", memoryview(b"def"), b""]
    wide = [b"x", BIG[:150_000], b"", bytearray(BIG[150_000:]), array.array("H", b"zz"), b""]
    async with open_initiator(), trio.open_nursery() as nursery:
        assert await send_through(face, socket, small) == 6
        assert await send_through(face, socket, tuple(small)) == 6
        assert await read_exactly(peer, 12) == 2 * b"abcdef"
        received = []

        @nursery.start_soon
        async def _() -> None:
            received.append(await read_exactly(peer, len(BIG) + 3))

        assert await send_through(face, socket, wide) == len(BIG) + 3
    assert received == [b"x" + BIG + b"zz"]


@pytest.mark.fact("F017", "F116")
async def test_a_list_of_nothing(ends: Ends) -> None:
    """Members that are all empty send nothing. An empty list does so for args (F116) and is refused by begin (F017)."""
    socket, peer = ends
    async with open_initiator():
        args = SocketAsyncEventArgs(buffer_list=[b"", bytearray()])
        assert socket.send_async(args) is False
        args.buffer_list = []
        assert args.buffer_list == []
        assert socket.send_async(args) is False
        assert args.socket_error is SocketError.SUCCESS
        assert args.bytes_transferred == 0
        nothing: list[list[bytes] | tuple[bytes, ...]] = [[], ()]
        for empty in nothing:
            with pytest.raises(ValueError, match=r"^buffer_or_list is an empty list"):
                socket.begin_send(empty)
            with pytest.raises(ValueError, match=r"^data is an empty list"):
                await socket.send(empty)
        for offset, size in ((1, None), (0, 0), (0, 1)):
            with pytest.raises(ValueError, match=r"^offset and size are for a single buffer"):
                socket.begin_send([b"x"], offset, size)
        await socket.send(b"$")
    assert await read_some(peer) == b"$"


@pytest.mark.fact("F170")
async def test_more_members_than_the_kernel_takes_in_one_call(kind: str) -> None:
    """They are sent in several calls, as one message (F170)."""
    for size in (1, 100):
        pieces = [bytes_of(size, seed) for seed in range(3000)]
        with connected(kind) as (socket, peer):
            async with open_initiator():
                args = SocketAsyncEventArgs(buffer_list=pieces)
                pending = socket.send_async(args)
                behind = socket.begin_send(b"behind")
                assert await read_exactly(peer, 3000 * size + 6) == b"".join(pieces) + b"behind"
                if pending:
                    await args.wait()
                assert args.bytes_transferred == 3000 * size
                assert await socket.end_send(behind) == 6


@pytest.mark.fact("F023", "F111", "F112")
async def test_a_list_is_looked_at_when_it_is_set_or_started_and_not_again(ends: Ends) -> None:
    """F023, F112."""
    socket, peer = ends
    first: list[Any] = [b"one", b"two"]
    second: list[Any] = [BIG, b"tail"]
    async with open_initiator():
        args = SocketAsyncEventArgs(buffer_list=first)
        first.append(b"three")
        assert args.buffer_list is first  # F111
        assert socket.send_async(args) is False
        assert await read_exactly(peer, 6) == b"onetwo"
        result = socket.begin_send(second)
        second.clear()
        assert await read_exactly(peer, len(BIG) + 4) == BIG + b"tail"
        assert await socket.end_send(result) == len(BIG) + 4
        args.buffer_list = first
        assert socket.send_async(args) is False
        assert await read_exactly(peer, 11) == b"onetwothree"
    assert nothing_to_read(peer)


@pytest.mark.fact("F080")
async def test_buffers_are_not_copied(ends: Ends) -> None:
    """What is changed before the kernel took it arrives changed (F080)."""
    socket, peer = ends
    buffer = bytearray(BIG)
    async with open_initiator():
        args = SocketAsyncEventArgs(buffer)
        assert socket.send_async(args) is True
        await wait_all_tasks_blocked()
        buffer[-5:] = b"later"
        assert await read_exactly(peer, len(BIG)) == BIG[:-5] + b"later"
        await args.wait()


async def test_no_buffer_is_locked_while_a_send_waits_or_after_it(ends: Ends) -> None:
    """A bytearray that is exported cannot be resized."""
    socket, peer = ends
    buffer = bytearray(BIG)
    member = bytearray(b"member")
    args = SocketAsyncEventArgs(buffer, 0, len(BIG))
    also = SocketAsyncEventArgs(buffer_list=[BIG, member])
    async with open_initiator():
        assert socket.send_async(args) is True
        assert socket.send_async(also) is True
        buffer += b"beyond the range"
        member += b" with more behind it"
        await wait_all_tasks_blocked()
        buffer += b"!"
        member += b"!"
        assert await read_exactly(peer, 2 * len(BIG) + 6) == 2 * BIG + b"member"
        await also.wait()
        buffer.clear()
        member.clear()
    small = bytearray(b"small")
    async with open_initiator():
        assert socket.send_async(SocketAsyncEventArgs(small)) is False
        await socket.end_send(socket.begin_send(small))
        await socket.send(small)
    small.clear()


async def test_a_buffer_that_shrinks_under_its_send_fails_it_with_its_count(ends: Ends) -> None:
    """The kernel is never pointed at memory that is gone; the rest of the message is, so the stream is torn."""
    socket, peer = ends
    buffer = bytearray(BIG)
    async with open_initiator():
        args = SocketAsyncEventArgs(buffer)
        assert socket.send_async(args) is True
        await wait_all_tasks_blocked()
        behind = socket.begin_send(b"behind")
        accepted = args.bytes_transferred
        assert accepted > 0
        del buffer[-1:]
        received = b""
        # How much must go before there is room is the kernel's matter.
        while args.pending and len(received) < accepted:
            received += await read_some(peer)
        assert await args.wait() == accepted
        assert args.socket_error is SocketError.FAULT
        assert await socket.try_end_send(behind) == (0, SocketError.CONNECTION_ABORTED)
        assert socket.torn is not None
        assert socket.torn.bytes_transferred == accepted
        received += await read_exactly(peer, accepted - len(received))
    assert received == BIG[:accepted]
    assert nothing_to_read(peer)


@pytest.mark.page("S17")
@pytest.mark.fact("F128", "F161", "F162", "F164")
@pytest.mark.parametrize("form", ["one buffer", "a mutable buffer", "many buffers"])
async def test_eight_megabytes_through_tiny_buffers(kind: str, form: str) -> None:
    """The library loops over partial writes until every byte is accepted, and repeats and loses none (F161, F162)."""
    size = 8 * 1024 * 1024
    data = bytes_of(size)
    left, peer = stdlib_pair(kind, tiny=True)
    port = CountingPort(left)
    with peer, closing(Socket.from_port(port)) as socket:
        peer.setblocking(False)
        args = SocketAsyncEventArgs()
        if form == "one buffer":
            args.set_buffer(data)
        elif form == "a mutable buffer":
            args.set_buffer(bytearray(data))
        else:
            steps = (1, 30_000, 7, 100_000, 4096)
            pieces: list[memoryview] = []
            begin = 0
            while begin < size:
                step = steps[len(pieces) % len(steps)]
                pieces.append(memoryview(data)[begin : begin + step])
                begin += step
            args.buffer_list = pieces
        async with open_initiator():
            assert socket.send_async(args) is True
            assert await read_exactly(peer, size) == data
            assert await args.wait() == size
        assert args.socket_error is SocketError.SUCCESS
        assert port.accepted == data
        assert len(port.calls) > 100  # so the buffers were tiny indeed


# Order ----------------------------------------------------------------------------------------


@pytest.mark.fact("F191", "F196", "F199")
async def test_messages_of_all_sizes_and_faces_arrive_whole_and_in_order(ends: Ends) -> None:
    """One FIFO for all faces; neighbours that share a system call are told apart to the byte (F191, F196)."""
    socket, peer = ends
    sizes = [len(BIG), 0, 1, 5000, 0, 0, 70_000, 3, 3, 3, 100, 9000, 0, 65_536, 65_535, 1, 0]
    messages = [bytes_of(size, seed) for seed, size in enumerate(sizes)]
    ended: list[int] = []
    counts: dict[int, int] = {}

    async def send(number: int) -> None:
        counts[number] = await socket.send(messages[number])

    def called_back(result: Any) -> None:
        ended.append(result.async_state)
        counts[result.async_state] = socket.end_send_nowait(result)

    def completed(_: Socket, args: SocketAsyncEventArgs) -> None:
        ended.append(args.user_token)
        counts[args.user_token] = args.bytes_transferred

    kept: list[object] = []
    async with open_initiator(), trio.open_nursery() as nursery:
        for number, message in enumerate(messages):
            if number % 3 == 1:
                kept.append(socket.begin_send(message, callback=called_back, state=number))
            elif number % 3 == 2:
                nursery.start_soon(send, number)
                await wait_all_tasks_blocked()  # it has joined the queue
            else:
                args = SocketAsyncEventArgs(message, user_token=number)
                args.completed += completed
                assert socket.send_async(args) is True
                kept.append(args)
        assert socket.queued_operations == len(sizes)
        assert ended == []
        assert await read_exactly(peer, sum(sizes)) == b"".join(messages)
        await wait_all_tasks_blocked()
    assert counts == dict(enumerate(sizes))
    assert ended == [number for number in range(len(sizes)) if number % 3 != 2]
    assert nothing_to_read(peer)


@pytest.mark.fact("F173", "F196")
async def test_nothing_overtakes_a_message_that_is_pending(ends: Ends) -> None:
    """Not even when there is room again, and not even an empty message (F173, F196)."""
    socket, peer = ends
    async with open_initiator():
        first = SocketAsyncEventArgs(BIG)
        assert socket.send_async(first) is True
        # Room is made, and a start comes before anybody had the time to fill it.
        received = peer.recv(65536)
        assert received
        empty = SocketAsyncEventArgs(b"")
        assert socket.send_async(empty) is True
        small = socket.begin_send(b"small")
        assert not small.is_completed
        received += await read_exactly(peer, len(BIG) + 5 - len(received))
        assert received == BIG + b"small"
        assert await empty.wait() == 0
        assert await socket.end_send(small) == 5


@pytest.mark.fact("F172")
async def test_an_empty_message_sends_nothing(ends: Ends) -> None:
    """It succeeds with 0 bytes, and the peer sees nothing (F172)."""
    socket, peer = ends
    async with open_initiator():
        for face in FACES:
            assert await send_through(face, socket, b"") == 0
            assert await send_through(face, socket, bytearray()) == 0
            assert nothing_to_read(peer)


# Checks ---------------------------------------------------------------------------------------


@pytest.mark.page("B19", "S12")
@pytest.mark.fact("F001", "F002", "F081", "F208")
async def test_a_closed_socket_comes_before_everything_else(tcp: Ends) -> None:
    """F001, F002, F081."""
    socket, _ = tcp
    socket.close()
    closed_args = SocketAsyncEventArgs(b"x")
    closed_args.close()
    for args in (None, "wrong", closed_args, SocketAsyncEventArgs(), SocketAsyncEventArgs(b"x")):
        with pytest.raises(ObjectDisposedError, match=r"^this socket was closed$"):
            socket.send_async(args)  # type: ignore[arg-type]
    for buffer, offset in ((None, 0), (b"x", -1), (b"x", 0)):
        with pytest.raises(ObjectDisposedError, match=r"^this socket was closed$"):
            socket.begin_send(buffer, offset)  # type: ignore[arg-type]
        with pytest.raises(ObjectDisposedError, match=r"^this socket was closed$"):
            socket.try_begin_send(buffer, offset)  # type: ignore[arg-type]
        with pytest.raises(ObjectDisposedError, match=r"^this socket was closed$"):
            await socket.send(buffer)  # type: ignore[arg-type]
    async with open_initiator():
        with pytest.raises(ObjectDisposedError):
            socket.send_async(SocketAsyncEventArgs(b"x"))
        assert socket.queued_operations == 0


@pytest.mark.page("S08")
@pytest.mark.fact("F007", "F082", "F084", "F087", "F088", "F090")
async def test_the_order_of_the_checks_of_args(ends: Ends) -> None:
    """None and wrong types, then closed, then in use (F087, F088), then without a buffer, then without initiator.

    Each case would also fail all the later checks, as far as that is possible at once.
    """
    socket, peer = ends
    listener = Socket()
    in_use = SocketAsyncEventArgs()  # in use by an accept, so it has no buffer
    closed = SocketAsyncEventArgs()
    closed.close()
    idle = SocketAsyncEventArgs(b"x")
    nothing = SocketAsyncEventArgs()

    async def refuse(args: Any, error: type[Exception], sentence: str, *, awaited: bool) -> None:
        before = values_of(args) if isinstance(args, SocketAsyncEventArgs) else None
        with pytest.raises(error, match=sentence) as caught:
            if awaited:
                await socket.send(args)
            else:
                socket.send_async(args)
        assert type(caught.value) is error
        if before is not None:
            assert values_of(args) == before
        assert socket.queued_operations == 0
        assert nothing_to_read(peer)

    try:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        async with open_initiator() as initiator:
            assert listener.accept_async(in_use) is True

            await refuse(in_use, OperationInProgressError, "^these args are in use", awaited=False)
            await refuse(in_use, OperationInProgressError, "^these args are in use", awaited=True)
            assert initiator.pending_operations == 1
            in_use.close()  # deferred, so they are in use and nothing else (F090)
            await refuse(in_use, OperationInProgressError, "^these args are in use", awaited=False)
    finally:
        listener.close()
    await refuse(
        None, TypeError, "^args must be a SocketAsyncEventArgs, not NoneType", awaited=False
    )
    await refuse("x", TypeError, "^args must be a SocketAsyncEventArgs, not str", awaited=False)
    await refuse(b"x", TypeError, "^args must be a SocketAsyncEventArgs, not bytes", awaited=False)
    for awaited in (False, True):
        await refuse(closed, ObjectDisposedError, "^these args were closed", awaited=awaited)
        await refuse(nothing, ValueError, "^args has nothing to send", awaited=awaited)
    await refuse(idle, InvalidOperationError, "^no initiator is open here", awaited=False)
    with pytest.raises(InvalidOperationError, match=r"^no initiator is open here"):
        socket.begin_send(b"x")
    with pytest.raises(TypeError):
        socket.begin_send(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^offset"):
        socket.begin_send(b"x", 2)


async def test_an_initiator_that_was_left_is_no_initiator(ends: Ends) -> None:
    """Also not for a task that inherited it, and not on a socket that has used it."""
    socket, peer = ends
    args = SocketAsyncEventArgs(b"x")
    left = trio.Event()
    done = trio.Event()

    async def straggler() -> None:
        await left.wait()
        with pytest.raises(InvalidOperationError, match=r"^the initiator this task inherited"):
            socket.send_async(args)
        with pytest.raises(InvalidOperationError, match=r"^the initiator this task inherited"):
            socket.begin_send(b"x")
        done.set()

    async with trio.open_nursery() as nursery:
        async with open_initiator():
            assert socket.send_async(args) is False
            nursery.start_soon(straggler)
            await wait_all_tasks_blocked()
        left.set()
        await done.wait()
    assert await read_some(peer) == b"x"
    assert nothing_to_read(peer)


@pytest.mark.page("S10")
@pytest.mark.fact("F087", "F093", "F094")
async def test_args_in_use_are_refused_and_the_operation_goes_on_unharmed(ends: Ends) -> None:
    """F087, F093, F094."""
    socket, peer = ends
    with connected("unix") as (other, other_peer):
        args = SocketAsyncEventArgs(BIG)
        async with open_initiator():
            # The other socket knows the initiator, so that nothing but the args is in the way.
            assert other.send_async(SocketAsyncEventArgs(b"")) is False
            assert socket.send_async(args) is True
            await wait_all_tasks_blocked()
            before = values_of(args)
            for same_or_other in (socket, other):
                with pytest.raises(OperationInProgressError, match=r"^these args are in use"):
                    same_or_other.send_async(args)
                with pytest.raises(OperationInProgressError, match=r"^these args are in use"):
                    await same_or_other.send(args)
            assert values_of(args) == before
            assert nothing_to_read(other_peer)
            assert await read_exactly(peer, len(BIG)) == BIG
            assert await args.wait() == len(BIG)
            assert nothing_to_read(peer)


@pytest.mark.fact("F159")
async def test_one_args_object_serves_sockets_of_all_kinds_in_turn() -> None:
    """F159."""
    args = SocketAsyncEventArgs(BIG)
    senders: list[Socket] = []
    args.completed += lambda socket, _: senders.append(socket)
    with connected("tcp4") as (one, one_peer), connected("unix") as (two, two_peer):
        async with open_initiator():
            for socket, peer in ((one, one_peer), (two, two_peer), (one, one_peer)):
                assert socket.send_async(args) is True
                assert await read_exactly(peer, len(BIG)) == BIG
                assert await args.wait() == len(BIG)
        assert senders == [one, two, one]


# Never connected ------------------------------------------------------------------------------


@pytest.mark.page("B21", "S13", "S20")
@pytest.mark.fact("F011", "F013", "F015", "F053", "F059", "F091")
@pytest.mark.parametrize("type_", [stdlib_socket.SOCK_STREAM, stdlib_socket.SOCK_DGRAM])
@every_face
async def test_a_socket_that_was_never_connected(face: str, type_: int) -> None:
    """Each face tells in its own way, and the system is not asked (F011, F015, F053, F091)."""
    async with open_initiator():
        with closing(Socket(type=type_)) as socket:
            for data in (b"x", b"", [b"x", b"y"]):
                failure = await failure_on_the_spot(face, socket, data)
                assert failure == (SocketError.NOT_CONNECTED, 0)
            assert socket.queued_operations == 0
            assert not socket.connected
        await wait_all_tasks_blocked()


@pytest.mark.fact("F007")
async def test_bad_arguments_come_before_the_missing_connection() -> None:
    """F007."""
    async with open_initiator():
        with closing(Socket()) as socket:
            with pytest.raises(TypeError, match=r"^buffer_or_list is None"):
                socket.begin_send(None)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match=r"^offset is 5"):
                socket.begin_send(b"abc", 5, 9)
            with pytest.raises(ValueError, match=r"^size is 9"):
                socket.begin_send(b"abc", 1, 9)


# Flags ----------------------------------------------------------------------------------------


@pytest.mark.fact("F010", "F184")
@pytest.mark.parametrize(
    "flags",
    [
        SocketFlags.MAX_IO_VECTOR_LENGTH,
        SocketFlags.BROADCAST,
        SocketFlags.MULTICAST,
        SocketFlags.PARTIAL,
        SocketFlags(0x1000),
        SocketFlags.OUT_OF_BAND | SocketFlags.PARTIAL,
    ],
)
@every_face
async def test_flags_that_cannot_be_used_are_refused_before_the_system_call(
    tcp: Ends, face: str, flags: SocketFlags
) -> None:
    """F184. The flags on the args stay as they were."""
    socket, peer = tcp
    async with open_initiator():
        for _ in range(2):
            failure = await failure_on_the_spot(face, socket, b"x", flags)
            assert failure == (SocketError.OPERATION_NOT_SUPPORTED, 0)
        assert nothing_to_read(peer)
        await socket.send(b"whole")  # the socket is none the worse for it
        assert await read_some(peer) == b"whole"


@pytest.mark.page("B38")
@pytest.mark.fact("F142", "F143", "F187", "F190")
@pytest.mark.parametrize("flags", [SocketFlags.DONT_ROUTE, SocketFlags.PEEK])
async def test_flags_that_change_nothing_here(tcp: Ends, flags: SocketFlags) -> None:
    """The loopback needs no route (F187), and the kernel ignores PEEK on a send (F190). Flags outlast sends."""
    socket, peer = tcp
    args = SocketAsyncEventArgs(BIG)
    args.socket_flags = flags
    async with open_initiator():
        assert await socket.send(b"x", flags) == 1
        assert await socket.end_send(socket.begin_send(b"y", socket_flags=flags)) == 1
        assert await read_exactly(peer, 2) == b"xy"
        for _ in range(2):
            assert socket.send_async(args) is True
            assert await read_exactly(peer, len(BIG)) == BIG
            assert await args.wait() == len(BIG)
            assert args.socket_flags is flags


@pytest.mark.page("B08")
@pytest.mark.fact("F142", "F143", "F188")
@pytest.mark.parametrize("kind", KINDS[:2])
@every_face
async def test_out_of_band(ends: Ends, face: str) -> None:
    """Only the last byte is urgent, the rest is ordinary data (F188)."""
    socket, peer = ends
    async with open_initiator():
        if face == "begin_send":
            socket.begin_send(b"abc", socket_flags=SocketFlags.OUT_OF_BAND)
        elif face == "try_begin_send":
            socket.try_begin_send(b"abc", socket_flags=SocketFlags.OUT_OF_BAND)
        elif face == "send":
            await socket.send(b"abc", SocketFlags.OUT_OF_BAND)
        else:
            args = SocketAsyncEventArgs(b"abc")
            args.socket_flags = SocketFlags.OUT_OF_BAND
            if face == "send args":
                await socket.send(args)
            else:
                assert socket.send_async(args) is False
            assert args.socket_flags is SocketFlags.OUT_OF_BAND
    assert await read_exactly(peer, 2) == b"ab"
    assert peer.recv(1, stdlib_socket.MSG_OOB) == b"c"
    assert nothing_to_read(peer)


@pytest.mark.parametrize("kind", KINDS[:2])
async def test_neighbours_in_the_queue_keep_their_own_flags(ends: Ends) -> None:
    """Messages share a system call only if they share their flags."""
    socket, peer = ends
    async with open_initiator():
        socket.begin_send(BIG)
        socket.begin_send(b"ordinary")
        urgent = socket.begin_send(b"ab!", socket_flags=SocketFlags.OUT_OF_BAND)
        last = socket.begin_send(b"ordinary again")
        assert socket.queued_operations == 4
        assert await read_exactly(peer, len(BIG) + 10) == BIG + b"ordinaryab"
        assert await socket.end_send(urgent) == 3
        poll = select.poll()
        poll.register(peer, select.POLLPRI)
        poll.poll()  # until the urgent byte is here; it is lost if one reads on
        assert peer.recv(1, stdlib_socket.MSG_OOB) == b"!"
        assert await read_exactly(peer, 14) == b"ordinary again"
        assert await socket.end_send(last) == 14


# The end of a connection ----------------------------------------------------------------------

SIGPIPE_SCRIPT = """
    async def main():
        made = []
        async with trio_send.open_initiator():

            def broken():
                socket, peer = trio_send.socketpair()
                peer.close()
                made.append(socket)
                return socket

            args = [Args(b"x"), Args(bytearray(b"x")), Args(buffer_list=[b"x", b"y"])]
            args.append(Args(buffer_list=[bytes(9000)] * 20))
            for each in args:
                assert broken().send_async(each) is False
                print(each.socket_error.name)
            fast = Args(b"x")
            socket, peer = trio_send.socketpair()
            made.append(socket)
            assert socket.send_async(fast) is False
            print(fast.socket_error.name)
            peer.close()
            assert socket.send_async(fast) is False  # the same initiator again: the fast path
            print(fast.socket_error.name)
            print(broken().try_begin_send(b"x")[1].name)
            print(broken().try_begin_send(b"x", socket_flags=SocketFlags.DONT_ROUTE)[1].name)
            for data in (b"x", [bytes(9000)] * 20):
                try:
                    await broken().send(data)
                except trio_send.SocketException as error:
                    print(error.socket_error_code.name)
            socket, peer = trio_send.socketpair()
            made.append(socket)
            waiting = Args(bytes(4_000_000))
            assert socket.send_async(waiting)
            behind = Args(b"behind")
            assert socket.send_async(behind)
            peer.close()
            await behind.wait()
            print(behind.socket_error.name)
        for socket in made:
            socket.close()
"""


@needs_sigpipe
def test_a_broken_pipe_is_an_error_and_never_a_signal() -> None:
    """Also in a program that has given SIGPIPE back its default action, which is to end the process."""
    codes = run_where_sigpipe_kills(SIGPIPE_SCRIPT)
    assert codes.pop(4) == "SUCCESS"  # the send before the peer closed
    assert codes == ["SHUTDOWN"] * 10


@pytest.mark.fact("F049", "F050", "F147", "F164", "F216", "F217")
async def test_a_reset_by_the_peer_ends_pending_sends_with_their_exact_counts(kind: str) -> None:
    """F216; the followers get the same code with 0 bytes, later starts the first cause.

    A Unix socket knows no reset. What it says instead is that the connection takes no more data.
    """
    code = SocketError.SHUTDOWN if kind == "unix" else SocketError.CONNECTION_RESET
    left, peer = stdlib_pair(kind, tiny=True)
    port = CountingPort(left)
    with peer, closing(Socket.from_port(port)) as socket:
        args = SocketAsyncEventArgs(BIG)
        follower = SocketAsyncEventArgs(b"follower")
        async with open_initiator():
            assert socket.send_async(args) is True
            assert socket.send_async(follower) is True
            result = socket.begin_send(b"another")
            await wait_all_tasks_blocked()
            assert peer.recv(1000)
            reset(peer)
            assert await args.wait() == len(port.accepted)
            assert args.socket_error is code
            assert 0 < args.bytes_transferred < len(BIG)
            assert BIG.startswith(port.accepted)
            assert b"".join(args.remaining) == BIG[args.bytes_transferred :]
            assert args.outcome is not None
            with pytest.raises(SocketException) as caught:
                args.outcome.unwrap()
            assert caught.value.bytes_transferred == args.bytes_transferred
            assert await follower.wait() == 0
            assert follower.socket_error is code
            assert await socket.try_end_send(result) == (0, code)
            assert socket.torn is None
            assert not socket.connected
            calls = len(port.calls)
            for face in FACES:
                assert await failure_on_the_spot(face, socket, b"later") == (code, 0)
            assert len(port.calls) == calls


@pytest.mark.fact("F296")
async def test_an_awaited_send_carries_its_exact_count_out_of_a_reset(kind: str) -> None:
    left, peer = stdlib_pair(kind, tiny=True)
    port = CountingPort(left)
    errors: list[SocketException] = []
    with peer, closing(Socket.from_port(port)) as socket:

        async def send(data: bytes) -> None:
            with pytest.raises(SocketException) as caught:
                await socket.send(data)
            errors.append(caught.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, BIG)
            await wait_all_tasks_blocked()
            nursery.start_soon(send, b"behind")
            await wait_all_tasks_blocked()
            reset(peer)
        assert sorted(error.bytes_transferred for error in errors) == [0, len(port.accepted)]
        assert 0 < len(port.accepted) < len(BIG)
        assert len({error.socket_error_code for error in errors}) == 1
        assert not socket.connected


@pytest.mark.fact("F147", "F211", "F214", "F215")
async def test_own_shutdown_ends_pending_sends_with_their_exact_counts(ends: Ends) -> None:
    """F215, F214; the peer receives exactly what was counted, and then a clean end (F211)."""
    socket, peer = ends
    args = SocketAsyncEventArgs(BIG)
    follower = SocketAsyncEventArgs(b"follower")
    async with open_initiator():
        assert socket.send_async(args) is True
        assert socket.send_async(follower) is True
        await wait_all_tasks_blocked()
        accepted = args.bytes_transferred
        socket.shutdown(SocketShutdown.SEND)
        # Nobody reads, so nothing but the shutdown itself can end them.
        await wait_all_tasks_blocked()
        assert not args.pending
        assert not follower.pending
        assert await args.wait() == accepted
        assert args.socket_error is SocketError.SHUTDOWN
        assert await follower.wait() == 0
        assert follower.socket_error is SocketError.SHUTDOWN
        for face in FACES:
            assert await failure_on_the_spot(face, socket, b"later") == (SocketError.SHUTDOWN, 0)
        assert socket.torn is None
    assert await read_to_end(peer) == BIG[:accepted]


@pytest.mark.fact("F215", "F296")
@pytest.mark.parametrize("what", ["bytes", "args"])
async def test_own_shutdown_ends_awaited_sends(ends: Ends, what: str) -> None:
    """Nobody reads, and a Unix socket that is full is not writable for being shut down."""
    socket, peer = ends
    ended: dict[bytes, int | None] = {}

    async def send(data: bytes) -> None:
        with pytest.raises(SocketException) as caught:
            await socket.send(data if what == "bytes" else SocketAsyncEventArgs(data))
        assert caught.value.socket_error_code is SocketError.SHUTDOWN
        ended[data] = caught.value.bytes_transferred

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, BIG)
        await wait_all_tasks_blocked()
        nursery.start_soon(send, b"follower")
        await wait_all_tasks_blocked()
        accepted = socket.statistics().bytes_accepted
        socket.shutdown(SocketShutdown.SEND)
        await wait_all_tasks_blocked()
        assert ended == {BIG: accepted, b"follower": 0}
    assert await read_to_end(peer) == BIG[:accepted]


@pytest.mark.fact("F214")
async def test_sends_after_own_shutdown(ends: Ends) -> None:
    """F214; the other direction goes on."""
    socket, peer = ends
    async with open_initiator():
        await socket.send(b"last words")
        socket.shutdown(SocketShutdown.RECEIVE)
        await socket.send(b", and more")  # only the other direction was ended
        socket.shutdown(SocketShutdown.SEND)
        for face in FACES:
            assert await failure_on_the_spot(face, socket, b"later") == (SocketError.SHUTDOWN, 0)
    assert await read_to_end(peer) == b"last words, and more"


@pytest.mark.page("B44", "S24")
@pytest.mark.fact("F179", "F218")
@pytest.mark.parametrize("kind", KINDS[:2])
@every_face
async def test_the_first_send_after_the_peer_closed_cleanly_succeeds(ends: Ends, face: str) -> None:
    """Accepted is not delivered. Only then does the kernel learn that there is nobody (F218)."""
    socket, peer = ends
    peer.close()
    poll = select.poll()
    poll.register(socket.fileno(), select.POLLIN)
    poll.poll()  # until the peer's end is here
    async with open_initiator():
        assert await send_through(face, socket, b"x") == 1
        poll.modify(socket.fileno(), 0)
        poll.poll()  # until the peer's answer is here; errors and hang-ups are reported unasked
        assert await failure_on_the_spot(face, socket, b"x") == (SocketError.SHUTDOWN, 0)
        assert not socket.connected


# Datagrams ------------------------------------------------------------------------------------


@pytest.mark.page("B32", "S15")
@pytest.mark.fact("F174", "F175", "F201")
@every_face
async def test_datagrams_arrive_whole_and_apart(udp_ends: Ends, face: str) -> None:
    """F174, F175, F201: in order, an empty one too, and a list as one."""
    socket, peer = udp_ends
    async with open_initiator():
        for data in (b"one", bytearray(b"two"), b"", [b"th", b"", b"ree"], [b"", b""], bytes(9000)):
            expected = b"".join(data) if isinstance(data, list) else bytes(data)
            assert await send_through(face, socket, data) == len(expected)
            assert await read_some(peer) == expected
    assert nothing_to_read(peer)


@pytest.mark.page("B36", "B37", "S22", "S23")
@pytest.mark.fact("F049", "F176", "F177", "F178")
@every_face
async def test_a_datagram_that_is_too_long(udp_ends: Ends, face: str) -> None:
    """One byte more than fits: MESSAGE_SIZE, 0 bytes, nothing sent, and the socket lives on (F176 to F178)."""
    socket, peer = udp_ends
    longest = bytes_of(65_507)
    async with open_initiator():
        assert await send_through(face, socket, longest) == 65_507
        assert await read_some(peer) == longest
        for data in (longest + b"!", [longest, b"!"], bytearray(65_508)):
            failure = await failure_on_the_spot(face, socket, data)
            assert failure == (SocketError.MESSAGE_SIZE, 0)
            assert int(failure[0]) == 10040
        assert nothing_to_read(peer)
        assert socket.connected
        assert socket.torn is None
        assert await send_through(face, socket, b"fits") == 4
        assert await read_some(peer) == b"fits"


@pytest.mark.fact("F171")
@every_face
async def test_a_datagram_of_more_members_than_the_kernel_takes(udp_ends: Ends, face: str) -> None:
    """It cannot be sent in several calls: MESSAGE_SIZE, nothing sent (F171), however many of them are empty."""
    socket, peer = udp_ends
    async with open_initiator():
        for data in ([b"x"] * 1025, [b"a", *[b""] * 1023, b"b"]):
            assert await failure_on_the_spot(face, socket, data) == (SocketError.MESSAGE_SIZE, 0)
            assert nothing_to_read(peer)
        assert await send_through(face, socket, [b"x"] * 1024) == 1024
        assert await read_some(peer) == b"x" * 1024


@pytest.mark.fact("F219")
@every_face
async def test_a_refusal_by_icmp_is_reported_once(udp_ends: Ends, face: str) -> None:
    """The datagram that meets nobody is accepted, the next one reports it, and then the socket is as before (F219)."""
    socket, peer = udp_ends
    elsewhere = receiver()
    with elsewhere:
        # A datagram socket that is connected to somebody else refuses ours.
        peer.connect(elsewhere.getsockname())
        async with open_initiator():
            for _ in range(2):
                assert await send_through(face, socket, b"lost") == 4
                poll = select.poll()
                poll.register(socket.fileno(), 0)
                assert poll.poll() == [(socket.fileno(), select.POLLERR)]
                failure = await failure_on_the_spot(face, socket, b"never sent")
                assert failure == (SocketError.CONNECTION_REFUSED, 0)
                assert socket.connected
            peer.connect(socket.local_end_point)
            assert await send_through(face, socket, b"heard") == 5
            assert await read_some(peer) == b"heard"


@pytest.mark.page("B35")
@pytest.mark.fact("F028")
async def test_another_connect_changes_the_default_remote_host(udp_ends: Ends) -> None:
    """F028, and the begin_send page's remarks."""
    socket, peer = udp_ends
    with receiver() as other:
        async with open_initiator():
            args = SocketAsyncEventArgs(b"one")
            assert socket.send_async(args) is False
            await socket.connect(other.getsockname())
            assert socket.remote_end_point == other.getsockname()
            assert socket.send_async(args) is False
            await socket.end_send(socket.begin_send(b"two"))
            await socket.connect(peer.getsockname())
            await socket.send(b"three")
        assert [await read_some(peer), await read_some(peer)] == [b"one", b"three"]
        assert [await read_some(other), await read_some(other)] == [b"one", b"two"]
        assert nothing_to_read(peer)
        assert nothing_to_read(other)


async def fill_with_datagrams(socket: Socket) -> int:
    """Start to send datagrams until one has to wait; return how many were started."""
    started = 0
    while True:
        args = SocketAsyncEventArgs(b"datagram")
        started += 1
        # An answer "pending" alone does not say so: it is also given now and then to let other tasks run.
        if socket.send_async(args) and args.bytes_transferred == 0:
            return started


@pytest.mark.fact("F201")
async def test_pending_datagrams_are_sent_whole_each_by_itself_and_in_order() -> None:
    """A Unix datagram socket says when its peer is full; queued datagrams never share a system call."""
    left, peer = stdlib_socket.socketpair(stdlib_socket.AF_UNIX, stdlib_socket.SOCK_DGRAM)
    peer.setblocking(False)
    with peer, closing(Socket.from_stdlib(left)) as socket:
        async with open_initiator():
            filled = await fill_with_datagrams(socket)
            pending: list[SocketAsyncEventArgs] = []
            messages = [bytes_of((0, 1, 1000, 7)[seed % 4], seed) for seed in range(40)]
            for message in messages:
                args = SocketAsyncEventArgs(message)
                assert socket.send_async(args) is True
                assert args.bytes_transferred == 0
                pending.append(args)
            for _ in range(filled):
                assert await read_some(peer) == b"datagram"
            assert [await read_some(peer) for _ in messages] == messages
            for args, message in zip(pending, messages, strict=True):
                assert await args.wait() == len(message)
                assert args.socket_error is SocketError.SUCCESS
        assert nothing_to_read(peer)


async def test_a_failed_datagram_does_not_harm_those_behind_it() -> None:
    """Datagrams cannot be cut, so followers go on."""
    left, peer = stdlib_socket.socketpair(stdlib_socket.AF_UNIX, stdlib_socket.SOCK_DGRAM)
    peer.setblocking(False)
    with peer, closing(Socket.from_stdlib(left)) as socket:
        async with open_initiator():
            sent = await fill_with_datagrams(socket)
            too_long = socket.begin_send(bytes(50_000_000))
            behind = socket.begin_send(b"behind")
            for _ in range(sent):
                assert await read_some(peer) == b"datagram"
            assert await read_some(peer) == b"behind"
            assert await socket.try_end_send(too_long) == (0, SocketError.MESSAGE_SIZE)
            assert await socket.end_send(behind) == 6
            assert socket.torn is None


# A kernel that does as it is told -------------------------------------------------------------


async def test_a_kernel_without_memory_is_asked_again_after_a_pause(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """There is no readiness event for that, so the attempt is repeated on a timer, a limited number of times."""
    port = ScriptedPort([3, "ENOBUFS", "ENOMEM", 2, "ENOBUFS"])
    with closing(Socket.from_port(port)) as socket:
        async with open_initiator():
            args = SocketAsyncEventArgs(b"0123456789")
            assert socket.send_async(args) is True
            assert await args.wait() == 10
            assert args.socket_error is SocketError.SUCCESS
            assert port.accepted == b"0123456789"
            port.add(*["ENOBUFS"] * 100)
            began = trio.current_time()
            assert socket.send_async(args) is True
            assert await args.wait() == 0
            assert args.socket_error is SocketError.NO_BUFFER_SPACE_AVAILABLE
            assert 0 < trio.current_time() - began < math.inf
            assert port.attempts < 50
    assert autojump_clock.autojump_threshold == 0


@pytest.mark.parametrize("size", [10, 0])
async def test_an_attempt_that_blocks_with_nothing_accepted_pends(size: int) -> None:
    port = ScriptedPort([Blocked()])
    with closing(Socket.from_port(port)) as socket:
        async with open_initiator():
            args = SocketAsyncEventArgs(bytes(size))
            assert socket.send_async(args) is True
            assert args.bytes_transferred == 0
            await wait_all_tasks_blocked()
            assert args.pending
            port.unblock()
            assert await args.wait() == size
        assert port.accepted == bytes(size)


@pytest.mark.page("S18")
def test_the_script_of_the_page() -> None:
    """A send is started, found pending, and completed by a handler, with nothing but public names."""
    log: list[str] = []

    async def main() -> None:
        with connected("unix") as (socket, peer):
            args = SocketAsyncEventArgs(BIG, user_token="token")
            args.completed += lambda _, e: log.append(f"{e.user_token} {e.bytes_transferred}")
            async with open_initiator():
                if not socket.send_async(args):
                    pytest.fail("nothing was to be pending")
                assert await read_exactly(peer, len(BIG)) == BIG
                await args.wait()

    trio.run(main)
    assert log == [f"token {len(BIG)}"]


@pytest.mark.parametrize("taken", [2, 10])
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("face", FACES)
async def test_a_socket_may_be_closed_inside_an_attempt(face: str, fast: bool, taken: int) -> None:
    """By a finaliser, say, which can run anywhere; what was accepted by then counts."""

    def close(call: Call) -> None:
        if call.offered == b"0123456789":
            socket.close()

    port = SpyPort([1, taken] if fast else [taken], on_call=close)
    socket = Socket.from_port(port)
    async with open_initiator():
        if fast:
            await send_through(face, socket, b"a")
        if taken == 10:
            assert await send_through(face, socket, b"0123456789") == 10
        else:
            error, count = await failure_on_the_spot(face, socket, b"0123456789")
            assert error is SocketError.OPERATION_ABORTED
            assert count == (0 if face == "try_begin_send" else taken)
