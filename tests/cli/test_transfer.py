"""The inside of the command line: transfers, sources, receptions and meters, without a command around them.

Modules: _cli.failures, _cli.meter, _cli.transfer.chunks, _cli.transfer.faces, _cli.transfer.reception,
_cli.transfer.source, _cli.transfer.transfer.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import socket as stdlib_socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings, strategies as st
from trio.testing import MockClock

import trio_send
from trio_send._cli import meter as _meter
from trio_send._cli.failures import Failure, describe, innermost
from trio_send._cli.transfer import transfer as _transfer
from trio_send._cli.transfer.chunks import Chunk
from trio_send._cli.transfer.faces import FACES
from trio_send._cli.transfer.reception import BUFFER_SIZE, AppendingFile, Pace, Reception
from trio_send._cli.transfer.source import Source, open_source
from trio_send._cli.transfer.transfer import Transfer

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup

faces = pytest.mark.parametrize("face", FACES)


class Memory(Source):
    """A source that needs no thread, for which a mock clock would not wait."""

    def __init__(self, data: bytes, name: str = "memory") -> None:
        self.memory = io.BytesIO(data)
        super().__init__(io.FileIO(os.devnull), name)
        self._raw.close()
        self.remaining = len(data)

    async def read_into(self, buffer: bytearray | memoryview) -> int:
        await trio.lowlevel.checkpoint()
        return self.memory.readinto(buffer)


@asynccontextmanager
async def small_pair() -> AsyncIterator[tuple[trio_send.Socket, trio_send.Socket]]:
    """Two connected sockets with so little room between them that sends are accepted in parts."""
    left, right = trio_send.socketpair()
    for sock in (left, right):
        sock.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 1)
    async with right:
        try:
            yield left, right
        finally:
            left.close(reset=False)


async def read_all(socket: trio_send.Socket) -> bytes:
    pieces = []
    while piece := await socket.receive():
        pieces.append(piece)
    return b"".join(pieces)


# Transfers ------------------------------------------------------------------------------------


@faces
@pytest.mark.parametrize(
    ("size", "chunk_size", "in_flight"),
    [(0, 10, 2), (1, 1, 1), (100_000, 700, 5), (50_000, 2**20, 3)],
)
async def test_a_whole_transfer(face: str, size: int, chunk_size: int, in_flight: int) -> None:
    data = random.Random(0).randbytes(size)
    async with small_pair() as (left, right):
        transfer = Transfer(
            left, Memory(data), FACES[face], chunk_size=chunk_size, in_flight=in_flight
        )
        received = b""

        async def read() -> None:
            nonlocal received
            received = await read_all(right)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await transfer.run()
            left.shutdown(trio_send.SocketShutdown.SEND)
    assert received == data
    assert transfer.is_complete
    assert transfer.accepted == size
    assert transfer.digest() == hashlib.sha256(data).hexdigest()
    assert transfer.on_the_spot + transfer.pending == -(-size // chunk_size)
    assert transfer.stopped == 0
    assert transfer.stop_reason is None


@faces
@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 200_000),
    chunk_size=st.integers(1000, 100_000),
    in_flight=st.integers(1, 6),
    share=st.floats(0, 1),
    sip=st.integers(1000, 10_000),
)
def test_a_stopped_transfer_knows_to_the_byte_what_was_accepted(
    face: str, size: int, chunk_size: int, in_flight: int, share: float, sip: int
) -> None:
    data = random.Random(size).randbytes(size)

    async def main() -> None:
        async with small_pair() as (left, right):
            transfer = Transfer(
                left, Memory(data), FACES[face], chunk_size=chunk_size, in_flight=in_flight
            )
            received = b""
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    async def stop_after_a_share() -> None:
                        nonlocal received
                        while len(received) < share * size:
                            received += await right.receive(sip)
                        scope.cancel()

                    nursery.start_soon(stop_after_a_share)
                    await transfer.run()
            left.close(reset=False)
            received += await read_all(right)
        assert received == data[: len(received)]
        assert transfer.accepted == len(received)
        assert transfer.digest() == hashlib.sha256(received).hexdigest()
        assert transfer.is_complete == (len(received) == size)

    trio.run(main)


@faces
async def test_a_receiver_that_disappears_ends_the_transfer(face: str) -> None:
    async with small_pair() as (left, right):
        transfer = Transfer(left, Memory(bytes(10**6)), FACES[face], chunk_size=50_000, in_flight=3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transfer.run)
            await right.receive()
            right.close()
    assert not transfer.is_complete
    assert transfer.error is not None
    assert transfer.error.socket_error_code in {
        trio_send.SocketError.SHUTDOWN,
        trio_send.SocketError.CONNECTION_RESET,
    }
    assert 0 < transfer.accepted < 10**6
    assert transfer.stopped >= 1
    assert transfer.digest() == hashlib.sha256(bytes(transfer.accepted)).hexdigest()


@faces
async def test_a_stall_is_told_from_slowness(face: str, autojump_clock: MockClock) -> None:
    # The kernel takes bytes in bites, and the test's own reading is what makes room for them.
    async with small_pair() as (left, right):
        transfer = Transfer(
            left, Memory(bytes(200_000)), FACES[face], chunk_size=200_000, in_flight=1
        )
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                await transfer.run(stall_timeout=10)

            nursery.start_soon(run)
            received = 0
            for _ in range(10):
                await trio.sleep(9)
                received += len(await right.receive(20_000))
            assert not transfer.is_complete
            assert transfer.accepted >= received
            reasons = [transfer.stop_reason]
            before = trio.current_time()
        assert 10 <= trio.current_time() - before <= 20
    reasons.append(transfer.stop_reason)
    assert reasons == [None, "no byte was accepted for 10 s"]
    assert transfer.error is None
    assert (transfer.on_the_spot, transfer.pending, transfer.stopped) == (0, 1, 1)


class Quiet(Memory):
    """One that has nothing more to say, but does not end."""

    async def read_into(self, buffer: bytearray | memoryview) -> int:
        count = await super().read_into(buffer)
        if count == 0:
            await trio.Event().wait()
        return count


@faces
async def test_a_source_with_nothing_to_say_is_a_stall_too(
    face: str, autojump_clock: MockClock
) -> None:
    async with small_pair() as (left, right):
        transfer = Transfer(left, Quiet(b"once", "nobody"), FACES[face], chunk_size=10, in_flight=2)
        await transfer.run(stall_timeout=10)
        assert await right.receive() == b"once"
    assert (
        transfer.stop_reason == "no byte was accepted for 10 s, because nobody had nothing to send"
    )
    assert transfer.accepted == 4
    assert transfer.digest() == hashlib.sha256(b"once").hexdigest()


class Bad(Memory):
    """One that breaks at its end."""

    async def read_into(self, buffer: bytearray | memoryview) -> int:
        count = await super().read_into(buffer)
        if count == 0:
            raise Failure("a bad disk cannot be read: it is bad")
        return count


@faces
async def test_a_source_that_breaks_stops_the_transfer(face: str) -> None:
    async with small_pair() as (left, _):
        transfer = Transfer(left, Bad(b"once"), FACES[face], chunk_size=10, in_flight=2)
        await transfer.run()
    assert transfer.stop_reason == "a bad disk cannot be read: it is bad"
    assert transfer.accepted == 4
    assert not transfer.is_complete


@faces
async def test_the_memory_of_a_transfer_does_not_grow_with_it(
    face: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Chunk] = []

    def make(size: int) -> Chunk:
        made.append(Chunk(size))
        return made[-1]

    monkeypatch.setattr(_transfer, "Chunk", make)
    async with small_pair() as (left, right):
        transfer = Transfer(left, Memory(bytes(500_000)), FACES[face], chunk_size=1000, in_flight=3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_all, right)
            await transfer.run()
            left.shutdown(trio_send.SocketShutdown.SEND)
    assert transfer.on_the_spot + transfer.pending == 500
    assert [len(chunk.buffer) for chunk in made] == [1000] * 3


async def test_chunks_that_do_not_fit_into_memory() -> None:
    async with small_pair() as (left, _):
        transfer = Transfer(left, Memory(b"x"), FACES["event"], chunk_size=2**62, in_flight=2)
        await transfer.run()
    assert transfer.stop_reason is not None
    assert "smaller --chunk" in transfer.stop_reason


# Sources --------------------------------------------------------------------------------------


async def read_source(source: Source, size: int = 7) -> bytes:
    data = b""
    buffer = bytearray(size)
    while count := await source.read_into(buffer):
        data += buffer[:count]
    assert source.ended
    return data


@given(size=st.integers(0, 100), offset=st.integers(0, 120))
@settings(deadline=None, max_examples=40)
@pytest.mark.parametrize("kind", ["file", "pipe"])
def test_a_source_begins_at_its_offset(
    kind: str, size: int, offset: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = random.Random(size).randbytes(size)
    path = tmp_path_factory.getbasetemp() / "source"
    path.write_bytes(data)

    async def main() -> None:
        if kind == "file":
            async with open_source(str(path), offset) as source:
                assert source.remaining == size - offset
                assert await read_source(source) == data[offset:]
            return
        reading, writing = os.pipe()
        os.write(writing, data)
        os.close(writing)
        with io.FileIO(reading) as raw:
            source = Source(raw, "a pipe")
            await source.skip(offset)
            assert source.remaining is None
            assert await read_source(source) == data[offset:]

    if offset <= size:
        trio.run(main)
    else:
        with pytest.raises(Failure, match=f"ends after {size} byte"):
            trio.run(main)


if sys.platform != "win32":  # there only sockets can be waited for

    async def test_a_non_blocking_pipe_is_waited_for() -> None:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        with io.FileIO(reading) as raw, io.FileIO(writing, "w") as file:
            async with trio.open_nursery() as nursery:

                async def write() -> None:
                    await trio.testing.wait_all_tasks_blocked(0.01)
                    file.write(b"late")

                nursery.start_soon(write)
                buffer = bytearray(10)
                assert await Source(raw, "a pipe").read_into(buffer) == 4


async def test_a_pipe_with_nothing_to_say_can_be_left() -> None:
    reading, writing = os.pipe()
    with io.FileIO(reading) as raw, io.FileIO(writing, "w") as file:
        with trio.move_on_after(0.01) as scope:
            await Source(raw, "a pipe").read_into(bytearray(10))
        assert scope.cancelled_caught
        file.write(b"x")  # the thread that was left behind may go


# Receptions -----------------------------------------------------------------------------------


async def test_a_reception_counts_hashes_and_writes(tmp_path: Path) -> None:
    data = random.Random(3).randbytes(300_000)
    path = tmp_path / "out"
    path.write_bytes(b"before")
    file = AppendingFile(str(path))
    assert file.size() == 6
    async with small_pair() as (left, right):
        reception = Reception(right, write=file.write)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reception.run)
            await left.send(data)
            left.shutdown(trio_send.SocketShutdown.SEND)
    assert (reception.count, reception.ended, reception.error) == (300_000, True, None)
    assert reception.digest() == hashlib.sha256(data).hexdigest()
    assert file.size() == 300_006
    file.close()
    assert path.read_bytes() == b"before" + data


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
async def test_a_reception_that_cannot_write_says_so() -> None:
    file = AppendingFile("/dev/full")
    async with small_pair() as (left, right):
        await left.send(b"x")
        with pytest.raises(Failure, match="'/dev/full' cannot be written: No space left"):
            await Reception(right, write=file.write).run()
    file.close()


@pytest.mark.parametrize("rate", [1, 7, 20, 1000, 10**6, 10**9])
async def test_a_pace_is_kept_smoothly(rate: int, autojump_clock: MockClock) -> None:
    pace = Pace(rate)
    assert 1 <= pace.sip <= BUFFER_SIZE
    began = trio.current_time()
    taken = 0
    for _ in range(100):
        await pace.took(pace.sip)
        taken += pace.sip
        passed = trio.current_time() - began
        # Never ahead by more than a twentieth of a second, never behind when there is something to take.
        assert taken / rate - 0.06 <= passed <= taken / rate + 1e-6
    await trio.sleep(100)
    began = trio.current_time()
    for _ in range(3):
        await pace.took(pace.sip)
    assert trio.current_time() - began >= 3 * pace.sip / rate - 0.06, "a pause is not made up for"


# Failures -------------------------------------------------------------------------------------


def test_what_matters_most_in_a_group() -> None:
    failure, bug, stop = Failure("it failed"), KeyError("a bug"), KeyboardInterrupt()
    assert innermost(failure) is failure
    assert innermost(ExceptionGroup("", [ExceptionGroup("", [failure])])) is failure
    assert innermost(ExceptionGroup("", [failure, bug])) is bug
    assert innermost(BaseExceptionGroup("", [bug, BaseExceptionGroup("", [failure, stop])])) is stop


def test_errors_as_part_of_a_sentence() -> None:
    error = trio_send.SocketException(trio_send.SocketError.CONNECTION_RESET, bytes_transferred=5)
    assert describe(error) == "the peer reset the connection (CONNECTION_RESET, 10054)"
    assert describe(OSError(errno.ENOENT, "No such file")) == "No such file"
    assert describe(OSError("odd")) == "odd"
    assert describe(OSError()) == "OSError"


# Meters ---------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    # No fixture: pytest puts streams of its own in place again when the test itself begins.
    made = Terminal()
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.setenv("TERM", "xterm-256color")
    return made


async def test_without_a_terminal_there_is_no_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with _meter.meter("file", 100) as shown:
        shown.show(50)
        shown.hide()
        await _meter.keep_showing(shown, lambda: 1)
    assert stream.getvalue() == ""


async def test_a_dumb_terminal_has_no_meter_either(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    with _meter.meter("file", 100) as shown:
        shown.show(50)
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("total", [None, 4096])
async def test_without_rich_a_line_is_written_over(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, total: int | None
) -> None:
    terminal = use_terminal(monkeypatch)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with _meter.meter("file", total) as shown:
        with trio.move_on_after(1.05):
            done = iter(range(0, 10**6, 512))
            await _meter.keep_showing(shown, lambda: next(done))
    lines = terminal.getvalue().split("\r")
    assert lines[1] == "file: 0 B" + (" of 4 KiB" if total else "") + ", 0 B/s"
    assert lines[-3].rstrip() == "file: 5 KiB" + (" of 4 KiB" if total else "") + ", 5 KiB/s"
    assert lines[-2].strip() == ""
    assert lines[-1] == ""


@pytest.mark.parametrize("total", [None, 4096])
async def test_with_rich_there_is_a_bar(monkeypatch: pytest.MonkeyPatch, total: int | None) -> None:
    pytest.importorskip("rich")
    terminal = use_terminal(monkeypatch)
    with _meter.meter("[file]", total) as shown:
        shown.show(0)
        shown.show(1024)
        shown.hide()
        shown.hide()
        shown.show(2048)
    text = terminal.getvalue()
    assert "[file]" in text
    # Of an unknown total nothing is a part, and a full bar would be a lie.
    assert ("━" in text) == (total is not None)
    assert "2 KiB" in text
    assert text.endswith(("\x1b[2K", "\x1b[?25h", "\x1b[1A\x1b[2K")), (
        "the bar is taken off the screen"
    )


async def test_a_meter_that_cannot_be_written_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken(Terminal):
        def write(self, text: str) -> int:
            raise OSError(errno.EIO, "gone")

    monkeypatch.setattr(sys, "stderr", Broken())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with _meter.meter("file") as shown:
        shown.show(1)
