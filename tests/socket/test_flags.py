"""Hold every form of sending to what it makes of flags: what reaches the kernel, and what never does."""

from __future__ import annotations

import socket as stdlib_socket
import sys
from contextlib import closing
from typing import Any

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.datagrams import TO_FACES, receiver, send_to_through, to_failure_on_the_spot
from tests.helpers import (
    FACES,
    connected,
    failure_on_the_spot,
    needs_sigpipe,
    read_exactly,
    run_where_sigpipe_kills,
)
from tests.scripted import SpyPort
from trio_send import (
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    SocketFlags,
    open_initiator,
)
from trio_send._owners.exiting_owner import START_BUDGET
from trio_send.testing import Blocked

DGRAM = stdlib_socket.SOCK_DGRAM
SOMEWHERE = ("127.0.0.1", 9)

NO_SIGNAL = getattr(stdlib_socket, "MSG_NOSIGNAL", 0)

#: What is accepted on a send, and what the kernel calls it (F184, F185).
ACCEPTED = {
    SocketFlags.NONE: 0,
    SocketFlags.OUT_OF_BAND: stdlib_socket.MSG_OOB,
    SocketFlags.PEEK: stdlib_socket.MSG_PEEK,
    SocketFlags.DONT_ROUTE: stdlib_socket.MSG_DONTROUTE,
    SocketFlags.TRUNCATED: stdlib_socket.MSG_TRUNC,
    SocketFlags.CONTROL_DATA_TRUNCATED: stdlib_socket.MSG_CTRUNC,
    SocketFlags.DONT_ROUTE | SocketFlags.TRUNCATED: (
        stdlib_socket.MSG_DONTROUTE | stdlib_socket.MSG_TRUNC
    ),
}

REFUSED = [
    SocketFlags.MAX_IO_VECTOR_LENGTH,
    SocketFlags.BROADCAST,
    SocketFlags.MULTICAST,
    SocketFlags.PARTIAL,
    SocketFlags(0x1000),
    SocketFlags(0x20),  # the kernel's number of TRUNCATED
    SocketFlags.DONT_ROUTE | SocketFlags.BROADCAST,
]

FORMS = (*FACES, *TO_FACES, "send_datagrams")

every_form = pytest.mark.parametrize("form", FORMS)


async def send(form: str, socket: Socket, data: Any, flags: SocketFlags, address: Any) -> int:
    """Send one message with flags, through any form."""
    if form in TO_FACES:
        return await send_to_through(form, socket, data, address, flags)
    if form == "send_datagrams":
        return await socket.send_datagrams([data], None, flags) * len(data)
    if form == "send":
        return await socket.send(data, flags)
    if form == "begin_send":
        return await socket.end_send(socket.begin_send(data, socket_flags=flags))
    if form == "try_begin_send":
        result, _ = socket.try_begin_send(data, socket_flags=flags)
        assert result is not None
        return await socket.end_send(result)
    args = SocketAsyncEventArgs(data)
    args.socket_flags = flags
    if form == "send args":
        return await socket.send(args)
    if socket.send_async(args):
        await args.wait()
    assert args.socket_flags is flags
    return args.bytes_transferred


async def failure(
    form: str, socket: Socket, flags: SocketFlags, address: Any
) -> tuple[SocketError, int]:
    """Send what cannot be sent, through any form; return the error and the count."""
    if form in TO_FACES:
        return await to_failure_on_the_spot(form, socket, b"x", address, flags)
    if form != "send_datagrams":
        return await failure_on_the_spot(form, socket, b"x", flags)
    with pytest.raises(SocketException) as caught:
        await socket.send_datagrams([b"x"], None, flags)
    return caught.value.socket_error_code, caught.value.bytes_transferred


@pytest.mark.fact("F183", "F184", "F185")
@pytest.mark.parametrize("blocked", [False, True], ids=["at once", "from the queue"])
@pytest.mark.parametrize("flags", ACCEPTED, ids=repr)
@every_form
async def test_the_kernel_is_handed_its_own_numbers_and_never_sends_a_signal(
    form: str, flags: SocketFlags, blocked: bool, autojump_clock: MockClock
) -> None:
    port = SpyPort([Blocked(1)] * blocked, is_stream=False)
    socket = Socket.from_port(port)
    async with open_initiator():
        for _ in range(2):  # the second time by the fast path, where there is one
            assert await send(form, socket, b"message", flags, SOMEWHERE) == 7
    assert {call.flags for call in port.calls} == {ACCEPTED[flags] | NO_SIGNAL}
    assert port.accepted == b"messagemessage"
    socket.close()


@pytest.mark.fact("F184")
@pytest.mark.parametrize("flags", REFUSED, ids=repr)
@every_form
async def test_the_kernel_never_sees_what_is_refused(form: str, flags: SocketFlags) -> None:
    port = SpyPort(is_stream=False)
    socket = Socket.from_port(port)
    refused = (SocketError.OPERATION_NOT_SUPPORTED, 0)
    async with open_initiator():
        for _ in range(2):
            assert await failure(form, socket, flags, SOMEWHERE) == refused
    assert port.calls == []
    assert socket.queued_operations == 0
    socket.close()


@pytest.mark.page("B38")
@pytest.mark.fact("F187", "F190")
@pytest.mark.parametrize(
    "flags", [f for f in ACCEPTED if not f & SocketFlags.OUT_OF_BAND], ids=repr
)
@every_form
async def test_the_kernel_takes_them_and_sends_the_same_bytes(
    form: str, flags: SocketFlags
) -> None:
    async with open_initiator():
        with receiver() as peer, closing(Socket(type=DGRAM)) as socket:
            await socket.connect(peer.getsockname())
            assert await send(form, socket, b"datagram", flags, peer.getsockname()) == 8
            assert peer.recv(9) == b"datagram"
        if form != "send_datagrams":
            with connected("tcp4") as (socket, peer):
                assert await send(form, socket, b"stream", flags, SOMEWHERE) == 6
                assert await read_exactly(peer, 6) == b"stream"


@pytest.mark.page("B38")
@pytest.mark.skipif(sys.platform != "linux", reason="other systems may not look at the flag")
@every_form
async def test_without_routing_only_direct_neighbours_can_be_reached(form: str) -> None:
    """The address is one for documentation: no network that this machine is on has it."""
    with stdlib_socket.socket(type=DGRAM) as probe:
        try:
            probe.sendto(b"x", stdlib_socket.MSG_DONTROUTE, ("198.51.100.1", 9))
        except OSError:
            pass
        else:
            pytest.skip("this machine counts even that address as its neighbour's")
    async with open_initiator():
        with closing(Socket(type=DGRAM)) as socket:
            if form not in TO_FACES:
                try:
                    await socket.connect(("198.51.100.1", 9))
                except SocketException:
                    pytest.skip("this machine has no route to any other network")
            found = await failure(form, socket, SocketFlags.DONT_ROUTE, ("198.51.100.1", 9))
            assert found == (SocketError.NETWORK_UNREACHABLE, 0)


@pytest.mark.fact("F188")
@pytest.mark.parametrize("form", TO_FACES)
async def test_out_of_band_with_an_address_that_is_ignored(form: str) -> None:
    """The last byte is urgent, the others are ordinary; the other forms are tested elsewhere."""
    with connected("tcp4") as (socket, peer):
        async with open_initiator():
            assert await send(form, socket, b"abc", SocketFlags.OUT_OF_BAND, SOMEWHERE) == 3
        assert await read_exactly(peer, 2) == b"ab"
        assert peer.recv(1, stdlib_socket.MSG_OOB) == b"c"


SIGPIPE_SCRIPT = """
    async def main():
        made = []

        def broken():
            ours, peer = trio_send.socketpair()
            made.append(ours)
            peer.close()
            return ours

        async def tell(awaitable):
            try:
                await awaitable
            except trio_send.SocketException as error:
                print(error.socket_error_code.name)

        async with trio_send.open_initiator():
            args = Args(b"x")
            args.remote_end_point = "/nowhere"
            broken().send_to_async(args)
            print(args.socket_error.name)
            try:
                broken().begin_send_to(b"x", remote_end_point="/nowhere")
            except trio_send.SocketException as error:
                print(error.socket_error_code.name)
            await tell(broken().send_to(b"x", "/nowhere"))
            await tell(broken().send_to(b"x", "/nowhere", SocketFlags.DONT_ROUTE))
            for each in made:
                each.close()
"""


@needs_sigpipe
def test_a_broken_pipe_is_never_a_signal() -> None:
    """Also in a program that has given SIGPIPE back its default action; the other forms are tested elsewhere."""
    assert run_where_sigpipe_kills(SIGPIPE_SCRIPT) == ["SHUTDOWN"] * 4


@pytest.mark.parametrize("budget", ["fresh", "spent"])
async def test_the_rest_of_a_message_is_not_sent_with_flags_that_are_refused(budget: str) -> None:
    """The stream stays torn, and the rest can be sent without them."""
    port = SpyPort([4])
    with closing(Socket.from_port(port)) as socket:
        async with open_initiator():
            cut = socket.begin_send(b"0123456789")
            assert cut.cancel()
            assert socket.torn is not None
            rest = SocketAsyncEventArgs(buffer_list=socket.torn.remaining)
            rest.socket_flags = SocketFlags.BROADCAST
            if budget == "spent":
                while not socket.send_async(SocketAsyncEventArgs(b"refused")):
                    pass
                await wait_all_tasks_blocked()
                for _ in range(START_BUDGET):
                    assert not socket.send_async(SocketAsyncEventArgs(b"refused"))
            calls = len(port.calls)
            assert socket.resume(rest) is (budget == "spent")
            await rest.wait()
            assert rest.socket_error is SocketError.OPERATION_NOT_SUPPORTED
            assert rest.bytes_transferred == 0
            assert len(port.calls) == calls
            assert socket.torn is not None
            assert socket.torn.bytes_transferred == 4
            rest.socket_flags = SocketFlags.NONE
            assert socket.resume(rest) is False
            assert rest.bytes_transferred == 6
            assert socket.torn is None
    assert port.accepted == b"0123456789"
