"""Hold everything of which there cannot be two to refusing to be copied and pickled, and leaving the original alone."""

from __future__ import annotations

import copy
import enum
import pickle
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from trio.testing import wait_all_tasks_blocked

import trio_send
from tests.helpers import scripted, ten
from trio_send import (
    AsyncResult,
    BufferManager,
    CompletedEvent,
    DatagramBatch,
    Initiator,
    ManualResetEvent,
    Receiver,
    SendPacketsElement,
    Socket,
    SocketAsyncEventArgs,
    SocketAsyncEventArgsPool,
    SocketError,
    SocketListener,
    WaitHandle,
    open_initiator,
    open_tcp_listeners,
    socketpair,
)
from trio_send.abc import Instrument
from trio_send.testing import Blocked

ways = pytest.mark.parametrize(
    "way",
    [
        copy.copy,
        copy.deepcopy,
        *[lambda thing, number=number: pickle.dumps(thing, number) for number in range(6)],
    ],
    ids=["copy", "deepcopy", *map(str, range(6))],
)


async def test_every_public_class_is_a_value_or_refuses() -> None:
    """So that a class that is added has to be thought about."""
    classes = [thing for thing in vars(trio_send).values() if isinstance(thing, type)]
    values = (enum.Enum, BaseException, Instrument, SendPacketsElement)
    others = {cls for cls in classes if not issubclass(cls, values) and not attrs.has(cls)}
    assert set(THINGS) <= others
    for cls in others:
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            cls.__reduce_ex__(cls.__new__(cls), 4)


async def _make_initiator() -> Initiator:
    async with open_initiator() as initiator:
        return initiator


async def _make_result() -> AsyncResult:
    socket, _ = scripted()
    async with open_initiator():
        return socket.begin_send(b"abc")


async def _make_handle() -> WaitHandle:
    return (await _make_result()).async_wait_handle


async def _make_receiver() -> Receiver:
    ours, peer = socketpair()
    async with ours, peer:
        return Receiver(ours)


async def _make_listener() -> SocketListener:
    (listener,) = await open_tcp_listeners(0, host="127.0.0.1")
    await listener.aclose()
    return listener


def _now(make: Callable[[], Any]) -> Callable[[], Any]:
    async def made() -> Any:
        return make()

    return made


THINGS: dict[type, Callable[[], Any]] = {
    AsyncResult: _make_result,
    BufferManager: _now(lambda: BufferManager(100, 10)),
    CompletedEvent: _now(lambda: SocketAsyncEventArgs().completed),
    DatagramBatch: _now(lambda: DatagramBatch([b"abc"])),
    Initiator: _make_initiator,
    ManualResetEvent: _now(ManualResetEvent),
    Receiver: _make_receiver,
    Socket: _now(lambda: scripted()[0]),
    SocketAsyncEventArgs: _now(lambda: SocketAsyncEventArgs(b"abc")),
    SocketAsyncEventArgsPool: _now(SocketAsyncEventArgsPool),
    SocketListener: _make_listener,
    WaitHandle: _make_handle,
}


@ways
@pytest.mark.parametrize("cls", THINGS, ids=[cls.__name__ for cls in THINGS])
async def test_what_exists_only_once_is_not_copied(cls: type, way: Callable[[Any], Any]) -> None:
    thing = await THINGS[cls]()
    assert isinstance(thing, cls)
    with pytest.raises(
        TypeError, match=f"^{type(thing).__name__} objects cannot be copied or pickled"
    ):
        way(thing)


@ways
async def test_a_stream_and_what_stands_for_the_socket_in_trio_are_not_copied(
    way: Callable[[Any], Any],
) -> None:
    ours, peer = socketpair()
    with ours.trio, peer.trio:
        for thing in (ours.as_stream(), ours.trio):
            with pytest.raises(TypeError, match="cannot be copied or pickled"):
                way(thing)


@ways
async def test_pending_args_stay_where_they_are(way: Callable[[Any], Any]) -> None:
    """A copy that counted as pending could be stopped, and would take its original's place in the queue along."""
    told: list[SocketAsyncEventArgs] = []
    socket, port = scripted(3, Blocked())
    async with open_initiator():
        args = SocketAsyncEventArgs(ten("a"))
        args.completed += lambda _, ended: told.append(ended)
        assert socket.send_async(args)
        for thing in (args, args.completed, socket):
            with pytest.raises(TypeError, match="cannot be copied or pickled"):
                way(thing)
        assert args.pending
        assert socket.queued_operations == 1
        await wait_all_tasks_blocked()
        port.unblock()
        await args.wait()
    assert told == [args]
    assert (args.socket_error, port.accepted) == (SocketError.SUCCESS, ten("a"))


async def test_subclasses_of_args_refuse_too() -> None:
    class Mine(SocketAsyncEventArgs):
        pass

    with pytest.raises(TypeError, match=r"^Mine objects cannot be copied"):
        copy.copy(Mine(b"abc"))


async def test_values_can_be_copied() -> None:
    element = SendPacketsElement(b"abc", 1, 2)
    for again in (copy.copy(element), pickle.loads(pickle.dumps(element))):
        assert (again.buffer, again.offset, again.count) == (b"abc", 1, 2)
    statistics = scripted()[0].statistics()
    assert copy.deepcopy(statistics) == statistics
