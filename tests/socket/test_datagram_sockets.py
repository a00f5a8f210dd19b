"""Hold sockets that keep messages apart to what is particular to them, whatever face the sends come through."""

from __future__ import annotations

import select
import socket as stdlib_socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings, strategies as st
from trio.testing import wait_all_tasks_blocked

from tests.connections import connect_through
from tests.datagrams import receiver, take_all
from tests.helpers import (
    FACES,
    bytes_of,
    failure_on_the_spot,
    never_called,
    read_some,
    send_through,
)
from trio_send import (
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    SocketFlags,
    SocketShutdown,
    open_initiator,
)

DGRAM = stdlib_socket.SOCK_DGRAM
SEQPACKET = getattr(stdlib_socket, "SOCK_SEQPACKET", None)
UNIX = stdlib_socket.AF_UNIX

Ends = tuple[Socket, stdlib_socket.socket]

every_face = pytest.mark.parametrize("face", FACES)
every_connect = pytest.mark.parametrize("connect", ["connect", "connect_async", "begin_connect"])


@pytest.fixture(
    params=[
        pytest.param(DGRAM, id="datagrams"),
        pytest.param(
            SEQPACKET,
            id="records",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there are none"),
        ),
    ]
)
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """A Unix socket of ours that keeps messages apart, and its peer, which makes it wait when it is full."""
    left, peer = stdlib_socket.socketpair(UNIX, request.param)
    peer.setblocking(False)
    with peer, closing(Socket.from_stdlib(left)) as socket:
        yield socket, peer


def fill(socket: Socket) -> list[SocketAsyncEventArgs]:
    """Start sends of their own numbers until the last one has to wait."""
    started: list[SocketAsyncEventArgs] = []
    while True:
        data = str(len(started)).encode()
        args = SocketAsyncEventArgs(data, user_token=data)
        started.append(args)
        # An answer "pending" alone does not say so: it is also given now and then to let other tasks run.
        if socket.send_async(args) and args.remaining:
            return started


# The end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [SocketShutdown.RECEIVE, SocketShutdown.BOTH])
@pytest.mark.parametrize("kind", ["unix", "udp"])
async def test_a_receive_finds_the_end_when_it_is_shut_down(how: SocketShutdown, kind: str) -> None:
    """The kernel calls the socket readable then, but gives nothing; that must not be tried for ever."""
    with ExitStack() as stack:
        if kind == "unix":
            left, right = stdlib_socket.socketpair(UNIX, DGRAM)
            stack.enter_context(right)
            socket = Socket.from_stdlib(left)
        else:
            socket = Socket(type=DGRAM)
            await socket.connect(stack.enter_context(receiver()).getsockname())
        stack.callback(socket.close)
        async with open_initiator():
            waiting = socket.begin_receive(bytearray(9))
            socket.shutdown(how)
            with trio.fail_after(60):
                assert await socket.end_receive(waiting) == 0
                assert await socket.receive() == b""
                assert await socket.receive_into(bytearray(9)) == 0
                begun = socket.begin_receive_from(bytearray(9))
                count, _ = await socket.end_receive_from(begun)
                assert count == 0
                assert (await socket.receive_from()).data == b""


async def test_what_was_not_connected_is_not_shut_down() -> None:
    """Linux says that it is not connected, and shuts it down all the same."""
    with closing(Socket(type=DGRAM)) as socket:
        socket.bind(("127.0.0.1", 0))
        with pytest.raises(SocketException) as caught:
            socket.shutdown(SocketShutdown.BOTH)
        assert caught.value.socket_error_code is SocketError.NOT_CONNECTED
        async with trio.open_nursery() as nursery:

            async def receive() -> None:
                assert await socket.receive() == b"still here"

            nursery.start_soon(receive)
            await wait_all_tasks_blocked()
            assert await socket.send_to(b"still here", socket.local_end_point) == 10


# The default remote host ----------------------------------------------------------------------


@pytest.mark.page("B32", "B35")
@pytest.mark.fact("F028")
@every_connect
async def test_another_connect_sends_what_follows_elsewhere(connect: str) -> None:
    with receiver() as one, receiver() as two, closing(Socket(type=DGRAM)) as socket:
        async with open_initiator():
            for round_ in range(2):
                for peer in (one, two):
                    await connect_through(connect, socket, peer.getsockname())
                    assert socket.connected
                    assert socket.remote_end_point == peer.getsockname()
                    for face in FACES:
                        data = f"{face} {round_}".encode()
                        assert await send_through(face, socket, data) == len(data)
                        assert await read_some(peer) == data
            assert take_all(one) == take_all(two) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no Unix datagrams")
@every_connect
async def test_a_connect_waits_its_turn_behind_what_goes_to_the_old_host(
    connect: str, tmp_path: Path
) -> None:
    """So each datagram goes to the host that was the default when it was started."""
    paths = [str(tmp_path / name) for name in ("old", "new")]
    with (
        receiver(UNIX, paths[0]) as old,
        receiver(UNIX, paths[1]) as new,
        closing(Socket(UNIX, DGRAM)) as socket,
    ):
        async with open_initiator(), trio.open_nursery() as nursery:
            await socket.connect(paths[0])
            to_old = fill(socket)
            nursery.start_soon(connect_through, connect, socket, paths[1])
            await trio.testing.wait_all_tasks_blocked()
            assert socket.queued_operations == 2
            to_new = socket.begin_send(b"new")
            assert socket.remote_end_point == paths[0]
            assert [await read_some(old) for _ in to_old] == [args.user_token for args in to_old]
            assert await socket.end_send(to_new) == 3
            assert socket.remote_end_point == paths[1]
        assert take_all(old) == []
        assert take_all(new) == [b"new"]


@every_connect
async def test_a_default_host_for_broadcasts_has_to_be_allowed(connect: str) -> None:
    with closing(Socket(type=DGRAM)) as socket:
        async with open_initiator():
            with pytest.raises(SocketException) as caught:
                await connect_through(connect, socket, ("127.255.255.255", 9))
            assert caught.value.socket_error_code is SocketError.ACCESS_DENIED
            assert not socket.connected
            with pytest.raises(SocketException) as caught:
                await socket.send(b"nowhere")
            assert caught.value.socket_error_code is SocketError.NOT_CONNECTED
            socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_BROADCAST, 1)
            await connect_through(connect, socket, ("127.255.255.255", 9))
            assert await socket.send(b"all") == 3


@every_connect
async def test_a_failed_second_connect_leaves_the_first_host(connect: str, tmp_path: Path) -> None:
    with receiver(UNIX, str(tmp_path / "here")) as peer, closing(Socket(UNIX, DGRAM)) as socket:
        async with open_initiator():
            await connect_through(connect, socket, str(tmp_path / "here"))
            with pytest.raises(SocketException) as caught:
                await connect_through(connect, socket, str(tmp_path / "nobody"))
            assert caught.value.socket_error_code is SocketError.ADDRESS_NOT_AVAILABLE
            assert socket.connected
            for face in FACES:
                assert await send_through(face, socket, b"still here") == 10
                assert await read_some(peer) == b"still here"


# Whole or not at all --------------------------------------------------------------------------


@pytest.mark.fact("F174")
@every_face
async def test_empty_messages_really_go_out_one_each(ends: Ends, face: str) -> None:
    socket, peer = ends
    async with open_initiator():
        for number, empty in enumerate((b"", bytearray(), [b"", b""], memoryview(b""))):
            assert await send_through(face, socket, empty) == 0
            assert await send_through(face, socket, b"%d" % number) == 1
            assert await read_some(peer) == b""
            assert await read_some(peer) == b"%d" % number


async def test_empty_messages_wait_their_turn_and_go_out_one_each(ends: Ends) -> None:
    socket, peer = ends
    async with open_initiator():
        started = fill(socket)
        waiting = [socket.begin_send(b"") for _ in range(5)]
        last = socket.begin_send(b"last")
        assert not any(result.is_completed for result in waiting)
        expected = [args.user_token for args in started] + [b""] * 5 + [b"last"]
        assert [await read_some(peer) for _ in expected] == expected
        assert [await socket.end_send(result) for result in (*waiting, last)] == [0] * 5 + [4]


@pytest.mark.page("B37", "S23")
@every_face
async def test_a_message_that_is_too_long_is_refused_and_the_socket_lives_on(
    ends: Ends, face: str
) -> None:
    """More than the socket's buffer is too long for a Unix socket, whatever room its peer has."""
    socket, peer = ends
    async with open_initiator():
        for too_long in (bytes(50_000_000), [bytes(25_000_000)] * 2):
            failure = await failure_on_the_spot(face, socket, too_long)
            assert failure == (SocketError.MESSAGE_SIZE, 0)
            assert socket.connected
            assert socket.torn is None
        assert await send_through(face, socket, b"short") == 5
        assert take_all(peer) == [b"short"]


@pytest.mark.fact("F201")
@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.sampled_from(FACES[:3]), st.sampled_from((0, 1, 50, 3000))), max_size=30),
    st.sampled_from([DGRAM, SEQPACKET] if sys.platform == "linux" else [DGRAM]),
    st.integers(0, 8),
)
def test_messages_of_all_faces_arrive_whole_and_in_order(
    messages: list[tuple[str, int]], type_: int, cancelled: int
) -> None:
    """Also where one that waits is cancelled: it is missing as a whole, and those behind it come all the same."""

    async def main() -> None:
        left, peer = stdlib_socket.socketpair(UNIX, type_)
        peer.setblocking(False)
        with peer, closing(Socket.from_stdlib(left)) as socket:
            async with open_initiator():
                expected = [args.user_token for args in fill(socket)]
                pending: list[Any] = []
                for seed, (face, size) in enumerate(messages):
                    data = bytes_of(size, seed)
                    operation: Any
                    if face == "send_async":
                        operation = SocketAsyncEventArgs(data)
                        assert socket.send_async(operation) is True
                    elif face == "begin_send":
                        operation = socket.begin_send(data)
                    else:
                        operation, _ = socket.try_begin_send([data[:7], bytearray(data[7:])])
                    assert operation.bytes_transferred == 0
                    pending.append((operation, data))
                for index, (operation, data) in enumerate(pending):
                    if index == cancelled:
                        assert operation.cancel() is True
                        assert operation.bytes_transferred == 0
                    else:
                        expected.append(data)
                assert [await read_some(peer) for _ in expected] == expected
                for index, (operation, data) in enumerate(pending):
                    if index != cancelled:
                        assert operation.bytes_transferred == len(data)
            assert socket.torn is None
            assert take_all(peer) == []

    trio.run(main)


# Errors ---------------------------------------------------------------------------------------


@pytest.mark.page("B32")
@pytest.mark.fact("F219")
@pytest.mark.parametrize("family", [stdlib_socket.AF_INET, stdlib_socket.AF_INET6])
@every_face
async def test_nobody_at_the_peers_port_is_reported_once_and_the_socket_stays_usable(
    face: str, family: int
) -> None:
    try:
        peer = receiver(family)
    except OSError:
        pytest.skip("this machine has no ::1")
    with peer, receiver(family) as elsewhere, closing(Socket(family, DGRAM)) as socket:
        await socket.connect(peer.getsockname())
        peer.connect(elsewhere.getsockname())  # so it refuses ours, and nobody else gets its port
        async with open_initiator():
            assert await send_through(face, socket, b"") == 0
            poll = select.poll()
            poll.register(socket.fileno(), 0)
            assert poll.poll() == [(socket.fileno(), select.POLLERR)]
            failure = await failure_on_the_spot(face, socket, b"not sent")
            assert failure == (SocketError.CONNECTION_REFUSED, 0)
            assert socket.connected
            peer.connect(socket.local_end_point)
            assert await send_through(face, socket, b"sent") == 4
            assert await read_some(peer) == b"sent"
            assert take_all(peer) == []


@every_face
async def test_a_peer_that_is_gone_can_be_replaced(face: str, tmp_path: Path) -> None:
    """The end of a peer is no end of a datagram socket: each send reports it, until there is another peer."""
    paths = [str(tmp_path / name) for name in "ab"]
    first, second = receiver(UNIX, paths[0]), receiver(UNIX, paths[1])
    with closing(Socket(UNIX, DGRAM)) as socket, second:
        async with open_initiator():
            await socket.connect(paths[0])
            first.close()
            for _ in range(3):
                code, count = await failure_on_the_spot(face, socket, b"x")
                assert code in (SocketError.CONNECTION_REFUSED, SocketError.NOT_CONNECTED)
                assert count == 0
            await socket.connect(paths[1])
            assert await send_through(face, socket, b"x") == 1
        assert take_all(second) == [b"x"]


async def test_what_waits_for_a_peer_that_goes_ends_one_by_one_with_no_byte(ends: Ends) -> None:
    """Each is asked of the kernel by itself, and none is believed sent."""
    socket, peer = ends
    async with open_initiator():
        waiting = [fill(socket)[-1], *(SocketAsyncEventArgs(b"x") for _ in range(3))]
        for args in waiting[1:]:
            assert socket.send_async(args) is True
        peer.close()
        for args in waiting:
            assert await args.wait() == 0
            assert args.socket_error in (
                SocketError.CONNECTION_REFUSED,
                SocketError.CONNECTION_RESET,
                SocketError.NOT_CONNECTED,
                SocketError.SHUTDOWN,
            )
        assert socket.queued_operations == 0
        assert socket.torn is None


@pytest.mark.fact("F189")
@every_face
async def test_no_byte_of_a_datagram_is_urgent(face: str) -> None:
    with receiver() as peer, closing(Socket(type=DGRAM)) as socket:
        await socket.connect(peer.getsockname())
        async with open_initiator():
            failure = await failure_on_the_spot(face, socket, b"!", SocketFlags.OUT_OF_BAND)
            assert failure == (SocketError.OPERATION_NOT_SUPPORTED, 0)
            assert await send_through(face, socket, b"calm") == 4
        assert take_all(peer) == [b"calm"]


async def test_closing_ends_what_waits_with_no_byte_and_no_reset(ends: Ends) -> None:
    socket, peer = ends
    async with open_initiator():
        started = fill(socket)
        behind = socket.begin_send(b"behind")
        socket.close()
        assert await started[-1].wait() == 0
        assert started[-1].socket_error is SocketError.OPERATION_ABORTED
        with pytest.raises(SocketException) as caught:
            await socket.end_send(behind)
        assert caught.value.socket_error_code is SocketError.OPERATION_ABORTED
        assert caught.value.bytes_transferred == 0
    got = [await read_some(peer) for _ in started[:-1]]
    assert got == [args.user_token for args in started[:-1]]


async def test_nobody_is_told_of_what_failed_on_the_spot(ends: Ends) -> None:
    socket, _ = ends
    async with open_initiator():
        args = SocketAsyncEventArgs(bytes(50_000_000))
        args.completed += never_called
        assert socket.send_async(args) is False
        assert int(args.socket_error) == 10040
        assert socket.try_begin_send(bytes(50_000_000), callback=never_called) == (
            None,
            SocketError.MESSAGE_SIZE,
        )
        with pytest.raises(SocketException):
            socket.begin_send(bytes(50_000_000), callback=never_called)
        await trio.testing.wait_all_tasks_blocked()
