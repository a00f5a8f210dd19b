"""Hold the count of queued bytes to the truth, and the two marks to the moments at which producers pause and go on.

Modules: _operations.watermarks.
"""

from __future__ import annotations

import tracemalloc
from socket import SOCK_DGRAM, SOCK_STREAM
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, strategies as st
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from tests.helpers import BIG, connected, read_exactly, scripted, unblock
from tests.scripted import run_virtual
from trio_send import (
    ExitPolicy,
    ObjectDisposedError,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    add_instrument,
    open_initiator,
    socketpair,
)
from trio_send._operations.states import QUEUED
from trio_send._operations.watermarks import OPERATION_WEIGHT as WEIGHT
from trio_send._owners.exiting_owner import START_BUDGET
from trio_send.abc import Instrument
from trio_send.testing import Blocked, ScriptedPort

KIB = 1024


def args_of(size: int) -> SocketAsyncEventArgs:
    return SocketAsyncEventArgs(bytes(size))


# How many bytes are queued ----------------------------------------------------------------------


async def test_queued_bytes_are_those_that_were_not_accepted(autojump_clock: Any) -> None:
    socket, port = scripted(30, Blocked(), 50, Blocked())
    async with open_initiator():
        assert socket.queued_bytes == 0
        first, second = args_of(100), args_of(1000)
        assert socket.send_async(first) is True
        assert socket.queued_bytes == 70
        assert socket.send_async(second) is True
        assert (socket.queued_bytes, socket.queued_operations) == (1070, 2)
        await unblock(port)
        assert socket.queued_bytes == 1020
        await unblock(port)
        await second.wait()
        assert (socket.queued_bytes, socket.queued_operations) == (0, 0)


async def test_what_is_no_send_has_no_bytes() -> None:
    async with Socket() as listener, open_initiator():
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        args = SocketAsyncEventArgs()
        assert listener.accept_async(args) is True
        assert listener.queued_bytes == 0
        statistics = listener.statistics()
        assert (statistics.queued_operations, statistics.queued_receives) == (0, 1)


@pytest.mark.parametrize("way", ["cancel first", "cancel second", "break", "close", "leave"])
async def test_however_they_leave_nothing_is_left_of_them(way: str, autojump_clock: Any) -> None:
    socket, port = scripted(30, Blocked(), *(["EPIPE"] if way == "break" else []))
    async with open_initiator() as initiator:
        first, second = args_of(100), args_of(1000)
        socket.send_async(first)
        socket.send_async(second)
        if way == "cancel first":
            first.cancel()  # and its follower goes too, for the stream is torn
        elif way == "cancel second":
            second.cancel()
            assert socket.queued_bytes == 70
            await unblock(port)
            await first.wait()
        elif way == "break":
            await unblock(port)
            await second.wait()
        elif way == "close":
            socket.close()
        else:
            initiator.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await second.wait()
        assert socket.queued_bytes == 0


async def test_followers_that_stay_are_all_that_is_counted(autojump_clock: Any) -> None:
    """Where the one in front of them is cut and they are let, and where it fails and is all or nothing anyhow."""
    stream, _ = scripted(30, Blocked(), on_torn="allow")
    datagrams, port = scripted(Blocked(), "EMSGSIZE", Blocked(), is_stream=False)
    async with open_initiator():
        for socket in (stream, datagrams):
            args = args_of(100)
            socket.send_async(args)
            socket.send_async(args_of(1000))
            if socket is stream:
                assert args.cancel()
            else:
                await unblock(port)
            await args.wait()
            assert (socket.queued_bytes, socket.queued_operations) == (1000, 1)


async def test_the_rest_of_a_cut_message_counts_as_the_rest(autojump_clock: Any) -> None:
    socket, port = scripted(30, Blocked(), Blocked())
    async with open_initiator():
        args = args_of(100)
        socket.send_async(args)
        args.cancel()
        await args.wait()
        assert socket.queued_bytes == 0
        assert socket.resume(args) is True
        assert socket.queued_bytes == 70
        await unblock(port)
        await unblock(port)
        await args.wait()
    assert socket.queued_bytes == 0


# The marks --------------------------------------------------------------------------------------


async def goes_through(socket: Socket) -> bool:
    """Whether a producer that asks is let through without waiting."""
    with trio.move_on_after(0) as scope:
        await socket.wait_below_low_water()
    with trio.move_on_after(1) as scope:
        await socket.wait_below_low_water()
    return not scope.cancelled_caught


async def test_above_begins_above_the_high_mark_and_ends_at_the_low_one(
    autojump_clock: Any,
) -> None:
    socket, port = scripted(Blocked(), 1, Blocked(), 49, Blocked())
    socket.low_water, socket.high_water = 50 + 2 * WEIGHT, 99 + 3 * WEIGHT
    async with open_initiator():
        pieces = [args_of(50), args_of(49), args_of(0), args_of(1)]
        for piece in pieces[:3]:
            socket.send_async(piece)
            assert await goes_through(socket)
        assert (socket.queued_bytes, socket.queued_operations) == (
            99,
            3,
        )  # at the mark is not above it
        pieces[2].cancel()
        socket.send_async(pieces[3])
        assert (socket.queued_bytes, socket.queued_operations) == (100, 3)
        assert not await goes_through(socket)
        assert socket.statistics().is_above_high_water

        await unblock(port)
        assert (socket.queued_bytes, socket.queued_operations) == (99, 3)
        assert not await goes_through(socket)  # not above it any more, and yet not below the other
        await unblock(port)
        assert (socket.queued_bytes, socket.queued_operations) == (50, 2)
        assert await goes_through(socket)
        assert not socket.statistics().is_above_high_water
        await unblock(port)
        await pieces[-1].wait()


@pytest.mark.parametrize(("kind", "size"), [(SOCK_STREAM, 1), (SOCK_DGRAM, 1), (SOCK_DGRAM, 0)])
@pytest.mark.parametrize("face", ["send_async", "begin_send", "send"])
async def test_messages_of_hardly_any_bytes_reach_the_marks_by_their_number(
    kind: int, size: int, face: str, autojump_clock: Any
) -> None:
    """Unlike their bytes, of which there may be none at all, the memory that they take has no limit of its own."""
    socket, port = scripted(Blocked(), is_stream=kind == SOCK_STREAM)
    most = socket.high_water // (WEIGHT + size)
    message = bytes(size)
    async with open_initiator(), trio.open_nursery() as nursery:
        while await goes_through(socket):
            if face == "send_async":
                assert socket.send_async(SocketAsyncEventArgs(message))
            elif face == "begin_send":
                assert not socket.begin_send(message).is_completed
            else:
                nursery.start_soon(socket.send, message)
                await wait_all_tasks_blocked()
        assert (socket.queued_operations, socket.queued_bytes) == (most + 1, (most + 1) * size)
        await unblock(port)
        assert await goes_through(socket)
        assert socket.queued_operations == 0


async def test_an_operation_weighs_about_what_it_takes_of_memory() -> None:
    """Measured, so that the constant is not far from the truth on any version of Python."""
    socket, _ = scripted(Blocked())
    count = 1000
    async with open_initiator():
        socket.begin_send(b"m")
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(count):
                socket.begin_send(b"m")
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert WEIGHT / 2 < (after - before) / count < WEIGHT * 2


async def test_all_that_wait_are_woken_together_and_once(autojump_clock: Any) -> None:
    socket, port = scripted(Blocked())
    socket.low_water, socket.high_water = 0, 0
    woken = []

    async def wait(name: str) -> None:
        with assert_checkpoints():
            await socket.wait_below_low_water()
        woken.append(name)

    async with open_initiator(), trio.open_nursery() as nursery:
        socket.send_async(args_of(1))
        assert socket.statistics().tasks_waiting_below_low_water == 0
        for name in "abc":
            nursery.start_soon(wait, name)
        await wait_all_tasks_blocked()
        assert woken == []
        assert socket.statistics().tasks_waiting_below_low_water == 3
        await unblock(port)
        assert sorted(woken) == ["a", "b", "c"]
        assert socket.statistics().tasks_waiting_below_low_water == 0
        with assert_checkpoints():
            await socket.wait_below_low_water()


@pytest.mark.parametrize("how", ["send_async", "begin_send", "send"])
async def test_every_face_is_counted(how: str, autojump_clock: Any) -> None:
    socket, port = scripted(Blocked())
    async with open_initiator(), trio.open_nursery() as nursery:
        if how == "send_async":
            socket.send_async(args_of(100_000))
        elif how == "begin_send":
            socket.begin_send([bytes(50_000), bytes(50_000)])
        else:
            nursery.start_soon(socket.send, bytes(100_000))
        await wait_all_tasks_blocked()
        assert socket.queued_bytes == 100_000
        assert not await goes_through(socket)
        await unblock(port)
        await socket.wait_below_low_water()


@pytest.mark.parametrize("wait_first", [True, False])
async def test_a_close_ends_the_wait_with_an_error(wait_first: bool, autojump_clock: Any) -> None:
    socket, _ = scripted(Blocked())
    socket.low_water, socket.high_water = 0, 0
    async with open_initiator(), trio.open_nursery() as nursery:
        socket.send_async(args_of(1))

        async def close() -> None:
            socket.close()

        if wait_first:
            nursery.start_soon(close)
        else:
            socket.close()
        with pytest.raises(ObjectDisposedError):
            await socket.wait_below_low_water()


async def test_a_wait_that_is_cancelled_leaves_nothing_behind(autojump_clock: Any) -> None:
    socket, port = scripted(Blocked())
    socket.low_water, socket.high_water = 0, 0
    async with open_initiator():
        args = args_of(1)
        socket.send_async(args)
        assert not await goes_through(socket)
        assert socket.statistics().tasks_waiting_below_low_water == 0
        await unblock(port)
        await args.wait()
        with assert_checkpoints():
            await socket.wait_below_low_water()


async def test_a_connection_that_breaks_lets_producers_go_and_the_next_start_tells(
    autojump_clock: Any,
) -> None:
    socket, _ = scripted(Blocked(1.0), "ECONNRESET")
    socket.low_water, socket.high_water = 0, 0
    async with open_initiator():
        args = args_of(1)
        socket.send_async(args)
        await socket.wait_below_low_water()
        await args.wait()
        assert socket.send_async(args) is False
        assert args.socket_error is SocketError.CONNECTION_RESET


async def test_setting_a_mark_looks_at_the_queue_at_once(autojump_clock: Any) -> None:
    socket, _ = scripted(Blocked())
    assert (socket.high_water, socket.low_water) == (64 * KIB, 16 * KIB)
    assert socket.statistics().tasks_waiting_below_low_water == 0
    async with open_initiator(), trio.open_nursery() as nursery:
        socket.send_async(args_of(20 * KIB - WEIGHT))
        assert await goes_through(socket)
        socket.high_water = 20 * KIB - 1
        assert not await goes_through(socket)
        socket.high_water = 64 * KIB
        assert not await goes_through(socket)  # above until it was below
        nursery.start_soon(socket.wait_below_low_water)
        await wait_all_tasks_blocked()
        assert socket.statistics().tasks_waiting_below_low_water == 1
        socket.low_water = 20 * KIB
        assert await goes_through(socket)


async def test_marks_that_make_no_sense_are_refused() -> None:
    socket, _ = scripted()
    with pytest.raises(
        ValueError, match="high_water is 16383, but must be at least low_water, which is 16384"
    ):
        socket.high_water = 16 * KIB - 1
    with pytest.raises(
        ValueError, match="low_water is 65537, but must be at most high_water, which is 65536"
    ):
        socket.low_water = 64 * KIB + 1
    with pytest.raises(ValueError, match="low_water is -1"):
        socket.low_water = -1
    with pytest.raises(TypeError, match="high_water must be a whole number"):
        socket.high_water = 1e6  # type: ignore[assignment]
    assert (socket.high_water, socket.low_water) == (64 * KIB, 16 * KIB)
    socket.high_water = socket.low_water
    socket.close()
    with pytest.raises(ObjectDisposedError):
        socket.high_water = 1
    with pytest.raises(ObjectDisposedError):
        await socket.wait_below_low_water()


@given(
    script=st.lists(
        st.one_of(st.integers(1, 120), st.just(Blocked(1.0)), st.just("ENOBUFS")), max_size=20
    ),
    deeds=st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.integers(0, 90)),
            st.tuples(st.just("cancel"), st.integers(0, 9)),
            st.tuples(st.just("sleep"), st.integers(1, 3)),
        ),
        max_size=14,
    ),
    marks=st.tuples(*[st.integers(0, 80 + 4 * WEIGHT)] * 2),
)
def test_the_bytes_and_the_marks_are_right_at_every_moment(
    script: list[Any], deeds: list[tuple[str, int]], marks: tuple[int, int]
) -> None:
    """Beside what is counted on the way stands what one finds by looking at every operation anew."""

    started: list[SocketAsyncEventArgs] = []
    low, high = sorted(marks)

    async def main() -> None:
        socket = Socket.from_port(ScriptedPort(script), on_torn="allow")
        socket.low_water, socket.high_water = low, high
        above = False

        def check() -> None:
            nonlocal above
            waiting = sum(
                each.count - each.bytes_transferred
                for each in started
                if each._operation.state == QUEUED
            )
            assert socket.queued_bytes == waiting
            assert socket.queued_operations == sum(
                each._operation.state == QUEUED for each in started
            )
            weight = waiting + socket.queued_operations * WEIGHT
            if weight > high:
                above = True
            elif weight <= low:
                above = False
            assert socket.statistics().is_above_high_water == above

        async with open_initiator(ExitPolicy.JOIN):
            for deed, number in deeds:
                if deed == "send":
                    args = args_of(number)
                    started.append(args)
                    socket.send_async(args)
                elif deed == "cancel" and started:
                    started[number % len(started)].cancel()
                elif deed == "sleep":
                    await trio.sleep(number)
                    await wait_all_tasks_blocked()
                check()
        check()
        assert socket.queued_bytes == 0

    run_virtual(main)


@pytest.mark.parametrize("kind", ["tcp4", "unix"])
async def test_a_producer_that_waits_never_queues_more_than_the_mark_and_one_message(
    kind: str,
) -> None:
    size = 8 * KIB
    with connected(kind) as (socket, peer):
        most = 0

        async def produce() -> None:
            nonlocal most
            async with open_initiator(ExitPolicy.JOIN):
                for start in range(0, len(BIG), size):
                    socket.send_async(SocketAsyncEventArgs(BIG[start : start + size]))
                    most = max(most, socket.queued_bytes)
                    await socket.wait_below_low_water()

        socket.low_water, socket.high_water = 1 * KIB, 20 * KIB + 3 * WEIGHT
        async with trio.open_nursery() as nursery:
            nursery.start_soon(produce)
            await wait_all_tasks_blocked()
            assert socket.statistics().is_above_high_water
            assert await read_exactly(peer, len(BIG)) == BIG
    assert 20 * KIB < most <= 20 * KIB + size


# Snapshots --------------------------------------------------------------------------------------


async def test_the_statistics_of_a_socket(autojump_clock: Any) -> None:
    socket, port = scripted(30, Blocked())
    async with open_initiator(name="mine"):
        args = args_of(100)
        before = socket.statistics()
        assert not any(attrs.astuple(before))
        assert (socket.high_water, socket.low_water) == (65_536, 16_384)
        socket.send_async(args)
        now = socket.statistics()
        assert (now.queued_operations, now.queued_bytes, now.bytes_accepted) == (1, 70, 30)
        assert now.watched_by is not None
        assert now.watched_by.startswith("<Initiator 'mine'")
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            now.queued_bytes = 0  # type: ignore[misc]
        args.cancel()
        assert socket.statistics().is_torn
        await args.wait()
        socket.forget_torn()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(socket.send, bytes(5), name="sender")
        await wait_all_tasks_blocked()
        assert socket.statistics().watched_by == "<the awaiting task 'sender'>"
        await unblock(port)
    socket.close()
    after = socket.statistics()
    assert attrs.astuple(after)[:8] == (0, 0, 35, False, False, 0, 0, None)
    assert attrs.astuple(after)[8:] == (2, 1, 0, 1, 105, 70)


async def test_receives_are_counted_apart() -> None:
    left, right = socketpair()
    async with left, right, trio.open_nursery() as nursery:
        nursery.start_soon(left.receive)
        await wait_all_tasks_blocked()
        assert left.statistics().queued_receives == 1
        assert left.statistics().queued_operations == 0
        await right.send(b"x")


async def test_the_statistics_of_an_initiator(autojump_clock: Any) -> None:
    one, _ = scripted(Blocked())
    two, _ = scripted(Blocked())
    socket, _ = scripted()
    async with open_initiator() as initiator:
        statistics = initiator.statistics()
        assert attrs.astuple(statistics) == (0, 0, 0, START_BUDGET, 0, 0, 0, 0)
        for _ in range(3):
            socket.send_async(args_of(1))
        assert initiator.statistics().starts_before_yield == START_BUDGET - 3
        with add_instrument(Instrument()):
            assert initiator.statistics().starts_before_yield == START_BUDGET - 3
        operations = [args_of(1) for _ in range(3)]
        operations[2].completed += lambda *_: None
        one.send_async(operations[0])
        two.send_async(operations[1])
        two.send_async(operations[2])
        assert attrs.astuple(initiator.statistics()) == (3, 2, 0, START_BUDGET, 6, 3, 0, 0)
        operations[2].cancel()
        assert attrs.astuple(initiator.statistics()) == (2, 2, 1, START_BUDGET, 6, 3, 0, 1)
        await operations[2].wait()
    assert attrs.astuple(initiator.statistics()) == (0, 0, 0, START_BUDGET, 6, 3, 0, 3)
