"""Hold what is set on `SocketAsyncEventArgs` before an operation to what it says."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers import (
    BIG,
    Ends,
    ends as ends,
    kind as kind,
    read_exactly,
)
from trio_send import (
    OperationInProgressError,
    SocketAsyncEventArgs,
    SocketError,
    SocketFlags,
    open_initiator,
)

# Buffer and buffer list -----------------------------------------------------------------------


def shape(args: SocketAsyncEventArgs) -> tuple[Any, ...]:
    """What is set to be sent, in every way one can see it."""
    rest = b"".join(args.remaining)
    return args.buffer, args.offset, args.count, args.buffer_list, rest


@pytest.mark.page("S09")
@pytest.mark.fact("F097", "F098", "F099")
def test_buffer_and_list_exclude_each_other_and_a_refusal_changes_nothing() -> None:
    """F097 to F099."""
    args = SocketAsyncEventArgs(b"0123456789", 2, 5)
    before = shape(args)
    for members in ([b"x"], []):
        with pytest.raises(ValueError, match=r"call set_buffer\(None\) first$"):
            args.buffer_list = members
        assert shape(args) == before
    args = SocketAsyncEventArgs(buffer_list=[b"x", b"y"])
    before = shape(args)
    for offset in (0, -1, 100):  # exclusion comes before the range
        with pytest.raises(ValueError, match=r"set buffer_list to None first$"):
            args.set_buffer(b"abc", offset)
        assert shape(args) == before


@pytest.mark.fact("F100", "F101")
def test_none_takes_off_the_one_and_leaves_the_other_alone() -> None:
    """F100, F101."""
    args = SocketAsyncEventArgs(b"0123456789", 2, 5)
    before = shape(args)
    args.buffer_list = None
    assert shape(args) == before
    args.set_buffer(None, -7, 99)
    assert shape(args) == (None, 0, 0, None, b"")
    args.buffer_list = [b"x", b"y"]
    before = shape(args)
    args.set_buffer(None, 5, 5)
    assert shape(args) == before == (None, 0, 0, [b"x", b"y"], b"xy")
    args.buffer_list = None
    assert shape(args) == (None, 0, 0, None, b"")
    args.set_buffer(b"abc")
    assert shape(args) == (b"abc", 0, 3, None, b"abc")


@pytest.mark.fact("F102")
@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_a_bad_range_is_refused_and_changes_nothing(make: Any) -> None:
    """F102; the names are those of the parameters."""
    buffer = make(b"0123456789")
    args = SocketAsyncEventArgs(buffer, 2, 5)
    before = shape(args)
    for offset, count, sentence in (
        (-1, 1, r"^offset is -1, but must be from 0 to 10"),
        (11, 0, r"^offset is 11, but must be from 0 to 10"),
        (11, -1, r"^offset is 11"),
        (0, -1, r"^count is -1, but must be from 0 to 10"),
        (4, 7, r"^count is 7, but must be from 0 to 6"),
        (10, 1, r"^count is 1, but must be from 0 to 0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            args.set_buffer(buffer, offset, count)
        with pytest.raises(ValueError, match=sentence):
            args.set_range(offset, count)
        with pytest.raises(ValueError, match=sentence):
            args.set_buffer(make(b"9876543210"), offset, count)
        assert shape(args) == before
    with pytest.raises(TypeError, match=r"^buffer must be a bytes-like object"):
        args.set_buffer("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"call set_range\(offset, count\)$"):
        args.set_buffer(2, 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        args.set_buffer(b"abc", "1")  # type: ignore[arg-type]
    assert shape(args) == before
    args.set_buffer(buffer, 10, 0)
    assert shape(args) == (buffer, 10, 0, None, b"")


@pytest.mark.fact("F103")
def test_set_range() -> None:
    """On the buffer that is set; without one it does nothing (F103)."""
    args = SocketAsyncEventArgs(b"0123456789", 2, 5)
    args.set_range(4)
    assert shape(args) == (b"0123456789", 4, 6, None, b"456789")
    args.set_range(0, 3)
    assert shape(args) == (b"0123456789", 0, 3, None, b"012")
    args = SocketAsyncEventArgs()
    args.set_range(3, 4)
    assert shape(args) == (None, 0, 0, None, b"")
    args.buffer_list = [b"x"]
    args.set_range(3, 4)
    assert shape(args) == (None, 0, 0, [b"x"], b"x")


@pytest.mark.fact("F114", "F115")
def test_a_bad_member_of_a_list_changes_nothing() -> None:
    """F114, and no half-written snapshot (F115)."""
    members = [b"one", b"two"]
    args = SocketAsyncEventArgs(buffer_list=members)
    bad: list[Any] = [b"three", None]
    with pytest.raises(TypeError, match=r"^buffer_list\[1\] is None"):
        args.buffer_list = bad
    assert args.buffer_list is members
    assert b"".join(args.remaining) == b"onetwo"
    for no_list in (5, object()):
        with pytest.raises(TypeError, match=r"^buffer_list"):
            args.buffer_list = no_list  # type: ignore[assignment]
    assert args.buffer_list is members
    assert b"".join(args.remaining) == b"onetwo"


# Setters while in use -------------------------------------------------------------------------


@pytest.mark.fact("F106")
async def test_what_is_sent_cannot_be_changed_while_in_use(ends: Ends) -> None:
    """F106; the operation and the args stay as they were."""
    socket, peer = ends
    args = SocketAsyncEventArgs(BIG)
    async with open_initiator():
        assert socket.send_async(args) is True
        changes: list[Callable[[], None]] = [
            lambda: args.set_buffer(b"x"),
            lambda: args.set_buffer(None),
            lambda: args.set_range(0, 1),
            lambda: setattr(args, "buffer_list", [b"x"]),
            lambda: setattr(args, "buffer_list", None),
            lambda: setattr(args, "timeout", 1),
            lambda: setattr(args, "stall_timeout", 1),
        ]
        for change in changes:
            with pytest.raises(OperationInProgressError, match=r"^these args are in use"):
                change()
        assert args.buffer is BIG
        assert args.count == len(BIG)
        assert args.timeout == math.inf
        assert await read_exactly(peer, len(BIG)) == BIG
        assert await args.wait() == len(BIG)
        args.set_buffer(b"x")


@pytest.mark.fact("F110", "F154")
async def test_what_can_be_changed_while_in_use(ends: Ends) -> None:
    """F110. The flags of the operation that is under way are those of its start."""
    socket, peer = ends
    args = SocketAsyncEventArgs(BIG)
    async with open_initiator():
        assert socket.send_async(args) is True
        args.user_token = "token"
        args.socket_flags = SocketFlags.PARTIAL  # would be refused at a start
        args.remote_end_point = ("127.0.0.1", 9)
        args.accept_socket = None
        assert await read_exactly(peer, len(BIG)) == BIG
        assert await args.wait() == len(BIG)
        assert args.socket_error is SocketError.SUCCESS
        assert args.user_token == "token"
        assert args.socket_flags is SocketFlags.PARTIAL
        assert args.remote_end_point == ("127.0.0.1", 9)  # F154
        assert socket.send_async(args) is False
        assert args.socket_error is SocketError.OPERATION_NOT_SUPPORTED
        args.socket_flags = 0  # type: ignore[assignment]
        assert args.socket_flags is SocketFlags.NONE
        args.set_buffer(b"x")
        assert socket.send_async(args) is False
        assert args.socket_error is SocketError.SUCCESS
    assert await read_exactly(peer, 1) == b"x"


def test_time_limits_are_numbers_of_seconds() -> None:
    args = SocketAsyncEventArgs()
    args.timeout = 5
    args.stall_timeout = 0.5
    assert (args.timeout, args.stall_timeout) == (5.0, 0.5)
    for bad in (-1, math.nan):
        with pytest.raises(ValueError, match=r"^timeout is"):
            args.timeout = bad
        with pytest.raises(ValueError, match=r"^stall_timeout is"):
            args.stall_timeout = bad
    assert (args.timeout, args.stall_timeout) == (5.0, 0.5)
    args.timeout = math.inf
    assert (args.timeout, args.stall_timeout) == (math.inf, 0.5)
