"""Hold receiving with the sender to what it says: who sent it, whether all of it is there, and how it came.

Modules: _kernel.received_message, _socket.receive_message_from.
"""

from __future__ import annotations

import socket as stdlib_socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

import trio_send
from tests.datagrams import receiver
from tests.helpers import Told, never_called
from trio_send import (
    AsyncResult,
    IPPacketInformation,
    ReceivedFrom,
    ReceivedMessageFrom,
    Socket,
    SocketAsyncEventArgs,
    SocketAsyncOperation,
    SocketError,
    SocketException,
    SocketFlags,
    SocketShutdown,
    TracedOperation,
    abc,
    add_instrument,
    open_initiator,
    socketpair,
)
from trio_send._kernel import received_message

DGRAM = stdlib_socket.SOCK_DGRAM
NAMES = ("receive_from", "receive_message_from")
FORMS = (*NAMES, *(f"{name}_async" for name in NAMES), *(f"begin_{name}" for name in NAMES))

every_name = pytest.mark.parametrize("name", NAMES)
every_form = pytest.mark.parametrize("form", FORMS)

#: Where each datagram says how it came.
INFORMS = sys.platform in ("linux", "darwin")
informs = pytest.mark.skipif(not INFORMS, reason="the system is not asked here")

Ends = tuple[Socket, stdlib_socket.socket]


@attrs.frozen
class Got:
    """What a receive in any form has told."""

    data: bytes
    sender: Any
    flags: SocketFlags
    information: IPPacketInformation | None


def got_of_args(args: SocketAsyncEventArgs) -> Got:
    assert args.buffer is not None
    data = bytes(args.buffer)[: args.bytes_transferred]
    information = args.receive_message_from_packet_info
    return Got(data, args.remote_end_point, args.socket_flags, information)


def got_of_end(buffer: bytearray, ended: tuple[Any, ...]) -> Got:
    if len(ended) == 2:
        return Got(bytes(buffer[: ended[0]]), ended[1], SocketFlags.NONE, None)
    count, flags, sender, information = ended
    return Got(bytes(buffer[:count]), sender, flags, information)


async def receive(socket: Socket, form: str, max_bytes: int = 100) -> Got:
    """Receive in one of the forms."""
    if not form.startswith("begin_") and not form.endswith("_async"):
        got = await getattr(socket, form)(max_bytes)
        if isinstance(got, ReceivedFrom):
            flags = SocketFlags.TRUNCATED if got.truncated else SocketFlags.NONE
            return Got(got.data, got.remote_end_point, flags, None)
        assert isinstance(got, ReceivedMessageFrom)
        return Got(got.data, got.remote_end_point, got.socket_flags, got.packet_information)
    buffer = bytearray(max_bytes)
    async with open_initiator():
        if form.startswith("begin_"):
            end = getattr(socket, form.replace("begin", "end"))
            return got_of_end(buffer, await end(getattr(socket, form)(buffer)))
        args = SocketAsyncEventArgs(buffer)
        if getattr(socket, form)(args):
            await args.wait()
        assert args.outcome is not None
        args.outcome.unwrap()
        return got_of_args(args)


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A UDP socket of ours, and one of somebody who writes to it."""
    with receiver() as peer, closing(Socket(type=DGRAM)) as socket:
        socket.bind(("127.0.0.1", 0))
        yield socket, peer


@pytest.mark.fact("F154", "F260")
@every_form
@pytest.mark.parametrize("first", ["the datagram", "the receive"])
async def test_the_sender_is_told(ends: Ends, form: str, first: str) -> None:
    socket, peer = ends
    log: list[Got] = []

    async def run() -> None:
        log.append(await receive(socket, form))

    async with trio.open_nursery() as nursery:
        if first == "the receive":
            nursery.start_soon(run)
            await wait_all_tasks_blocked()
            assert not log
        peer.sendto(b"hello", socket.local_end_point)
        if first == "the datagram":
            nursery.start_soon(run)
    assert log[0].data == b"hello"
    assert log[0].sender == peer.getsockname()
    assert log[0].flags is SocketFlags.NONE


@every_form
async def test_what_does_not_fit_is_lost_and_that_is_told(ends: Ends, form: str) -> None:
    socket, peer = ends
    for datagram in (b"a long one", b"short", b""):
        peer.sendto(datagram, socket.local_end_point)
    got = await receive(socket, form, 5)
    assert got.data == b"a lon"
    assert got.sender == peer.getsockname()
    if "message" in form or not form.endswith(("_async", "begin_receive_from")):
        assert got.flags is SocketFlags.TRUNCATED
    for data in (b"short", b""):
        got = await receive(socket, form, 5)
        assert (got.data, got.flags, got.sender) == (data, SocketFlags.NONE, peer.getsockname())


@pytest.mark.skipif(sys.platform != "linux", reason="datagrams here are shorter")
@every_name
async def test_without_a_number_it_is_64_kibibytes(name: str) -> None:
    with ExitStack() as stack:
        left, peer = stdlib_socket.socketpair(stdlib_socket.AF_UNIX, DGRAM)
        stack.enter_context(peer)
        socket = stack.enter_context(closing(Socket.from_stdlib(left)))
        for size, left_over in ((65536, False), (65537, True)):
            peer.send(bytes(size))
            got = await getattr(socket, name)()
            assert len(got.data) == 65536
            if name == "receive_from":
                assert got.truncated is left_over
            else:
                assert bool(got.socket_flags & SocketFlags.TRUNCATED) is left_over


@informs
@pytest.mark.parametrize("form", [form for form in FORMS if "message" in form])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_how_a_datagram_came(form: str, host: str) -> None:
    """The own address to which it was sent, though the socket is bound to all, and the interface."""
    family = stdlib_socket.AF_INET6 if ":" in host else stdlib_socket.AF_INET
    with receiver(family) as peer, closing(Socket(family, DGRAM)) as socket:
        socket.bind(("", 0))
        async with open_initiator():
            waiting = socket.begin_receive_message_from(bytearray(9))  # from here on it is noted
            address = (host, socket.local_end_point[1])
            peer.sendto(b"one", address)
            peer.sendto(b"two", address)
            await socket.end_receive_message_from(waiting)
        got = await receive(socket, form)
        assert got.data == b"two"
        assert got.information is not None
        assert got.information.address == host
        names = dict(stdlib_socket.if_nameindex())
        assert names[got.information.interface].startswith("lo")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is broadcast over loopback")
async def test_a_broadcast_came_to_the_address_of_all(ends: Ends) -> None:
    _, peer = ends
    with closing(Socket(type=DGRAM)) as socket:
        socket.bind(("", 0))
        peer.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_BROADCAST, 1)
        peer.sendto(b"hello", ("127.255.255.255", socket.local_end_point[1]))
        got = await socket.receive_message_from()
        assert got.packet_information is not None
        assert got.packet_information.address == "127.255.255.255"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere such a socket is not told")
async def test_an_ipv6_socket_sees_how_ipv4_came(ends: Ends) -> None:
    """Both addresses have the form in which such a socket sees them."""
    _, peer = ends
    with closing(Socket(stdlib_socket.AF_INET6, DGRAM)) as socket:
        socket.dual_mode = True
        socket.bind(("", 0))
        peer.sendto(b"hello", ("127.0.0.1", socket.local_end_point[1]))
        got = await socket.receive_message_from()
        assert got.packet_information is not None
        assert got.packet_information.address == "::ffff:127.0.0.1"
        assert got.remote_end_point[:2] == ("::ffff:127.0.0.1", peer.getsockname()[1])


async def test_another_descriptor_is_asked_anew() -> None:
    """A socket that is connected again stands on one that was not asked to tell how datagrams come."""
    with receiver() as peer, closing(Socket(type=DGRAM)) as socket:
        for _ in range(2):
            await socket.connect(peer.getsockname())
            peer.sendto(b"hello", socket.local_end_point)
            got = await socket.receive_message_from()
            assert (got.packet_information is None) == (sys.platform not in ("linux", "darwin"))
            await socket.disconnect(reuse_socket=True)


@informs
async def test_a_socket_that_is_told_how_datagrams_come_serves_the_other_receives(
    ends: Ends,
) -> None:
    """They have no use for what the kernel says then, and nothing is cut off for them."""
    socket, peer = ends
    for _ in range(4):
        peer.sendto(b"hello", socket.local_end_point)
    assert (await socket.receive_message_from()).packet_information is not None
    assert await socket.receive_from() == ReceivedFrom(b"hello", peer.getsockname(), False)
    assert await socket.receive() == b"hello"
    got = await receive(socket, "receive_from_async")
    assert got == Got(b"hello", peer.getsockname(), SocketFlags.NONE, None)


@every_form
async def test_on_a_connection_it_is_the_peer(form: str) -> None:
    with closing(Socket()) as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = stack.enter_context(closing(Socket()))
        await client.connect(listener.local_end_point)
        server = stack.enter_context(closing(await listener.accept()))
        await client.send(b"hello")
        for data in (b"hel", b"lo"):
            got = await receive(server, form, 3)
            assert got == Got(data, client.local_end_point, SocketFlags.NONE, None)
        client.shutdown(SocketShutdown.SEND)
        assert (await receive(server, form)).data == b""


@every_form
@pytest.mark.parametrize("type_", ["SOCK_DGRAM", "SOCK_SEQPACKET"])
@pytest.mark.skipif(sys.platform != "linux", reason="not every system has such pairs")
async def test_who_has_no_address_is_nobody(form: str, type_: str) -> None:
    left, right = socketpair(stdlib_socket.AF_UNIX, getattr(stdlib_socket, type_))
    with closing(left), closing(right):
        await left.send(b"hello")
        got = await receive(right, form, 3)
        assert (got.data, got.sender, got.information) == (b"hel", None, None)


@every_form
@pytest.mark.skipif(not hasattr(stdlib_socket, "AF_UNIX"), reason="there are no Unix sockets")
async def test_a_unix_sender_with_a_path(form: str, tmp_path: Path) -> None:
    family = stdlib_socket.AF_UNIX
    with receiver(family, str(tmp_path / "a")) as peer, closing(Socket(family, DGRAM)) as socket:
        socket.bind(str(tmp_path / "b"))
        peer.sendto(b"hello", str(tmp_path / "b"))
        assert (await receive(socket, form)).sender == str(tmp_path / "a")


@every_form
async def test_without_a_connection_a_stream_receives_from_nobody(form: str) -> None:
    with closing(Socket()) as socket:
        with pytest.raises(SocketException) as caught:
            await receive(socket, form)
        assert caught.value.socket_error_code is SocketError.NOT_CONNECTED


async def test_all_receives_wait_in_one_queue(ends: Ends) -> None:
    """In the order of their starts, whatever they tell."""
    socket, peer = ends
    log: list[bytes] = []
    async with open_initiator(), trio.open_nursery() as nursery:
        for form in ("receive", *FORMS):

            async def run(form: str = form) -> None:
                got = await socket.receive() if form == "receive" else await receive(socket, form)
                log.append(got if isinstance(got, bytes) else got.data)

            nursery.start_soon(run)
            await wait_all_tasks_blocked()
        datagrams = [b"%d" % number for number in range(1 + len(FORMS))]
        for datagram in datagrams:
            peer.sendto(datagram, socket.local_end_point)
            await wait_all_tasks_blocked()
    assert log == datagrams


# Event args -----------------------------------------------------------------------------------


@pytest.mark.fact("F110", "F154")
@every_name
async def test_while_it_is_pending_the_end_point_is_the_programs(ends: Ends, name: str) -> None:
    socket, peer = ends
    args = SocketAsyncEventArgs(bytearray(9))
    args.remote_end_point = ("127.0.0.1", 1)
    async with open_initiator():
        assert getattr(socket, f"{name}_async")(args) is True
        assert args.remote_end_point == ("127.0.0.1", 1)
        args.remote_end_point = ("127.0.0.1", 2)
        args.cancel()
        await args.wait()
        assert args.socket_error is SocketError.OPERATION_ABORTED
        assert args.remote_end_point == ("127.0.0.1", 2)  # nobody has sent anything
        assert getattr(socket, f"{name}_async")(args) is True
        peer.sendto(b"x", socket.local_end_point)
        await args.wait()
        assert args.remote_end_point == peer.getsockname()
        assert args.last_operation.name == name.upper()


@every_name
async def test_args_answer_whoever_has_written(ends: Ends, name: str) -> None:
    """The same args, and no copy."""
    socket, peer = ends
    args = SocketAsyncEventArgs(bytearray(9))
    told: list[tuple[SocketAsyncOperation, int]] = []
    done = trio.Event()

    def handler(sock: Socket, args: SocketAsyncEventArgs) -> None:
        told.append((args.last_operation, args.bytes_transferred))
        args.set_range(0, args.bytes_transferred)
        assert sock.send_to_async(args) is False
        done.set()

    args.completed += handler
    async with open_initiator():
        assert getattr(socket, f"{name}_async")(args) is True
        peer.sendto(b"hello", socket.local_end_point)
        await done.wait()
    assert told == [(SocketAsyncOperation[name.upper()], 5)]
    assert peer.recv(99) == b"hello"


async def test_what_the_system_said_is_not_asked_of_it_again(ends: Ends) -> None:
    """TRUNCATED is shown beside the flags that were set, but the next start has these alone."""
    socket, peer = ends
    args = SocketAsyncEventArgs(bytearray(2))
    args.socket_flags = SocketFlags.PEEK
    peer.sendto(b"hello", socket.local_end_point)
    async with open_initiator():
        for _ in range(2):
            assert socket.receive_message_from_async(args) is False
            assert args.socket_error is SocketError.SUCCESS
            assert args.socket_flags == SocketFlags.PEEK | SocketFlags.TRUNCATED
        args.socket_flags = SocketFlags.NONE
        assert args.socket_flags is SocketFlags.NONE
        assert socket.receive_from_async(args) is False
        assert args.socket_flags is SocketFlags.NONE
        assert args.receive_message_from_packet_info is None
        peer.sendto(b"hello", socket.local_end_point)
        assert socket.receive_message_from_async(args) is False
        assert args.socket_flags is SocketFlags.TRUNCATED
        args.remote_end_point = peer.getsockname()
        assert socket.send_to_async(args) is False
        assert args.socket_error is SocketError.SUCCESS
        assert args.socket_flags is SocketFlags.NONE


@every_name
async def test_what_cannot_be_done_is_told_on_the_spot(ends: Ends, name: str) -> None:
    socket, _ = ends
    async with open_initiator():
        args = SocketAsyncEventArgs(bytearray(9))
        args.completed += never_called
        args.socket_flags = SocketFlags.BROADCAST
        assert getattr(socket, f"{name}_async")(args) is False
        assert args.socket_error is SocketError.OPERATION_NOT_SUPPORTED
        with pytest.raises(SocketException) as caught:
            getattr(socket, f"begin_{name}")(
                bytearray(9), socket_flags=SocketFlags.BROADCAST, callback=never_called
            )
        assert caught.value.socket_error_code is SocketError.OPERATION_NOT_SUPPORTED


@every_name
async def test_bad_arguments_change_nothing(ends: Ends, name: str) -> None:
    socket, _ = ends
    begin, start = getattr(socket, f"begin_{name}"), getattr(socket, f"{name}_async")
    async with open_initiator() as initiator:
        for bad, error, sentence in (
            (None, TypeError, "^buffer is None"),
            (b"abc", ValueError, "^buffer must be writable"),
            ([bytearray(1)], TypeError, "^buffer must be a bytes-like object"),
        ):
            with pytest.raises(error, match=sentence):
                begin(bad)
        with pytest.raises(ValueError, match=r"^size is 4"):
            begin(bytearray(5), 2, 4)
        with pytest.raises(TypeError, match=r"^callback must be a function"):
            begin(bytearray(5), callback=7)
        with pytest.raises(TypeError, match=r"^args must be a SocketAsyncEventArgs"):
            start(None)
        with pytest.raises(ValueError, match=r"^args has nothing to receive into"):
            start(SocketAsyncEventArgs())
        with pytest.raises(ValueError, match=r"^max_bytes is 0"):
            await getattr(socket, name)(0)
        assert initiator.pending_operations == 0
    with pytest.raises(trio_send.InvalidOperationError, match=r"^no initiator is open"):
        begin(bytearray(5))
    with pytest.raises(trio_send.InvalidOperationError, match=r"^no initiator is open"):
        start(SocketAsyncEventArgs(bytearray(5)))


# Begin and end, and await ---------------------------------------------------------------------


@every_name
async def test_a_callback_takes_the_result(ends: Ends, name: str) -> None:
    socket, peer = ends
    taken: list[tuple[Any, ...]] = []
    end = getattr(socket, f"end_{name}_nowait")

    def callback(ar: AsyncResult) -> None:
        taken.append(end(ar))

    async with open_initiator():
        result = getattr(socket, f"begin_{name}")(bytearray(9), callback=callback, state="state")
        with pytest.raises(trio.WouldBlock):
            end(result)
        peer.sendto(b"hello", socket.local_end_point)
        await wait_all_tasks_blocked()
    assert result.async_state == "state"
    assert taken[0][0] == 5
    assert peer.getsockname() in taken[0]
    with pytest.raises(trio_send.InvalidOperationError, match="already"):
        end(result)


async def test_each_end_takes_the_results_of_its_own_begin(ends: Ends) -> None:
    socket, peer = ends
    peer.sendto(b"hello", socket.local_end_point)
    async with open_initiator():
        result = socket.begin_receive_from(bytearray(9))
        with pytest.raises(ValueError, match=r"of RECEIVE_FROM, not of RECEIVE_MESSAGE_FROM"):
            socket.end_receive_message_from_nowait(result)
        with pytest.raises(ValueError, match=r"of RECEIVE_FROM, not of RECEIVE$"):
            await socket.end_receive(result)
        with assert_checkpoints():
            assert await socket.end_receive_from(result) == (5, peer.getsockname())


@every_name
async def test_await_always_yields_and_a_start_never_does(ends: Ends, name: str) -> None:
    socket, peer = ends
    for _ in range(3):
        peer.sendto(b"x", socket.local_end_point)
    with assert_checkpoints():
        await getattr(socket, name)()
    async with open_initiator():
        with assert_no_checkpoints():
            getattr(socket, f"{name}_async")(SocketAsyncEventArgs(bytearray(9)))
            getattr(socket, f"begin_{name}")(bytearray(9))


@every_name
async def test_who_is_cancelled_has_taken_nothing(ends: Ends, name: str) -> None:
    socket, peer = ends
    with trio.move_on_after(0) as scope:
        await getattr(socket, name)()
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(getattr(socket, name))
        await wait_all_tasks_blocked()
        peer.sendto(b"hello", socket.local_end_point)
        nursery.cancel_scope.cancel()
    assert (await socket.receive_from()).data == b"hello"


async def test_an_error_of_the_datagram_before_is_told_once(ends: Ends) -> None:
    socket, peer = ends
    await socket.connect(peer.getsockname())
    peer.close()
    await socket.send(b"to nobody")
    with pytest.raises(SocketException) as caught:
        await socket.receive_from()
    assert caught.value.socket_error_code is SocketError.CONNECTION_REFUSED
    args = SocketAsyncEventArgs(bytearray(9))
    async with open_initiator():
        assert socket.receive_from_async(args) is True  # it is usable, and there is nothing


# Those who watch ------------------------------------------------------------------------------


class Ended(abc.Instrument):
    """Notes how receives have ended."""

    def __init__(self) -> None:
        self.seen: list[tuple[SocketAsyncOperation, Any, int, bytes]] = []

    def operation_completed(
        self,
        operation: TracedOperation,
        error: SocketError,
        count: int,
        delay: float | None,
        detail: str | None,
    ) -> None:
        self.seen.append((operation.kind, operation.address, count, operation.peek(0, count)))


@every_form
async def test_instruments_are_told_the_sender_and_the_bytes(ends: Ends, form: str) -> None:
    socket, peer = ends
    instrument = Ended()
    with add_instrument(instrument):
        peer.sendto(b"hello", socket.local_end_point)
        await receive(socket, form)
    kind = SocketAsyncOperation[form.removeprefix("begin_").removesuffix("_async").upper()]
    assert instrument.seen == [(kind, peer.getsockname(), 5, b"hello")]


@pytest.mark.parametrize("name", ["receive_async", "receive_from_async"])
async def test_how_a_datagram_came_is_told_of_the_latest_operation_alone(
    ends: Ends, name: str
) -> None:
    socket, peer = ends
    peer.sendto(b"hello", socket.local_end_point)
    args = SocketAsyncEventArgs(bytearray(9))
    assert args.receive_message_from_packet_info is None
    async with open_initiator():
        assert socket.receive_message_from_async(args) is False
        assert (args.receive_message_from_packet_info is None) == (not INFORMS)
        peer.sendto(b"again", socket.local_end_point)
        assert getattr(socket, name)(args) is False
        assert args.bytes_transferred == 5
        assert args.receive_message_from_packet_info is None
        assert socket.receive_message_from_async(args) is True
        assert args.receive_message_from_packet_info is None


async def test_text_about_such_an_operation(ends: Ends) -> None:
    socket, peer = ends
    peer.sendto(b"hello", socket.local_end_point)
    async with open_initiator():
        result = socket.begin_receive_from(bytearray(9))
        assert repr(result) == "<AsyncResult: RECEIVE_FROM, SUCCESS, 5 of 9 bytes received>"
        await socket.end_receive_from(result)


async def test_handlers_are_told_once(ends: Ends) -> None:
    socket, peer = ends
    args = SocketAsyncEventArgs(bytearray(9))
    told = Told()
    args.completed += told
    async with open_initiator():
        assert socket.receive_from_async(args) is True
        peer.sendto(b"hello", socket.local_end_point)
        await args.wait()
    assert told.events == [(None, SocketError.SUCCESS, 5)]


# The way of Windows ---------------------------------------------------------------------------


@every_form
async def test_where_no_call_tells_whether_something_was_cut_off(
    ends: Ends, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is received and cut here, and how a datagram came is not told."""
    monkeypatch.setattr(received_message, "HAVE_SCATTER", False)
    socket, peer = ends
    for datagram in (b"a long one", b"short", b""):
        peer.sendto(datagram, socket.local_end_point)
    got = await receive(socket, form, 5)
    assert (got.data, got.sender, got.information) == (b"a lon", peer.getsockname(), None)
    if "message" in form or form == "receive_from":
        assert got.flags is SocketFlags.TRUNCATED
    for data in (b"short", b""):
        got = await receive(socket, form, 5)
        assert got == Got(data, peer.getsockname(), SocketFlags.NONE, None)
    left, right = socketpair()
    with closing(left), closing(right):
        await left.send(b"hello")
        assert (await receive(right, form, 3)).data == b"hel"
        assert (await receive(right, form, 3)).data == b"lo"


async def test_cut_into_several_buffers(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    socket, peer = ends
    monkeypatch.setattr(received_message, "HAVE_SCATTER", False)
    buffers = [bytearray(2), bytearray(0), bytearray(4)]
    args = SocketAsyncEventArgs(buffer_list=buffers)
    peer.sendto(b"hello", socket.local_end_point)
    async with open_initiator():
        assert socket.receive_message_from_async(args) is False
    assert buffers == [b"he", b"", b"llo\0"]
    assert args.socket_flags is SocketFlags.NONE
