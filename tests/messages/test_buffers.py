"""Hold messages to their bytes, their refusals to their sentences, and buffers to their freedom."""

from __future__ import annotations

import ctypes
import mmap
import re
from array import array
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import given, strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.helpers import bytes_of
from tests.scripted import SpyPort
from trio_send import (
    ExitPolicy,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    open_initiator,
)
from trio_send._messages.buffers import (
    JOIN_TOTAL,
    MAX_PIECES,
    BufferShrankError,
    Message,
    Piece,
    measure,
    message_from_buffer,
    message_from_list,
    release,
    require_range,
)
from trio_send.testing import Blocked, ScriptedPort


def an_mmap(content: bytes) -> mmap.mmap:
    mapped = mmap.mmap(-1, len(content))
    mapped[:] = content
    return mapped


def numbers() -> array[int]:
    return array("I", [1, 2**31, 3, 4])


NUMBERS = numbers().tobytes()

# How to make each sort of buffer anew, and the bytes it stands for.
SORTS: dict[str, tuple[Callable[[], Any], bytes]] = {
    "bytes": (lambda: b"abcdef", b"abcdef"),
    "bytearray": (lambda: bytearray(b"abcdef"), b"abcdef"),
    "memoryview of bytes": (lambda: memoryview(b"abcdef"), b"abcdef"),
    "memoryview of bytearray": (lambda: memoryview(bytearray(b"abcdef")), b"abcdef"),
    "part of a memoryview": (lambda: memoryview(b"xxabcdefxx")[2:8], b"abcdef"),
    "array of bytes": (lambda: array("B", b"abcdef"), b"abcdef"),
    "array of numbers": (numbers, NUMBERS),
    "memoryview of numbers": (lambda: memoryview(numbers()), NUMBERS),
    "part of a memoryview of numbers": (lambda: memoryview(numbers())[1:3], NUMBERS[4:12]),
    "two dimensions": (lambda: memoryview(b"abcdef").cast("B", (2, 3)), b"abcdef"),
    "two dimensions of numbers": (
        lambda: memoryview(numbers()).cast("B").cast("I", (2, 2)),
        NUMBERS,
    ),
    "three dimensions": (lambda: memoryview(bytes_of(24)).cast("B", (2, 3, 4)), bytes_of(24)),
    "characters": (lambda: memoryview(b"abcdef").cast("c"), b"abcdef"),
    "ctypes array": (lambda: (ctypes.c_ubyte * 6)(*b"abcdef"), b"abcdef"),
    "mmap": (lambda: an_mmap(b"abcdef"), b"abcdef"),
    "subclass of bytes": (lambda: type("Sub", (bytes,), {})(b"abcdef"), b"abcdef"),
    "empty bytes": (lambda: b"", b""),
    "empty bytearray": (bytearray, b""),
    "empty memoryview": (lambda: memoryview(b""), b""),
    "empty array of numbers": (lambda: array("I"), b""),
    "empty memoryview of numbers": (lambda: memoryview(array("I")), b""),
    "nothing in two dimensions": (lambda: (ctypes.c_ubyte * 3 * 0)(), b""),
}


def tail(message: Message, start: int, max_pieces: int = MAX_PIECES) -> bytes:
    """Return what `Message.open` yields, and check what it says about it."""
    views: list[memoryview] = []
    opened: list[memoryview] = []
    count = message.open(start, views, opened, max_pieces)
    joined = b"".join(views)
    assert count == len(joined)
    release(opened)
    assert opened == []
    for view in views:
        # Nothing is left of what was opened: a released view refuses everything.
        with pytest.raises(ValueError, match="released"):
            bytes(view)
    return joined


# Ranges


@pytest.mark.parametrize(
    ("offset", "size", "expected"),
    [
        (0, None, (0, 10)),
        (0, 10, (0, 10)),
        (0, 0, (0, 0)),
        (4, None, (4, 6)),
        (4, 6, (4, 6)),
        (4, 5, (4, 5)),
        (10, None, (10, 0)),
        (10, 0, (10, 0)),
        (True, True, (1, 1)),
    ],
)
def test_ranges_that_are_legal(offset: Any, size: Any, expected: tuple[int, int]) -> None:
    found = require_range("size", 10, offset, size)
    assert found == expected
    assert [type(number) for number in found] == [int, int]


@pytest.mark.parametrize("offset", [-1, 11, -(2**70), 2**70])
def test_an_offset_outside_the_buffer(offset: int) -> None:
    # The offset is judged before the size, which is wrong too.
    with pytest.raises(ValueError, match="offset") as caught:
        require_range("size", 10, offset, 99)
    assert str(caught.value) == (
        f"offset is {offset}, but must be from 0 to 10, the length of the buffer in bytes"
    )


@pytest.mark.parametrize("name", ["size", "count"])
@pytest.mark.parametrize("size", [-1, 7, 2**70])
def test_a_size_that_leaves_the_buffer(name: str, size: int) -> None:
    with pytest.raises(ValueError, match=name) as caught:
        require_range(name, 10, 4, size)
    assert str(caught.value) == (
        f"{name} is {size}, but must be from 0 to 6, the bytes of the buffer from offset 4 on"
    )


def test_ranges_are_counted_in_bytes_not_in_items() -> None:
    message = message_from_buffer("buffer", numbers(), 2, 5)
    assert message.size == 5
    assert tail(message, 0) == NUMBERS[2:7]
    with pytest.raises(ValueError, match="from 0 to 16"):
        message_from_buffer("buffer", numbers(), 17, None)


def test_what_is_no_number_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="offset"):
        require_range("count", 10, "1", None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="offset"):
        require_range("count", 10, None, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="count"):
        require_range("count", 10, 0, 1.5)  # type: ignore[arg-type]


# Sorts of buffers


@pytest.mark.parametrize("sort", SORTS)
def test_every_sort_of_buffer(sort: str) -> None:
    make, content = SORTS[sort]
    assert measure("buffer", make()) == len(content)
    for offset in range(len(content) + 1):
        for size in range(len(content) - offset + 1):
            message = message_from_buffer("buffer", make(), offset, size)
            wanted = content[offset : offset + size]
            assert message.size == size
            for start in range(size + 1):
                assert tail(message, start) == wanted[start:]
                if start < size:
                    assert b"".join(message.remaining(start)) == wanted[start:]
            assert message.remaining(size) == []
            assert message.direct is None or bytes(message.direct) == wanted


@pytest.mark.parametrize("sort", SORTS)
async def test_every_sort_of_buffer_is_sent_whole_and_in_part(
    sort: str, autojump_clock: MockClock
) -> None:
    make, content = SORTS[sort]
    port = ScriptedPort([1, Blocked(1)])
    socket = Socket.from_port(port)
    async with open_initiator(ExitPolicy.JOIN):
        args = SocketAsyncEventArgs(make())
        socket.send_async(args)
        part = SocketAsyncEventArgs(make(), len(content) // 2)
        socket.send_async(part)
    for each in (args, part):
        assert each.socket_error is SocketError.SUCCESS
    assert args.bytes_transferred == len(content)
    assert port.accepted == content + content[len(content) // 2 :]


class Shapeless:
    pass


@pytest.mark.parametrize("wrong", ["text", 3, 3.5, Shapeless(), [b"abc"], {}])
def test_what_is_no_buffer(wrong: Any) -> None:
    with pytest.raises(TypeError, match="parcel") as caught:
        measure("parcel", wrong)
    assert str(caught.value) == (
        "parcel must be a bytes-like object such as bytes, bytearray or memoryview, "
        f"not {type(wrong).__name__}"
    )
    # The attempt to view it is nobody's business.
    assert caught.value.__suppress_context__


def test_none_is_no_buffer() -> None:
    with pytest.raises(TypeError) as caught:
        measure("parcel", None)  # type: ignore[arg-type]
    assert str(caught.value) == "parcel is None, but must be a bytes-like object"


@pytest.mark.parametrize(
    "gaps", [memoryview(b"abcdef")[::2], memoryview(b"abcdef")[::-1], memoryview(numbers())[::2]]
)
def test_what_is_not_contiguous(gaps: memoryview) -> None:
    with pytest.raises(TypeError) as caught:
        measure("parcel", gaps)
    assert str(caught.value) == (
        "parcel must be contiguous; make a contiguous copy of it first, for example with bytes(...)"
    )


def test_a_buffer_that_was_released_or_closed_is_refused_by_name() -> None:
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(ValueError, match="parcel"):
        measure("parcel", view)
    mapped = an_mmap(b"abc")
    mapped.close()
    with pytest.raises(ValueError, match="parcel"):
        measure("parcel", mapped)


def test_the_members_of_a_list_are_named_by_their_index() -> None:
    with pytest.raises(TypeError, match=re.escape("parts[1] must be a bytes-like object")):
        message_from_list("parts", [b"abc", 7, "x"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=re.escape("parts[2] is None")):
        message_from_list("parts", [b"abc", b"", None])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=re.escape("parts[0] must be contiguous")):
        message_from_list("parts", [memoryview(b"abcd")[::2]])


def test_what_is_no_list_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="parts"):
        message_from_list("parts", 7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="buffer_list"):
        SocketAsyncEventArgs(buffer_list=7)  # type: ignore[arg-type]


def test_a_list_is_looked_at_once() -> None:
    parts = [b"abc", b"def"]
    message = message_from_list("parts", parts)
    parts.append(b"ghi")
    parts[0] = b"xyz"
    assert tail(message, 0) == b"abcdef"
    # An iterator will do: nothing is asked for twice.
    assert tail(message_from_list("parts", iter([b"abc", b"def"])), 2) == b"cdef"


# What may be handed to the kernel as it stands


def test_only_what_cannot_change_is_kept_as_a_view() -> None:
    data = b"abcdef"
    assert message_from_buffer("buffer", data, 0, None).direct is data
    ranged = message_from_buffer("buffer", data, 1, 3).direct
    assert isinstance(ranged, memoryview)
    assert bytes(ranged) == b"bcd"
    assert message_from_list("parts", [data]).direct is data
    # Small ones are joined, as they would be to be sent.
    assert message_from_list("parts", [data, data]).direct == 2 * data
    assert message_from_list("parts", [data, bytearray(data)]).direct is None
    large = bytes(JOIN_TOTAL // 2 + 1)
    assert message_from_list("parts", [large, large]).direct is None
    assert message_from_list("parts", [b""] * (MAX_PIECES + 1)).direct is None
    for sort in ("bytearray", "memoryview of bytes", "array of numbers", "subclass of bytes"):
        assert message_from_buffer("buffer", SORTS[sort][0](), 0, None).direct is None


# Freedom: no view is left behind


def assert_free(buffer: bytearray) -> None:
    """Resize, which a `bytearray` refuses as long as anybody views it."""
    before = bytes(buffer)
    buffer.append(0)
    del buffer[-1]
    assert buffer == before


def test_a_message_holds_no_view_of_what_can_change() -> None:
    buffer = bytearray(b"abcdef")
    whole = message_from_buffer("buffer", buffer, 0, None)
    part = message_from_buffer("buffer", buffer, 2, 3)
    gathered = message_from_list("parts", [buffer, b"", buffer, array("B", b"xyz")])
    assert_free(buffer)
    for message in (whole, part, gathered):
        for start in range(message.size + 1):
            views: list[memoryview] = []
            opened: list[memoryview] = []
            message.open(start, views, opened, MAX_PIECES)
            release(opened)
            # `views` still holds the objects; they must not hold the buffer.
            assert_free(buffer)
    views, opened = [], []
    whole.open(0, views, opened, MAX_PIECES)
    with pytest.raises(BufferError):
        buffer.append(0)
    release(opened)
    assert_free(buffer)


def test_what_was_opened_before_a_failure_can_be_released() -> None:
    first, second = bytearray(b"abcdef"), bytearray(b"ghijkl")
    message = message_from_list("parts", [first, second])
    del second[3:]
    views: list[memoryview] = []
    opened: list[memoryview] = []
    with pytest.raises(BufferShrankError, match="the buffer has 3 bytes, but the range ends at 6"):
        message.open(0, views, opened, MAX_PIECES)
    release(opened)
    assert_free(first)
    assert_free(second)


@pytest.mark.parametrize("end", ["sent", "cancelled", "failed", "closed", "left"])
async def test_buffers_are_free_while_nothing_is_attempted_and_ever_after(
    end: str, autojump_clock: MockClock
) -> None:
    port = ScriptedPort([4, Blocked(1)])
    socket = Socket.from_port(port)
    whole, part, member = bytearray(bytes_of(9)), bytearray(bytes_of(9)), bytearray(bytes_of(9))
    async with open_initiator() as initiator:
        args = [
            SocketAsyncEventArgs(whole),
            SocketAsyncEventArgs(part, 2, 5),
            SocketAsyncEventArgs(buffer_list=[member, memoryview(bytes_of(3)), b"x"]),
        ]
        for each in args:
            assert socket.send_async(each)
        results = [socket.begin_send(whole, 1, 4), socket.begin_send([member, member])]
        assert args[0].bytes_transferred == 4
        # Pending, the first one in part: the wait needs no view, and nor does anything that was tried.
        for buffer in (whole, part, member):
            assert_free(buffer)
        if end == "sent":
            for each in args:
                await each.wait()
            for result in results:
                await socket.end_send(result)
            assert [each.bytes_transferred for each in args] == [9, 5, 13]
        elif end == "cancelled":
            args[0].cancel()
        elif end == "failed":
            port.add("ECONNRESET")
            await args[-1].wait()
            assert args[-1].socket_error is SocketError.CONNECTION_RESET
        elif end == "closed":
            socket.close()
        else:
            initiator.cancel_scope.cancel()
        await wait_all_tasks_blocked()
        for buffer in (whole, part, member):
            assert_free(buffer)
    # The operations are still here, and hold the objects, but no view of them.
    assert all(each.outcome is not None for each in args + results)
    for buffer in (whole, part, member):
        assert_free(buffer)


async def test_the_rest_of_a_message_locks_the_buffer_for_as_long_as_it_is_held() -> None:
    port = ScriptedPort([4, 2])
    socket = Socket.from_port(port)
    buffer = bytearray(bytes_of(9))
    async with open_initiator():
        args = SocketAsyncEventArgs(buffer)
        assert socket.send_async(args)
        assert args.cancel()
        await wait_all_tasks_blocked()
        rest = args.remaining
        assert [bytes(view) for view in rest] == [bytes_of(9)[4:]]
        with pytest.raises(BufferError):
            buffer.append(0)
        for view in rest:
            view.release()
        assert_free(buffer)
        # Sending the rest locks it no longer than each attempt, cut a second time or not.
        assert socket.resume(args)
        assert_free(buffer)
        assert args.cancel()
        await wait_all_tasks_blocked()
        assert args.bytes_transferred == 6
        assert_free(buffer)
        assert await socket.send_rest() == 3
        assert_free(buffer)
    assert port.accepted == bytes_of(9)


async def test_sending_the_rest_of_a_begun_send_holds_no_view_either(
    autojump_clock: MockClock,
) -> None:
    port = ScriptedPort([4, 2, Blocked(10)])
    socket = Socket.from_port(port)
    buffer = bytearray(bytes_of(9))
    async with open_initiator():
        result = socket.begin_send(buffer)
        assert result.cancel()
        await wait_all_tasks_blocked()
        assert_free(buffer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.send_rest)
            await wait_all_tasks_blocked()
            # Pending after two more bytes.
            assert port.accepted == bytes_of(9)[:6]
            assert_free(buffer)
            nursery.cancel_scope.cancel()
        # Cut a second time.
        assert_free(buffer)
        assert socket.torn is not None
        assert await socket.send_rest() == 3
        assert_free(buffer)
    assert port.accepted == bytes_of(9)


# The bytes that are yielded


pieces = st.one_of(
    st.binary(max_size=6),
    st.binary(max_size=6).map(bytearray),
    st.binary(max_size=6).map(lambda content: memoryview(content)),
    st.lists(st.integers(0, 2**16 - 1), max_size=3).map(lambda values: array("H", values)),
    st.just(b""),
)


@given(st.lists(pieces, max_size=12), st.data())
def test_any_list_yields_its_tail_from_any_byte_on(parts: list[Any], data: st.DataObject) -> None:
    content = b"".join(bytes(memoryview(part).cast("B")) if len(part) else b"" for part in parts)
    message = message_from_list("parts", parts)
    assert message.size == len(content)
    start = data.draw(st.integers(0, len(content)), label="start")
    assert tail(message, start) == content[start:]
    assert b"".join(message.remaining(start)) == content[start:]

    # In portions of a few pieces each: every portion is a part of the tail, none is empty, and they make up the whole.
    max_pieces = data.draw(st.integers(1, 4), label="max_pieces")
    walked = b""
    while start + len(walked) < message.size:
        views: list[memoryview] = []
        opened: list[memoryview] = []
        count = message.open(start + len(walked), views, opened, max_pieces)
        assert 0 < len(views) <= max_pieces
        if len(parts) > 1:
            assert all(view.nbytes for view in views)
        portion = b"".join(views)
        release(opened)
        assert count == len(portion) > 0
        walked += portion
    assert walked == content[start:]


@given(st.lists(pieces, max_size=8), st.data())
def test_the_tail_of_a_message_is_a_message(parts: list[Any], data: st.DataObject) -> None:
    content = b"".join(bytes(memoryview(part).cast("B")) if len(part) else b"" for part in parts)
    message = message_from_list("parts", parts)
    cut = data.draw(st.integers(0, len(content)))
    rest = message.tail(cut)
    assert rest.size == len(content) - cut
    start = data.draw(st.integers(0, rest.size))
    assert tail(rest, start) == content[cut + start :]
    for part in parts:
        if isinstance(part, bytearray):
            part.append(0)  # which any view would forbid


@given(pieces, st.data())
def test_any_range_yields_its_tail_from_any_byte_on(buffer: Any, data: st.DataObject) -> None:
    content = bytes(memoryview(buffer).cast("B")) if len(buffer) else b""
    offset = data.draw(st.integers(0, len(content)))
    size = data.draw(st.integers(0, len(content) - offset))
    start = data.draw(st.integers(0, size))
    message = message_from_buffer("buffer", buffer, offset, size)
    assert tail(message, start) == content[offset + start : offset + size]


def test_a_list_of_nothing() -> None:
    assert message_from_list("parts", []).size == 0
    lists: list[list[Any]] = [[], [b""], [b"", bytearray(), b""]]
    for parts in lists:
        message = message_from_list("parts", parts)
        assert tail(message, 0) == b""
        assert message.remaining(0) == []


# Buffers that change while they are being sent


async def test_a_buffer_that_grew_is_sent_as_it_was_measured(autojump_clock: MockClock) -> None:
    port = ScriptedPort([2, Blocked(1)])
    socket = Socket.from_port(port)
    buffer = bytearray(b"abcdef")
    async with open_initiator(ExitPolicy.JOIN):
        args = SocketAsyncEventArgs(buffer)
        assert socket.send_async(args)
        buffer += b"ghi"
    assert args.bytes_transferred == 6
    assert port.accepted == b"abcdef"


def shrink(buffer: Any) -> None:
    del buffer[4:]


SPOILT: dict[str, tuple[Callable[[], Any], Callable[[Any], None], str]] = {
    "shrank": (
        lambda: bytearray(b"abcdef"),
        shrink,
        "the buffer has 4 bytes, but the range ends at 6",
    ),
    "released": (
        lambda: memoryview(bytearray(b"abcdef")),
        memoryview.release,
        "released",
    ),
    "closed": (lambda: an_mmap(b"abcdef"), mmap.mmap.close, "closed"),
}


@pytest.mark.parametrize("how", SPOILT)
async def test_a_buffer_spoilt_after_some_bytes_tears_the_stream(
    how: str, autojump_clock: MockClock
) -> None:
    make, spoil, words = SPOILT[how]
    buffer = make()
    port = ScriptedPort([2, Blocked(1)])
    socket = Socket.from_port(port)
    async with open_initiator():
        args, follower = SocketAsyncEventArgs(buffer), SocketAsyncEventArgs(b"xyz")
        assert socket.send_async(args)
        assert socket.send_async(follower)
        spoil(buffer)
        await follower.wait()
        assert args.socket_error is SocketError.FAULT
        assert args.bytes_transferred == 2
        assert args.outcome is not None
        with pytest.raises(SocketException, match=words) as caught:
            args.outcome.unwrap()
        assert caught.value.bytes_transferred == 2
        assert follower.socket_error is SocketError.CONNECTION_ABORTED
        assert follower.bytes_transferred == 0
        assert socket.torn is not None
        assert socket.torn.operation is args
        with pytest.raises(ValueError, match="the rest of the message is gone"):
            args.remaining  # noqa: B018
    assert port.accepted == b"ab"


@pytest.mark.parametrize("how", SPOILT)
async def test_a_buffer_spoilt_before_its_first_byte_concerns_nobody_else(
    how: str, autojump_clock: MockClock
) -> None:
    make, spoil, words = SPOILT[how]
    first, second = make(), make()
    port = ScriptedPort([Blocked(1)])
    socket = Socket.from_port(port)
    async with open_initiator():
        # At the head, and behind a head that would share its system call with it.
        spoilt = [SocketAsyncEventArgs(first), SocketAsyncEventArgs(second)]
        sound = [SocketAsyncEventArgs(b"123"), SocketAsyncEventArgs(b"456")]
        for each in (spoilt[0], sound[0], spoilt[1], sound[1]):
            assert socket.send_async(each)
        spoil(first)
        spoil(second)
        await sound[1].wait()
        for each in spoilt:
            assert each.socket_error is SocketError.FAULT
            assert each.bytes_transferred == 0
            assert words in str(each.outcome)
        for each in sound:
            assert each.socket_error is SocketError.SUCCESS
        assert socket.torn is None
        # On the spot it is the same error, and nothing reaches the kernel.
        attempts = port.attempts
        assert not socket.send_async(spoilt[0])
        assert spoilt[0].socket_error is SocketError.FAULT
        with pytest.raises(SocketException) as caught:
            await socket.send(spoilt[1])
        assert caught.value.socket_error_code is SocketError.FAULT
        assert port.attempts == attempts
    assert port.accepted == b"123456"


async def test_a_list_with_one_spoilt_member_sends_nothing_of_it(autojump_clock: MockClock) -> None:
    port = SpyPort([Blocked(1)])
    socket = Socket.from_port(port)
    spoilt = bytearray(b"abcdef")
    async with open_initiator(ExitPolicy.JOIN):
        args = [
            SocketAsyncEventArgs(b"12"),
            SocketAsyncEventArgs(buffer_list=[b"34", spoilt]),
            SocketAsyncEventArgs(b"56"),
        ]
        for each in args:
            assert socket.send_async(each)
        shrink(spoilt)
    assert [each.socket_error.name for each in args] == ["SUCCESS", "FAULT", "SUCCESS"]
    assert [each.bytes_transferred for each in args] == [2, 0, 2]
    assert port.accepted == b"1256"
    assert_free(spoilt)


def test_a_look_behind_what_has_gone_needs_none_of_that() -> None:
    """A buffer that has been sent may be made shorter."""
    gone = bytearray(b"gone")
    message = Message((Piece(gone, 0, 4), Piece(bytearray(b"here"), 0, 4)))
    gone.clear()
    assert message.peek(4, 3) == b"her"
    assert message.peek(2, 3) == b""
