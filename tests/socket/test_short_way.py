"""The short way of a start: what goes it, and that it tells and does the same as the long one.

The first start on a socket goes the long way, later ones the short way if they can. Some tests press what may come in
between, such as a signal handler, into the one place where it could do harm: behind the beginning of the step, and in
front of the system call.

Modules: _socket.event_args_operation.
"""

from __future__ import annotations

import array
import contextvars
import gc
import inspect
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from types import CodeType, FrameType
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_send
from tests.accelerator import go_in_python
from tests.helpers import connected, in_flight, nothing_to_read, read_exactly
from tests.scripted import SpyPort
from trio_send import (
    BufferManager,
    ExitPolicy,
    InvalidOperationError,
    ObjectDisposedError,
    OperationInProgressError,
    Socket,
    SocketAsyncEventArgs,
    SocketAsyncOperation,
    SocketError,
    SocketException,
    SocketFlags,
    open_initiator,
)
from trio_send._messages.buffers import JOIN_PIECE_SIZE, MAX_PIECES, message_of
from trio_send._operations.queue import OperationQueue
from trio_send._operations.send_calls import SendCalls
from trio_send._socket.event_args_operation import EventArgsOperation, short_parts
from trio_send._socket.starts import prepare
from trio_send.testing import Blocked

MESSAGE = b"0123456789"


class Bytes(bytearray):
    """Bytes of a class of one's own."""


@attrs.frozen
class Form:
    """A message as a range of a buffer.

    Attributes:
      block: what can be resized, if the buffer locks nothing.
      buffer: what is passed.
      offset: where the message begins.
      size: how long it is; None if it is all of the buffer.
    """

    block: Any
    buffer: Any
    offset: int = 0
    size: int | None = None


def bytearray_form(data: bytes) -> Form:
    block = bytearray(data)
    return Form(block, block)


def range_form(data: bytes) -> Form:
    block = bytearray(b"<<<" + data + b">>")
    return Form(block, block, 3, len(data))


#: What goes the short way.
SHORT: dict[str, Callable[[bytes], Form]] = {
    "bytes": lambda data: Form(None, data),
    "bytearray": bytearray_form,
    "view": lambda data: Form(None, memoryview(bytearray(data))),
    "read-only view": lambda data: Form(None, memoryview(data)),
    "slice of a view": lambda data: Form(None, memoryview(bytearray(b"<" + data))[1:]),
    "range of bytes": lambda data: Form(None, b"<<<" + data + b">>", 3, len(data)),
    "range of a bytearray": range_form,
    "range of a view": lambda data: Form(
        None, memoryview(bytearray(b"<<<" + data + b">>")), 3, len(data)
    ),
}

#: What goes it too, but is viewed first: code of the program could run, or a port would not know what it is.
VIEWED: dict[str, Callable[[bytes], Form]] = {
    "of one's own class": lambda data: Form(None, Bytes(data)),
    "array": lambda data: Form(None, array.array("B", data)),
    "view of wide items": lambda data: Form(None, memoryview(array.array("H", data))),
    "view of two dimensions": lambda data: Form(None, memoryview(data).cast("B", (2, 5))),
    "range of wide items": lambda data: Form(
        None, memoryview(array.array("H", b"<<" + data + b">>")), 2, len(data)
    ),
}

FORMS = SHORT | VIEWED
#: The forms that can be resized while a send waits.
RESIZABLE = ("bytearray", "range of a bytearray")

STARTS = ("send_async", "begin_send", "try_begin_send")
FACES = (*STARTS, "send", "send args")

every_face = pytest.mark.parametrize("face", FACES)
every_form = pytest.mark.parametrize("form", FORMS)
first_and_later = pytest.mark.parametrize("later", [False, True], ids=["first", "later"])


async def send_through(face: str, socket: Socket, form: Form) -> tuple[int, SocketError]:
    """Send a message through a face; return its count, and how it ended."""
    if face == "send" and form.size is None:
        try:
            return await socket.send(form.buffer), SocketError.SUCCESS
        except SocketException as error:
            return error.bytes_transferred or 0, error.socket_error_code
    if face == "begin_send":
        try:
            result = socket.begin_send(form.buffer, form.offset, form.size)
        except SocketException as error:
            return error.bytes_transferred or 0, error.socket_error_code
        assert result.is_completed is not in_flight(result)
        return await socket.try_end_send(result)
    if face == "try_begin_send":
        begun, error_code = socket.try_begin_send(form.buffer, form.offset, form.size)
        if begun is None:
            return 0, error_code
        return await socket.try_end_send(begun)
    args = SocketAsyncEventArgs(form.buffer, form.offset, form.size)
    if face == "send_async":
        if socket.send_async(args):
            await args.wait()
    else:
        with suppress(SocketException):  # which args tell too
            assert await socket.send(args) == args.bytes_transferred
    return args.bytes_transferred, args.socket_error


@contextmanager
def on(port: SpyPort) -> Iterator[Socket]:
    with closing(Socket.from_port(port)) as socket:
        yield socket


async def warm_up(socket: Socket) -> None:
    """Go the long way once with an initiator, and once without."""
    assert socket.send_async(SocketAsyncEventArgs(b"warm")) is False
    await socket.send(b"warm")


# What goes it ---------------------------------------------------------------------------------


@every_form
@every_face
async def test_all_starts_send_the_same(face: str, form: str) -> None:
    with connected("unix", tiny=False) as (socket, peer):
        async with open_initiator():
            for _ in range(4):
                sent = await send_through(face, socket, FORMS[form](MESSAGE))
                assert sent == (len(MESSAGE), SocketError.SUCCESS)
        assert await read_exactly(peer, 4 * len(MESSAGE)) == 4 * MESSAGE
        assert nothing_to_read(peer)
        assert socket.statistics().bytes_accepted == 4 * len(MESSAGE)


@pytest.mark.parametrize(
    ("face", "form"),
    [
        (face, form)
        for face in (*STARTS, "send")
        for form in FORMS
        if face != "send" or "range" not in form  # of which it takes none but by args
    ],
)
async def test_what_may_go_the_short_way_goes_it(
    face: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with on(SpyPort()) as socket:
        async with open_initiator():
            await warm_up(socket)
            for name in ("start", "go_on", "join"):
                monkeypatch.setattr(OperationQueue, name, None)
            sent = await send_through(face, socket, FORMS[form](MESSAGE))
            assert sent == (len(MESSAGE), SocketError.SUCCESS)


@pytest.mark.parametrize("form", ["bytes", "range of a bytearray"])
@pytest.mark.parametrize("face", STARTS)
async def test_it_stays_open_when_starts_in_the_middle_spend_what_may_go_it(
    face: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the next look at the stack so many may go it, and the one that is under way finds none left to count."""
    port = SpyPort()
    with on(port) as socket, on(SpyPort()) as other:
        async with open_initiator() as initiator:
            owner = initiator._owner
            await warm_up(socket)
            await warm_up(other)

            def spend(_: object) -> None:
                port.on_call = None
                while owner.budget > 0:
                    other.begin_send(b"x")

            port.on_call = spend
            sent = await send_through(face, socket, FORMS[form](MESSAGE))
            assert sent == (len(MESSAGE), SocketError.SUCCESS)
            assert port.on_call is None
            for name in ("start", "go_on", "join"):
                monkeypatch.setattr(OperationQueue, name, None)
            sent = await send_through(face, socket, FORMS[form](MESSAGE))
            assert sent == (len(MESSAGE), SocketError.SUCCESS)


@pytest.mark.parametrize("form", ["bytes", "range"])
async def test_a_drain_of_bytes_that_wait_alone_goes_it(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = SpyPort([4, Blocked()])
    with on(port) as socket:
        async with open_initiator():
            args = SocketAsyncEventArgs(MESSAGE)
            if form == "range":
                args.set_buffer(b"<" + MESSAGE + b">", 1, len(MESSAGE))
            assert socket.send_async(args) is True
            await wait_all_tasks_blocked()
            monkeypatch.setattr(OperationQueue, "drain", None)
            port.inner.unblock()
            assert await args.wait() == len(MESSAGE)
    assert port.accepted == MESSAGE


@every_form
async def test_args_go_it_on_a_fresh_socket_too(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = FORMS[form](MESSAGE)
    with on(SpyPort()) as socket:
        async with open_initiator():
            for name in ("start", "go_on", "join"):
                monkeypatch.setattr(OperationQueue, name, None)
            args = SocketAsyncEventArgs(made.buffer, made.offset, made.size)
            assert socket.send_async(args) is False
            assert args.bytes_transferred == len(MESSAGE)


@pytest.mark.parametrize("face", ["begin_send", "try_begin_send"])
@every_form
async def test_a_first_begin_goes_it_too(
    face: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with on(SpyPort()) as socket:
        async with open_initiator():
            for name in ("start", "go_on", "join"):
                monkeypatch.setattr(OperationQueue, name, None)
            sent = await send_through(face, socket, FORMS[form](MESSAGE))
            assert sent == (len(MESSAGE), SocketError.SUCCESS)


@pytest.mark.parametrize("face", STARTS)
async def test_what_is_started_where_another_has_taken_over_is_sent(face: str) -> None:
    """The initiator that is found is another one than the current one, each time."""
    port = SpyPort()
    with on(port) as socket:
        async with open_initiator() as adopter:
            async with open_initiator(ExitPolicy.ADOPT):
                context = contextvars.copy_context()
            for number in range(1, 4):
                if face == "send_async":
                    args = SocketAsyncEventArgs(MESSAGE)
                    assert context.run(socket.send_async, args) is False
                    assert args.bytes_transferred == len(MESSAGE)
                else:
                    begun = context.run(getattr(socket, face), MESSAGE)
                    result = begun if face == "begin_send" else begun[0]
                    assert socket.end_send_nowait(result) == len(MESSAGE)
                assert adopter.statistics().started == number
    assert port.offers == [MESSAGE] * 3


@every_form
async def test_closed_args_do_not_go_it(form: str) -> None:
    made = FORMS[form](MESSAGE)
    port = SpyPort()
    with on(port) as socket:
        async with open_initiator():
            await warm_up(socket)
            args = SocketAsyncEventArgs(made.buffer, made.offset, made.size)
            args.close()
            with pytest.raises(ObjectDisposedError):
                socket.send_async(args)
            with pytest.raises(ObjectDisposedError):
                args.set_buffer(made.buffer)
    assert port.offers == [b"warm", b"warm"]


#: Lists of pieces of a message, or of more.
LISTS: dict[str, Callable[[bytes], list[Any]]] = {
    "joined once": lambda data: [data[:4], data[4:]],
    "joined": lambda data: [data[:4], bytearray(data[4:])],
    "gathered": lambda data: [bytearray(data * 7_000), memoryview(data), b"", data],
    "of one": lambda data: [bytearray(data)],
    "of nothing": lambda data: [b"", bytearray()],
    "as many as there may be": lambda data: [data[:1], *[bytearray(data[:1])] * (MAX_PIECES - 1)],
}
every_list = pytest.mark.parametrize("form", LISTS)


async def send_list(face: str, socket: Socket, pieces: list[Any]) -> tuple[int, SocketError]:
    """Send a list through a face; return its count, and how it ended."""
    if face != "send_async":
        return await send_through(face, socket, Form(None, pieces))
    args = SocketAsyncEventArgs()
    args.buffer_list = pieces
    if socket.send_async(args):
        await args.wait()
    return args.bytes_transferred, args.socket_error


@every_list
@pytest.mark.parametrize("face", [*STARTS, "send"])
@first_and_later
async def test_lists_go_it(
    face: str, form: str, later: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = LISTS[form](MESSAGE)
    whole = b"".join(pieces)
    port = SpyPort()
    with on(port) as socket:
        async with open_initiator():
            if later:
                await warm_up(socket)
            before = len(port.offers)
            for name in ("start", "go_on", "join"):
                monkeypatch.setattr(OperationQueue, name, None)
            sent = await send_list(face, socket, pieces)
            assert sent == (len(whole), SocketError.SUCCESS)
            for piece in pieces:
                if type(piece) is bytearray:
                    piece.clear()  # nothing holds it
    assert port.offers[before:] == [whole]


@pytest.mark.parametrize("face", [*STARTS, "send"])
@first_and_later
async def test_more_than_one_call_takes_do_not_go_it(
    face: str, later: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []
    monkeypatch.setattr(SendCalls, "send_message", lambda *args: taken.append(args))
    with on(SpyPort()) as socket:
        async with open_initiator():
            if later:
                await warm_up(socket)
            sent = await send_list(face, socket, [bytearray(b"x")] * (MAX_PIECES + 1))
            assert sent == (MAX_PIECES + 1, SocketError.SUCCESS)
    assert taken == []


@every_list
@pytest.mark.parametrize("face", [*STARTS, "send"])
async def test_a_list_that_is_taken_in_part_goes_on_from_there(
    face: str, form: str, autojump_clock: MockClock
) -> None:
    pieces = LISTS[form](MESSAGE)
    whole = b"".join(pieces)
    part = len(whole) // 3
    port = SpyPort([4, 4, part, Blocked(1)])
    with on(port) as socket:
        async with open_initiator():
            await warm_up(socket)
            sent = await send_list(face, socket, pieces)
            assert sent == (len(whole), SocketError.SUCCESS)
            assert socket.statistics().bytes_accepted == len(port.accepted)
    assert port.accepted == 2 * b"warm" + whole


@pytest.mark.parametrize("form", [*RESIZABLE, "pool"])
@pytest.mark.parametrize("face", STARTS)
@first_and_later
async def test_a_buffer_is_free_when_the_start_has_returned(
    face: str, form: str, later: bool
) -> None:
    with connected("unix", tiny=False) as (socket, peer):
        async with open_initiator():
            if later:
                await warm_up(socket)
                await read_exactly(peer, 8)
            if form == "pool":
                manager, holder = BufferManager(100, 10), SocketAsyncEventArgs()
                assert manager.set_buffer(holder)
                block: Any = holder.buffer
                made = Form(block, block, holder.offset, holder.count)
                block[made.offset : made.offset + 10] = MESSAGE
            else:
                made = FORMS[form](MESSAGE)
            begun: Any = None
            if face == "send_async":
                assert socket.send_async(SocketAsyncEventArgs(*attrs.astuple(made)[1:])) is False
            else:
                begun = getattr(socket, face)(made.buffer, made.offset, made.size)
            made.block.extend(b"a bytearray that is exported could not grow")
            made.block.clear()
            del begun
        assert await read_exactly(peer, len(MESSAGE)) == MESSAGE


async def test_loops_over_starts_of_mutable_buffers_yield() -> None:
    """One in many is answered as pending although it has ended."""
    with on(SpyPort()) as socket:
        async with open_initiator():
            await warm_up(socket)
            args = SocketAsyncEventArgs(bytearray(b"x"))
            assert any(socket.send_async(args) for _ in range(2000))
            await args.wait()
            results = [socket.begin_send(bytearray(b"x")) for _ in range(2000)]
            assert not all(result.completed_synchronously for result in results)
            results = [socket.begin_send(bytearray(b"xy"), 1, 1) for _ in range(2000)]
            assert not all(result.completed_synchronously for result in results)
            await socket.end_send(results[-1])


@pytest.mark.parametrize("form", SHORT)
async def test_the_flags_of_args_are_those_of_their_latest_setting(form: str) -> None:
    made = SHORT[form](MESSAGE)
    port = SpyPort()
    with on(port) as socket:
        async with open_initiator():
            await warm_up(socket)
            args = SocketAsyncEventArgs(made.buffer, made.offset, made.size)
            plain = port.calls[-1].flags
            args.socket_flags = SocketFlags.DONT_ROUTE
            assert socket.send_async(args) is False
            args.set_buffer(made.buffer, made.offset, made.size)
            assert socket.send_async(args) is False
            args.socket_flags = SocketFlags.NONE
            assert socket.send_async(args) is False
    routed, again, at_last = (call.flags for call in port.calls[2:])
    assert routed == again != plain
    assert at_last == plain
    assert port.offers[2:] == [MESSAGE] * 3


async def test_a_result_that_was_complete_at_once_stays_so() -> None:
    with on(SpyPort()) as socket:
        async with open_initiator():
            await warm_up(socket)
            result = socket.begin_send(bytearray(MESSAGE))
            assert result.is_completed is True
            with pytest.raises(AttributeError):
                result.is_completed = False  # type: ignore[misc]
            assert socket.end_send_nowait(result) == len(MESSAGE)
            assert result.is_completed is True


# What does not go well ------------------------------------------------------------------------


@every_form
@every_face
@first_and_later
async def test_what_is_taken_in_part_goes_on_from_there(face: str, form: str, later: bool) -> None:
    """Also if the buffer has grown meanwhile: what was to be sent is sent, and nothing else."""
    port = SpyPort()
    with on(port) as socket:
        async with open_initiator():
            if later:
                await warm_up(socket)
            port.inner.add(4, Blocked(), 5, Blocked(0))
            made = FORMS[form](MESSAGE)
            before = port.accepted
            told: list[tuple[int, SocketError]] = []

            async def send() -> None:
                told.append(await send_through(face, socket, made))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                await wait_all_tasks_blocked()
                assert port.accepted == before + MESSAGE[:4]
                if form in RESIZABLE:
                    made.block.extend(b"beyond")
                port.inner.unblock()
            assert told == [(len(MESSAGE), SocketError.SUCCESS)]
    assert port.accepted == before + MESSAGE


@every_form
@every_face
@first_and_later
async def test_what_cannot_be_taken_waits(face: str, form: str, later: bool) -> None:
    port = SpyPort()
    with on(port) as socket:
        async with open_initiator():
            if later:
                await warm_up(socket)
            port.inner.add(Blocked(0))
            before = port.accepted
            sent = await send_through(face, socket, FORMS[form](MESSAGE))
            assert sent == (len(MESSAGE), SocketError.SUCCESS)
    assert port.accepted == before + MESSAGE


@every_form
@every_face
@first_and_later
async def test_the_kernel_is_asked_once_how_a_connection_has_ended(
    face: str, form: str, later: bool
) -> None:
    """It tells a reset once; a second call would get EPIPE."""
    port = SpyPort()
    with on(port) as socket:
        async with open_initiator():
            if later:
                await warm_up(socket)
            port.inner.add("ECONNRESET", "EPIPE")
            calls = len(port.calls)
            for _ in range(2):
                sent = await send_through(face, socket, FORMS[form](MESSAGE))
                assert sent == (0, SocketError.CONNECTION_RESET)
    assert len(port.calls) == calls + 1


@pytest.mark.parametrize("form", SHORT)
@every_face
async def test_a_failure_leaves_no_cycle(face: str, form: str) -> None:
    """Of an error, its traceback, and the frame that caught it."""
    port = SpyPort()
    socket = Socket.from_port(port)
    async with open_initiator():
        await warm_up(socket)
        port.inner.add("ECONNRESET")
        gc.collect()
        gc.disable()
        try:
            sent = await send_through(face, socket, SHORT[form](MESSAGE))
            assert sent == (0, SocketError.CONNECTION_RESET)
            socket.close()
            alive = weakref.ref(socket)
            del socket
            await wait_all_tasks_blocked()
            assert alive() is None
        finally:
            gc.enable()


@pytest.mark.parametrize("thing", ["nothing", "bytes", "ended result", "result"])
@first_and_later
async def test_what_is_no_args_is_refused(thing: str, later: bool) -> None:
    port = SpyPort()
    with on(port) as socket, on(SpyPort()) as other:
        async with open_initiator():
            wrong: Any = {
                "nothing": None,
                "bytes": MESSAGE,
                "ended result": other.begin_send(MESSAGE),
                "result": other.begin_send(MESSAGE, callback=lambda ar: None),
            }[thing]
            if later:
                await warm_up(socket)
            calls = len(port.calls)
            with pytest.raises(TypeError, match="args must be a SocketAsyncEventArgs, not"):
                socket.send_async(wrong)
            assert len(port.calls) == calls


async def test_what_is_wrong_about_args_comes_before_what_is_wrong_about_the_place() -> None:
    """As on the longer way: no initiator is open, but that would not help these."""
    with on(SpyPort([Blocked()])) as blocked, on(SpyPort()) as socket:
        in_use = SocketAsyncEventArgs(MESSAGE)
        async with open_initiator():
            assert blocked.send_async(in_use) is True
            await warm_up(socket)
            outside = contextvars.Context()
            with pytest.raises(OperationInProgressError):
                outside.run(socket.send_async, in_use)
            with pytest.raises(ValueError, match="args has nothing to send"):
                outside.run(socket.send_async, SocketAsyncEventArgs())
            with pytest.raises(InvalidOperationError, match="no initiator is open"):
                outside.run(socket.send_async, SocketAsyncEventArgs(MESSAGE))


class Odd(Exception):
    """No error of a socket."""


async def test_what_is_no_error_of_a_socket_locks_no_member_of_a_list() -> None:
    """Even while it is being looked at, with the frames that it came through."""

    def be_odd(_: object) -> None:
        raise Odd

    port = SpyPort()
    with on(port) as socket:
        async with open_initiator():
            await warm_up(socket)
            port.on_call = be_odd
            members = [bytearray(100_000), bytearray(100_000)]
            with pytest.raises(Odd) as raised:
                socket.begin_send(members)
            assert raised.tb is not None
            for member in members:
                member.append(0)  # which a view of it would forbid


@every_form
@every_face
@first_and_later
async def test_what_is_no_error_of_a_socket_leaves_the_start_and_leaves_nothing(
    face: str, form: str, later: bool
) -> None:
    is_odd = False

    def be_odd(_: object) -> None:
        nonlocal is_odd
        if is_odd:
            is_odd = False
            raise Odd

    port = SpyPort(on_call=be_odd)
    with on(port) as socket:
        async with open_initiator():
            if later:
                await warm_up(socket)
            made = FORMS[form](MESSAGE)
            is_odd = True
            with pytest.raises(Odd):
                await send_through(face, socket, made)
            assert socket.queued_operations == 0
            if form in RESIZABLE:
                made.block.clear()
            sent = await send_through(face, socket, FORMS[form](MESSAGE))
            assert sent == (len(MESSAGE), SocketError.SUCCESS)


@pytest.mark.parametrize("face", ["send_async", "send args"])
@pytest.mark.parametrize(
    ("length", "offset", "size", "after", "sent"),
    [
        pytest.param(10, 0, 10, 9, None, id="the whole shrank"),
        pytest.param(10, 0, 10, 12, MESSAGE, id="the whole grew"),
        pytest.param(10, 2, 5, 6, None, id="a range has lost its end"),
        pytest.param(10, 2, 5, 7, b"23456", id="a range is there still"),
        pytest.param(10, 2, 5, 50, b"23456", id="the block of a range grew"),
        pytest.param(10, 5, 5, 5, None, id="as long as the range that is gone"),
        pytest.param(10, 8, 0, 8, b"", id="an empty range is there still"),
        pytest.param(10, 8, 0, 7, None, id="an empty range is gone"),
        pytest.param(10, 8, 0, 0, None, id="an empty range of nothing"),
    ],
)
@first_and_later
async def test_a_bytearray_that_was_resized_before_the_start(
    face: str, length: int, offset: int, size: int, after: int, sent: bytes | None, later: bool
) -> None:
    port = SpyPort()
    with on(port) as socket:
        async with open_initiator():
            if later:
                await warm_up(socket)
            calls = len(port.calls)
            block = bytearray(MESSAGE[:length])
            args = SocketAsyncEventArgs(block, offset, size)
            block[:] = (MESSAGE + b"!" * 40)[:after]
            if face == "send_async":
                assert socket.send_async(args) is False
            elif sent is None:
                with pytest.raises(SocketException, match="but the range ends at"):
                    await socket.send(args)
            else:
                await socket.send(args)
            if sent is None:
                assert (args.socket_error, args.bytes_transferred) == (SocketError.FAULT, 0)
                assert f"but the range ends at {offset + size}" in str(args._operation.make_error())
                assert len(port.calls) == calls
            else:
                assert (args.socket_error, args.bytes_transferred) == (SocketError.SUCCESS, size)
                assert port.offers[calls:] == [sent]
            assert socket.torn is None
            block.clear()
            assert await socket.send(b"after") == 5


@first_and_later
@pytest.mark.parametrize("size", [None, 5])
async def test_a_view_that_was_released(size: int | None, later: bool) -> None:
    with on(SpyPort()) as socket:
        async with open_initiator():
            if later:
                await warm_up(socket)
            view = memoryview(MESSAGE)
            args = SocketAsyncEventArgs(view, 0, size)
            view.release()
            assert socket.send_async(args) is False
            assert (args.socket_error, args.bytes_transferred) == (SocketError.FAULT, 0)
            assert "cannot be read any more" in str(args._operation.make_error())
            for begin in (socket.begin_send, socket.try_begin_send):
                with pytest.raises(ValueError, match="buffer_or_list cannot be read"):
                    begin(view, 0, size)
            with pytest.raises(ValueError, match="data cannot be read"):
                await socket.send(view)
            assert socket.queued_operations == 0


@pytest.mark.parametrize("form", ["bytes", "bytearray", "view"])
@pytest.mark.parametrize("face", ["begin_send", "try_begin_send"])
@pytest.mark.parametrize(
    ("offset", "size"),
    [
        (-1, None),
        (11, None),
        (1.0, None),
        ("0", None),
        (None, 1),
        (0, -1),
        (0, 11),
        (3, 8),
        (0, "1"),
        (0, 1.0),
    ],
)
async def test_ranges_are_refused_in_the_same_words(
    face: str, form: str, offset: Any, size: Any
) -> None:
    refusals = []
    port = SpyPort()
    with on(port) as socket:
        async with open_initiator():
            for later in (False, True):
                if later:
                    await warm_up(socket)
                calls = len(port.calls)
                with pytest.raises((TypeError, ValueError)) as caught:
                    getattr(socket, face)(SHORT[form](MESSAGE).buffer, offset, size)
                refusals.append((caught.type, str(caught.value)))
                assert len(port.calls) == calls
    assert refusals[0] == refusals[1]


@pytest.mark.parametrize("face", ["begin_send", "try_begin_send"])
async def test_what_only_equals_no_offset_is_refused_by_later_starts_too(face: str) -> None:
    with on(SpyPort()) as socket:
        async with open_initiator():
            for _ in range(2):
                with pytest.raises(TypeError, match="offset must be"):
                    getattr(socket, face)(bytearray(MESSAGE), 0.0)
                await warm_up(socket)


async def test_views_with_gaps_are_refused_by_later_starts_too() -> None:
    gaps = memoryview(bytearray(MESSAGE))[::2]
    with on(SpyPort()) as socket:
        async with open_initiator():
            await warm_up(socket)
            for begin in (socket.begin_send, socket.try_begin_send):
                with pytest.raises(TypeError, match="must be contiguous"):
                    begin(gaps)
            with pytest.raises(TypeError, match="must be contiguous"):
                await socket.send(gaps)


# What it leaves as it is ----------------------------------------------------------------------


async def test_results_of_a_send_are_right_whatever_came_before_it() -> None:
    """They are set where they change, and most of the time that is the count alone, or nothing."""
    args = SocketAsyncEventArgs(MESSAGE)

    def results() -> tuple[Any, ...]:
        left = b"".join(map(bytes, args.remaining))
        return args.socket_error, args.bytes_transferred, args.last_operation, left

    sent = (SocketError.SUCCESS, len(MESSAGE), SocketAsyncOperation.SEND, b"")
    port = SpyPort()
    with on(port) as socket, on(SpyPort()) as broken:
        async with open_initiator():
            await warm_up(socket)
            await warm_up(broken)
            for _ in range(3):
                assert socket.send_async(args) is False
                assert results() == sent
            broken.close()
            args.set_buffer(MESSAGE)
            assert args.remaining == [MESSAGE]
            assert socket.send_async(args) is False
            assert results() == sent
            port.inner.add("ECONNRESET")
            assert socket.send_async(args) is False
            assert args.socket_error is SocketError.CONNECTION_RESET
    with on(SpyPort()) as socket:
        async with open_initiator():
            await warm_up(socket)
            assert socket.send_async(args) is False
            assert results() == sent
            with trio.CancelScope() as scope:
                scope.cancel()
                await socket.send(args)
            assert args.socket_error is SocketError.OPERATION_ABORTED
            assert socket.send_async(args) is False
            assert results() == sent
    left, right = trio_send.socketpair()
    async with left, right, open_initiator():
        await right.send(b"x")
        room = bytearray(1)
        args = SocketAsyncEventArgs(room)
        for _ in range(2):
            assert right.send_async(args) is False
        assert left.receive_async(args) is False
        assert (args.last_operation, room) == (SocketAsyncOperation.RECEIVE, b"x")
        assert right.send_async(args) is False
        assert args.last_operation is SocketAsyncOperation.SEND


@pytest.mark.parametrize(("form", "kind"), [("bytes", ValueError), ("view", RuntimeError)])
async def test_what_a_port_raises_is_not_taken_for_a_view_that_was_released(
    form: str, kind: type[Exception]
) -> None:
    port = SpyPort(on_call=lambda _: None)
    with on(port) as socket:
        async with open_initiator():
            await warm_up(socket)
            args = SocketAsyncEventArgs(FORMS[form](MESSAGE).buffer)

            def fail(_: object) -> None:
                raise kind("of the port's")

            port.on_call = fail
            with pytest.raises(kind, match="of the port's"):
                socket.send_async(args)
            port.on_call = lambda _: None
            assert socket.send_async(args) is False
            assert args.socket_error is SocketError.SUCCESS


# What runs in the middle ----------------------------------------------------------------------


#: Where something is to happen: a profiler is called there.
Place = Callable[[FrameType, str, object], bool]


def beginning_of(code: CodeType) -> Place:
    """Where a function of the library begins."""
    return lambda frame, event, _: event == "call" and frame.f_code is code


def measuring_in(code: CodeType) -> Place:
    """Where a function of the library asks for a length."""
    return lambda frame, event, what: event == "c_call" and what is len and frame.f_code is code


@contextmanager
def in_the_middle(action: Callable[[], object], place: Place) -> Iterator[None]:
    """Do something once, as a signal handler would, at some place in the library."""
    done = False

    def look(frame: FrameType, event: str, what: object) -> None:
        nonlocal done
        if not done and place(frame, event, what):
            done = True
            sys.setprofile(None)
            action()

    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(None)
    assert done


MUTABLE = ("bytearray", "range of a bytearray", "view", "range of a view")

#: What `send_async` hands over as it stands, so that there is no middle.
AT_ONCE = [("send_async", "view")]


def middle_of(face: str, form: str) -> Place:
    """Where the step has begun, and what may change was not looked at, in a start of the short way."""
    if (face, form) == ("send_async", "bytearray"):
        return measuring_in(inspect.unwrap(Socket.send_async).__code__)
    call = SendCalls.send_message if form in VIEWED else SendCalls.send_range
    return beginning_of(call.__code__)


every_start = pytest.mark.parametrize("face", STARTS)

#: Faces with the forms of a buffer that go the short way through them; an awaited send takes no range.
SHORTEST = {
    kind: [
        ("send", kind),
        *(
            (face, form)
            for face in STARTS
            for form in (kind, f"range of a {kind}")
            if (face, form) not in AT_ONCE
        ),
    ]
    for kind in ("bytearray", "view")
}

every_middle = pytest.mark.parametrize(
    ("face", "form"),
    [
        (face, form)
        for face in STARTS
        for form in (*MUTABLE, *VIEWED)
        if (face, form) not in AT_ONCE
    ],
)


@pytest.mark.parametrize(("face", "form"), AT_ONCE)
async def test_what_has_no_middle_is_sent_without_a_call(face: str, form: str) -> None:
    port = SpyPort()
    called: list[Any] = []
    with on(port) as socket:
        async with open_initiator():
            await warm_up(socket)
            args = SocketAsyncEventArgs(FORMS[form](MESSAGE).buffer)
            code = inspect.unwrap(Socket.send_async).__code__

            def look(frame: FrameType, event: str, what: object) -> None:
                if event == "c_call" and frame.f_code is code:
                    called.append(what)
                elif event == "call" and frame.f_back is not None and frame.f_back.f_code is code:
                    called.append(frame.f_code.co_name)

            gc.disable()  # what it finalises would run in the middle
            sys.setprofile(look)
            try:
                assert socket.send_async(args) is False
            finally:
                sys.setprofile(None)
                gc.enable()
    assert [getattr(each, "__name__", each) for each in called] == ["get", "get_ident", "send"]
    assert port.offers[-1] == MESSAGE


@pytest.mark.parametrize("form", [form for form in (*MUTABLE, *VIEWED) if form != "view"])
async def test_a_stop_in_the_middle_forbids_the_call(form: str) -> None:
    made = FORMS[form](MESSAGE)
    port = SpyPort()
    with on(port) as socket:
        async with open_initiator():
            await warm_up(socket)
            calls = len(port.calls)
            args = SocketAsyncEventArgs(made.buffer, made.offset, made.size)
            answers: list[bool] = []

            def stop() -> None:
                answers.append(args.cancel("in the middle"))
                answers.append(args.cancel("once more"))

            with in_the_middle(stop, middle_of("send_async", form)):
                assert socket.send_async(args) is True
            assert answers == [True, True]
            await args.wait()
            assert (args.socket_error, args.bytes_transferred) == (
                SocketError.OPERATION_ABORTED,
                0,
            )
            assert "in the middle" in str(args._operation.make_error())
            assert len(port.calls) == calls
            assert socket.torn is None
            assert socket.send_async(args) is False
    assert port.offers[calls:] == [MESSAGE]


@pytest.mark.parametrize(
    ("face", "form"),
    [
        (face, form)
        for face in ("begin_send", "try_begin_send", "send")
        for form in (*VIEWED, "list")
        # An awaited send takes no range.
        if (face, form) != ("send", "range of wide items")
    ],
)
async def test_a_start_in_the_middle_of_the_checks_goes_first(face: str, form: str) -> None:
    """While what is to be sent is looked at, which may run code of the program."""
    made = Form(None, [bytearray(MESSAGE)]) if form == "list" else VIEWED[form](MESSAGE)
    port = SpyPort()
    with on(port) as socket:
        async with open_initiator():
            await warm_up(socket)
            calls = len(port.calls)
            port.inner.add(Blocked())
            other = SocketAsyncEventArgs(b"other")

            def start_other() -> None:
                assert socket.send_async(other) is True
                port.inner.unblock()

            with in_the_middle(start_other, beginning_of(message_of.__code__)):
                sent = await send_through(face, socket, made)
            assert sent == (len(MESSAGE), SocketError.SUCCESS)
            assert await other.wait() == 5
    assert port.offers[calls] == b"other"
    assert port.accepted.endswith(b"other" + MESSAGE)


async def test_a_cut_in_the_middle_of_a_start_behind_others_refuses_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By what strikes when nothing was found in the way but those in front."""
    go_in_python(monkeypatch)
    port = SpyPort()
    with on(port) as socket:
        async with open_initiator():
            await warm_up(socket)
            port.inner.add(3, Blocked(0))
            head, args = SocketAsyncEventArgs(MESSAGE), SocketAsyncEventArgs(MESSAGE)
            assert socket.send_async(head) is True
            with in_the_middle(head.cancel, beginning_of(prepare.__code__)):
                assert socket.send_async(args) is False
            assert not args.pending
            assert (args.socket_error, args.bytes_transferred) == (
                SocketError.CONNECTION_ABORTED,
                0,
            )
            socket.forget_torn()
            assert await socket.send(args) == len(MESSAGE)


class StoppingPort(SpyPort):
    """A port that does something once while its method is fetched, as a finaliser would that strikes there.

    Attributes:
      action: what.
    """

    action: Callable[[], object] | None = None

    @property
    def send(self) -> Callable[[Any, int], int]:  # type: ignore[override]
        action, self.action = self.action, None
        if action is not None:
            action()
        return partial(SpyPort.send, self)


@pytest.mark.parametrize("form", ["bytes", "bytearray"])
@pytest.mark.parametrize("how", ["cancel", "close"])
async def test_a_stop_in_front_of_the_call_of_a_drain_forbids_it(
    how: str, form: str, autojump_clock: Any
) -> None:
    made = SHORT[form](MESSAGE)
    port = StoppingPort([4, Blocked(1)])
    with on(port) as socket:
        async with open_initiator():
            args = SocketAsyncEventArgs(made.buffer)
            assert socket.send_async(args) is True
            await wait_all_tasks_blocked()
            calls = len(port.calls)
            port.action = args.cancel if how == "cancel" else socket.close
            await args.wait()
            assert port.action is None
            assert (args.socket_error, args.bytes_transferred) == (
                SocketError.OPERATION_ABORTED,
                4,
            )
    assert len(port.calls) == calls


@every_middle
async def test_a_close_in_the_middle_forbids_the_call(face: str, form: str) -> None:
    port = SpyPort()
    with on(port) as socket:
        async with open_initiator():
            await warm_up(socket)
            calls = len(port.calls)
            with in_the_middle(socket.close, middle_of(face, form)):
                sent = await send_through(face, socket, FORMS[form](MESSAGE))
            assert sent == (0, SocketError.OPERATION_ABORTED)
    assert len(port.calls) == calls


@pytest.mark.parametrize(("face", "form"), [*SHORTEST["bytearray"], *SHORTEST["view"]])
@pytest.mark.parametrize("kind", ["bytes", "mutable"])
async def test_a_start_in_the_middle_waits_behind(face: str, form: str, kind: str) -> None:
    port = SpyPort()
    with on(port) as socket:
        async with open_initiator() as initiator:
            await warm_up(socket)
            calls = len(port.calls)
            started = initiator.statistics().started
            other = SocketAsyncEventArgs(b"other" if kind == "bytes" else bytearray(b"other"))
            answers: list[bool] = []
            middle = middle_of(face, form)
            with in_the_middle(lambda: answers.append(socket.send_async(other)), middle):
                sent = await send_through(face, socket, FORMS[form](MESSAGE))
            assert answers == [True]
            assert sent == (len(MESSAGE), SocketError.SUCCESS)
            await wait_all_tasks_blocked()
            assert not other.pending
            assert await other.wait() == 5
            # Of these the budget of starts that end on the spot tells some; a task owns what it awaits.
            assert initiator.statistics().started == started + 1 + (face != "send")
    assert b"".join(port.offers[calls:]) == MESSAGE + b"other"


@pytest.mark.parametrize(("face", "form"), SHORTEST["bytearray"])
async def test_a_bytearray_that_is_resized_in_the_middle(face: str, form: str) -> None:
    port = SpyPort()
    with on(port) as socket:
        async with open_initiator():
            await warm_up(socket)
            calls = len(port.calls)
            made = SHORT[form](MESSAGE)
            with in_the_middle(lambda: made.block.extend(b"!!!"), middle_of(face, form)):
                sent = await send_through(face, socket, made)
            assert sent == (len(MESSAGE), SocketError.SUCCESS)
            made = SHORT[form](MESSAGE)
            with in_the_middle(made.block.clear, middle_of(face, form)):
                sent = await send_through(face, socket, made)
            assert sent == (0, SocketError.FAULT)
            assert socket.torn is None
    assert port.offers[calls:] == [MESSAGE]


@pytest.mark.parametrize(("face", "form"), SHORTEST["view"])
async def test_a_view_that_is_released_in_the_middle(face: str, form: str) -> None:
    port = SpyPort()
    with on(port) as socket:
        async with open_initiator():
            await warm_up(socket)
            calls = len(port.calls)
            made = SHORT[form](MESSAGE)
            with in_the_middle(made.buffer.release, middle_of(face, form)):
                assert await send_through(face, socket, made) == (0, SocketError.FAULT)
    assert len(port.calls) == calls


class GrowingPort(SpyPort):
    """A port that makes what it is handed longer, and takes all of it."""

    grows = False

    def send(self, buffer: Any, flags: int, /) -> int:
        if self.grows:
            self.grows = False
            buffer += b"!!!"
        return super().send(buffer, flags)


@pytest.mark.parametrize("face", [*STARTS, "send"])
async def test_more_than_was_to_be_sent_is_told_and_counted(face: str) -> None:
    """Nobody can take it back. A whole bytearray is handed over as it stands, so a port could do that to it."""
    port = GrowingPort()
    with on(port) as socket:
        async with open_initiator():
            await warm_up(socket)
            before = socket.statistics().bytes_accepted
            port.grows = True
            count, error = await send_through(face, socket, bytearray_form(MESSAGE))
            assert error is SocketError.FAULT
            assert count == (0 if face == "try_begin_send" else len(MESSAGE) + 3)
            assert socket.statistics().bytes_accepted == before + len(MESSAGE) + 3
            assert socket.queued_operations == 0
            assert socket.queued_bytes == 0
            await wait_all_tasks_blocked()
            assert await socket.send(b"after") == 5
    assert port.offers[-2:] == [MESSAGE + b"!!!", b"after"]


@every_start
@pytest.mark.parametrize("size", [JOIN_PIECE_SIZE, JOIN_PIECE_SIZE + 1])
async def test_a_large_range_is_locked_for_the_time_of_the_call_alone(face: str, size: int) -> None:
    """A small one is copied, so nothing is locked at all."""
    message = bytes(size)
    made = range_form(message)
    refusals: list[BaseException] = []

    def resize(_: object) -> None:
        try:
            made.block.extend(b"!")
        except BufferError as error:
            refusals.append(error)

    port = SpyPort(on_call=resize)
    with on(port) as socket:
        async with open_initiator():
            await warm_up(socket)
            assert len(made.block) == size + 5 + len(port.calls)
            sent = await send_through(face, socket, made)
            assert sent == (size, SocketError.SUCCESS)
            assert len(refusals) == (size > JOIN_PIECE_SIZE)
            made.block.clear()
    assert port.offers[-1] == message


@pytest.mark.parametrize("setting", ["set_buffer", "set_range", "buffer_list"])
async def test_args_that_are_started_while_they_are_set_keep_their_message(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what strikes behind the checks."""
    go_in_python(monkeypatch)  # what is compiled cannot be struck in the middle
    port = SpyPort()
    with on(port) as socket:
        async with open_initiator():
            await warm_up(socket)
            port.inner.add(Blocked())
            args = SocketAsyncEventArgs(b"first") if setting != "buffer_list" else None
            args = args or SocketAsyncEventArgs(buffer_list=[b"fi", b"rst"])
            place = beginning_of(EventArgsOperation.assign.__code__)
            with in_the_middle(lambda: socket.send_async(args), place):
                with pytest.raises(OperationInProgressError):
                    if setting == "set_buffer":
                        args.set_buffer(b"second")
                    elif setting == "set_range":
                        args.set_range(1, 2)
                    else:
                        args.buffer_list = [b"second", b"list"]
            port.inner.unblock()
            assert await args.wait() == 5
            assert b"".join(map(bytes, args.buffer_list or [args.buffer or b""])) == b"first"
    assert port.accepted.endswith(b"first")


async def test_args_that_are_closed_while_they_are_set_stay_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_in_python(monkeypatch)
    args = SocketAsyncEventArgs(b"first")
    with in_the_middle(args.close, beginning_of(EventArgsOperation.assign.__code__)):
        with pytest.raises(ObjectDisposedError):
            args.set_buffer(b"second")
    assert args.buffer is None


async def test_flags_and_a_buffer_that_are_set_at_the_same_time_both_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_in_python(monkeypatch)
    port = SpyPort()
    with on(port) as socket:
        async with open_initiator():
            await warm_up(socket)
            plain = port.calls[-1].flags
            args = SocketAsyncEventArgs(b"first")
            place = beginning_of(EventArgsOperation.assign.__code__)

            def set_flags() -> None:
                args.socket_flags = SocketFlags.DONT_ROUTE

            with in_the_middle(set_flags, place):
                args.set_buffer(b"second")
            assert socket.send_async(args) is False
            place = beginning_of(short_parts.__code__)
            with in_the_middle(lambda: args.set_buffer(b"third"), place):
                args.socket_flags = SocketFlags.NONE
            assert socket.send_async(args) is False
    assert port.offers[2:] == [b"second", b"third"]
    assert port.calls[2].flags != plain
    assert port.calls[3].flags == plain


async def test_a_buffer_that_is_taken_away_while_flags_are_set_is_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go_in_python(monkeypatch)
    port = SpyPort()
    with on(port) as socket:
        async with open_initiator():
            await warm_up(socket)
            args = SocketAsyncEventArgs(b"first")
            place = beginning_of(short_parts.__code__)
            with in_the_middle(lambda: args.set_buffer(None), place):
                args.socket_flags = SocketFlags.NONE
            with pytest.raises(ValueError, match=r"^args has nothing to send"):
                socket.send_async(args)
            args.set_buffer(b"second")
            assert socket.send_async(args) is False
    assert port.offers[2:] == [b"second"]
