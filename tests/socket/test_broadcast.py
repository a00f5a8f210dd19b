"""Hold `broadcast` to its limit, to whole messages in order, and to a report that says what became of each."""

from __future__ import annotations

import gc
import signal
import socket as stdlib_socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Literal

import pytest
import trio
from hypothesis import given, settings, strategies as st
from trio.testing import wait_all_tasks_blocked

from tests.helpers import (
    BIG,
    Ends,
    connected,
    nothing_to_read,
    python_handles_ctrl_c as python_handles_ctrl_c,
    read_exactly,
    scripted,
    unblock,
    unix as unix,
)
from trio_send import (
    BroadcastReport,
    InvalidOperationError,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    add_instrument,
    broadcast,
    open_initiator,
    socketpair,
)
from trio_send.abc import Instrument
from trio_send.testing import Blocked, ScriptedPort

When = Literal["skip", "drop_oldest", "close"]
WAYS: tuple[When, ...] = ("skip", "drop_oldest", "close")

every_way = pytest.mark.parametrize("way", WAYS)

#: What an operation that waits counts besides its bytes.
WEIGHT = 512

NO_ROOM = SocketError.NO_BUFFER_SPACE_AVAILABLE


class Ended(Instrument):
    """Remembers how each operation ended, with its size and its count."""

    def __init__(self) -> None:
        self.ends: list[tuple[SocketError, int, int]] = []

    def operation_completed(self, operation: Any, error: SocketError, count: int, *_: Any) -> None:
        self.ends.append((error, operation.size, count))


@pytest.fixture
def sockets_and_peers() -> Iterator[tuple[list[Socket], list[stdlib_socket.socket]]]:
    """Five of ours and their peers, who read what they are asked to."""
    pairs = [stdlib_socket.socketpair() for _ in range(5)]
    for _, peer in pairs:
        peer.setblocking(False)
    ours = [Socket.from_stdlib(left) for left, _ in pairs]
    yield ours, [peer for _, peer in pairs]
    for socket in ours:
        socket.close()
    for _, peer in pairs:
        peer.close()


def blocked(took: int = 0) -> tuple[Socket, ScriptedPort]:
    """A socket that takes so many bytes, then nothing until it is unblocked, then all there is."""
    return scripted(*([took] if took else []), Blocked())


# Those that keep up -----------------------------------------------------------------------------


@every_way
async def test_everybody_gets_it(sockets_and_peers: Any, way: When) -> None:
    sockets, peers = sockets_and_peers
    async with open_initiator():
        sockets[0].begin_send(b"before ")
        report = broadcast(iter(sockets), b"hello", max_queued_bytes=0, when_behind=way)
        sockets[0].begin_send(b" behind")
    assert report == BroadcastReport(started=5, behind=(), dropped=0, failed={})
    for peer in peers[1:]:
        assert peer.recv(100) == b"hello"
    assert peers[0].recv(100) == b"before hello behind"


async def test_nobody_is_there() -> None:
    async with open_initiator():
        assert broadcast([], b"hello", max_queued_bytes=0) == BroadcastReport(0, (), 0, {})


async def test_a_socket_that_is_named_twice_gets_it_once(unix: Ends) -> None:
    socket, peer = unix
    async with open_initiator():
        assert broadcast([socket, socket], b"hello", max_queued_bytes=0).started == 1
    assert peer.recv(100) == b"hello"


async def test_more_sockets_than_may_be_started_on_in_a_row() -> None:
    """Some of the starts are answered "pending" although they are done; nobody is behind because of that."""
    pairs = [socketpair() for _ in range(300)]
    async with open_initiator():
        for _ in range(3):
            report = broadcast([left for left, _ in pairs], b"hello", max_queued_bytes=0)
            assert report == BroadcastReport(300, (), 0, {})
    for left, right in pairs:
        assert await right.receive() == b"hello" * 3
        left.close()
        right.close()


@every_way
async def test_a_message_longer_than_the_limit_is_started_where_nothing_waits(
    unix: Ends, way: When
) -> None:
    socket, peer = unix
    async with open_initiator():
        assert broadcast([socket], BIG, max_queued_bytes=0, when_behind=way).started == 1
        assert socket.queued_operations == 1
        assert await read_exactly(peer, len(BIG)) == BIG


# Those that do not ------------------------------------------------------------------------------


async def test_skipped_until_there_is_room(autojump_clock: Any) -> None:
    socket, port = blocked(took=4)
    async with open_initiator():
        limit = 3 * (10 + WEIGHT) - 4
        for _ in range(3):
            assert broadcast([socket], b"." * 10, max_queued_bytes=limit).started == 1
        before = socket.statistics()
        for _ in range(2):
            report = broadcast([socket], b"x" * 10, max_queued_bytes=limit)
            assert report == BroadcastReport(0, (socket,), 0, {})
            assert socket.statistics() == before
        await unblock(port)
        assert broadcast([socket], b"!", max_queued_bytes=limit).started == 1
    assert bytes(port.accepted) == b"." * 30 + b"!"
    socket.close()


@pytest.mark.parametrize("excess", [0, 1])
async def test_the_limit_is_meant_to_the_byte(excess: int, autojump_clock: Any) -> None:
    socket, _ = blocked()
    async with open_initiator():
        broadcast([socket], b"." * 10, max_queued_bytes=0)
        limit = 10 + 7 + 2 * WEIGHT - excess
        report = broadcast([socket], b"." * 7, max_queued_bytes=limit)
        assert report.behind == ((socket,) if excess else ())
        socket.close()


@every_way
async def test_messages_without_weight_of_their_own_are_limited_too(
    way: When, autojump_clock: Any
) -> None:
    socket, _ = blocked()
    async with open_initiator():
        for _ in range(1000):
            broadcast([socket], b"x", max_queued_bytes=100 * (WEIGHT + 1), when_behind=way)
            assert socket.queued_operations <= 100
        assert socket.queued_operations == (0 if way == "close" else 100)
        socket.close()


async def test_the_oldest_that_has_not_begun_makes_room(autojump_clock: Any) -> None:
    socket, port = blocked(took=4)
    reports = []
    with add_instrument(Ended()) as watcher:
        async with open_initiator():
            for name in b"abcde":
                reports.append(
                    broadcast(
                        [socket],
                        bytes([name]) * 10,
                        max_queued_bytes=3 * (10 + WEIGHT),
                        when_behind="drop_oldest",
                    )
                )
            assert [report.started for report in reports] == [1] * 5
            assert [report.dropped for report in reports] == [0, 0, 0, 1, 1]
            assert [report.behind for report in reports] == [()] * 5
            assert isinstance(watcher, Ended)
            # Neither cut nor torn, and each told once.
            assert watcher.ends == [(NO_ROOM, 10, 0)] * 2
            await unblock(port)
            assert socket.torn is None
    assert bytes(port.accepted) == b"a" * 10 + b"d" * 10 + b"e" * 10
    socket.close()


async def test_a_long_message_makes_room_by_several(autojump_clock: Any) -> None:
    socket, _ = blocked()
    async with open_initiator():
        limit = 4 * (10 + WEIGHT)
        for _ in range(4):
            broadcast([socket], b"." * 10, max_queued_bytes=limit, when_behind="drop_oldest")
        report = broadcast(
            [socket], b"x" * (10 + WEIGHT), max_queued_bytes=limit, when_behind="drop_oldest"
        )
        assert (report.started, report.dropped) == (1, 2)
        assert (socket.queued_operations, socket.queued_bytes) == (3, 20 + 10 + WEIGHT)
        socket.close()


async def test_what_is_no_broadcast_and_what_has_begun_are_never_given_up(
    autojump_clock: Any,
) -> None:
    socket, port = blocked(took=4)
    async with open_initiator():
        broadcast([socket], b"a" * 10, max_queued_bytes=0)  # of which 4 bytes have gone
        own = socket.begin_send(b"b" * 10)
        args = SocketAsyncEventArgs(b"c" * 10)
        assert socket.send_async(args) is True
        report = broadcast([socket], b"x" * 10, max_queued_bytes=1, when_behind="drop_oldest")
        assert report == BroadcastReport(0, (socket,), 0, {})
        assert not own.is_completed
        assert args.pending
        await unblock(port)
        await args.wait()
    assert bytes(port.accepted) == b"a" * 10 + b"b" * 10 + b"c" * 10
    socket.close()


async def test_a_broadcast_of_an_initiator_that_has_left_is_no_longer_there_to_be_given_up(
    autojump_clock: Any,
) -> None:
    socket, _ = blocked()
    limit = 3 * (1 + WEIGHT)
    async with open_initiator():
        broadcast([socket], b"a", max_queued_bytes=limit)
        async with open_initiator():
            broadcast([socket], b"b", max_queued_bytes=limit)
        assert socket.queued_operations == 1
        for _ in range(2):
            broadcast([socket], b"c", max_queued_bytes=limit)
        report = broadcast(
            [socket], b"dd" * WEIGHT, max_queued_bytes=limit, when_behind="drop_oldest"
        )
        assert (report.started, report.dropped) == (1, 3)
        socket.close()


async def test_those_that_are_behind_are_closed(autojump_clock: Any) -> None:
    slow, _ = blocked(took=4)
    quick, port = scripted()
    with add_instrument(Ended()) as watcher:
        async with open_initiator():
            broadcast([slow, quick], b"." * 10, max_queued_bytes=0, when_behind="close")
            report = broadcast([slow, quick], b"!" * 10, max_queued_bytes=0, when_behind="close")
            assert report == BroadcastReport(1, (slow,), 0, {})
            report = broadcast([slow, quick], b"?" * 10, max_queued_bytes=0, when_behind="close")
            assert report == BroadcastReport(1, (), 0, {slow: SocketError.OPERATION_ABORTED})
    assert isinstance(watcher, Ended)
    assert (SocketError.OPERATION_ABORTED, 10, 4) in watcher.ends
    assert bytes(port.accepted) == b"." * 10 + b"!" * 10 + b"?" * 10
    quick.close()


async def test_what_the_reports_tell_the_log_need_not(
    caplog: pytest.LogCaptureFixture, autojump_clock: Any
) -> None:
    """A message that was given up, and those that end because the connection broke."""
    socket, port = scripted(4, Blocked(), "ECONNRESET")
    limit = 2 * (10 + WEIGHT)
    async with open_initiator():
        for _ in range(3):
            report = broadcast(
                [socket], b"." * 10, max_queued_bytes=limit, when_behind="drop_oldest"
            )
        assert report.dropped == 1
        await unblock(port)
        assert socket.queued_operations == 0
        report = broadcast([socket], b"." * 10, max_queued_bytes=limit)
        assert report.failed == {socket: SocketError.CONNECTION_RESET}
        socket._core.broadcasts = None
        gc.collect()
        await wait_all_tasks_blocked()
    assert caplog.records == []
    socket.close()


@every_way
async def test_who_reads_gets_everything_and_who_stops_gets_whole_messages_in_order(
    way: When,
) -> None:
    """Four peers, of which one does not read for a while."""
    size, count = 2000, 100
    messages = [b"%06d" % number + bytes(size - 6) for number in range(count)]
    pairs = [stdlib_socket.socketpair() for _ in range(4)]
    ours = [Socket.from_stdlib(left) for left, _ in pairs]
    peers = [right for _, right in pairs]
    for socket, peer in zip(ours, peers, strict=True):
        socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 1)
        peer.setblocking(False)
    heard: list[bytearray] = [bytearray() for _ in peers]

    def read(number: int) -> None:
        try:
            while piece := peers[number].recv(65536):
                heard[number] += piece
        except BlockingIOError:
            pass

    async with open_initiator():
        for message in messages:
            report = broadcast(ours, message, max_queued_bytes=10 * size, when_behind=way)
            assert set(report.behind) <= {ours[3]}
            for number in range(3):
                while ours[number].queued_operations or not heard[number].endswith(message):
                    read(number)
                    await trio.lowlevel.checkpoint()
            assert ours[3].queued_bytes <= 10 * size
        while ours[3].queued_operations:
            read(3)
            await trio.lowlevel.checkpoint()
        read(3)
    for number in range(3):
        assert bytes(heard[number]) == b"".join(messages)
    numbers = [int(heard[3][at : at + 6]) for at in range(0, len(heard[3]), size)]
    assert numbers == sorted(set(numbers))
    assert len(numbers) < count
    if way == "close":
        assert numbers == list(range(len(numbers)))
    else:
        assert len(heard[3]) % size == 0
        # Skipping keeps what came first, dropping what came last.
        assert (numbers[-1] == count - 1) == (way == "drop_oldest")
    for socket, peer in zip(ours, peers, strict=True):
        socket.close()
        peer.close()


@settings(deadline=None, max_examples=100)
@given(
    deeds=st.lists(
        st.tuples(
            st.sampled_from(["skip", "drop_oldest", "own", "unblock"]),
            st.integers(0, 40),
            st.sampled_from([0, 600, 1100, 2000, 5000]),
        ),
        max_size=25,
    )
)
def test_no_limit_is_passed_and_every_message_is_accounted_for(deeds: list[Any]) -> None:
    async def main() -> None:
        script: list[Any] = []
        for number in range(30):
            script += [Blocked(), number % 7 * 3 + 1]
        socket, port = scripted(*script)
        started, dropped, sent = 0, 0, b""
        with add_instrument(Ended()) as watcher:
            assert isinstance(watcher, Ended)
            async with open_initiator():
                for number, (deed, size, limit) in enumerate(deeds):
                    data = bytes([number + 1]) * size
                    if deed == "unblock":
                        await unblock(port)
                    elif deed == "own":
                        socket.begin_send(data)
                        started += 1
                    else:
                        had = socket.queued_operations
                        report = broadcast([socket], data, max_queued_bytes=limit, when_behind=deed)
                        weight = socket.queued_bytes + WEIGHT * socket.queued_operations
                        assert report.started + len(report.behind) == 1
                        if report.started and had:
                            assert weight <= limit or socket.queued_operations <= 1
                        started += report.started
                        dropped += report.dropped
                await wait_all_tasks_blocked()
                ended = [end for end in watcher.ends if end[0] is NO_ROOM]
                assert len(ended) == dropped
                assert all(count == 0 for _, _, count in ended)
                assert len(watcher.ends) + socket.queued_operations == started
                assert socket.torn is None
                sent = bytes(port.accepted)
                socket.close()
        # In order and never interleaved: each message's bytes stand together.
        assert list(sent) == sorted(sent)

    trio.run(main)


# Those that refuse ------------------------------------------------------------------------------


async def test_sockets_that_cannot_send_are_named_with_the_reason(autojump_clock: Any) -> None:
    good, port = scripted()
    closed, _ = scripted()
    closed.close()
    never = Socket()
    broken, _ = scripted("EPIPE")
    torn, _ = blocked(took=4)
    async with open_initiator():
        cut = torn.begin_send(b"." * 10)
        cut.cancel()
        targets = [closed, never, broken, torn, good]
        report = broadcast(targets, b"hello", max_queued_bytes=0)
        assert report == BroadcastReport(
            started=1,
            behind=(),
            dropped=0,
            failed={
                closed: SocketError.OPERATION_ABORTED,
                never: SocketError.NOT_CONNECTED,
                broken: SocketError.SHUTDOWN,
                torn: SocketError.CONNECTION_ABORTED,
            },
        )
    assert bytes(port.accepted) == b"hello"
    for socket in targets:
        socket.close()


async def test_a_broadcast_ends_with_its_initiator(autojump_clock: Any) -> None:
    socket, _ = blocked()
    with add_instrument(Ended()) as watcher:
        async with open_initiator():
            broadcast([socket], b"hello", max_queued_bytes=0)
    assert isinstance(watcher, Ended)
    assert watcher.ends == [(SocketError.OPERATION_ABORTED, 5, 0)]
    socket.close()


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"data": bytearray(b"hello")}, TypeError, "^data must be bytes, .* not bytearray"),
        ({"data": None}, TypeError, "^data must be bytes"),
        ({"max_queued_bytes": -1}, ValueError, "^max_queued_bytes is -1"),
        ({"max_queued_bytes": 1.5}, TypeError, "^max_queued_bytes must be a whole number"),
        ({"when_behind": "drop_newest"}, ValueError, "^when_behind must be one of 'skip', "),
    ],
)
async def test_arguments_that_make_no_sense(
    unix: Ends, change: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    socket, peer = unix
    call: dict[str, Any] = {"data": b"hello", "max_queued_bytes": 0, **change}
    async with open_initiator():
        with pytest.raises(error, match=sentence):
            broadcast([socket], **call)
        with pytest.raises(TypeError, match=r"^sockets must hold trio_send"):
            broadcast([socket, peer], b"hello", max_queued_bytes=0)  # type: ignore[list-item]
    assert nothing_to_read(peer)


async def test_without_an_initiator(unix: Ends) -> None:
    socket, peer = unix
    with pytest.raises(InvalidOperationError, match="no initiator is open"):
        broadcast([socket], b"hello", max_queued_bytes=0)
    assert nothing_to_read(peer)


async def test_a_socket_of_another_thread_spoils_nothing_half_way(unix: Ends) -> None:
    socket, peer = unix
    made: list[Socket] = []
    is_made, is_used = threading.Event(), threading.Event()

    def hold() -> None:
        with closing(Socket()) as other:
            made.append(other)
            is_made.set()
            is_used.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    is_made.wait()
    async with open_initiator():
        socket.begin_send(b"first ")  # so that it is known to be fit
        with pytest.raises(InvalidOperationError, match="belongs to another thread"):
            broadcast([socket, *made], b"hello", max_queued_bytes=0)
    is_used.set()
    thread.join()
    assert peer.recv(100) == b"first "


def test_a_socket_of_another_run_spoils_nothing_half_way() -> None:
    left, right = stdlib_socket.socketpair()
    fine, peer = stdlib_socket.socketpair()
    peer.setblocking(False)
    with right, peer, closing(Socket.from_stdlib(left)) as used:

        async def first() -> None:
            async with open_initiator():
                used.begin_send(b"x")

        async def second() -> None:
            with closing(Socket.from_stdlib(fine)) as socket:
                async with open_initiator():
                    with pytest.raises(InvalidOperationError, match="another call of trio"):
                        broadcast([socket, used], b"hello", max_queued_bytes=0)
                assert nothing_to_read(peer)

        trio.run(first)
        trio.run(second)


@pytest.mark.usefixtures("python_handles_ctrl_c")
def test_ctrl_c_does_not_stop_it_half_way() -> None:
    reports: list[BroadcastReport] = []

    class Loud(list[Socket]):
        """Presses Ctrl-C when it is asked for its sockets."""

        def __iter__(self) -> Any:
            signal.raise_signal(signal.SIGINT)
            return super().__iter__()

    async def main() -> None:
        with connected("unix") as (socket, peer):
            async with open_initiator():
                reports.append(broadcast(Loud([socket]), b"hello", max_queued_bytes=0))
                assert peer.recv(100) == b"hello"
                await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert [report.started for report in reports] == [1]


async def test_no_socket_is_kept_alive_by_its_broadcasts(unix: Ends) -> None:
    """What has gone is forgotten at the next broadcast at the latest."""
    socket, peer = unix
    async with open_initiator():
        broadcast([socket], BIG, max_queued_bytes=0)
        for _ in range(3):
            broadcast([socket], b"x", max_queued_bytes=10_000_000)
        assert socket._core.broadcasts is not None
        assert len(socket._core.broadcasts) == 3
        await read_exactly(peer, len(BIG) + 3)
        await wait_all_tasks_blocked()
        broadcast([socket], b"x", max_queued_bytes=0)
        assert not socket._core.broadcasts
