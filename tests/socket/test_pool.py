"""Hold the pool and the buffer manager to what they say: who may be pushed, what is given, and that it comes back."""

from __future__ import annotations

import gc
import socket as stdlib_socket
import weakref
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.helpers import BIG, connected, never_called, read_exactly, scripted, ten
from trio_send import (
    BufferManager,
    InvalidOperationError,
    ObjectDisposedError,
    OperationInProgressError,
    Socket,
    SocketAsyncEventArgs,
    SocketAsyncEventArgsPool,
    SocketError,
    open_initiator,
)
from trio_send.testing import Blocked

#: The three calls that take args, each on something that would otherwise accept them.
TAKERS: dict[str, Callable[[], Callable[[Any], object]]] = {
    "push": lambda: SocketAsyncEventArgsPool().push,
    "set_buffer": lambda: BufferManager(100, 10).set_buffer,
    "free_buffer": lambda: BufferManager(100, 10).free_buffer,
}


@pytest.mark.fact("F284")
@pytest.mark.parametrize("taker", TAKERS)
def test_none_and_foreign_types_are_refused(taker: str) -> None:
    take = TAKERS[taker]()
    with pytest.raises(TypeError, match=r"^args is None, but must be a SocketAsyncEventArgs$"):
        take(None)
    with pytest.raises(TypeError, match=r"^args must be a SocketAsyncEventArgs, not bytes$"):
        take(b"args")


# The pool -------------------------------------------------------------------------------------


@pytest.mark.fact("F284")
def test_the_pool_is_a_stack() -> None:
    pool = SocketAsyncEventArgsPool()
    assert (pool.count, len(pool), bool(pool)) == (0, 0, False)
    assert repr(pool) == "<SocketAsyncEventArgsPool: 0 args>"
    first, second = SocketAsyncEventArgs(b"same"), SocketAsyncEventArgs(b"same")
    pool.push(first)
    pool.push(second)
    assert (pool.count, len(pool), bool(pool)) == (2, 2, True)
    assert repr(pool) == "<SocketAsyncEventArgsPool: 2 args>"
    assert pool.pop() is second
    assert pool.pop() is first
    assert pool.count == 0


@pytest.mark.fact("F284")
def test_args_come_back_any_number_of_times_and_as_they_were() -> None:
    pool = SocketAsyncEventArgsPool()
    args = SocketAsyncEventArgs(b"0123456789", 2, 5, user_token="mine")
    args.completed += never_called
    for _ in range(1000):
        pool.push(args)
        assert pool.pop() is args
    assert (args.buffer, args.offset, args.count) == (b"0123456789", 2, 5)
    assert args.user_token == "mine"
    assert len(args.completed) == 1


async def test_a_pool_keeps_no_connection_alive() -> None:
    """Or a server with a thousand args would hold a thousand sockets that everybody else has let go."""
    pool = SocketAsyncEventArgsPool()
    with stdlib_socket.create_server(("127.0.0.1", 0)) as listener:
        args = SocketAsyncEventArgs()
        args.remote_end_point = listener.getsockname()
        ours = Socket()
        async with open_initiator():
            ours.connect_async(args)
            await args.wait()
            args.set_buffer(b"later")
            assert ours.send_async(args) is False
        ours.close()
        args.accept_socket = kept = Socket()
        pool.push(args)
        alive = weakref.ref(ours)
        del ours
        gc.collect()
        assert alive() is None
        assert pool.pop() is args
        # What the program has set stays, this socket among it.
        assert args.accept_socket is kept
        assert args.buffer == b"later"
        kept.close()


def test_an_empty_pool_says_what_to_do() -> None:
    pool = SocketAsyncEventArgsPool()
    with pytest.raises(InvalidOperationError, match=r"^the pool is empty; push more args"):
        pool.pop()
    args = SocketAsyncEventArgs()
    pool.push(args)
    assert pool.pop() is args


def test_the_same_args_are_not_pushed_twice() -> None:
    pool, other = SocketAsyncEventArgsPool(), SocketAsyncEventArgsPool()
    args = SocketAsyncEventArgs()
    pool.push(args)
    with pytest.raises(InvalidOperationError, match=r"^these args are in the pool already"):
        pool.push(args)
    assert pool.count == 1
    assert pool.pop() is args
    pool.push(args)  # popped, so they may come back
    other.push(SocketAsyncEventArgs())
    assert pool.count == 1


def test_args_that_compare_equal_are_still_different_args() -> None:
    class Alike(SocketAsyncEventArgs):
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 0

    pool = SocketAsyncEventArgsPool()
    first, second = Alike(), Alike()
    pool.push(first)
    pool.push(second)
    assert pool.pop() is second
    assert pool.pop() is first


def test_closed_args_are_refused() -> None:
    pool = SocketAsyncEventArgsPool()
    args = SocketAsyncEventArgs()
    args.close()
    with pytest.raises(ObjectDisposedError):
        pool.push(args)
    assert pool.count == 0


async def test_args_in_use_are_refused_until_they_are_told_of() -> None:
    """Not earlier: but a handler, which is called when they are free again, may push them."""
    pool = SocketAsyncEventArgsPool()
    args = SocketAsyncEventArgs(BIG)
    pushed: list[SocketAsyncEventArgs] = []

    def completed(_: object, args: SocketAsyncEventArgs) -> None:
        pool.push(args)
        pushed.append(args)

    args.completed += completed
    with connected("unix") as (socket, peer):
        async with open_initiator():
            assert socket.send_async(args)
            with pytest.raises(OperationInProgressError, match=r"^these args are in use"):
                pool.push(args)
            assert pool.count == 0
            assert await read_exactly(peer, len(BIG)) == BIG
            await args.wait()
    assert pushed == [args]
    assert pool.pop() is args


async def test_args_of_a_cut_message_are_refused_until_the_stream_is_settled() -> None:
    """Whoever popped them could not start them."""
    pool = SocketAsyncEventArgsPool()
    args = SocketAsyncEventArgs(ten("a"))
    socket, _ = scripted(4, Blocked(0))
    async with open_initiator():
        assert socket.send_async(args)
    assert args.socket_error is SocketError.OPERATION_ABORTED
    with pytest.raises(InvalidOperationError, match=r"was cut after 4 bytes"):
        pool.push(args)
    socket.close()
    pool.push(args)
    assert pool.pop() is args


# The buffer manager ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total_bytes", "buffer_size", "complaint"),
    [
        (100, 0, r"^buffer_size is 0, but must be at least 1$"),
        (100, -5, r"^buffer_size is -5, but must be at least 1$"),
        (9, 10, r"^total_bytes is 9, but must have room for at least one buffer of 10 bytes$"),
        (-1, 10, r"^total_bytes is -1, but"),
    ],
)
def test_sizes_that_make_no_sense(total_bytes: int, buffer_size: int, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        BufferManager(total_bytes, buffer_size)


@pytest.mark.fact("F285")
@pytest.mark.parametrize("total_bytes", [30, 35, 39])
def test_one_block_in_whole_buffers(total_bytes: int) -> None:
    manager = BufferManager(total_bytes, 10)
    assert (manager.buffer_size, manager.available) == (10, 3)
    assert repr(manager) == "<BufferManager: 3 of 3 buffers of 10 bytes are free>"
    args = [SocketAsyncEventArgs() for _ in range(4)]
    assert [manager.set_buffer(each) for each in args] == [True, True, True, False]
    assert [(each.offset, each.count) for each in args[:3]] == [(0, 10), (10, 10), (20, 10)]
    block = args[0].buffer
    assert type(block) is bytearray
    assert len(block) == total_bytes
    assert all(each.buffer is block for each in args[:3])
    assert args[3].buffer is None
    assert repr(manager) == "<BufferManager: 0 of 3 buffers of 10 bytes are free>"


@pytest.mark.fact("F285")
def test_a_buffer_that_is_freed_is_given_again() -> None:
    manager = BufferManager(30, 10)
    args = [SocketAsyncEventArgs() for _ in range(3)]
    for each in args:
        assert manager.set_buffer(each)
    manager.free_buffer(args[1])
    assert args[1].buffer is None
    assert (args[1].offset, args[1].count) == (0, 0)
    assert manager.available == 1
    other = SocketAsyncEventArgs()
    assert manager.set_buffer(other)
    assert (other.offset, other.count) == (10, 10)
    assert manager.set_buffer(args[1]) is False


@pytest.mark.fact("F285")
def test_a_chosen_range_does_not_lead_astray() -> None:
    """The classic manager takes the offset of the args for that of the buffer, whatever they did to it."""
    manager = BufferManager(20, 10)
    args = SocketAsyncEventArgs()
    manager.set_buffer(args)
    args.set_range(3, 2)
    manager.free_buffer(args)
    assert manager.set_buffer(args)
    assert (args.offset, args.count) == (0, 10)


def test_what_one_client_sent_is_not_there_for_the_next() -> None:
    manager = BufferManager(20, 10)
    first, second = SocketAsyncEventArgs(), SocketAsyncEventArgs()
    manager.set_buffer(first)
    manager.set_buffer(second)
    block = first.buffer
    assert isinstance(block, bytearray)
    block[:] = b"secretword" + b"not yours!"
    manager.free_buffer(first)
    assert block == bytes(10) + b"not yours!"


def test_a_second_buffer_is_refused() -> None:
    manager = BufferManager(20, 10)
    args = SocketAsyncEventArgs()
    manager.set_buffer(args)
    with pytest.raises(InvalidOperationError, match=r"^these args hold a buffer of this manager"):
        manager.set_buffer(args)
    assert manager.available == 1


def test_freeing_what_was_not_given() -> None:
    manager, other = BufferManager(20, 10), BufferManager(20, 10)
    args, stranger = SocketAsyncEventArgs(), SocketAsyncEventArgs(b"mine")
    other.set_buffer(args)
    for each in (args, stranger):
        with pytest.raises(ValueError, match=r"^args hold no buffer of this manager"):
            manager.free_buffer(each)
    assert stranger.buffer == b"mine"
    assert args.buffer is not None
    other.free_buffer(args)
    with pytest.raises(ValueError, match=r"freed already$"):
        other.free_buffer(args)
    assert (manager.available, other.available) == (2, 2)


def test_a_buffer_from_elsewhere_is_left_alone() -> None:
    manager = BufferManager(20, 10)
    args = SocketAsyncEventArgs(b"mine")
    assert manager.set_buffer(args)
    assert args.offset == 0 and args.count == 10
    args.set_buffer(b"mine again")
    manager.free_buffer(args)
    assert args.buffer == b"mine again"
    assert manager.available == 2


def test_a_buffer_list_is_left_alone() -> None:
    manager = BufferManager(20, 10)
    args = SocketAsyncEventArgs(buffer_list=[b"a", b"b"])
    with pytest.raises(ValueError, match=r"exclude each other"):
        manager.set_buffer(args)
    assert args.buffer_list == [b"a", b"b"]
    assert manager.available == 2


def test_closed_args_get_nothing_but_can_give_back() -> None:
    manager = BufferManager(20, 10)
    args = SocketAsyncEventArgs()
    manager.set_buffer(args)
    args.close()
    manager.free_buffer(args)
    assert manager.available == 2
    with pytest.raises(ObjectDisposedError):
        manager.set_buffer(args)
    assert manager.available == 2


async def test_args_in_use_keep_what_they_have() -> None:
    manager = BufferManager(2 * len(BIG), len(BIG))
    args, other = SocketAsyncEventArgs(), SocketAsyncEventArgs(BIG)
    manager.set_buffer(args)
    block = args.buffer
    assert isinstance(block, bytearray)
    block[: len(BIG)] = BIG
    with connected("unix") as (socket, peer):
        async with open_initiator():
            assert socket.send_async(args)
            assert socket.send_async(other)
            with pytest.raises(OperationInProgressError):
                manager.free_buffer(args)
            with pytest.raises(OperationInProgressError):
                manager.set_buffer(other)
            assert manager.available == 1
            args.close()  # which takes effect when the operation ends
            with pytest.raises(OperationInProgressError):
                manager.free_buffer(args)
            assert await read_exactly(peer, 2 * len(BIG)) == BIG + BIG
            await other.wait()
    manager.free_buffer(args)
    assert manager.available == 2


async def test_pieces_of_the_block_that_are_being_sent_count_as_well() -> None:
    manager = BufferManager(10, 10)
    args = SocketAsyncEventArgs()
    manager.set_buffer(args)
    block = args.buffer
    assert isinstance(block, bytearray)
    args.set_buffer(None)
    socket, _ = scripted(Blocked(0))
    with memoryview(block) as view:
        args.buffer_list = [view[:5], view[5:]]
        async with open_initiator():
            assert socket.send_async(args)
            with pytest.raises(OperationInProgressError):
                manager.free_buffer(args)
        args.buffer_list = None
    manager.free_buffer(args)
    assert manager.available == 1


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
async def test_the_rest_of_a_cut_message_keeps_its_buffer(closed: bool) -> None:
    """The socket may still be asked to send it."""
    manager = BufferManager(10, 10)
    args = SocketAsyncEventArgs()
    manager.set_buffer(args)
    block = args.buffer
    assert isinstance(block, bytearray)
    block[:] = ten("a")
    socket, port = scripted(4, Blocked(0), 6)
    async with open_initiator():
        assert socket.send_async(args)
    if closed:
        args.close()
    with pytest.raises(InvalidOperationError, match=r"was cut after 4 bytes"):
        manager.free_buffer(args)
    assert manager.available == 0
    assert await socket.send_rest() == 6
    assert port.accepted == ten("a")
    manager.free_buffer(args)
    assert manager.available == 1


def test_args_that_gave_their_buffer_back_are_let_go() -> None:
    manager, pool = BufferManager(10, 10), SocketAsyncEventArgsPool()
    args = SocketAsyncEventArgs()
    manager.set_buffer(args)
    pool.push(args)
    pool.pop()
    manager.free_buffer(args)
    gone = weakref.ref(args)
    del args
    gc.collect()
    assert gone() is None


# Any order ------------------------------------------------------------------------------------


@given(actions=st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=60))
def test_no_two_args_ever_share_a_byte(actions: list[tuple[bool, int]]) -> None:
    """Give and free in any order: as many as there are, each its own bytes, none of them lost."""
    manager = BufferManager(4 * 7 + 3, 7)
    everybody = [SocketAsyncEventArgs() for _ in range(6)]
    holders: set[int] = set()
    for give, number in actions:
        args = everybody[number]
        if give and number in holders:
            with pytest.raises(InvalidOperationError):
                manager.set_buffer(args)
        elif give:
            assert manager.set_buffer(args) is (len(holders) < 4)
            if args.buffer is not None:
                holders.add(number)
        elif number in holders:
            manager.free_buffer(args)
            holders.remove(number)
        else:
            with pytest.raises(ValueError, match="hold no buffer"):
                manager.free_buffer(args)
        assert manager.available == 4 - len(holders)
        places = sorted((everybody[n].offset, everybody[n].count) for n in holders)
        assert all(count == 7 and offset + count <= 28 for offset, count in places)
        assert all(b[0] - a[0] >= 7 for a, b in pairwise(places))
        assert {n for n in range(6) if everybody[n].buffer is not None} == holders


@given(actions=st.lists(st.integers(-1, 5), max_size=60))
def test_the_pool_against_a_list(actions: list[int]) -> None:
    """Push the args of a number, or pop at -1: what comes and what is refused is as with a list."""
    pool = SocketAsyncEventArgsPool()
    everybody = [SocketAsyncEventArgs(user_token=number) for number in range(6)]
    model: list[int] = []
    for action in actions:
        if action == -1 and not model:
            with pytest.raises(InvalidOperationError):
                pool.pop()
        elif action == -1:
            assert pool.pop() is everybody[model.pop()]
        elif action in model:
            with pytest.raises(InvalidOperationError):
                pool.push(everybody[action])
        else:
            pool.push(everybody[action])
            model.append(action)
        assert pool.count == len(pool) == len(model)
