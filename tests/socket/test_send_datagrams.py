"""Hold `send_datagrams` to its counts and its order, on real sockets and on ports that do what they are told."""

from __future__ import annotations

import errno
import os
import signal
import socket as stdlib_socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, strategies as st
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from tests.datagrams import receiver, take_all, udp_ends as udp_ends
from tests.helpers import (
    bytes_of,
    connected,
    needs_ipv6,
    python_handles_ctrl_c as python_handles_ctrl_c,
    read_some,
)
from tests.scripted import SpyPort, run_virtual
from trio_send import (
    DatagramBatch,
    InvalidOperationError,
    ObjectDisposedError,
    OperationInProgressError,
    Socket,
    SocketError,
    SocketException,
    SocketFlags,
    TracedOperation,
    add_instrument,
    open_initiator,
    remove_instrument,
)
from trio_send._kernel.port import KernelPort
from trio_send._operations.send_calls import ATTEMPT_ALLOWANCE
from trio_send.abc import Instrument
from trio_send.testing import Blocked

INET = stdlib_socket.AF_INET
DGRAM = stdlib_socket.SOCK_DGRAM
UNIX = stdlib_socket.AF_UNIX
SOMEWHERE = ("127.0.0.1", 9)

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="Linux cuts datagrams apart")


class SegmentPort(SpyPort):
    """A port that takes up to four datagrams in a call.

    Attributes:
      datagrams: those that were accepted, in order.
      segment_calls: the length, the number of bytes and the address of each call for several.
      refuse: asked for the errno that such a call fails with.
    """

    max_segments = 4

    def __init__(self, script: Iterable[int | str | Blocked] = ()) -> None:
        super().__init__(script, is_stream=False)
        self.datagrams: list[bytes] = []
        self.segment_calls: list[tuple[int, int, Any]] = []
        self.refuse: Callable[[int], int] = lambda size: 0

    def send(self, buffer: Any, flags: int, /) -> int:
        count = super().send(buffer, flags)
        self.datagrams.append(bytes(buffer))
        return count

    def send_to(self, buffer: Any, flags: int, address: Any, /) -> int:
        count = super().send_to(buffer, flags, address)
        self.datagrams.append(bytes(buffer))
        return count

    def send_segments(self, buffers: Sequence[Any], size: int, flags: int, address: Any, /) -> int:
        number = self.refuse(size)
        if number:
            raise OSError(number, os.strerror(number))
        data = b"".join(buffers)
        count = super().send_gather(buffers, flags)
        assert count == len(data)
        self.segment_calls.append((size, len(data), address))
        self.datagrams += [data[start : start + size] for start in range(0, len(data), size)]
        return count


@pytest.fixture
def unix() -> Iterator[tuple[Socket, stdlib_socket.socket]]:
    """A Unix datagram socket of ours, and its peer, which makes it wait when it is full."""
    left, peer = stdlib_socket.socketpair(UNIX, DGRAM)
    peer.setblocking(False)
    with peer, closing(Socket.from_stdlib(left)) as socket:
        yield socket, peer


# What arrives ---------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.sampled_from((0, 1, 7, 7, 7, 200)), st.sampled_from((bytes, bytearray))),
        max_size=40,
    ),
    st.booleans(),
)
def test_each_datagram_arrives_whole_and_in_order(
    shapes: list[tuple[int, Any]], addressed: bool
) -> None:
    """Whatever shares a system call."""
    datagrams = [make(bytes_of(size, seed)) for seed, (size, make) in enumerate(shapes)]

    async def main() -> None:
        with receiver() as peer, closing(Socket(type=DGRAM)) as socket:
            if not addressed:
                await socket.connect(peer.getsockname())
            address = peer.getsockname() if addressed else None
            assert await socket.send_datagrams(datagrams, address) == len(datagrams)
            assert take_all(peer) == [bytes(each) for each in datagrams]

    trio.run(main)


@needs_ipv6
async def test_over_ipv6() -> None:
    with receiver(stdlib_socket.AF_INET6) as peer:
        with closing(Socket(stdlib_socket.AF_INET6, DGRAM)) as socket:
            datagrams = [bytes([number]) * 500 for number in range(100)]
            assert await socket.send_datagrams(datagrams, peer.getsockname()) == 100
            assert take_all(peer) == datagrams


class CallsCounted(KernelPort):
    """The kernel's port, which counts the calls for several datagrams."""

    __slots__ = ("calls", "refused")

    def __init__(self, sock: stdlib_socket.socket) -> None:
        super().__init__(sock)
        self.calls = self.refused = 0

    def send_segments(self, buffers: Sequence[Any], size: int, flags: int, address: Any, /) -> int:
        self.calls += 1
        try:
            return super().send_segments(buffers, size, flags, address)
        except OSError:
            self.refused += 1
            raise


@linux_only
@pytest.mark.parametrize("size", [100, 3000])  # some are joined for the call, others gathered
async def test_datagrams_of_one_length_share_system_calls(size: int) -> None:
    port = CallsCounted(stdlib_socket.socket(type=DGRAM))
    with receiver() as peer, closing(Socket.from_port(port, connected=False)) as socket:
        datagrams = [bytes_of(size, seed) for seed in range(20)] + [b"last"]
        assert await socket.send_datagrams(datagrams, peer.getsockname()) == 21
        assert (port.calls, port.refused) == (1, 0)
        assert take_all(peer) == datagrams


@linux_only
async def test_a_kernel_that_cannot_do_it_gets_them_one_by_one() -> None:
    """One reason among several is a socket without checksums."""
    sock = stdlib_socket.socket(type=DGRAM)
    so_no_check = 11
    sock.setsockopt(stdlib_socket.SOL_SOCKET, so_no_check, 1)
    port = CallsCounted(sock)
    with receiver() as peer, closing(Socket.from_port(port, connected=False)) as socket:
        datagrams = [bytes_of(100, seed) for seed in range(20)]
        assert await socket.send_datagrams(datagrams, peer.getsockname()) == 20
        assert port.refused == port.calls == 1
        assert take_all(peer) == datagrams


@pytest.mark.parametrize(
    ("family", "type_"),
    [
        (UNIX, "SOCK_DGRAM"),
        (UNIX, "SOCK_SEQPACKET"),
    ],
)
async def test_other_kinds_of_message(family: int, type_: str) -> None:
    left, peer = stdlib_socket.socketpair(family, getattr(stdlib_socket, type_))
    peer.setblocking(False)
    with peer, closing(Socket.from_stdlib(left)) as socket:
        assert socket._core.port.max_segments == 1
        datagrams = [b"one", b"two", b"six"]
        assert await socket.send_datagrams(datagrams) == 3
        assert [await read_some(peer) for _ in datagrams] == datagrams


async def test_flags_reach_the_kernel(udp_ends: Any) -> None:
    socket, peer = udp_ends
    assert await socket.send_datagrams([b"x"] * 3, None, SocketFlags.DONT_ROUTE) == 3
    for flags in (SocketFlags.OUT_OF_BAND, SocketFlags.PARTIAL):
        with pytest.raises(SocketException) as caught:
            await socket.send_datagrams([b"x"] * 3, None, flags)
        assert caught.value.socket_error_code is SocketError.OPERATION_NOT_SUPPORTED
    assert take_all(peer) == [b"x"] * 3


# Calls that fail ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "shared"), [(errno.EINVAL, 2), (errno.EIO, 0), (errno.EMSGSIZE, 0)]
)
async def test_datagrams_that_cannot_share_a_call_are_sent_once_each(
    number: int, shared: int
) -> None:
    port = SegmentPort()
    port.refuse = lambda size: number if size > 100 or number != errno.EINVAL else 0
    socket = Socket.from_port(port)
    datagrams = [bytes_of(size, size) for size in (200, 200, 200, 50, 100, 100, 101, 101, 60, 60)]
    assert await socket.send_datagrams(datagrams) == 10
    assert port.datagrams == datagrams
    assert len(port.segment_calls) == shared
    socket.close()


async def test_other_errors_of_a_shared_call_are_told_and_not_tried_away() -> None:
    """An error that the kernel had kept from an earlier datagram would be lost by another attempt."""
    port = SegmentPort([1, 1, "ECONNREFUSED"])
    socket = Socket.from_port(port)
    batch = DatagramBatch([b"ab"] * 4 + [b"x"] * 4 + [b"yy"] * 4)
    with pytest.raises(SocketException) as caught:
        await socket.send_datagrams(batch)
    assert caught.value.socket_error_code is SocketError.CONNECTION_REFUSED
    assert caught.value.bytes_transferred == batch.bytes_transferred == 12
    assert batch.datagrams_transferred == 8
    assert port.datagrams == [b"ab"] * 4 + [b"x"] * 4
    assert await socket.send_datagrams(batch) == 4
    assert port.datagrams[8:] == [b"yy"] * 4
    assert (batch.datagrams_transferred, batch.bytes_transferred) == (12, 20)
    assert batch.remaining == []
    socket.close()


@pytest.mark.fact("F219")
async def test_a_refusal_by_icmp_is_told_once(udp_ends: Any) -> None:
    socket, peer = udp_ends
    with receiver() as elsewhere:
        peer.connect(elsewhere.getsockname())  # so it refuses ours
        batch = DatagramBatch([b"lost"])
        assert await socket.send_datagrams(batch) == 1
        await trio.lowlevel.wait_readable(socket.fileno())  # the error is here
        rest = DatagramBatch([b"never"] * 3)
        with pytest.raises(SocketException) as caught:
            await socket.send_datagrams(rest)
        assert caught.value.socket_error_code is SocketError.CONNECTION_REFUSED
        assert rest.datagrams_transferred == 0
        peer.connect(socket.local_end_point)
        assert await socket.send_datagrams(rest) == 3
        assert take_all(peer) == [b"never"] * 3


async def test_a_datagram_that_is_too_long_ends_the_operation_there(udp_ends: Any) -> None:
    socket, peer = udp_ends
    too_long = bytes(65_508)
    batch = DatagramBatch([b"one", b"two", b"", too_long, b"behind"])
    for accepted in (3, 0):
        with pytest.raises(SocketException) as caught:
            await socket.send_datagrams(batch)
        assert caught.value.socket_error_code is SocketError.MESSAGE_SIZE
        assert caught.value.bytes_transferred == (6 if accepted else 0)
        assert (batch.datagrams_transferred, batch.bytes_transferred) == (3, 6)
        assert batch.remaining[0] is too_long
        assert batch.remaining[1:] == [b"behind"]
        assert repr(batch) == "<DatagramBatch: 3 of 5 datagrams accepted>"
    assert take_all(peer) == [b"one", b"two", b""]
    assert await socket.send(b"the socket lives") == 16


async def test_a_buffer_that_shrank_fails_with_the_count_of_those_in_front(udp_ends: Any) -> None:
    socket, peer = udp_ends
    shrunk = bytearray(3)
    batch = DatagramBatch([b"one", b"two", shrunk, b"end"])
    shrunk.pop()
    with pytest.raises(SocketException) as caught:
        await socket.send_datagrams(batch)
    assert caught.value.socket_error_code is SocketError.FAULT
    assert (batch.datagrams_transferred, caught.value.bytes_transferred) == (2, 6)
    assert take_all(peer) == [b"one", b"two"]


async def test_a_kernel_without_memory_is_asked_again_after_a_pause(
    autojump_clock: MockClock,
) -> None:
    port = SegmentPort([1, "ENOBUFS", "ENOBUFS", "ENOMEM", "ENOBUFS"])
    socket = Socket.from_port(port)
    datagrams = [b"ab"] * 4 + [b"x"] * 4
    assert await socket.send_datagrams(datagrams) == 8
    assert port.datagrams == datagrams
    assert trio.current_time() > 0
    socket.close()


class _Sizes(Instrument):
    """Notes what is said of each operation."""

    def __init__(self) -> None:
        self.notes: list[tuple[int, int, int | None]] = []

    def operation_completed(self, operation: TracedOperation, *rest: Any) -> None:
        self.notes.append((operation.size, rest[1], operation.datagrams))


async def test_each_call_is_an_operation_of_its_own() -> None:
    """Whoever watches is told of what that call had to send, and has sent."""
    socket = Socket.from_port(SegmentPort([1, "EHOSTUNREACH", 1, "EHOSTUNREACH"]))
    batch = DatagramBatch([b"aaa", b"bb", bytearray(b"c"), b""])
    sizes = _Sizes()
    add_instrument(sizes)
    counts = []
    for _ in range(4):
        try:
            counts.append(await socket.send_datagrams(batch))
        except SocketException as error:
            counts.append(error.bytes_transferred)
    remove_instrument(sizes)
    assert counts == [5, 1, 1, 0]  # bytes, where it failed; else datagrams
    assert sizes.notes == [(6, 5, 2), (1, 1, 1), (0, 0, 1), (0, 0, 0)]
    assert (len(batch), batch.datagrams_transferred, batch.bytes_transferred) == (4, 4, 6)
    assert repr(batch) == "<DatagramBatch: 4 of 4 datagrams accepted>"
    socket.close()


# Waiting, stopping, order ---------------------------------------------------------------------


async def test_it_waits_for_room_and_others_wait_behind_it(unix: Any) -> None:
    socket, peer = unix
    datagrams = [str(number).encode() for number in range(2000)]
    got: list[bytes] = []
    async with open_initiator(), trio.open_nursery() as nursery:
        front = socket.begin_send(b"front")
        nursery.start_soon(socket.send_datagrams, datagrams)
        await wait_all_tasks_blocked()
        behind = socket.begin_send(b"behind")
        assert socket.queued_operations == 2
        while len(got) < 2002:
            got.append(await read_some(peer))
        assert await socket.end_send(front) == 5
        assert await socket.end_send(behind) == 6
    assert got == [b"front", *datagrams, b"behind"]


@pytest.mark.parametrize("how", ["cancel", "close"])
async def test_stopped_in_the_middle_it_tells_the_exact_number(unix: Any, how: str) -> None:
    socket, peer = unix
    datagrams = [b"" if number % 3 else str(number).encode() for number in range(2000)]
    batch = DatagramBatch(datagrams)
    errors: list[tuple[SocketError, int]] = []

    async def send() -> None:
        try:
            await socket.send_datagrams(batch)
        except SocketException as error:
            errors.append((error.socket_error_code, error.bytes_transferred))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        assert batch.pending
        accepted = batch.datagrams_transferred
        got = [await read_some(peer) for _ in range(accepted)]
        await wait_all_tasks_blocked()
        assert batch.datagrams_transferred > accepted  # what was read has made room
        assert socket.queued_bytes == sum(map(len, datagrams)) - batch.bytes_transferred
        if how == "cancel":
            nursery.cancel_scope.cancel()
        else:
            socket.close()
    assert not batch.pending
    assert socket.queued_bytes == 0
    closed = (SocketError.OPERATION_ABORTED, batch.bytes_transferred)
    assert errors == ([] if how == "cancel" else [closed])
    got += take_all(peer)
    accepted = batch.datagrams_transferred
    assert 0 < accepted < 2000
    assert got == datagrams[:accepted]
    assert batch.bytes_transferred == sum(map(len, got))
    assert batch.remaining == datagrams[accepted:]
    if how == "cancel":
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.send_datagrams, batch)
            await wait_all_tasks_blocked()
            assert socket.queued_bytes == sum(map(len, batch.remaining))
            while len(got) < 2000:
                got.append(await read_some(peer))
        assert got == datagrams
        assert batch.remaining == []
        assert socket.queued_bytes == 0


async def test_a_buffer_can_be_resized_while_it_waits(unix: Any) -> None:
    socket, peer = unix
    datagrams = [bytearray(b"x") for _ in range(2000)]
    batch = DatagramBatch(datagrams)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.send_datagrams, batch)
        await wait_all_tasks_blocked()
        assert batch.pending
        for each in datagrams:
            each += b"longer"  # what is sent is what was measured
        for _ in datagrams:
            assert await read_some(peer) == b"x"


async def test_a_receiver_that_is_full_is_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "full")
    with receiver(UNIX, path) as peer, closing(Socket(UNIX, DGRAM)) as socket:
        datagrams = [str(number).encode() for number in range(1000)]
        got: list[bytes] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.send_datagrams, datagrams, path)
            while len(got) < 1000:
                got.append(await read_some(peer))
        assert got == datagrams


async def test_the_error_of_one_operation_does_not_harm_those_behind_it(unix: Any) -> None:
    socket, peer = unix
    too_long = bytes(50_000_000)
    errors: list[tuple[SocketError, int]] = []

    async def send() -> None:
        try:
            await socket.send_datagrams([b"x"] * 1000 + [too_long])
        except SocketException as error:
            errors.append((error.socket_error_code, error.bytes_transferred))

    async with open_initiator(), trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        behind = socket.begin_send(b"behind")
        assert [await read_some(peer) for _ in range(1000)] == [b"x"] * 1000
        assert await read_some(peer) == b"behind"
        assert await socket.end_send(behind) == 6
    assert errors == [(SocketError.MESSAGE_SIZE, 1000)]


def test_a_long_list_lets_others_have_their_turn() -> None:
    """UDP never makes its sender wait, so somebody else has to."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        port = SegmentPort()
        socket = Socket.from_port(port)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            for datagrams in ([bytes(10_000)] * 500, [b""] * 5000):
                before = turns
                assert await socket.send_datagrams(datagrams) == len(datagrams)
                cost = sum(map(len, datagrams)) + 1024 * len(datagrams)
                assert turns - before >= cost // (2 * ATTEMPT_ALLOWANCE)
            nursery.cancel_scope.cancel()
        socket.close()

    run_virtual(main)


class _StruckPort(SegmentPort):
    """Presses Ctrl-C in one of its calls, when the datagrams have been accepted."""

    def __init__(self, script: Iterable[int | str | Blocked], strike: int) -> None:
        super().__init__(script)
        self.strike = strike

    def _count_down(self) -> None:
        self.strike -= 1
        if self.strike == 0:
            signal.raise_signal(signal.SIGINT)

    def send(self, buffer: Any, flags: int, /) -> int:
        count = super().send(buffer, flags)
        self._count_down()
        return count

    def send_segments(self, buffers: Sequence[Any], size: int, flags: int, address: Any, /) -> int:
        count = super().send_segments(buffers, size, flags, address)
        self._count_down()
        return count


@pytest.mark.usefixtures("python_handles_ctrl_c")
@pytest.mark.parametrize("strike", range(1, 7))
@pytest.mark.parametrize("script", [[], [1, Blocked(1), 1, Blocked(1)]], ids=["once", "waiting"])
def test_ctrl_c_inside_a_call_loses_no_datagram(script: list[int | Blocked], strike: int) -> None:
    port = _StruckPort(script, strike)
    batch = DatagramBatch([b"ab"] * 6 + [b""] + [b"x"] * 5 + [b"", b"yyy"])

    async def main() -> None:
        await Socket.from_port(port).send_datagrams(batch)
        await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        run_virtual(main)
    assert port.strike <= 0
    assert len(port.datagrams) > 0
    assert batch.datagrams_transferred == len(port.datagrams)
    assert batch.bytes_transferred == sum(map(len, port.datagrams))
    assert not batch.pending


async def test_it_is_always_a_checkpoint(udp_ends: Any) -> None:
    socket, peer = udp_ends
    for datagrams in ([], [b"one"], [b"two"] * 3):
        with assert_checkpoints():
            await socket.send_datagrams(datagrams)
    with assert_checkpoints(), pytest.raises(SocketException):
        await socket.send_datagrams([bytes(65_508)])
    spent = DatagramBatch([])
    with assert_checkpoints():
        assert await socket.send_datagrams(spent) == 0
    batch = DatagramBatch([b"never"])
    with trio.CancelScope() as scope:
        scope.cancel()
        await socket.send_datagrams(batch)
    assert scope.cancelled_caught
    assert batch.datagrams_transferred == 0
    assert take_all(peer) == [b"one"] + [b"two"] * 3


# Bad arguments --------------------------------------------------------------------------------


async def test_the_order_of_the_checks(udp_ends: Any) -> None:
    """Closed, datagrams, address, then what the socket is and whether it has a peer."""
    socket, peer = udp_ends
    with connected("tcp4") as (stream, _), closing(Socket(type=DGRAM)) as nowhere:
        with pytest.raises(TypeError, match=r"^datagrams\[1\] is None"):
            await stream.send_datagrams([b"x", None], ("localhost", 9))
        with pytest.raises(ValueError, match=r"^address has the host 'localhost'"):
            await stream.send_datagrams([b"x"], ("localhost", 9))
        with pytest.raises(TypeError, match=r"^address must be \(host, port\)"):
            await socket.send_datagrams([b"x"], "127.0.0.1:9")
        for address in (None, SOMEWHERE):
            with pytest.raises(SocketException, match=r": a stream has no datagrams") as caught:
                await stream.send_datagrams([b"x"], address)
            assert caught.value.socket_error_code is SocketError.OPERATION_NOT_SUPPORTED
        batch = DatagramBatch([b"x"])
        with pytest.raises(SocketException) as caught:
            await nowhere.send_datagrams(batch)
        assert caught.value.socket_error_code is SocketError.NOT_CONNECTED
        assert batch.datagrams_transferred == 0
    with pytest.raises(ObjectDisposedError):
        await nowhere.send_datagrams(None)  # type: ignore[arg-type]
    assert take_all(peer) == []


async def test_a_batch_that_is_being_sent_is_refused_and_goes_on_unharmed(unix: Any) -> None:
    socket, peer = unix
    datagrams = [str(number).encode() for number in range(1000)]
    batch = DatagramBatch(datagrams)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.send_datagrams, batch)
        await wait_all_tasks_blocked()
        with pytest.raises(OperationInProgressError, match=r"^these datagrams are being sent"):
            await socket.send_datagrams(batch)
        assert [await read_some(peer) for _ in datagrams] == datagrams


async def test_another_thread_is_refused(udp_ends: Any) -> None:
    socket, _ = udp_ends

    def call() -> None:
        with pytest.raises(InvalidOperationError, match=r"^this socket belongs to another thread"):
            socket.send_datagrams([b"x"]).send(None)

    await trio.to_thread.run_sync(call)
