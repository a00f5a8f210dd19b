"""Many operations that end at once: none of their bytes goes out, and the other tasks have turns in between."""

from __future__ import annotations

import signal
import sys
from itertools import pairwise
from typing import Any

import outcome
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.between_tasks import do_at_the_end, do_between_tasks
from tests.helpers import Told, scripted, ten
from tests.scripted import RecordingOwner, SpyPort, nothing, start
from trio_send import (
    ExitPolicy,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    from_thread,
    open_initiator,
)
from trio_send._messages.buffers import Message, Piece, WholeBytes
from trio_send._operations import bulk_ends
from trio_send._operations.gate import ENDING
from trio_send._operations.operation import Operation, Step
from trio_send._operations.queue import OperationQueue
from trio_send._operations.send_calls import PLAIN_FLAGS
from trio_send._operations.send_queue import SendQueue
from trio_send.testing import Blocked, explore, random_world

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

#: How many operations end in one trip here, and how many there are.
BATCH = 4
CROWD = 30

ABORTED = SocketError.OPERATION_ABORTED
TORN = SocketError.CONNECTION_ABORTED
RESET = SocketError.CONNECTION_RESET


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_ends, "ENDS_PER_TRIP", BATCH)


def crowd(told: Told, *sockets: Socket, count: int = CROWD) -> list[SocketAsyncEventArgs]:
    """Start many sends that wait, on one socket after the other, each of which remembers its end."""
    all_args = []
    for number in range(count):
        all_args.append(told.args(f"{number}"))
        assert sockets[number % len(sockets)].send_async(all_args[-1])
    return all_args


def names(count: int = CROWD) -> list[str]:
    return [f"{number}" for number in range(count)]


async def lengths(socket: Socket, seen: list[int]) -> None:
    """Note at each turn how many operations are queued, until there are none."""
    while socket.queued_operations:
        seen.append(socket.queued_operations)
        await trio.lowlevel.checkpoint()


def sending(data: bytes) -> Operation:
    operation = Operation()
    operation.message = Message((Piece(data, 0, len(data)),))
    operation.flags = PLAIN_FLAGS
    operation.reset_results()
    return operation


# Other tasks


@pytest.mark.parametrize("how", ["left", "cancelled", "closed", "broken", "torn"])
async def test_other_tasks_have_turns_while_many_operations_end(how: str) -> None:
    socket, port = scripted(4, Blocked(), "ECONNRESET")
    told, seen = Told(), list[int]()
    async with trio.open_nursery() as nursery:
        async with open_initiator() as initiator:
            all_args = crowd(told, socket)
            await wait_all_tasks_blocked()
            nursery.start_soon(lengths, socket, seen)
            await trio.lowlevel.checkpoint()
            if how == "cancelled":
                initiator.cancel_scope.cancel()
            elif how == "closed":
                socket.close()
            elif how == "broken":
                port.unblock()
            elif how == "torn":
                assert all_args[0].cancel()
            while how in ("broken", "torn") and socket.queued_operations:
                await trio.lowlevel.checkpoint()
    falls = [before - after for before, after in pairwise(seen)]
    # What has a turn in each round may have two between two turns of another task. The first batch is ended at once.
    assert max(falls) <= 3 * BATCH + 1
    first, others = {"broken": (RESET, RESET), "torn": (ABORTED, TORN)}.get(how, (ABORTED, ABORTED))
    counts = [4] + [0] * (CROWD - 1)
    errors = [first] + [others] * (CROWD - 1)
    assert told.events == list(zip(names(), errors, counts, strict=True))
    assert bytes(port.accepted) == ten("0")[:4]


async def test_the_ends_of_many_queues_and_owners_share_the_trips() -> None:
    sockets = [scripted(Blocked())[0] for _ in range(10)]
    told = Told()
    turns: list[int] = []
    async with trio.open_nursery() as nursery:

        async def leave(some: list[Socket], gate: trio.Event) -> None:
            async with open_initiator():
                crowd(told, *some)
                await gate.wait()

        async def watch() -> None:
            while len(told.events) < 3 * CROWD:
                turns.append(sum(socket.queued_operations for socket in sockets))
                await trio.lowlevel.checkpoint()

        gate = trio.Event()
        for some in (sockets[:3], sockets[3:6], sockets[6:]):
            nursery.start_soon(leave, some, gate)
        await wait_all_tasks_blocked()
        nursery.start_soon(watch)
        gate.set()
    # Each exit ends its first batch at once, and all the rest of them has one batch in a round.
    falls = [before - after for before, after in pairwise(turns)]
    assert max(falls) <= 5 * BATCH
    assert sorted(falls)[-4] <= 2 * BATCH
    assert sorted(name for name, _, _ in told.events) == sorted(3 * names())


# The kernel


@pytest.mark.parametrize("plain", [False, True])
async def test_no_byte_goes_out_between_the_batches(plain: bool) -> None:
    socket, port = scripted(4, Blocked(), on_torn="allow")
    told = Told()
    async with trio.open_nursery() as nursery, open_initiator() as other:
        async with open_initiator():
            all_args = [SocketAsyncEventArgs(ten("p")) for _ in range(CROWD)] if plain else []
            for args in all_args:
                assert socket.send_async(args)
            all_args = all_args or crowd(told, socket)
            last = told.args("last")
            assert other.run_sync(socket.send_async, last)
            await wait_all_tasks_blocked()

            async def make_room() -> None:
                while all_args[-1].pending:
                    port.unblock()
                    socket._core.sends.drain(1 << 20)
                    await trio.lowlevel.checkpoint()

            nursery.start_soon(make_room)
        assert {args.socket_error for args in all_args} == {ABORTED}
        assert await last.wait() == 10
    assert bytes(port.accepted) == ten("p" if plain else "0")[:4] + ten("last")


async def test_operations_in_many_queues_end_with_their_owner() -> None:
    pairs = [scripted(Blocked()) for _ in range(BATCH + 3)]
    told = Told()
    async with open_initiator() as outer:
        async with open_initiator():
            for number, (socket, _) in enumerate(pairs):
                for part in range(3):
                    assert socket.send_async(told.args(f"{number}.{part}"))
            stranger = told.args("stranger")
            assert outer.run_sync(pairs[-1][0].send_async, stranger)
        assert not [socket for socket, _ in pairs[:-1] if socket.queued_operations]
        pairs[-1][1].unblock()
        assert await stranger.wait() == 10
    assert [bytes(port.accepted) for _, port in pairs] == [b""] * (len(pairs) - 1) + [
        ten("stranger")
    ]
    assert bulk_ends.ENDING_OWNERS == []


def test_a_queue_that_was_not_told_attempts_nothing_of_the_owner() -> None:
    owner, other = RecordingOwner(), RecordingOwner()
    port = SpyPort([Blocked()])
    queues = [SendQueue(SpyPort([Blocked()]), refuse_torn=True), SendQueue(port, refuse_torn=True)]

    async def main() -> None:
        for queue in queues:
            for each in (owner, owner, owner, owner, owner, other):
                start(queue, sending(b"x"), each)
        port.inner.unblock()
        ends = bulk_ends.OwnerEnds(owner, 995, "left", queues)
        ends.begin()
        assert len(owner.endings) == BATCH
        assert ends.is_ending
        calls = len(port.calls)
        queues[1].drain(1 << 20)
        assert not ends.is_ending
        assert queues[1].gate & ENDING
        assert len(port.calls) == calls
        while other.endings == []:
            await trio.lowlevel.checkpoint()
            queues[1].drain(1 << 20)
        assert len(owner.endings) == 10
        assert port.accepted == b"x"
        assert len(port.calls) == calls + 1

    trio.run(main)


class Waits(Step):
    """Cannot be done yet."""

    attempts = 0

    def attempt(self, operation: Operation) -> None:
        self.attempts += 1
        raise BlockingIOError


@pytest.mark.parametrize("kind", ["send", "step"])
def test_a_queue_of_one_that_was_not_told_attempts_nothing_of_the_owner(kind: str) -> None:
    owner = RecordingOwner()
    port = SpyPort([Blocked()])
    full = SendQueue(SpyPort([Blocked()]), refuse_torn=True)
    lone: OperationQueue
    step = Waits()
    if kind == "send":
        lone, operation = SendQueue(port, refuse_torn=True), Operation()
        operation.message = WholeBytes(b"x")
    else:
        lone, operation = OperationQueue(port), Operation()
        operation.step = step

    async def main() -> None:
        for _ in range(BATCH + 1):
            start(full, sending(b"x"), owner)
        start(lone, operation, owner)
        port.inner.unblock()
        ends = bulk_ends.OwnerEnds(owner, 995, "left", [full, lone])
        ends.begin()
        assert ends.is_ending
        before = len(port.calls), step.attempts
        lone.drain(1 << 20)
        assert not ends.is_ending
        assert (len(port.calls), step.attempts) == before
        while len(owner.endings) < BATCH + 2:
            await trio.lowlevel.checkpoint()

    trio.run(main)
    assert port.accepted == b""


def test_a_step_in_the_middle_of_which_its_owner_leaves_makes_no_more_calls() -> None:
    """The turn of its queue comes later, and a step does not look at owners again."""
    owner = RecordingOwner()
    port = SpyPort([Blocked()])
    port.refills = True
    full = SendQueue(SpyPort([Blocked()]), refuse_torn=True)
    queue, operation = SendQueue(port, refuse_torn=True), sending(ten("struck"))

    def leave(_: object) -> None:
        port.on_call = None
        bulk_ends.OwnerEnds(owner, ABORTED, "left", [full, queue]).begin()
        assert len(owner.endings) == BATCH

    async def main() -> None:
        for _ in range(BATCH + 1):
            start(full, sending(b"x"), owner)
        start(queue, operation, owner)
        port.inner.unblock()
        port.inner.add(4, 6)
        port.on_call = leave
        queue.drain(1 << 20)
        while len(owner.endings) < BATCH + 2:
            await trio.lowlevel.checkpoint()

    trio.run(main)
    assert port.accepted == ten("struck")[:4]
    assert (operation.code, operation.detail, operation.transferred) == (ABORTED, "left", 4)
    assert bulk_ends.ENDING_OWNERS == []


def test_a_start_in_a_queue_that_was_not_told_is_not_stopped() -> None:
    # Under FINISH_STARTED the owner may start more, and it is only what was there that ends.
    owner = RecordingOwner()
    queues = [
        SendQueue(SpyPort([Blocked()]), refuse_torn=True),
        SendQueue(SpyPort([1, Blocked()]), refuse_torn=True),
    ]
    late = sending(b"late")

    async def main() -> None:
        for queue in queues:
            for _ in range(BATCH + 1):
                start(queue, sending(b"xyz"), owner)
        bulk_ends.OwnerEnds(owner, 995, "left", queues, spare_started=True).begin()
        assert start(queues[1], late, owner)
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert len(owner.endings) == BATCH + 1 + BATCH
        started = queues[1].head
        assert started is not None
        assert started.transferred == 1
        assert started.next is late

    trio.run(main)


# What comes in between


async def test_a_start_in_between_waits_behind_and_is_sent() -> None:
    socket, port = scripted(Blocked())
    told = Told()
    async with open_initiator():
        async with trio.open_nursery() as nursery:
            late = told.args("late")

            async def leave() -> None:
                async with open_initiator():
                    crowd(told, socket)

            nursery.start_soon(leave)
            while not socket._core.sends.gate & ENDING:
                await trio.lowlevel.checkpoint()
            port.unblock()
            assert socket.send_async(late)
        assert await late.wait() == 10
    assert [name for name, _, _ in told.events] == [*names(), "late"]
    assert port.accepted == ten("late")


async def test_a_stop_that_is_held_is_obeyed_before_the_next_batch() -> None:
    """One that comes where Trio runs no task; what it has begun is ended before anything else is."""
    gone: list[int] = []

    class Counting(RecordingOwner):
        def ended(self, operation: Operation, queue: Any) -> None:
            super().ended(operation, queue)
            gone.append(len(owner.endings))

    owner, other = RecordingOwner(), Counting()
    queue = SendQueue(SpyPort([Blocked()]), refuse_torn=True)
    for _ in range(CROWD):
        start(queue, sending(b"x"), owner)
    late = sending(b"late")
    start(queue, late, other)
    bulk_ends.OwnerEnds(owner, ABORTED, "left", [queue]).begin()

    def stop() -> None:
        assert queue.gate & ENDING
        assert queue.request_stop(late, ABORTED, "stopped")
        assert other.endings == []
        gone.append(len(owner.endings))

    await do_between_tasks(stop)
    await wait_all_tasks_blocked()
    assert other.endings == [late]
    assert gone[0] == gone[1] < CROWD
    assert len(owner.endings) == CROWD
    assert queue.gate == 0


async def test_stops_of_single_operations_in_between() -> None:
    socket, port = scripted(Blocked())
    told = Told()
    queue = socket._core.sends
    async with open_initiator() as living, trio.open_nursery() as nursery:
        theirs, ours = [], []

        async def leave() -> None:
            async with open_initiator():
                for number in range(CROWD):
                    for name, some, initiator in (("o", ours, living), ("t", theirs, None)):
                        args = told.args(f"{name}{number}")
                        send = socket.send_async
                        assert send(args) if initiator is None else initiator.run_sync(send, args)
                        some.append(args)

        nursery.start_soon(leave)
        while not queue.gate & ENDING:
            await trio.lowlevel.checkpoint()
        # Three of those that have to end, the last among them, and two of somebody else.
        for args in (theirs[3 * BATCH], theirs[-1], theirs[CROWD // 2], ours[0], ours[-1]):
            assert args.cancel("by hand")
        while queue.gate & ENDING:
            await trio.lowlevel.checkpoint()
        assert queue.length == CROWD - 2
        port.unblock()
        for args in ours[1:-1]:
            assert await args.wait() == 10
        by_hand = [
            args
            for args in theirs
            if isinstance(args.outcome, outcome.Error) and "by hand" in str(args.outcome.error)
        ]
        assert by_hand == [theirs[3 * BATCH], theirs[CROWD // 2], theirs[-1]]
    assert bytes(port.accepted) == b"".join(ten(f"o{number}") for number in range(1, CROWD - 1))
    assert len(told.events) == 2 * CROWD
    assert len({name for name, _, _ in told.events}) == 2 * CROWD


async def test_a_close_in_between_closes_at_once_and_ends_the_others_too() -> None:
    socket, port = scripted(Blocked())
    told = Told()
    async with open_initiator() as outer, trio.open_nursery() as nursery:

        async def leave() -> None:
            async with open_initiator():
                crowd(told, socket)

        nursery.start_soon(leave)
        while not socket._core.sends.gate & ENDING:
            await trio.lowlevel.checkpoint()
        others = [told.args("other 1"), told.args("other 2")]
        for args in others:
            assert outer.run_sync(socket.send_async, args)
        socket.close()
        assert port.closed
        assert port.was_reset
        for args in others:
            await args.wait()
    told_of = [name for name, _, _ in told.events]
    assert [name for name in told_of if name.isdigit()] == names()
    assert [name for name in told_of if not name.isdigit()] == ["other 1", "other 2"]
    assert {error for _, error, _ in told.events} == {ABORTED}
    assert port.accepted == b""


@pytest.mark.parametrize("another", [False, True])
async def test_a_close_in_between_resets_only_what_would_have_gone_on(another: bool) -> None:
    socket, port = scripted(Blocked())
    told = Told()
    async with open_initiator() as outer, trio.open_nursery() as nursery:

        async def leave() -> None:
            async with open_initiator():
                crowd(told, socket)
                if another:
                    assert outer.run_sync(socket.send_async, told.args("another"))

        nursery.start_soon(leave)
        while not socket._core.sends.gate & ENDING:
            await trio.lowlevel.checkpoint()
        socket.close()
        assert port.was_reset == another


async def test_a_closed_socket_is_closed_before_all_have_ended() -> None:
    socket, port = scripted(3, Blocked())
    told = Told()
    async with open_initiator() as initiator:
        crowd(told, socket)
        socket.close()
        assert port.closed
        assert initiator.pending_operations == CROWD - BATCH
        assert initiator.statistics().aborted == BATCH
    assert [name for name, _, _ in told.events] == names()
    assert {error for _, error, _ in told.events} == {ABORTED}
    assert [count for _, _, count in told.events] == [3] + [0] * (CROWD - 1)


async def test_the_rest_of_a_cut_message_goes_behind_what_has_to_end() -> None:
    socket, port = scripted(4, Blocked())
    told = Told()
    async with open_initiator():
        all_args = crowd(told, socket)
        await wait_all_tasks_blocked()
        assert all_args[0].cancel()
        while all_args[0].pending:
            await trio.lowlevel.checkpoint()
        assert socket.queued_operations
        assert socket.resume(all_args[0])
        port.unblock()
        assert await all_args[0].wait() == 10
    assert bytes(port.accepted) == ten("0")
    assert told.events[-1] == ("0", SocketError.SUCCESS, 10)
    assert len(told.events) == CROWD + 1


async def test_awaits_behind_a_cut_message_go_on_in_their_order() -> None:
    socket, port = scripted(4, Blocked())
    again: list[int] = []

    async def send(number: int) -> None:
        with pytest.raises(SocketException) as caught:
            await socket.send(b"first")
        assert caught.value.socket_error_code is TORN
        again.append(number)

    async with open_initiator(), trio.open_nursery() as nursery:
        args = SocketAsyncEventArgs(ten("cut"))
        assert socket.send_async(args)
        for number in range(CROWD):
            nursery.start_soon(send, number)
            await wait_all_tasks_blocked()
        args.cancel()
    assert again == list(range(CROWD))
    assert bytes(port.accepted) == ten("cut")[:4]


# Owners


@pytest.mark.parametrize("policy", [ExitPolicy.FINISH_STARTED, ExitPolicy.DRAIN])
async def test_a_time_of_grace(autojump_clock: MockClock, policy: ExitPolicy) -> None:
    socket, port = scripted(4, Blocked(), 6, Blocked())
    told = Told()
    async with trio.open_nursery() as nursery:

        async def unblock() -> None:
            await trio.sleep(1)
            port.unblock()

        async with open_initiator(policy, grace=2):
            crowd(told, socket)
            nursery.start_soon(unblock)
    assert bytes(port.accepted) == ten("0")
    ends = {name: (error, count) for name, error, count in told.events}
    assert ends.pop("0") == (SocketError.SUCCESS, 10)
    assert len(ends) == CROWD - 1
    assert set(ends.values()) == {(ABORTED, 0)}
    assert len(told.events) == CROWD


async def test_what_has_to_end_is_not_handed_over() -> None:
    socket, _ = scripted(4, Blocked())
    told = Told()
    async with open_initiator() as outer:
        async with open_initiator(ExitPolicy.ADOPT):
            all_args = crowd(told, socket)
            all_args[0].cancel()
            assert outer.pending_operations == 0
            assert socket.queued_operations == CROWD - 1 - BATCH
        assert outer.pending_operations == 0
    assert [name for name, _, _ in told.events] == names()
    assert [error for _, error, _ in told.events] == [ABORTED] + [TORN] * (CROWD - 1)


async def test_handlers_that_start_once_more_are_not_told_that_they_went_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trio_send._owners.exiting_owner.MAX_ROUNDS", 6)
    monkeypatch.setattr("trio_send._owners.exiting_owner.START_BUDGET", 1)
    monkeypatch.setattr("trio_send._owners.exiting_owner.STARTS_PER_LOOK", 1)
    socket, port = scripted(Blocked())
    again: list[bool] = []

    def start_again(socket: Socket, args: SocketAsyncEventArgs) -> None:
        if args.user_token is None:
            args.user_token = "again"
            again.append(socket.send_async(args))

    async with open_initiator():
        for _ in range(10 * CROWD):
            args = SocketAsyncEventArgs(b"x")
            args.completed += start_again
            assert socket.send_async(args)
    assert len(again) == 10 * CROWD
    assert any(again)
    assert port.accepted == b""


async def test_the_end_of_a_thread_with_many_pending() -> None:
    socket, port = scripted(Blocked())
    told = Told()
    async with open_initiator() as host:

        def work() -> None:
            for number in range(CROWD):
                assert from_thread.send_async(socket, told.args(f"{number}"))

        await trio.to_thread.run_sync(work)
        while len(told.events) < CROWD:
            await trio.lowlevel.checkpoint()
        assert not host._owner.threads
    assert [name for name, _, _ in told.events] == names()
    assert {error for _, error, _ in told.events} == {ABORTED}
    assert port.accepted == b""


def test_ctrl_c_between_the_batches() -> None:
    socket, port = scripted(4, Blocked())
    told = Told()

    @trio.lowlevel.enable_ki_protection
    async def strike() -> None:
        while not socket._core.sends.gate & ENDING:
            await trio.lowlevel.checkpoint()
        signal.raise_signal(signal.SIGINT)  # it comes to the main task, which waits in the exit

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(strike)
            async with open_initiator():
                crowd(told, socket)

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main)
    assert caught.value.split(KeyboardInterrupt)[1] is None
    assert [name for name, _, _ in told.events] == names()
    assert {error for _, error, _ in told.events} == {ABORTED}
    assert bytes(port.accepted) == ten("0")[:4]


def test_without_trio_everything_ends_at_once() -> None:
    owner = RecordingOwner()
    queue = SendQueue(SpyPort([Blocked()]), refuse_torn=True)
    operations = [sending(b"x") for _ in range(CROWD)]

    async def begin() -> None:
        for operation in operations:
            start(queue, operation, owner)

    trio.run(begin)
    queue.close(nothing)
    assert owner.endings == operations
    assert queue.length == 0


@pytest.mark.parametrize("when", ["at its end", "after it"])
@pytest.mark.parametrize("how", ["closed", "left"])
def test_where_a_run_has_no_more_tasks_everything_ends_at_once(how: str, when: str) -> None:
    """An owner has told all its queues then, and leaves what is another's."""
    owner, other = RecordingOwner(), RecordingOwner()
    queues = [SendQueue(SpyPort([Blocked()]), refuse_torn=True) for _ in range(3)]
    operations = [sending(b"x") for _ in range(CROWD)]
    strangers = [sending(b"x") for _ in queues]

    def end() -> None:
        if how == "left":
            bulk_ends.OwnerEnds(owner, ABORTED, "left", queues).begin()
        else:
            for queue in queues:
                queue.close(nothing)

    async def begin() -> None:
        for number, operation in enumerate(operations):
            start(queues[number * len(queues) // CROWD], operation, owner)
        for queue, stranger in zip(queues, strangers, strict=True):
            start(queue, stranger, other)
        if when == "at its end":
            do_at_the_end(end)

    trio.run(begin)
    if when == "after it":
        end()
    assert owner.endings == operations
    assert other.endings == ([] if how == "left" else strangers)
    assert [queue.length for queue in queues] == [1 if how == "left" else 0] * len(queues)
    assert not any(queue.gate & ENDING for queue in queues)
    assert bulk_ends.ENDING_OWNERS == []


def test_at_the_end_of_a_run_everything_ends_at_once() -> None:
    owner = RecordingOwner()
    queue = SendQueue(SpyPort([Blocked()]), refuse_torn=True)
    operations = [sending(b"x") for _ in range(CROWD)]

    @trio.lowlevel.enable_ki_protection
    async def close_when_all_is_over() -> None:
        try:
            await trio.sleep_forever()
        finally:
            queue.close(nothing)

    async def main() -> None:
        for operation in operations:
            start(queue, operation, owner)
        trio.lowlevel.spawn_system_task(close_when_all_is_over)
        await trio.lowlevel.checkpoint()

    trio.run(main)
    assert owner.endings == operations


# Everything, by chance and in turn


def test_no_order_of_events_breaks_a_promise_in_small_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk_ends, "ENDS_PER_TRIP", 1)
    report = explore(random_world, cancels=2, orders=3, limits={"inside": 1}, seeds=range(300))
    assert report.findings == ()
