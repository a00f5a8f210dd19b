"""Hold sends to an address to what they say, in each face, on real sockets."""

from __future__ import annotations

import socket as stdlib_socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from tests.datagrams import (
    every_to_face,
    receiver,
    send_to_through,
    take_all,
    to_failure_on_the_spot,
)
from tests.helpers import (
    BIG,
    HAVE_IPV6,
    KINDS,
    bytes_of,
    connected,
    never_called,
    nothing_to_read,
    read_exactly,
    read_some,
    scripted,
)
from tests.scripted import SpyPort
from trio_send import (
    AsyncResult,
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
from trio_send._kernel.port import KernelPort
from trio_send._operations.send_queue import LONGEST_POLL
from trio_send._owners.exiting_owner import START_BUDGET
from trio_send.testing import Blocked

DGRAM = stdlib_socket.SOCK_DGRAM
UNIX = stdlib_socket.AF_UNIX

#: Where nobody may be, for what must be refused before anybody looks.
SOMEWHERE = ("127.0.0.1", 9)


@pytest.fixture
def udp() -> Iterator[Socket]:
    """A datagram socket without a default remote host."""
    with closing(Socket(type=DGRAM)) as socket:
        yield socket


def families() -> list[Any]:
    return [
        stdlib_socket.AF_INET,
        pytest.param(
            stdlib_socket.AF_INET6,
            marks=pytest.mark.skipif(not HAVE_IPV6, reason="this machine has no ::1"),
        ),
        UNIX,
    ]


# Where datagrams go ---------------------------------------------------------------------------


@pytest.mark.page("B33")
@pytest.mark.parametrize("family", families())
@every_to_face
async def test_each_datagram_goes_to_its_address(face: str, family: int, tmp_path: Path) -> None:
    """No connect is needed, and none has taken place afterwards."""
    paths = [str(tmp_path / name) if family == UNIX else None for name in "ab"]
    with (
        receiver(family, paths[0]) as one,
        receiver(family, paths[1]) as two,
        closing(Socket(family, DGRAM)) as socket,
    ):
        async with open_initiator():
            for data in (b"first", b"", bytearray(b"third"), bytes_of(9000)):
                for peer in (one, two):
                    address = peer.getsockname()
                    assert await send_to_through(face, socket, data, address) == len(data)
                    assert await read_some(peer) == data
            assert not socket.connected
            with pytest.raises(SocketException) as caught:
                socket.begin_send(b"nowhere")
            assert caught.value.socket_error_code is SocketError.NOT_CONNECTED
        assert take_all(one) == take_all(two) == []


@pytest.mark.page("B34")
@pytest.mark.fact("F027")
@every_to_face
async def test_the_default_remote_host_stays_what_it_is(udp: Socket, face: str) -> None:
    with receiver() as default, receiver() as other:
        await udp.connect(default.getsockname())
        async with open_initiator():
            assert await send_to_through(face, udp, b"other", other.getsockname()) == 5
            assert udp.remote_end_point == default.getsockname()
            assert await udp.send(b"default") == 7
            assert await send_to_through(face, udp, b"by address", default.getsockname()) == 10
        assert await read_some(other) == b"other"
        assert await read_some(default) == b"default"
        assert await read_some(default) == b"by address"
        assert take_all(other) == take_all(default) == []


@pytest.mark.fact("F029")
@pytest.mark.parametrize("kind", KINDS)
@every_to_face
async def test_on_a_connection_the_address_is_ignored(face: str, kind: str) -> None:
    with connected(kind) as (socket, peer):
        address = {"tcp4": SOMEWHERE, "tcp6": ("::1", 9), "unix": "/nowhere"}[kind]
        async with open_initiator():
            assert await send_to_through(face, socket, b"hello", address) == 5
            assert await read_exactly(peer, 5) == b"hello"
            assert socket.connected


@pytest.mark.skipif(not hasattr(stdlib_socket, "SOCK_SEQPACKET"), reason="it has none")
@every_to_face
async def test_on_a_connection_of_records_the_address_is_ignored(face: str) -> None:
    left, peer = stdlib_socket.socketpair(UNIX, stdlib_socket.SOCK_SEQPACKET)
    peer.setblocking(False)
    with peer, closing(Socket.from_stdlib(left)) as socket:
        async with open_initiator():
            assert await send_to_through(face, socket, b"record", "/nowhere") == 6
            assert await read_some(peer) == b"record"


@every_to_face
async def test_a_stream_that_was_never_connected(face: str) -> None:
    async with open_initiator():
        with closing(Socket()) as socket:
            failure = await to_failure_on_the_spot(face, socket, b"x", SOMEWHERE)
            assert failure == (SocketError.NOT_CONNECTED, 0)


async def test_a_message_to_an_address_on_a_stream_is_counted_cut_and_resumed() -> None:
    """A stream's promises hold whichever way its messages come."""
    with connected("tcp4") as (socket, peer):
        args = SocketAsyncEventArgs(BIG)
        args.remote_end_point = SOMEWHERE
        async with open_initiator():
            assert socket.send_to_async(args) is True
            assert args.cancel() is True
            accepted = await args.wait()
            assert 0 < accepted < len(BIG)
            assert socket.torn is not None
            with pytest.raises(InvalidOperationError, match=r"^the message of this operation was"):
                socket.send_to_async(args)
            fresh = SocketAsyncEventArgs(b"behind")
            fresh.remote_end_point = SOMEWHERE
            assert socket.send_to_async(fresh) is False
            assert fresh.socket_error is SocketError.CONNECTION_ABORTED
            assert socket.resume(args) is True
            assert await read_exactly(peer, len(BIG)) == BIG
            assert await args.wait() == len(BIG)


async def test_a_list_in_args_is_one_datagram(udp: Socket) -> None:
    with receiver() as peer:
        args = SocketAsyncEventArgs(buffer_list=[b"one", b"", bytearray(b"two")])
        args.remote_end_point = peer.getsockname()
        async with open_initiator():
            assert udp.send_to_async(args) is False
            assert args.bytes_transferred == 6
            args.buffer_list = [b"x"] * 1025
            assert udp.send_to_async(args) is False
            assert (args.socket_error, args.bytes_transferred) == (SocketError.MESSAGE_SIZE, 0)
        assert take_all(peer) == [b"onetwo"]


async def test_a_range_of_a_buffer(udp: Socket) -> None:
    with receiver() as peer:
        async with open_initiator():
            result = udp.begin_send_to(b"abcdef", 2, 3, remote_end_point=peer.getsockname())
            assert result.bytes_transferred == 3
            args = SocketAsyncEventArgs(bytearray(b"abcdef"), 1, 4)
            args.remote_end_point = peer.getsockname()
            assert udp.send_to_async(args) is False
        assert take_all(peer) == [b"cde", b"bcde"]


# What it is called, and who takes it ----------------------------------------------------------


@pytest.mark.fact("F260")
async def test_the_operation_says_what_it_is(udp: Socket) -> None:
    with receiver() as peer:
        await udp.connect(peer.getsockname())
        async with open_initiator():
            args = SocketAsyncEventArgs(b"x")
            args.remote_end_point = peer.getsockname()
            assert udp.send_to_async(args) is False
            assert args.last_operation is SocketAsyncOperation.SEND_TO
            assert udp.send_async(args) is False
            assert args.last_operation is SocketAsyncOperation.SEND
            to = udp.begin_send_to(b"x", remote_end_point=peer.getsockname())
            plain = udp.begin_send(b"x")
            for end in (udp.end_send, udp.try_end_send):
                with pytest.raises(ValueError, match=r"^ar is the result of SEND_TO, not of SEND$"):
                    await end(to)
            with pytest.raises(ValueError, match=r"^ar is the result of SEND, not of SEND_TO$"):
                await udp.end_send_to(plain)
            with pytest.raises(ValueError, match=r"^ar is the result of SEND, not of SEND_TO$"):
                udp.end_send_to_nowait(plain)
            assert await udp.end_send_to(to) == 1
            assert await udp.end_send(plain) == 1


@pytest.mark.fact("F033", "F034", "F038")
async def test_what_is_no_result_to_take(udp: Socket) -> None:
    with receiver() as peer, closing(Socket(type=DGRAM)) as other:
        async with open_initiator():
            result = udp.begin_send_to(b"x", remote_end_point=peer.getsockname())
            for wrong, error in ((None, TypeError), ("ar", ValueError)):
                with pytest.raises(error, match=r"^ar (is None|must be what)"):
                    await udp.end_send_to(wrong)  # type: ignore[arg-type]
                with pytest.raises(error, match=r"^ar (is None|must be what)"):
                    udp.end_send_to_nowait(wrong)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match=r"^ar is the result of an operation on another"):
                other.end_send_to_nowait(result)
            assert udp.end_send_to_nowait(result) == 1
            with pytest.raises(InvalidOperationError, match=r"^the end method was called"):
                udp.end_send_to_nowait(result)
            with assert_checkpoints(), pytest.raises(InvalidOperationError):
                await udp.end_send_to(result)


async def test_callbacks_take_their_results(udp: Socket) -> None:
    taken: list[object] = []
    state = object()

    def callback(result: AsyncResult) -> None:
        assert result.async_state is state
        taken.append(udp.end_send_to_nowait(result))

    async def async_callback(result: AsyncResult) -> None:
        taken.append(await udp.end_send_to(result))

    with receiver() as peer:
        address = peer.getsockname()
        async with open_initiator():
            udp.begin_send_to(b"one", 0, None, SocketFlags.NONE, address, callback, state)
            udp.begin_send_to(b"three", remote_end_point=address, callback=async_callback)
            assert taken == []  # never from inside
            await wait_all_tasks_blocked()
            assert taken == [3, 5]


async def test_an_awaited_send_to_an_address_is_always_a_checkpoint(udp: Socket) -> None:
    with receiver() as peer:
        with assert_checkpoints():
            await udp.send_to(b"x", peer.getsockname())
        with assert_checkpoints(), pytest.raises(SocketException):
            await udp.send_to(bytes(70_000), peer.getsockname())
        with trio.CancelScope() as scope:
            scope.cancel()
            await udp.send_to(b"never", peer.getsockname())
        assert scope.cancelled_caught
        assert take_all(peer) == [b"x"]


async def test_a_caller_that_never_waits_is_made_to_wait_now_and_then(udp: Socket) -> None:
    with receiver() as peer:
        args = SocketAsyncEventArgs(b"x")
        args.remote_end_point = peer.getsockname()
        async with open_initiator():
            answers = []
            for _ in range(START_BUDGET + 1):
                answers.append(udp.send_to_async(args))
                assert args.bytes_transferred == 1
                take_all(peer)
        assert answers == [False] * START_BUDGET + [True]


# Failures -------------------------------------------------------------------------------------


@pytest.mark.fact("F176", "F177", "F178")
@every_to_face
async def test_a_datagram_that_is_too_long(udp: Socket, face: str) -> None:
    with receiver() as peer:
        address = peer.getsockname()
        async with open_initiator():
            for data in (bytes(65_508), bytearray(65_508)):
                failure = await to_failure_on_the_spot(face, udp, data, address)
                assert failure == (SocketError.MESSAGE_SIZE, 0)
            assert await send_to_through(face, udp, bytes(65_507), address) == 65_507
        assert take_all(peer) == [bytes(65_507)]


@pytest.mark.fact("F184")
@pytest.mark.parametrize("flags", [SocketFlags.PARTIAL, SocketFlags.BROADCAST])
@every_to_face
async def test_flags_that_cannot_be_used(udp: Socket, face: str, flags: SocketFlags) -> None:
    with receiver() as peer:
        async with open_initiator():
            failure = await to_failure_on_the_spot(face, udp, b"x", peer.getsockname(), flags)
            assert failure == (SocketError.OPERATION_NOT_SUPPORTED, 0)
        assert take_all(peer) == []


@pytest.mark.fact("F187", "F189")
@every_to_face
async def test_flags_reach_the_kernel(udp: Socket, face: str) -> None:
    """The loopback needs no route; nothing is urgent in a datagram, says the kernel."""
    with receiver() as peer:
        address = peer.getsockname()
        async with open_initiator():
            assert await send_to_through(face, udp, b"x", address, SocketFlags.DONT_ROUTE) == 1
            urgent = SocketFlags.OUT_OF_BAND
            failure = await to_failure_on_the_spot(face, udp, b"!", address, urgent)
            assert failure == (SocketError.OPERATION_NOT_SUPPORTED, 0)
        assert take_all(peer) == [b"x"]


@every_to_face
async def test_broadcasting_has_to_be_allowed(udp: Socket, face: str) -> None:
    address = ("127.255.255.255", 9)
    async with open_initiator():
        failure = await to_failure_on_the_spot(face, udp, b"all", address)
        assert failure == (SocketError.ACCESS_DENIED, 0)
        udp.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_BROADCAST, 1)
        assert await send_to_through(face, udp, b"all", address) == 3


@every_to_face
async def test_a_path_that_leads_nowhere_concerns_one_datagram(face: str, tmp_path: Path) -> None:
    with (
        closing(Socket(UNIX, DGRAM)) as socket,
        receiver(UNIX, str(tmp_path / "here")) as peer,
    ):
        async with open_initiator():
            failure = await to_failure_on_the_spot(face, socket, b"x", str(tmp_path / "nobody"))
            assert failure == (SocketError.ADDRESS_NOT_AVAILABLE, 0)
            assert await send_to_through(face, socket, b"y", str(tmp_path / "here")) == 1
        assert take_all(peer) == [b"y"]


async def test_an_address_that_the_standard_library_cannot_use_fails_its_datagram_alone(
    autojump_clock: MockClock,
) -> None:
    """Of families that are not checked, it is known only when the turn has come; nobody else may suffer then."""

    class Picky(SpyPort):
        def send_to(self, buffer: Any, flags: int, address: Any, /) -> int:
            if address == "wrong":
                raise TypeError("no such address")
            return super().send_to(buffer, flags, address)

    socket = Socket.from_port(Picky([Blocked(1)], is_stream=False))
    async with open_initiator():
        first = socket.begin_send(b"first")
        wrong = socket.begin_send_to(b"wrong", remote_end_point="wrong")
        last = socket.begin_send_to(b"last", remote_end_point="right")
        with pytest.raises(SocketException, match="no such address") as caught:
            await socket.end_send_to(wrong)
        assert caught.value.socket_error_code is SocketError.INVALID_ARGUMENT
        assert await socket.end_send(first) == 5
        assert await socket.end_send_to(last) == 4
    socket.close()


# The queue ------------------------------------------------------------------------------------


async def test_all_sends_wait_in_one_queue(autojump_clock: MockClock) -> None:
    """Whichever face they came through, with an address or without."""
    socket, port = scripted(Blocked(1), is_stream=False)
    async with open_initiator(), trio.open_nursery() as nursery:
        names = []
        for name in ("one", "two", "three", "four", "five"):
            data = name.encode()
            names.append(data)
            if name == "one":
                socket.begin_send(data)
            elif name == "two":
                args = SocketAsyncEventArgs(data)
                args.remote_end_point = SOMEWHERE
                assert socket.send_to_async(args) is True
            elif name == "three":
                assert not socket.begin_send_to(data, remote_end_point="x").is_completed
            elif name == "four":
                nursery.start_soon(socket.send_to, data, SOMEWHERE)
                await wait_all_tasks_blocked()
            else:
                nursery.start_soon(socket.send, data)
                await wait_all_tasks_blocked()
        assert socket.queued_operations == 5
        assert await args.wait() == 3
        await wait_all_tasks_blocked()
        assert port.messages == names
    socket.close()


class AttemptsCounted(KernelPort):
    """The kernel's port, which counts the attempts to send to an address."""

    __slots__ = ("attempts",)

    def __init__(self, sock: stdlib_socket.socket) -> None:
        super().__init__(sock)
        self.attempts = 0

    def send_to(self, buffer: Any, flags: int, address: Any, /) -> int:
        self.attempts += 1
        return super().send_to(buffer, flags, address)


@every_to_face
async def test_a_receiver_that_is_full_is_waited_for_and_not_in_circles(
    face: str, tmp_path: Path
) -> None:
    """A Unix socket counts as writable although the receiver of the datagram is full. It must cost pauses, not laps."""
    path = str(tmp_path / "full")
    port = AttemptsCounted(stdlib_socket.socket(UNIX, DGRAM))
    with receiver(UNIX, path) as peer, closing(Socket.from_port(port, connected=False)) as socket:
        with stdlib_socket.socket(UNIX, DGRAM) as filler:
            filler.setblocking(False)
            filled = 0
            with pytest.raises(BlockingIOError):
                while True:
                    filler.sendto(b"fill", path)
                    filled += 1
        counts: list[int] = []

        async def send() -> None:
            counts.append(await send_to_through(face, socket, b"patient", path))

        async with open_initiator(), trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.sleep(5 * LONGEST_POLL)  # long enough for thousands of laps
            assert socket.queued_operations == 1
            assert 1 < port.attempts < 30
            # A plain send has no receiver, whatever waits in front of it.
            assert socket.try_begin_send(b"x") == (None, SocketError.NOT_CONNECTED)
            assert take_all(peer) == [b"fill"] * filled
        assert counts == [7]
        assert take_all(peer) == [b"patient"]


async def test_a_send_that_waits_for_its_receiver_can_be_stopped(tmp_path: Path) -> None:
    path = str(tmp_path / "full")
    with receiver(UNIX, path) as peer, closing(Socket(UNIX, DGRAM)) as socket:
        async with open_initiator():
            sent = 0
            while not (last := socket.begin_send_to(b"x", remote_end_point=path)).remaining:
                sent += 1
            await trio.sleep(0.01)
            assert last.cancel("enough") is True
            with pytest.raises(SocketException, match="enough") as caught:
                await socket.end_send_to(last)
            assert caught.value.socket_error_code is SocketError.OPERATION_ABORTED
            assert caught.value.bytes_transferred == 0
            with trio.move_on_after(0.01) as scope:
                await socket.send_to(b"never", path)
            assert scope.cancelled_caught
            other = str(tmp_path / "other")
            with receiver(UNIX, other) as elsewhere:
                assert await socket.send_to(b"elsewhere", other) == 9
                assert take_all(elsewhere) == [b"elsewhere"]
        assert take_all(peer) == [b"x"] * sent


# Bad arguments --------------------------------------------------------------------------------


@pytest.mark.fact("F250")
async def test_a_name_is_refused_and_not_looked_up(
    udp: Socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[Any] = []
    real = stdlib_socket.getaddrinfo

    def getaddrinfo(*args: Any, flags: int = 0, **kwargs: Any) -> Any:
        if not flags & stdlib_socket.AI_NUMERICHOST:
            looked_up.append(args)
        return real(*args, flags=flags | stdlib_socket.AI_NUMERICHOST, **kwargs)

    monkeypatch.setattr(stdlib_socket, "getaddrinfo", getaddrinfo)
    args = SocketAsyncEventArgs(b"x")
    async with open_initiator():
        for host in ("localhost", "nobody.example", "::1"):
            args.remote_end_point = (host, 9)
            with pytest.raises(ValueError, match=f"^remote_end_point has the host '{host}'"):
                udp.send_to_async(args)
            assert args.last_operation is SocketAsyncOperation.NONE
            with pytest.raises(ValueError, match=f"^remote_end_point has the host '{host}'"):
                udp.begin_send_to(b"x", remote_end_point=(host, 9), callback=never_called)
            with pytest.raises(ValueError, match=f"^address has the host '{host}'"):
                await udp.send_to(b"x", (host, 9))
    assert looked_up == []


@pytest.mark.fact("F249")
@pytest.mark.parametrize("socket_kind", ["udp", "tcp", "scripted"])
async def test_an_address_must_be_given(udp: Socket, socket_kind: str) -> None:
    """Also where it would be ignored."""
    with connected("tcp4") as (tcp, peer):
        socket = {"udp": udp, "tcp": tcp, "scripted": scripted(is_stream=False)[0]}[socket_kind]
        args = SocketAsyncEventArgs(b"x")
        async with open_initiator():
            with pytest.raises(TypeError, match=r"^remote_end_point is None, but must be the"):
                socket.send_to_async(args)
            assert args.last_operation is SocketAsyncOperation.NONE
            with pytest.raises(TypeError, match=r"^remote_end_point is None, but must be the"):
                socket.begin_send_to(b"x", callback=never_called)
            with pytest.raises(TypeError, match=r"^address is None, but must be the"):
                await socket.send_to(b"x", None)
        assert nothing_to_read(peer)


@pytest.mark.fact("F025")
async def test_the_order_of_the_checks_of_begin_send_to(udp: Socket) -> None:
    """Closed, buffer, offset, size, remote_end_point, initiator: each call would fail all the later checks too."""
    begin: Any = udp.begin_send_to
    with pytest.raises(TypeError, match=r"^buffer is None"):
        begin(None, 9, 9)
    with pytest.raises(TypeError, match=r"^buffer must be a bytes-like object .*, not list"):
        begin([b"abc"], 9, 9)
    with pytest.raises(ValueError, match=r"^offset is 9"):
        begin(b"abc", 9, 9)
    with pytest.raises(ValueError, match=r"^size is 9"):
        begin(b"abc", 1, 9)
    with pytest.raises(TypeError, match=r"^remote_end_point is None"):
        begin(b"abc", 1, 2)
    with pytest.raises(InvalidOperationError, match=r"^no initiator is open here"):
        begin(b"abc", 1, 2, remote_end_point=SOMEWHERE)
    udp.close()
    with pytest.raises(ObjectDisposedError, match=r"^this socket was closed"):
        begin(None, 9, 9)
    assert udp.queued_operations == 0


async def test_the_order_of_the_checks_of_send_to(udp: Socket) -> None:
    send_to: Any = udp.send_to
    for wrong in (None, [b"abc"], SocketAsyncEventArgs(b"x")):
        with pytest.raises(TypeError, match=r"^data (is None|must be a bytes-like)"):
            await send_to(wrong, None)
    with pytest.raises(TypeError, match=r"^address is None"):
        await send_to(b"x", None)
    with pytest.raises(TypeError, match=r"^address must be \(host, port\)"):
        await send_to(b"x", "127.0.0.1:9")
    udp.close()
    with pytest.raises(ObjectDisposedError, match=r"^this socket was closed"):
        await send_to(None, None)


async def test_the_order_of_the_checks_of_send_to_async(udp: Socket, tmp_path: Path) -> None:
    send_to_async: Any = udp.send_to_async
    args = SocketAsyncEventArgs()
    for wrong in (None, b"x"):
        with pytest.raises(TypeError, match=r"^args must be a SocketAsyncEventArgs"):
            send_to_async(wrong)
    with pytest.raises(ValueError, match=r"^args has nothing to send"):
        send_to_async(args)
    args.set_buffer(b"x")
    with pytest.raises(TypeError, match=r"^remote_end_point is None"):
        send_to_async(args)
    args.remote_end_point = SOMEWHERE
    with pytest.raises(InvalidOperationError, match=r"^no initiator is open here"):
        send_to_async(args)
    assert args.last_operation is SocketAsyncOperation.NONE
    args.close()
    with pytest.raises(ObjectDisposedError, match=r"^these args were closed"):
        send_to_async(args)
    async with open_initiator():
        in_use = SocketAsyncEventArgs(bytes(10))
        with connected("tcp4") as (busy, _):
            while not busy.begin_send(bytes(100_000)).remaining:
                pass
            assert busy.send_async(in_use) is True
            with pytest.raises(OperationInProgressError, match=r"^these args are in use"):
                send_to_async(in_use)
            assert in_use.last_operation is SocketAsyncOperation.SEND
        await in_use.wait()
    udp.close()
    with pytest.raises(ObjectDisposedError, match=r"^this socket was closed"):
        send_to_async(None)


async def test_args_of_a_handler_that_restarts_blindly_keep_their_count_and_rest() -> None:
    """As for `send_async`: while its initiator is left, a cut message is neither restarted nor complained about."""
    answers: list[bool] = []
    with connected("tcp4") as (socket, _):
        args = SocketAsyncEventArgs(BIG)
        args.remote_end_point = SOMEWHERE
        args.completed += lambda *_: answers.append(socket.send_to_async(args))
        async with open_initiator():
            assert socket.send_to_async(args) is True
            accepted = args.bytes_transferred
        assert answers == [False]
        assert args.bytes_transferred == accepted
        assert b"".join(args.remaining) == BIG[accepted:]
