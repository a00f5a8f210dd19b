"""Hold the sending of packets and files to being a send like any other, and to closing what it has opened, once.

What the kernel does is seen on real sockets with tiny buffers, in which order things happen on scripted ports.
"""

from __future__ import annotations

import os
import socket as stdlib_socket
import stat
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings, strategies as st
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from tests.files import elements_of, needs_proc, times_open
from tests.helpers import (
    BIG,
    Ends,
    Told,
    bytes_of,
    connected,
    ends as ends,
    kind as kind,
    needs_sigpipe,
    never_called,
    nothing_to_read,
    read_exactly,
    run_where_sigpipe_kills,
    scripted,
    ten,
)
from tests.scripted import Call, SpyPort, run_virtual
from trio_send import (
    InvalidOperationError,
    ObjectDisposedError,
    OperationInProgressError,
    SendPacketsElement,
    Socket,
    SocketAsyncEventArgs,
    SocketAsyncOperation,
    SocketError,
    SocketException,
    SocketFlags,
    TracedOperation,
    add_instrument,
    open_initiator,
    remove_instrument,
    socketpair,
)
from trio_send._messages.files import CHUNK_SIZE
from trio_send._messages.packets import ATTEMPT_SIZE
from trio_send.abc import Instrument
from trio_send.testing import Blocked, ScriptedPort

ABORTED = SocketError.OPERATION_ABORTED
SUCCESS = SocketError.SUCCESS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with the content of BIG."""
    path = tmp_path / "big"
    path.write_bytes(BIG)
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A file of ten bytes."""
    path = tmp_path / "small"
    path.write_bytes(b"0123456789")
    return path


def packets(*sources: Any) -> SocketAsyncEventArgs:
    """Args with elements; what is none is made one."""
    args = SocketAsyncEventArgs()
    args.send_packets_elements = [
        source if isinstance(source, SendPacketsElement) else SendPacketsElement(source)
        for source in sources
    ]
    return args


async def cut(socket: Socket, path: Path | None = None) -> None:
    """Begin to send a file, or ten bytes, and cancel that as soon as it waits."""
    async with trio.open_nursery() as nursery:
        if path is None:
            nursery.start_soon(socket.send, ten("cut"))
        else:
            nursery.start_soon(socket.send_file, path)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


# On real sockets ------------------------------------------------------------------------------


@pytest.mark.fact("F195", "F203", "F204", "F260")
async def test_elements_go_out_one_after_another_as_one_message(ends: Ends, path: Path) -> None:
    ours, peer = ends
    with path.open("rb") as file:
        file.seek(77)
        args = packets(b"head", path, SendPacketsElement(file, 5, 100_000), b"", b"tail")
        before, behind = SocketAsyncEventArgs(BIG[:1000]), SocketAsyncEventArgs(BIG[-1000:])
        expected = BIG[:1000] + b"head" + BIG + BIG[5:100_005] + b"tail" + BIG[-1000:]
        async with open_initiator():
            ours.send_async(before)
            assert ours.send_packets_async(args)
            assert args.last_operation is SocketAsyncOperation.SEND_PACKETS
            assert args.socket_error is SocketError.IO_PENDING
            assert ours.send_async(behind)
            assert await read_exactly(peer, len(expected)) == expected
            assert await args.wait() == len(expected) - 2000
            await behind.wait()
        assert file.tell() == 77
    assert args.socket_error is SUCCESS
    assert args.remaining_elements == []
    assert nothing_to_read(peer)


async def test_a_file_is_sent_whole(ends: Ends, path: Path) -> None:
    ours, peer = ends
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            assert await read_exactly(peer, len(BIG)) == BIG

        assert await ours.send_file(path) == len(BIG)
    assert nothing_to_read(peer)
    assert ours.torn is None


async def test_awaited_files_and_other_sends_keep_their_order(ends: Ends, path: Path) -> None:
    ours, peer = ends
    expected = BIG + b"between" + BIG[10:20_010] + b"behind"
    async with trio.open_nursery() as nursery:
        for send in (
            (ours.send_file, path),
            (ours.send, b"between"),
            (ours.send_file, str(path), 10, 20_000),
            (ours.send, b"behind"),
        ):
            nursery.start_soon(*send)
            await wait_all_tasks_blocked()
        assert await read_exactly(peer, len(expected)) == expected


async def test_a_cancelled_file_can_be_finished(ends: Ends, path: Path) -> None:
    """Also if its path has come to mean another file, and an open one was closed."""
    ours, peer = ends
    async with trio.open_nursery() as nursery:
        with path.open("rb") as file:
            nursery.start_soon(ours.send_file, file, 3)
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    path.unlink()
    path.write_bytes(bytes(len(BIG)))
    torn = ours.torn
    assert torn is not None
    assert torn.operation is None
    assert 0 < torn.bytes_transferred < torn.size == len(BIG) - 3
    with pytest.raises(InvalidOperationError, match="lies in files"):
        _ = torn.remaining
    with pytest.raises(SocketException, match="was cut after some of its bytes"):
        await ours.send_file(path)
    rest = torn.size - torn.bytes_transferred
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            assert await read_exactly(peer, len(BIG) - 3) == BIG[3:]

        assert await ours.send_rest() == rest
    assert ours.torn is None
    assert nothing_to_read(peer)


@pytest.mark.parametrize("how", ["resume", "send_rest", "anew"])
async def test_packets_of_an_initiator_that_was_left_can_be_finished(
    ends: Ends, path: Path, how: str
) -> None:
    ours, peer = ends
    expected = b"head" + BIG + b"tail"
    args = packets(b"head", path, b"tail")
    async with open_initiator():
        assert ours.send_packets_async(args)
    assert args.socket_error is ABORTED
    count = args.bytes_transferred
    assert 4 < count < len(BIG)
    assert ours.torn is not None
    assert ours.torn.operation is args
    async with open_initiator():
        with pytest.raises(InvalidOperationError, match="was cut after"):
            ours.send_packets_async(args)
    rest = args.remaining_elements
    assert [(part.file_path, part.offset, part.count, part.buffer) for part in rest] == [
        (path, count - 4, len(BIG) - count + 4, None),
        (None, 0, 4, b"tail"),
    ]
    async with trio.open_nursery() as nursery, open_initiator():

        @nursery.start_soon
        async def _() -> None:
            assert await read_exactly(peer, len(expected)) == expected

        if how == "resume":
            assert ours.resume(args)
            assert await args.wait() == len(expected)
        elif how == "send_rest":
            assert await ours.send_rest() == len(expected) - count
            assert args.bytes_transferred == len(expected)
        else:
            ours.forget_torn()
            args.send_packets_elements = rest
            assert ours.send_packets_async(args)
            assert await args.wait() == len(expected) - count
    assert ours.torn is None
    assert args.socket_error is SUCCESS


async def test_a_file_beyond_four_gigabytes(ends: Ends, tmp_path: Path) -> None:
    ours, peer = ends
    path = tmp_path / "sparse"
    far = 5 * 2**30
    with path.open("wb") as file:
        file.seek(far)
        file.write(b"far away")
    assert await ours.send_file(path, far - 4) == 12
    assert await read_exactly(peer, 12) == bytes(4) + b"far away"
    args = packets(SendPacketsElement(path, far + 4, 3))
    async with open_initiator():
        assert not ours.send_packets_async(args)
    assert await read_exactly(peer, 3) == b"awa"


async def test_a_file_that_the_kernel_does_not_send_is_read(ends: Ends) -> None:
    ours, peer = ends
    name = "/proc/self/cmdline"
    if not os.path.exists(name):
        pytest.skip(f"this system has no {name}")
    with open(name, "rb") as file:
        expected = file.read(10)
    assert await ours.send_file(name, 0, 10) == 10
    assert await read_exactly(peer, 10) == expected
    with pytest.raises(
        SocketException, match="before the 1048576 bytes from offset 0 on"
    ) as caught:
        await ours.send_file(name, 0, 2**20)
    assert caught.value.bytes_transferred > 0


# Files that are copied ------------------------------------------------------------------------


@pytest.mark.parametrize("face", ["send_file", "send_packets_async"])
@pytest.mark.parametrize("change", ["overwrite", "truncate"])
async def test_what_was_accepted_of_a_copied_file_cannot_be_changed(
    ends: Ends, tmp_path: Path, face: str, change: str
) -> None:
    """The file is the program's again as soon as the send has ended, whatever the peer has read by then."""
    ours, peer = ends
    path = tmp_path / "data"
    path.write_bytes(ten("before") * 300)
    if face == "send_file":
        assert await ours.send_file(path, copy=True) == 3000
    else:
        async with open_initiator():
            args = packets(SendPacketsElement(path, copy=True))
            ours.send_packets_async(args)
            assert await args.wait() == 3000
    if change == "overwrite":
        with path.open("r+b") as file:
            file.write(ten("behind") * 300)
    else:
        os.truncate(path, 0)
    assert await read_exactly(peer, 3000) == ten("before") * 300


async def test_a_large_file_that_is_copied_arrives_whole(ends: Ends, path: Path) -> None:
    ours, peer = ends
    args = packets(b"head", SendPacketsElement(path, copy=True), path, b"tail")
    async with open_initiator():
        assert ours.send_packets_async(args)
        assert await read_exactly(peer, 2 * len(BIG) + 8) == b"head" + BIG + BIG + b"tail"
        assert await args.wait() == 2 * len(BIG) + 8
    assert nothing_to_read(peer)


@pytest.mark.parametrize("way", ["copy", "refused by the kernel", "a port without files"])
async def test_a_piece_of_which_a_part_was_accepted_is_sent_as_it_was_read(
    small: Path, way: str
) -> None:
    """Read anew, its second part would be of another version of the file than the first."""
    script: list[Any] = [3, Blocked(), 2, Blocked()]
    if way == "refused by the kernel":
        script.insert(0, "EINVAL")
    port = (SpyPort if way == "a port without files" else ScriptedPort)(script)
    inner = port.inner if isinstance(port, SpyPort) else port
    ours = Socket.from_port(port)
    args = packets(SendPacketsElement(small, copy=way == "copy"), small)
    async with open_initiator():
        assert ours.send_packets_async(args)
        await wait_all_tasks_blocked()
        small.write_bytes(b"abcdefghij")
        inner.unblock()
        await wait_all_tasks_blocked()
        assert args.bytes_transferred == 5
        args.cancel()
        await args.wait()
        small.write_bytes(b"ABCDEFGHIJ")
        inner.unblock()
        assert not ours.resume(args)  # the rest is of the piece that was cut, too
    assert args.bytes_transferred == 20
    assert inner.accepted == b"0123456789" + b"ABCDEFGHIJ"
    assert args._operation.packets is not None
    assert args._operation.packets.peek(10, 10) == b""  # nothing is kept of what has ended


async def test_of_a_copied_file_no_more_than_a_piece_is_in_memory(tmp_path: Path) -> None:
    size = 64 * CHUNK_SIZE
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        with path.open("wb") as file:
            file.truncate(size)
    sizes: list[int] = []

    def discard(call: Call) -> None:
        sizes.append(len(call.offered))
        port.calls.clear()
        port.inner.accepted.clear()
        port.inner.messages.clear()

    port = SpyPort(on_call=discard)
    ours = Socket.from_port(port)
    args = packets(*[SendPacketsElement(path, copy=True) for path in paths])
    async with open_initiator():
        tracemalloc.start()
        try:
            assert ours.send_packets_async(args)
            assert await args.wait() == 2 * size
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert sizes == [CHUNK_SIZE] * 128
    # The piece, the next one while it is read, and what the port makes of it.
    assert peak < 8 * CHUNK_SIZE


async def test_instruments_see_of_a_copied_file_what_was_sent(small: Path) -> None:
    seen: list[bytes] = []

    class Listening(Instrument):
        def bytes_accepted(self, operation: TracedOperation, count: int, total: int) -> None:
            small.write_bytes(b"-" * 10)
            seen.append(operation.peek(total - count, count))

    ours, _ = scripted(3, Blocked(0.01), 4)
    instrument = Listening()
    add_instrument(instrument)
    try:
        assert await ours.send_file(small, copy=True) == 10
    finally:
        remove_instrument(instrument)
    assert seen == [b"012", b"3456", b"789"]


# Files whose length is not what they say --------------------------------------------------------


def overstating(monkeypatch: pytest.MonkeyPatch, path: Path, size: int) -> None:
    """Have a file say that it has ``size`` bytes, as files of the kernel's do."""
    number = path.stat().st_ino
    ask = os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        status = ask(descriptor)
        if status.st_ino != number:
            return status
        fields = list(status)
        fields[stat.ST_SIZE] = size
        return os.stat_result(fields)

    monkeypatch.setattr(os, "fstat", fstat)


async def test_a_file_of_the_kernels_is_sent_for_as_long_as_it_is(ends: Ends) -> None:
    ours, peer = ends
    name = "/sys/class/net/lo/mtu"
    if not os.path.exists(name):
        pytest.skip(f"this system has no {name}")
    content = Path(name).read_bytes()
    assert os.stat(name).st_size > len(content)
    for copy in (False, True):
        assert await ours.send_file(name, copy=copy) == len(content)
        assert await read_exactly(peer, len(content)) == content
    with pytest.raises(
        SocketException, match=f"ends at offset {len(content)}, before the 100 byte"
    ):
        await ours.send_file(name, 0, 100)
    assert ours.torn is not None


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("waits", [False, True])
async def test_a_file_that_overstates_its_length_ends_where_it_ends(
    small: Path, copy: bool, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    overstating(monkeypatch, small, 4096)
    ours, port = scripted(*[1, 3, Blocked()] * waits)
    args = packets(b"<", SendPacketsElement(small, copy=copy), SendPacketsElement(small, 8), b">")
    async with open_initiator():
        ours.send_packets_async(args)
        if waits:
            behind = SocketAsyncEventArgs(b"behind")
            ours.send_async(behind)
            assert ours.queued_bytes == 4096 - 3 + 4088 + 1 + 6
            await wait_all_tasks_blocked()
            port.unblock()
            await behind.wait()
        await args.wait()
        assert ours.queued_bytes == 0
        assert args.bytes_transferred == 14
        assert args.socket_error is SUCCESS
        assert args.remaining_elements == []
        assert (
            repr(args) == "<SocketAsyncEventArgs: SEND_PACKETS, SUCCESS, 14 of 14 bytes accepted>"
        )
    assert port.accepted == b"<0123456789" + b"89" + b">" + b"behind" * waits
    assert ours.torn is None


@pytest.mark.parametrize("waits", [False, True])
async def test_instruments_are_told_the_length_that_it_has(
    small: Path, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    overstating(monkeypatch, small, 4096)
    sizes: list[int] = []

    class Listening(Instrument):
        def operation_started(self, operation: TracedOperation) -> None:
            sizes.append(operation.size)

        def operation_completed(self, operation: TracedOperation, *_: object) -> None:
            sizes.append(operation.size)

    ours, _ = scripted(*[3, Blocked(0.01)] * waits)
    instrument = Listening()
    add_instrument(instrument)
    try:
        assert await ours.send_file(small, copy=True) == 10
    finally:
        remove_instrument(instrument)
    assert sizes[-1] == 10


async def test_what_is_queued_is_counted_right_when_a_file_ends_early(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overstating(monkeypatch, small, 4096)
    ours, port = scripted(10, Blocked(), 0, Blocked())
    args = packets(small, b"tail")
    behind = SocketAsyncEventArgs(bytes(100))
    async with open_initiator():
        ours.send_packets_async(args)
        ours.send_async(behind)
        assert ours.queued_bytes == 4086 + 4 + 100
        await wait_all_tasks_blocked()
        port.unblock()
        await wait_all_tasks_blocked()
        assert (
            ours.queued_bytes == 4 + 100
        )  # the end of the file was found, and the tail has to wait
        args.cancel()
        assert (args.bytes_transferred, ours.queued_bytes) == (10, 0)
        assert ours.torn is not None
        assert (ours.torn.size, ours.torn.bytes_transferred) == (14, 10)
        await args.wait()
        port.unblock()
        assert not ours.resume(args)
    assert port.accepted == b"0123456789tail"


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("grown_again", [False, True])
async def test_a_file_that_was_cut_meanwhile_is_none_that_overstates(
    path: Path, copy: bool, grown_again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it has its old length again by the time that it is asked for."""
    ours, _ = scripted(CHUNK_SIZE, Blocked())
    args = packets(SendPacketsElement(path, copy=copy))
    async with open_initiator():
        assert ours.send_packets_async(args)
        await wait_all_tasks_blocked()
        path.write_bytes(BIG[:CHUNK_SIZE])
        ask = os.fstat

        def fstat(descriptor: int) -> os.stat_result:
            if grown_again:
                path.write_bytes(BIG)
            return ask(descriptor)

        monkeypatch.setattr(os, "fstat", fstat)
        ours._core.port.unblock()  # type: ignore[attr-defined]
        await args.wait()
    monkeypatch.undo()
    assert args.socket_error is SocketError.FAULT
    # One that is copied had its next piece read before it was cut.
    assert args.bytes_transferred == CHUNK_SIZE * (1 + copy)
    with pytest.raises(SocketException, match="has become shorter while it was sent"):
        args.outcome.unwrap()  # type: ignore[union-attr]
    assert ours.torn is not None
    ours.close()


async def test_a_device_is_sent_for_as_long_as_was_asked(ends: Ends) -> None:
    ours, peer = ends
    if not os.path.exists("/dev/zero"):
        pytest.skip("this system has no /dev/zero")
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            assert await read_exactly(peer, 100_000) == bytes(100_000)

        assert await ours.send_file("/dev/zero", 0, 100_000) == 100_000


async def test_what_is_appended_is_not_sent(ends: Ends, path: Path) -> None:
    ours, peer = ends
    args = packets(path)
    async with open_initiator():
        assert ours.send_packets_async(args)
        with path.open("ab") as file:
            file.write(b"appended")
        assert await read_exactly(peer, len(BIG)) == BIG
        assert await args.wait() == len(BIG)
    assert nothing_to_read(peer)


@pytest.mark.fact("F299")
async def test_a_file_that_becomes_shorter_is_an_error_and_tears(ends: Ends, path: Path) -> None:
    ours, peer = ends
    args, behind = packets(b"head", path), SocketAsyncEventArgs(b"behind")
    async with open_initiator():
        assert ours.send_packets_async(args)
        assert ours.send_async(behind)
        shorter = args.bytes_transferred - 4 + 10
        os.truncate(path, shorter)
        # What the kernel has of the file already it may send as it was, or as zeros. How much there is holds.
        assert len(await read_exactly(peer, args.bytes_transferred)) > 0
        await args.wait()
        assert args.socket_error is SocketError.FAULT
        assert args.bytes_transferred == 4 + shorter
        await behind.wait()
        assert behind.socket_error is SocketError.CONNECTION_ABORTED
    assert args.outcome is not None
    with pytest.raises(SocketException, match=f"no byte at offset {shorter} any more") as caught:
        args.outcome.unwrap()
    assert caught.value.bytes_transferred == 4 + shorter
    assert ours.torn is not None
    # If the file is longer again, so is what can be sent of it.
    path.open("ab").close()
    with path.open("r+b") as file:
        file.write(BIG)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_exactly, peer, len(BIG))
            assert await ours.send_rest() == len(BIG) - shorter
            scope.cancel()


# Descriptors ----------------------------------------------------------------------------------


@needs_proc
@pytest.mark.parametrize("end", ["sent", "forgotten", "closed", "resumed", "failed"])
async def test_each_file_is_closed_once_nothing_more_can_be_sent_of_it(
    small: Path, end: str
) -> None:
    ours, port = scripted(3, Blocked(0.01))
    args = packets(small)
    seen: list[int] = []
    args.completed += lambda socket, args: seen.append(times_open(small))
    async with open_initiator():
        assert ours.send_packets_async(args)
        assert times_open(small) == 1
        if end == "sent":
            port.unblock()
            await args.wait()
        elif end == "failed":
            port.add("ECONNRESET")
            port.unblock()
            await args.wait()
        elif end == "closed":
            ours.close()
            await args.wait()
    if end not in ("forgotten", "resumed"):
        assert seen == [0]
    else:
        assert seen == [1]
        assert args.socket_error is ABORTED
        # Half a message is worth its file.
        assert times_open(small) == 1
        if end == "forgotten":
            ours.forget_torn()
        else:
            port.unblock()
            await ours.send_rest()
            assert port.accepted == b"0123456789"
    assert times_open(small) == 0
    ours.close()


@needs_proc
async def test_a_file_of_a_torn_stream_is_closed_with_it(small: Path) -> None:
    ours, _ = scripted(3, Blocked())
    await cut(ours, small)
    assert times_open(small) == 1
    ours.close()
    assert times_open(small) == 0


@needs_proc
@pytest.mark.parametrize("script", [(), ("ECONNRESET",), (3, "ECONNRESET"), (3, "EIO")])
async def test_a_file_that_is_sent_on_the_spot_is_closed_on_the_spot(
    small: Path, script: tuple[int | str, ...]
) -> None:
    ours, _ = scripted(*script)
    args = packets(small)
    async with open_initiator():
        pending = ours.send_packets_async(args)
        if pending:
            await args.wait()
        assert times_open(small) == (ours.torn is not None)
        assert (ours.torn is not None) == ("EIO" in script)
    ours.close()
    assert times_open(small) == 0


@needs_proc
async def test_a_start_that_is_refused_leaves_nothing_open(small: Path) -> None:
    ours, port = scripted(3, Blocked())
    args = packets(small)
    await cut(ours)
    async with open_initiator() as initiator:
        assert not ours.send_packets_async(args)
        assert args.socket_error is SocketError.CONNECTION_ABORTED
        assert times_open(small) == 0
        with pytest.raises(SocketException, match="was cut after"):
            await ours.send_file(small)
        assert times_open(small) == 0
        ours.forget_torn()
        initiator.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
        attempts = port.attempts
        assert not ours.send_packets_async(args)
        assert args.socket_error is ABORTED
        assert port.attempts == attempts
    assert times_open(small) == 0


@needs_proc
async def test_an_operation_that_ended_long_ago_is_closed_when_it_is_told(small: Path) -> None:
    """Where a start is answered "pending" for fairness alone."""
    ours, _ = scripted()
    args = packets(small)
    async with open_initiator():
        for _ in range(2000):
            if ours.send_packets_async(args):
                break
        else:
            pytest.fail("a loop of sends never yields")
        assert await args.wait() == 10
        assert args.socket_error is SUCCESS
        assert times_open(small) == 0


# Refusals -------------------------------------------------------------------------------------


async def test_args_without_elements_are_refused() -> None:
    ours, port = scripted()
    args = SocketAsyncEventArgs(b"a buffer")
    async with open_initiator():
        with pytest.raises(ValueError, match="no send_packets_elements"):
            ours.send_packets_async(args)
        with pytest.raises(TypeError, match="args must be a SocketAsyncEventArgs"):
            ours.send_packets_async(None)  # type: ignore[arg-type]
    assert args.last_operation is SocketAsyncOperation.NONE
    assert port.attempts == 0


@pytest.mark.fact("F297")
@pytest.mark.parametrize("elements", [[], [SendPacketsElement(b"")]])
async def test_empty_packets_are_sent_at_once(elements: list[SendPacketsElement]) -> None:
    ours, port = scripted()
    args = SocketAsyncEventArgs()
    args.send_packets_elements = elements
    args.completed += never_called
    async with open_initiator():
        assert not ours.send_packets_async(args)
    assert (args.socket_error, args.bytes_transferred) == (SUCCESS, 0)
    assert port.attempts == 0


async def test_a_missing_file_is_told_by_the_call_and_changes_nothing(tmp_path: Path) -> None:
    ours, port = scripted()
    missing = tmp_path / "missing"
    args = packets(b"head", missing)
    async with open_initiator():
        with pytest.raises(FileNotFoundError) as caught:
            ours.send_packets_async(args)
        assert not isinstance(caught.value, SocketException)
        assert args.last_operation is SocketAsyncOperation.NONE
        assert not args.pending
        missing.write_bytes(b"found")
        assert not ours.send_packets_async(args)
    assert port.accepted == b"headfound"


@pytest.mark.fact("F106")
async def test_elements_of_args_in_use_cannot_be_set(small: Path) -> None:
    ours, port = scripted(3, Blocked())
    args = packets(small)
    elements = args.send_packets_elements
    async with open_initiator():
        assert ours.send_packets_async(args)
        with pytest.raises(OperationInProgressError):
            args.send_packets_elements = []
        with pytest.raises(OperationInProgressError):
            ours.send_packets_async(args)
        assert args.send_packets_elements is elements
        await wait_all_tasks_blocked()
        port.unblock()
        assert await args.wait() == 10
    args.send_packets_elements = []


async def test_a_file_is_no_datagram_by_itself(small: Path) -> None:
    with stdlib_socket.socket(type=stdlib_socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        ours = Socket(type=stdlib_socket.SOCK_DGRAM)
        await ours.connect(receiver.getsockname())
        with pytest.raises(SocketException, match="only be sent on a stream") as caught:
            await ours.send_file(small)
        assert caught.value.socket_error_code is SocketError.OPERATION_NOT_SUPPORTED
        assert nothing_to_read(receiver)
        ours.close()


async def test_packets_take_no_flags() -> None:
    ours, port = scripted()
    args = packets(b"abc")
    args.socket_flags = SocketFlags.OUT_OF_BAND
    async with open_initiator():
        assert not ours.send_packets_async(args)
    assert args.socket_error is SocketError.OPERATION_NOT_SUPPORTED
    assert port.attempts == 0


@pytest.mark.fact("F092", "F297")
async def test_a_socket_that_was_never_connected_tells_it_as_every_send_does(small: Path) -> None:
    ours = Socket()
    args = packets(small)
    async with open_initiator():
        assert not ours.send_packets_async(args)
    assert args.socket_error is SocketError.NOT_CONNECTED
    with pytest.raises(SocketException) as caught:
        await ours.send_file(small)
    assert caught.value.socket_error_code is SocketError.NOT_CONNECTED
    ours.close()
    async with open_initiator():
        with pytest.raises(ObjectDisposedError):
            ours.send_packets_async(args)
    with pytest.raises(ObjectDisposedError):
        await ours.send_file(small)


@pytest.mark.parametrize(
    ("file", "error", "match"),
    [
        (b"bytes", TypeError, "file must be a path or a file open for reading"),
        (None, TypeError, "not NoneType"),
        ("", ValueError, "file is an empty path"),
    ],
)
async def test_what_is_no_file_is_refused(file: Any, error: type[Exception], match: str) -> None:
    ours, _ = scripted()
    with pytest.raises(error, match=match):
        await ours.send_file(file)


async def test_a_count_of_zero_is_zero(small: Path) -> None:
    ours, port = scripted()
    assert await ours.send_file(small, 3, 0) == 0
    assert await ours.send_file(small, 10) == 0
    assert port.accepted == b""
    with pytest.raises(ValueError, match="offset is 11"):
        await ours.send_file(small, 11)
    with pytest.raises(ValueError, match="count is 8, but"):
        await ours.send_file(small, 3, 8)


async def test_sending_a_file_is_always_a_checkpoint(small: Path, tmp_path: Path) -> None:
    ours, port = scripted(10, 10, "EIO")
    for _ in range(2):
        with assert_checkpoints():
            await ours.send_file(small)
    with assert_checkpoints(), pytest.raises(SocketException):
        await ours.send_file(small)
    with assert_checkpoints(), pytest.raises(FileNotFoundError):
        await ours.send_file(tmp_path / "missing")
    with trio.CancelScope() as scope:
        scope.cancel()
        await ours.send_file(small)
    assert scope.cancelled_caught
    assert port.attempts == 3


# In which order, and how much -----------------------------------------------------------------


async def test_buffers_beside_elements_are_a_message_of_their_own(small: Path) -> None:
    """Elements take the place of the buffer for one operation, and not a byte longer."""
    ours, port = scripted(2, Blocked(0.01), 100, 100, 3, Blocked(0.01))
    args = SocketAsyncEventArgs(b"the buffer", 4, 6)
    args.send_packets_elements = [SendPacketsElement(small), SendPacketsElement(b"abc")]
    async with open_initiator():
        assert ours.send_packets_async(args)
        assert (args.offset, args.count) == (4, 6)
        args.socket_flags = SocketFlags.NONE
        with pytest.raises(InvalidOperationError):
            _ = args.remaining
        assert repr(args) == "<SocketAsyncEventArgs: SEND_PACKETS, pending, 2 of 13 bytes accepted>"
        assert await args.wait() == 13
        assert (
            repr(args) == "<SocketAsyncEventArgs: SEND_PACKETS, SUCCESS, 13 of 13 bytes accepted>"
        )
        assert b"".join(args.remaining) == b"buffer"
        assert args.remaining_elements == []
        assert ours.send_async(args)
        assert b"".join(args.remaining) == b"fer"
        assert [part.count for part in args.remaining_elements] == [0, 3]
        assert await args.wait() == 6
    assert port.accepted == b"0123456789abcbuffer"


async def test_args_that_are_closed_meanwhile_send_on_and_forget(small: Path) -> None:
    ours, port = scripted(3, Blocked(0.01))
    args = packets(small)
    async with open_initiator():
        assert ours.send_packets_async(args)
        args.close()
        assert await args.wait() == 10
    assert port.accepted == b"0123456789"
    assert args.remaining_elements == []


async def test_neighbours_are_not_joined_with_a_file(small: Path) -> None:
    ours, port = scripted(Blocked(0.01))
    told = Told()
    first, second, third = told.args("a"), told.args("b"), told.args("c")
    second.send_packets_elements = [SendPacketsElement(small)]
    async with open_initiator():
        assert ours.send_async(first)
        assert ours.send_packets_async(second)
        assert ours.send_async(third)
        await third.wait()
    assert port.messages == [ten("a"), b"0123456789", ten("c")]
    assert told.events == [("a", SUCCESS, 10), ("b", SUCCESS, 10), ("c", SUCCESS, 10)]


async def test_buffers_that_are_neighbours_go_out_in_one_call(small: Path) -> None:
    ours, port = scripted()
    args = packets(b"a", b"b", small, b"c", b"d")
    async with open_initiator():
        assert not ours.send_packets_async(args)
    assert port.messages == [b"ab", b"0123456789", b"cd"]


async def test_one_attempt_sends_no_more_than_its_share(tmp_path: Path) -> None:
    """However much the port takes, the other tasks run in between."""
    path = tmp_path / "large"
    size = 3 * ATTEMPT_SIZE + 5
    with path.open("wb") as file:
        file.truncate(size)
    ours, port = scripted()
    assert await ours.send_file(path) == size
    assert [len(message) for message in port.messages] == [ATTEMPT_SIZE] * 3 + [5]
    args = packets(path)
    async with open_initiator():
        assert ours.send_packets_async(args)
        assert args.bytes_transferred == ATTEMPT_SIZE
        assert await args.wait() == size


async def test_a_buffer_is_not_cut_and_may_go_beyond_the_share_of_an_attempt() -> None:
    ours, port = scripted()
    async with open_initiator():
        assert not ours.send_packets_async(packets(bytes(ATTEMPT_SIZE + 5)))
    assert [len(message) for message in port.messages] == [ATTEMPT_SIZE + 5]


@pytest.mark.parametrize("refusal", ["EINVAL", "ENOSYS", "EOPNOTSUPP"])
async def test_a_file_that_is_refused_is_read_and_sent(path: Path, refusal: str) -> None:
    ours, port = scripted(refusal, 5, Blocked(0.01), CHUNK_SIZE)
    assert await ours.send_file(path) == len(BIG)
    assert port.accepted == BIG
    assert max(map(len, port.messages)) == CHUNK_SIZE


async def test_a_port_that_cannot_send_files_gets_what_was_read(path: Path) -> None:
    port = SpyPort([5, Blocked(0.01), 7])
    ours = Socket.from_port(port)
    assert await ours.send_file(path) == len(BIG)
    assert port.accepted == BIG


async def test_an_error_of_the_disk_tears_a_living_stream(small: Path) -> None:
    ours, port = scripted(3, Blocked(0.01), "EIO")
    args = packets(small)
    async with open_initiator():
        assert ours.send_packets_async(args)
        await args.wait()
    assert args.socket_error is SocketError.SOCKET_ERROR
    assert args.bytes_transferred == 3
    assert ours.torn is not None
    assert await ours.send_rest() == 7
    assert port.accepted == b"0123456789"


async def test_an_error_of_the_connection_breaks_it(small: Path) -> None:
    ours, _ = scripted(3, Blocked(0.01), "EPIPE")
    with pytest.raises(SocketException) as caught:
        await ours.send_file(small)
    assert caught.value.socket_error_code is SocketError.SHUTDOWN
    assert caught.value.bytes_transferred == 3
    assert ours.torn is None
    assert not ours.connected


async def test_a_pause_for_memory_serves_files_too(small: Path) -> None:
    ours, port = scripted(3, "ENOBUFS", "ENOBUFS")
    assert await ours.send_file(small) == 10
    assert port.accepted == b"0123456789"


@pytest.mark.parametrize("limit", ["timeout", "stall_timeout"])
async def test_time_limits_cut_a_file(small: Path, limit: str, autojump_clock: Any) -> None:
    ours, port = scripted(3, Blocked())
    args = packets(small)
    setattr(args, limit, 2)
    async with open_initiator():
        assert ours.send_packets_async(args)
        assert await args.wait() == 3
        assert args.socket_error is SocketError.TIMED_OUT
        setattr(args, limit, 1000)
        port.unblock()
        assert not ours.resume(args)
    assert (args.socket_error, args.bytes_transferred) == (SUCCESS, 10)
    assert port.accepted == b"0123456789"


async def test_a_rest_is_cut_again_and_again(small: Path) -> None:
    ours, port = scripted(1, Blocked())
    await cut(ours, small)
    for expected in range(1, 8):
        assert ours.torn is not None
        assert ours.torn.bytes_transferred == expected
        port.add(1, Blocked())
        port.unblock()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.send_rest)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    port.unblock()
    assert await ours.send_rest() == 2
    assert port.accepted == b"0123456789"


async def test_fresh_args_take_the_rest_of_a_file_from_buffers(small: Path) -> None:
    ours, port = scripted(4, Blocked())
    await cut(ours, small)
    port.unblock()
    async with open_initiator():
        with pytest.raises(ValueError, match="the rest of the message that was cut is 6"):
            ours.resume(SocketAsyncEventArgs(b"56789"))
        assert not ours.resume(SocketAsyncEventArgs(b"456789"))
    assert port.accepted == b"0123456789"
    ours.close()


SIGPIPE_SCRIPT = """
    async def main():
        ours, peer = trio_send.socketpair()
        peer.close()
        try:
            await ours.send_file(sys.argv[1])
        except trio_send.SocketException as error:
            print(error.socket_error_code.name)
        ours.close()
"""


@needs_sigpipe
def test_a_peer_that_is_gone_is_an_error_even_where_the_signal_kills(tmp_path: Path) -> None:
    """In a program that has given SIGPIPE its default action back."""
    (tmp_path / "data").write_bytes(bytes(100_000))
    assert run_where_sigpipe_kills(SIGPIPE_SCRIPT, str(tmp_path / "data")) == ["SHUTDOWN"]


# Anything -------------------------------------------------------------------------------------


lines = st.one_of(st.integers(1, 12), st.just(Blocked(0.01)))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.binary(max_size=20), max_size=5),
    st.lists(lines, max_size=20),
    st.lists(st.floats(0, 0.05), max_size=6),
    st.booleans(),
    st.booleans(),
)
def test_whatever_cuts_packets_the_stream_is_that_of_uncut_ones(
    pieces: list[bytes], script: list[Any], stops: list[float], awaited: bool, reads: bool
) -> None:
    """Cancelled at any time, any number of times, and resumed: the peer reads one message, and the count is its."""
    message = b"".join(pieces)

    async def main() -> None:
        port = SpyPort(script) if reads else ScriptedPort(script)
        ours = Socket.from_port(port)
        with tempfile.TemporaryDirectory() as folder:
            args = SocketAsyncEventArgs()
            args.send_packets_elements = elements_of(pieces, Path(folder))
            async with open_initiator():
                before = SocketAsyncEventArgs(b"before")
                ours.send_async(before)
                await before.wait()
                pending = ours.send_packets_async(args)
                for stop in stops:
                    with trio.move_on_after(stop):
                        await args.wait()
                    args.cancel("by the test")
                    await args.wait()
                    assert port.accepted == b"before" + message[: args.bytes_transferred]
                    rest = b"".join(
                        bytes(part.buffer)[part.offset :][: part.count]  # type: ignore[arg-type]
                        if part.buffer is not None
                        else Path(str(part.file_path)).read_bytes()[part.offset :][: part.count]
                        for part in args.remaining_elements
                    )
                    assert rest == message[args.bytes_transferred :]
                    if ours.torn is None:
                        break
                    if awaited:
                        with trio.move_on_after(stop):
                            await ours.send_rest()
                    else:
                        pending = ours.resume(args)
                if pending:
                    await args.wait()
                if ours.torn is not None:
                    await ours.send_rest()
                if args.socket_error is ABORTED:
                    assert args.bytes_transferred == 0
                    assert port.accepted == b"before"
                else:
                    assert args.socket_error is SUCCESS
                    assert args.bytes_transferred == len(message)
                    assert port.accepted == b"before" + message
        ours.close()

    run_virtual(main)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from("bfp"), st.integers(1, 3000)), max_size=12), st.data())
def test_any_mixture_of_sends_is_the_sum_of_its_parts(
    sends: list[tuple[str, int]], data: st.DataObject
) -> None:
    """Buffers, files and packets from one initiator on a real socket: each counted, all in order, none mixed."""
    contents = [bytes_of(size, seed=number) for number, (_, size) in enumerate(sends)]

    async def main() -> None:
        with tempfile.TemporaryDirectory() as name, connected("unix") as (ours, peer):
            async with open_initiator():
                started = []
                for number, ((kind, size), content) in enumerate(zip(sends, contents, strict=True)):
                    args = SocketAsyncEventArgs()
                    if kind == "b":
                        args.set_buffer(content)
                        pending = ours.send_async(args)
                    else:
                        folder = Path(name) / str(number)
                        folder.mkdir()
                        at = data.draw(st.integers(0, size)) if kind == "p" else 0
                        pieces = [content[:at], content[at:]]
                        args.send_packets_elements = elements_of(pieces, folder)
                        pending = ours.send_packets_async(args)
                    started.append((args, pending))
                assert await read_exactly(peer, sum(map(len, contents))) == b"".join(contents)
                for (args, _), content in zip(started, contents, strict=True):
                    assert await args.wait() == len(content)
                    assert args.socket_error is SUCCESS
            assert nothing_to_read(peer)

    trio.run(main)


async def test_nothing_is_left_when_both_ends_are_ours(path: Path) -> None:
    ours, theirs = socketpair()
    received = bytearray()

    async def read() -> None:
        while piece := await theirs.receive():
            received.extend(piece)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        async with ours:
            assert await ours.send_file(path) == len(BIG)
    assert received == BIG
    theirs.close()


async def test_instruments_hear_of_packets_and_can_look_at_them(small: Path) -> None:
    heard: list[tuple[str, int, int, bytes]] = []

    class Listening(Instrument):
        def bytes_accepted(self, operation: TracedOperation, count: int, total: int) -> None:
            data = operation.peek(total - count, count)
            heard.append((operation.kind.name, operation.size, total, data))

    ours, _ = scripted(2, Blocked(0.01), 3)
    args = packets(small, b"abc")
    instrument = Listening()
    add_instrument(instrument)
    try:
        async with open_initiator():
            assert ours.send_packets_async(args)
            await args.wait()
            assert not ours.send_packets_async(args)
    finally:
        remove_instrument(instrument)
    assert {(kind, size) for kind, size, _, _ in heard} == {("SEND_PACKETS", 13)}
    assert b"".join(data for _, _, _, data in heard) == b"0123456789abc" * 2


@pytest.mark.parametrize("queued", [False, True])
async def test_a_socket_that_is_closed_between_two_elements_gets_no_more(
    small: Path, queued: bool
) -> None:
    """By a finaliser, say, which can run anywhere."""

    def close(call: Call) -> None:
        if call.offered == b"a":
            ours.close()

    port = SpyPort([Blocked(0.01)] if queued else (), on_call=close)
    ours = Socket.from_port(port)
    args = packets(b"a", small)
    async with open_initiator():
        if queued:
            assert ours.send_async(SocketAsyncEventArgs(b"before"))
        assert ours.send_packets_async(args) is queued
        await args.wait()
    assert (args.socket_error, args.bytes_transferred) == (ABORTED, 1)
    assert port.offers[-1] == b"a"


async def test_empty_elements_are_not_even_looked_at() -> None:
    ours, port = scripted()
    gone = memoryview(b"abc")
    args = packets(b"begin", SendPacketsElement(gone, 1, 0), b"end")
    gone.release()
    async with open_initiator():
        assert not ours.send_packets_async(args)
    assert args.socket_error is SUCCESS
    assert port.messages == [b"beginend"]


@needs_proc
async def test_where_cuts_are_allowed_no_file_stays_open(small: Path) -> None:
    ours, port = scripted(3, Blocked(), on_torn="allow")
    await cut(ours, small)
    assert ours.torn is None
    assert times_open(small) == 0
    args = packets(small)
    port.add(2, Blocked())
    port.unblock()
    async with open_initiator():
        assert ours.send_packets_async(args)
        assert ours.queued_bytes == 8
        await wait_all_tasks_blocked()
    assert (args.socket_error, args.bytes_transferred) == (ABORTED, 2)
    assert times_open(small) == 0
    # What remains is still known, and the args are free.
    port.unblock()
    args.send_packets_elements = args.remaining_elements
    async with open_initiator():
        assert not ours.send_packets_async(args)
    assert port.accepted == b"012" + b"01" + b"23456789"


async def test_a_handler_that_restarts_cut_packets_at_the_exit_changes_nothing(small: Path) -> None:
    ours, port = scripted(3, Blocked())
    args = packets(small)
    answers: list[bool] = []
    args.completed += lambda socket, args: answers.append(socket.send_packets_async(args))
    async with open_initiator():
        assert ours.send_packets_async(args)
        await wait_all_tasks_blocked()
    assert answers == [False]
    assert (args.socket_error, args.bytes_transferred) == (ABORTED, 3)
    port.unblock()
    assert await ours.send_rest() == 7
    assert port.accepted == b"0123456789"
