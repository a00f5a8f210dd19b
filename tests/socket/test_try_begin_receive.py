"""Hold `try_begin_receive` and its ends to returning what the others raise.

Modules: _socket.begin_receive.
"""

from __future__ import annotations

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from tests.helpers import Ends, ends as ends, kind as kind, never_called
from trio_send import (
    AsyncResult,
    InvalidOperationError,
    ObjectDisposedError,
    Socket,
    SocketError,
    SocketFlags,
    open_initiator,
)


@pytest.mark.parametrize("later", [False, True])
async def test_a_success(ends: Ends, later: bool) -> None:
    socket, peer = ends
    buffer = bytearray(8)
    if not later:
        peer.send(b"hello")
    async with open_initiator():
        result, error = socket.try_begin_receive(buffer, 1, 6, state="state")
        assert error is SocketError.SUCCESS
        assert result is not None
        assert result.async_state == "state"
        if later:
            with pytest.raises(trio.WouldBlock):
                socket.try_end_receive_nowait(result)
            peer.send(b"hello")
        with assert_checkpoints():
            assert await socket.try_end_receive(result) == (5, SocketError.SUCCESS)
        assert buffer == b"\0hello\0\0"
        with pytest.raises(InvalidOperationError, match="already"):
            await socket.try_end_receive(result)
        with pytest.raises(InvalidOperationError, match="already"):
            socket.try_end_receive_nowait(result)


async def test_a_list_and_a_callback(ends: Ends) -> None:
    socket, peer = ends
    buffers = [bytearray(2), bytearray(9)]
    taken: list[tuple[int, SocketError]] = []

    def callback(ar: AsyncResult) -> None:
        taken.append(socket.try_end_receive_nowait(ar))

    async with open_initiator():
        result, _ = socket.try_begin_receive(buffers, callback=callback)
        peer.send(b"hello")
        await wait_all_tasks_blocked()
    assert result is not None
    assert taken == [(5, SocketError.SUCCESS)]
    assert buffers[0] == b"he"


async def test_a_failure_on_the_spot_is_returned(ends: Ends) -> None:
    socket, _ = ends
    unconnected = Socket()
    async with open_initiator() as initiator:
        answer = socket.try_begin_receive(
            bytearray(8), socket_flags=SocketFlags.BROADCAST, callback=never_called
        )
        assert answer == (None, SocketError.OPERATION_NOT_SUPPORTED)
        answer = unconnected.try_begin_receive(bytearray(8), callback=never_called)
        assert answer == (None, SocketError.NOT_CONNECTED)
        assert initiator.pending_operations == 0
    unconnected.close()


async def test_a_failure_later_is_returned_by_the_end(ends: Ends) -> None:
    socket, _ = ends
    async with open_initiator():
        first, _ = socket.try_begin_receive(bytearray(8))
        second, _ = socket.try_begin_receive(bytearray(8))
        assert first is not None
        assert second is not None
        first.cancel()
        assert await socket.try_end_receive(first) == (0, SocketError.OPERATION_ABORTED)
        second.cancel()
        await wait_all_tasks_blocked()
        assert socket.try_end_receive_nowait(second) == (0, SocketError.OPERATION_ABORTED)


async def test_what_is_wrong_with_a_call_is_raised(ends: Ends) -> None:
    socket, peer = ends
    with pytest.raises(InvalidOperationError, match=r"^no initiator is open"):
        socket.try_begin_receive(bytearray(8))
    async with open_initiator():
        with pytest.raises(ValueError, match=r"^buffer_or_list must be writable"):
            socket.try_begin_receive(b"abc")
        with pytest.raises(ValueError, match=r"^buffer_or_list\[0\] must be writable"):
            socket.try_begin_receive([b"abc"])
        with pytest.raises(ValueError, match=r"^size is 9"):
            socket.try_begin_receive(bytearray(8), 0, 9)
        peer.send(b"hello")
        sent = socket.begin_send(b"x")
        with pytest.raises(ValueError, match="of SEND, not of RECEIVE"):
            await socket.try_end_receive(sent)
        with pytest.raises(ValueError, match="of SEND, not of RECEIVE"):
            socket.try_end_receive_nowait(sent)
        with pytest.raises(TypeError, match=r"^ar is None"):
            await socket.try_end_receive(None)  # type: ignore[arg-type]
        socket.close()
        with pytest.raises(ObjectDisposedError):
            socket.try_begin_receive(bytearray(8))
