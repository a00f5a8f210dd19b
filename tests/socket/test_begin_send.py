"""Hold the begin/end face to what it says: results, callbacks, wait handles, and the call that takes the count.

Modules: _socket.async_result, _socket.results.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from typing import Any

import pytest
import trio
from outcome import Value
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from tests.helpers import (
    BIG,
    Ends,
    bytes_of,
    connected,
    ends as ends,
    is_taken,
    kind as kind,
    nothing_to_read,
    read_exactly,
    read_to_end,
    tcp as tcp,
)
from trio_send import (
    AsyncResult,
    InvalidOperationError,
    ManualResetEvent,
    ObjectDisposedError,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    WaitHandle,
    from_thread,
    open_initiator,
)
from trio_send._owners.exiting_owner import START_BUDGET
from trio_send._socket import async_result as async_result_module
from trio_send.testing import Blocked, ScriptedPort


async def end(socket: Socket, result: AsyncResult, how: str) -> int | SocketError:
    """Take a result in one of the four ways; return the count, or the error of the ways that raise none."""
    if how == "end_send":
        return await socket.end_send(result)
    if how == "end_send_nowait":
        return socket.end_send_nowait(result)
    if how == "try_end_send":
        count, error = await socket.try_end_send(result)
    else:
        count, error = socket.try_end_send_nowait(result)
    return error or count


WAITING = ("end_send", "try_end_send")
ALL_ENDS = (*WAITING, "end_send_nowait", "try_end_send_nowait")

every_end = pytest.mark.parametrize("how", ALL_ENDS)


# Results --------------------------------------------------------------------------------------


@pytest.mark.page("B11", "B12", "B43")
@pytest.mark.fact("F009", "F041", "F062", "F071")
async def test_a_send_that_ended_on_the_spot(ends: Ends) -> None:
    """Everything can be read at once, before the result is taken and after."""
    socket, peer = ends
    state = object()
    async with open_initiator():
        for how in ALL_ENDS:
            result = socket.begin_send(b"hello", state=state)
            for _ in range(2):
                assert result.completed_synchronously
                assert result.is_completed
                assert result.async_state is state  # F009
                assert result.bytes_transferred == 5
                assert result.remaining == []
                assert result.outcome is not None
                assert result.outcome.unwrap() == 5
                assert result.cancel() is False
                assert await result.async_wait_handle.wait_one(0)
                if not is_taken(result):
                    assert await end(socket, result, how) == 5
            assert await read_exactly(peer, 5) == b"hello"


@pytest.mark.page("B02", "B11", "B22", "B24")
@pytest.mark.fact("F009", "F060", "F062")
async def test_a_pending_send(ends: Ends) -> None:
    """It can be watched while it goes on, by its count too."""
    socket, peer = ends
    async with open_initiator():
        for how in ALL_ENDS:
            result = socket.begin_send(BIG)
            assert not result.completed_synchronously
            assert not result.is_completed
            assert result.outcome is None
            assert result.async_state is None  # F009
            assert 0 <= result.bytes_transferred < len(BIG)
            sent = result.bytes_transferred
            assert b"".join(result.remaining) == BIG[sent:]
            assert await read_exactly(peer, len(BIG)) == BIG
            await result.async_wait_handle.wait_one()
            assert result.is_completed
            assert not result.completed_synchronously  # F060
            assert result.outcome is not None
            assert result.outcome.unwrap() == len(BIG)
            assert result.outcome.unwrap() == len(BIG)  # each reading makes another
            assert await end(socket, result, how) == len(BIG)
    assert nothing_to_read(peer)


@pytest.mark.page("B28")
@pytest.mark.fact("F040", "F041")
@pytest.mark.parametrize("how", WAITING)
async def test_the_end_waits_for_the_operation(ends: Ends, how: str) -> None:
    """F040."""
    socket, peer = ends
    log: list[Any] = []
    async with open_initiator(), trio.open_nursery() as nursery:
        result = socket.begin_send(BIG)

        @nursery.start_soon
        async def _() -> None:
            log.append(await end(socket, result, how))

        await wait_all_tasks_blocked()
        assert log == []
        assert await read_exactly(peer, len(BIG)) == BIG
        await wait_all_tasks_blocked()
        assert log == [len(BIG)]


@pytest.mark.parametrize("how", WAITING)
async def test_the_end_is_always_a_checkpoint(ends: Ends, how: str) -> None:
    """For an operation that has ended, and for a result that was taken, too."""
    socket, _ = ends
    async with open_initiator():
        result = socket.begin_send(b"x")
        with assert_checkpoints():
            await end(socket, result, how)
        with assert_checkpoints(), pytest.raises(InvalidOperationError):
            await end(socket, result, how)


@pytest.mark.page("B28")
@pytest.mark.parametrize("how", ALL_ENDS[2:])
async def test_the_end_that_never_waits_says_so_while_the_send_is_pending(
    ends: Ends, how: str
) -> None:
    socket, peer = ends
    async with open_initiator():
        result = socket.begin_send(BIG)
        for _ in range(2):
            with pytest.raises(trio.WouldBlock):
                await end(socket, result, how)
        assert await read_exactly(peer, len(BIG)) == BIG
        await result.async_wait_handle.wait_one()
        assert await end(socket, result, how) == len(BIG)


@pytest.mark.fact("F060", "F062")
async def test_what_was_synchronous_can_be_taken_at_once_however_many_sends_are_begun() -> None:
    """A caller that never waits is paced, and one that looks at nothing else has to be able to rely on it (F062)."""
    with closing(Socket.from_port(ScriptedPort())) as socket:  # takes everything at once
        async with open_initiator():
            for callback in (None, lambda _: None):
                paced = 0
                for number in range(2000):
                    result = socket.begin_send(b"x", callback=callback)
                    assert result.bytes_transferred == 1
                    assert result.cancel() is False
                    assert result.completed_synchronously == result.is_completed, number
                    if result.completed_synchronously:
                        assert result.outcome == Value(1), number
                        assert socket.end_send_nowait(result) == 1
                    else:
                        paced += 1
                        assert result.outcome is None
                        with pytest.raises(trio.WouldBlock):
                            socket.end_send_nowait(result)
                        assert await socket.end_send(result) == 1
                # The second round begins with what the first has left of its budget.
                assert paced in (2000 // (START_BUDGET + 1), 2000 // START_BUDGET + 1)


@pytest.mark.fact("F053", "F054")
async def test_a_failure_is_raised_by_begin_but_for_one_in_many() -> None:
    """begin_send raises what failed on the spot: nothing is left to end then (F053, F054).

    Only a caller that fails again and again, and would keep all others waiting for it, is paced like any other.
    """
    async with open_initiator():
        with closing(Socket()) as socket:
            for _ in range(3):
                for number in range(START_BUDGET):
                    result, error = socket.try_begin_send(b"x")
                    assert (result, error) == (None, SocketError.NOT_CONNECTED), number
                result, error = socket.try_begin_send(b"x")
                assert result is not None
                assert error is SocketError.SUCCESS
                assert not result.is_completed
                assert await socket.try_end_send(result) == (0, SocketError.NOT_CONNECTED)
                for _ in range(START_BUDGET):
                    with pytest.raises(SocketException):
                        socket.begin_send(b"x")
                result = socket.begin_send(b"x")
                with pytest.raises(SocketException):
                    await socket.end_send(result)


@pytest.mark.fact("F038", "F045")
@every_end
async def test_a_result_can_be_taken_once(ends: Ends, how: str) -> None:
    """F038; a second try leaves it as it was, and so does one while the first still waits."""
    socket, peer = ends
    async with open_initiator():
        done = socket.begin_send(b"x")
        assert socket.end_send_nowait(done) == 1
        for _ in range(2):
            with pytest.raises(InvalidOperationError, match=r"^the end method was called"):
                await end(socket, done, how)
        assert done.bytes_transferred == 1
        assert done.is_completed
        assert done.outcome is not None
        assert done.outcome.unwrap() == 1
    assert await read_exactly(peer, 1) == b"x"


async def test_of_two_tasks_that_wait_for_the_same_result_one_gets_it(ends: Ends) -> None:
    socket, peer = ends
    log: list[Any] = []
    async with open_initiator(), trio.open_nursery() as nursery:
        result = socket.begin_send(BIG)

        async def take() -> None:
            try:
                log.append(await socket.end_send(result))
            except InvalidOperationError as error:
                log.append(type(error))

        nursery.start_soon(take)
        nursery.start_soon(take)
        await wait_all_tasks_blocked()
        assert await read_exactly(peer, len(BIG)) == BIG
    assert sorted(log, key=str) == sorted([len(BIG), InvalidOperationError], key=str)


@pytest.mark.fact("F033", "F034", "F035", "F045")
@every_end
async def test_what_is_no_result_of_a_send_on_this_socket(ends: Ends, how: str) -> None:
    """F033 to F035. The result of somebody else can still be taken by whom it belongs to."""
    socket, peer = ends
    with connected("unix") as (other, other_peer), closing(Socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        async with open_initiator():
            with pytest.raises(TypeError, match=r"^ar is None"):
                await end(socket, None, how)  # type: ignore[arg-type]
            for foreign in (object(), SocketAsyncEventArgs(b"x"), 5):
                with pytest.raises(ValueError, match=r"^ar must be what the begin method returned"):
                    await end(socket, foreign, how)  # type: ignore[arg-type]
            done, pending = other.begin_send(b"x"), other.begin_send(BIG)
            for result in (done, pending):
                with pytest.raises(ValueError, match=r"^ar is the result of .* another socket"):
                    await end(socket, result, how)
            accepted = listener.begin_accept()
            with pytest.raises(ValueError, match=r"^ar is the result of ACCEPT, not of SEND"):
                await end(listener, accepted, how)
            with pytest.raises(ValueError, match=r"^ar is the result of SEND, not of ACCEPT"):
                await other.end_accept(done)
            with pytest.raises(ValueError, match=r"^ar is the result of SEND, not of CONNECT"):
                await other.end_connect(pending)
            assert not pending.is_completed
            assert not accepted.is_completed
            assert await read_exactly(other_peer, len(BIG) + 1) == b"x" + BIG
            assert await other.end_send(done) == 1
            assert await other.end_send(pending) == len(BIG)
        assert nothing_to_read(peer)


@pytest.mark.parametrize("how", WAITING)
async def test_cancelling_the_wait_leaves_the_operation_alone(ends: Ends, how: str) -> None:
    """The operation belongs to its initiator, and the result can still be taken."""
    socket, peer = ends
    called: list[AsyncResult] = []
    async with open_initiator():
        result = socket.begin_send(BIG, callback=called.append)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end, socket, result, how)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert not result.is_completed
        with trio.CancelScope() as scope:
            scope.cancel()
            await result.async_wait_handle.wait_one()
        assert scope.cancelled_caught
        assert await read_exactly(peer, len(BIG)) == BIG
        assert await end(socket, result, how) == len(BIG)
        await wait_all_tasks_blocked()
        assert called == [result]
        assert socket.torn is None


@pytest.mark.fact("F032", "F042", "F045", "F207")
async def test_results_outlive_their_socket(ends: Ends) -> None:
    """They stay readable; one that was aborted raises 995 with its exact count (F032, F207)."""
    socket, peer = ends
    async with open_initiator():
        done = socket.begin_send(b"x")
        aborted = [socket.begin_send(BIG) for _ in ALL_ENDS]
        await wait_all_tasks_blocked()
        socket.close(reset=False)
        counts = [result.bytes_transferred for result in aborted]
        assert counts[0] > 0
        assert counts[1:] == [0, 0, 0]
        assert socket.end_send_nowait(done) == 1
        for index, result in enumerate(aborted[:2]):
            with pytest.raises(SocketException) as caught:
                await socket.end_send(result)
            assert caught.value.socket_error_code is SocketError.OPERATION_ABORTED
            assert caught.value.error_code == 995
            assert caught.value.bytes_transferred == counts[index]
            assert result.bytes_transferred == counts[index]
            assert b"".join(result.remaining) == BIG[counts[index] :]
            assert result.is_completed
            assert result.outcome is not None
            with pytest.raises(SocketException):
                result.outcome.unwrap()
        aborted_code = SocketError.OPERATION_ABORTED
        assert await socket.try_end_send(aborted[2]) == (0, aborted_code)
        assert socket.try_end_send_nowait(aborted[3]) == (0, aborted_code)
    # Everything that was counted was accepted, and is delivered.
    assert await read_to_end(peer) == b"x" + BIG[: counts[0]]


@pytest.mark.fact("F043", "F044")
@pytest.mark.parametrize("how", ["try_end_send", "try_end_send_nowait"])
async def test_the_forms_that_return_errors_return_the_exact_count_too(
    ends: Ends, how: str
) -> None:
    """Unlike .NET's, which gives 0 for a failure (F043)."""
    socket, peer = ends
    async with open_initiator():
        result = socket.begin_send(BIG)
        await wait_all_tasks_blocked()
        count = result.bytes_transferred
        assert count > 0
        assert result.cancel() is True
        await result.async_wait_handle.wait_one()
        if how == "try_end_send":
            answer = await socket.try_end_send(result)
        else:
            answer = socket.try_end_send_nowait(result)
        assert answer == (count, SocketError.OPERATION_ABORTED)
    assert await read_exactly(peer, count) == BIG[:count]
    assert nothing_to_read(peer)


@pytest.mark.fact("F225")
async def test_a_result_can_be_cancelled_and_says_why(ends: Ends) -> None:
    socket, peer = ends
    async with open_initiator():
        first = socket.begin_send(BIG)
        behind = socket.begin_send(b"behind")
        assert behind.cancel("no longer needed") is True
        assert behind.cancel() is False
        with pytest.raises(SocketException, match=r"no longer needed$") as caught:
            await socket.end_send(behind)
        assert caught.value.socket_error_code is SocketError.OPERATION_ABORTED
        assert caught.value.bytes_transferred == 0
        assert await read_exactly(peer, len(BIG)) == BIG
        assert await socket.end_send(first) == len(BIG)
        assert first.cancel() is False
    assert nothing_to_read(peer)


async def test_of_what_ended_on_the_spot_a_thread_finds_nothing_to_stop() -> None:
    with closing(Socket.from_port(ScriptedPort())) as socket:
        async with open_initiator():
            result = socket.begin_send(b"hello")
            assert result.completed_synchronously
            await trio.to_thread.run_sync(from_thread.cancel, result)
            assert result.outcome == Value(5)
            assert socket.end_send_nowait(result) == 5


async def test_the_text_of_a_result(tcp: Ends) -> None:
    socket, peer = tcp
    async with open_initiator():
        result = socket.begin_send(b"hello")
        assert repr(result) == "<AsyncResult: SEND, SUCCESS, 5 of 5 bytes accepted>"
        result = socket.begin_send(BIG)
        assert repr(result).startswith("<AsyncResult: SEND, pending, ")
        assert await read_exactly(peer, len(BIG) + 5)


# Callbacks ------------------------------------------------------------------------------------


@pytest.mark.page("B10", "B23")
@pytest.mark.fact("F064", "F066", "F072", "F191", "F198")
async def test_callbacks_come_once_each_in_order_and_never_from_inside(ends: Ends) -> None:
    """Also for sends that ended on the spot, which come in one row with the others (F072, F191)."""
    socket, peer = ends
    called: list[Any] = []

    def callback(result: AsyncResult) -> None:
        assert result.is_completed  # F066
        called.append(result.async_state)

    sizes = [10, 20, 0, 300_000, 1, 0, 70_000, 5]
    messages = [bytes_of(size, seed) for seed, size in enumerate(sizes)]
    async with open_initiator():
        results = []
        for number, message in enumerate(messages):
            results.append(socket.begin_send(message, callback=callback, state=number))
            assert called == []
        synchronous = [result.completed_synchronously for result in results]
        assert synchronous[:3] == [True, True, True]
        assert not any(synchronous[3:])
        await wait_all_tasks_blocked()
        assert called == [0, 1, 2]
        assert await read_exactly(peer, sum(sizes)) == b"".join(messages)
        await wait_all_tasks_blocked()
        assert called == list(range(len(sizes)))
        assert [socket.end_send_nowait(result) for result in results] == sizes
    assert called == list(range(len(sizes)))


@pytest.mark.page("B23", "B27")
async def test_a_callback_takes_the_result_and_begins_the_next_send(ends: Ends) -> None:
    """The classic chain, on the spot and pending alike; the next is begun by the last (F075)."""
    socket, peer = ends
    messages = [b"first", BIG, b"", b"x", BIG[:100_000]]
    counts: list[int] = []
    finished = trio.Event()

    def callback(result: AsyncResult) -> None:
        counts.append(socket.end_send_nowait(result))
        number = result.async_state + 1
        if number == len(messages):
            finished.set()
        else:
            socket.begin_send(messages[number], callback=callback, state=number)

    async with open_initiator():
        socket.begin_send(messages[0], callback=callback, state=0)
        assert counts == []
        whole = b"".join(messages)
        assert await read_exactly(peer, len(whole)) == whole
        await finished.wait()
    assert counts == [len(message) for message in messages]


@pytest.mark.page("B10", "B27", "B28")
@pytest.mark.fact("F069")
async def test_an_asynchronous_callback_awaits_the_end(ends: Ends) -> None:
    """It runs as a task, so it may wait for something else of the initiator's too."""
    socket, peer = ends
    log: list[Any] = []
    release = trio.Event()

    async def callback(result: AsyncResult) -> None:
        log.append(("called", result.async_state))
        count = await socket.end_send(result)
        await release.wait()
        log.append((result.async_state, count))

    async with open_initiator():
        socket.begin_send(b"small", callback=callback, state="small")
        socket.begin_send(BIG, callback=callback, state="big")
        assert log == []
        assert await read_exactly(peer, len(BIG) + 5) == b"small" + BIG
        await wait_all_tasks_blocked()
        assert log == [("called", "small"), ("called", "big")]
        release.set()  # and leaving waits for the callbacks
    assert sorted(log[2:]) == [("big", len(BIG)), ("small", 5)]


@pytest.mark.fact("F008")
async def test_no_callback_is_needed(ends: Ends) -> None:
    """F008."""
    socket, peer = ends
    async with open_initiator():
        result = socket.begin_send(BIG)
        assert await read_exactly(peer, len(BIG)) == BIG
        assert await socket.end_send(result) == len(BIG)


@pytest.mark.fact("F207")
async def test_a_callback_is_called_for_an_operation_that_was_aborted(ends: Ends) -> None:
    """F207."""
    socket, _ = ends
    seen: list[tuple[int, SocketError]] = []
    async with open_initiator():
        socket.begin_send(BIG, callback=lambda r: seen.append(socket.try_end_send_nowait(r)))
        socket.begin_send(b"x", callback=lambda r: seen.append(socket.try_end_send_nowait(r)))
        assert seen == []
        socket.close()
        assert seen == []
    assert [error for _, error in seen] == [SocketError.OPERATION_ABORTED] * 2
    assert seen[0][0] > 0
    assert seen[1][0] == 0


@pytest.mark.fact("F068")
async def test_the_end_in_another_task_comes_before_a_callback_is_over(ends: Ends) -> None:
    """F068."""
    socket, peer = ends
    release = trio.Event()
    log: list[str] = []

    async def callback(result: AsyncResult) -> None:
        await release.wait()
        log.append("callback over")

    async with open_initiator():
        result = socket.begin_send(BIG, callback=callback)
        assert await read_exactly(peer, len(BIG)) == BIG
        assert await socket.end_send(result) == len(BIG)
        log.append("end over")
        release.set()
    assert log == ["end over", "callback over"]


@pytest.mark.page("B48")
@pytest.mark.fact("F270")
async def test_a_callback_runs_in_the_context_of_its_begin(ends: Ends) -> None:
    """Captured anew by each begin, whatever the callback (F270)."""
    socket, peer = ends
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[str] = []

    def callback(_: AsyncResult) -> None:
        seen.append(variable.get("nothing"))
        variable.set("set by a callback")

    async def async_callback(_: AsyncResult) -> None:
        seen.append(variable.get("nothing"))

    async with open_initiator():
        for value, message, function in (
            ("one", b"x", callback),
            ("two", BIG, callback),
            ("three", b"y", callback),
            ("four", b"z", async_callback),
        ):
            variable.set(value)
            socket.begin_send(message, callback=function)
        variable.set("later")
        assert await read_exactly(peer, len(BIG) + 3)
        await wait_all_tasks_blocked()
    assert seen == ["one", "two", "three", "four"]
    assert variable.get() == "later"


# Failures on the spot -------------------------------------------------------------------------


@pytest.mark.page("B14", "B21", "B39", "B40")
@pytest.mark.fact("F011", "F053", "F072")
async def test_a_failure_on_the_spot_is_raised_and_calls_nobody() -> None:
    """With the code and 0 bytes; the other form returns it (F053)."""
    called: list[AsyncResult] = []
    async with open_initiator() as initiator:
        with closing(Socket()) as socket:
            with pytest.raises(SocketException) as caught:
                socket.begin_send(b"x", callback=called.append)
            assert caught.value.socket_error_code is SocketError.NOT_CONNECTED
            assert caught.value.error_code == 10057
            assert caught.value.bytes_transferred == 0
            answer = socket.try_begin_send(b"x", callback=called.append)
            assert answer == (None, SocketError.NOT_CONNECTED)
        assert initiator.pending_operations == 0
        await wait_all_tasks_blocked()
    assert called == []


@pytest.mark.page("B09")
@pytest.mark.fact("F052")
async def test_the_form_that_returns_errors_never_says_pending(ends: Ends) -> None:
    """SUCCESS, whether the send has ended on the spot or is pending (F052)."""
    socket, peer = ends
    async with open_initiator():
        for data in (b"x", BIG, b"y"):
            result, error = socket.try_begin_send(data)
            assert error is SocketError.SUCCESS
            assert isinstance(result, AsyncResult)
        assert await read_exactly(peer, len(BIG) + 2) == b"x" + BIG + b"y"


@pytest.mark.page("B13", "B15", "B16", "B17", "B18", "B19")
@pytest.mark.fact("F001", "F003", "F004", "F005", "F006", "F007")
@pytest.mark.parametrize("try_", [False, True])
async def test_the_order_of_the_checks(ends: Ends, try_: bool) -> None:
    """Closed, then buffer, offset, size, then the connection (F001 to F007); the parameter is named."""
    socket, peer = ends
    not_connected = Socket()
    begin: Any = lambda which, *args: (which.try_begin_send if try_ else which.begin_send)(*args)  # noqa: E731
    async with open_initiator():
        for which in (socket, not_connected):
            for arguments, kind, sentence in (
                ((None, -1, -1), TypeError, r"^buffer_or_list is None"),
                ((5, -1, -1), TypeError, r"^buffer_or_list must be a bytes-like object"),
                ((b"abc", -1, -1), ValueError, r"^offset is -1, but must be from 0 to 3"),
                ((b"abc", 4, 9), ValueError, r"^offset is 4, but must be from 0 to 3"),
                ((b"abc", 1, -1), ValueError, r"^size is -1, but must be from 0 to 2"),
                ((b"abc", 1, 3), ValueError, r"^size is 3, but must be from 0 to 2"),
                ((b"abc", 3, 1), ValueError, r"^size is 1, but must be from 0 to 0"),
            ):
                with pytest.raises(kind, match=sentence):
                    begin(which, *arguments)
        if not try_:
            with pytest.raises(SocketException):
                begin(not_connected, b"abc", 3, 0)
        assert socket.queued_operations == 0
        assert nothing_to_read(peer)
        begin(socket, b"abc", 3, 0)  # F005
        not_connected.close()
        for arguments in ((None, -1, -1), (b"abc", 4, 9), (b"abc", 1, 1)):
            with pytest.raises(ObjectDisposedError):
                begin(not_connected, *arguments)
    with pytest.raises(ValueError, match=r"^offset"):
        begin(socket, b"abc", 4)
    with pytest.raises(InvalidOperationError, match=r"^no initiator is open here"):
        begin(socket, b"abc")
    assert nothing_to_read(peer)


@pytest.mark.page("B05")
@pytest.mark.fact("F022")
async def test_lists(ends: Ends) -> None:
    """One message, one result (F022)."""
    socket, peer = ends
    counts: list[int] = []
    async with open_initiator():
        result = socket.begin_send(
            [b"he", bytearray(), memoryview(b"llo")],
            callback=lambda r: counts.append(socket.end_send_nowait(r)),
        )
        assert result.completed_synchronously
        result = socket.begin_send((BIG, b"tail"))
        assert await read_exactly(peer, 5 + len(BIG) + 4) == b"hello" + BIG + b"tail"
        assert await socket.end_send(result) == len(BIG) + 4
    assert counts == [5]


# Wait handles ---------------------------------------------------------------------------------


@pytest.mark.fact("F067", "F070")
async def test_the_handle_is_one_object_set_before_the_callback_is_called(ends: Ends) -> None:
    """F067, F070."""
    socket, peer = ends
    log: list[str] = []

    def callback(result: AsyncResult) -> None:
        log.append(repr(result.async_wait_handle))

    async with open_initiator():
        result = socket.begin_send(BIG, callback=callback)
        handle = result.async_wait_handle
        assert isinstance(handle, WaitHandle)
        assert result.async_wait_handle is handle
        assert await handle.wait_one(0) is False
        assert repr(handle) == "<WaitHandle: not set, 0 waiting>"
        assert await read_exactly(peer, len(BIG)) == BIG
        assert await handle.wait_one() is True
        assert await handle.wait_one(0) is True  # it stays set
        assert result.async_wait_handle is handle
        assert repr(handle) == "<WaitHandle: set, 0 waiting>"
        await wait_all_tasks_blocked()
        assert log == ["<WaitHandle: set, 0 waiting>"]


@pytest.mark.fact("F071")
@pytest.mark.parametrize("with_callback", [False, True])
async def test_a_handle_asked_for_after_the_end_is_set_already(
    ends: Ends, with_callback: bool
) -> None:
    """F071; in particular at once after a send that ended on the spot."""
    socket, peer = ends
    callback = (lambda _: None) if with_callback else None
    async with open_initiator():
        result = socket.begin_send(b"x", callback=callback)
        assert result.is_completed
        assert "WaitHandle: set" in repr(result.async_wait_handle)
        assert await result.async_wait_handle.wait_one(0)
        result = socket.begin_send(BIG, callback=callback)
        assert await read_exactly(peer, len(BIG) + 1)
        await wait_all_tasks_blocked()
        assert "WaitHandle: set" in repr(result.async_wait_handle)


class Overtaken:
    """A lock that another thread takes and gives back first.

    Args:
      lock: the lock.
      call: what that thread does meanwhile.
    """

    def __init__(self, lock: AbstractContextManager[bool], call: Callable[[], object]) -> None:
        self._lock = lock
        self._call: Callable[[], object] | None = call

    def __enter__(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
        self._lock.__enter__()

    def __exit__(self, *error: object) -> None:
        self._lock.__exit__(*error)  # type: ignore[arg-type]


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "pending"])
async def test_two_threads_that_ask_for_the_handle_at_once_are_given_one(
    ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two, one would never be set."""
    port = ScriptedPort() if ended else ScriptedPort([Blocked()])
    handles: list[WaitHandle] = []
    with closing(Socket.from_port(port)) as socket:
        async with open_initiator():
            result = socket.begin_send(b"hello")
            assert result.completed_synchronously is ended
            lock = Overtaken(
                async_result_module.LOCK, lambda: handles.append(result.async_wait_handle)
            )
            monkeypatch.setattr(async_result_module, "LOCK", lock)
            handles.append(result.async_wait_handle)
            assert len(handles) == 2
            assert handles[0] is handles[1] is result.async_wait_handle
            assert await handles[0].wait_one(0) is ended
            port.unblock()
            assert await handles[0].wait_one() is True
            assert socket.end_send_nowait(result) == 5


@pytest.mark.page("B29")
async def test_any_number_of_tasks_wait_for_a_handle(ends: Ends) -> None:
    socket, peer = ends
    log: list[bool] = []
    async with open_initiator(), trio.open_nursery() as nursery:
        handle = socket.begin_send(BIG).async_wait_handle

        async def wait() -> None:
            log.append(await handle.wait_one())

        for _ in range(3):
            nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert repr(handle) == "<WaitHandle: not set, 3 waiting>"
        assert log == []
        assert await read_exactly(peer, len(BIG)) == BIG
    assert log == [True] * 3


@pytest.mark.page("B29")
async def test_a_handle_waits_no_longer_than_it_is_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """And never longer than it has to."""
    port = ScriptedPort([Blocked(5)])
    with closing(Socket.from_port(port)) as socket:
        async with open_initiator():
            began = trio.current_time()
            result = socket.begin_send(b"hello")
            assert await result.async_wait_handle.wait_one(2) is False
            assert trio.current_time() == began + 2
            assert not result.is_completed
            assert await result.async_wait_handle.wait_one(10) is True
            assert trio.current_time() == began + 5
            assert socket.end_send_nowait(result) == 5


@pytest.mark.page("B25", "B26", "B30")
@pytest.mark.fact("F294")
async def test_the_classic_client_program(ends: Ends) -> None:
    """An event for each phase, set in the callback, waited for by the main task (F294)."""
    socket, peer = ends
    send_done = ManualResetEvent()
    sent: list[int] = []

    class State:
        def __init__(self, socket: Socket) -> None:
            self.socket = socket

    def on_sent(result: AsyncResult) -> None:
        state: State = result.async_state
        sent.append(state.socket.end_send_nowait(result))
        send_done.set()

    async with open_initiator(), trio.open_nursery() as nursery:
        nursery.start_soon(read_exactly, peer, len(BIG))
        socket.begin_send(BIG, 0, len(BIG), callback=on_sent, state=State(socket))
        assert await send_done.wait_one()
    assert sent == [len(BIG)]
