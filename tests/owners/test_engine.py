"""Hold the engine to serving every blocked socket, whatever happens to descriptors, and to letting others run.

Everything here runs several times: with an epoll set; with a waiting task for each blocked socket, as on systems
without; and where the system could have a set, but lacks a descriptor for it, or memory for all or some sockets in it.
"""

from __future__ import annotations

import contextvars
import errno
import os
import select
import socket as stdlib_socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.helpers import (
    CountingPort,
    Told,
    Turns,
    bytes_of,
    connected,
    fill,
    never_called,
    nothing_to_read,
    read_exactly,
    read_some,
    reset,
    scripted,
    stdlib_pair,
    ten,
)
from tests.scripted import SpyPort
from trio_send import (
    ExitPolicy,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    current_initiator,
    open_initiator,
)
from trio_send._kernel import epoll_set
from trio_send._kernel.port import Port
from trio_send._messages.buffers import MAX_PIECES
from trio_send._operations.queue import OPERATION_COST
from trio_send._owners import engine as _engine
from trio_send.testing import Blocked, ScriptedPort

ABORTED = SocketError.OPERATION_ABORTED
SUCCESS = SocketError.SUCCESS
JOIN = ExitPolicy.JOIN


class PoorEpoll:
    """An epoll set to which only some of the sockets can be added, every so many-th, or none.

    Args:
      every: how many it takes to have one added; 0 stands for none.
      is_rigid: whether nothing about one that is in can be changed.
    """

    def __init__(self, every: int = 0, *, is_rigid: bool = False) -> None:
        self._epoll = select.epoll()
        self._every = every
        self._is_rigid = is_rigid
        self._asked = 0

    def register(self, fd: int, events: int) -> None:
        self._asked += 1
        if not self._every or self._asked % self._every:
            raise OSError(errno.ENOSPC, "all watches of this user are taken")
        self._epoll.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        if self._is_rigid:
            raise OSError(errno.ENOMEM, "no memory")
        self._epoll.modify(fd, events)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


def no_epoll() -> None:
    raise OSError(errno.EMFILE, "no descriptor is left")


#: What there is instead of a set that takes all.
POOR: dict[str, Callable[[], object]] = {
    "no set": no_epoll,
    "no room": PoorEpoll,
    "little room": lambda: PoorEpoll(every=2),
    "no change": lambda: PoorEpoll(every=1, is_rigid=True),
}


@pytest.fixture(params=["epoll", "tasks", *POOR], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The ways in which an engine waits."""
    if request.param == "tasks":
        monkeypatch.setattr(_engine, "HAVE_EPOLL", False)
    elif not _engine.HAVE_EPOLL:
        pytest.skip("this system has no epoll")
    elif request.param in POOR:
        monkeypatch.setattr(epoll_set, "select", SimpleNamespace(epoll=POOR[request.param]))
    return str(request.param)


@contextmanager
def many_connected(count: int) -> Iterator[list[tuple[Socket, stdlib_socket.socket]]]:
    """So many connections with tiny buffers."""
    with ExitStack() as stack:
        yield [stack.enter_context(connected("unix")) for _ in range(count)]


def start_receive(socket: Socket, args: SocketAsyncEventArgs) -> bool:
    """Start a receive, which shares the engine and the descriptor with the sends."""
    args.set_buffer(bytearray(100))
    return socket.receive_async(args)


# Many sockets, many rounds --------------------------------------------------------------------


async def test_many_blocked_sockets_all_finish(engine: str) -> None:
    """More than one fetch of events can bring."""
    count = 300
    assert count > epoll_set.MAX_EVENTS
    told = Told()
    with many_connected(count) as pairs:
        messages = [bytes_of(20_000, seed) for seed in range(count)]
        received = [bytearray() for _ in range(count)]

        async def read(number: int) -> None:
            while len(received[number]) < 20_000:
                received[number] += await read_some(pairs[number][1])

        async with open_initiator(JOIN) as initiator:
            tasks = trio.lowlevel.current_statistics().tasks_living
            for number, (socket, _) in enumerate(pairs):
                assert socket.send_async(told.args(str(number), messages[number]))
            assert initiator.pending_operations == count
            await wait_all_tasks_blocked()
            if engine == "epoll":
                assert trio.lowlevel.current_statistics().tasks_living == tasks
            async with trio.open_nursery() as nursery:
                for number in range(count):
                    nursery.start_soon(read, number)
        assert received == messages
        assert sorted(told.events) == sorted((str(n), SUCCESS, 20_000) for n in range(count))


async def test_a_blocked_socket_is_watched_again_and_again() -> None:
    """A watch is good for one event; a message that takes many rounds is armed for each."""
    message = bytes_of(100_000)
    with connected("unix") as (socket, peer):
        args = SocketAsyncEventArgs(message)
        received = bytearray()
        rounds = 0
        async with open_initiator():
            assert socket.send_async(args)
            while args.pending:
                await wait_all_tasks_blocked()
                rounds += 1
                before = len(received)
                with suppress(BlockingIOError):
                    while True:
                        received += peer.recv(65536)
                assert len(received) > before, "nothing came, though there was room"
                assert len(received) <= args.bytes_transferred or not args.pending
        received += await read_exactly(peer, len(message) - len(received))
        assert received == message
        assert rounds > 10


async def test_an_engine_serves_one_crowd_after_another() -> None:
    """It falls asleep when nothing is blocked, and is woken by the next socket that is."""
    with many_connected(3) as pairs:
        async with open_initiator() as initiator:
            for turn in range(4):
                filled = [fill(socket) for socket, _ in pairs]
                told = Told()
                for number, (socket, _) in enumerate(pairs):
                    assert socket.send_async(told.args(str(number)))
                await wait_all_tasks_blocked()
                assert told.events == []
                for number, (_, peer) in enumerate(pairs):
                    expected = bytes(filled[number]) + ten(str(number))
                    assert await read_exactly(peer, len(expected)) == expected
                await wait_all_tasks_blocked()
                assert len(told.events) == 3, turn
                assert initiator.pending_operations == 0


async def test_sockets_that_block_at_different_times_share_an_engine() -> None:
    """One that blocks while the engine waits for others is waited for as well."""
    with many_connected(3) as pairs:
        told = Told()
        async with open_initiator():
            filled = [fill(socket) for socket, _ in pairs]
            for number, (socket, _) in enumerate(pairs):
                assert socket.send_async(told.args(str(number)))
                await wait_all_tasks_blocked()
            for number in (1, 2, 0):
                await read_exactly(pairs[number][1], filled[number])
                await wait_all_tasks_blocked()
        assert [name for name, _, _ in told.events] == ["1", "2", "0"]
        assert [error for _, error, _ in told.events] == [SUCCESS] * 3


class Watched(CountingPort):
    """A port that counts the attempts."""

    __slots__ = ("attempts",)

    def __init__(self, sock: stdlib_socket.socket) -> None:
        super().__init__(sock)
        self.attempts = 0
        counted = self.send

        def send(buffer: Any, flags: int, /) -> int:
            self.attempts += 1
            return counted(buffer, flags)

        self.send = send


async def test_newcomers_are_tried_once_more_before_they_are_armed(engine: str) -> None:
    """A few that block while the engine sleeps; of a crowd, only the first few; and later ones not at all."""
    if engine != "epoll":
        pytest.skip("there is nothing to arm")
    crowd = 3 * _engine.RETRIES
    told = Told()

    with ExitStack() as stack:
        ports = []
        sockets = []
        peers = []
        for _ in range(crowd + 1):
            left, right = stdlib_pair("unix", tiny=True)
            stack.enter_context(right)
            right.setblocking(False)
            ports.append(Watched(left))
            sockets.append(Socket.from_port(ports[-1]))
            stack.callback(sockets[-1].close)
            peers.append(right)
        filled = [fill(socket) for socket in sockets]
        async with open_initiator(JOIN):
            await wait_all_tasks_blocked()
            for number in range(crowd):
                assert sockets[number].send_async(told.args(str(number)))
            await wait_all_tasks_blocked()
            assert [port.attempts for port in ports[:crowd]] == [2] * _engine.RETRIES + [1] * (
                crowd - _engine.RETRIES
            )
            # The engine waits for sockets now, so this one is armed at once.
            assert sockets[crowd].send_async(told.args("late"))
            await wait_all_tasks_blocked()
            assert ports[crowd].attempts == 1
            for peer, count in zip(peers, filled, strict=True):
                await read_exactly(peer, count)
        assert len(told.events) == crowd + 1
        assert [error for _, error, _ in told.events] == [SUCCESS] * (crowd + 1)


async def test_after_a_try_in_vain_some_are_armed_without_one(engine: str) -> None:
    """One at first, then three, then seven; and a try that was of use makes it forget them all."""
    if engine != "epoll":
        pytest.skip("there is nothing to arm")
    attempts = []
    with ExitStack() as stack:
        left, right = stdlib_pair("unix", tiny=True)
        stack.enter_context(right)
        right.setblocking(False)
        port = Watched(left)
        socket = Socket.from_port(port)
        stack.callback(socket.close)
        args = SocketAsyncEventArgs(ten("a"))
        async with open_initiator():
            for at_once in [False] * 6 + [True] + [False] * 3:
                await wait_all_tasks_blocked()
                filled = fill(socket)
                port.attempts = 0
                assert socket.send_async(args)
                if at_once:
                    await read_exactly(right, filled)
                await wait_all_tasks_blocked()
                attempts.append(port.attempts)
                if not at_once:
                    await read_exactly(right, filled)
                await read_exactly(right, 10)
                assert await args.wait() == 10
    assert attempts == [2, 1, 2, 1, 1, 1, 2, 2, 1, 2]


async def test_room_that_is_made_at_once_is_found_without_arming(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is what the second attempt is for."""
    if engine != "epoll":
        pytest.skip("there is nothing to arm")
    monkeypatch.setattr(_engine.EpollSet, "arm", lambda *_: pytest.fail("a socket was armed"))
    with connected("unix") as (socket, peer):
        told = Told()
        async with open_initiator():
            await wait_all_tasks_blocked()
            filled = fill(socket)
            assert socket.send_async(told.args("a"))
            assert await read_exactly(peer, filled) == bytes(filled)
            await wait_all_tasks_blocked()
            assert told.events == [("a", SUCCESS, 10)]


async def test_one_that_was_stopped_before_its_turn_is_passed_over() -> None:
    """The engine is awake because of it, and finds nothing to do."""
    with connected("unix") as (socket, peer):
        filled = fill(socket)
        told = Told()
        args = told.args("a")
        async with open_initiator():
            await wait_all_tasks_blocked()
            assert socket.send_async(args)
            assert args.cancel()
            assert await read_exactly(peer, filled) == bytes(filled)
            await wait_all_tasks_blocked()
            assert nothing_to_read(peer)
            # And the next one is served as ever.
            filled = fill(socket)
            assert socket.send_async(told.args("b"))
            assert socket.send_async(args)
            assert args.cancel()
            assert await read_exactly(peer, filled + 10) == bytes(filled) + ten("b")
        assert told.events == [("a", ABORTED, 0), ("a", ABORTED, 0), ("b", SUCCESS, 10)]


async def test_a_watch_that_is_given_up_before_it_began_disturbs_nobody() -> None:
    """The head is stopped in the step in which it was started, and its follower belongs to another initiator.

    Which of the two engines comes to its first step first is up to Trio, so there are several rounds.
    """
    for _ in range(10):
        with connected("unix") as (socket, peer):
            filled = fill(socket)
            told = Told()
            head, follower = told.args("head"), told.args("follower")
            async with open_initiator(JOIN):
                as_outer = contextvars.copy_context()
                async with open_initiator(JOIN):
                    assert socket.send_async(head)
                    assert as_outer.run(socket.send_async, follower)
                    assert head.cancel()
                    await wait_all_tasks_blocked()
                    assert told.events == [("head", ABORTED, 0)]
                    expected = bytes(filled) + ten("follower")
                    assert await read_exactly(peer, len(expected)) == expected
            assert told.events == [("head", ABORTED, 0), ("follower", SUCCESS, 10)]


# Both directions ------------------------------------------------------------------------------


async def test_a_descriptor_is_watched_in_both_directions() -> None:
    """What becomes ready in one direction leaves the watch in the other as it is."""
    with connected("unix") as (socket, peer):
        filled = fill(socket)
        told = Told()
        send, receive, again = told.args("send"), told.args("receive"), told.args("again")
        async with open_initiator():
            assert socket.send_async(send)
            assert start_receive(socket, receive)
            await wait_all_tasks_blocked()
            peer.send(b"hello")
            await wait_all_tasks_blocked()
            assert told.events == [("receive", SUCCESS, 5)]
            assert start_receive(socket, again)
            await read_exactly(peer, filled)
            await wait_all_tasks_blocked()
            assert told.events[1:] == [("send", SUCCESS, 10)]
            peer.send(b"hi")
            await wait_all_tasks_blocked()
            assert told.events[2:] == [("again", SUCCESS, 2)]


async def test_both_directions_can_become_ready_at_once() -> None:
    """One event for the descriptor serves both queues."""
    with connected("unix") as (socket, peer):
        filled = fill(socket)
        told = Told()
        async with open_initiator():
            assert socket.send_async(told.args("send"))
            assert start_receive(socket, told.args("receive"))
            await wait_all_tasks_blocked()
            peer.send(b"hello")
            peer.recv(filled)
            await wait_all_tasks_blocked()
        assert sorted(told.events) == [("receive", SUCCESS, 5), ("send", SUCCESS, 10)]


@pytest.mark.parametrize("stopped", ["send", "receive"])
async def test_stopping_one_direction_leaves_the_other_watched(stopped: str) -> None:
    """The descriptor stays in the set as long as one queue waits for it."""
    with connected("unix") as (socket, peer):
        filled = fill(socket)
        told = Told()
        args = {"send": told.args("send"), "receive": told.args("receive")}
        other = "receive" if stopped == "send" else "send"
        async with open_initiator():
            assert socket.send_async(args["send"])
            assert start_receive(socket, args["receive"])
            await wait_all_tasks_blocked()
            assert args[stopped].cancel()
            await wait_all_tasks_blocked()
            assert [name for name, _, _ in told.events] == [stopped]
            peer.send(b"hello")
            peer.recv(filled)
            await wait_all_tasks_blocked()
            assert [name for name, _, _ in told.events] == [stopped, other]
            assert args[other].socket_error is SUCCESS


async def test_a_peer_that_goes_away_wakes_both_directions() -> None:
    """A hang-up concerns the sender and the receiver; each learns from its own attempt what it means."""
    with connected("unix") as (socket, peer):
        fill(socket)
        told = Told()
        async with open_initiator():
            assert socket.send_async(told.args("send"))
            assert start_receive(socket, told.args("receive"))
            await wait_all_tasks_blocked()
            peer.close()
            await wait_all_tasks_blocked()
            ended = {name: (error, count) for name, error, count in told.events}
            assert len(told.events) == 2
            # Whether unread data makes a reset of it, or the receiver sees an end, is the kernel's to say.
            assert ended["send"][0] in (
                SocketError.CONNECTION_RESET,
                SocketError.CONNECTION_ABORTED,
                SocketError.SHUTDOWN,
            )
            assert ended["send"][1] == 0
            assert ended["receive"][0] in (SUCCESS, SocketError.CONNECTION_RESET)


async def test_accepts_connects_and_sends_share_an_engine() -> None:
    """All that an initiator can own, waiting at once."""
    told = Told()
    with connected("unix") as (blocked, peer), stdlib_socket.socket() as raw:
        raw.bind(("127.0.0.1", 0))
        raw.listen()
        listener = Socket.from_stdlib(raw)
        client = Socket()
        filled = fill(blocked)
        accept, connect, send = told.args("accept"), told.args("connect"), told.args("send")
        connect.remote_end_point = listener.local_end_point
        for args in (accept, connect):
            args.set_buffer(None)
        async with open_initiator():
            assert blocked.send_async(send)
            assert listener.accept_async(accept)
            await wait_all_tasks_blocked()
            assert told.events == []
            pended = client.connect_async(connect)
            await accept.wait()
            await connect.wait()
            assert connect.socket_error is SUCCESS
            await read_exactly(peer, filled)
            await send.wait()
        names = {name for name, _, _ in told.events}
        assert names == {"accept", "send", *["connect"] * pended}
        assert accept.accept_socket is not None
        assert await client.send(b"hello") == 5
        assert await accept.accept_socket.receive() == b"hello"
        for each in (accept.accept_socket, client, listener):
            each.close()


# Descriptors that come and go -----------------------------------------------------------------


@contextmanager
def reborn(number: int) -> Iterator[tuple[Socket, stdlib_socket.socket]]:
    """A new connection, whose own end has been given this number by the system, as the lowest one that is free."""
    left, right = stdlib_pair("unix", tiny=True)
    right.setblocking(False)
    if right.fileno() == number:
        left, right = right, left
        left.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 1)
    assert left.fileno() == number
    socket = Socket.from_stdlib(left)
    with right:
        try:
            yield socket, right
        finally:
            socket.close()


@pytest.mark.parametrize("state", ["served", "waiting"])
async def test_a_number_can_be_used_again(state: str) -> None:
    """A socket is closed, after it was served or while it waits, and the next one gets its descriptor."""
    told = Told()
    with ExitStack() as stack:
        first, first_peer = stack.enter_context(connected("unix"))
        number = first.fileno()
        async with open_initiator():
            filled = fill(first)
            await wait_all_tasks_blocked()
            for (
                name
            ) in "ab":  # the second attempt of one that blocks first is over, so the engine waits
                assert first.send_async(told.args(name))
                await wait_all_tasks_blocked()
            if state == "served":
                await read_exactly(first_peer, filled)
                await wait_all_tasks_blocked()
            first.close()
            await wait_all_tasks_blocked()
            assert [name for name, _, _ in told.events] == ["a", "b"]
            with reborn(number) as (second, second_peer):
                filled = fill(second)
                for name in "cd":
                    assert second.send_async(told.args(name))
                    await wait_all_tasks_blocked()
                assert len(told.events) == 2
                expected = bytes(filled) + ten("c") + ten("d")
                assert await read_exactly(second_peer, len(expected)) == expected
                await wait_all_tasks_blocked()
        end = (SUCCESS, 10) if state == "served" else (ABORTED, 0)
        assert told.events == [
            ("a", *end),
            ("b", *end),
            ("c", SUCCESS, 10),
            ("d", SUCCESS, 10),
        ]


@pytest.mark.parametrize("how", ["object", "descriptor"])
async def test_a_socket_closed_behind_the_librarys_back_still_ends(how: str) -> None:
    """The system forgets the descriptor and tells nobody. Closing the socket in the proper way ends what waits."""
    told = Told()
    left, right = stdlib_pair("unix", tiny=True)
    with right:
        socket = Socket.from_stdlib(left)
        fill(socket)
        async with open_initiator() as initiator:
            for name in "ab":
                assert socket.send_async(told.args(name))
                await wait_all_tasks_blocked()
            if how == "object":
                left.close()
            else:
                os.close(left.fileno())
            await wait_all_tasks_blocked()
            with suppress(OSError):  # the system says that there is nothing left to close
                socket.close()
            await wait_all_tasks_blocked()
            assert [name for name, _, _ in told.events] == ["a", "b"]
            # Nothing is left of it in the set, or the engine would never sleep again.
            pollset = initiator._owner.engine._pollset
            assert pollset is None or not pollset.armed
        assert len(told.events) == 2
        assert all(count == 0 for _, _, count in told.events)
        if how == "descriptor":
            left.detach()


@pytest.mark.parametrize("how", ["object", "descriptor"])
async def test_leaving_ends_a_socket_closed_behind_the_librarys_back(how: str) -> None:
    """The exit of the initiator ends it as well."""
    told = Told()
    left, right = stdlib_pair("unix", tiny=True)
    with right:
        socket = Socket.from_stdlib(left)
        fill(socket)
        async with open_initiator():
            for name in "ab":
                assert socket.send_async(told.args(name))
                await wait_all_tasks_blocked()
            if how == "object":
                left.close()
            else:
                os.close(left.fileno())
        assert [name for name, _, _ in told.events] == ["a", "b"]
        if how == "descriptor":
            left.detach()
        with suppress(OSError):
            socket.close()


async def test_a_stolen_number_is_left_to_its_new_owner(engine: str) -> None:
    """A socket was closed behind the library's back; ending it must not touch the one that has its number now."""
    if engine != "epoll":
        pytest.skip("Trio itself takes the number for the socket that waited under it")
    told = Told()
    left, right = stdlib_pair("unix", tiny=True)
    with right:
        first = Socket.from_stdlib(left)
        number = first.fileno()
        fill(first)
        async with open_initiator():
            assert first.send_async(told.args("a"))
            await wait_all_tasks_blocked()
            left.close()
            with reborn(number) as (second, peer):
                filled = fill(second)
                assert second.send_async(told.args("b"))
                await wait_all_tasks_blocked()
                first.close()
                await wait_all_tasks_blocked()
                assert [name for name, _, _ in told.events] == ["a"]
                assert await read_exactly(peer, filled + 10) == bytes(filled) + ten("b")
                await wait_all_tasks_blocked()
                assert told.events[1:] == [("b", SUCCESS, 10)]


async def test_a_closed_socket_whose_file_lives_on_is_not_served() -> None:
    """A duplicate keeps the connection open, and the system would go on reporting it."""
    told = Told()
    with connected("unix") as (socket, peer):
        filled = fill(socket)
        with stdlib_socket.socket(fileno=os.dup(socket.fileno())) as twin:
            twin.setblocking(False)
            async with open_initiator():
                assert socket.send_async(told.args("a"))
                await wait_all_tasks_blocked()
                socket.close(reset=False)
                assert await read_exactly(peer, filled) == bytes(filled)
                # An engine that is still woken by the duplicate would never let this return.
                await wait_all_tasks_blocked()
                assert told.events == [("a", ABORTED, 0)]
            assert nothing_to_read(peer)


# Fairness -------------------------------------------------------------------------------------


class BusyPort(Port):
    """A port that the system always calls writable, and that takes whatever it is given.

    Args:
      name: what to write down for each send.
      log: where.
      descriptor: of a socket that is writable.
    """

    def __init__(self, name: str, log: list[tuple[str, int]], descriptor: int) -> None:
        self._name = name
        self._log = log
        self._descriptor = descriptor
        self.is_stream = True
        self.blocked = True
        #: What to do in each call that sends.
        self.then: Callable[[], object] | None = None

    def send(self, buffer: Any, flags: int, /) -> int:
        if self.blocked:
            raise BlockingIOError
        size = memoryview(buffer).nbytes
        self._log.append((self._name, size))
        if self.then is not None:
            self.then()
        return size

    def send_gather(self, views: Sequence[Any], flags: int, /) -> int:
        return self.send(b"".join(views), flags)

    def send_to(self, buffer: Any, flags: int, address: Any, /) -> int:
        return self.send(buffer, flags)

    def fileno(self) -> int:
        return self._descriptor

    async def wait_writable(self) -> None:
        await trio.lowlevel.wait_writable(self._descriptor)

    async def wait_readable(self) -> None:
        raise AssertionError

    def close(self, *, reset: bool) -> None:
        pass


class Crowd:
    """Busy sockets, and the log of what they send.

    Args:
      names: their names, a letter each.
    """

    #: The size of a message.
    SIZE = 64 * 1024

    def __init__(self, names: str, *, is_stream: bool = True) -> None:
        self.log: list[tuple[str, int]] = []
        self.told = Told()
        self._names = names
        self._is_stream = is_stream
        self.ports: list[BusyPort] = []
        self.sockets: list[Socket] = []

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Have descriptors for the sockets, and an instrument that writes down the turns."""
        instrument = Turns(self.log, ("turn", 0))
        with ExitStack() as stack:
            for name in self._names:
                left, right = stdlib_socket.socketpair()
                stack.enter_context(left)
                stack.enter_context(right)
                self.ports.append(BusyPort(name, self.log, left.fileno()))
                self.ports[-1].is_stream = self._is_stream
                self.sockets.append(Socket.from_port(self.ports[-1]))
                stack.callback(self.sockets[-1].close)
            trio.lowlevel.add_instrument(instrument)
            yield
            trio.lowlevel.remove_instrument(instrument)

    def start(self, messages: int, size: int = SIZE) -> None:
        """Start so many messages on each, all of which have to wait for the engine."""
        message = bytes(size)
        for _ in range(messages):
            for name, socket in zip(self._names, self.sockets, strict=True):
                assert socket.send_async(self.told.args(name, message))
        for port in self.ports:
            port.blocked = False

    def turns(self) -> list[dict[str, int]]:
        """For each turn in which anything was sent, who sent how many bytes."""
        turns: list[dict[str, int]] = [{}]
        for name, size in self.log:
            if name == "turn":
                turns.append({})
            else:
                turns[-1][name] = turns[-1].get(name, 0) + size
        return [turn for turn in turns if turn]


async def test_busy_sockets_share(engine: str) -> None:
    """None sends more than its allowance in a turn, and none gets far ahead of another."""
    if engine == "little room":
        pytest.skip(
            "those in the set share, and so do those with a task, but not the ones with the others"
        )
    crowd = Crowd("abc")
    with crowd.opened():
        async with open_initiator(JOIN):
            crowd.start(messages=40)
    assert len(crowd.told.events) == 120
    total = dict.fromkeys("abc", 0)
    for turn in crowd.turns():
        for name, sent in turn.items():
            # A message is never split for the sake of fairness, so a limit may be overshot by one.
            assert sent < _engine.SOCKET_ALLOWANCE + crowd.SIZE
            total[name] += sent
        assert max(total.values()) - min(total.values()) < 2 * _engine.SOCKET_ALLOWANCE + crowd.SIZE
    assert set(total.values()) == {40 * crowd.SIZE}


async def test_other_tasks_run_between_trips(engine: str) -> None:
    """However many sockets are ready, the engine lets others run after a trip's allowance."""
    if engine != "epoll":
        pytest.skip("each socket is a task of its own, and has its own allowance")
    crowd = Crowd("abcdefghij")
    with crowd.opened():
        async with open_initiator(JOIN):
            crowd.start(messages=8)
    assert len(crowd.told.events) == 80
    turns = crowd.turns()
    for turn in turns:
        assert sum(turn.values()) < _engine.TRIP_ALLOWANCE + _engine.SOCKET_ALLOWANCE
    assert sum(sum(turn.values()) for turn in turns) == 80 * crowd.SIZE


@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "datagrams"])
async def test_tiny_operations_count_as_work(is_stream: bool) -> None:
    """A crowd of them would use up no allowance if only their bytes did, and would keep all others waiting."""
    count = 5_000
    crowd = Crowd("a", is_stream=is_stream)
    with crowd.opened():
        async with open_initiator(JOIN):
            crowd.start(messages=count, size=1)
    assert len(crowd.told.events) == count
    limit = _engine.SOCKET_ALLOWANCE // OPERATION_COST + MAX_PIECES
    assert max(turn["a"] for turn in crowd.turns()) <= limit


async def test_a_turn_is_over_after_256_kib(engine: str) -> None:
    """Of which each operation takes 1 KiB beside its bytes."""
    crowd, size = Crowd("a", is_stream=False), 63 * 1024
    with crowd.opened():
        async with open_initiator(JOIN):
            crowd.start(messages=12, size=size)
    assert [turn["a"] // size for turn in crowd.turns()] == [4, 4, 4]


@pytest.mark.parametrize("policy", ["ABORT", "DRAIN"])
async def test_a_cancel_while_events_are_in_hand_loses_none(policy: str) -> None:
    """What epoll has reported it does not report again; so what the engine holds across a yield must survive.

    The cancel strikes in the first call that sends. So the engine learns of it where it yields next, while queues wait
    for their turn; and where each has a task, before any of these can come to its second turn.
    """
    crowd = Crowd("abcdefgh")
    with crowd.opened():
        options: dict[str, Any] = {"grace": 1000.0} if policy == "DRAIN" else {}

        with trio.CancelScope() as outer:
            async with open_initiator(ExitPolicy[policy], **options) as initiator:
                for port in crowd.ports:
                    port.then = outer.cancel
                crowd.start(messages=8)
                await trio.sleep_forever()
        assert initiator.pending_operations == 0
    assert len(crowd.told.events) == 64
    sent = [name for name, size in crowd.log for _ in range(size // crowd.SIZE)]
    done = [name for name, error, _ in crowd.told.events if error is SUCCESS]
    assert sorted(sent) == sorted(done)
    for name, error, count in crowd.told.events:
        assert (error, count) in ((SUCCESS, crowd.SIZE), (ABORTED, 0)), name
    if policy == "DRAIN":
        assert len(done) == 64
    else:
        assert len(done) < 64


# Ports without a descriptor -------------------------------------------------------------------


async def test_what_a_port_starts_belongs_to_the_initiator_that_serves_it() -> None:
    """Whether the call is made by the start, or by the task that has waited."""
    found: list[Any] = []
    port = SpyPort([Blocked(), 5], on_call=lambda _: found.append(current_initiator()))
    socket = Socket.from_port(port)
    async with open_initiator():
        async with open_initiator() as initiator:
            args = SocketAsyncEventArgs(b"12345")
            assert socket.send_async(args)
            port.inner.unblock()
            assert await args.wait() == 5
    assert found == [initiator] * 2


async def test_a_port_without_a_descriptor_is_waited_for_by_a_task() -> None:
    """Whatever the system has, such a port has a waiting task, which ends with the wait."""
    socket, port = scripted(3, Blocked(), 4, Blocked())
    told = Told()
    async with open_initiator():
        await wait_all_tasks_blocked()
        tasks = trio.lowlevel.current_statistics().tasks_living
        assert socket.send_async(told.args("a"))
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == tasks + 1
        for expected in (7, 10):
            port.unblock()
            await wait_all_tasks_blocked()
            assert len(port.accepted) == expected
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        assert told.events == [("a", SUCCESS, 10)]


async def test_a_task_that_waits_ends_with_what_it_waits_for() -> None:
    """A cancel takes the waiting task along."""
    socket, port = scripted(Blocked())
    args = SocketAsyncEventArgs(ten("a"))
    async with open_initiator():
        await wait_all_tasks_blocked()
        tasks = trio.lowlevel.current_statistics().tasks_living
        assert socket.send_async(args)
        await wait_all_tasks_blocked()
        assert args.cancel()
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        port.unblock()
        await wait_all_tasks_blocked()
        assert port.accepted == b""


async def test_without_memory_the_engine_tries_again_after_a_pause(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The kernel gives no event when it has memory again, so the next attempt is made by the clock."""
    socket, port = scripted("ENOBUFS", "ENOBUFS", 4, "ENOMEM", 10)
    told = Told()
    async with open_initiator(JOIN):
        assert socket.send_async(told.args("a"))
    assert told.events == [("a", SUCCESS, 10)]
    assert port.accepted == ten("a")
    assert 0 < trio.current_time() < 1


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="this system has no epoll")
async def test_the_set_is_made_when_it_is_needed(engine: str) -> None:
    """An initiator whose operations all end on the spot, or never reach a descriptor, costs no descriptor."""
    before = len(os.listdir("/proc/self/fd"))
    socket, port = scripted(10, Blocked())
    with connected("unix") as (blocked, _):
        fill(blocked)
        opened = len(os.listdir("/proc/self/fd"))
        async with open_initiator():
            socket.send_async(SocketAsyncEventArgs(ten("a")))
            socket.send_async(SocketAsyncEventArgs(ten("b")))
            await wait_all_tasks_blocked()
            assert len(os.listdir("/proc/self/fd")) == opened
            blocked.send_async(SocketAsyncEventArgs(ten("c")))
            await wait_all_tasks_blocked()
            assert len(os.listdir("/proc/self/fd")) == opened + (engine not in ("tasks", "no set"))
            port.unblock()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_an_error_ends_a_blocked_operation(engine: str) -> None:
    """A connection that breaks while the engine waits ends all that is queued, with the kernel's own code."""
    told = Told()
    with connected("tcp4") as (socket, peer):
        message = bytes_of(300_000)
        args = [told.args(name, message) for name in "ab"]
        async with open_initiator():
            for each in args:
                assert socket.send_async(each)
            await wait_all_tasks_blocked()
            reset(peer)
            await args[
                1
            ].wait()  # the reset is on its way, and nothing but its arrival can end the wait
        assert [(name, error) for name, error, _ in told.events] == [
            ("a", SocketError.CONNECTION_RESET),
            ("b", SocketError.CONNECTION_RESET),
        ]
        assert told.events[1][2] == 0
        with pytest.raises(SocketException) as caught:
            await socket.send(b"x")
        assert caught.value.socket_error_code is SocketError.CONNECTION_RESET


# Where there is too little of everything -----------------------------------------------------------


class Shortage:
    """Has Trio be unable to watch a descriptor, so many times for each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        self.times = times
        self.refused: dict[tuple[str, int], int] = {}
        for name in ("wait_readable", "wait_writable"):
            self._make_scarce(monkeypatch, name, getattr(trio.lowlevel, name))

    def _make_scarce(self, monkeypatch: pytest.MonkeyPatch, name: str, wait: Any) -> None:
        async def scarce(sock: Any) -> None:
            key = name, sock if isinstance(sock, int) else sock.fileno()
            self.refused[key] = self.refused.get(key, 0) + 1
            if self.refused[key] <= self.times:
                await trio.lowlevel.checkpoint_if_cancelled()
                raise OSError(errno.ENOMEM, "no memory")
            await wait(sock)

        monkeypatch.setattr(trio.lowlevel, name, scarce)


@pytest.mark.parametrize("times", [1, 3, 1000])
async def test_where_trio_cannot_watch_either_attempts_are_made_by_the_clock(
    times: int, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """Sends, receives and awaited sends, for an initiator or without one; none fails for that."""
    Shortage(monkeypatch, times)
    told = Told()
    with many_connected(3) as pairs, ExitStack() as stack:
        (socket, peer), (reading, writer), (awaited, awaited_peer) = pairs
        for each, _ in pairs:
            stack.callback(each.close)
        filled = fill(socket)
        fill(awaited)
        receive = told.args("receive")
        async with open_initiator(JOIN), trio.open_nursery() as nursery:
            assert socket.send_async(told.args("send"))
            assert start_receive(reading, receive)
            nursery.start_soon(awaited.send, ten("awaited"))
            await trio.sleep(0.5)
            assert told.events == []
            peer.setblocking(False)
            received = bytearray()
            while len(received) < filled + 10:
                await trio.sleep(0.01)
                with suppress(BlockingIOError):
                    received += peer.recv(65536)
            writer.send(b"hello")
            for _ in range(10):
                await trio.sleep(0.1)
                with suppress(BlockingIOError):
                    awaited_peer.recv(65536)
        assert bytes(received[-10:]) == ten("send")
        assert sorted(told.events) == [("receive", SUCCESS, 5), ("send", SUCCESS, 10)]
        assert awaited.statistics().bytes_accepted == 10


async def test_an_initiator_that_waits_by_the_clock_can_be_cancelled(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    shortage = Shortage(monkeypatch, 1000)
    told = Told()
    with connected("unix") as (socket, _):
        fill(socket)
        with trio.move_on_after(10.01) as scope:
            async with open_initiator():
                assert socket.send_async(told.args("a"))
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert told.events == [("a", ABORTED, 0)]
        assert trio.current_time() == pytest.approx(10.01)
        fill(socket)
        with trio.move_on_after(10.01) as scope:
            await socket.send(ten("b"))
        assert scope.cancelled_caught
        assert trio.current_time() == pytest.approx(20.02)
        # Twenty times a second, so that nothing turns round for nothing.
        assert 390 < sum(shortage.refused.values()) < 820


@pytest.mark.parametrize("how", ["stopped", "served"])
@pytest.mark.parametrize("first", ["send", "receive"])
async def test_the_other_direction_that_cannot_be_watched_any_more_is_served(
    engine: str, first: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both wait in the set; one of them goes, and to watch the other alone is refused."""
    if engine != "epoll":
        pytest.skip("there is no set, or none that both are in")
    second = "receive" if first == "send" else "send"

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "all watches of this user are taken")

    with connected("unix") as (socket, peer):
        filled = fill(socket)
        told = Told()
        args = {"send": told.args("send"), "receive": told.args("receive")}

        async def serve(name: str) -> None:
            if name == "receive":
                peer.send(b"hello")
            else:
                await read_exactly(peer, filled)
            await wait_all_tasks_blocked()

        async with open_initiator() as initiator:
            assert socket.send_async(args["send"])
            assert start_receive(socket, args["receive"])
            await wait_all_tasks_blocked()
            pollset = initiator._owner.engine._pollset
            assert pollset is not None
            assert pollset.armed == 2
            monkeypatch.setattr(epoll_set.EpollSet, "_update", refuse)
            if how == "stopped":
                assert args[first].cancel()
                await wait_all_tasks_blocked()
            else:
                await serve(first)
            assert [name for name, _, _ in told.events] == [first]
            await serve(second)
            assert told.events[1] == (second, SUCCESS, 10 if second == "send" else 5)
            assert pollset.armed == 0


# Struck where the system is asked ------------------------------------------------------------------


class ActingEpoll:
    """An epoll set that does something before a change of it.

    Args:
      actions: what to do before the first change, the second and so on.
    """

    def __init__(self, actions: list[Callable[[], object]]) -> None:
        self._epoll = select.epoll()
        self._actions = actions

    def modify(self, fd: int, events: int) -> None:
        if self._actions:
            self._actions.pop(0)()
        self._epoll.modify(fd, events)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


async def test_of_two_sets_that_are_made_at_once_one_is_closed_and_the_other_serves_all(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another socket may block while the system makes the first one."""
    if engine != "epoll":
        pytest.skip("there is no set, or none that is made")
    sets: list[Any] = []
    told = Told()
    with many_connected(2) as ((first, first_peer), (second, second_peer)):
        filled = [fill(first), fill(second)]

        def make() -> Any:
            sets.append(select.epoll())
            made = sets[-1]
            if len(sets) == 1:
                assert second.send_async(told.args("second"))
            return made

        monkeypatch.setattr(epoll_set, "select", SimpleNamespace(epoll=make))
        async with open_initiator() as initiator:
            assert first.send_async(told.args("first"))
            await wait_all_tasks_blocked()
            assert [each.closed for each in sets] == [True, False]
            pollset = initiator._owner.engine._pollset
            assert pollset is not None
            assert (pollset.fd, pollset.armed) == (sets[1].fileno(), 2)
            for peer, count in zip((second_peer, first_peer), reversed(filled), strict=True):
                await read_exactly(peer, count)
                await wait_all_tasks_blocked()
            assert told.events == [("second", SUCCESS, 10), ("first", SUCCESS, 10)]
        assert [each.closed for each in sets] == [True, True]


async def test_one_that_is_stopped_while_events_are_fetched_is_left_to_who_watches_it_then(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was reported of it does not concern whoever is next, and no turn is made of it."""
    if engine != "epoll":
        pytest.skip("there is no set, or none that both directions are in")
    actions: list[Callable[[], object]] = []
    monkeypatch.setattr(epoll_set, "select", SimpleNamespace(epoll=lambda: ActingEpoll(actions)))
    told = Told()
    left, peer = stdlib_pair("unix", tiny=True)
    peer.setblocking(False)
    port = Watched(left)
    socket = Socket.from_port(port)
    with peer:
        filled = [fill(socket)]
        async with open_initiator(JOIN) as other, open_initiator():
            stopped = told.args("stopped")
            assert socket.send_async(stopped)
            assert start_receive(socket, told.args("receive"))
            assert other.run_sync(socket.send_async, told.args("next"))
            await wait_all_tasks_blocked()

            def strike() -> None:
                assert stopped.cancel()
                filled.append(fill(socket))
                port.attempts = 0

            # The sends are reported, and the set is to go on waiting for the receive.
            actions.append(strike)
            assert await read_exactly(peer, filled[0]) == bytes(filled[0])
            await wait_all_tasks_blocked()
            assert actions == []
            assert told.events == [("stopped", ABORTED, 0)]
            assert port.attempts == 1  # by the other engine, when it learns of it
            peer.send(b"hello")
            await wait_all_tasks_blocked()
            assert told.events[1:] == [("receive", SUCCESS, 5)]
            assert await read_exactly(peer, filled[1] + 10) == bytes(filled[1]) + ten("next")
        assert told.events[2:] == [("next", SUCCESS, 10)]
        socket.close()


async def test_an_engine_that_is_told_to_quit_ends_at_once_and_has_not_been_cancelled() -> None:
    engine = _engine.Engine(pytest.fail, never_called)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await wait_all_tasks_blocked()
        engine.quit()
        await wait_all_tasks_blocked()
        assert nursery.child_tasks == set()


class RefillingPort(ScriptedPort):
    """A port for a reader as fast as the sender, so that what ends an attempt is its allowance."""

    refills = True


def refilling() -> tuple[Socket, SocketAsyncEventArgs]:
    """A socket on such a port, and args for more than one attempt may send."""
    port = RefillingPort([100_000] * 19, descriptor=True)
    return Socket.from_port(port), SocketAsyncEventArgs(bytes(2_000_000))


async def test_who_has_used_up_an_allowance_has_another_turn_without_being_armed() -> None:
    socket, args = refilling()
    async with open_initiator() as initiator:
        await wait_all_tasks_blocked()
        assert socket.send_async(args) is True
        await wait_all_tasks_blocked()
        assert not args.pending
        assert args.bytes_transferred == 2_000_000
        assert initiator._owner.engine._pollset is None
    socket.close()


async def test_who_has_used_up_an_allowance_while_the_engine_waits_for_another_has_a_turn() -> None:
    with connected("unix") as (stuck, _):
        fill(stuck)
        async with open_initiator():
            await wait_all_tasks_blocked()
            assert stuck.send_async(SocketAsyncEventArgs(b"x")) is True
            await wait_all_tasks_blocked()
            socket, args = refilling()
            assert socket.send_async(args) is True
            await wait_all_tasks_blocked()
            assert not args.pending
            assert args.bytes_transferred == 2_000_000
            socket.close()
