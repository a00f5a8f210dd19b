"""Hold awaited sends to being operations like others: counted, in order, stopped at once, and never behind a tear.

The awaiting task owns its operation. It waits for the socket itself while that heads the queue, and is parked behind
others; a cancel, a close and a change of the watch must reach it in both places.
"""

from __future__ import annotations

import errno
import math
import socket as stdlib_socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from tests.helpers import (
    Told,
    bytes_of,
    connected,
    fill,
    nothing_to_read,
    read_exactly,
    scripted,
    stdlib_pair,
    ten,
)
from trio_send import (
    ExitPolicy,
    ObjectDisposedError,
    OperationInProgressError,
    Socket,
    SocketAsyncEventArgs,
    SocketAsyncOperation,
    SocketError,
    SocketException,
    SocketFlags,
    SocketShutdown,
    open_initiator,
)
from trio_send._base.run_state import nobody_may_be_woken
from trio_send._kernel.port import KernelPort
from trio_send._operations.queue import OperationQueue
from trio_send._operations.send_queue import FIRST_BACKOFF
from trio_send._owners.awaiting_task import AwaitingTask
from trio_send.testing import Blocked, ScriptedPort

ABORTED = SocketError.OPERATION_ABORTED
CUT_OFF = SocketError.CONNECTION_ABORTED
SUCCESS = SocketError.SUCCESS
JOIN = ExitPolicy.JOIN


class Sender:
    """A task that awaits one send, and what became of it.

    Attributes:
      scope: around the send.
      args: what is sent; None if it is plain bytes.
      result: the count; the code of the error; or "cancelled".
      agrees: whether an error that was raised says what the args say.
    """

    def __init__(self, socket: Socket, name: str, *, plain: bool = False, data: Any = None) -> None:
        data = ten(name) if data is None else data
        self.scope = trio.CancelScope()
        self.args = None if plain else SocketAsyncEventArgs(data, user_token=name)
        self.result: int | SocketError | str | None = None
        self.agrees = True
        self._socket = socket
        self._data = data

    async def run(self) -> None:
        """Send."""
        with self.scope:
            try:
                self.result = await self._socket.send(self.args or self._data)
            except SocketException as error:
                self.result = error.socket_error_code
                if self.args is not None:
                    told = error.bytes_transferred, error.socket_error_code
                    self.agrees = told == (self.args.bytes_transferred, self.args.socket_error)
            except trio.Cancelled:
                self.result = "cancelled"
                raise


@asynccontextmanager
async def sending(
    socket: Socket, names: str, *, plain: bool = False
) -> AsyncIterator[list[Sender]]:
    """Tasks that await a send each, queued in this order."""
    async with trio.open_nursery() as nursery:
        senders = []
        for name in names:
            senders.append(Sender(socket, name, plain=plain))
            nursery.start_soon(senders[-1].run)
            await wait_all_tasks_blocked()
        yield senders
    assert all(sender.agrees for sender in senders)


faces = pytest.mark.parametrize("plain", [True, False], ids=["bytes", "args"])


# Checkpoints ----------------------------------------------------------------------------------


async def test_a_send_is_always_a_checkpoint() -> None:
    """Whether it is done at once, waits, fails, or is refused."""
    socket, _ = scripted(10, "EHOSTUNREACH", Blocked(0), 10, 3, Blocked(0), 7, "EPIPE")
    for data in (ten("a"), SocketAsyncEventArgs(ten("b"))):
        with assert_checkpoints():
            with suppress(SocketException):
                await socket.send(data)
    for _ in range(2):
        with assert_checkpoints():
            assert await socket.send(ten("c")) == 10
    for _ in range(2):  # the connection dies, and then is dead
        with assert_checkpoints():
            with pytest.raises(SocketException):
                await socket.send(ten("d"))
    refused, port = scripted()
    with assert_checkpoints():
        with pytest.raises(SocketException) as caught:
            await refused.send(ten("e"), SocketFlags.PARTIAL)
    assert caught.value.socket_error_code is SocketError.OPERATION_NOT_SUPPORTED
    unconnected = Socket.from_port(port, connected=False)
    with assert_checkpoints():
        with pytest.raises(SocketException) as caught:
            await unconnected.send(ten("f"))
    assert caught.value.socket_error_code is SocketError.NOT_CONNECTED
    assert port.attempts == 0


async def test_a_refusal_on_a_torn_stream_is_a_checkpoint() -> None:
    """And sends nothing."""
    socket, port = scripted(3, Blocked())
    async with sending(socket, "a") as (sender,):
        sender.scope.cancel()
    with assert_checkpoints():
        with pytest.raises(SocketException) as caught:
            await socket.send(ten("b"))
    assert caught.value.socket_error_code is CUT_OFF
    assert port.accepted == ten("a")[:3]


@pytest.mark.fact("F226")
@faces
async def test_under_a_cancelled_scope_nothing_is_sent(plain: bool) -> None:
    """The checkpoint comes first, so not a byte leaves, and args say that the send was stopped."""
    socket, port = scripted()
    sender = Sender(socket, "a", plain=plain)
    sender.scope.cancel()
    await sender.run()
    assert sender.result == "cancelled"
    assert port.attempts == 0
    assert port.accepted == b""
    assert socket.torn is None
    if sender.args is not None:
        assert sender.args.bytes_transferred == 0
        assert not sender.args.pending
        assert [bytes(view) for view in sender.args.remaining] == [ten("a")]
    assert await socket.send(ten("b")) == 10


async def test_args_that_were_cancelled_before_the_start_do_not_claim_success() -> None:
    """Whoever looks at args only, as wait() invites one to, must not take them for sent."""
    socket, _ = scripted()
    args = SocketAsyncEventArgs(ten("a"))
    for _ in range(2):
        with trio.CancelScope() as scope:
            scope.cancel()
            await socket.send(args)
        assert (args.socket_error, args.bytes_transferred) == (ABORTED, 0)
        assert args.last_operation is SocketAsyncOperation.SEND
        assert [bytes(view) for view in args.remaining] == [ten("a")]
        with pytest.raises(SocketException, match="the awaiting task was interrupted: cancelled"):
            args.outcome.unwrap()  # type: ignore[union-attr]
        assert await socket.send(args) == 10
        assert (args.socket_error, args.bytes_transferred) == (SUCCESS, 10)


@pytest.mark.parametrize("script", [(), (3, Blocked()), ("EINVAL",)], ids=["all", "part", "none"])
@pytest.mark.parametrize("face", ["send_async", "send"])
async def test_args_that_another_task_starts_meanwhile_tell_of_that_start(
    script: tuple[Any, ...], face: str
) -> None:
    """A cancelled task that is about to send lets others run once more, and one of them may take the same args."""
    socket, port = scripted(*script)
    args = SocketAsyncEventArgs(ten("a"))
    begun: list[bool] = []

    async def other() -> None:
        if face == "send_async":
            begun.append(socket.send_async(args))
        else:
            begun.append(True)
            with suppress(SocketException):
                await socket.send(args)

    async with open_initiator(), trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            scope.cancel()
            nursery.start_soon(other)
            await socket.send(args)
        assert scope.cancelled_caught
        assert len(begun) == 1
        if script == (3, Blocked()):
            assert args.pending
            assert args.bytes_transferred == 3
            await wait_all_tasks_blocked()
            port.unblock()
            await args.wait()
        await wait_all_tasks_blocked()
    if script == ("EINVAL",):
        assert (args.socket_error, args.bytes_transferred) == (SocketError.INVALID_ARGUMENT, 0)
    else:
        assert (args.socket_error, args.bytes_transferred) == (SUCCESS, 10)
        assert port.accepted == ten("a")


async def test_a_resumed_send_that_was_cancelled_before_its_start_is_still_cut() -> None:
    """The stream stays torn, the count stays, and the rest can still be sent."""
    socket, port = scripted(3, Blocked(), 2)
    async with sending(socket, "a") as (sender,):
        sender.scope.cancel()
    port.unblock()
    attempts = port.attempts
    with trio.CancelScope() as scope:
        scope.cancel()
        await socket.send_rest()
    assert scope.cancelled_caught
    assert port.attempts == attempts
    assert socket.torn is not None
    assert socket.torn.operation is sender.args
    assert sender.args is not None
    assert sender.args.bytes_transferred == 3
    assert sender.args.socket_error is ABORTED
    assert await socket.send_rest() == 7
    assert port.accepted == ten("a")


# Waiting --------------------------------------------------------------------------------------


@pytest.mark.fact("F199")
@faces
async def test_sends_of_several_tasks_keep_their_order(plain: bool) -> None:
    """Each waits its turn; none is torn, none is refused as busy."""
    socket, port = scripted(3, Blocked(), 10, Blocked(), 5, Blocked())
    async with sending(socket, "abcd", plain=plain) as senders:
        assert socket.queued_operations == 4
        for _ in range(3):
            port.unblock()
            await wait_all_tasks_blocked()
    assert [sender.result for sender in senders] == [10] * 4
    assert port.accepted == b"".join(map(ten, "abcd"))
    assert socket.queued_operations == 0


@pytest.mark.parametrize("kind", ["unix", "tcp4"])
@faces
async def test_real_sockets_of_several_tasks(kind: str, plain: bool) -> None:
    """Large messages, many rounds, a plain socket at the other end."""
    messages = [bytes_of(100_000, seed) for seed in range(5)]
    with connected(kind) as (socket, peer):
        async with trio.open_nursery() as nursery:
            senders = [Sender(socket, "", plain=plain, data=message) for message in messages]
            order: list[Sender] = []

            async def run(sender: Sender) -> None:
                order.append(sender)
                await sender.run()

            for sender in senders:
                nursery.start_soon(run, sender)
            data = await read_exactly(peer, 500_000)
        assert data == b"".join(sender._data for sender in order)
        assert {sender.result for sender in senders} == {100_000}


async def test_plain_bytes_lists_and_args_queue_alike() -> None:
    """All faces of a send share one queue."""
    socket, port = scripted(Blocked())
    told = Told()
    async with open_initiator(), trio.open_nursery() as nursery:
        nursery.start_soon(socket.send, ten("a"))
        await wait_all_tasks_blocked()
        assert socket.send_async(told.args("b"))
        result = socket.begin_send(ten("c"))
        nursery.start_soon(socket.send, [ten("d")[:4], ten("d")[4:]])
        await wait_all_tasks_blocked()
        nursery.start_soon(socket.send, SocketAsyncEventArgs(ten("e")))
        await wait_all_tasks_blocked()
        assert socket.queued_operations == 5
        port.unblock()
        assert await socket.end_send(result) == 10
    assert port.accepted == b"".join(map(ten, "abcde"))
    assert told.events == [("b", SUCCESS, 10)]


async def test_completed_is_not_raised_for_an_awaited_send() -> None:
    """The task is told by the call itself, whether it waited or not; an initiator around it changes nothing."""
    told = Told()
    socket, _ = scripted(10, Blocked(0), 10, 3, Blocked())
    async with open_initiator() as initiator:
        args = told.args("a")
        for _ in range(2):
            assert await socket.send(args) == 10
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(socket.send, args)
                await wait_all_tasks_blocked()
                assert args.pending
                assert initiator.pending_operations == 0
                scope.cancel()
        assert args.socket_error is ABORTED
    assert told.events == []


async def test_others_may_wait_for_args_that_are_awaited() -> None:
    """They get the count when the awaiting task has it."""
    socket, port = scripted(3, Blocked(), 7, 4, Blocked())
    counts: list[int] = []

    async def wait(args: SocketAsyncEventArgs) -> None:
        with assert_checkpoints():
            counts.append(await args.wait())

    async with sending(socket, "ab") as (first, second), trio.open_nursery() as nursery:
        for sender in (first, second):
            assert sender.args is not None
            nursery.start_soon(wait, sender.args)
        await wait_all_tasks_blocked()
        assert counts == []
        port.unblock()
        await wait_all_tasks_blocked()
        assert counts == [10]
        second.scope.cancel()
        await wait_all_tasks_blocked()
        assert counts == [10, 4]


async def test_args_in_use_are_refused() -> None:
    """Two tasks cannot await the same args, and an initiator cannot start them."""
    socket, port = scripted(Blocked())
    async with open_initiator(), sending(socket, "a") as (sender,):
        assert sender.args is not None
        with pytest.raises(OperationInProgressError):
            await socket.send(sender.args)
        with pytest.raises(OperationInProgressError):
            socket.send_async(sender.args)
        with pytest.raises(OperationInProgressError):
            sender.args.set_buffer(b"other")
        port.unblock()
    assert sender.result == 10


@pytest.mark.parametrize("fails", ["in the kernel", "before it"])
async def test_what_another_task_does_with_free_args_is_not_taken_for_the_own_end(
    fails: str,
) -> None:
    """They are free when the first attempt has failed, but the task that awaits it has yet to go on."""
    if fails == "in the kernel":
        socket, _ = scripted("EACCES")
        expected = SocketError.ACCESS_DENIED
    else:
        socket = Socket.from_port(ScriptedPort(), connected=False)
        expected = SocketError.NOT_CONNECTED
    other, port = scripted()
    args = SocketAsyncEventArgs(b"either")
    caught: list[SocketError] = []

    async def send_first() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_second)
            with pytest.raises(SocketException) as raised:
                await socket.send(args)
            caught.append(raised.value.socket_error_code)

    async def send_second() -> None:
        assert args.socket_error is expected
        assert await other.send(args) == 6

    await send_first()
    assert caught == [expected]
    assert port.accepted == b"either"
    assert args.socket_error is SUCCESS


# Cancelled ------------------------------------------------------------------------------------


@faces
@pytest.mark.parametrize("accepted", [0, 3])
async def test_the_head_is_cancelled(plain: bool, accepted: int) -> None:
    """Its count is exact. What waits behind it goes on if nothing of it was sent, and is cut off otherwise."""
    socket, port = scripted(accepted, Blocked()) if accepted else scripted(Blocked())
    async with sending(socket, "abc", plain=plain) as (head, *followers):
        head.scope.cancel()
        await wait_all_tasks_blocked()
        assert head.scope.cancelled_caught
        assert head.result == "cancelled"
        port.unblock()
    if head.args is not None:
        assert head.args.socket_error is ABORTED
        assert head.args.bytes_transferred == accepted
        assert not head.args.pending
    if accepted:
        assert [sender.result for sender in followers] == [CUT_OFF] * 2
        assert port.accepted == ten("a")[:3]
        assert socket.torn is not None
        assert socket.torn.operation is head.args
        assert socket.torn.bytes_transferred == 3
        assert b"".join(socket.torn.remaining) == ten("a")[3:]
        # The rest completes the message, and the stream is whole again.
        assert await socket.send_rest() == 7
        assert await socket.send(ten("d")) == 10
        assert port.accepted == ten("a") + ten("d")
    else:
        assert [sender.result for sender in followers] == [10] * 2
        assert port.accepted == ten("b") + ten("c")
        assert socket.torn is None


@faces
@pytest.mark.parametrize("position", [1, 2, 3])
async def test_a_follower_is_cancelled(plain: bool, position: int) -> None:
    """It leaves no trace: no byte, no gap, and the others do not notice."""
    socket, port = scripted(3, Blocked())
    async with sending(socket, "abcd", plain=plain) as senders:
        senders[position].scope.cancel()
        await wait_all_tasks_blocked()
        assert senders[position].result == "cancelled"
        assert socket.queued_operations == 3
        port.unblock()
    results: list[Any] = [10] * 4
    results[position] = "cancelled"
    assert [sender.result for sender in senders] == results
    names = [name for number, name in enumerate("abcd") if number != position]
    assert port.accepted == b"".join(map(ten, names))
    assert socket.torn is None
    args = senders[position].args
    if args is not None:
        assert args.socket_error is ABORTED
        assert args.bytes_transferred == 0


@pytest.mark.fact("F227")
@pytest.mark.parametrize("kind", ["unix", "tcp4"])
@faces
async def test_a_cancelled_send_on_a_real_socket(kind: str, plain: bool) -> None:
    """The peer has exactly the bytes that were counted, and with the rest it has the message."""
    message = bytes_of(300_000)
    with connected(kind) as (socket, peer):
        async with trio.open_nursery() as nursery:
            sender = Sender(socket, "", plain=plain, data=message)
            nursery.start_soon(sender.run)
            await wait_all_tasks_blocked()
            sender.scope.cancel()
        assert socket.torn is not None
        count = socket.torn.bytes_transferred
        assert 0 < count < len(message)
        if sender.args is not None:
            assert sender.args.bytes_transferred == count
        data = await read_exactly(peer, count)
        assert nothing_to_read(peer)
        assert data == message[:count]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.send_rest)
            data += await read_exactly(peer, len(message) - count)
        assert data == message
        assert socket.torn is None


async def test_a_deadline_cuts_like_any_cancel(autojump_clock: trio.testing.MockClock) -> None:
    """The head's deadline, and a follower's, which comes first."""
    socket, port = scripted(3, Blocked())
    async with sending(socket, "ab") as (head, follower):
        head.scope.deadline = trio.current_time() + 20
        follower.scope.deadline = trio.current_time() + 10
        await trio.sleep(15)
        assert follower.result == "cancelled"
        assert head.result is None
    assert head.result == "cancelled"
    assert head.args is not None
    assert head.args.bytes_transferred == 3
    assert port.accepted == ten("a")[:3]


@faces
@pytest.mark.parametrize("accepted", [0, 3])
async def test_head_and_follower_are_cancelled_at_once(plain: bool, accepted: int) -> None:
    """As by one scope around both: each ends as cancelled, whoever of the two comes to run first."""
    for _ in range(10):
        socket, port = scripted(accepted, Blocked()) if accepted else scripted(Blocked())
        async with sending(socket, "abc", plain=plain) as senders:
            for sender in senders[:2]:
                sender.scope.cancel()
            await wait_all_tasks_blocked()
            port.unblock()
        assert [sender.result for sender in senders[:1]] == ["cancelled"]
        assert senders[1].result in ("cancelled", CUT_OFF)
        assert senders[2].result == (CUT_OFF if accepted else 10)
        assert len(port.accepted) == (3 if accepted else 10)


@faces
async def test_no_byte_is_sent_for_a_follower_whose_cancel_was_delivered(plain: bool) -> None:
    """The cancel comes in the step in which the socket becomes ready.

    Whether the follower or the one that drains runs first is up to Trio, so there are several rounds. In each, what
    was cancelled was not sent, and what was sent was not cancelled.
    """
    for _ in range(20):
        socket, port = scripted(3, Blocked())
        async with open_initiator(JOIN):
            head = SocketAsyncEventArgs(ten("head"))
            assert socket.send_async(head)
            async with sending(socket, "ab", plain=plain) as (first, second):
                port.unblock()
                first.scope.cancel()
        assert first.result == "cancelled"
        assert second.result == 10
        assert port.accepted == ten("head") + ten("b")
        if first.args is not None:
            assert first.args.socket_error is ABORTED
            assert first.args.bytes_transferred == 0


@faces
@pytest.mark.parametrize("ending", ["close", "tear", "error", "drain", "own cancel"])
async def test_a_follower_that_is_cancelled_ends_only_once(plain: bool, ending: str) -> None:
    """Its cancel and another end come in one step, with no chance for it to run between them."""
    socket, port = scripted(3, Blocked())
    async with open_initiator():
        head = SocketAsyncEventArgs(ten("head"))
        assert socket.send_async(head)
        async with sending(socket, "a", plain=plain) as (sender,):
            sender.scope.cancel()
            if ending == "close":
                socket.close()
            elif ending == "tear":
                head.cancel()
            elif ending == "error":
                port._script[:] = ["ECONNRESET"]
                port.unblock()
                socket._core.sends.drain(100)
            elif ending == "drain":
                port.unblock()
                socket._core.sends.drain(100)
            elif sender.args is not None:
                sender.args.cancel()
            await wait_all_tasks_blocked()
    assert sender.result == "cancelled"
    assert sender.scope.cancelled_caught
    if sender.args is not None:
        assert not sender.args.pending
        assert sender.args.bytes_transferred == 0
        assert sender.args.socket_error is not SUCCESS
    assert port.accepted == (ten("head") if ending == "drain" else ten("head")[:3])


@pytest.mark.fact("F228")
@pytest.mark.parametrize("position", [0, 1])
async def test_a_completion_beats_a_cancel_that_comes_behind_it(position: int) -> None:
    """Once the bytes are accepted, the send returns; the cancel strikes at the next checkpoint."""
    socket, port = scripted(Blocked())
    async with sending(socket, "ab") as senders:
        port.unblock()
        socket._core.sends.drain(100)
        senders[position].scope.cancel()
    if position == 1:
        assert senders[1].result == 10
    assert senders[position].args is not None
    assert senders[position].args.bytes_transferred == 10
    assert senders[position].args.socket_error is SUCCESS
    assert port.accepted == ten("a") + ten("b")


@pytest.mark.parametrize("order", ["close first", "cancel first"])
async def test_the_count_is_not_lost_when_a_close_and_a_cancel_meet(order: str) -> None:
    """The call is cancelled, as it would be without the close, and the args tell what was accepted."""
    socket, port = scripted(3, Blocked())
    args = SocketAsyncEventArgs(ten("a"))
    scope = trio.CancelScope()

    async def send() -> None:
        with scope:
            await socket.send(args)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        if order == "close first":
            socket.close()
        scope.cancel()
        socket.close()
    assert scope.cancelled_caught
    assert args.bytes_transferred == 3
    assert args.socket_error is SocketError.OPERATION_ABORTED
    assert b"".join(args.remaining) == ten("a")[3:]
    assert port.accepted == ten("a")[:3]


# Stopped by a call ----------------------------------------------------------------------------


@pytest.mark.parametrize("accepted", [0, 3])
async def test_cancel_of_awaited_args_at_the_head(accepted: int) -> None:
    """The awaiting task leaves its wait and raises OPERATION_ABORTED."""
    socket, port = scripted(accepted, Blocked()) if accepted else scripted(Blocked())
    async with sending(socket, "ab") as (head, follower):
        assert head.args is not None
        attempts = port.attempts
        assert head.args.cancel("because")
        assert not head.args.cancel()
        await wait_all_tasks_blocked()
        assert head.result is ABORTED
        assert port.attempts == attempts
        port.unblock()
    assert head.args.bytes_transferred == accepted
    with pytest.raises(SocketException, match="because"):
        assert head.args.outcome is not None
        head.args.outcome.unwrap()
    assert follower.result == (CUT_OFF if accepted else 10)
    assert not head.scope.cancelled_caught


async def test_cancel_of_awaited_args_that_are_parked() -> None:
    """The same behind the head, where nothing can have been sent."""
    socket, port = scripted(3, Blocked())
    async with sending(socket, "abc") as (head, parked, last):
        assert parked.args is not None
        assert parked.args.cancel()
        await wait_all_tasks_blocked()
        assert parked.result is ABORTED
        port.unblock()
    assert [head.result, last.result] == [10, 10]
    assert port.accepted == ten("a") + ten("c")
    assert parked.args.bytes_transferred == 0


@pytest.mark.parametrize("kind", ["unix", "tcp4"])
async def test_cancel_of_awaited_args_on_a_real_socket(kind: str) -> None:
    """The task's wait for the descriptor is left, and the descriptor can be waited for again."""
    message = bytes_of(300_000)
    with connected(kind) as (socket, peer):
        async with trio.open_nursery() as nursery:
            sender = Sender(socket, "", data=message)
            nursery.start_soon(sender.run)
            await wait_all_tasks_blocked()
            assert sender.args is not None
            assert sender.args.cancel()
            await wait_all_tasks_blocked()
            assert sender.result is ABORTED
            count = sender.args.bytes_transferred
            nursery.start_soon(socket.send_rest)
            await wait_all_tasks_blocked()
            assert await read_exactly(peer, len(message)) == message
        assert 0 < count < len(message)
        assert sender.args.bytes_transferred == len(message)


@pytest.mark.fact("F209")
@faces
@pytest.mark.parametrize("real", [True, False], ids=["real", "scripted"])
async def test_a_close_ends_every_awaited_send(plain: bool, real: bool) -> None:
    """Wherever it waits; each raises OPERATION_ABORTED, and later ones ObjectDisposedError."""

    async def check(socket: Socket) -> None:
        async with sending(socket, "abc", plain=plain) as senders:
            socket.close()
            await wait_all_tasks_blocked()
            assert [sender.result for sender in senders] == [ABORTED] * 3
        with pytest.raises(ObjectDisposedError):
            await socket.send(ten("d"))

    if real:
        with connected("unix") as (socket, _):
            fill(socket)
            await check(socket)
    else:
        socket, port = scripted(3, Blocked())
        await check(socket)
        assert port.accepted == ten("a")[:3]
        assert port.closed
        assert port.was_reset


@faces
@pytest.mark.parametrize("how", ["object", "descriptor"])
async def test_a_close_behind_the_librarys_back_hangs_nobody_for_good(
    plain: bool, how: str
) -> None:
    """The system tells nobody of such a close. A close in the proper way still ends all that waits."""
    left, right = stdlib_pair("unix", tiny=True)
    with right:
        socket = Socket.from_stdlib(left)
        fill(socket)
        async with trio.open_nursery() as nursery:
            senders = [Sender(socket, name, plain=plain) for name in "ab"]
            for sender in senders:
                nursery.start_soon(sender.run)
                await wait_all_tasks_blocked()
            if how == "object":
                left.close()
            else:
                # So that nobody gets the number meanwhile, it is closed and reopened.
                twin = left.dup()
                number = left.detach()
                stdlib_socket.close(number)
                twin.close()
            await wait_all_tasks_blocked()
            with suppress(OSError):
                socket.close()
            await wait_all_tasks_blocked()
            results = [sender.result for sender in senders]
            nursery.cancel_scope.cancel()  # so that the test ends in any case
        assert results == [ABORTED] * 2


@pytest.mark.parametrize("breaks", ["ECONNRESET", "EPIPE", "ETIMEDOUT"])
async def test_a_dead_connection_ends_every_awaited_send(breaks: str) -> None:
    """The head has its count, the others nothing, and all of them the cause."""
    socket, port = scripted(3, Blocked(), breaks)
    async with sending(socket, "abc") as senders:
        port.unblock()
    assert len({sender.result for sender in senders}) == 1
    assert [sender.args.bytes_transferred for sender in senders if sender.args] == [3, 0, 0]
    assert socket.torn is None


# The watch goes from hand to hand -------------------------------------------------------------


async def ready(socket: Socket, peer: stdlib_socket.socket, filled: int) -> None:
    """Make room."""
    await read_exactly(peer, filled)
    await wait_all_tasks_blocked()


@pytest.mark.parametrize("fallback", [False, True], ids=["epoll", "tasks"])
@pytest.mark.parametrize("end", ["cancel", "scope"])
@faces
async def test_the_watch_goes_from_one_task_to_the_next(
    plain: bool, end: str, fallback: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head gives up with nothing sent; the one behind it waits for the socket then."""
    if fallback:
        monkeypatch.setattr("trio_send._owners.engine.HAVE_EPOLL", False)
    if plain and end == "cancel":
        pytest.skip("nobody holds a handle on it")
    with connected("unix") as (socket, peer):
        filled = fill(socket)
        async with sending(socket, "abc", plain=plain) as (first, second, third):
            for sender in (first, second):
                if end == "scope":
                    sender.scope.cancel()
                else:
                    assert sender.args is not None
                    assert sender.args.cancel()
                await wait_all_tasks_blocked()
            await ready(socket, peer, filled)
            assert third.result == 10
        assert await read_exactly(peer, 10) == ten("c")
        assert nothing_to_read(peer)


@pytest.mark.parametrize("fallback", [False, True], ids=["epoll", "tasks"])
@pytest.mark.parametrize("same_step", [False, True], ids=["in turn", "in one step"])
@faces
async def test_the_watch_goes_between_tasks_and_initiators(
    plain: bool, same_step: bool, fallback: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the task when the initiator's operation is stopped, to the initiator when the task's is, and so on."""
    if fallback:
        monkeypatch.setattr("trio_send._owners.engine.HAVE_EPOLL", False)
    told = Told()
    with connected("unix") as (socket, peer):
        filled = fill(socket)
        async with open_initiator(), trio.open_nursery() as nursery:
            args = [told.args(name) for name in "ace"]
            senders = [Sender(socket, name, plain=plain) for name in "bd"]
            for number in range(3):
                assert socket.send_async(args[number])
                if number < 2:
                    nursery.start_soon(senders[number].run)
                    await wait_all_tasks_blocked()
            assert socket.queued_operations == 5
            for number in range(2):
                assert args[number].cancel()
                if not same_step:
                    await wait_all_tasks_blocked()
                senders[number].scope.cancel()
                if not same_step:
                    await wait_all_tasks_blocked()
            await wait_all_tasks_blocked()
            assert [sender.result for sender in senders] == ["cancelled"] * 2
            await ready(socket, peer, filled)
            assert told.events == [("a", ABORTED, 0), ("c", ABORTED, 0), ("e", SUCCESS, 10)]
        assert await read_exactly(peer, 10) == ten("e")
        assert nothing_to_read(peer)


@pytest.mark.parametrize("head", ["task", "initiator"])
async def test_whoever_watches_drains_what_others_own(head: str) -> None:
    """A task sends the initiator's messages along with its own, and the other way round."""
    told = Told()
    with connected("unix") as (socket, peer):
        filled = fill(socket)
        async with open_initiator(), trio.open_nursery() as nursery:
            sender = Sender(socket, "task")
            for who in (head, "initiator" if head == "task" else "task"):
                if who == "task":
                    nursery.start_soon(sender.run)
                else:
                    assert socket.send_async(told.args("initiator"))
                await wait_all_tasks_blocked()
            await ready(socket, peer, filled)
            assert sender.result == 10
            assert told.events == [("initiator", SUCCESS, 10)]
        names = [head, "initiator" if head == "task" else "task"]
        assert await read_exactly(peer, 20) == b"".join(map(ten, names))


async def test_leaving_an_initiator_hands_the_watch_to_a_task() -> None:
    """The exit stops the initiator's operations, and the task behind them waits for the socket itself."""
    told = Told()
    with connected("unix") as (socket, peer):
        filled = fill(socket)
        async with trio.open_nursery() as nursery:
            sender = Sender(socket, "task")
            async with open_initiator():
                assert socket.send_async(told.args("a"))
                nursery.start_soon(sender.run)
                await wait_all_tasks_blocked()
                assert socket.send_async(told.args("b"))
            assert told.events == [("a", ABORTED, 0), ("b", ABORTED, 0)]
            await ready(socket, peer, filled)
            assert sender.result == 10
        assert await read_exactly(peer, 10) == ten("task")


async def test_leaving_an_initiator_cuts_off_an_awaited_follower() -> None:
    """A cut is a cut for whoever waits behind it."""
    socket, port = scripted(3, Blocked())
    async with trio.open_nursery() as nursery:
        sender = Sender(socket, "task")
        async with open_initiator():
            assert socket.send_async(SocketAsyncEventArgs(ten("a")))
            nursery.start_soon(sender.run)
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        assert sender.result is CUT_OFF
    assert port.accepted == ten("a")[:3]


# Ended on the way to sleep --------------------------------------------------------------------


def at_the_beginning_of(
    function: str, action: Callable[[], object], place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Do something once where a function begins, as a signal handler may."""
    real = getattr(place, function)

    def begun(*arguments: Any) -> Any:
        monkeypatch.setattr(place, function, real)
        action()
        return real(*arguments)

    monkeypatch.setattr(place, function, begun)


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("what", ["its end", "its turn"])
async def test_what_comes_right_before_a_task_is_parked_keeps_it_going(
    what: str, limited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would wake it later."""
    with connected("unix") as (socket, peer):
        filled = fill(socket)
        async with open_initiator(), trio.open_nursery() as nursery:
            head = SocketAsyncEventArgs(ten("head"))
            assert socket.send_async(head)
            sender = Sender(socket, "a")
            assert sender.args is not None
            if limited:
                sender.args.timeout = 60
            stopped = sender.args if what == "its end" else head
            at_the_beginning_of("_park", stopped.cancel, AwaitingTask, monkeypatch)

            async def run() -> None:
                with assert_checkpoints():
                    await sender.run()

            nursery.start_soon(run)
            await wait_all_tasks_blocked()
            assert sender.result is (ABORTED if what == "its end" else None)
            assert head.pending is (what == "its end")
            await ready(socket, peer, filled)
            assert sender.result == (ABORTED if what == "its end" else 10)
        name = "head" if what == "its end" else "a"
        assert await read_exactly(peer, 10) == ten(name)
        assert nothing_to_read(peer)


@pytest.mark.parametrize("what", ["its end", "its turn"])
async def test_a_cancel_does_not_send_a_task_on_its_way_that_was_woken_before_it_slept(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end that came first is what the task is told; a turn that came first is taken from it where it waits next."""
    with connected("unix") as (socket, peer):
        filled = fill(socket)
        async with open_initiator(), trio.open_nursery() as nursery:
            head = SocketAsyncEventArgs(ten("head"))
            assert socket.send_async(head)
            await wait_all_tasks_blocked()
            sender = Sender(socket, "a")
            assert sender.args is not None
            stopped = sender.args if what == "its end" else head

            def strike() -> None:
                stopped.cancel()
                sender.scope.cancel()

            at_the_beginning_of("wait_task_rescheduled", strike, trio.lowlevel, monkeypatch)
            nursery.start_soon(sender.run)
            await wait_all_tasks_blocked()
            assert sender.result == (ABORTED if what == "its end" else "cancelled")
            assert sender.scope.cancelled_caught is (what == "its turn")
            assert sender.args.socket_error is ABORTED
            assert head.pending is (what == "its end")
            await ready(socket, peer, filled)
        if what == "its end":
            assert await read_exactly(peer, 10) == ten("head")
        assert nothing_to_read(peer)


async def test_a_send_that_ends_right_before_its_task_waits_for_the_socket_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The socket may be full for ever, and nobody would get the task out of that wait."""
    with connected("unix") as (socket, peer):
        filled = fill(socket)
        sender = Sender(socket, "a")
        assert sender.args is not None
        slot = OperationQueue.__dict__["others_wait"]
        # Before the first wait there is a try; it is in vain.
        strikes = [lambda: None, sender.args.cancel]

        class Struck:
            """The same attribute, and something is done where it is looked at."""

            def __get__(self, queue: Any, _: object) -> Any:
                if strikes:
                    strikes.pop(0)()
                return slot.__get__(queue)

            def __set__(self, queue: Any, value: bool) -> None:
                slot.__set__(queue, value)

        monkeypatch.setattr(OperationQueue, "others_wait", Struck())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.run)
            await wait_all_tasks_blocked()
            assert sender.result is ABORTED
        assert strikes == []
        assert await read_exactly(peer, filled) == bytes(filled)
        assert nothing_to_read(peer)


class AskedPort(ScriptedPort):
    """A port that does something when it is asked for its descriptor, and notes who waits for it.

    Attributes:
      actions: what to do, the first time, the second time and so on.
      waits: how many times somebody began to wait.
    """

    def __init__(self) -> None:
        super().__init__([Blocked()])
        self.actions: list[Callable[[], object]] = []
        self.waits = 0

    def fileno(self) -> int:
        if self.actions:
            self.actions.pop(0)()
        return super().fileno()

    async def wait_writable(self) -> None:
        self.waits += 1
        await super().wait_writable()


@pytest.mark.parametrize("end", ["close", "cancel"])
@pytest.mark.parametrize("times", [1, 2])
async def test_a_port_that_ends_the_send_when_asked_for_its_descriptor_is_not_waited_for(
    times: int, end: str
) -> None:
    """It may be closed by then."""
    port = AskedPort()
    socket = Socket.from_port(port)
    sender = Sender(socket, "a")
    assert sender.args is not None
    stop = socket.close if end == "close" else sender.args.cancel
    port.actions = [*[lambda: None] * (times - 1), stop]
    with assert_checkpoints():
        await sender.run()
    assert port.actions == []
    assert (sender.result, sender.agrees) == (ABORTED, True)
    assert (port.waits, port.attempts) == (0, 1)
    assert port.accepted == b""


# Other things that are awaited ----------------------------------------------------------------


@pytest.mark.parametrize("end", ["cancel", "close"])
async def test_send_rest_can_be_interrupted_and_repeated(end: str) -> None:
    """The count of args goes on where it stopped, however often that happens."""
    socket, port = scripted(3, Blocked(), 2, Blocked(), 4)
    async with sending(socket, "a") as (sender,):
        sender.scope.cancel()
    args = sender.args
    assert args is not None
    port.unblock()

    async def send_rest() -> None:
        with pytest.raises(SocketException) if end == "close" else nullcontext():
            await socket.send_rest()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_rest)
        await wait_all_tasks_blocked()
        assert args.bytes_transferred == 5
        assert socket.torn is None
        (nursery.cancel_scope.cancel if end == "cancel" else socket.close)()
    assert args.bytes_transferred == 5
    assert args.socket_error is ABORTED
    assert port.accepted == ten("a")[:5]
    if end == "cancel":
        assert socket.torn is not None
        port.unblock()
        assert await socket.send_rest() == 5
        assert port.accepted == ten("a")
        assert args.bytes_transferred == 10
        assert args.socket_error is SUCCESS
    else:
        assert port.was_reset


async def test_a_cancelled_plain_send_can_be_finished_with_fresh_args() -> None:
    """Nobody holds the operation that was cut, but the socket knows its rest."""
    socket, port = scripted(3, Blocked())
    async with sending(socket, "a", plain=True) as (sender,):
        sender.scope.cancel()
    assert socket.torn is not None
    assert socket.torn.operation is None
    rest = SocketAsyncEventArgs(buffer_list=socket.torn.remaining)
    async with open_initiator():
        assert socket.resume(rest)
        port.unblock()
        assert await rest.wait() == 7
    assert port.accepted == ten("a")


@pytest.mark.parametrize("what", ["accept", "receive", "connect"])
async def test_other_operations_can_be_cancelled_and_closed(what: str) -> None:
    """They are operations of the awaiting task too: a cancel and a close end them, each in its way."""
    for end in ("cancel", "close"):
        with stdlib_socket.socket() as raw, connected("unix") as (stream, _):
            raw.bind(("127.0.0.1", 0))
            raw.listen()
            listener = Socket.from_stdlib(raw)
            calls: dict[str, tuple[Socket, Callable[[], Awaitable[object]]]] = {
                "accept": (listener, listener.accept),
                "receive": (stream, stream.receive),
            }
            if what == "connect":
                client = Socket()
                calls["connect"] = client, partial(client.connect, raw.getsockname())
            socket, call = calls[what]
            caught: list[Any] = []

            async def run(
                call: Callable[[], Awaitable[object]] = call, caught: list[Any] = caught
            ) -> None:
                try:
                    with assert_checkpoints():
                        await call()
                except SocketException as error:
                    caught.append(error.socket_error_code)
                except ObjectDisposedError as error:
                    caught.append(type(error))

            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    if what == "connect":
                        scope.cancel()  # a connection to this machine takes no time to wait in
                        nursery.start_soon(run)
                    else:
                        nursery.start_soon(run)
                        await wait_all_tasks_blocked()
                        (scope.cancel if end == "cancel" else socket.close)()
            if end == "close" and what != "connect":
                assert caught == [ABORTED]
            else:
                assert caught == []
                assert scope.cancelled_caught
            socket.close()
            listener.close()


async def test_a_close_ends_sends_and_receives_of_one_socket() -> None:
    """Two tasks wait for one descriptor, in both directions."""
    with connected("unix") as (socket, _):
        fill(socket)
        codes: list[SocketError] = []

        async def run(call: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(SocketException) as caught:
                await call()
            codes.append(caught.value.socket_error_code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, lambda: socket.send(ten("a")))
            nursery.start_soon(run, socket.receive)
            await wait_all_tasks_blocked()
            socket.close()
        assert codes == [ABORTED] * 2


async def test_a_stop_in_one_direction_leaves_the_other_waiting() -> None:
    """Both tasks wait for one descriptor, and what is told there is told to both."""
    with connected("unix") as (socket, peer):
        filled = fill(socket)
        received: list[bytes] = []
        room = bytearray(10)
        into = SocketAsyncEventArgs(room)

        async def receive() -> None:
            received.append(await socket.receive(10))

        async with trio.open_nursery() as nursery:
            first, second = Sender(socket, "a"), Sender(socket, "b")
            assert first.args is not None
            nursery.start_soon(receive)
            for sender in (first, second):
                nursery.start_soon(sender.run)
                await wait_all_tasks_blocked()
            assert first.args.cancel()
            await wait_all_tasks_blocked()
            assert first.result is ABORTED
            assert (second.result, received) == (None, [])
            socket.shutdown(SocketShutdown.SEND)  # ends the send that waits now
            await wait_all_tasks_blocked()
            assert second.result is not None
            assert received == []
            peer.send(ten("c"))
        assert received == [ten("c")]
        assert await read_exactly(peer, filled) == bytes(filled)
        async with open_initiator():
            assert socket.receive_async(into)
            peer.send(ten("d"))
            assert await into.wait() == 10
        assert room == ten("d")


@pytest.mark.parametrize("early", [False, True])
async def test_whoever_waits_through_the_trio_socket_is_not_told_of_a_stop(early: bool) -> None:
    """Whether that was there before the send began to wait, or not."""
    with connected("unix") as (socket, peer):
        fill(socket)
        received: list[bytes] = []

        async def receive() -> None:
            received.append(await socket.trio.recv(10))

        async with trio.open_nursery() as nursery:
            sender = Sender(socket, "a")
            assert sender.args is not None
            for run in (receive, sender.run) if early else (sender.run, receive):
                nursery.start_soon(run)
                await wait_all_tasks_blocked()
            assert sender.args.cancel()
            await wait_all_tasks_blocked()
            assert sender.result is ABORTED
            assert received == []
            peer.send(ten("b"))
        assert received == [ten("b")]


async def test_without_memory_an_awaited_send_tries_again_after_a_pause(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It sleeps then, and a cancel reaches it there."""
    socket, port = scripted("ENOBUFS", "ENOBUFS", 4, "ENOBUFS", 6)
    assert await socket.send(ten("a")) == 10
    assert port.accepted == ten("a")
    assert trio.current_time() > 0
    socket, port = scripted(4, *["ENOBUFS"] * 8)
    with trio.CancelScope() as scope:
        scope.deadline = trio.current_time() + 0.05
        await socket.send(ten("a"))
    assert scope.cancelled_caught
    assert port.accepted == ten("a")[:4]
    assert socket.torn is not None


async def test_a_close_ends_a_pause_that_follows_a_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What gets a task out of a wait does not end a sleep."""
    socket, port = scripted(Blocked(1), "ENOBUFS")
    sender = Sender(socket, "a", plain=True)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender.run)
        await trio.sleep(1 + FIRST_BACKOFF / 2)
        assert port.attempts == 2
        socket.close()
    assert sender.result is ABORTED
    assert trio.current_time() < began + 1 + FIRST_BACKOFF


async def test_a_close_ends_a_pause_that_follows_a_wait_for_a_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those who wait for one are told there, and those who sleep are not there."""
    monkeypatch.setattr("trio_send._operations.send_queue.FIRST_BACKOFF", 3600.0)

    def no_memory(buffer: object, flags: int) -> int:
        raise OSError(errno.ENOBUFS, "no memory")

    with connected("unix") as (socket, peer):
        filled = fill(socket)
        sender = Sender(socket, "a", plain=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.run)
            await wait_all_tasks_blocked()
            monkeypatch.setattr(socket._core.port, "send", no_memory)
            await read_exactly(peer, filled)
            await wait_all_tasks_blocked()
            assert socket._core.sends.backoff == 3600
            socket.close()
        assert sender.result is ABORTED


async def test_an_awaited_send_keeps_its_own_time_limits(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """At the head and behind it, where a task is parked."""
    socket, port = scripted(3, Blocked())
    async with trio.open_nursery() as nursery:
        head, follower = Sender(socket, "a"), Sender(socket, "b")
        assert head.args is not None
        assert follower.args is not None
        head.args.timeout = 20
        follower.args.timeout = 10
        for sender in (head, follower):
            nursery.start_soon(sender.run)
            await wait_all_tasks_blocked()
        await trio.sleep(15)
        assert follower.result is SocketError.TIMED_OUT
        assert head.result is None
    assert head.result is SocketError.TIMED_OUT
    assert head.args.bytes_transferred == 3
    assert port.accepted == ten("a")[:3]
    assert trio.current_time() < math.inf


@pytest.mark.parametrize("has_descriptor", [True, False])
async def test_whoever_waits_within_a_limit_is_woken_while_it_falls_asleep_unless_for_a_descriptor(
    has_descriptor: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trio may be about to put it on the list of those that wait for one."""
    answers: list[bool] = []
    port_class = KernelPort if has_descriptor else ScriptedPort
    wait_writable = port_class.wait_writable

    async def wait(port: Any) -> None:
        answers.append(nobody_may_be_woken())
        await wait_writable(port)

    monkeypatch.setattr(port_class, "wait_writable", wait)
    with connected("unix") as (socket, _):
        if has_descriptor:
            fill(socket)
        else:
            socket, _ = scripted(Blocked())
        args = SocketAsyncEventArgs(b"x")
        args.timeout = 60
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(socket.send, args)
                await wait_all_tasks_blocked()
                scope.cancel()
    assert answers == [has_descriptor]


def test_a_scripted_port_serves_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rounds above rest on this: a port without a descriptor is waited for through its own method."""
    assert ScriptedPort().fileno() == -1
