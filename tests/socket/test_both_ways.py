"""Hold a later start, which takes a shorter way, to all that a first one is held to.

What is wrong is refused, and changes nothing; what is right is sent as it was said. Each test has one thing wrong, and
nothing else that would keep the start from the shorter way.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trio_send
from tests.both_ways import Way, buffer_way as buffer_way, way as way
from tests.helpers import (
    BIG,
    FACES,
    Ends,
    connected,
    failure_on_the_spot,
    read_exactly,
    scripted,
    unix as unix,
    values_of,
)
from trio_send import (
    ExitPolicy,
    InvalidOperationError,
    ObjectDisposedError,
    OperationInProgressError,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    SocketFlags,
    TracedOperation,
    add_instrument,
    open_initiator,
)
from trio_send.abc import Instrument
from trio_send.testing import Blocked

every_face = pytest.mark.parametrize("face", FACES)

#: The faces that take an offset and a size.
BEGINNING = ("begin_send", "try_begin_send")

#: Those of which an initiator owns the operation.
STARTING = ("send_async", *BEGINNING)

every_beginning = pytest.mark.parametrize("face", BEGINNING)

ABORTED = SocketError.OPERATION_ABORTED
CUT_OFF = SocketError.CONNECTION_ABORTED


def failed(face: str, socket: Socket, way: Way, message: bytes = b"message") -> SocketError:
    """Start a plain send that fails on the spot, without a callback, which would keep it from the shorter way."""
    if face == "send_async":
        args = way.args(message)
        assert socket.send_async(args) is False
        return args.socket_error
    if face == "try_begin_send":
        result, error = socket.try_begin_send(way.buffer(message))
        assert result is None
        return error
    with pytest.raises(SocketException) as caught:
        socket.begin_send(way.buffer(message))
    return caught.value.socket_error_code


@contextmanager
def nothing_happens(socket: Socket, port: Any) -> Iterator[None]:
    """Hold the block to leaving the socket and its port alone."""

    def state() -> Any:
        return port.attempts, bytes(port.accepted), socket.statistics(), socket.queued_operations

    before = state()
    yield
    assert state() == before


# What is right --------------------------------------------------------------------------------


@every_face
async def test_the_message_is_sent_and_counted(face: str, way: Way, unix: Ends) -> None:
    """All that fits at once, nothing, and more than fits."""
    socket, peer = unix
    async with open_initiator():
        way.prepare(socket)
        for message in (b"message", b"", BIG):
            async with trio.open_nursery() as nursery:
                received = bytearray()

                async def read(count: int, received: bytearray = received) -> None:
                    received += await read_exactly(peer, count)

                nursery.start_soon(read, len(message))
                assert await way.send(face, socket, message) == len(message)
            assert received == message
    statistics = socket.statistics()
    assert statistics.bytes_accepted == len(BIG) + 7
    assert socket.queued_operations == 0


@every_beginning
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2,), b"ssage"),
        ((7,), b""),
        ((0, 3), b"mes"),
        ((0, 0), b""),
        ((0, 7), b"message"),
        ((3, 2), b"sa"),
        ((0, None), b"message"),
    ],
)
async def test_of_a_buffer_the_range_is_sent(
    face: str, arguments: tuple[Any, ...], message: bytes, buffer_way: Way
) -> None:
    socket, port = scripted()
    async with open_initiator():
        buffer_way.prepare(socket)
        result = getattr(socket, face)(buffer_way.buffer(b"message"), *arguments)
        result = result[0] if isinstance(result, tuple) else result
        assert result.bytes_transferred == len(message)
        assert await socket.end_send(result) == len(message)
    assert port.accepted == message
    socket.close()


@every_beginning
async def test_a_callback_is_called(face: str, way: Way) -> None:
    socket, _ = scripted()
    told: list[Any] = []
    async with open_initiator(ExitPolicy.JOIN):
        way.prepare(socket)
        begun = getattr(socket, face)(
            *way.arguments(b"message"), callback=told.append, state="mine"
        )
        result = begun[0] if isinstance(begun, tuple) else begun
        assert told == []
    assert told == [result]
    assert result.async_state == "mine"
    socket.close()


@every_beginning
@pytest.mark.parametrize("watched", [False, True])
async def test_what_has_ended_without_a_callback_is_nobodys_any_more(
    face: str, watched: bool, way: Way
) -> None:
    socket, _ = scripted()
    if watched:
        add_instrument(Instrument())
    async with open_initiator() as initiator:
        way.prepare(socket)
        begun = getattr(socket, face)(*way.arguments(b"message"))
        result = begun[0] if isinstance(begun, tuple) else begun
        assert result.completed_synchronously
        assert repr(result) == "<AsyncResult: SEND, SUCCESS, 7 of 7 bytes accepted>"
        assert initiator.pending_operations == 0
        assert result.cancel() is False
        handle = result.async_wait_handle
        assert handle is result.async_wait_handle
        assert await handle.wait_one()
    socket.close()


@every_face
async def test_what_has_to_wait_belongs_to_the_initiator_of_the_start(face: str, way: Way) -> None:
    """Not to the one of the start before; that of an awaited one is nobody's."""
    socket, _ = scripted(*[0] * (not way.is_first), Blocked())
    async with open_initiator() as outer:
        way.prepare(socket)
        async with open_initiator() as inner:
            if face in ("send", "send args"):
                with trio.move_on_after(0):
                    await way.send(face, socket, b"message")
                assert inner.pending_operations == 0
            else:
                way.start(face, socket)
                assert inner.pending_operations == 1
            assert outer.pending_operations == 0
        assert socket.queued_operations == 0
    socket.close()


@every_face
async def test_what_is_started_behind_another_is_sent_behind_it(face: str, way: Way) -> None:
    socket, port = scripted(*[0] * (not way.is_first), 2, Blocked())
    front = SocketAsyncEventArgs(b"front")
    async with open_initiator():
        way.prepare(socket)
        assert socket.send_async(front) is True
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                assert await way.send(face, socket, b"behind") == 6

            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            assert socket.queued_operations == 2
            assert port.accepted == b"fr"
            port.unblock()
        assert await front.wait() == 5
    assert port.accepted == b"frontbehind"
    socket.close()


class Seen(Instrument):
    """Notes what it is told of sends."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def operation_started(self, operation: TracedOperation) -> None:
        self.told.append("started")

    def bytes_accepted(self, operation: TracedOperation, count: int, total: int) -> None:
        self.told.append(f"accepted {count}")

    def operation_completed(self, operation: TracedOperation, *_: object) -> None:
        self.told.append("completed")


@every_face
async def test_instruments_are_told_of_all_of_it(face: str, way: Way) -> None:
    """Also one that was added when starts had taken the shorter way."""
    socket, _ = scripted()
    seen = Seen()
    async with open_initiator():
        way.prepare(socket)
        add_instrument(seen)
        for _ in range(2):
            seen.told.clear()
            assert await way.send(face, socket, b"message") == 7
            assert seen.told == ["started", "accepted 7", "completed"]
    socket.close()


# What is wrong --------------------------------------------------------------------------------


@every_beginning
@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"offset": -1}, ValueError, "offset is -1, but must be from 0 to 7"),
        ({"offset": 8}, ValueError, "offset is 8, but must be from 0 to 7"),
        ({"offset": "0"}, TypeError, "offset must be a whole number"),
        ({"offset": None}, TypeError, "offset must be a whole number"),
        ({"size": -1}, ValueError, "size is -1, but must be from 0 to 7"),
        ({"size": 8}, ValueError, "size is 8, but must be from 0 to 7"),
        ({"size": "7"}, TypeError, "size must be a whole number"),
        ({"socket_flags": "0"}, TypeError, "socket_flags must be SocketFlags"),
        ({"socket_flags": None}, TypeError, "socket_flags must be SocketFlags"),
        ({"callback": 7}, TypeError, "callback must be a function"),
    ],
)
async def test_arguments_are_refused(
    face: str,
    arguments: dict[str, Any],
    error: type[Exception],
    sentence: str,
    buffer_way: Way,
) -> None:
    socket, port = scripted()
    async with open_initiator() as initiator:
        buffer_way.prepare(socket)
        with nothing_happens(socket, port), pytest.raises(error, match=f"^{sentence}"):
            getattr(socket, face)(buffer_way.buffer(b"message"), **arguments)
        assert initiator.pending_operations == 0
    socket.close()


@pytest.mark.parametrize("flags", ["0", None, 1.5])
async def test_flags_of_an_awaited_send_are_refused(flags: Any, way: Way) -> None:
    socket, port = scripted()
    async with open_initiator():
        way.prepare(socket)
        with (
            nothing_happens(socket, port),
            pytest.raises(TypeError, match=r"^socket_flags must be SocketFlags"),
        ):
            await socket.send(way.buffer(b"message"), flags)
    socket.close()


@every_face
async def test_flags_that_cannot_be_used_fail(face: str, way: Way) -> None:
    socket, port = scripted()
    async with open_initiator():
        way.prepare(socket)
        attempts = port.attempts
        error, _ = await failure_on_the_spot(
            face, socket, way.buffer(b"message"), SocketFlags.BROADCAST
        )
        assert error is SocketError.OPERATION_NOT_SUPPORTED
        assert port.attempts == attempts
    socket.close()


@every_face
async def test_another_thread_is_refused(face: str, way: Way) -> None:
    """Also where it has inherited the initiator."""
    socket, port = scripted()
    async with open_initiator() as initiator:
        way.prepare(socket)
        with nothing_happens(socket, port):

            def call() -> None:
                with pytest.raises(InvalidOperationError, match=r"^this socket belongs to another"):
                    way.start(face, socket)

            await trio.to_thread.run_sync(call)
        assert initiator.pending_operations == 0
    socket.close()


@every_face
def test_another_run_is_refused(face: str, way: Way) -> None:
    """In the same thread, and where it has an initiator of its own."""
    socket, port = scripted()

    async def use() -> None:
        async with open_initiator():
            way.prepare(socket)
            await way.send(face, socket, b"message")

    async def use_again() -> None:
        async with open_initiator() as initiator:
            with (
                nothing_happens(socket, port),
                pytest.raises(InvalidOperationError, match=r"^this socket was used in another"),
            ):
                await way.send(face, socket, b"again")
            assert initiator.pending_operations == 0

    trio.run(use)
    for _ in range(2):
        trio.run(use_again)
    socket.close()


@pytest.mark.parametrize("face", STARTING)
async def test_where_no_initiator_is_open_is_refused(face: str, way: Way) -> None:
    """It does not do that there was one a moment ago."""
    socket, port = scripted()
    if not way.is_first:
        async with open_initiator():
            way.prepare(socket)
    with (
        nothing_happens(socket, port),
        pytest.raises(InvalidOperationError, match=r"^no initiator is open here"),
    ):
        way.start(face, socket)
    socket.close()


@every_face
async def test_a_closed_socket_is_refused(face: str, way: Way) -> None:
    """Whether or not the task is cancelled: no checkpoint comes before."""
    socket, port = scripted()
    async with open_initiator():
        way.prepare(socket)
        socket.close()
        for is_cancelled in (False, True):
            with trio.CancelScope() as scope:  # noqa: ASYNC100  there must be none
                if is_cancelled:
                    scope.cancel()
                with nothing_happens(socket, port), pytest.raises(ObjectDisposedError):
                    way.start(face, socket)


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("face", ["send_async", "send args"])
async def test_args_that_cannot_be_started_are_refused(face: str, busy: bool, way: Way) -> None:
    """They are in use; they were closed; they are empty, or none; their message was cut."""
    socket, port = scripted()
    elsewhere, _ = scripted(Blocked())
    torn, torn_port = scripted(3, Blocked())
    async with open_initiator():
        way.prepare(socket)
        if busy:
            port.add(Blocked())
            assert socket.send_async(SocketAsyncEventArgs(b"in front")) is True
        in_use = way.args(b"message")
        assert elsewhere.send_async(in_use) is True
        closed = way.args(b"message")
        closed.close()
        cut = way.args(b"message")
        assert torn.send_async(cut) is True
        cut.cancel()
        await cut.wait()
        refused: list[tuple[Any, type[Exception]]] = [
            (in_use, OperationInProgressError),
            (closed, ObjectDisposedError),
            (SocketAsyncEventArgs(), ValueError),
            (cut, InvalidOperationError),
        ]
        if face == "send_async":
            refused += [(None, TypeError), (7, TypeError)]
        for args, error in refused:
            before = isinstance(args, SocketAsyncEventArgs) and values_of(args)
            with nothing_happens(socket, port), pytest.raises(error) as caught:
                start_args(face, socket, args)
            assert type(caught.value) is error
            assert not before or values_of(args) == before
        with nothing_happens(torn, torn_port), pytest.raises(InvalidOperationError):
            start_args(face, torn, cut)
    for each in (socket, elsewhere, torn):
        each.close()


def start_args(face: str, socket: Socket, args: Any) -> Any:
    """Start args by either of the faces that take them."""
    if face == "send_async":
        return socket.send_async(args)
    return socket.send(args).send(None)


@every_face
async def test_nothing_is_written_behind_a_message_that_was_cut(face: str, way: Way) -> None:
    socket, port = scripted(*[0] * (not way.is_first), 3, Blocked())
    async with open_initiator():
        way.prepare(socket)
        args = SocketAsyncEventArgs(b"message")
        assert socket.send_async(args) is True
        args.cancel()
        await args.wait()
        if face in STARTING:
            assert failed(face, socket, way) is CUT_OFF
        else:
            with pytest.raises(SocketException) as caught:
                await way.send(face, socket, b"behind")
            assert caught.value.socket_error_code is CUT_OFF
    assert port.accepted == b"mes"
    socket.close()


@pytest.mark.parametrize("face", STARTING)
async def test_a_start_after_the_stop_fails_and_does_not_reach_the_kernel(
    face: str, way: Way
) -> None:
    socket, port = scripted()
    blocked, _ = scripted(Blocked())
    errors: list[SocketError] = []

    def restart(_: Socket, __: SocketAsyncEventArgs) -> None:
        attempts = port.attempts
        errors.append(failed(face, socket, way))
        assert port.attempts == attempts

    async with open_initiator():
        way.prepare(socket)
        stopped = SocketAsyncEventArgs(b"message")
        stopped.completed += restart
        assert blocked.send_async(stopped) is True
    assert errors == [ABORTED]
    socket.close()
    blocked.close()


@every_face
@pytest.mark.parametrize("message", [b"message", b""])
async def test_an_error_on_the_spot_is_told(face: str, message: bytes, way: Way) -> None:
    """Also where the message is empty, so that no count can tell."""
    socket, port = scripted(*[0] * (not way.is_first), "EACCES", "ECONNRESET")
    async with open_initiator() as initiator:
        way.prepare(socket)
        for code in (SocketError.ACCESS_DENIED, SocketError.CONNECTION_RESET):
            if face in STARTING:
                assert failed(face, socket, way, message) is code
            else:
                with pytest.raises(SocketException) as caught:
                    await way.send(face, socket, message)
                assert caught.value.socket_error_code is code
                assert caught.value.bytes_transferred == 0
        assert initiator.pending_operations == 0
    assert port.accepted == b""
    assert socket.torn is None
    socket.close()


@every_face
async def test_what_the_attempt_raises_leaves_everything_as_it_was(
    face: str, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if it is no error of a system call: the queue is free, and the args are."""
    socket, port = scripted()
    args = way.args(b"message")
    data: Any = args if face in ("send_async", "send args") else way.buffer(b"message")

    class Odd(Exception):
        pass

    async with open_initiator() as initiator:
        way.prepare(socket)
        was = port.accepted

        class Raising(bytearray):
            def __iadd__(self, other: Any) -> Any:
                raise Odd

        monkeypatch.setattr(port, "accepted", Raising())
        answer = getattr(socket, face.split()[0])
        with pytest.raises(Odd):
            if isinstance(made := answer(data), Coroutine):
                await made
        monkeypatch.setattr(port, "accepted", was)
        assert initiator.pending_operations == 0
        assert socket.queued_operations == 0
        assert not args.pending
        assert await way.send(face, socket, b"after") == 5
        if data is args and socket.send_async(args):
            await args.wait()
    assert bytes(port.accepted) == b"after" + (b"message" if data is args else b"")
    socket.close()


# Ends -----------------------------------------------------------------------------------------

ENDS = ("end_send", "try_end_send", "end_send_nowait", "try_end_send_nowait")

every_end = pytest.mark.parametrize("how", ENDS)


async def end(socket: Socket, result: Any, how: str) -> Any:
    """Call an end method."""
    answer = getattr(socket, how)(result)
    return await answer if isinstance(answer, Coroutine) else answer


@every_end
async def test_a_result_is_taken_once(how: str, way: Way) -> None:
    """And by no method a second time."""
    socket, _ = scripted()
    async with open_initiator():
        way.prepare(socket)
        result = socket.begin_send(*way.arguments(b"message"))
        assert await end(socket, result, how) in (7, (7, SocketError.SUCCESS))
        for again in ENDS:
            with pytest.raises(InvalidOperationError, match=r"^the end method was called"):
                await end(socket, result, again)
        assert result.bytes_transferred == 7
    socket.close()


@every_end
async def test_a_result_of_another_socket_is_refused_and_left_as_it_was(how: str, way: Way) -> None:
    socket, _ = scripted()
    other, _ = scripted()
    async with open_initiator():
        way.prepare(socket)
        way.prepare(other)
        result = other.begin_send(*way.arguments(b"message"))
        with pytest.raises(ValueError, match=r"^ar is the result of an operation on another"):
            await end(socket, result, how)
        assert await end(other, result, how) in (7, (7, SocketError.SUCCESS))
    socket.close()
    other.close()


# The shorter way ------------------------------------------------------------------------------


def functions_called(call: Callable[[], object]) -> int:
    """How many functions of the library a call takes."""
    package = os.path.dirname(trio_send.__file__) + os.sep
    count = 0

    def profile(frame: Any, event: str, _: object) -> None:
        nonlocal count
        count += event == "call" and frame.f_code.co_filename.startswith(package)

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("face", ["send_async", "begin_send"])
async def test_a_later_start_is_another_way(face: str, way: Way) -> None:
    """Or the tests above would show the same thing twice."""
    taken = {}
    for is_first in (True, False):
        each = attrs.evolve(way, is_first=is_first)
        # A port in Python is none that anything compiled could use.
        with connected("unix") as (socket, _):
            async with open_initiator():
                each.prepare(socket)
                made: Any = each.args(b"message")
                if face != "send_async":
                    made = each.buffer(b"message")
                taken[is_first] = functions_called(partial(getattr(socket, face), made))
    # What is compiled takes no function in Python where nothing is in the way; of a list nothing is.
    is_compiled = way.is_compiled and way.data != "list"
    assert (taken[False] == 0) is is_compiled
    # With args the first look at the owner is compiled too.
    assert (taken[True] == 0) is (is_compiled and face == "send_async")
    assert taken[False] < taken[True] or taken[True] == 0
