"""Hold every wait on a socket that somebody closes to one kind of error, whatever the moment of the close."""

from __future__ import annotations

import copy
import errno
import pickle
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.connections import full
from tests.helpers import BIG, stdlib_pair
from trio_send import (
    ObjectDisposedError,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    from_thread,
    open_initiator,
)

#: Every coroutine that waits for a socket, or meets one that was closed before.
WAITS: dict[str, Callable[[Socket, Any], Awaitable[object]]] = {
    "send": lambda socket, _: socket.send(BIG),
    "send a list": lambda socket, _: socket.send([BIG, BIG]),
    "send args": lambda socket, _: socket.send(SocketAsyncEventArgs(BIG)),
    "send_to": lambda socket, _: socket.send_to(BIG, ("127.0.0.1", 9)),
    "send_file": lambda socket, _: socket.send_file(__file__),
    "receive": lambda socket, _: socket.receive(),
    "receive_into": lambda socket, _: socket.receive_into(bytearray(9)),
    "wait_below_low_water": lambda socket, _: socket.wait_below_low_water(),
    "wait_acknowledged": lambda socket, _: socket.wait_acknowledged(),
    "send_all": lambda _, stream: stream.send_all(BIG),
    "receive_some": lambda _, stream: stream.receive_some(),
    "send_eof": lambda _, stream: stream.send_eof(),
    "wait_send_all_might_not_block": lambda _, stream: stream.wait_send_all_might_not_block(),
}


def require_both(error: BaseException, count: int | None = None) -> None:
    assert isinstance(error, SocketException)
    assert isinstance(error, ObjectDisposedError)
    assert isinstance(error, trio.ClosedResourceError)
    assert error.socket_error_code is SocketError.OPERATION_ABORTED
    assert error.error_code == 995
    assert error.bytes_transferred == (count or 0)
    assert "closed" in str(error)


@pytest.mark.fact("F205", "F206")
@pytest.mark.parametrize("name", WAITS)
@pytest.mark.parametrize("when", ["before", "in the same step", "while it waits"])
async def test_one_clause_meets_the_close_at_every_moment(name: str, when: str) -> None:
    if name == "wait_acknowledged" and sys.platform != "linux":
        pytest.skip("only Linux tells what was acknowledged")
    left, right = stdlib_pair("tcp4", tiny=True)
    socket = Socket.from_stdlib(left)
    stream = socket.as_stream(shared=True)
    caught: list[BaseException] = []

    async def work() -> None:
        try:
            await WAITS[name](socket, stream)
        except (SocketException, ObjectDisposedError) as error:
            caught.append(error)

    with right:
        async with open_initiator(), trio.open_nursery() as nursery:
            socket.begin_send(BIG)
            if when == "before":
                socket.close()
            nursery.start_soon(work)
            if when == "in the same step":
                await trio.lowlevel.checkpoint()
            elif when == "while it waits":
                await wait_all_tasks_blocked()
            socket.close()
    [error] = caught
    require_both(error)


@pytest.mark.parametrize("when", ["before", "while it waits"])
async def test_accepts_and_connects_meet_it_too(when: str) -> None:
    caught: list[BaseException] = []

    async def work(wait: Callable[[], Awaitable[object]]) -> None:
        try:
            await wait()
        except ObjectDisposedError as error:
            caught.append(error)

    with full() as listener:
        address = listener.getsockname()
        listening, connecting = Socket(), Socket()
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        async with trio.open_nursery() as nursery:
            if when == "before":
                listening.close()
                connecting.close()
            nursery.start_soon(work, listening.accept)
            nursery.start_soon(work, lambda: connecting.connect(address))
            await wait_all_tasks_blocked()
            listening.close()
            connecting.close()
    assert len(caught) == 2
    for error in caught:
        require_both(error)


async def test_results_and_outcomes_are_of_that_kind_and_carry_their_counts() -> None:
    left, right = stdlib_pair("unix", tiny=True)
    with right:
        socket = Socket.from_stdlib(left)
        async with open_initiator():
            args = SocketAsyncEventArgs(BIG)
            assert socket.send_async(args) is True
            result = socket.begin_send(b"behind")
            socket.close()
            await args.wait()
            assert args.outcome is not None
            with pytest.raises(ObjectDisposedError) as by_outcome:
                args.outcome.unwrap()
            with pytest.raises(ObjectDisposedError) as by_result:
                await socket.end_send(result)
    count = args.bytes_transferred
    assert 0 < count < len(BIG)
    require_both(by_outcome.value, count)
    require_both(by_result.value)
    assert f"with {count} bytes accepted" in str(by_outcome.value)


async def test_threads_meet_it_too() -> None:
    left, right = stdlib_pair("unix", tiny=True)
    with right:
        socket = Socket.from_stdlib(left)
        caught: list[BaseException] = []

        def work() -> None:
            result = from_thread.begin_send(socket, BIG)
            trio.from_thread.run_sync(socket.close)
            for call in (
                lambda: from_thread.end_send(result),
                lambda: from_thread.begin_send(socket, b"x"),
            ):
                with pytest.raises(ObjectDisposedError) as closed:
                    call()
                caught.append(closed.value)

        async with open_initiator():
            await trio.to_thread.run_sync(work)
    in_the_wait, too_late = caught
    assert isinstance(in_the_wait, SocketException)
    require_both(in_the_wait, in_the_wait.bytes_transferred)
    require_both(too_late)


async def test_an_operation_that_its_owner_stopped_was_not_ended_by_a_close() -> None:
    """Whoever tells the two apart must be able to."""
    left, right = stdlib_pair("unix", tiny=True)
    with right:
        socket = Socket.from_stdlib(left)
        async with open_initiator():
            args = SocketAsyncEventArgs(BIG)
            assert socket.send_async(args) is True
            assert args.cancel() is True
            assert args.outcome is not None
            with pytest.raises(SocketException) as stopped:
                args.outcome.unwrap()
        socket.close()
    assert stopped.value.error_code == 995
    assert not isinstance(stopped.value, ObjectDisposedError)


def test_it_can_be_copied_and_sent_elsewhere() -> None:
    socket = Socket()
    socket.close()
    with pytest.raises(ObjectDisposedError) as closed:
        socket.local_end_point  # noqa: B018
    for again in (copy.copy(closed.value), pickle.loads(pickle.dumps(closed.value))):
        require_both(again)
        assert type(again) is type(closed.value)
        assert str(again) == str(closed.value) == "this socket was closed"
        assert again.errno == errno.EBADF
