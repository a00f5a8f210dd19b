"""Hold the stream face to Trio's contract for streams, and to the queue behind it.

Modules: _socket.guard.
"""

from __future__ import annotations

import socket as stdlib_socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import (
    assert_checkpoints,
    check_half_closeable_stream,
    check_two_way_stream,
    wait_all_tasks_blocked,
)

from tests.helpers import (
    BIG,
    KINDS,
    connected,
    fill,
    read_exactly,
    read_to_end,
    scripted,
    stdlib_pair,
    ten,
    unblock,
)
from trio_send import (
    ObjectDisposedError,
    Socket,
    SocketError,
    SocketException,
    SocketShutdown,
    add_instrument,
    open_initiator,
    socketpair,
)
from trio_send.abc import Instrument
from trio_send.testing import Blocked

Stream = trio.abc.HalfCloseableStream
Maker = Callable[[], Awaitable[tuple[Stream, Stream]]]


def maker(kind: str) -> Maker:
    """Two connected streams with tiny buffers from the first to the second."""

    async def make() -> tuple[Stream, Stream]:
        left, right = map(Socket.from_stdlib, stdlib_pair(kind, tiny=True))
        return left.as_stream(), right.as_stream()

    return make


async def make_clogged() -> tuple[Stream, Stream]:
    """Two streams that take nothing, and will not as long as nobody reads; TCP may make room later all the same."""
    ends = await maker("unix")()
    for each in ends:
        fill(each.socket)  # type: ignore[attr-defined]
    return ends


# Trio's contract --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_a_half_closeable_stream_as_trio_has_it(kind: str) -> None:
    await check_half_closeable_stream(maker(kind), make_clogged if kind == "unix" else None)


async def test_the_other_end_may_be_one_of_trios() -> None:
    async def make() -> tuple[Stream, Stream]:
        left, right = stdlib_pair("tcp4")
        ours = Socket.from_stdlib(left).as_stream()
        return ours, trio.SocketStream(trio.socket.from_stdlib_socket(right))

    await check_two_way_stream(make, None)


@pytest.mark.parametrize("shared", [False, True])
async def test_two_that_send_at_once(shared: bool) -> None:
    with connected("unix") as (socket, peer):
        stream = socket.as_stream(shared=shared)
        fill(socket)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, ten("first"))
            await wait_all_tasks_blocked()
            if shared:
                nursery.start_soon(stream.send_all, ten("second"))
                await wait_all_tasks_blocked()
                nursery.start_soon(stream.send_eof)
                await wait_all_tasks_blocked()
                with pytest.raises(
                    trio.ClosedResourceError, match="the end of this stream was announced"
                ):
                    await stream.send_all(b"too late")
            else:
                for attempt in (
                    lambda: stream.send_all(b"x"),
                    stream.wait_send_all_might_not_block,
                    stream.send_eof,
                ):
                    with pytest.raises(
                        trio.BusyResourceError, match="another task is sending on this stream"
                    ):
                        await attempt()
            assert socket.queued_operations == 1 + 2 * shared
            data = bytearray()
            while not data.endswith(ten("second" if shared else "first")):
                data += await read_exactly(peer, 1)
        assert bytes(data).lstrip(b"\0") == ten("first") + ten("second") * shared


#: For tests of encryption, whose ends trust anybody.
PEM = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg/Bh7MJtdZF7tpELO
BRVAo8lPdCrSJC8Ph/ub4+rKeEyhRANCAAT1FC0iXVFsoSRfIdb5BqZG2z1nH2+T
N+w1TdksqwR6tIDd9bk0dsEFuOzeSmSc97G7giPGlBPb+CVKj9ymNY7r
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBlDCCATugAwIBAgIUUMadh8PZr7UQiQKzCO5sQKBQ4uwwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMjA4MzMzN1oYDzIxMjYxMDI5
MDgzMzM3WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAT1FC0iXVFsoSRfIdb5BqZG2z1nH2+TN+w1TdksqwR6tIDd9bk0dsEF
uOzeSmSc97G7giPGlBPb+CVKj9ymNY7ro2kwZzAdBgNVHQ4EFgQUNnjNLDHVYiaO
GhQvFFtCWT8YygEwHwYDVR0jBBgwFoAUNnjNLDHVYiaOGhQvFFtCWT8YygEwDwYD
VR0TAQH/BAUwAwEB/zAUBgNVHREEDTALgglsb2NhbGhvc3QwCgYIKoZIzj0EAwID
RwAwRAIgMJ36geqsNWUnAl0GEcLs16Ai9NFljecYt2EGfSPuDOMCIGgFVqo0Gbu1
+zQj8Xo2co0yyH4B55d6OqBdJ47aQD3e
-----END CERTIFICATE-----
"""


async def test_it_carries_tls(tmp_path: Any) -> None:
    pem = tmp_path / "end.pem"
    pem.write_text(PEM)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(pem)
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.check_hostname = False
    asking.verify_mode = ssl.CERT_NONE
    left, right = map(Socket.from_stdlib, stdlib_pair("tcp4", tiny=True))
    client = trio.SSLStream(left.as_stream(), asking)
    server = trio.SSLStream(right.as_stream(), serving, server_side=True)

    async def echo() -> None:
        async for piece in server:
            await server.send_all(piece)
        await server.aclose()

    async def ask() -> None:
        await client.send_all(BIG)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo)
        nursery.start_soon(ask)
        data = bytearray()
        while len(data) < len(BIG):
            data += await client.receive_some()
        assert data == BIG
        await client.aclose()
    # What was counted is what the connection carried, and that is something else.
    assert left.statistics().bytes_accepted > len(BIG)


async def test_two_that_receive_at_once() -> None:
    left, right = socketpair()
    stream = left.as_stream(shared=True)
    async with left, right, trio.open_nursery() as nursery:
        nursery.start_soon(stream.receive_some)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError, match="receiving from"):
            await stream.receive_some()
        await right.send(b"x")


# The queue behind it ----------------------------------------------------------------------------


async def test_it_stands_in_one_queue_with_the_other_faces(autojump_clock: Any) -> None:
    socket, port = scripted(Blocked(1.0))
    stream = socket.as_stream()
    async with open_initiator(), trio.open_nursery() as nursery:
        nursery.start_soon(socket.send, ten("await"))
        await wait_all_tasks_blocked()
        nursery.start_soon(stream.send_all, ten("stream"))
        await wait_all_tasks_blocked()
        result = socket.begin_send(ten("begin"))
        await socket.end_send(result)
    assert bytes(port.accepted) == ten("await") + ten("stream") + ten("begin")


async def test_an_end_waits_for_what_is_queued() -> None:
    with connected("unix") as (socket, peer):
        stream = socket.as_stream()
        async with open_initiator(), trio.open_nursery() as nursery:
            result = socket.begin_send(BIG)
            assert not result.is_completed
            nursery.start_soon(stream.send_eof)
            assert await read_to_end(peer) == BIG
            await socket.end_send(result)
    assert result.bytes_transferred == len(BIG)


async def test_an_end_that_the_socket_was_told_of_is_not_told_once_more() -> None:
    socket, port = scripted()
    stream = socket.as_stream()
    socket.shutdown(SocketShutdown.SEND)
    for _ in range(2):
        with assert_checkpoints():
            await stream.send_eof()
    assert port.shut_down == [SocketShutdown.SEND]


async def test_an_end_that_was_cancelled_has_not_come(autojump_clock: Any) -> None:
    left, right = socketpair()
    async with left, right:
        stream = left.as_stream(shared=True)
        fill(left)
        async with open_initiator():
            left.begin_send(b"x")
            with trio.move_on_after(0.1) as scope:
                await stream.send_eof()
            assert scope.cancelled_caught
        left.forget_torn()
        with pytest.raises(trio.ClosedResourceError):
            left.shutdown(SocketShutdown.SEND)
            await stream.send_all(b"y")
        with assert_checkpoints():
            await stream.send_eof()  # it is, and again


async def test_a_socket_that_is_closed_in_front_of_an_end_has_not_broken(
    autojump_clock: Any,
) -> None:
    """By who is told that the last send has ended, when the end has its turn."""
    socket, port = scripted(Blocked())
    stream = socket.as_stream()

    class Closer(Instrument):
        def operation_completed(self, *_: object) -> None:
            socket.close()

    async def end() -> None:
        with pytest.raises(trio.ClosedResourceError, match="was closed"):
            await stream.send_eof()

    async with open_initiator(), trio.open_nursery() as nursery:
        result = socket.begin_send(b"hello")
        nursery.start_soon(end)
        await wait_all_tasks_blocked()
        with add_instrument(Closer()):
            await unblock(port)
        assert result.bytes_transferred == 5
    assert bytes(port.accepted) == b"hello"
    assert port.shut_down == []


async def test_the_wait_for_room_is_over_when_the_queue_is_empty_and_there_is_room() -> None:
    with connected("unix") as (socket, peer):
        stream = socket.as_stream()
        done = False
        with assert_checkpoints():
            await stream.wait_send_all_might_not_block()
        filled = fill(socket)
        async with open_initiator(), trio.open_nursery() as nursery:
            result = socket.begin_send(b"x")

            async def wait() -> None:
                nonlocal done
                await stream.wait_send_all_might_not_block()
                done = True

            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            assert not done
            assert await read_exactly(peer, filled + 1) == bytes(filled) + b"x"
            await socket.end_send(result)
        assert done


async def test_nobody_is_told_of_its_waits_for_a_turn() -> None:
    class Strict(Instrument):
        def operation_started(self, operation: Any) -> None:
            pytest.fail("a turn is no operation")

    left, right = socketpair()
    async with left, right:
        with add_instrument(Strict()):
            await left.as_stream().wait_send_all_might_not_block()
            await left.as_stream().send_eof()


# A send that was cut ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_a_cancelled_send_is_not_written_over_and_can_be_resumed(kind: str) -> None:
    with connected(kind) as (socket, peer):
        stream = socket.as_stream()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.send_all, BIG)
                await wait_all_tasks_blocked()
                scope.cancel()
        torn = socket.torn
        assert torn is not None
        sent = torn.bytes_transferred
        assert 0 < sent < len(BIG)
        sentence = rf"cut after {sent} of {len(BIG)} bytes.*stream\.socket\.send_rest\(\)"
        with pytest.raises(trio.BrokenResourceError, match=sentence) as refused:
            await stream.send_all(b"behind")
        assert isinstance(refused.value.__cause__, SocketException)
        assert refused.value.__cause__.socket_error_code is SocketError.CONNECTION_ABORTED
        with pytest.raises(trio.BrokenResourceError, match=sentence):
            await stream.send_eof()
        async with trio.open_nursery() as nursery:

            async def finish() -> None:
                assert await stream.socket.send_rest() == len(BIG) - sent  # type: ignore[attr-defined]
                await stream.send_all(b"behind")
                await stream.send_eof()

            nursery.start_soon(finish)
            assert await read_to_end(peer) == BIG + b"behind"


async def test_who_waits_behind_a_send_that_is_cut_is_told_the_same(autojump_clock: Any) -> None:
    socket, _ = scripted(3, Blocked())
    stream = socket.as_stream(shared=True)
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:
                inner.start_soon(stream.send_all, ten("first"))
                await wait_all_tasks_blocked()

                async def follow() -> None:
                    with pytest.raises(trio.BrokenResourceError, match="cut after 3 of 10 bytes"):
                        await stream.send_all(ten("second"))

                nursery.start_soon(follow)
                await wait_all_tasks_blocked()
                scope.cancel()


async def test_a_send_that_is_cancelled_before_its_first_byte_cuts_nothing() -> None:
    with connected("unix") as (socket, peer):
        stream = socket.as_stream()
        filled = fill(socket)
        with trio.move_on_after(0.01):
            await stream.send_all(b"never")
        assert socket.torn is None
        await read_exactly(peer, filled)
        await stream.send_all(b"after")
        assert await read_exactly(peer, 5) == b"after"


# Errors -----------------------------------------------------------------------------------------


async def test_a_dead_connection_is_a_broken_resource(autojump_clock: Any) -> None:
    socket, _ = scripted("EPIPE")
    with pytest.raises(trio.BrokenResourceError, match="of no use any more") as broken:
        await socket.as_stream().send_all(b"x")
    assert isinstance(broken.value.__cause__, SocketException)
    assert broken.value.__cause__.socket_error_code is SocketError.SHUTDOWN


async def test_a_reset_is_a_broken_resource_for_the_receiver_too() -> None:
    left, right = stdlib_pair("tcp4")
    stream = Socket.from_stdlib(left).as_stream()
    Socket.from_stdlib(right).close(reset=True)
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()
    await stream.aclose()


async def test_what_is_no_bytes_is_refused() -> None:
    left, right = socketpair()
    async with left, right:
        stream = left.as_stream()
        for wrong in (None, [b"a", b"b"], "text", 3):
            with pytest.raises(TypeError):
                await stream.send_all(wrong)  # type: ignore[arg-type]
        await stream.send_all(bytearray(b"abc"))
        await stream.send_all(memoryview(b"def"))
        assert await right.as_stream().receive_some(100) == b"abcdef"


async def test_closing_drains_nothing_and_closes_the_socket() -> None:
    with connected("tcp4") as (socket, peer):
        stream = socket.as_stream(shared=True)

        async def send() -> None:
            with pytest.raises(trio.ClosedResourceError, match="the socket was closed while"):
                await stream.send_all(BIG)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            with assert_checkpoints():
                await stream.aclose()
        with pytest.raises(ObjectDisposedError):
            await socket.send(b"x")
        with pytest.raises(ObjectDisposedError):
            socket.as_stream()
        with pytest.raises(ConnectionResetError):
            await read_to_end(peer)


async def test_datagrams_are_no_stream() -> None:
    left, right = socketpair(type=stdlib_socket.SOCK_DGRAM)
    async with left, right:
        with pytest.raises(ValueError, match="a datagram socket cannot be a stream"):
            left.as_stream()
