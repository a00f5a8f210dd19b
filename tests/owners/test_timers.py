"""The time limits of operations: when they strike, what they leave, and that they cost nothing where nothing pends.

The clock is virtual, so each limit is held to the very second at which it must strike.

Modules: _operations.time_limit.
"""

from __future__ import annotations

import gc
import math
import os
import random
import socket as stdlib_socket
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio.testing

from tests.between_tasks import do_between_tasks
from tests.helpers import cycle, scripted
from trio_send import (
    ExitPolicy,
    InvalidOperationError,
    ObjectDisposedError,
    OperationInProgressError,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    SocketShutdown,
    open_initiator,
    socketpair,
)
from trio_send._kernel.epoll_set import HAVE_EPOLL
from trio_send.abc import Port
from trio_send.testing import Blocked, ScriptedPort

MESSAGE = b"0123456789"
#: How many tasks wait for one blocked socket.
WAITING = 0 if HAVE_EPOLL else 1

Told = tuple[str, SocketError, int, float]


class Limited:
    """Starts sends with limits, and notes how each ended, with how many bytes, and when."""

    def __init__(self) -> None:
        self.began = trio.current_time()
        self.told: list[Told] = []

    @property
    def now(self) -> float:
        return trio.current_time() - self.began

    def make(
        self, name: str = "send", message: bytes = MESSAGE, **limits: float
    ) -> SocketAsyncEventArgs:
        args = SocketAsyncEventArgs(message, user_token=name)
        for limit, seconds in limits.items():
            assert limit in ("timeout", "stall_timeout")
            setattr(args, limit, seconds)
        args.completed += self.on_completed
        return args

    def start(
        self, socket: Socket, name: str = "send", message: bytes = MESSAGE, **limits: float
    ) -> SocketAsyncEventArgs:
        args = self.make(name, message, **limits)
        assert socket.send_async(args), f"{name} did not pend"
        return args

    def on_completed(self, socket: Socket, args: SocketAsyncEventArgs) -> None:
        self.told.append((args.user_token, args.socket_error, args.bytes_transferred, self.now))


Pair = tuple[Socket, Socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two real sockets that are connected to each other."""
    left, right = socketpair()
    yield left, right
    left.close()
    right.close()


TIMED_OUT = SocketError.TIMED_OUT
SUCCESS = SocketError.SUCCESS
ABORTED = SocketError.OPERATION_ABORTED
BEHIND_CUT = SocketError.CONNECTION_ABORTED


# -- timeout ----------------------------------------------------------------------------------------------------------


async def test_timeout_of_a_send_with_no_byte_accepted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limited = Limited()
    socket, port = scripted(Blocked(100))
    async with open_initiator():
        args = limited.start(socket, timeout=2.5)
        assert await args.wait() == 0
        assert limited.told == [("send", TIMED_OUT, 0, 2.5)]
        # Nothing was cut, so nothing is torn, and the next send goes.
        assert socket.torn is None
        port.unblock()
        assert not socket.send_async(args)
        assert args.socket_error is SUCCESS


async def test_timeout_in_the_middle_of_a_message(autojump_clock: trio.testing.MockClock) -> None:
    limited = Limited()
    socket, port = scripted(3, Blocked(1), 2, Blocked())
    async with open_initiator():
        args = limited.start(socket, timeout=4)
        limited.start(socket, "follower")
        await args.wait()
        assert limited.told == [("send", TIMED_OUT, 5, 4), ("follower", BEHIND_CUT, 0, 4)]
        assert bytes(port.accepted) == MESSAGE[:5]
        assert b"".join(args.remaining) == MESSAGE[5:]
        assert socket.torn is not None
        assert socket.torn.operation is args
        assert socket.torn.bytes_transferred == 5
        assert socket.torn.reason == "it was not finished 4 s after its start"
        assert args.outcome is not None
        with pytest.raises(
            SocketException, match=r"5 bytes accepted.*not finished 4 s after"
        ) as caught:
            args.outcome.unwrap()
        assert caught.value.socket_error_code is TIMED_OUT
        assert caught.value.bytes_transferred == 5


async def test_timeout_is_not_prolonged_by_accepted_bytes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limited = Limited()
    socket, _ = scripted(*cycle(Blocked(1), 1, times=20))
    async with open_initiator():
        await limited.start(socket, timeout=4.5).wait()
    assert limited.told == [("send", TIMED_OUT, 4, 4.5)]


async def test_timeout_counts_for_a_follower_too(autojump_clock: trio.testing.MockClock) -> None:
    limited = Limited()
    socket, port = scripted(3, Blocked(9))
    async with open_initiator(ExitPolicy.JOIN):
        limited.start(socket, "head")
        await trio.sleep(1)
        limited.start(socket, "follower", timeout=3)
    # The head is none of its business, and nothing was cut.
    assert limited.told == [("follower", TIMED_OUT, 0, 4), ("head", SUCCESS, 10, 9)]
    assert bytes(port.accepted) == MESSAGE
    assert socket.torn is None


async def test_timeout_of_zero_strikes_as_soon_as_the_send_pends(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limited = Limited()
    socket, _ = scripted(3, Blocked())
    async with open_initiator():
        await limited.start(socket, timeout=0).wait()
        assert limited.told == [("send", TIMED_OUT, 3, 0)]


@pytest.mark.parametrize("limit", ["timeout", "stall_timeout"])
async def test_a_send_that_is_in_time_is_left_alone(
    limit: str, autojump_clock: trio.testing.MockClock
) -> None:
    limited = Limited()
    socket, _ = scripted(3, Blocked(2))
    async with open_initiator(ExitPolicy.JOIN):
        limited.start(socket, "send", MESSAGE, **{limit: 2.25})
        await trio.sleep(50)
    assert limited.told == [("send", SUCCESS, 10, 2)]
    assert limited.now == 50


# -- stall ------------------------------------------------------------------------------------------------------------


async def test_stall_counts_from_the_last_accepted_byte(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limited = Limited()
    socket, port = scripted(2, Blocked(2), 2, Blocked(2), 1, Blocked(2), 1, Blocked())
    async with open_initiator():
        args = limited.start(socket, stall_timeout=3)
        limited.start(socket, "follower")
        await args.wait()
        assert limited.told == [("send", TIMED_OUT, 6, 9), ("follower", BEHIND_CUT, 0, 9)]
        assert socket.torn is not None
        assert socket.torn.reason == "no byte was accepted for 3 s"
    assert bytes(port.accepted) == MESSAGE[:6]


async def test_stall_counts_from_the_start_if_no_byte_is_accepted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limited = Limited()
    socket, _ = scripted(Blocked())
    async with open_initiator():
        await trio.sleep(10)
        await limited.start(socket, stall_timeout=3).wait()
        assert limited.told == [("send", TIMED_OUT, 0, 13)]
        assert socket.torn is None


async def test_an_attempt_that_sends_nothing_is_no_progress(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limited = Limited()
    socket, port = scripted(2, *[Blocked(1)] * 20)
    async with open_initiator():
        await limited.start(socket, stall_timeout=4.5).wait()
        assert limited.told == [("send", TIMED_OUT, 2, 4.5)]
    assert port.attempts > 3


async def test_stall_of_a_follower_begins_when_it_reaches_the_head(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limited = Limited()
    socket, port = scripted(Blocked(10), 10, Blocked())
    async with open_initiator():
        limited.start(socket, "head")
        follower = limited.start(socket, "follower", stall_timeout=3)
        await follower.wait()
        assert limited.told == [("head", SUCCESS, 10, 10), ("follower", TIMED_OUT, 0, 13)]
        assert socket.torn is None
    assert bytes(port.accepted) == MESSAGE


async def test_stall_of_a_follower_whose_head_is_stopped(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limited = Limited()
    socket, _ = scripted(Blocked())
    async with open_initiator():
        head = limited.start(socket, "head")
        follower = limited.start(socket, "follower", stall_timeout=3)
        await trio.sleep(5)
        assert head.cancel()
        await follower.wait()
    assert limited.told == [("head", ABORTED, 0, 5), ("follower", TIMED_OUT, 0, 8)]


async def test_stall_of_a_follower_that_shared_a_system_call_with_the_head(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It became head with bytes accepted already, in the same step."""
    limited = Limited()
    socket, port = scripted(Blocked(10), 14, Blocked())
    async with open_initiator():
        limited.start(socket, "head")
        follower = limited.start(socket, "follower", stall_timeout=3)
        await follower.wait()
        assert limited.told == [("head", SUCCESS, 10, 10), ("follower", TIMED_OUT, 4, 13)]
        assert socket.torn is not None and socket.torn.operation is follower
    assert bytes(port.accepted) == MESSAGE + MESSAGE[:4]


async def test_a_whole_queue_stalls_one_after_the_other(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limited = Limited()
    socket, _ = scripted(Blocked())
    async with open_initiator():
        for name in "abc":
            args = limited.start(socket, name, stall_timeout=2)
        await args.wait()
    assert limited.told == [(name, TIMED_OUT, 0, at) for name, at in [("a", 2), ("b", 4), ("c", 6)]]


@pytest.mark.parametrize(
    ("timeout", "stall_timeout", "count", "at"),
    [
        (10, 3, 4, 5),  # stands still from 2 on
        (4, 3, 4, 4),
        (5, 3, 4, 5),  # both at once
        (1, 3, 2, 1),
        (1, 0.5, 2, 0.5),
    ],
)
async def test_the_earlier_of_both_limits_strikes(
    timeout: float,
    stall_timeout: float,
    count: int,
    at: float,
    autojump_clock: trio.testing.MockClock,
) -> None:
    limited = Limited()
    socket, _ = scripted(2, Blocked(2), 2, Blocked())
    async with open_initiator():
        await limited.start(socket, timeout=timeout, stall_timeout=stall_timeout).wait()
        assert limited.told == [("send", TIMED_OUT, count, at)]


async def test_stall_while_the_kernel_is_out_of_memory(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The attempts are repeated after pauses, and none of them accepts a byte."""
    limited = Limited()
    socket, port = scripted(2, *["ENOBUFS"] * 10)
    async with open_initiator():
        await limited.start(socket, stall_timeout=0.25).wait()
        assert limited.told == [("send", TIMED_OUT, 2, 0.25)]
        attempts = port.attempts
        await trio.sleep(10)
        assert port.attempts == attempts


async def test_datagrams_have_limits_and_are_never_cut(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limited = Limited()
    socket, _ = scripted(Blocked(5), is_stream=False)
    async with open_initiator(ExitPolicy.JOIN):
        limited.start(socket, "first", timeout=2)
        limited.start(socket, "second", stall_timeout=1)
        limited.start(socket, "third", timeout=20, stall_timeout=10)
    assert limited.told == [
        ("first", TIMED_OUT, 0, 2),
        ("second", TIMED_OUT, 0, 3),
        ("third", SUCCESS, 10, 5),
    ]
    assert socket.torn is None


async def test_lists_have_limits_too(autojump_clock: trio.testing.MockClock) -> None:
    limited = Limited()
    socket, _ = scripted(7, Blocked())
    async with open_initiator():
        args = SocketAsyncEventArgs(buffer_list=[b"01234", b"56789"], user_token="list")
        args.stall_timeout = 2
        args.completed += limited.on_completed
        assert socket.send_async(args)
        await args.wait()
        assert limited.told == [("list", TIMED_OUT, 7, 2)]
        assert b"".join(args.remaining) == MESSAGE[7:]


# -- one activation after the other -----------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["timeout", "stall_timeout"])
async def test_each_activation_has_fresh_limits(
    limit: str, autojump_clock: trio.testing.MockClock
) -> None:
    limited = Limited()
    socket, _ = scripted(Blocked(2), 10, Blocked(2), 10, Blocked())
    async with open_initiator():
        args = limited.start(socket, "send", MESSAGE, **{limit: 3})
        await args.wait()
        assert socket.send_async(args)  # at 2; the limit of the first activation would strike at 3
        await args.wait()
        assert socket.send_async(args)
        await args.wait()
    assert limited.told == [
        ("send", SUCCESS, 10, 2),
        ("send", SUCCESS, 10, 4),
        ("send", TIMED_OUT, 0, 7),
    ]
    assert args.activation == 3


async def test_an_old_limit_never_strikes_a_restart_from_the_handler(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Stopped at the very moment at which its limit is due, and started anew at that moment."""
    limited = Limited()
    socket, _ = scripted(Blocked())
    async with open_initiator():
        args = limited.make(timeout=3)
        starts: list[float] = []

        def restart(_: Socket, args: SocketAsyncEventArgs) -> None:
            if len(starts) < 3:
                starts.append(limited.now)
                assert socket.send_async(args)

        args.completed += restart
        assert socket.send_async(args)
        await trio.sleep(100)
    assert starts == [3, 6, 9]
    assert [at for *_, at in limited.told] == [3, 6, 9, 12]
    assert args.activation == 4


async def test_limits_can_change_from_one_activation_to_the_next(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limited = Limited()
    socket, _ = scripted(Blocked(1), 10, Blocked(1000), 10, Blocked())
    async with open_initiator():
        args = limited.start(socket, timeout=5)
        await args.wait()
        args.timeout = math.inf
        assert socket.send_async(args)
        await args.wait()
        args.timeout = 0.5
        args.stall_timeout = 0.25
        assert socket.send_async(args)
        await args.wait()
    assert limited.told == [
        ("send", SUCCESS, 10, 1),
        ("send", SUCCESS, 10, 1001),
        ("send", TIMED_OUT, 0, 1001.25),
    ]


async def test_a_resumed_message_has_fresh_limits(autojump_clock: trio.testing.MockClock) -> None:
    limited = Limited()
    socket, port = scripted(3, Blocked(), Blocked(2), 4, Blocked())
    async with open_initiator():
        args = limited.start(socket, timeout=5, stall_timeout=4)
        await args.wait()
        assert limited.told == [("send", TIMED_OUT, 3, 4)]
        await trio.sleep(6)
        port.unblock()
        assert socket.resume(args)
        await args.wait()
        # From 10 on: 4 bytes at 12, then nothing. The limit of 5 s in all comes before that of 4 s since 12.
        assert limited.told[1:] == [("send", TIMED_OUT, 7, 15)]
        assert socket.torn is not None
        port.unblock()
        assert not socket.resume(args)
    assert args.bytes_transferred == 10
    assert bytes(port.accepted) == MESSAGE


async def test_the_rest_that_is_awaited_has_the_limits_of_its_args(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limited = Limited()
    socket, port = scripted(3, Blocked(), 2, Blocked())
    async with open_initiator():
        args = limited.start(socket, stall_timeout=4)
        await args.wait()
        port.unblock()
        with pytest.raises(SocketException, match="no byte was accepted for 4 s") as caught:
            await socket.send_rest()
        assert caught.value.socket_error_code is TIMED_OUT
        assert caught.value.bytes_transferred == 5
        assert limited.now == 8
        port.unblock()
        assert await socket.send_rest() == 5
    assert bytes(port.accepted) == MESSAGE


# -- what does not pend -----------------------------------------------------------------------------------------------


class Sink(Port):
    """A port that takes everything, and allocates nothing for it."""

    is_stream = True
    send = staticmethod(lambda buffer, flags: len(buffer))
    send_gather = staticmethod(lambda views, flags: sum(map(len, views)))
    send_to = staticmethod(lambda buffer, flags, address: len(buffer))

    def fileno(self) -> int:
        return -1

    async def wait_writable(self) -> None:
        raise AssertionError("nothing ever blocks here")

    wait_readable = wait_writable

    def close(self, *, reset: bool) -> None:
        pass


async def test_what_ends_on_the_spot_has_no_limits_to_watch(
    autojump_clock: trio.testing.MockClock,
) -> None:
    socket = Socket.from_port(Sink())
    async with open_initiator():
        args = SocketAsyncEventArgs(MESSAGE)
        args.timeout = args.stall_timeout = 5
        await trio.testing.wait_all_tasks_blocked()
        tasks = trio.lowlevel.current_statistics().tasks_living
        deadline = trio.lowlevel.current_statistics().seconds_to_next_deadline
        socket.send_async(args)
        blocks = sys.getallocatedblocks()
        for _ in range(200):  # less than what makes a start pend for the sake of others
            assert not socket.send_async(args)
        grown = sys.getallocatedblocks() - blocks
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == deadline
        # Were a limit made for each, there would be two or more blocks for each.
        assert grown < 50


async def test_what_pends_without_limits_needs_no_task(pair: Pair) -> None:
    left, _ = pair
    async with open_initiator():
        await trio.testing.wait_all_tasks_blocked()
        tasks = trio.lowlevel.current_statistics().tasks_living
        args = SocketAsyncEventArgs(bytes(10_000_000))
        assert left.send_async(args)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == tasks + WAITING


async def test_any_number_of_limits_needs_one_task(pair: Pair) -> None:
    left, _ = pair
    async with open_initiator():
        await trio.testing.wait_all_tasks_blocked()
        tasks = trio.lowlevel.current_statistics().tasks_living
        for index in range(100):
            args = SocketAsyncEventArgs(bytes(1_000_000))
            args.timeout = 1000 + index
            assert left.send_async(args)
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == tasks + WAITING + 1


async def test_an_answer_that_was_made_to_pend_cannot_time_out(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It is done already; it only is told later."""
    socket = Socket.from_port(Sink())
    async with open_initiator():
        args = SocketAsyncEventArgs(MESSAGE)
        args.timeout = 0
        while not socket.send_async(args):
            pass
        await trio.sleep(10)
        assert await args.wait() == 10
        assert args.socket_error is SUCCESS


# -- awaited sends ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["timeout", "stall_timeout"])
async def test_an_awaited_send_at_the_head(
    limit: str, autojump_clock: trio.testing.MockClock
) -> None:
    limited = Limited()
    socket, _ = scripted(3, Blocked(1), 2, Blocked())
    args = limited.make("send", MESSAGE, **{limit: 4})
    with pytest.raises(SocketException) as caught:
        await socket.send(args)
    assert caught.value.socket_error_code is TIMED_OUT
    assert caught.value.bytes_transferred == 5
    assert limited.now == (4 if limit == "timeout" else 5)
    assert (args.socket_error, args.bytes_transferred) == (TIMED_OUT, 5)
    assert b"".join(args.remaining) == MESSAGE[5:]
    assert socket.torn is not None and socket.torn.operation is args
    assert limited.told == []  # an awaited send never raises the event
    assert not args.pending


@pytest.mark.parametrize("limit", ["timeout", "stall_timeout"])
async def test_an_awaited_send_at_the_head_of_a_real_socket(
    limit: str, pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    limited = Limited()
    left, right = pair
    args = limited.make("send", bytes(10_000_000), **{limit: 4})
    with pytest.raises(SocketException) as caught:
        await left.send(args)
    assert caught.value.socket_error_code is TIMED_OUT
    assert limited.now == 4
    left.close(reset=False)
    received = 0
    while got := len(await right.receive()):
        received += got
    assert received == args.bytes_transferred == caught.value.bytes_transferred > 0


async def test_an_awaited_send_that_is_parked(autojump_clock: trio.testing.MockClock) -> None:
    limited = Limited()
    socket, port = scripted(3, Blocked(9))
    async with open_initiator(ExitPolicy.JOIN):
        limited.start(socket, "head")
        with pytest.raises(SocketException) as caught:
            await socket.send(limited.make(timeout=4))
        assert caught.value.socket_error_code is TIMED_OUT
        assert caught.value.bytes_transferred == 0
        assert limited.now == 4
        assert socket.torn is None
    assert bytes(port.accepted) == MESSAGE


async def test_a_parked_send_does_not_stall(autojump_clock: trio.testing.MockClock) -> None:
    limited = Limited()
    socket, _ = scripted(Blocked(9), 10, Blocked())
    async with open_initiator():
        limited.start(socket, "head")
        args = limited.make(stall_timeout=2)
        with pytest.raises(SocketException):
            await socket.send(args)
    assert limited.now == 11
    assert (args.socket_error, args.bytes_transferred) == (TIMED_OUT, 0)


async def test_two_awaited_sends_hand_the_socket_on(autojump_clock: trio.testing.MockClock) -> None:
    """The second is parked until the first has timed out, and waits for the socket itself from then on."""
    limited = Limited()
    socket, _ = scripted(Blocked(7))
    ends: list[tuple[str, float]] = []

    async def first() -> None:
        with pytest.raises(SocketException):
            await socket.send(limited.make(timeout=3))
        ends.append(("first", limited.now))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await trio.testing.wait_all_tasks_blocked()
        assert await socket.send(limited.make(stall_timeout=5)) == 10
        ends.append(("second", limited.now))
    assert ends == [("first", 3), ("second", 7)]


async def test_an_awaited_send_with_args_can_be_used_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limited = Limited()
    socket, _ = scripted(Blocked(2), 10, Blocked(2), 10, Blocked())
    args = limited.make(timeout=3)
    assert await socket.send(args) == 10
    assert await socket.send(args) == 10
    with pytest.raises(SocketException):
        await socket.send(args)
    assert limited.now == 7


async def test_a_cancel_wins_over_a_later_limit(autojump_clock: trio.testing.MockClock) -> None:
    limited = Limited()
    socket, _ = scripted(3, Blocked())
    args = limited.make(timeout=3)
    with trio.move_on_after(2) as scope:
        await socket.send(args)
    assert scope.cancelled_caught
    assert (args.socket_error, args.bytes_transferred) == (ABORTED, 3)
    await trio.sleep(5)
    assert args.socket_error is ABORTED


# -- connect and accept -----------------------------------------------------------------------------------------------


@pytest.fixture
def full_listener() -> Iterator[Any]:
    """A listener whose backlog is full, so that connecting to it pends."""
    listener = stdlib_socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    crowd: list[stdlib_socket.socket] = []
    for _ in range(4):
        visitor = stdlib_socket.socket()
        visitor.setblocking(False)
        visitor.connect_ex(listener.getsockname())
        crowd.append(visitor)
    yield listener.getsockname()
    for sock in (listener, *crowd):
        sock.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full backlog may refuse")
async def test_a_connect_has_a_timeout(
    full_listener: Any, autojump_clock: trio.testing.MockClock
) -> None:
    limited = Limited()
    async with open_initiator():
        socket = Socket()
        args = limited.make("connect", b"")
        args.set_buffer(None)
        args.remote_end_point = full_listener
        args.timeout = 7
        args.stall_timeout = 1  # is about bytes, and a connect has none
        assert socket.connect_async(args)
        await args.wait()
        assert limited.told == [("connect", TIMED_OUT, 0, 7)]
        assert args.outcome is not None
        with pytest.raises(SocketException, match="not finished 7 s after its start"):
            args.outcome.unwrap()
        assert args.connect_socket is None
        # The kernel would have gone on, and nobody could have told how it ended.
        assert socket.fileno() == -1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full backlog may refuse")
async def test_a_send_behind_a_connect_has_a_timeout_of_its_own(
    full_listener: Any, autojump_clock: trio.testing.MockClock
) -> None:
    limited = Limited()
    async with open_initiator():
        socket = Socket()
        args = limited.make("connect", b"")
        args.set_buffer(None)
        args.remote_end_point = full_listener
        args.timeout = 7
        assert socket.connect_async(args)
        limited.start(socket, "early", timeout=3)
        limited.start(socket, "late", timeout=30, stall_timeout=1)
        await args.wait()
    assert limited.told == [
        ("early", TIMED_OUT, 0, 3),
        ("connect", TIMED_OUT, 0, 7),
        ("late", ABORTED, 0, 7),  # the socket was closed
    ]


async def test_an_accept_has_a_timeout(autojump_clock: trio.testing.MockClock) -> None:
    limited = Limited()
    async with Socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        async with open_initiator(ExitPolicy.JOIN):
            args = limited.make("accept", b"")
            args.set_buffer(None)
            args.timeout = 6
            args.stall_timeout = 1
            assert listener.accept_async(args)
        assert limited.told == [("accept", TIMED_OUT, 0, 6)]
        # The listener is as good as before.
        async with open_initiator(ExitPolicy.JOIN):
            # It would refuse args with a socket in them.
            assert listener.accept_async(args)
            with stdlib_socket.create_connection(listener.local_end_point):
                await args.wait()
        assert args.socket_error is SUCCESS
        assert args.accept_socket is not None
        args.accept_socket.close()


# -- validation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["timeout", "stall_timeout"])
class TestValidation:
    def test_there_is_none_by_default(self, limit: str) -> None:
        assert getattr(SocketAsyncEventArgs(MESSAGE), limit) == math.inf

    @pytest.mark.parametrize("seconds", [0, 0.5, 1, 1e9, math.inf])
    def test_legal(self, limit: str, seconds: float) -> None:
        args = SocketAsyncEventArgs(MESSAGE)
        setattr(args, limit, seconds)
        assert getattr(args, limit) == seconds
        assert isinstance(getattr(args, limit), float)
        other = "stall_timeout" if limit == "timeout" else "timeout"
        assert getattr(args, other) == math.inf

    @pytest.mark.parametrize("seconds", [-1, -0.001, -math.inf, math.nan])
    def test_illegal(self, limit: str, seconds: float) -> None:
        args = SocketAsyncEventArgs(MESSAGE)
        setattr(args, limit, 4)
        with pytest.raises(ValueError, match=rf"^{limit} is "):
            setattr(args, limit, seconds)
        assert getattr(args, limit) == 4

    @pytest.mark.parametrize("seconds", [None, "1", [1]])
    def test_wrong_type(self, limit: str, seconds: Any) -> None:
        with pytest.raises(TypeError):
            setattr(SocketAsyncEventArgs(MESSAGE), limit, seconds)

    async def test_in_use(self, limit: str) -> None:
        socket, _ = scripted(3, Blocked())
        async with open_initiator():
            args = SocketAsyncEventArgs(MESSAGE)
            setattr(args, limit, 1000)
            assert socket.send_async(args)
            with pytest.raises(OperationInProgressError):
                setattr(args, limit, 1)
            assert getattr(args, limit) == 1000

    def test_closed(self, limit: str) -> None:
        args = SocketAsyncEventArgs(MESSAGE)
        args.close()
        with pytest.raises(ObjectDisposedError):
            setattr(args, limit, 1)

    async def test_both_are_kept_apart(self, limit: str) -> None:
        args = SocketAsyncEventArgs(MESSAGE)
        args.timeout, args.stall_timeout = 1, 2
        setattr(args, limit, math.inf)
        assert (args.timeout, args.stall_timeout) == (
            (math.inf, 2) if limit == "timeout" else (1, math.inf)
        )


# -- many -------------------------------------------------------------------------------------------------------------


class ShutPort(ScriptedPort):
    """A port whose user shuts the socket down in the middle of the first attempt, which finds no room."""

    def __init__(self) -> None:
        super().__init__([Blocked()])
        self.socket = Socket.from_port(self)

    def send(self, buffer: Any, flags: int, /) -> int:
        try:
            return super().send(buffer, flags)
        finally:
            if not self.shut_down:
                self.socket.shutdown(SocketShutdown.SEND)


async def test_a_limit_of_what_has_ended_before_it_could_be_watched_is_not_watched(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Where no task runs nothing is watched; and what is done first when one does is to look at what was shut down."""
    limited = Limited()
    port = ShutPort()
    args = limited.make(timeout=10)
    async with open_initiator() as initiator:

        def start() -> None:
            assert initiator.run_sync(port.socket.send_async, args)

        await do_between_tasks(start)
        await trio.testing.wait_all_tasks_blocked()
        assert limited.told == [("send", SocketError.SHUTDOWN, 0, 0)]
        assert port.attempts == 2
        assert initiator._owner.timers._heap == []
        await trio.sleep(20)
    assert limited.told == [("send", SocketError.SHUTDOWN, 0, 0)]


async def test_many_limits_strike_in_exact_order(autojump_clock: trio.testing.MockClock) -> None:
    """On one socket and on many, in the order of their times, and of their starts where those are the same."""
    limited = Limited()
    sockets = [scripted(Blocked())[0] for _ in range(20)]
    generator = random.Random(1)
    expected: list[tuple[float, int]] = []
    async with open_initiator(ExitPolicy.JOIN):
        for index in range(1000):
            seconds = generator.randrange(1, 200) / 4
            limited.start(generator.choice(sockets), str(index), timeout=seconds)
            expected.append((seconds, index))
    expected.sort()
    assert limited.told == [(str(index), TIMED_OUT, 0, at) for at, index in expected]


async def test_a_limit_that_is_set_later_may_strike_earlier(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limited = Limited()
    socket, _ = scripted(Blocked())
    async with open_initiator(ExitPolicy.JOIN):
        limited.start(socket, "slow", timeout=100)
        await trio.sleep(1)
        limited.start(socket, "quick", timeout=2)
        await trio.sleep(0.5)
        limited.start(socket, "quickest", timeout=0.25)
    assert [(name, at) for name, *_, at in limited.told] == [
        ("quickest", 1.75),
        ("quick", 3),
        ("slow", 100),
    ]


async def test_limits_of_operations_that_ended_in_time_do_not_pile_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """One after the other, each far from its limit when it ends."""
    socket, port = scripted()
    args = SocketAsyncEventArgs(MESSAGE)
    args.timeout = 1_000_000
    args.stall_timeout = 500_000
    async with open_initiator() as initiator:
        longest = 0
        for _ in range(10_000):
            port.add(Blocked())
            assert socket.send_async(args)
            args.cancel()
            port.unblock()
            await args.wait()
            longest = max(longest, len(initiator._owner.timers._heap))
        # Two entries at most for each that is live, twice that, and some slack.
        assert longest <= 200


async def test_limits_pile_up_no_higher_than_what_is_live(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A thousand stay, while thousands come and go behind them."""
    limited = Limited()
    socket, _ = scripted(Blocked())
    async with open_initiator() as initiator:
        stay = [limited.start(socket, str(index), timeout=5000 - index) for index in range(1000)]
        longest = 0
        for _ in range(10_000):
            args = SocketAsyncEventArgs(MESSAGE)
            args.timeout = 9000
            assert socket.send_async(args)
            args.cancel()
            longest = max(longest, len(initiator._owner.timers._heap))
        assert longest <= 4000
        # None of those that stay was swept away.
        await stay[0].wait()
    assert [at for *_, at in limited.told] == [4001 + index for index in range(1000)]


async def test_stalls_that_move_all_the_time_do_not_pile_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limited = Limited()
    socket, _ = scripted(*cycle(Blocked(1), 1, times=2000))
    async with open_initiator() as initiator:
        args = limited.start(socket, "slow", bytes(1500), stall_timeout=1.5)
        longest = 0
        while args.pending:
            await trio.sleep(1)
            longest = max(longest, len(initiator._owner.timers._heap))
        assert longest <= 4
    assert limited.told == [("slow", SUCCESS, 1500, 1500)]


async def test_limits_keep_no_ended_operation_alive(pair: Pair) -> None:
    """They stay in the heap for a while, but what was sent may be large."""

    class Buffer(bytearray):
        """Bytes that can be referred to weakly."""

    left, _ = pair
    async with open_initiator():
        buffer = Buffer(1_000_000)
        args = SocketAsyncEventArgs(buffer)
        args.timeout = args.stall_timeout = 3600
        assert left.send_async(args)
        args.cancel()
        await args.wait()
        left.forget_torn()
        alive = weakref.ref(buffer)
        del buffer, args
        gc.collect()
        is_alive = alive() is not None  # a failure must not print a million bytes
        assert not is_alive


async def test_the_limits_end_with_the_initiator(autojump_clock: trio.testing.MockClock) -> None:
    limited = Limited()
    socket, port = scripted(Blocked())
    tasks = trio.lowlevel.current_statistics().tasks_living
    async with open_initiator():
        args = limited.start(socket, timeout=5)
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    async with open_initiator(ExitPolicy.JOIN):
        args.timeout = 100
        assert socket.send_async(args)
        await trio.sleep(50)
        assert args.pending
        port.unblock()
    assert args.socket_error is SUCCESS
    assert [(error, at) for _, error, _, at in limited.told] == [(ABORTED, 0), (SUCCESS, 50)]


async def test_limits_on_a_socket_that_is_closed(autojump_clock: trio.testing.MockClock) -> None:
    limited = Limited()
    socket, _ = scripted(3, Blocked())
    async with open_initiator(ExitPolicy.JOIN):
        limited.start(socket, "head", timeout=5, stall_timeout=4)
        limited.start(socket, "follower", timeout=5)
        await trio.sleep(1)
        socket.close()
        await trio.sleep(20)
    assert limited.told == [("head", ABORTED, 3, 1), ("follower", ABORTED, 0, 1)]


async def test_a_limit_strikes_a_real_socket(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    """The bytes that were counted are those that arrive."""
    limited = Limited()
    left, right = pair
    message = os.urandom(5_000_000)
    async with open_initiator():
        args = limited.start(left, "send", message, timeout=3)
        assert await args.wait() == args.bytes_transferred
        assert [(error, at) for _, error, _, at in limited.told] == [(TIMED_OUT, 3)]
        left.close(reset=False)
        received = bytearray()
        while got := await right.receive():
            received += got
    assert bytes(received) == message[: args.bytes_transferred]


async def test_limits_may_be_set_anew_before_a_cut_message_is_resumed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What was cut by a limit that was too short must not be stuck with it."""
    limited = Limited()
    socket, port = scripted(3, Blocked(), Blocked(50))
    async with open_initiator(ExitPolicy.JOIN):
        args = limited.start(socket, timeout=4)
        await args.wait()
        port.unblock()
        try:
            args.timeout = math.inf
        except InvalidOperationError:
            pytest.fail("the limits of a cut message cannot be set")
        assert socket.resume(args)
    assert limited.told == [("send", TIMED_OUT, 3, 4), ("send", SUCCESS, 10, 54)]
