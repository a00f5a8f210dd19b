"""Hold lists of buffers to one message each, also where they are longer than one system call takes, and are cut."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hypothesis import given, settings, strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.helpers import KINDS, bytes_of, connected, nothing_to_read, read_exactly, read_some
from tests.scripted import SpyPort, run_virtual
from trio_send import (
    ExitPolicy,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    open_initiator,
)
from trio_send.testing import Blocked

#: The ways to start a list that can be stopped, and to see afterwards how far it came.
STOPPED = ("send_async", "begin_send", "send", "send args")


def pieces_of(sizes: list[int], seed: int = 0) -> list[Any]:
    """Buffers of these lengths and of several kinds, in which no byte stands twice in the same place."""
    whole = bytes_of(sum(sizes), seed)
    pieces: list[Any] = []
    at = 0
    for index, size in enumerate(sizes):
        piece = whole[at : at + size]
        pieces.append((bytes, bytearray, memoryview)[index % 3](piece))
        at += size
    return pieces


class Started:
    """One list that was started in one of the ways, and has to be asked in that way how it went."""

    def __init__(self, face: str, socket: Socket, pieces: list[Any], nursery: trio.Nursery) -> None:
        self.face, self.socket = face, socket
        self.scope = trio.CancelScope()
        self.operation: Any = None
        if face == "begin_send":
            self.operation = socket.begin_send(pieces)
        elif face == "send":
            nursery.start_soon(self._await, pieces)
        else:
            self.operation = SocketAsyncEventArgs(buffer_list=pieces)
            if face == "send_async":
                assert socket.send_async(self.operation) is True
            else:
                nursery.start_soon(self._await, self.operation)

    async def _await(self, what: Any) -> None:
        with self.scope:
            await self.socket.send(what)

    def stop(self) -> None:
        if self.face in ("send", "send args"):
            self.scope.cancel()
        else:
            assert self.operation.cancel() is True

    @property
    def bytes_transferred(self) -> int:
        torn = self.socket.torn
        assert torn is not None
        if self.operation is not None:
            assert self.operation.bytes_transferred == torn.bytes_transferred
        return torn.bytes_transferred

    @property
    def remaining(self) -> bytes:
        torn = self.socket.torn
        assert torn is not None
        rest = b"".join(torn.remaining)
        if self.operation is not None:
            assert b"".join(self.operation.remaining) == rest
        return rest


@pytest.mark.fact("F170", "F231")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("face", STOPPED)
async def test_a_long_list_that_is_cut_has_its_exact_count_and_its_exact_rest(
    face: str, kind: str
) -> None:
    """More members than one system call takes, empty ones among them, cut by a kernel that is full."""
    sizes = [(0, 1, 300, 7, 120)[index % 5] for index in range(6000)]
    pieces = pieces_of(sizes)
    whole = b"".join(pieces)
    with connected(kind) as (socket, peer):
        async with open_initiator(), trio.open_nursery() as nursery:
            started = Started(face, socket, pieces, nursery)
            await wait_all_tasks_blocked()
            # So that the cut is not always where the kernel was full first.
            got = await read_some(peer)
            await wait_all_tasks_blocked()
            started.stop()
            await wait_all_tasks_blocked()
            count = started.bytes_transferred
            assert len(got) <= count < len(whole)
            assert started.remaining == whole[count:]
            got += await read_exactly(peer, count - len(got))
            assert got == whole[:count]
            assert nothing_to_read(peer)
            nursery.start_soon(socket.send_rest)
            assert await read_exactly(peer, len(whole) - count) == whole[count:]
        assert socket.torn is None


@settings(max_examples=60)
@given(
    sizes=st.lists(
        st.one_of(
            st.tuples(st.integers(1, 1200), st.sampled_from((0, 1, 5))),
            st.tuples(st.just(1), st.sampled_from((0, 100, 5000))),
        ),
        min_size=1,
        max_size=6,
    ),
    script=st.lists(st.one_of(st.integers(0, 3000), st.just(Blocked(1))), max_size=10),
    face=st.sampled_from(STOPPED),
    seconds=st.integers(0, 8),
)
def test_whatever_a_list_is_made_of_and_wherever_it_is_cut(
    sizes: list[tuple[int, int]], script: list[int | Blocked], face: str, seconds: int
) -> None:
    """The accepted bytes are the first of the list, the rest is the rest, and both together are the list."""
    flat = [size for count, size in sizes for _ in range(count)]
    pieces = pieces_of(flat)
    whole = b"".join(pieces)

    async def main() -> None:
        port = SpyPort([Blocked(1), *script])
        socket = Socket.from_port(port)
        async with open_initiator(ExitPolicy.JOIN), trio.open_nursery() as nursery:
            started = Started(face, socket, pieces, nursery)
            await trio.sleep(seconds + 0.5)
            if not socket.queued_operations:
                assert port.accepted == whole
                return
            started.stop()
            await wait_all_tasks_blocked()
            assert socket.queued_operations == 0
            assert port.accepted == whole[: len(port.accepted)]
            if not port.accepted:
                assert socket.torn is None
                return
            assert started.bytes_transferred == len(port.accepted) < len(whole)
            accepted = port.accepted
            assert started.remaining == whole[len(accepted) :]
            assert await socket.send_rest() == len(whole) - len(accepted)
            assert port.accepted == whole
        socket.close()

    run_virtual(main)


@pytest.mark.fact("F022")
@pytest.mark.parametrize("empties", [1, 1023, 1024, 5000])
async def test_empty_members_are_skipped_wherever_they_stand(
    empties: int, autojump_clock: MockClock
) -> None:
    for place in range(3):
        pieces: list[Any] = [b"ab", bytearray(b"cd")]
        pieces[place:place] = [b"", bytearray()] * empties
        for script in ([], [Blocked(1)], [1, 1, Blocked(1), 1]):
            port = SpyPort(script)
            socket = Socket.from_port(port)
            assert await socket.send(pieces) == 4
            assert port.accepted == b"abcd"
            socket.close()


@pytest.mark.fact("F017", "F019", "F114")
async def test_a_bad_member_is_named_and_nothing_is_sent_or_changed() -> None:
    good = [b"x", b"y"]
    args = SocketAsyncEventArgs(buffer_list=good)
    port = SpyPort()
    socket = Socket.from_port(port)
    async with open_initiator():
        for wrong in (None, "text", 7, memoryview(b"abcd")[::2], [b"z"]):
            bad: Any = [b"x"] * 1500 + [wrong, None]
            with pytest.raises(TypeError, match=r"^buffer_or_list\[1500\] (is|must)"):
                socket.begin_send(bad)
            with pytest.raises(TypeError, match=r"^buffer_or_list\[1500\] (is|must)"):
                socket.try_begin_send(bad)
            with pytest.raises(TypeError, match=r"^data\[1500\] (is|must)"):
                await socket.send(bad)
            with pytest.raises(TypeError, match=r"^buffer_list\[1500\] (is|must)"):
                args.buffer_list = bad
            assert args.buffer_list is good
        assert port.calls == []
        assert socket.send_async(args) is False
    assert port.accepted == b"xy"
    socket.close()


@pytest.mark.fact("F170")
async def test_a_list_that_fails_in_its_second_call_tells_what_the_first_one_sent() -> None:
    port = SpyPort([1024, "EHOSTUNREACH"])
    socket = Socket.from_port(port)
    with pytest.raises(SocketException) as caught:
        await socket.send([b"x"] * 3000)
    assert caught.value.socket_error_code is SocketError.HOST_UNREACHABLE
    assert caught.value.bytes_transferred == 1024
    assert socket.torn is not None
    assert b"".join(socket.torn.remaining) == b"x" * 1976
    assert await socket.send_rest() == 1976
    assert port.accepted == b"x" * 3000
    socket.close()
