"""Hold every run, whatever is done to it, to a model that knows nothing of the library but what it promises.

A world is a socket on a scripted port, two initiators and any number of awaiting tasks. A list of actions is done to
it. The model is told of four things only: that a send is about to be started, what the port answered to an attempt,
that an operation, or all of an owner's, or all there are, have been told to stop, and that a torn stream may be written
again. From that alone it knows at every moment how many bytes each send has, how each has ended, and what may be
offered to the port next; and the library has to agree.
"""

from __future__ import annotations

import contextvars
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import accumulate, combinations, pairwise, product
from typing import Any

import attrs
import outcome
import pytest
import trio
from hypothesis import HealthCheck, given, settings, strategies as st
from trio.testing import wait_all_tasks_blocked

from tests.helpers import bytes_of
from tests.scripted import Call, SpyPort, run_virtual
from trio_send import (
    AsyncResult,
    InvalidOperationError,
    ObjectDisposedError,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    open_initiator,
)
from trio_send._operations.operation import Operation, Owner
from trio_send._operations.send_queue import SendQueue
from trio_send._operations.states import QUEUED
from trio_send.testing import Blocked

# -- the model ---------------------------------------------------------------------------------------------------------

DEAD = {"ECONNRESET": SocketError.CONNECTION_RESET, "EPIPE": SocketError.SHUTDOWN}
OTHER = {"EACCES": SocketError.ACCESS_DENIED, "EHOSTUNREACH": SocketError.HOST_UNREACHABLE}
FULL = ("EAGAIN", "ENOBUFS", "ENOMEM")


@attrs.define(eq=False)
class Send:
    """One send as the model sees it.

    Attributes:
      data: the message.
      owner: ``"A"``, ``"B"``, or the number of an awaiting task.
      is_rest: whether the peer has the beginning of its message already, from another send.
      accepted: how many bytes the port took.
      error: how it ended; None as long as it has not.
      pended: whether its start was answered "pending".
    """

    data: bytes
    owner: str
    is_rest: bool = False
    accepted: int = 0
    error: SocketError | None = None
    pended: bool = False

    @property
    def rest(self) -> bytes:
        return self.data[self.accepted :]

    @property
    def is_cut(self) -> bool:
        return (self.accepted > 0 or self.is_rest) and bool(self.rest)


class Model:
    """What has to become of each send."""

    def __init__(self, *, is_stream: bool, refuse_torn: bool) -> None:
        self.is_stream = is_stream
        self.refuse_torn = refuse_torn
        self.queue: list[Send] = []
        self.trying: Send | None = None
        self.torn: Send | None = None
        self.broken: SocketError | None = None
        #: What each owner has to be told, in order.
        self.told: dict[str, list[Send]] = {}

    def start(self, send: Send) -> None:
        assert self.trying is None, "a start was not attempted although nothing was in its way"
        if self.torn is not None:
            send.error = SocketError.CONNECTION_ABORTED
        elif self.broken is not None:
            send.error = self.broken
        elif self.queue:
            self._join(send)
        else:
            self.trying = send

    def resume(self, send: Send) -> None:
        self.torn = None
        send.error = None
        send.pended = False
        assert not self.queue, "something waited behind a cut message"
        self.trying = send

    def _join(self, send: Send) -> None:
        send.pended = True
        self.queue.append(send)

    def _end(self, send: Send, error: SocketError) -> None:
        assert send.error is None
        send.error = error
        if send in self.queue:
            self.queue.remove(send)
        if send.pended:
            self.told.setdefault(send.owner, []).append(send)

    def called(self, call: Call) -> None:
        first, self.trying = self.trying, None
        line = [first] if first is not None else list(self.queue)
        assert line, f"{call} although nothing waits"
        head = line[0]
        if self.is_stream and first is None:
            # Neighbours may share a call, from the head on and as a whole up to the last.
            assert b"".join(send.rest for send in line).startswith(call.offered)
            assert len(call.offered) in accumulate(len(send.rest) for send in line)
            assert bool(call.offered) == bool(head.rest)
        else:
            assert call.offered == head.rest
        if isinstance(call.result, int):
            self._accepted(line, call)
        elif call.result in DEAD and self.is_stream:
            self.broken = DEAD[call.result]
            for send in line:
                self._end(send, self.broken)
        elif call.result not in FULL:
            self._end(head, {**DEAD, **OTHER}[call.result])
            if self._tears(head):
                self._tear(head)
        if first is not None and first.error is None:
            self._join(first)

    def _accepted(self, line: list[Send], call: Call) -> None:
        assert isinstance(call.result, int)
        left = call.result
        for send in line:
            took = min(left, len(send.rest))
            send.accepted += took
            left -= took
            # What has no bytes is done by an attempt of its own, or by bytes that went behind it.
            if not send.rest and (took or left or not call.offered):
                self._end(send, SocketError.SUCCESS)
            if not left:
                break
        assert not left

    def _tears(self, send: Send) -> bool:
        return self.is_stream and self.refuse_torn and send.is_cut

    def _tear(self, send: Send) -> None:
        self.torn = send
        for behind in list(self.queue):
            self._end(behind, SocketError.CONNECTION_ABORTED)

    def stop(self, send: Send, error: SocketError) -> bool:
        if send not in self.queue:
            return False
        self._end(send, error)
        if self._tears(send):
            self._tear(send)
        return True

    def leave(self, owner: str) -> None:
        cut = None
        for send in [send for send in self.queue if send.owner == owner]:
            self._end(send, SocketError.OPERATION_ABORTED)
            if self._tears(send):
                cut = send
        if cut is not None:
            self._tear(cut)

    def close(self) -> None:
        self.torn = None
        for send in list(self.queue):
            self._end(send, SocketError.OPERATION_ABORTED)


# -- the world ---------------------------------------------------------------------------------------------------------


class WatchedQueue(SendQueue):
    """A queue that tells its world when an operation begins and when one is told to stop."""

    __slots__ = ()

    @property
    def world(self) -> World:
        return WORLDS[self.port]

    def start(self, operation: Operation, owner: Owner) -> bool:
        self.world.bound[operation] = self.world.current
        return super().start(operation, owner)

    def _join(self, operation: Operation, owner: Owner, **options: Any) -> bool:
        self.world.bound[operation] = self.world.current
        return super()._join(operation, owner, **options)

    def stop(self, operation: Operation, code: int, detail: str | None) -> bool:
        expected = self.world.model.stop(self.world.bound[operation], SocketError(code))
        assert super().stop(operation, code, detail) == expected
        return expected

    def stop_owner(self, owner: Owner, code: int, detail: str | None, **options: Any) -> int:
        for name, initiator in self.world.initiators.items():
            if initiator._owner is owner:
                self.world.model.leave(name)
        return super().stop_owner(owner, code, detail, **options)

    def request_stop(self, operation: Operation, code: int, detail: str | None) -> bool:
        expected = self.world.model.stop(self.world.bound[operation], SocketError(code))
        assert super().request_stop(operation, code, detail) == expected
        return expected

    def close(self, then: Callable[[], object]) -> None:
        self.world.model.close()
        super().close(then)


#: The worlds that exist, for their queues to find.
WORLDS: dict[Any, World] = {}

NO_LIMITS = (math.inf, math.inf)


@attrs.define(eq=False)
class Handle:
    """What the library has of a send, and the send of the model.

    Attributes:
      face: how it was started: ``"args"``, ``"begin"`` or ``"await"``.
      buffer: what the message lies in.
      operation: the args or the result; None for what nobody holds.
      scope: the one around an await.
      result: what an await came to.
      views: what the test itself holds of a message.
    """

    send: Send
    face: str
    buffer: Any = None
    operation: SocketAsyncEventArgs | AsyncResult | None = None
    scope: trio.CancelScope | None = None
    result: str | None = None
    views: Sequence[memoryview] = ()


class World:
    """A socket, its model, and what can be done to both."""

    def __init__(
        self, script: list[int | str | Blocked], *, is_stream: bool = True, on_torn: str = "refuse"
    ) -> None:
        self.model = Model(is_stream=is_stream, refuse_torn=on_torn == "refuse")
        self.port = SpyPort(script, is_stream=is_stream, on_call=self.model.called)
        self.socket = Socket.from_port(self.port, on_torn=on_torn)
        self.socket._core.sends.__class__ = WatchedQueue
        self.handles: list[Handle] = []
        #: The send that is being started, and those that the queue has seen.
        self.current: Any = None
        self.bound: dict[Operation, Send] = {}
        #: Whom `Completed` and callbacks have told, in order, for each owner.
        self.told: dict[str, list[Send]] = {}
        self.contexts: dict[str, contextvars.Context] = {}
        self.initiators: dict[str, Any] = {}
        self.leave = {"A": trio.Event(), "B": trio.Event()}
        self.left: set[str] = set()
        self.starting = False
        self.closed = False
        self.bytes_started = 0

    # Starting.

    def _message(self, size: int) -> tuple[bytes, Any]:
        # All messages together are one stream that looks the same nowhere. Some lie in what can be resized.
        data = STREAM[self.bytes_started : self.bytes_started + size]
        self.bytes_started += size
        return data, (bytearray(data) if size % 2 else data)

    def _tell(self, send: Send) -> None:
        assert not self.starting, "somebody was told from inside a start"
        self.told.setdefault(send.owner, []).append(send)

    def _started(self, owner: str, start: Callable[[], bool], send: Send) -> None:
        """Start a send, of which the model knows already, for an initiator."""
        self.current = send
        self.starting = True
        pending = self.contexts[owner].run(start)
        self.starting = False
        assert self.model.trying is None, "no attempt was made although nothing was in its way"
        assert pending == send.pended

    def start(self, face: str, owner: str, size: int, limits: tuple[float, float]) -> None:
        data, buffer = self._message(size)
        if self.closed or owner in self.left:
            self._start_in_vain(face, owner, buffer)
            return
        handle = Handle(Send(data, owner), face, buffer)
        send = handle.send
        self.handles.append(handle)
        self.model.start(send)
        if face == "args":
            args = handle.operation = SocketAsyncEventArgs(buffer)
            args.timeout, args.stall_timeout = limits
            args.completed += lambda *_: self._tell(send)
            self._started(owner, lambda: self.socket.send_async(args), send)
            return

        def begin() -> bool:
            result, error = self.socket.try_begin_send(buffer, callback=lambda _: self._tell(send))
            handle.operation = result
            if result is None:
                assert error is send.error is not SocketError.SUCCESS
                return False
            return not result.completed_synchronously

        self._started(owner, begin, send)
        if not send.pended and send.error is SocketError.SUCCESS:
            # Told all the same, for there is a callback.
            self.model.told.setdefault(owner, []).append(send)

    def _start_in_vain(self, face: str, owner: str, buffer: Any) -> None:
        """Start what must be refused, in one way or another, and must leave no trace."""
        calls = len(self.port.calls)
        args = SocketAsyncEventArgs(buffer)
        try:
            if face == "args":
                assert not self.contexts[owner].run(self.socket.send_async, args)
                assert args.socket_error is SocketError.OPERATION_ABORTED
            else:
                refused = self.contexts[owner].run(self.socket.try_begin_send, buffer)
                assert refused == (None, SocketError.OPERATION_ABORTED)
        except ObjectDisposedError:
            assert self.closed
        except InvalidOperationError:
            assert owner in self.left
        else:
            assert owner in self.left  # and is not through with it
            assert not self.closed
        assert not args.pending
        assert args.bytes_transferred == 0
        assert len(self.port.calls) == calls

    async def send(self, size: int, with_args: bool, limits: tuple[float, float]) -> None:
        data, buffer = self._message(size)
        handle = Handle(Send(data, f"task {len(self.handles)}"), "await", buffer)
        message = buffer
        if with_args:
            message = handle.operation = SocketAsyncEventArgs(buffer)
            message.timeout, message.stall_timeout = limits
            message.completed += lambda *_: self._tell(handle.send)
        await self._await(handle, self.model.start, lambda: self.socket.send(message))

    async def send_rest(self) -> None:
        # The end of a cut send has to have been told.
        await wait_all_tasks_blocked()
        torn = self.model.torn
        if self.closed:
            return
        if torn is None:
            with pytest.raises(InvalidOperationError, match="not torn"):
                await self.socket.send_rest()
            return
        handle = self._cut()
        owner = f"task {len(self.handles)}"
        if isinstance(handle.operation, SocketAsyncEventArgs):
            torn.owner = owner
        else:
            handle = Handle(Send(torn.rest, owner, is_rest=True), "await")
        await self._await(handle, self.model.resume, self.socket.send_rest)

    async def _await(
        self,
        handle: Handle,
        tell_model: Callable[[Send], None],
        start: Callable[[], Awaitable[int]],
    ) -> None:
        send, handle.result = handle.send, None
        before = send.accepted
        if self.closed:
            with pytest.raises(ObjectDisposedError):
                await start()
            return
        if handle not in self.handles:
            self.handles.append(handle)
        with trio.CancelScope() as handle.scope:
            self.current = send
            tell_model(send)
            try:
                count = await start()
            except SocketException as error:
                self._failed(handle, error, before)
            except trio.Cancelled:
                assert send.error is not None, "cancelled, but not ended"
                assert send.error is not SocketError.SUCCESS, "cancelled, but complete"
                handle.result = "cancelled"
                raise
            else:
                assert send.error is SocketError.SUCCESS
                assert count == len(send.data) - before
                handle.result = "done"

    def _failed(self, handle: Handle, error: SocketException, before: int) -> None:
        send = handle.send
        assert send.error is error.socket_error_code
        # The rest of a message may be counted from its beginning or from where it was cut.
        assert error.bytes_transferred in (send.accepted, send.accepted - before)
        handle.result = "failed"

    # What else can be done.

    def cancel(self, index: int) -> None:
        if not self.handles:
            return
        handle = self.handles[index % len(self.handles)]
        if handle.scope is not None and handle.result is None:
            handle.scope.cancel()
        elif handle.operation is not None:
            waits = handle.send in self.model.queue
            assert handle.operation.cancel() == waits
            assert handle.send not in self.model.queue

    def _cut(self) -> Handle:
        return next(handle for handle in self.handles if handle.send is self.model.torn)

    async def resume(self, owner: str) -> None:
        # The end of a cut send has to have been told.
        await wait_all_tasks_blocked()
        torn = self.model.torn
        if self.closed or owner in self.left:
            return
        if torn is None:
            with pytest.raises(InvalidOperationError, match="not torn"):
                self.contexts[owner].run(self.socket.resume, SocketAsyncEventArgs(b"x"))
            return
        handle = self._cut()
        args = handle.operation
        if handle.face == "args" and isinstance(args, SocketAsyncEventArgs):
            torn.owner = owner
        else:
            assert self.socket.torn is not None
            views = self.socket.torn.remaining
            args = SocketAsyncEventArgs(buffer_list=views)
            send = Send(torn.rest, owner, is_rest=True)
            handle = Handle(send, "args", operation=args, views=views)
            args.completed += lambda *_: self._tell(handle.send)
            self.handles.append(handle)
        self.model.resume(handle.send)
        self._started(owner, lambda: self.socket.resume(args), handle.send)

    def forget(self) -> None:
        if not self.closed:
            self.model.torn = None
            self.socket.forget_torn()

    def close(self) -> None:
        if not self.closed:
            cut = self.model.is_stream and bool(self.model.torn or self.model.queue)
            self.closed = True
            self.socket.close()
            assert self.port.inner.was_reset == cut

    # Comparing.

    def compare(self) -> None:
        """Compare what can be seen between two steps."""
        for handle in self.handles:
            send, operation = handle.send, handle.operation
            if operation is None:
                continue
            assert operation.bytes_transferred == send.accepted
            assert b"".join(operation.remaining) == send.rest
            assert (operation._operation.state == QUEUED) == (send in self.model.queue)
            if send in self.model.queue:
                assert operation.outcome is None
        assert self.socket.queued_operations == len(self.model.queue)
        assert self.socket._core.sends.accepted == len(self.port.accepted)
        torn = self.socket.torn
        assert (torn is None) == (self.model.torn is None)
        if torn is not None and self.model.torn is not None:
            assert b"".join(torn.remaining) == self.model.torn.rest

    def compare_settled(self) -> None:
        """Compare when everybody has been told of what has happened."""
        self.compare()
        for handle in self.handles:
            send, operation = handle.send, handle.operation
            if send.error is SocketError.SUCCESS:
                assert send.accepted == len(send.data)
            elif send.data:
                assert send.accepted < len(send.data), "complete, but not a success"
            if operation is None or send.error is None:
                continue
            found = operation.outcome
            if send.error is SocketError.SUCCESS:
                assert found == outcome.Value(len(send.data))
            else:
                assert isinstance(found, outcome.Error)
                assert isinstance(found.error, SocketException)
                assert found.error.socket_error_code is send.error
                assert found.error.bytes_transferred == send.accepted
        # Each exactly once, none that had not pended, and in the order in which they ended.
        assert self.told == {
            owner: told for owner, told in self.model.told.items() if owner in self.leave
        }

    def compare_ended(self) -> None:
        """Compare when all is closed and left: nothing is alive, and nothing stays behind."""
        self.compare_settled()
        queue = self.socket._core.sends
        assert (queue.head, queue.tail, queue.length) == (None, None, 0)
        assert (queue.watcher, queue.watched, queue.torn) == (None, None, None)
        for initiator in self.initiators.values():
            assert initiator.pending_operations == 0
        for handle in self.handles:
            for view in handle.views:
                view.release()
        for handle in self.handles:
            assert handle.send.error is not None, "still alive"
            if handle.face == "await":
                assert handle.result is not None
            operation = handle.operation
            if operation is not None:
                assert (operation._operation.queue, operation._operation.owner) == (None, None)
                assert (operation._operation.next, operation._operation.previous) == (None, None)
                assert not operation._operation.waiters
            if isinstance(handle.buffer, bytearray):
                handle.buffer.append(0)  # which any view would forbid
        accepted = [handle.send.data[: handle.send.accepted] for handle in self.handles]
        assert b"".join(accepted) == self.port.accepted

    # Running.

    async def _host(
        self, name: str, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        async with open_initiator() as initiator:
            self.initiators[name] = initiator
            self.contexts[name] = contextvars.copy_context()
            task_status.started()
            await self.leave[name].wait()
            self.left.add(name)

    async def run(self, script: Callable[[trio.Nursery], Awaitable[None]]) -> None:
        """Carry out a script, then close and leave everything, and compare all the while."""
        WORLDS[self.port] = self
        try:
            async with trio.open_nursery() as hosts:
                for name in self.leave:
                    await hosts.start(self._host, name)
                async with trio.open_nursery() as tasks:
                    await script(tasks)
                    await wait_all_tasks_blocked()
                    self.compare_settled()
                    self.close()
                    self.compare()
                    await wait_all_tasks_blocked()
                    self.compare_settled()
                for event in self.leave.values():
                    event.set()
            self.compare_ended()
        finally:
            del WORLDS[self.port]


STREAM = bytes_of(4096, seed=7)

# -- worlds at random --------------------------------------------------------------------------------------------------

seconds = st.sampled_from([0.25, 1, 3])
lines = st.one_of(
    st.integers(0, 9),
    st.builds(Blocked, st.one_of(seconds, st.just(math.inf))),
    st.sampled_from(["EAGAIN", "ENOBUFS", "ENOMEM", *OTHER, *DEAD]),
)
# More of these in a row would exhaust the library's patience, which is not in the model.
scripts = st.lists(lines, max_size=14).filter(
    lambda script: sum(line in ("ENOBUFS", "ENOMEM") for line in script) < 10
)
owners = st.sampled_from(["A", "B"])
sizes = st.integers(0, 6)
limits = st.one_of(
    st.just(NO_LIMITS), st.just(NO_LIMITS), st.tuples(st.just(math.inf) | seconds, seconds)
)
actions = st.one_of(
    st.tuples(st.just("start"), st.sampled_from(["args", "begin"]), owners, sizes, limits),
    st.tuples(st.just("start"), st.sampled_from(["args", "begin"]), owners, sizes, limits),
    st.tuples(st.just("send"), sizes, st.booleans(), limits),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("advance"), seconds),
    st.tuples(st.sampled_from(["yield", "settle", "unblock", "forget", "send_rest"])),
    st.tuples(st.just("resume"), owners),
    st.tuples(st.just("leave")),
    st.tuples(st.just("close")),
)


async def carry_out(world: World, action: tuple[Any, ...], tasks: trio.Nursery) -> None:
    what, *details = action
    if what == "start":
        world.start(*details)
    elif what == "send":
        tasks.start_soon(world.send, *details)
    elif what == "cancel":
        world.cancel(*details)
    elif what == "advance":
        await trio.sleep(*details)
    elif what == "yield":
        await trio.lowlevel.checkpoint()
    elif what == "settle":
        await wait_all_tasks_blocked()
        world.compare_settled()
    elif what == "unblock":
        world.port.inner.unblock()
    elif what == "forget":
        world.forget()
    elif what == "send_rest":
        tasks.start_soon(world.send_rest)
    elif what == "resume":
        await world.resume(*details)
    elif what == "leave":
        world.leave["A"].set()
    else:
        assert what == "close"
        world.close()
    world.compare()


@settings(
    max_examples=600,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    script=scripts,
    todo=st.lists(actions, max_size=25),
    is_stream=st.sampled_from([True, True, True, False]),
    on_torn=st.sampled_from(["refuse", "refuse", "allow"]),
)
def test_any_world_agrees_with_the_model(
    script: list[int | str | Blocked],
    todo: list[tuple[Any, ...]],
    is_stream: bool,
    on_torn: str,
) -> None:
    async def main() -> None:
        world = World(script, is_stream=is_stream, on_torn=on_torn)

        async def carry_out_all(tasks: trio.Nursery) -> None:
            for action in todo:
                await carry_out(world, action, tasks)

        await world.run(carry_out_all)

    run_virtual(main)


# -- all worlds of a kind ----------------------------------------------------------------------------------------------

SIZES = (2, 3)


def small_scripts() -> Iterator[list[int | str | Blocked]]:
    """Yield every way to accept the bytes of two small messages, with and without a pause before each part."""
    total = sum(SIZES)
    for count in range(total):
        for cuts in combinations(range(1, total), count):
            parts = [end - begin for begin, end in pairwise((0, *cuts, total))]
            for pauses in product([False, True], repeat=len(parts)):
                script: list[int | str | Blocked] = []
                for part, pause in zip(parts, pauses, strict=True):
                    if pause:
                        script.append(Blocked(1))
                    script.append(part)
                yield script


def small_scripts_with(error: str) -> Iterator[list[int | str | Blocked]]:
    """Yield the ways that are paused before each part, with the error in the place of each part in turn."""
    for script in small_scripts():
        if script.count(Blocked(1)) == len(script) / 2:
            for index in range(1, len(script), 2):
                yield [*script[:index], error]


class CancelAfter(trio.abc.Instrument):
    """Cancels one of a world's sends right after the step in which a number of attempts was reached."""

    def __init__(self, world: World, attempts: int, target: int) -> None:
        self.world = world
        self.attempts = attempts
        self.target = target
        self.struck = False
        #: An instrument must not raise.
        self.error: BaseException | None = None

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if (
            not self.struck
            and len(self.world.port.calls) >= self.attempts
            and len(self.world.handles) > self.target
        ):
            self.struck = True
            try:
                self.world.cancel(self.target)
                if (
                    not self.world.socket._core.sends.held
                ):  # else it is done when Trio runs the next task
                    self.world.compare()
            except BaseException as error:
                self.error = error


async def small_world(
    script: list[int | str | Blocked], faces: tuple[str, str], cancel: tuple[int, int] | None
) -> int:
    """Run two small sends in a world and cancel one of them; return how many attempts were made before the end."""
    world = World(script)
    instrument = None
    attempts = 0

    async def start_and_wait(tasks: trio.Nursery) -> None:
        nonlocal attempts
        for face, size in zip(faces, SIZES, strict=True):
            if face == "await":
                tasks.start_soon(world.send, size, True, NO_LIMITS)
            else:
                world.start(face, "A", size, NO_LIMITS)
            # A cancel may strike between the two.
            await trio.lowlevel.checkpoint()
        await trio.sleep(20)
        world.compare_settled()
        attempts = len(world.port.calls)

    if cancel is not None:
        instrument = CancelAfter(world, *cancel)
        trio.lowlevel.add_instrument(instrument)
    try:
        await world.run(start_and_wait)
    finally:
        if instrument is not None:
            trio.lowlevel.remove_instrument(instrument)
    if instrument is not None and instrument.error is not None:
        raise instrument.error
    return attempts


@pytest.mark.parametrize(
    ("faces", "error"),
    [
        (("args", "begin"), None),
        (("await", "args"), None),
        (("begin", "await"), "ECONNRESET"),
        (("args", "await"), "EACCES"),
    ],
)
def test_every_small_world_agrees_with_the_model(faces: tuple[str, str], error: str | None) -> None:
    async def main() -> None:
        for script in small_scripts() if error is None else small_scripts_with(error):
            attempts = await small_world(script, faces, None)
            for index, target in product(range(1, attempts + 1), range(2)):
                await small_world(script, faces, (index, target))

    run_virtual(main)
