"""A port that follows a script: of sends, of what arrives, of how it ends.

Modules: testing._readiness.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock
from typing_extensions import Buffer

from trio_send import (
    ExitPolicy,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    SocketFlags,
    SocketShutdown,
    open_initiator,
)
from trio_send.abc import Port
from trio_send.testing import Blocked, ScriptedPort

LINUX = sys.platform == "linux"


# Sending ----------------------------------------------------------------------------------------


async def test_a_function_decides_of_each_attempt(autojump_clock: MockClock) -> None:
    offered: list[bytes] = []

    def script(data: bytes) -> int | str | Blocked:
        offered.append(data)
        if len(offered) == 2:
            return Blocked(3)
        return "ENOBUFS" if len(offered) == 3 else 2

    port = ScriptedPort(script)
    assert repr(port) == "<ScriptedPort: 0 bytes accepted, lines from a function>"
    socket = Socket.from_port(port)
    assert await socket.send(b"abcde") == 5
    assert offered == [b"abcde", b"cde", b"cde", b"cde", b"e"]
    assert port.messages == [b"ab", b"cd", b"e"]
    assert trio.current_time() > 3
    with pytest.raises(TypeError, match="the script is a function"):
        port.add(1)
    socket.close()


async def test_a_function_that_says_something_else() -> None:
    port = ScriptedPort(lambda data: 1.5)  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match=r"script has 1\.5"):
        port.send(b"a", 0)


def nursery_tasks() -> Iterator[trio.lowlevel.Task]:
    """All tasks of the nurseries that the calling task has open."""
    for nursery in trio.lowlevel.current_task().child_nurseries:
        yield from nursery.child_tasks


@pytest.mark.parametrize("descriptor", [False, True])
async def test_a_port_on_a_descriptor_is_watched_by_the_engine(
    descriptor: bool, autojump_clock: MockClock
) -> None:
    port = ScriptedPort([1, Blocked(2), 1, Blocked(2)], descriptor=descriptor)
    socket = Socket.from_port(port)
    assert (socket.fileno() >= 0) == (descriptor and LINUX)
    async with open_initiator(ExitPolicy.JOIN):
        args = SocketAsyncEventArgs(b"abc")
        assert socket.send_async(args)
        await trio.sleep(1)
        # Without one each wait has a task of its own.
        waiting = [task for task in nursery_tasks() if "_wait_for" in task.name]
        assert bool(waiting) == (not descriptor or not LINUX)
        assert (args.bytes_transferred, args.pending) == (1, True)
        await trio.sleep(1.5)
        assert (args.bytes_transferred, args.pending) == (2, True)
    assert (args.bytes_transferred, args.socket_error) == (3, SocketError.SUCCESS)
    assert trio.current_time() == 4
    number = socket.fileno()
    socket.close()
    assert socket.fileno() == -1
    if number >= 0:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)


@pytest.mark.skipif(not LINUX, reason="there is no eventfd")
async def test_a_descriptor_without_an_end_of_the_blocking_is_unblocked(
    autojump_clock: MockClock,
) -> None:
    port = ScriptedPort([Blocked()], descriptor=True)
    socket = Socket.from_port(port)
    async with open_initiator(ExitPolicy.JOIN):
        args = SocketAsyncEventArgs(b"abc")
        assert socket.send_async(args)
        await trio.sleep(1000)
        assert args.pending
        port.unblock()
    assert args.bytes_transferred == 3
    socket.close()


# Receiving --------------------------------------------------------------------------------------


async def test_what_arrives_is_scripted(autojump_clock: MockClock) -> None:
    port = ScriptedPort(incoming=[b"abcd", Blocked(2), b"ef"])
    socket = Socket.from_port(port)
    assert await socket.receive(3) == b"abc"
    assert await socket.receive() == b"d"
    assert trio.current_time() == 0
    assert await socket.receive() == b"ef"
    assert trio.current_time() == 2
    assert await socket.receive() == b""
    socket.close()


async def test_what_arrives_goes_into_many_buffers() -> None:
    socket = Socket.from_port(ScriptedPort(incoming=[b"abcd"]))
    room = [bytearray(1), bytearray(2), bytearray(5)]
    async with open_initiator():
        args = SocketAsyncEventArgs(buffer_list=room)
        assert socket.receive_async(args) is False
    assert (args.bytes_transferred, room) == (4, [b"a", b"bc", b"d" + bytes(4)])
    socket.close()


async def test_an_event_tells_of_what_arrives_later(autojump_clock: MockClock) -> None:
    socket = Socket.from_port(ScriptedPort(incoming=[Blocked(1), b"abcd"]))
    told: list[tuple[float, int]] = []
    async with open_initiator(ExitPolicy.JOIN):
        args = SocketAsyncEventArgs(bytearray(3))
        args.completed += lambda _, args: told.append((trio.current_time(), args.bytes_transferred))
        assert socket.receive_async(args)
    assert told == [(1.0, 3)]
    socket.close()


async def test_to_look_and_to_have_no_room_take_nothing() -> None:
    socket = Socket.from_port(ScriptedPort(incoming=[b"abcd"]))
    async with open_initiator():
        args = SocketAsyncEventArgs(bytearray(3))
        args.socket_flags = SocketFlags.PEEK
        assert socket.receive_async(args) is False
        assert args.bytes_transferred == 3
    assert await socket.receive_into(bytearray()) == 0
    assert await socket.receive() == b"abcd"
    socket.close()


async def test_what_does_not_fit_of_a_datagram_is_lost(autojump_clock: MockClock) -> None:
    port = ScriptedPort(is_stream=False, incoming=[b"abcd", b"", b"ef"])
    socket = Socket.from_port(port)
    assert [await socket.receive(3) for _ in range(3)] == [b"abc", b"", b"ef"]
    with trio.move_on_after(1000) as scope:
        await socket.receive()
    assert scope.cancelled_caught
    socket.close()


async def test_an_error_arrives() -> None:
    socket = Socket.from_port(ScriptedPort(incoming=[b"a", "ECONNRESET"]))
    assert await socket.receive() == b"a"
    with pytest.raises(SocketException) as caught:
        await socket.receive()
    assert caught.value.socket_error_code is SocketError.CONNECTION_RESET
    socket.close()


async def test_close_wakes_who_waits_to_receive() -> None:
    socket = Socket.from_port(ScriptedPort(incoming=[Blocked()]))
    async with open_initiator():
        args = SocketAsyncEventArgs(bytearray(3))
        assert socket.receive_async(args)
        socket.close()
        await args.wait()
    assert args.socket_error is SocketError.OPERATION_ABORTED


async def test_a_port_without_incoming_cannot_receive() -> None:
    socket = Socket.from_port(ScriptedPort())
    with pytest.raises(SocketException, match=r"can only send$"):
        await socket.receive()
    socket.close()
    socket = Socket.from_port(ScriptedPort(incoming=[]))
    with pytest.raises(SocketException, match=r"can only send and receive$"):
        _ = socket.family
    socket.close()


# Ends -------------------------------------------------------------------------------------------


async def test_shutdown_ends_what_is_pending() -> None:
    port = ScriptedPort([1, Blocked()])
    socket = Socket.from_port(port)
    async with open_initiator(ExitPolicy.JOIN):
        args = SocketAsyncEventArgs(b"abc")
        assert socket.send_async(args)
        socket.shutdown(SocketShutdown.SEND)
        await args.wait()
    assert (args.socket_error, args.bytes_transferred) == (SocketError.SHUTDOWN, 1)
    assert port.shut_down == [SocketShutdown.SEND]
    with pytest.raises(SocketException) as caught:
        await socket.send(b"x")
    assert caught.value.socket_error_code is SocketError.SHUTDOWN
    socket.close()
    assert not port.was_reset


async def test_shutdown_of_the_other_direction_is_the_end_of_what_arrives() -> None:
    socket = Socket.from_port(ScriptedPort(incoming=[Blocked(), b"abc"]))
    async with open_initiator():
        args = SocketAsyncEventArgs(bytearray(3))
        assert socket.receive_async(args)
        socket.shutdown(SocketShutdown.RECEIVE)
        assert await args.wait() == 0
    assert args.socket_error is SocketError.SUCCESS
    assert await socket.send(b"x") == 1
    socket.close()


async def test_shutdown_fails_and_nothing_has_changed() -> None:
    port = ScriptedPort(errors={"shutdown": "ENOTCONN"})
    socket = Socket.from_port(port)
    with pytest.raises(SocketException) as caught:
        socket.shutdown(SocketShutdown.SEND)
    assert caught.value.socket_error_code is SocketError.NOT_CONNECTED
    assert port.shut_down == []
    assert await socket.send(b"x") == 1
    socket.close()


async def test_a_close_that_fails_has_closed() -> None:
    port = ScriptedPort([Blocked()], errors={"close": "EIO"})
    socket = Socket.from_port(port)
    async with open_initiator():
        args = SocketAsyncEventArgs(b"abc")
        assert socket.send_async(args)
        with pytest.raises(OSError, match=re.escape(os.strerror(errno.EIO))):
            socket.close()
        await args.wait()
    assert args.socket_error is SocketError.OPERATION_ABORTED
    assert port.closed
    socket.close()


class OldPort(Port):
    """A port that somebody wrote who knew of sending only."""

    is_stream = True

    def send(self, buffer: Buffer, flags: int, /) -> int:
        return len(memoryview(buffer))

    def send_gather(self, views: Sequence[Buffer], flags: int, /) -> int:
        return sum(len(memoryview(view)) for view in views)

    def send_to(self, buffer: Buffer, flags: int, address: Any, /) -> int:
        return len(memoryview(buffer))

    def fileno(self) -> int:
        return -1

    async def wait_writable(self) -> None:
        await trio.sleep_forever()

    async def wait_readable(self) -> None:
        await trio.sleep_forever()

    def close(self, *, reset: bool) -> None:
        pass


async def test_a_port_that_can_do_no_more_than_send_goes_on_working() -> None:
    socket = Socket.from_port(OldPort())
    assert await socket.send(b"abc") == 3
    with pytest.raises(SocketException, match=r"can only send$"):
        socket.shutdown(SocketShutdown.SEND)
    with pytest.raises(SocketException, match=r"can only send$"):
        await socket.receive()
    with pytest.raises(SocketException, match=r"can only send$"):
        await socket.disconnect()
    assert await socket.send(b"abc") == 3
    socket.close()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"script": [1.5]}, TypeError, r"script has 1\.5, but each line must be a number of bytes"),
        (
            {"script": ["EWHAT"]},
            ValueError,
            "script has 'EWHAT', which is not the name of an errno",
        ),
        ({"incoming": [5]}, TypeError, "incoming has 5, but each line must be bytes"),
        ({"incoming": ["EWHAT"]}, ValueError, "incoming has 'EWHAT'"),
        ({"incoming": [], "descriptor": True}, ValueError, "tells of one direction only"),
        ({"errors": {"open": "EIO"}}, ValueError, "errors has 'open'"),
        ({"errors": {"close": 5}}, TypeError, "errors has 5"),
        ({"errors": {"close": "EWHAT"}}, ValueError, "errors has 'EWHAT'"),
    ],
)
async def test_what_is_no_script_is_refused(
    arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        ScriptedPort(**arguments)


async def test_what_is_added_is_looked_at_too() -> None:
    port = ScriptedPort()
    with pytest.raises(TypeError, match="script has None"):
        port.add(None)  # type: ignore[arg-type]
