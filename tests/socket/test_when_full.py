"""Hold starts to what `Socket.when_full` says: they join the queue, or are refused and told so, in every face."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.helpers import (
    BIG,
    FACES,
    args_for,
    connected,
    failure_on_the_spot,
    never_called,
    read_exactly,
    scripted,
    ten,
    unblock,
)
from tests.scripted import RecordingOwner
from trio_send import (
    ObjectDisposedError,
    SendPacketsElement,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    broadcast,
    from_thread,
    open_initiator,
)
from trio_send._messages.buffers import message_from_buffer
from trio_send._operations.operation import Operation, Step
from trio_send._operations.watermarks import OPERATION_WEIGHT as WEIGHT
from trio_send._owners.exiting_owner import START_BUDGET
from trio_send.testing import Blocked, ScriptedPort

REFUSED = SocketError.NO_BUFFER_SPACE_AVAILABLE

#: The faces that do not wait, and so can be refused.
STARTS = [face for face in FACES if not face.startswith("send") or face == "send_async"]


def fill_up(socket: Socket, size: int = 10) -> int:
    """Start sends until the queue weighs more than its mark; return how many."""
    count = 0
    while not socket.statistics().is_above_high_water:
        assert socket.send_async(SocketAsyncEventArgs(bytes(size)))
        count += 1
    return count


def full(*script: Any, is_stream: bool = True) -> tuple[Socket, ScriptedPort]:
    """A socket that refuses when it is full, which takes three operations."""
    socket, port = scripted(Blocked(), *script, is_stream=is_stream)
    socket.low_water, socket.high_water = WEIGHT + 10, 2 * (WEIGHT + 10)
    socket.when_full = "refuse"
    return socket, port


@pytest.mark.parametrize("face", STARTS)
async def test_a_start_is_refused_between_the_marks(face: str, autojump_clock: Any) -> None:
    socket, port = full(10, Blocked(), 10, Blocked(), 10)
    async with open_initiator():
        assert fill_up(socket) == 3
        assert await failure_on_the_spot(face, socket, b"x") == (REFUSED, 0)
        assert socket.queued_operations == 3
        await unblock(port)
        assert (
            socket.queued_operations == 2
        )  # not above the one mark any more, and yet not below the other
        assert await failure_on_the_spot(face, socket, b"x") == (REFUSED, 0)
        await unblock(port)
        assert socket.queued_operations == 1
        assert socket.send_async(args_for(b"x"))
        await unblock(port)
        assert socket.queued_operations == 0
    assert port.accepted == bytes(30) + b"x"


async def test_by_default_every_start_joins_the_queue(autojump_clock: Any) -> None:
    socket, port = scripted(Blocked())
    socket.low_water = socket.high_water = 0
    assert socket.when_full == "queue"
    async with open_initiator():
        for name in "abcde":
            assert socket.send_async(args_for(ten(name)))
        assert socket.queued_operations == 5
        await unblock(port)
    assert port.accepted == b"".join(map(ten, "abcde"))


async def test_the_other_ways_to_start_are_refused_too(tmp_path: Path, autojump_clock: Any) -> None:
    stream, _ = full()
    datagrams, _ = full(is_stream=False)
    async with open_initiator():
        for socket in (stream, datagrams):
            fill_up(socket)
        args = SocketAsyncEventArgs()
        args.completed += never_called
        (tmp_path / "file").write_bytes(b"data")
        args.send_packets_elements = [SendPacketsElement(tmp_path / "file")]
        assert stream.send_packets_async(args) is False
        assert (args.socket_error, args.bytes_transferred, args.pending) == (REFUSED, 0, False)

        to = SocketAsyncEventArgs(b"data")
        to.completed += never_called
        to.remote_end_point = "anybody"
        assert datagrams.send_to_async(to) is False
        assert (to.socket_error, to.bytes_transferred, to.pending) == (REFUSED, 0, False)
        with pytest.raises(SocketException) as caught:
            datagrams.begin_send_to(b"data", remote_end_point="anybody", callback=never_called)
        assert caught.value.socket_error_code is REFUSED
        assert caught.value.bytes_transferred == 0
        assert "wait_below_low_water" in str(caught.value)

        report = broadcast([stream, datagrams], b"x", max_queued_bytes=10_000_000)
        assert report.started == 0
        assert dict(report.failed) == {stream: REFUSED, datagrams: REFUSED}
        assert (stream.queued_operations, datagrams.queued_operations) == (3, 3)


async def test_what_is_refused_is_free_and_whole(autojump_clock: Any) -> None:
    socket, port = full(10, Blocked(), 20)
    async with open_initiator():
        fill_up(socket)
        args = args_for(b"data")
        assert socket.send_async(args) is False
        assert [bytes(piece) for piece in args.remaining] == [b"data"]
        await unblock(port)
        await unblock(port)
        assert socket.send_async(args) is False
        assert (args.socket_error, args.bytes_transferred) == (SocketError.SUCCESS, 4)
    assert port.accepted == bytes(30) + b"data"


async def test_a_message_of_any_length_is_let_in_where_nothing_waits(autojump_clock: Any) -> None:
    socket, port = full(Blocked())
    async with open_initiator():
        assert socket.send_async(args_for(BIG))
        assert socket.queued_bytes == len(BIG)
        assert await failure_on_the_spot("send_async", socket, b"x") == (REFUSED, 0)
        await unblock(port)
        await unblock(port)
        assert socket.queued_bytes == 0
    assert port.accepted == BIG


@pytest.mark.parametrize("face", ["send", "send args", "send_to", "send_datagrams", "send_all"])
async def test_what_a_task_awaits_is_never_refused_and_keeps_its_place(
    face: str, autojump_clock: Any
) -> None:
    socket, port = full(is_stream=face == "send_all")

    async def send(name: str) -> None:
        data = ten(name)
        if face == "send_all":
            await socket.as_stream(shared=True).send_all(data)
        elif face == "send_to":
            await socket.send_to(data, "anybody")
        elif face == "send_datagrams":
            await socket.send_datagrams([data])
        else:
            await socket.send(args_for(data) if face == "send args" else data)

    async with open_initiator(), trio.open_nursery() as nursery:
        fill_up(socket)
        for name in "abc":
            nursery.start_soon(send, name)
            await wait_all_tasks_blocked()
            assert await failure_on_the_spot("try_begin_send", socket, b"x") == (REFUSED, 0)
        assert socket.queued_operations == 6
        await unblock(port)
    assert port.accepted == bytes(30) + b"".join(map(ten, "abc"))


async def test_the_rest_of_a_cut_message_is_never_refused(autojump_clock: Any) -> None:
    """Not even where nothing may wait, for nothing is in front of it."""
    socket, port = scripted(4, Blocked())
    socket.low_water = socket.high_water = 0
    socket.when_full = "refuse"
    async with open_initiator():
        args = args_for(ten("a"))
        assert socket.send_async(args)
        assert await failure_on_the_spot("send_async", socket, b"x") == (REFUSED, 0)
        args.cancel()
        await args.wait()
        assert socket.resume(args)
        assert await failure_on_the_spot("send_async", socket, b"x") == (REFUSED, 0)
        await unblock(port)
    assert port.accepted == ten("a")


async def test_a_torn_stream_is_told_before_a_full_one(autojump_clock: Any) -> None:
    socket, _ = scripted(4, Blocked())
    socket.low_water = socket.high_water = 0
    socket.when_full = "refuse"
    async with open_initiator():
        args = args_for(ten("a"))
        assert socket.send_async(args)
        args.cancel()
        assert await failure_on_the_spot("send_async", socket, b"x") == (
            SocketError.CONNECTION_ABORTED,
            0,
        )


@pytest.mark.parametrize("way", ["cancel", "break", "marks", "policy"])
async def test_it_is_not_full_any_more_however_that_came(way: str, autojump_clock: Any) -> None:
    socket, port = full(*["EPIPE"] if way == "break" else [])
    async with open_initiator():
        started = [args_for(bytes(10)) for _ in range(3)]
        for args in started:
            assert socket.send_async(args)
        assert await failure_on_the_spot("send_async", socket, b"x") == (REFUSED, 0)
        if way == "cancel":
            for args in started[1:]:
                args.cancel()
        elif way == "break":
            await unblock(port)
            code, _ = await failure_on_the_spot("send_async", socket, b"x")
            assert code is SocketError.SHUTDOWN
            return
        elif way == "marks":
            socket.high_water = 100_000
            assert await failure_on_the_spot("send_async", socket, b"x") == (REFUSED, 0)
            socket.low_water = 50_000
        else:
            socket.when_full = "queue"
        assert socket.send_async(args_for(b"x"))


async def test_it_is_full_at_once_when_that_is_said_of_a_queue_that_is(autojump_clock: Any) -> None:
    socket, _ = scripted(Blocked())
    async with open_initiator():
        for _ in range(3):
            assert socket.send_async(args_for(bytes(10)))
        socket.when_full = "refuse"
        assert socket.send_async(args_for(bytes(10)))
        socket.low_water, socket.high_water = 0, 3 * (WEIGHT + 10)
        assert await failure_on_the_spot("send_async", socket, b"x") == (REFUSED, 0)


async def test_a_loop_over_refusals_comes_to_a_checkpoint(autojump_clock: Any) -> None:
    """As one over any other failures on the spot: one of them is answered "pending", and its end is told."""
    socket, _ = full()
    async with open_initiator():
        fill_up(socket)
        args = args_for(b"x")
        answers = 0
        while not socket.send_async(args):
            assert args.socket_error is REFUSED
            answers += 1
            assert answers <= START_BUDGET
        await args.wait()
        assert (args.socket_error, args.bytes_transferred) == (REFUSED, 0)


async def test_a_thread_is_told_at_once_or_in_the_end(autojump_clock: Any) -> None:
    """In the end where the queue was not full yet when the thread looked."""
    socket, _ = full()
    code: list[SocketError] = []

    def start_many(host: Any) -> None:
        results = [from_thread.begin_send(socket, bytes(10), host=host) for _ in range(5)]
        count, error = 0, SocketError.SUCCESS
        for result in results[3:]:
            with pytest.raises(SocketException) as told:
                from_thread.end_send(result)
            count, error = told.value.bytes_transferred or 0, told.value.socket_error_code
            assert (count, error) == (0, REFUSED)
        code.append(from_thread.try_begin_send(socket, b"x", host=host)[1])
        for result in results[:3]:
            from_thread.cancel(result)

    async with open_initiator() as host:
        await trio.to_thread.run_sync(start_many, host)
    assert code == [REFUSED]


async def test_a_start_in_the_middle_of_a_step_is_told_in_the_end(autojump_clock: Any) -> None:
    """It is answered "pending" before anybody can know; an awaited send that comes like this has its place."""
    socket, port = full()
    made: list[SocketAsyncEventArgs] = []

    async with open_initiator(), trio.open_nursery() as nursery:
        send = port.send

        def send_and_start(*arguments: Any) -> int:
            if not made:
                made.extend(args_for(ten(name)) for name in "bcdefg")
                for args in made:
                    assert socket.send_async(args)
            return send(*arguments)

        socket._core.send = port.send = send_and_start  # type: ignore[method-assign]
        first = args_for(ten("a"))
        assert socket.send_async(first)
        assert [args.socket_error for args in made[2:]] == [REFUSED] * 4
        nursery.start_soon(socket.send, ten("h"))
        await unblock(port)
    assert port.accepted == b"".join(map(ten, "abch"))


@pytest.mark.parametrize("waits", [True, False])
async def test_whoever_waits_has_its_place_also_from_the_middle_of_a_step(
    waits: bool, autojump_clock: Any
) -> None:
    class Starter(RecordingOwner):
        pass

    Starter.waits = waits
    socket, port = full()
    owner, others = Starter(), [Operation() for _ in range(5)]

    def start() -> None:
        for operation in others:
            operation.message = message_from_buffer("data", ten("b"), 0, None)
            operation.claim()
            assert socket._core.sends.start(operation, owner)

    async with open_initiator():
        assert socket.send_async(args_for(ten("a")))
        socket._core.sends.request(start)
        assert socket.queued_operations == (6 if waits else 3)
        assert [each.code for each in owner.endings] == ([] if waits else [REFUSED] * 3)
        await unblock(port)
        socket._core.sends.drain(100_000)


async def test_what_is_no_send_is_never_refused(autojump_clock: Any) -> None:
    """A connect may come behind datagrams that have addresses of their own."""
    socket, _ = full(is_stream=False)
    async with open_initiator():
        fill_up(socket)
        operation = Operation()
        assert socket._core.sends.refusal(operation, False) is not None
        operation.step = Step()
        assert socket._core.sends.refusal(operation, False) is None


async def test_senders_that_wait_and_senders_that_are_refused_share_one_order() -> None:
    """Whoever was told that its message is sent, finds it with the peer, in the order of the starts."""
    size, count = 4096, 200
    with connected("unix") as (socket, peer):
        socket.low_water, socket.high_water = 4 * size, 8 * size
        socket.when_full = "refuse"
        started: list[int] = []
        refused = 0

        def message(number: int) -> bytes:
            return number.to_bytes(4, "big") * (size // 4)

        async def waits() -> None:
            for number in range(0, count, 2):
                started.append(number)
                await socket.send(message(number))

        async def starts() -> None:
            nonlocal refused
            for number in range(1, count, 2):
                while True:
                    result, error = socket.try_begin_send(message(number))
                    if result is not None:
                        started.append(number)
                        break
                    assert error is REFUSED
                    refused += 1
                    await socket.wait_below_low_water()
                await trio.lowlevel.checkpoint()

        async with open_initiator() as initiator, trio.open_nursery() as nursery:
            nursery.start_soon(waits)
            nursery.start_soon(starts)
            await wait_all_tasks_blocked()
            got = await read_exactly(peer, count * size)
            await wait_all_tasks_blocked()
            assert initiator.pending_operations == 0
        assert refused
        assert sorted(started) == list(range(count))
        assert got == b"".join(map(message, started))


async def test_it_is_set_to_one_of_two_words(autojump_clock: Any) -> None:
    socket, _ = scripted()
    with pytest.raises(ValueError, match="when_full must be one of 'queue', 'refuse', not 'wait'"):
        socket.when_full = "wait"  # type: ignore[assignment]
    assert socket.when_full == "queue"
    socket.when_full = "refuse"
    assert socket.when_full == "refuse"
    socket.close()
    with pytest.raises(ObjectDisposedError):
        socket.when_full = "queue"
    assert socket.when_full == "refuse"


# The memory -------------------------------------------------------------------------------------

#: What a program does, 1,000,000 times in all, that never waits for its peer.
ONE_START: dict[str, str] = {
    "send_async": "socket.send_async(SocketAsyncEventArgs(b'x'))",
    "try_begin_send": "socket.try_begin_send(b'x')",
}

PROGRAM = """
    import resource, sys, trio
    from trio_send import SocketAsyncEventArgs, open_initiator, socketpair

    async def main():
        socket, peer = socketpair()
        socket.when_full = "refuse"
        async with open_initiator() as initiator:
            def start(count):
                for _ in range(count):
                    {start}
            start(1000)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            start({count})
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(after - before, socket.queued_operations)
            initiator.cancel_scope.cancel()
        socket.close()
        peer.close()

    trio.run(main)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no resource module")
@pytest.mark.parametrize("face", ONE_START)
def test_starts_without_end_against_a_stopped_peer_take_no_memory(face: str) -> None:
    """A tenth of a million here; the whole million grows by as little, and takes ten times as long."""
    program = textwrap.dedent(PROGRAM).format(start=ONE_START[face], count=100_000)
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    grown, queued = map(int, ran.stdout.split())
    unit = 1 if sys.platform == "darwin" else 1024
    assert grown * unit < 10_000_000
    assert 100 < queued < 1000
