"""Hold the sending queue to its splits, its errors, its pauses, and to what it does about a message that was cut.

Modules: _operations.cut, _operations.gate, _operations.send_calls, _socket.resume, _socket.torn_message.
"""

from __future__ import annotations

import errno
import gc
import socket as stdlib_socket
import weakref
from collections.abc import Callable, Sequence
from contextvars import copy_context
from itertools import accumulate, combinations, pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.between_tasks import falling_asleep
from tests.helpers import BIG, KINDS, bytes_of, connected, fill, read_exactly
from tests.scripted import RecordingOwner, SpyPort, run_virtual, start
from trio_send import (
    AsyncResult,
    ExitPolicy,
    InvalidOperationError,
    OperationInProgressError,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    SocketFlags,
    SocketShutdown,
    TornMessage,
    open_initiator,
)
from trio_send._base.codes import native_send_flags
from trio_send._base.error_numbers import CONNECTION_ABORTED, OPERATION_ABORTED
from trio_send._base.tries import MAX_SKIPS
from trio_send._kernel.port import KernelPort
from trio_send._messages.buffers import JOIN_PIECE_SIZE, MAX_PIECES, Message, Piece
from trio_send._operations.gate import TORN
from trio_send._operations.operation import Operation
from trio_send._operations.send_calls import ATTEMPT_ALLOWANCE, PLAIN_FLAGS
from trio_send._operations.send_queue import FIRST_BACKOFF, MAX_BACKOFFS, SendQueue
from trio_send._operations.states import CUT, IDLE, POSTED
from trio_send._owners.exiting_owner import START_BUDGET
from trio_send.abc import Port
from trio_send.testing import Blocked, ScriptedPort

TEN = b"0123456789"


def args_for(*messages: bytes) -> list[SocketAsyncEventArgs]:
    return [SocketAsyncEventArgs(message) for message in messages]


def counts(operations: list[SocketAsyncEventArgs]) -> list[int]:
    return [operation.bytes_transferred for operation in operations]


def errors(operations: list[SocketAsyncEventArgs]) -> list[str]:
    return [operation.socket_error.name for operation in operations]


def never(result: object) -> None:
    pytest.fail(f"the callback was called with {result!r}")


async def refused_everywhere(socket: Socket, error: SocketError, words: str = "") -> None:
    """Start a send through each face and see it end on the spot with ``error``, 0 bytes and ``words``."""
    message = SocketAsyncEventArgs(b"refused")
    message.completed += lambda *_: pytest.fail("Completed was raised")
    assert not socket.send_async(message)
    assert message.socket_error is error
    assert message.bytes_transferred == 0
    assert words in str(message.outcome)
    assert b"".join(message.remaining) == b"refused"
    with pytest.raises(SocketException) as begun:
        socket.begin_send(b"refused", callback=never)
    assert socket.try_begin_send(b"refused", callback=never) == (None, error)
    with pytest.raises(SocketException) as sent:
        await socket.send(b"refused")
    with pytest.raises(SocketException) as awaited:
        await socket.send(message)
    for caught in (begun, sent, awaited):
        assert caught.value.socket_error_code is error
        assert caught.value.bytes_transferred == 0
        assert words in str(caught.value)
    await wait_all_tasks_blocked()
    assert socket.queued_operations == 0


# What is noted in the middle of a step


@pytest.mark.parametrize("halts", [False, True])
@pytest.mark.parametrize("face", ["send_range", "send_message"])
async def test_a_stop_alone_keeps_an_attempt_from_being_made(face: str, halts: bool) -> None:
    """What else is asked for in the middle is done at the end of the step, and the call is made."""
    port = SpyPort()
    queue = SendQueue(port, refuse_torn=True)
    done: list[int] = []

    def attempt() -> int:
        if face == "send_range":
            return queue.send_range(TEN, 0, 10)
        return queue.send_message(Message((Piece(TEN[:3], 0, 3), Piece(TEN[3:], 0, 7))))

    def in_a_step() -> None:
        assert not queue.request(lambda: done.append(len(port.accepted)), halts=halts)
        if halts:
            with pytest.raises(BlockingIOError):
                attempt()
        else:
            assert attempt() == 10
        assert done == []

    assert queue.request(in_a_step)
    assert done == [0 if halts else 10]
    assert port.accepted == (b"" if halts else TEN)


# Partial sends


async def test_a_message_goes_in_as_many_parts_as_it_takes(autojump_clock: MockClock) -> None:
    port = SpyPort([1, 0, 2, Blocked(1), 3, "EAGAIN", 1])
    socket = Socket.from_port(port)
    async with open_initiator():
        args = SocketAsyncEventArgs(TEN)
        assert socket.send_async(args)
        assert await args.wait() == 10
    # Each attempt offers all of the rest, and nothing twice.
    assert port.offers == [TEN, TEN[1:], TEN[1:], TEN[3:], TEN[3:], TEN[6:], TEN[6:], TEN[7:]]
    assert port.results == [1, 0, 2, "EAGAIN", 3, "EAGAIN", 1, 3]
    assert port.accepted == TEN
    # Only the line that blocks takes time.
    assert [call.time for call in port.calls] == pytest.approx([0] * 4 + [1] * 4, abs=0.01)


@pytest.mark.parametrize("sizes", [(4, 6), (0, 4, 0, 0, 6, 0), (1,) * 10, (10,)])
async def test_a_gather_list_in_parts(sizes: tuple[int, ...], autojump_clock: MockClock) -> None:
    pieces = []
    at = 0
    for size in sizes:
        pieces.append(bytearray(TEN[at : at + size]))
        at += size
    for first in range(11):
        for second in range(11 - first):
            port = SpyPort([first, Blocked(1), second, Blocked(1)])
            socket = Socket.from_port(port)
            async with open_initiator():
                args = SocketAsyncEventArgs(buffer_list=pieces)
                pending = socket.send_async(args)
                assert args.bytes_transferred == first
                assert pending == (first < 10)
                if pending:
                    await trio.sleep(1.5)
                    assert args.bytes_transferred == first + second
                    assert b"".join(args.remaining) == TEN[first + second :]
                    await args.wait() if args.pending else None
            assert port.accepted == TEN
            assert args.socket_error is SocketError.SUCCESS


# Neighbours in one call


class RoomPort(Port):
    """A kernel whose buffer has as much room as the test grants, and takes what has no bytes at any time."""

    is_stream = True

    def __init__(self) -> None:
        self.room = 0
        self.accepted = b""
        self.offers: list[bytes] = []
        self._lot = trio.lowlevel.ParkingLot()

    def grant(self, room: int) -> None:
        self.room += room
        self._lot.unpark_all()

    def send(self, buffer: Any, flags: int, /) -> int:
        data = bytes(buffer)
        self.offers.append(data)
        if data and not self.room:
            raise BlockingIOError
        taken = data[: self.room]
        self.room -= len(taken)
        self.accepted += taken
        return len(taken)

    def send_gather(self, views: Sequence[Any], flags: int, /) -> int:
        return self.send(b"".join(views), flags)

    def send_to(self, buffer: Any, flags: int, address: Any, /) -> int:
        raise NotImplementedError

    def fileno(self) -> int:
        return -1

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()
        while not self.room:
            await self._lot.park()

    async def wait_readable(self) -> None:
        await trio.sleep_forever()

    def close(self, *, reset: bool) -> None:
        self._lot.unpark_all()


class KeepingPort(RoomPort):
    """A port that keeps all that it is given, as a frame of a traceback might."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    def send(self, buffer: Any, flags: int, /) -> int:
        self.kept.append(buffer)
        return super().send(buffer, flags)

    def send_gather(self, views: Sequence[Any], flags: int, /) -> int:
        self.kept += views
        return super().send(b"".join(views), flags)


async def test_every_view_is_released_after_its_call() -> None:
    port = KeepingPort()
    socket = Socket.from_port(port)
    stream = bytes_of(60_000)
    buffers = [bytearray(stream[at : at + 12_000]) for at in range(0, 60_000, 12_000)]
    async with open_initiator():
        # Alone, in a list, and with neighbours; refused, accepted in part, and accepted.
        operations = [
            SocketAsyncEventArgs(buffers[0]),
            SocketAsyncEventArgs(buffer_list=buffers[1:3]),
            SocketAsyncEventArgs(buffers[3], 0, 6_000),
            SocketAsyncEventArgs(buffers[3], 6_000),
            SocketAsyncEventArgs(buffers[4]),
        ]
        for args in operations:
            assert socket.send_async(args)
        for room in (0, 100, 11_900, 100, 40_000, 10_000):
            port.grant(room)
            await wait_all_tasks_blocked()
            for buffer in buffers:
                buffer.append(0)
                del buffer[-1]
    assert counts(operations) == [12_000, 24_000, 6_000, 6_000, 12_000]
    assert port.accepted == stream
    assert {type(kept) for kept in port.kept} >= {memoryview}
    for kept in port.kept:
        if isinstance(kept, memoryview):
            with pytest.raises(ValueError, match="released"):
                bytes(kept)


async def test_every_split_of_coalesced_neighbours_is_exact() -> None:
    sizes = [3, 0, 5, 1, 0, 0, 4, 2]
    ends = list(accumulate(sizes))
    total = ends[-1]
    stream = bytes_of(total)
    for first, second in combinations(range(total + 1), 2):
        port = RoomPort()
        socket = Socket.from_port(port)
        told: list[int] = []
        async with open_initiator():
            operations = args_for(
                *(stream[end - size : end] for size, end in zip(sizes, ends, strict=True))
            )
            for index, args in enumerate(operations):
                args.completed += lambda *_, index=index, told=told: told.append(index)
                assert socket.send_async(args)
            granted = 0
            for accepted in (0, first, second, total):
                port.grant(accepted - granted)
                granted = accepted
                await wait_all_tasks_blocked()
                # What the kernel took belongs to the first that are not whole yet, and to nobody else. What has no
                # bytes ends when all before it has.
                assert port.accepted == stream[:accepted]
                assert counts(operations) == [
                    max(0, min(size, accepted - (end - size)))
                    for size, end in zip(sizes, ends, strict=True)
                ]
                assert told == [index for index, end in enumerate(ends) if end <= accepted]
        assert errors(operations) == ["SUCCESS"] * len(sizes)
        assert counts(operations) == sizes
        # They did share calls: more was offered than the head.
        assert stream in port.offers


@pytest.mark.parametrize("left", [2 * JOIN_PIECE_SIZE, JOIN_PIECE_SIZE, 1, 0])
async def test_of_a_large_range_whose_block_has_shrunk_nothing_is_sent(left: int) -> None:
    """What is left of it would be taken for the whole message."""
    size = 2 * JOIN_PIECE_SIZE
    port = SpyPort()
    socket = Socket.from_port(port)
    async with open_initiator():
        assert not socket.send_async(SocketAsyncEventArgs(b"before"))
        block = bytearray(bytes_of(1 + size))
        args = SocketAsyncEventArgs(block, 1, size)
        end = block[left:]
        del block[left:]
        assert not socket.send_async(args)
        assert errors([args]) == ["FAULT"]
        assert counts([args]) == [0]
        assert f"but the range ends at {1 + size}" in str(args.outcome)
        assert port.offers == [b"before"]
        block += end  # which nobody holds any more
        assert not socket.send_async(args)
        assert counts([args]) == [size]
    assert port.accepted == b"before" + bytes_of(1 + size)[1:]


@pytest.mark.fact("F173")
async def test_zero_bytes_wait_their_turn(autojump_clock: MockClock) -> None:
    port = SpyPort([Blocked(1)])
    socket = Socket.from_port(port)
    async with open_initiator():
        # Alone it needs no room, but an attempt of its own; the port says there is none.
        first, last = args_for(b"", b"")
        assert socket.send_async(first)
        assert socket.send_async(last)
        assert await first.wait() == 0
        assert await last.wait() == 0
        assert errors([first, last]) == ["SUCCESS", "SUCCESS"]
        assert not socket.send_async(first)
    assert trio.current_time() == pytest.approx(1, abs=0.01)
    assert port.accepted == b""


async def test_what_has_other_flags_goes_alone(autojump_clock: MockClock) -> None:
    port = SpyPort([Blocked(1)])
    socket = Socket.from_port(port)
    plain, urgent = SocketFlags.NONE, SocketFlags.OUT_OF_BAND
    async with open_initiator(ExitPolicy.JOIN):
        for letter, flags in zip(
            b"abcdefgh", [plain, plain, urgent, plain, urgent, urgent, plain, plain], strict=True
        ):
            socket.begin_send(bytes([letter]), socket_flags=flags)
    assert [(call.offered, call.flags) for call in port.calls[1:]] == [
        (b"ab", native_send_flags(plain)),
        (b"c", native_send_flags(urgent)),
        (b"d", native_send_flags(plain)),
        (b"e", native_send_flags(urgent)),
        (b"f", native_send_flags(urgent)),
        (b"gh", native_send_flags(plain)),
    ]


async def test_large_neighbours_are_gathered_up_to_a_limit(autojump_clock: MockClock) -> None:
    size = 40_000
    stream = bytes_of(5 * size)
    port = SpyPort([Blocked(1), size + 10, Blocked(1), 1, size, Blocked(1)])
    socket = Socket.from_port(port)
    async with open_initiator():
        operations = args_for(*(stream[at : at + size] for at in range(0, 5 * size, size)))
        for args in operations:
            assert socket.send_async(args)
        await operations[-1].wait()
    assert port.accepted == stream
    assert counts(operations) == [size] * 5
    # Two make up a sensible call already. They are not copied for it.
    assert max(len(call.offered) for call in port.calls) <= 2 * size
    gathered = [call for call in port.calls if len(call.offered) > size]
    assert gathered
    assert {call.kind for call in gathered} == {"send_gather"}


async def test_a_head_that_is_a_call_by_itself_goes_alone(autojump_clock: MockClock) -> None:
    port = SpyPort([Blocked(1)])
    socket = Socket.from_port(port)
    big = bytes_of(65536)
    async with open_initiator(ExitPolicy.JOIN):
        operations = args_for(big, b"ab", b"cd")
        for args in operations:
            assert socket.send_async(args)
    assert port.offers == [big, big, b"abcd"]


async def test_small_neighbours_are_joined(autojump_clock: MockClock) -> None:
    stream = bytes_of(3000)
    port = SpyPort([Blocked(1)])
    socket = Socket.from_port(port)
    async with open_initiator(ExitPolicy.JOIN):
        for at in range(0, 3000, 3):
            socket.begin_send(bytearray(stream[at : at + 3]))
    assert [(call.kind, call.offered) for call in port.calls[1:]] == [("send", stream)]


@pytest.mark.parametrize("script", [[], [500], [1024, 1025], [1, 1500]])
async def test_more_pieces_than_one_call_takes(
    script: list[int], autojump_clock: MockClock
) -> None:
    # The kernel refuses more than 1024, be they of one message or of several, empty ones included.
    lists = [
        [bytes([65 + index % 26]) for index in range(700)],
        [b"a", *[b""] * 1100, b"b"],
        [b"", b"c", b"", *[b"d"] * 1023],
        [bytes([97 + index % 26]) * (index % 2) for index in range(3000)],
        [b"z"],
    ]
    for busy in (False, True):
        port = SpyPort([*([Blocked(1)] if busy else []), *script])
        socket = Socket.from_port(port)
        async with open_initiator(ExitPolicy.JOIN):
            operations = [SocketAsyncEventArgs(buffer_list=pieces) for pieces in lists]
            for args in operations:
                socket.send_async(args)
        assert port.accepted == b"".join(b"".join(pieces) for pieces in lists)
        assert counts(operations) == [len(b"".join(pieces)) for pieces in lists]
        assert max(len(call.offered) for call in port.calls) <= 1024


@pytest.mark.fact("F170")
@pytest.mark.parametrize(
    "pieces",
    [
        # Each short enough to want company, and together more than 1024, or nearly so.
        [[90] * 700, [90] * 700, [90] * 700],
        [[63] * 1024, [5000], [5000]],
        [[63] * 1000, [100] * 24, [5000]],
        [[60] * 1000, [60, 0] * 500, [60] * 1000],
    ],
)
async def test_more_pieces_than_one_call_can_gather(
    pieces: list[list[int]], autojump_clock: MockClock
) -> None:
    stream = bytes_of(sum(map(sum, pieces)))
    port = SpyPort([Blocked(1)])
    socket = Socket.from_port(port)
    operations = []
    at = 0
    async with open_initiator(ExitPolicy.JOIN):
        for sizes in pieces:
            buffers = []
            for size in sizes:
                buffers.append(bytearray(stream[at : at + size]))
                at += size
            args = SocketAsyncEventArgs(buffer_list=buffers)
            assert socket.send_async(args)
            operations.append(args)
    assert errors(operations) == ["SUCCESS"] * len(pieces)
    assert port.accepted == stream


async def test_a_message_of_many_pieces_ends_on_the_spot_if_the_kernel_takes_them() -> None:
    port = SpyPort()
    socket = Socket.from_port(port)
    async with open_initiator():
        args = SocketAsyncEventArgs(buffer_list=[b"x"] * 5000)
        assert not socket.send_async(args)
        assert args.bytes_transferred == 5000


# Errors that kill the connection

DEAD = {
    "EPIPE": SocketError.SHUTDOWN,
    "ECONNRESET": SocketError.CONNECTION_RESET,
    "ETIMEDOUT": SocketError.TIMED_OUT,
    "ECONNABORTED": SocketError.CONNECTION_ABORTED,
    "ENOTCONN": SocketError.NOT_CONNECTED,
    "ESHUTDOWN": SocketError.DISCONNECTING,
}

ALIVE = {
    "EACCES": SocketError.ACCESS_DENIED,
    "EPERM": SocketError.ACCESS_DENIED,
    "EHOSTUNREACH": SocketError.HOST_UNREACHABLE,
    "ENETUNREACH": SocketError.NETWORK_UNREACHABLE,
    "ENETDOWN": SocketError.NETWORK_DOWN,
    "EMSGSIZE": SocketError.MESSAGE_SIZE,
    "EINVAL": SocketError.INVALID_ARGUMENT,
    "EIO": SocketError.SOCKET_ERROR,
    "ECONNREFUSED": SocketError.CONNECTION_REFUSED,
}


@pytest.mark.fact("F049", "F050", "F217")
@pytest.mark.parametrize("name", DEAD)
async def test_a_dead_connection_found_on_the_spot(name: str) -> None:
    port = ScriptedPort([name, "EPIPE", "EPIPE"])
    socket = Socket.from_port(port)
    async with open_initiator():
        args = SocketAsyncEventArgs(TEN)
        assert not socket.send_async(args)
        assert args.socket_error is DEAD[name]
        assert args.bytes_transferred == 0
        assert isinstance(args.outcome.error, SocketException)  # type: ignore[union-attr]
        assert args.outcome.error.native_error_code == getattr(errno, name)  # type: ignore[union-attr]
        assert not socket.connected
        assert socket.torn is None
        # The first cause, whatever the kernel would say by now.
        await refused_everywhere(socket, DEAD[name])
        assert port.attempts == 1
    socket.close()
    assert not port.was_reset


@pytest.mark.fact("F050", "F168", "F217")
@pytest.mark.parametrize("accepted", [0, 4])
@pytest.mark.parametrize("name", DEAD)
async def test_a_dead_connection_ends_everyone_with_its_code(
    name: str, accepted: int, autojump_clock: MockClock
) -> None:
    port = ScriptedPort([accepted, Blocked(1), name, "EPIPE", "EPIPE"])
    socket = Socket.from_port(port)
    told: list[Any] = []
    async with open_initiator():
        operations = args_for(TEN, b"ab", b"", b"cd")
        for args in operations:
            args.completed += lambda _, args: told.append(args)
            assert socket.send_async(args)
        result = socket.begin_send(b"ef", callback=told.append)
        with pytest.raises(SocketException) as caught:
            await socket.send(b"gh")
        assert caught.value.socket_error_code is DEAD[name]
        assert caught.value.bytes_transferred == 0
        await wait_all_tasks_blocked()
        assert told == [*operations, result]
        assert errors(operations) == [DEAD[name].name] * 4
        assert counts(operations) == [accepted, 0, 0, 0]
        assert socket.try_end_send_nowait(result) == (0, DEAD[name])
        native = getattr(errno, name)
        ended: list[Any] = [*operations, result]
        assert {operation.outcome.error.native_error_code for operation in ended} == {native}
        # Broken, not torn: there is nobody to misread anything.
        assert socket.torn is None
        assert not socket.connected
        assert socket.queued_operations == 0
        attempts = port.attempts
        await refused_everywhere(socket, DEAD[name])
        # The head's error is nobody's doing; it may be started again like any other, and is refused like any other.
        assert not socket.send_async(operations[0])
        assert errors(operations[:1]) == [DEAD[name].name]
        assert port.attempts == attempts
    assert port.accepted == TEN[:accepted]


class SpeakingPort(ScriptedPort):
    """A port that says in words of its own how its connection has ended."""

    def send(self, buffer: Any, flags: int, /) -> int:
        try:
            return super().send(buffer, flags)
        except ConnectionResetError:
            raise SocketException(
                SocketError.CONNECTION_RESET,
                native_error_code=errno.ECONNRESET,
                detail="the tunnel has fallen in",
            ) from None


async def test_what_a_port_says_of_the_end_of_its_connection_is_told_of_the_message_it_was_for() -> (
    None
):
    port = SpeakingPort([Blocked(), "ECONNRESET"])
    socket = Socket.from_port(port)
    first, behind = args_for(TEN, TEN)
    async with open_initiator():
        assert socket.send_async(first)
        assert socket.send_async(behind)
        await wait_all_tasks_blocked()
        port.unblock()
        await first.wait()
        await behind.wait()
        assert errors([first, behind]) == ["CONNECTION_RESET"] * 2
        assert "the tunnel has fallen in" in str(first.outcome)
        assert "the tunnel has fallen in" not in str(behind.outcome)


async def test_a_follower_in_the_same_call_as_the_error_is_a_follower_too(
    autojump_clock: MockClock,
) -> None:
    port = SpyPort([Blocked(1), 5, "ECONNRESET"])
    socket = Socket.from_port(port)
    async with open_initiator():
        operations = args_for(b"abc", b"def", b"ghi")
        for args in operations:
            assert socket.send_async(args)
        await operations[2].wait()
        assert port.offers[1:] == [b"abcdefghi", b"fghi"]
        assert errors(operations) == ["SUCCESS", "CONNECTION_RESET", "CONNECTION_RESET"]
        assert counts(operations) == [3, 2, 0]


# Errors that do not


@pytest.mark.fact("F049", "F096")
@pytest.mark.parametrize("name", ALIVE)
async def test_an_error_before_the_first_byte_concerns_one_message(
    name: str, autojump_clock: MockClock
) -> None:
    port = ScriptedPort([name, Blocked(1), name, Blocked(1), 2, Blocked(1)])
    socket = Socket.from_port(port)
    async with open_initiator():
        args = SocketAsyncEventArgs(TEN)
        assert not socket.send_async(args)
        assert args.socket_error is ALIVE[name]
        assert args.bytes_transferred == 0
        assert args.outcome.error.native_error_code == getattr(errno, name)  # type: ignore[union-attr]
        assert socket.torn is None
        assert socket.connected
        operations = args_for(b"abc", b"def", b"ghi")
        for each in operations:
            assert socket.send_async(each)
        await operations[2].wait()
        assert errors(operations) == [ALIVE[name].name, "SUCCESS", "SUCCESS"]
        assert counts(operations) == [0, 3, 3]
        assert socket.torn is None
        assert socket.connected
        # Free for another try.
        assert not socket.send_async(operations[0])
    assert port.accepted == b"defghiabc"


@pytest.mark.fact("F147", "F168", "F230")
@pytest.mark.parametrize("name", ALIVE)
async def test_an_error_after_some_bytes_tears(name: str, autojump_clock: MockClock) -> None:
    port = ScriptedPort([4, Blocked(1), name])
    socket = Socket.from_port(port)
    told: list[Any] = []
    async with open_initiator():
        operations = args_for(TEN, b"ab", b"cd")
        for args in operations:
            args.completed += lambda _, args: told.append(args)
            assert socket.send_async(args)
        await operations[2].wait()
        assert told == operations
        assert errors(operations) == [ALIVE[name].name, *["CONNECTION_ABORTED"] * 2]
        assert counts(operations) == [4, 0, 0]
        for args in operations[1:]:
            assert "an earlier message on this stream was cut" in str(args.outcome)
        torn = socket.torn
        assert torn is not None
        assert torn.operation is operations[0]
        assert torn.bytes_transferred == 4
        assert socket.connected
        await refused_everywhere(socket, SocketError.CONNECTION_ABORTED, "was cut")
        assert port.accepted == TEN[:4]
        # The connection lives, so the message can be saved.
        assert not socket.resume(operations[0])
        assert errors(operations[:1]) == ["SUCCESS"]
        assert counts(operations[:1]) == [10]
        assert socket.torn is None
    assert port.accepted == TEN


# Out of kernel memory

NO_BUFFER = {
    "ENOBUFS": (SocketError.NO_BUFFER_SPACE_AVAILABLE, errno.ENOBUFS),
    "ENOMEM": (SocketError.SOCKET_ERROR, errno.ENOMEM),
}


@pytest.mark.parametrize("name", NO_BUFFER)
@pytest.mark.parametrize("is_stream", [True, False])
async def test_no_memory_is_asked_for_again_after_pauses_that_double(
    name: str, is_stream: bool, autojump_clock: MockClock
) -> None:
    code, native = NO_BUFFER[name]
    port = SpyPort([name] * (MAX_BACKOFFS + 1), is_stream=is_stream)
    socket = Socket.from_port(port)
    async with open_initiator():
        args, follower = args_for(TEN, b"ab")
        assert socket.send_async(args)
        assert socket.send_async(follower)
        assert args.socket_error is SocketError.IO_PENDING
        assert await args.wait() == 0
        assert args.socket_error is code
        assert args.outcome.error.native_error_code == native  # type: ignore[union-attr]
        # About a second in all.
        times = [call.time for call in port.calls[: MAX_BACKOFFS + 1]]
        pauses = [after - before for before, after in pairwise(times)]
        assert pauses == pytest.approx([FIRST_BACKOFF * 2**index for index in range(10)])
        assert sum(pauses) == pytest.approx(1.023)
        # Nothing of it went, so nothing is torn, and the next in line has the same patience ahead of it.
        assert await follower.wait() == 2
        assert follower.socket_error is SocketError.SUCCESS
        assert socket.torn is None
    assert port.accepted == b"ab"


async def test_whoever_comes_after_a_failure_for_lack_of_memory_has_all_the_patience(
    autojump_clock: MockClock,
) -> None:
    lines = ["ENOBUFS"] * MAX_BACKOFFS
    port = SpyPort([*lines, "ENOBUFS", *lines])
    socket = Socket.from_port(port)
    async with open_initiator():
        args, follower = args_for(TEN, b"ab")
        assert socket.send_async(args)
        assert socket.send_async(follower)
        await follower.wait()
        assert errors([args, follower]) == ["NO_BUFFER_SPACE_AVAILABLE", "SUCCESS"]
        assert trio.current_time() == pytest.approx(2 * 1.023, abs=0.01)
        # And one that finds the queue empty is not made to pause for what was before it.
        port.inner.add(*lines, "ENOBUFS", Blocked(0.1))
        assert socket.send_async(args)
        await args.wait()
        before = trio.current_time()
        assert socket.send_async(follower)
        await follower.wait()
        assert errors([args, follower]) == ["NO_BUFFER_SPACE_AVAILABLE", "SUCCESS"]
        assert trio.current_time() - before == pytest.approx(0.1, abs=0.01)


async def test_no_memory_for_the_rest_of_a_message_tears_at_last(autojump_clock: MockClock) -> None:
    port = SpyPort([3, *["ENOBUFS"] * (MAX_BACKOFFS + 1)])
    socket = Socket.from_port(port)
    async with open_initiator():
        args, follower = args_for(TEN, b"ab")
        assert socket.send_async(args)
        assert socket.send_async(follower)
        assert await args.wait() == 3
        assert args.socket_error is SocketError.NO_BUFFER_SPACE_AVAILABLE
        await follower.wait()
        assert follower.socket_error is SocketError.CONNECTION_ABORTED
        assert socket.torn is not None
        assert trio.current_time() == pytest.approx(1.023, abs=0.01)
        # Its rest has all the patience anew.
        port.inner.add(*["ENOBUFS"] * MAX_BACKOFFS)
        assert socket.resume(args)
        assert await args.wait() == 10
        assert errors([args]) == ["SUCCESS"]
    assert port.accepted == TEN


async def test_a_recovery_gives_the_patience_back(autojump_clock: MockClock) -> None:
    lines = ["ENOBUFS"] * MAX_BACKOFFS
    port = SpyPort([*lines, 1, *lines, 1, *lines])
    socket = Socket.from_port(port)
    async with open_initiator():
        args = SocketAsyncEventArgs(TEN)
        assert socket.send_async(args)
        assert await args.wait() == 10
        assert args.socket_error is SocketError.SUCCESS
    assert trio.current_time() == pytest.approx(3 * 1.023, abs=0.01)


async def test_room_that_is_lacking_gives_the_patience_back_too(autojump_clock: MockClock) -> None:
    lines = ["ENOBUFS"] * MAX_BACKOFFS
    port = SpyPort([*lines, Blocked(1), *lines, "EAGAIN", *lines])
    socket = Socket.from_port(port)
    async with open_initiator():
        args = SocketAsyncEventArgs(TEN)
        assert socket.send_async(args)
        assert await args.wait() == 10
        assert args.socket_error is SocketError.SUCCESS
    assert trio.current_time() == pytest.approx(3 * 1.023 + 1, abs=0.01)


async def test_a_full_kernel_is_waited_for_and_not_polled(autojump_clock: MockClock) -> None:
    # Short of memory once, and then merely full: there will be an event again.
    port = SpyPort(["ENOBUFS", Blocked(1)])
    socket = Socket.from_port(port)
    async with open_initiator(ExitPolicy.JOIN):
        args = SocketAsyncEventArgs(TEN)
        assert socket.send_async(args)
    assert args.socket_error is SocketError.SUCCESS
    assert port.results == ["ENOBUFS", "EAGAIN", 10]
    port = SpyPort([3, "ENOBUFS", Blocked(1)])
    assert await Socket.from_port(port).send(TEN) == 10
    assert port.results == [3, "ENOBUFS", "EAGAIN", 7]


async def test_a_cancel_in_a_pause(autojump_clock: MockClock) -> None:
    port = SpyPort(["ENOMEM"] * 8)
    socket = Socket.from_port(port)
    async with open_initiator():
        args, follower = args_for(TEN, b"ab")
        assert socket.send_async(args)
        assert socket.send_async(follower)
        await trio.sleep(0.2)
        attempts = len(port.calls)
        assert attempts == 8
        assert args.cancel()
        await args.wait()
        assert args.socket_error is SocketError.OPERATION_ABORTED
        # The pause was the other's; this one is tried at once, and succeeds.
        assert await follower.wait() == 2
        assert port.offers[attempts:] == [b"ab"]
        assert trio.current_time() == pytest.approx(0.2)
        assert follower.socket_error is SocketError.SUCCESS
    for face in ("bytes", "args"):
        port = SpyPort(["ENOMEM"] * 9)
        socket = Socket.from_port(port)
        with trio.move_on_after(0.2) as scope:
            await socket.send(TEN if face == "bytes" else SocketAsyncEventArgs(TEN))
        assert scope.cancelled_caught
        assert len(port.calls) == 8
        assert socket.queued_operations == 0


async def test_patience_is_each_messages_own(autojump_clock: MockClock) -> None:
    # One that was stopped in a pause leaves its successor the whole of it.
    port = SpyPort(["ENOBUFS"] * 8)
    socket = Socket.from_port(port)
    async with open_initiator():
        args = SocketAsyncEventArgs(TEN)
        assert socket.send_async(args)
        await trio.sleep(0.1)
        assert len(port.calls) == 7
        args.cancel()
        await args.wait()
        start = trio.current_time()
        port.inner.add(*["ENOBUFS"] * (MAX_BACKOFFS - 1))
        assert socket.send_async(args)
        assert await args.wait() == 10
        assert args.socket_error is SocketError.SUCCESS
        assert trio.current_time() - start == pytest.approx(1.023, abs=0.01)


# Datagrams


@pytest.mark.parametrize("name", [*DEAD, *ALIVE])
async def test_an_error_of_a_datagram_concerns_one_datagram(
    name: str, autojump_clock: MockClock
) -> None:
    code = {**DEAD, **ALIVE}[name]
    port = SpyPort([name, Blocked(1), name], is_stream=False)
    socket = Socket.from_port(port)
    async with open_initiator():
        operations = args_for(b"abc", b"def", b"", b"ghi")
        assert not socket.send_async(operations[0])
        assert operations[0].socket_error is code
        for args in operations:
            assert socket.send_async(args)
        await operations[3].wait()
        assert errors(operations) == [code.name, "SUCCESS", "SUCCESS", "SUCCESS"]
        assert counts(operations) == [0, 3, 0, 3]
        assert socket.torn is None
        assert socket.connected
        assert not socket.send_async(operations[0])
    # Each is a call of its own, empty ones too.
    assert port.inner.messages == [b"def", b"", b"ghi", b"abc"]


@pytest.mark.fact("F175")
async def test_a_gather_list_is_one_datagram(autojump_clock: MockClock) -> None:
    port = SpyPort([Blocked(1)], is_stream=False)
    socket = Socket.from_port(port)
    large: list[Any] = [bytes_of(30_000), bytearray(bytes_of(30_000, seed=2))]
    async with open_initiator(ExitPolicy.JOIN):
        for pieces in ([b"ab", b"", b"cd"], [b"ef"], [b"", b""], large):
            socket.begin_send(pieces)
    assert port.inner.messages == [b"abcd", b"ef", b"", b"".join(large)]
    assert [call.kind for call in port.calls[1:]] == ["send", "send", "send", "send_gather"]


@pytest.mark.fact("F171")
@pytest.mark.parametrize(
    "pieces",
    [[b"x"] * 1025, [b"a", *[b""] * 1023, b"b"], [*[b""] * 2000, b"a", b"b"]],
    ids=["full", "few", "at the end"],
)
async def test_too_many_pieces_for_one_datagram(
    pieces: list[bytes], autojump_clock: MockClock
) -> None:
    # The kernel takes at most 1024 (F171), so it is all or nothing: here all of it where it fits, else nothing.
    for busy in (False, True):
        port = SpyPort([Blocked(1)] if busy else [], is_stream=False)
        socket = Socket.from_port(port)
        async with open_initiator():
            follower = SocketAsyncEventArgs(b"next")
            args = SocketAsyncEventArgs(buffer_list=pieces)
            if busy:
                socket.send_async(SocketAsyncEventArgs(b"first"))
            assert socket.send_async(args) == busy
            socket.send_async(follower)
            await follower.wait()
            whole = b"".join(pieces)
            sent = [message for message in port.inner.messages if message in whole]
            if args.socket_error is SocketError.SUCCESS:
                assert sent == [whole]
            else:
                assert args.socket_error is SocketError.MESSAGE_SIZE
                assert args.bytes_transferred == 0
                assert sent == []
            assert follower.socket_error is SocketError.SUCCESS


@pytest.mark.parametrize("piece", [b"x", bytearray(b"x")], ids=["joined", "as they are"])
async def test_as_many_pieces_as_one_datagram_can_have(piece: bytes | bytearray) -> None:
    port = SpyPort(is_stream=False)
    async with open_initiator():
        args = SocketAsyncEventArgs(buffer_list=[piece] * 1024)
        assert not Socket.from_port(port).send_async(args)
    assert errors([args]) == ["SUCCESS"]
    assert port.inner.messages == [b"x" * 1024]


async def test_stopping_a_datagram_tears_nothing(autojump_clock: MockClock) -> None:
    port = ScriptedPort([Blocked(1)], is_stream=False)
    socket = Socket.from_port(port)
    async with open_initiator():
        operations = args_for(b"abc", b"def", b"ghi")
        for args in operations:
            assert socket.send_async(args)
        operations[0].cancel()
        operations[1].cancel()
        await operations[2].wait()
        assert errors(operations) == ["OPERATION_ABORTED", "OPERATION_ABORTED", "SUCCESS"]
        assert socket.torn is None
    assert port.messages == [b"ghi"]


# Never connected


@pytest.mark.fact("F013", "F015")
async def test_a_socket_that_was_never_connected() -> None:
    for is_stream in (True, False):
        port = ScriptedPort(is_stream=is_stream)
        socket = Socket.from_port(port, connected=False)
        async with open_initiator():
            await refused_everywhere(socket, SocketError.NOT_CONNECTED)
        assert port.attempts == 0
        assert socket.torn is None


# Torn streams

#: How a message comes to be cut after 4 bytes: what is sent, and what remains to be seen of it.
CUTS = ("args", "begin", "await", "await args")


async def cut(socket: Socket, port: ScriptedPort, face: str) -> Any:
    """Cut TEN after 4 bytes through a face; return the operation, None for one that nobody holds."""
    port.add(4)
    operation: Any = None
    if face == "args":
        operation = SocketAsyncEventArgs(TEN)
        assert socket.send_async(operation)
        assert operation.cancel("cut on purpose")
        await operation.wait()
    elif face == "begin":
        operation = socket.begin_send(TEN)
        assert operation.cancel("cut on purpose")
        with pytest.raises(SocketException) as caught:
            await socket.end_send(operation)
        assert caught.value.bytes_transferred == 4
    else:
        if face == "await args":
            operation = SocketAsyncEventArgs(TEN)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(socket.send, operation or TEN)
                port.add(Blocked())
                await wait_all_tasks_blocked()
                scope.cancel(reason="cut on purpose")
        port.unblock()
    assert port.accepted == TEN[:4]
    return operation


def torn_of(socket: Socket) -> TornMessage:
    torn = socket.torn
    assert torn is not None
    return torn


def torn_by(socket: Socket, operation: object) -> bool:
    return torn_of(socket).operation is operation


@pytest.mark.fact("F227", "F230")
@pytest.mark.parametrize("face", CUTS)
async def test_a_torn_stream_is_loud(face: str) -> None:
    port = ScriptedPort()
    socket = Socket.from_port(port)
    async with open_initiator():
        operation = await cut(socket, port, face)
        torn = torn_of(socket)
        assert torn.operation is operation
        assert torn.bytes_transferred == 4
        assert torn.size == 10
        assert b"".join(torn.remaining) == TEN[4:]
        assert torn.reason is not None
        assert "cut on purpose" in torn.reason
        assert "4 bytes accepted" in repr(torn)
        assert " object at 0x" not in repr(torn)
        assert "torn" in repr(socket)
        if operation is not None:
            assert operation.bytes_transferred == 4
            assert b"".join(operation.remaining) == TEN[4:]
        attempts = port.attempts
        await refused_everywhere(
            socket,
            SocketError.CONNECTION_ABORTED,
            "an earlier message on this stream was cut after some of its bytes, so the peer would read this one as "
            "its continuation; send the rest first with socket.resume() or socket.send_rest(), or give it up with "
            "socket.forget_torn()",
        )
        assert port.attempts == attempts
        assert torn_of(socket) is torn or torn_of(socket).bytes_transferred == 4


async def test_a_cut_leaves_those_behind_it_whole(autojump_clock: MockClock) -> None:
    port = ScriptedPort([4, Blocked()])
    socket = Socket.from_port(port)
    told: list[Any] = []
    async with open_initiator():
        operations = args_for(TEN, b"ab", b"", b"cd")
        for args in operations:
            args.completed += lambda _, args: told.append(args)
            assert socket.send_async(args)
        result = socket.begin_send(b"ef", callback=told.append)
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                with pytest.raises(SocketException, match="was cut") as caught:
                    await socket.send(b"gh")
                assert caught.value.socket_error_code is SocketError.CONNECTION_ABORTED
                assert caught.value.bytes_transferred == 0

            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            assert operations[0].cancel()
            # In one step, so that nothing can come between.
            assert socket.queued_operations == 0
            assert socket.torn is not None
        await wait_all_tasks_blocked()
        assert told == [*operations, result]
        assert errors(operations) == ["OPERATION_ABORTED", *["CONNECTION_ABORTED"] * 3]
        assert counts(operations) == [4, 0, 0, 0]
        assert socket.try_end_send_nowait(result) == (0, SocketError.CONNECTION_ABORTED)
        port.unblock()
        # Those behind were not cut and may be started again, in any order, once the stream is whole.
        assert not socket.resume(operations[0])
        for args in operations[:0:-1]:
            assert not socket.send_async(args)
    assert port.accepted == TEN + b"cdab"


async def test_an_owner_that_leaves_has_its_own_aborted_and_tears_for_the_others() -> None:
    port = ScriptedPort([4, Blocked()])
    socket = Socket.from_port(port)
    told: list[Any] = []

    def started(message: bytes) -> SocketAsyncEventArgs:
        args = SocketAsyncEventArgs(message)
        args.completed += lambda _, args: told.append(args)
        assert socket.send_async(args)
        return args

    async with open_initiator():
        outer = copy_context()
        async with open_initiator():
            first = started(TEN)
            others = [outer.run(started, b"ab")]
            second = started(TEN)
            others.append(outer.run(started, b""))
            third = started(TEN)
            await wait_all_tasks_blocked()
            assert socket.queued_operations == 5
        own = [first, second, third]
        assert [args for args in told if args in own] == own
        assert errors(own) == ["OPERATION_ABORTED"] * 3
        assert counts(own) == [4, 0, 0]
        await wait_all_tasks_blocked()
        assert [args for args in told if args in others] == others
        assert len(told) == 5
        assert errors(others) == ["CONNECTION_ABORTED"] * 2
        assert counts(others) == [0, 0]
        assert torn_by(socket, first)
    assert port.accepted == TEN[:4]


async def test_an_owner_that_leaves_with_nothing_cut_harms_nobody() -> None:
    port = ScriptedPort([Blocked()])
    socket = Socket.from_port(port)
    async with open_initiator():
        outer = copy_context()
        other = SocketAsyncEventArgs(b"ab")
        async with open_initiator():
            own = args_for(TEN, TEN)
            assert socket.send_async(own[0])
            assert outer.run(socket.send_async, other)
            assert socket.send_async(own[1])
        assert errors(own) == ["OPERATION_ABORTED"] * 2
        assert socket.torn is None
        port.unblock()
        assert await other.wait() == 2
        assert other.socket_error is SocketError.SUCCESS
    assert port.accepted == b"ab"


class LookingOwner(RecordingOwner):
    """An owner that looks, at the end of each operation, whether its stream is torn by then."""

    def __init__(self) -> None:
        super().__init__()
        self.torn: list[bool] = []

    def ended(self, operation: Operation, queue: SendQueue) -> None:
        super().ended(operation, queue)
        self.torn.append(queue.torn is not None and queue.gate & TORN > 0)


@pytest.mark.parametrize("how", ["stopped", "left", "failed"])
async def test_a_stream_is_torn_before_anybody_is_told(how: str) -> None:
    port = ScriptedPort([4, "EACCES"])
    queue, owner = SendQueue(port, refuse_torn=True), LookingOwner()
    for message in (TEN, b"ab"):
        operation = SocketAsyncEventArgs(message)._operation
        operation.flags = PLAIN_FLAGS
        start(queue, operation, owner)
    first = queue.head
    assert first is not None
    if how == "stopped":
        queue.stop(first, 995, None)
    elif how == "left":
        queue.stop_owner(owner, 995, None)
    else:
        queue.drain(10**6)
    assert owner.torn == [True, True]
    assert len(owner.endings) == 2


@pytest.mark.parametrize("face", ["args", "await args"])
async def test_cut_args_keep_their_count_whatever_is_tried_with_them(face: str) -> None:
    port = ScriptedPort()
    socket = Socket.from_port(port)
    other_port = ScriptedPort()
    other = Socket.from_port(other_port)
    async with open_initiator():
        args = await cut(socket, port, face)
        before = (args.bytes_transferred, args.socket_error, args.activation, str(args.outcome))
        assert args._operation.state == CUT
        for each in (socket, other):
            # On another stream too, for the count would be lost.
            with pytest.raises(InvalidOperationError, match=r"was cut after 4 bytes.*resume"):
                each.send_async(args)
            with pytest.raises(InvalidOperationError, match=r"was cut after 4 bytes.*resume"):
                await each.send(args)
        with pytest.raises(InvalidOperationError, match="not torn"):
            other.resume(args)
        assert not args.cancel()
        assert (args.bytes_transferred, args.socket_error, args.activation) == before[:3]
        assert str(args.outcome) == before[3]
        assert b"".join(args.remaining) == TEN[4:]
        assert torn_by(socket, args)
        assert other_port.attempts == 0
    assert port.accepted == TEN[:4]


async def test_resuming_continues_the_count(autojump_clock: MockClock) -> None:
    port = SpyPort([])
    socket = Socket.from_port(port)
    told: list[tuple[bool, int, int]] = []
    async with open_initiator():
        args = await cut(socket, port.inner, "args")
        args.completed += lambda whose, args: told.append(
            (whose is socket, args.activation, args.bytes_transferred)
        )
        # Pending, with a follower behind it.
        port.inner.add(2, Blocked(1))
        assert socket.resume(args)
        assert socket.torn is None
        assert args.socket_error is SocketError.IO_PENDING
        assert args.bytes_transferred == 6
        assert args.activation == 2
        assert port.offers[1:] == [TEN[4:]]
        with pytest.raises(OperationInProgressError):
            socket.send_async(args)
        follower = SocketAsyncEventArgs(b"ab")
        assert socket.send_async(follower)
        assert await args.wait() == 10
        assert await follower.wait() == 2
        assert told == [(True, 2, 10)]
        assert errors([args, follower]) == ["SUCCESS", "SUCCESS"]
        assert args.remaining == []
        # An ordinary operation again.
        assert not socket.send_async(args)
        assert args.bytes_transferred == 10
        with pytest.raises(InvalidOperationError, match="not torn"):
            socket.resume(args)
        with pytest.raises(InvalidOperationError, match="not torn"):
            await socket.send_rest()
    assert port.accepted == TEN + b"ab" + TEN


async def test_a_rest_that_is_cut_again_and_again() -> None:
    port = ScriptedPort()
    socket = Socket.from_port(port)
    async with open_initiator():
        args = await cut(socket, port, "args")
        for count in range(4, 10):
            assert args.bytes_transferred == count
            port.add(1 if count < 9 else "EAGAIN")
            assert socket.resume(args)
            assert args.cancel(f"after {count}")
            await args.wait()
            assert torn_by(socket, args)
            assert torn_of(socket).reason == f"after {count}"
            assert b"".join(torn_of(socket).remaining) == TEN[args.bytes_transferred :]
            with pytest.raises(InvalidOperationError, match=f"{args.bytes_transferred} bytes"):
                socket.send_async(args)
        assert not socket.resume(args)
        assert args.bytes_transferred == 10
        assert socket.torn is None
    assert port.accepted == TEN


@pytest.mark.parametrize("kind", ["block", "error"])
@pytest.mark.parametrize("face", CUTS)
@pytest.mark.parametrize("way", ["fresh args", "send_rest"])
async def test_a_rest_of_which_no_byte_went_leaves_the_stream_torn(
    face: str, way: str, kind: str, autojump_clock: MockClock
) -> None:
    # The peer still has the beginning, whoever holds the rest and whatever that one's own count is.
    port = ScriptedPort()
    socket = Socket.from_port(port)
    async with open_initiator():
        await cut(socket, port, face)
        port.add(Blocked(1) if kind == "block" else "EACCES")
        if way == "fresh args":
            rest = SocketAsyncEventArgs(buffer_list=torn_of(socket).remaining)
            pending = socket.resume(rest)
            assert pending == (kind == "block")
            follower = SocketAsyncEventArgs(b"behind")
            socket.send_async(follower)
            if pending:
                assert rest.cancel()
                await rest.wait()
            await follower.wait()
            assert rest.bytes_transferred == 0
            assert follower.socket_error is SocketError.CONNECTION_ABORTED
        elif kind == "block":
            with trio.move_on_after(0.5) as scope:
                await socket.send_rest()
            assert scope.cancelled_caught
        else:
            with pytest.raises(SocketException) as caught:
                await socket.send_rest()
            assert caught.value.socket_error_code is SocketError.ACCESS_DENIED
        port.unblock()
        assert b"".join(torn_of(socket).remaining) == TEN[4:]
        await refused_everywhere(socket, SocketError.CONNECTION_ABORTED, "was cut")
        assert port.accepted == TEN[:4]
        # And it still can be mended.
        assert await socket.send_rest() == 6
        assert socket.torn is None
    assert port.accepted == TEN


@pytest.mark.parametrize("face", CUTS)
async def test_fresh_args_for_the_rest(face: str) -> None:
    port = ScriptedPort()
    socket = Socket.from_port(port)
    async with open_initiator():
        operation = await cut(socket, port, face)
        for wrong in (TEN[5:], TEN[3:], b"", TEN):
            with pytest.raises(ValueError, match=f"args holds {len(wrong)} bytes.* cut is 6"):
                socket.resume(SocketAsyncEventArgs(wrong))
        with pytest.raises(ValueError, match="cut is 6"):
            socket.resume(SocketAsyncEventArgs())
        with pytest.raises(TypeError):
            socket.resume(None)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            socket.resume(TEN)  # type: ignore[arg-type]
        assert torn_by(socket, operation)
        port.add(2)
        rest = SocketAsyncEventArgs(buffer_list=torn_of(socket).remaining)
        assert socket.resume(rest)
        assert socket.torn is None
        assert rest.bytes_transferred == 2
        # Cut again: what is torn now is the rest, whose own rest is sent by whoever takes it.
        assert rest.cancel("again")
        await rest.wait()
        assert torn_by(socket, rest)
        assert torn_of(socket).bytes_transferred == 2
        assert b"".join(torn_of(socket).remaining) == TEN[6:]
        if isinstance(operation, SocketAsyncEventArgs):
            # It has nothing to do with the stream any more.
            assert operation._operation.state == IDLE
            operation.set_buffer(b"x")
        rest_of_rest = SocketAsyncEventArgs(buffer_list=torn_of(socket).remaining)
        assert not socket.resume(rest_of_rest)
        assert rest_of_rest.bytes_transferred == 4
        assert socket.torn is None
        assert rest._operation.state == IDLE
    assert port.accepted == TEN


@pytest.mark.parametrize("face", CUTS)
async def test_sending_the_rest(face: str, autojump_clock: MockClock) -> None:
    port = ScriptedPort()
    socket = Socket.from_port(port)
    async with open_initiator():
        operation = await cut(socket, port, face)
        port.add(1, Blocked(1), 2, Blocked(10))
        with trio.move_on_after(2) as scope:
            await socket.send_rest()
        assert scope.cancelled_caught
        assert port.accepted == TEN[:7]
        assert b"".join(torn_of(socket).remaining) == TEN[7:]
        if isinstance(operation, SocketAsyncEventArgs):
            assert operation.bytes_transferred == 7
            assert operation.socket_error is SocketError.OPERATION_ABORTED
        # A send that is started while the rest is on its way is behind it.
        async with trio.open_nursery() as nursery:
            sent: list[int] = []

            async def send_rest() -> None:
                sent.append(await socket.send_rest())

            nursery.start_soon(send_rest)
            await wait_all_tasks_blocked()
            follower = SocketAsyncEventArgs(b"ab")
            assert socket.send_async(follower)
            assert await follower.wait() == 2
        assert sent == [3]
        if isinstance(operation, SocketAsyncEventArgs):
            assert operation.bytes_transferred == 10
            assert operation.socket_error is SocketError.SUCCESS
            assert operation._operation.state == IDLE
    assert port.accepted == TEN + b"ab"


async def test_sending_the_rest_is_a_checkpoint_and_does_nothing_when_cancelled() -> None:
    port = ScriptedPort()
    socket = Socket.from_port(port)
    async with open_initiator():
        for face in CUTS:
            del port.accepted[:]
            operation = await cut(socket, port, face)
            attempts = port.attempts
            with trio.CancelScope() as scope:
                scope.cancel()
                await socket.send_rest()
            assert scope.cancelled_caught
            assert port.attempts == attempts
            assert b"".join(torn_of(socket).remaining) == TEN[4:]
            if operation is not None:
                # Nothing has happened to it: it still is what was stopped after 4 bytes.
                assert operation.bytes_transferred == 4
                assert isinstance(operation.outcome.error, SocketException)
            with trio.testing.assert_checkpoints():
                assert await socket.send_rest() == 6


async def test_the_flags_of_a_message_are_those_of_its_rest() -> None:
    port = SpyPort([4])
    socket = Socket.from_port(port)
    async with open_initiator():
        result = socket.begin_send(TEN, socket_flags=SocketFlags.DONT_ROUTE)
        assert result.cancel()
        await wait_all_tasks_blocked()
        assert await socket.send_rest() == 6
    assert len({call.flags for call in port.calls}) == 1


@pytest.mark.parametrize("face", CUTS)
async def test_giving_up_a_cut_message(face: str) -> None:
    port = ScriptedPort()
    socket = Socket.from_port(port)
    async with open_initiator():
        operation = await cut(socket, port, face)
        socket.forget_torn()
        assert socket.torn is None
        assert not socket.send_async(SocketAsyncEventArgs(b"ab"))
        with pytest.raises(InvalidOperationError, match="not torn"):
            await socket.send_rest()
        if isinstance(operation, SocketAsyncEventArgs):
            assert operation._operation.state == IDLE
            assert operation.bytes_transferred == 4
            assert operation.socket_error is SocketError.OPERATION_ABORTED
            assert not socket.send_async(operation)
            assert operation.bytes_transferred == 10
        # Giving up what is not there is nothing.
        socket.forget_torn()
    assert port.accepted == TEN[:4] + b"ab" + (TEN if "args" in face else b"")


class ResumingOwner(RecordingOwner):
    """An owner that has the rest of a message sent as soon as it is told that this was cut.

    Args:
      rest: what sends it.
      gives_up: whether it has given up the message before.

    Attributes:
      answers: whether the rest was pending then.
    """

    def __init__(self, rest: Operation, *, gives_up: bool) -> None:
        super().__init__()
        self.answers: list[bool] = []
        self._rest = rest
        self._gives_up = gives_up

    def ended(self, operation: Operation, queue: SendQueue) -> None:
        super().ended(operation, queue)
        if not self.answers:
            if self._gives_up:
                queue.forget_torn()
            self._rest.claim()
            self.answers.append(queue.resume(self._rest, self))
            assert self._rest.state == POSTED


@pytest.mark.parametrize("gives_up", [False, True])
@pytest.mark.parametrize("how", ["stopped", "failed"])
def test_a_rest_that_is_started_in_the_step_of_the_cut_is_sent_at_its_end(
    how: str, gives_up: bool
) -> None:
    """It goes behind the end of all that waited, unless the message was given up before."""
    port = SpyPort([4] if how == "stopped" else [4, "EACCES"])
    first, behind, rest, later = (
        args._operation for args in args_for(TEN, b"behind", TEN[4:], b"later")
    )
    queue, owner = SendQueue(port, refuse_torn=True), ResumingOwner(rest, gives_up=gives_up)

    async def main() -> None:
        for operation in (first, behind, rest, later):
            operation.flags = PLAIN_FLAGS
        for operation in (first, behind):
            assert start(queue, operation, owner)
        if how == "stopped":
            assert queue.stop(first, OPERATION_ABORTED, None)
        else:
            queue.drain(10**6)
        assert owner.answers == [True]
        assert owner.joins == 3
        assert owner.endings == [first, behind, rest]
        assert (behind.code, behind.transferred) == (CONNECTION_ABORTED, 0)
        if gives_up:
            assert (rest.code, rest.transferred) == (OPERATION_ABORTED, 0)
            assert "the rest was given up" in str(rest.make_error())
        else:
            assert (rest.code, rest.transferred, rest.continues) == (0, 6, True)
        assert queue.torn is None
        owner.tell()
        assert [operation.state for operation in (first, behind, rest)] == [IDLE] * 3
        assert not start(queue, later, owner)
        assert (later.code, later.transferred) == (0, 5)

    run_virtual(main)
    assert port.accepted == (TEN[:4] if gives_up else TEN) + b"later"


@pytest.mark.parametrize("when", ["with it", "behind it"])
@pytest.mark.parametrize("whose", ["the cut args", "fresh args"])
async def test_a_rest_of_what_was_given_up_in_a_step_that_is_held_is_not_sent(
    whose: str, when: str
) -> None:
    """A signal handler gives it up where nobody may be woken, so the stream is torn until that is done."""
    port = ScriptedPort()
    socket = Socket.from_port(port)
    async with open_initiator():
        args = await cut(socket, port, "args")
        rest = SocketAsyncEventArgs(TEN[4:]) if whose == "fresh args" else args
        count = rest.bytes_transferred
        with falling_asleep():
            socket.forget_torn()
            assert torn_by(socket, args)
            pending = socket.resume(rest) if when == "with it" else None
        if pending is None:
            pending = socket.resume(rest)
        assert pending == (when == "with it")
        assert await rest.wait() == count
        assert errors([rest]) == ["OPERATION_ABORTED"]
        assert "the rest was given up" in str(rest.outcome)
        assert socket.torn is None
        assert port.accepted == TEN[:4]
        for operation in (args, rest):
            assert operation._operation.state == IDLE
        assert await socket.send(b"later") == 5
    assert port.accepted == TEN[:4] + b"later"


@pytest.mark.parametrize("face", ["resume", "send_rest"])
async def test_what_a_port_raises_in_place_of_a_rest_leaves_args_that_are_free(face: str) -> None:
    """It is no error of a socket, so nobody is told of it but the caller."""

    def fail(_: object) -> None:
        port.on_call = None
        raise ZeroDivisionError

    port = SpyPort([4])
    socket = Socket.from_port(port)
    async with open_initiator() as initiator:
        args = SocketAsyncEventArgs(TEN)
        assert socket.send_async(args)
        assert args.cancel()
        assert await args.wait() == 4
        port.inner.add(Blocked())
        port.on_call = fail
        with pytest.raises(ZeroDivisionError):
            if face == "resume":
                socket.resume(args)
            else:
                await socket.send_rest()
        assert (args.pending, args.bytes_transferred) == (False, 4)
        assert (socket.queued_operations, initiator.pending_operations) == (0, 0)
        # The step is over, so the next ones are made here and now.
        port.inner.unblock()
        socket.forget_torn()
        assert socket.torn is None
        assert not socket.send_async(args)
        assert args.bytes_transferred == 10
    assert port.accepted == TEN[:4] + TEN


async def test_settling_a_cut_before_its_end_is_told() -> None:
    port = ScriptedPort([4])
    socket = Socket.from_port(port)
    async with open_initiator():
        args = SocketAsyncEventArgs(TEN)
        args.completed += lambda *_: None
        assert socket.send_async(args)
        assert args.cancel()
        # Aborted, and Completed is yet to come.
        with pytest.raises(OperationInProgressError):
            socket.resume(args)
        with pytest.raises(OperationInProgressError):
            await socket.send_rest()
        assert torn_of(socket).bytes_transferred == 4
        socket.forget_torn()
        await args.wait()
        assert args._operation.state == IDLE
        assert args.bytes_transferred == 4
        assert not socket.send_async(args)
    assert port.accepted == TEN[:4] + TEN


async def test_a_resumed_rest_that_fails_on_the_spot(autojump_clock: MockClock) -> None:
    port = ScriptedPort()
    socket = Socket.from_port(port)
    async with open_initiator():
        args = await cut(socket, port, "args")
        port.add("EACCES")
        assert not socket.resume(args)
        assert args.socket_error is SocketError.ACCESS_DENIED
        assert args.bytes_transferred == 4
        assert torn_by(socket, args)
        assert args._operation.state == CUT
        port.add("ECONNRESET")
        assert not socket.resume(args)
        # Now it is broken, and nothing is left to be torn.
        assert errors([args]) == ["CONNECTION_RESET"]
        assert args.bytes_transferred == 4
        assert socket.torn is None
        assert args._operation.state == IDLE
        await refused_everywhere(socket, SocketError.CONNECTION_RESET)
    assert port.accepted == TEN[:4]


async def stands_half_sent(socket: Socket, args: SocketAsyncEventArgs, count: int) -> None:
    """See that the count and the rest of args that are cut cannot be lost by mistake."""
    assert args.bytes_transferred == count
    rest = b"".join(args.remaining)
    assert torn_by(socket, args)
    with pytest.raises(InvalidOperationError, match=f"cut after {count} bytes"):
        socket.send_async(args)
    with pytest.raises(InvalidOperationError, match=f"cut after {count} bytes"):
        await socket.send(args)
    with pytest.raises(InvalidOperationError, match=f"cut after {count} bytes"):
        args.set_buffer(b"another message")
    with pytest.raises(InvalidOperationError, match=f"cut after {count} bytes"):
        args.buffer_list = None
    assert args.bytes_transferred == count
    assert b"".join(torn_of(socket).remaining) == rest


@pytest.mark.parametrize("budget", ["fresh", "spent"])
async def test_a_message_that_is_cut_on_the_spot(budget: str) -> None:
    # It takes a message of several calls: the first is accepted as a whole, the second fails.
    port = ScriptedPort()
    socket = Socket.from_port(port)
    async with open_initiator():
        if budget == "spent":
            for _ in range(START_BUDGET):
                assert not socket.send_async(SocketAsyncEventArgs(b""))
        port.add(1024, "EACCES")
        args = SocketAsyncEventArgs(buffer_list=[b"x"] * 2000)
        assert socket.send_async(args) == (budget == "spent")
        await args.wait()
        assert args.socket_error is SocketError.ACCESS_DENIED
        await stands_half_sent(socket, args, 1024)
        assert not socket.resume(args)
        assert args.bytes_transferred == 2000
        assert args._operation.state == IDLE
        port.add(1024, "EPERM")
        with pytest.raises(SocketException) as caught:
            socket.begin_send([b"x"] * 2000)
        assert caught.value.bytes_transferred == 1024
        assert await socket.send_rest() == 976
        port.add(1024, "EPERM")
        with pytest.raises(SocketException) as caught:
            await socket.send(args)
        assert caught.value.bytes_transferred == 1024
        await stands_half_sent(socket, args, 1024)
        assert await socket.send_rest() == 976
        assert socket.torn is None
    assert port.accepted == b"x" * 6000


@pytest.mark.parametrize("budget", ["fresh", "spent"])
async def test_fresh_args_whose_first_attempt_fails_are_the_cut_ones_then(budget: str) -> None:
    port = ScriptedPort()
    socket = Socket.from_port(port)
    async with open_initiator():
        await cut(socket, port, "begin")
        rest = SocketAsyncEventArgs(TEN[4:])
        if budget == "spent":
            for _ in range(START_BUDGET):
                assert not socket.send_async(rest)
        port.add("EACCES")
        assert socket.resume(rest) == (budget == "spent")
        await rest.wait()
        assert rest.socket_error is SocketError.ACCESS_DENIED
        await stands_half_sent(socket, rest, 0)
        assert not socket.resume(rest)
        assert rest.bytes_transferred == 6
        assert rest._operation.state == IDLE
    assert port.accepted == TEN


async def test_a_resumption_while_the_initiator_is_left_is_refused_and_keeps_the_rest() -> None:
    port = ScriptedPort([6, 4])
    socket = Socket.from_port(port)
    answers: list[bool] = []
    used = SocketAsyncEventArgs(TEN[4:])

    def resume(socket: Socket, args: SocketAsyncEventArgs) -> None:
        answers.append(socket.resume(args))
        answers.append(socket.resume(used))

    async with open_initiator():
        assert not socket.send_async(used)
        args = SocketAsyncEventArgs(TEN)
        args.completed += resume
        assert socket.send_async(args)
    assert answers == [False, False]
    assert errors([args, used]) == ["OPERATION_ABORTED"] * 2
    # Each count is about the message that it stands beside.
    assert counts([args, used]) == [4, 0]
    assert torn_by(socket, args)
    assert await socket.send_rest() == 6
    assert port.accepted == TEN[4:] + TEN


async def test_a_resumed_rest_whose_failure_is_told_later_is_cut_all_the_same() -> None:
    # After many answers on the spot one is told by the dispatcher, and then it may be the rest of a cut message.
    port = ScriptedPort()
    socket = Socket.from_port(port)
    async with open_initiator():
        args = await cut(socket, port, "args")
        refused = SocketAsyncEventArgs(b"refused")
        for _ in range(100_000):
            if socket.send_async(refused):
                break
            assert refused.socket_error is SocketError.CONNECTION_ABORTED
        await refused.wait()
        # The budget is fresh; spend it to the last answer but one.
        spent = 0
        while not socket.send_async(refused):
            spent += 1
        await refused.wait()
        for _ in range(spent):
            assert not socket.send_async(refused)
        port.add("EACCES")
        assert socket.resume(args)
        assert await args.wait() == 4
        assert args.socket_error is SocketError.ACCESS_DENIED
        assert torn_by(socket, args)
        with pytest.raises(InvalidOperationError, match="was cut after 4 bytes"):
            socket.send_async(args)
        assert args.bytes_transferred == 4
        assert await socket.send_rest() == 6
    assert port.accepted == TEN


async def test_a_socket_that_may_write_behind_a_cut(autojump_clock: MockClock) -> None:
    port = ScriptedPort([4, Blocked(1), "EACCES", 1])
    socket = Socket.from_port(port, on_torn="allow")
    async with open_initiator():
        operations = args_for(TEN, b"abc", b"de")
        for args in operations:
            assert socket.send_async(args)
        await operations[1].wait()
        assert errors(operations) == ["ACCESS_DENIED", "SUCCESS", "SUCCESS"]
        assert counts(operations) == [4, 3, 2]
        assert socket.torn is None
        port.add(2)
        assert socket.send_async(operations[0])
        follower = SocketAsyncEventArgs(b"fg")
        assert socket.send_async(follower)
        assert operations[0].cancel()
        await follower.wait()
        assert counts([operations[0], follower]) == [2, 2]
        assert socket.torn is None
        # Its rest is its owner's business, and it may be started at once.
        assert not socket.send_async(operations[0])
    assert port.accepted == TEN[:4] + b"abcde" + TEN[:2] + b"fg" + TEN
    socket.close()
    assert not port.was_reset
    with pytest.raises(ValueError, match="on_torn"):
        Socket.from_port(ScriptedPort(), on_torn="perhaps")


class Buffer(bytearray):
    """A buffer of which can be told when nobody holds it any more."""


@pytest.mark.parametrize("when", ["pending", "cut"])
async def test_args_that_are_closed_while_their_message_is_cut(when: str) -> None:
    port = ScriptedPort([4, 3, Blocked()])
    socket = Socket.from_port(port)
    buffer = Buffer(TEN)
    freed = weakref.ref(buffer)
    async with open_initiator():
        args = SocketAsyncEventArgs(buffer)
        del buffer
        assert socket.send_async(args)
        if when == "pending":
            args.close()
            # In use still, so it is pending as it was.
            assert args.pending
        assert args.cancel()
        await args.wait()
        args.close()
        # The args are of no more use, but the stream still wants the rest of the message, and it may be cut once more.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.send_rest)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert torn_of(socket).bytes_transferred == 7
        port.unblock()
        assert await socket.send_rest() == 3
        # Then they let go of it.
        gc.collect()
        assert freed() is None
    assert port.accepted == TEN


async def test_handlers_that_restart_blindly_while_their_initiator_is_left() -> None:
    # Whatever is wrong with the stream, a start after the stop is answered with 995 on the spot, not with an event.
    for lines in ([4], [Blocked()]):
        port = ScriptedPort(lines)
        socket = Socket.from_port(port)
        answers: list[tuple[bool, SocketError, int]] = []

        def restart(
            socket: Socket,
            args: SocketAsyncEventArgs,
            answers: list[tuple[bool, SocketError, int]] = answers,
        ) -> None:
            if len(answers) < 10:
                answers.append((socket.send_async(args), args.socket_error, args.bytes_transferred))

        async with open_initiator():
            operations = args_for(TEN, b"ab")
            for args in operations:
                args.completed += restart
                assert socket.send_async(args)
            attempts = port.attempts
        accepted = len(port.accepted)
        assert answers == [
            (False, SocketError.OPERATION_ABORTED, accepted),
            (False, SocketError.OPERATION_ABORTED, 0),
        ]
        assert port.attempts == attempts


# The end, seen from the kernel


class WatchedPort(KernelPort):
    """The kernel's port, which also notes how it was closed."""

    __slots__ = ("resets",)

    def __init__(self, sock: stdlib_socket.socket) -> None:
        super().__init__(sock)
        self.resets: list[bool] = []

    def close(self, *, reset: bool) -> None:
        self.resets.append(reset)
        super().close(reset=reset)


@pytest.mark.fact("F211")
@pytest.mark.parametrize(
    ("shut_down", "torn"),
    [(None, False), (None, True), (SocketShutdown.RECEIVE, False), (SocketShutdown.SEND, True)],
)
async def test_a_close_after_a_shutdown_is_no_reset(
    shut_down: SocketShutdown | None, torn: bool
) -> None:
    left, right = stdlib_socket.socketpair()
    with right:
        port = WatchedPort(left)
        socket = Socket.from_port(port)
        async with open_initiator():
            args = SocketAsyncEventArgs(bytes(8_000_000))
            assert socket.send_async(args)
            assert args.bytes_transferred > 0
            if torn:
                assert args.cancel()
                assert socket.torn is not None
            if shut_down is not None:
                socket.shutdown(shut_down)
            socket.close()
        assert args.socket_error is SocketError.OPERATION_ABORTED
        assert port.resets == [shut_down is not SocketShutdown.SEND]


@pytest.mark.fact("F215")
@pytest.mark.parametrize("kind", KINDS)
async def test_shutting_down_ends_what_is_pending_with_its_count(kind: str) -> None:
    with connected(kind) as (socket, _):
        async with open_initiator():
            args, follower = args_for(BIG, b"ab")
            assert socket.send_async(args)
            assert socket.send_async(follower)
            count = args.bytes_transferred
            socket.shutdown(SocketShutdown.SEND)
            # Nobody reads, so the kernel may have nothing to report; the library must not wait for that.
            with trio.fail_after(2):
                assert await args.wait() >= count > 0
                await follower.wait()
            assert errors([args, follower]) == ["SHUTDOWN", "SHUTDOWN"]
            assert counts([follower]) == [0]
            await refused_everywhere(socket, SocketError.SHUTDOWN)


# Stopping in every state of a pair, by every way to stop


def by_cancel(args: SocketAsyncEventArgs, socket: Socket) -> None:
    assert args.cancel()


def by_close(args: SocketAsyncEventArgs, socket: Socket) -> None:
    socket.close()


@pytest.mark.fact("F147", "F225", "F228")
@pytest.mark.parametrize("stop", [by_cancel, by_close])
@pytest.mark.parametrize("count", range(11))
async def test_a_stop_after_any_number_of_bytes(
    count: int, stop: Callable[[SocketAsyncEventArgs, Socket], None], autojump_clock: MockClock
) -> None:
    port = ScriptedPort([Blocked(1), count, Blocked(1)])
    socket = Socket.from_port(port)
    async with open_initiator():
        args = SocketAsyncEventArgs(TEN)
        result: AsyncResult | None = None
        assert socket.send_async(args)
        result = socket.begin_send(b"xyz")
        await trio.sleep(1.5)
        whole = count == 10
        assert args.bytes_transferred == count
        if whole:
            # Completion has won: there is nothing left to stop.
            assert not args.pending
            assert not args.cancel()
            assert args.socket_error is SocketError.SUCCESS
        else:
            stop(args, socket)
            await wait_all_tasks_blocked()
            assert args.socket_error is SocketError.OPERATION_ABORTED
            assert args.bytes_transferred == count
            if stop is by_close:
                assert socket.torn is None
                expected = SocketError.OPERATION_ABORTED
            else:
                assert (socket.torn is not None) == (count > 0)
                expected = SocketError.CONNECTION_ABORTED if count else SocketError.SUCCESS
            await trio.sleep(1)
            assert socket.try_end_send_nowait(result) == (
                3 if expected is SocketError.SUCCESS else 0,
                expected,
            )
    assert bytes(port.accepted).startswith(TEN[:count])


# Calls that are accepted in part


class RefillingPort(ScriptedPort):
    """A script of what a kernel takes whose reader may make room at any time."""

    refills = True


async def test_a_call_that_is_accepted_in_part_is_followed_by_another_one_at_once() -> None:
    port = RefillingPort([3, 3, 4])
    socket = Socket.from_port(port)
    async with open_initiator():
        args = SocketAsyncEventArgs(TEN)
        assert not socket.send_async(args)
        assert args.bytes_transferred == 10
        port.add(3, 3, 4)
        args.set_buffer(bytearray(TEN))
        assert not socket.send_async(args)
        port.add(3, 3, 4)
        assert socket.begin_send(TEN).completed_synchronously
    port.add(3, 3, 4)
    assert await socket.send(TEN) == 10
    assert port.accepted == TEN * 4


@pytest.mark.parametrize("flags", [SocketFlags.NONE, SocketFlags.DONT_ROUTE])
async def test_calls_in_vain_become_rare_and_one_that_is_not_brings_them_back(
    flags: SocketFlags, autojump_clock: MockClock
) -> None:
    port = RefillingPort()
    socket = Socket.from_port(port)
    messages = 0
    async with open_initiator():
        args = SocketAsyncEventArgs(TEN)
        args.socket_flags = flags

        async def call_in_vain() -> None:
            nonlocal messages
            port.add(4, Blocked(1))
            assert socket.send_async(args)
            assert args.bytes_transferred == 4
            assert await args.wait() == 10
            messages += 1

        async def make_one_call(times: int) -> None:
            nonlocal messages
            for _ in range(times):
                port.add(4, 6)
                assert socket.send_async(args)
                assert args.bytes_transferred == 4
                assert await args.wait() == 10
                messages += 1

        async def make_two_calls() -> None:
            nonlocal messages
            port.add(4, 6)
            assert not socket.send_async(args)
            messages += 1

        for skipped in (1, 3, 7, MAX_SKIPS, MAX_SKIPS):
            await call_in_vain()
            await make_one_call(skipped)
        await make_two_calls()
        await make_two_calls()
        await call_in_vain()
        await make_one_call(1)
        await make_two_calls()
    assert port.accepted == TEN * messages


async def test_a_drain_whose_second_call_was_in_vain_leaves_that_out_once() -> None:
    port = RefillingPort([Blocked(), 2, Blocked(), 2, 2, Blocked()])
    queue, owner = SendQueue(port, refuse_torn=True), RecordingOwner()
    operation = Operation()
    operation.message = Message((Piece(TEN, 0, len(TEN)),))
    operation.flags = PLAIN_FLAGS
    operation.reset_results()
    assert start(queue, operation, owner)
    attempts = []
    for _ in range(3):
        before = port.attempts
        port.unblock()
        queue.drain(10**9)
        attempts.append(port.attempts - before)
    assert attempts == [2, 1, 2]
    assert operation.transferred == 6


async def test_a_peer_as_fast_as_the_sender_does_not_keep_the_others_waiting() -> None:
    """One attempt stops at its allowance; the rest has to wait for another turn, though there is room."""
    size = 3 * ATTEMPT_ALLOWANCE
    port = RefillingPort([1000] * (size // 1000 + 1))
    socket = Socket.from_port(port)
    async with open_initiator():
        args = SocketAsyncEventArgs(bytes(size))
        assert socket.send_async(args)
        assert 1000 < args.bytes_transferred < ATTEMPT_ALLOWANCE
        assert await args.wait() == size


async def test_a_message_that_was_given_up_and_let_go_has_no_size_any_more() -> None:
    port = ScriptedPort()
    socket = Socket.from_port(port)
    async with open_initiator():
        args = await cut(socket, port, "args")
        assert isinstance(args, SocketAsyncEventArgs)
        torn = torn_of(socket)
        socket.forget_torn()
        assert (torn.size, torn.bytes_transferred) == (10, 4)
        args.close()
        assert (torn.size, torn.bytes_transferred) == (0, 4)
    socket.close()


async def test_no_call_takes_more_messages_than_the_kernel_takes_buffers() -> None:
    """Many small ones and a large one behind them, which are not worth copying into one buffer."""
    with connected("unix") as (socket, peer):
        filled = fill(socket)
        async with open_initiator(), trio.open_nursery() as nursery:
            many = [SocketAsyncEventArgs(b"x") for _ in range(MAX_PIECES)]
            many += [SocketAsyncEventArgs(BIG)]
            assert all(socket.send_async(args) for args in many)
            nursery.start_soon(read_exactly, peer, filled + MAX_PIECES + len(BIG))
            assert [await args.wait() for args in many] == [1] * MAX_PIECES + [len(BIG)]
