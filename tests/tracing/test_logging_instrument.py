"""Hold the log of a trace to its lines, its levels, and to showing no byte that was not sent."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio

from tests.helpers import scripted
from trio_send import (
    LoggingInstrument,
    Socket,
    SocketAsyncEventArgs,
    SocketException,
    TracedOperation,
    add_instrument,
    open_initiator,
    socketpair,
)
from trio_send._tracing.logging_instrument import dump_lines
from trio_send.testing import Blocked


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="trio_send")
    return caplog


def lines(log: pytest.LogCaptureFixture) -> list[str]:
    assert {record.name for record in log.records} <= {"trio_send"}
    return [record.getMessage() for record in log.records]


@pytest.mark.page("B46")
@pytest.mark.fact("F274", "F276")
async def test_a_send_that_waits(log: pytest.LogCaptureFixture, autojump_clock: Any) -> None:
    socket, _ = scripted(3, Blocked(1.5))
    add_instrument(LoggingInstrument())
    async with open_initiator():
        args = SocketAsyncEventArgs(bytes(10))
        socket.send_async(args)
        await args.wait()
        socket.close(reset=True)
    assert lines(log) == [
        "socket 1: send 1 started, 10 bytes",
        "socket 1: send 1 3 bytes accepted, 3 of 10",
        "socket 1: send 1 has to wait, 0 ahead of it",
        "socket 1: send 1 7 bytes accepted, 10 of 10",
        "socket 1: send 1 completed, 10 of 10 bytes accepted, after 1.500000 s in the queue",
        "socket 1: send 1 is told of",
        "socket 1: closed with a reset",
    ]
    assert {record.levelno for record in log.records} == {logging.DEBUG}


async def test_a_stop_is_information_and_a_failure_a_warning(
    log: pytest.LogCaptureFixture, autojump_clock: Any
) -> None:
    socket, _ = scripted(4, Blocked())
    broken, _ = scripted("ECONNRESET")
    add_instrument(LoggingInstrument())
    with trio.move_on_after(1):
        await socket.send(bytes(10))
    with pytest.raises(SocketException):
        await socket.send(b"behind")
    with pytest.raises(SocketException):
        await broken.send(b"x")
    told = [record for record in log.records if "ended with" in record.getMessage()]
    assert [record.levelno for record in told] == [logging.INFO, logging.WARNING, logging.WARNING]
    first, second, third = [record.getMessage() for record in told]
    assert first.startswith(
        "socket 1: send 1 ended with OPERATION_ABORTED, 4 of 10 bytes accepted, after 1.000000 s in the queue: "
        "the awaiting task was interrupted"
    )
    assert second.startswith(
        "socket 1: send 2 ended with CONNECTION_ABORTED, 0 of 6 bytes accepted: "
    )
    assert third == "socket 2: send 3 ended with CONNECTION_RESET, 0 of 1 byte accepted"


async def test_connect_accept_and_receive_say_whom(log: pytest.LogCaptureFixture) -> None:
    async with Socket() as listener, Socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = listener.local_end_point
        add_instrument(LoggingInstrument())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.connect, address)
            served = await listener.accept()
        async with served:
            await served.send(b"hello")
            await client.receive(100)
            mine = client.local_end_point
    text = "\n".join(lines(log))
    assert f" started to {address!r}\n" in text
    assert ": connect 1 completed" in text or ": connect 2 completed" in text
    assert f" completed, {mine!r}" in text
    assert "completed, 5 bytes received" in text


async def test_a_resumed_message_says_from_where(
    log: pytest.LogCaptureFixture, autojump_clock: Any
) -> None:
    socket, port = scripted(4, Blocked())
    async with open_initiator():
        args = SocketAsyncEventArgs(bytes(10))
        socket.send_async(args)
        await trio.sleep(1)
        args.cancel()
        await args.wait()
        port.unblock()
        add_instrument(LoggingInstrument())
        assert socket.resume(args) is False
    assert lines(log)[0] == "socket 1: send 1 started, 10 bytes, going on behind byte 4"


# The bytes --------------------------------------------------------------------------------------


@pytest.mark.fact("F274", "F276", "F279")
async def test_a_dump_shows_each_piece_where_it_stands(
    log: pytest.LogCaptureFixture, autojump_clock: Any
) -> None:
    socket, _ = scripted(5, Blocked(1.0), 18, Blocked(1.0))
    add_instrument(LoggingInstrument(hex_dump=True))
    await socket.send([b"hello \x00\x1b[1m", b"\r\n\xff~ and some more"])
    dump = [line.removeprefix("socket 1: send 1   ") for line in lines(log) if "send 1   " in line]
    assert dump == [
        "00000000: 68 65 6c 6c 6f                                   hello",
        "00000005: 20 00 1b 5b 31 6d 0d 0a ff 7e 20 61 6e 64 20 73   ..[1m...~ and s",
        "00000015: 6f 6d                                            om",
        "00000017: 65 20 6d 6f 72 65                                e more",
    ]


async def test_no_bytes_are_shown_unless_asked_for_nor_more_than_the_cap(
    log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    original = TracedOperation.peek

    def peek(self: TracedOperation, start: int, count: int) -> bytes:
        asked.append(count)
        return original(self, start, count)

    monkeypatch.setattr(TracedOperation, "peek", peek)
    socket, _ = scripted()
    with add_instrument(LoggingInstrument()):
        await socket.send(bytes(5000))
    assert asked == []
    with add_instrument(LoggingInstrument(hex_dump=True)):
        await socket.send(bytes(5000))
    assert asked == [1024]
    assert lines(log)[-2] == "socket 1: send 2   and 3976 bytes more"
    with add_instrument(LoggingInstrument(hex_dump=True, max_data_size=0)):
        await socket.send(bytes(50))
    assert lines(log)[-2] == "socket 1: send 3   and 50 bytes more"
    log.clear()
    log.set_level(logging.INFO, logger="trio_send")
    del asked[:]
    with add_instrument(LoggingInstrument(hex_dump=True)):
        await socket.send(bytes(50))
    assert asked == lines(log) == []


async def test_what_was_received_is_shown_and_no_more(log: pytest.LogCaptureFixture) -> None:
    left, right = socketpair()
    async with left, right, open_initiator():
        await left.send(b"hello")
        with add_instrument(LoggingInstrument(hex_dump=True)):
            assert right.receive_async(SocketAsyncEventArgs(bytearray(b"secret secret"))) is False
            await left.send(b"bytes")
            log.clear()
            assert await right.receive() == b"bytes"
    text = "\n".join(lines(log))
    assert text.endswith("73                                   bytes")
    assert "secret" not in text


async def test_a_buffer_that_became_shorter_is_not_shown(
    log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is told is told at the end of the step; only another thread, or a finaliser, could be faster."""
    buffer = bytearray(b"0123456789")

    class First(LoggingInstrument):
        def bytes_accepted(self, operation: TracedOperation, count: int, total: int) -> None:
            del buffer[4:]

    socket, _ = scripted()
    add_instrument(First())
    add_instrument(LoggingInstrument(hex_dump=True))
    await socket.send(buffer)
    assert "socket 1: send 1   the buffer was changed, so the other bytes cannot be shown" in lines(
        log
    )


def test_lines_are_sixteen_bytes_wide() -> None:
    assert list(dump_lines(b"", 0)) == []
    assert list(dump_lines(bytes(range(0x20, 0x7F)), 0))[-1].endswith("  pqrstuvwxyz{|}~")
    (line,) = dump_lines(b"\x7f\x80\n%s{}", 0xFFFFFFFF)
    assert line.startswith("ffffffff: 7f 80 0a 25 73 7b 7d ")
    assert line.endswith("  ...%s{}")


def test_a_cap_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="max_data_size is -1"):
        LoggingInstrument(max_data_size=-1)
    with pytest.raises(TypeError, match="max_data_size must be a whole number"):
        LoggingInstrument(max_data_size="all")  # type: ignore[arg-type]
