"""Ctrl-C in the main thread while Trio runs in another one, or nowhere: the scenes, and their table.

`tests.striking` has the strike itself. Here Python raises at once, whatever is marked for Trio.
"""

from __future__ import annotations

import socket as stdlib_socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio

import trio_send
from tests.striking import BIG, Mistake, Strike, require, runs_of, stand_in_line
from trio_send import (
    AsyncResult,
    Initiator,
    InvalidOperationError,
    ManualResetEvent,
    ObjectDisposedError,
    Socket,
    SocketAsyncEventArgs,
    SocketException,
    from_thread,
)
from trio_send._threads.lifetime import entered_owner

if TYPE_CHECKING:
    from typing_extensions import Self


class ThreadScene:
    """A run of Trio in a thread of its own, with a host and a socket whose peer reads; and the call that is struck.

    Attributes:
      reads: whether the peer reads.
    """

    def __init__(self, strike: Strike) -> None:
        self.strike = strike
        self.interrupted = False
        self.reads = threading.Event()
        self.host: Initiator = None  # type: ignore[assignment]
        self.socket: Socket = None  # type: ignore[assignment]
        self.received = bytearray()
        self._token: trio.lowlevel.TrioToken | None = None
        self._ready = threading.Event()
        self._over: trio.Event | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        left, right = stdlib_socket.socketpair()
        right.setblocking(False)
        self._over = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        with right:
            self.socket = Socket.from_stdlib(left)
            try:
                async with trio_send.open_initiator() as self.host, trio.open_nursery() as nursery:
                    nursery.start_soon(self._read, right)
                    self._ready.set()
                    await self._over.wait()
                    nursery.cancel_scope.cancel()
            finally:
                self.socket.close()

    async def _read(self, peer: stdlib_socket.socket) -> None:
        while True:
            try:
                while self.reads.is_set() and (piece := peer.recv(1 << 20)):
                    self.received += piece
            except BlockingIOError:
                pass
            await trio.sleep(0.0005)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._token is not None and self._over is not None
        self._token.run_sync_soon(self._over.set)
        self._thread.join(10)
        require(not self._thread.is_alive(), "the run of Trio has no end")
        require(self._error is None, f"the run of Trio raised {self._error!r}")

    def in_trio(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call something in the Trio thread."""
        return trio.from_thread.run_sync(function, *arguments, trio_token=self._token)

    def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Make the call that is struck; return what it returns, or None if it was interrupted."""
        result = None
        try:
            with self.strike:
                result = function(*arguments, **named)
        except KeyboardInterrupt:
            self.interrupted = True
        require(self.interrupted or not self.strike.struck, "Ctrl-C was lost")
        return result

    def until(self, is_so: Callable[[], bool], complaint: str) -> None:
        for _ in range(2000):
            if is_so():
                return
            time.sleep(0.0005)
        raise Mistake(complaint)

    def settle(self, *operations: SocketAsyncEventArgs | AsyncResult) -> None:
        """See that everything has an end, that the next send goes out, and that the bytes add up."""
        self.reads.set()
        for operation in operations:
            if isinstance(operation, AsyncResult):
                self.until(lambda each=operation: each.is_completed, "a result has no end")  # type: ignore[misc]
            else:
                self.until(lambda each=operation: not each.pending, "args are pending for ever")  # type: ignore[misc]
        self.in_trio(self._forget)
        last = SocketAsyncEventArgs(b"!!!")
        require(
            from_thread.send_async(self.socket, last, host=self.host), "the next send is refused"
        )
        self.until(lambda: not last.pending, "the next send waits for ever")
        require(last.bytes_transferred == 3, f"the next send: {last!r}")
        self.in_trio(stand_in_line, self.socket)
        accepted = self.in_trio(lambda: self.socket.statistics().bytes_accepted)
        self.until(lambda: len(self.received) == accepted, "the peer has another number of bytes")
        total = sum(operation.bytes_transferred for operation in operations) + 3
        require(total >= accepted or not operations, "some bytes are in no count")
        letters = [letter for letter, _ in runs_of(self.received)]
        require(len(letters) == len(set(letters)), f"mixed: {runs_of(self.received)}")

    def _forget(self) -> None:
        if self.socket.torn is not None:
            self.socket.forget_torn()


@attrs.frozen
class ThreadCall:
    """One way to drive a call from a thread that runs no Trio."""

    name: str
    drive: Callable[[ThreadScene], None]
    case: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.case}".rstrip()


THREAD_CALLS: list[ThreadCall] = []


def drives(name: str, case: str = "", /, **settings: Any) -> Callable[[Any], Any]:
    def put(function: Any) -> Any:
        THREAD_CALLS.append(ThreadCall(name, partial(function, **settings), case))
        return function

    return put


@drives("from_thread.send_async", "first", warm=False)
@drives("from_thread.send_async", "later", warm=True)
def send_async(scene: ThreadScene, warm: bool) -> None:
    args = SocketAsyncEventArgs(b"A" * BIG)
    operations = [args]
    if warm:
        operations.append(SocketAsyncEventArgs(b"W" * 10))
        from_thread.send_async(scene.socket, operations[-1], host=scene.host)
    answer = scene.call(from_thread.send_async, scene.socket, args, host=scene.host)
    require(answer or scene.interrupted, "it was refused")
    scene.settle(*operations)
    require(args.bytes_transferred in (0, BIG), f"a message in part: {args!r}")
    require(scene.interrupted or args.bytes_transferred == BIG, "it was not sent")


@drives("from_thread.begin_send", name="begin_send")
@drives("from_thread.try_begin_send", name="try_begin_send")
def begin_send(scene: ThreadScene, name: str) -> None:
    told: list[int] = []
    message = b"A" * BIG
    scene.call(
        getattr(from_thread, name),
        scene.socket,
        message,
        callback=lambda ar: told.append(ar.bytes_transferred),
        host=scene.host,
    )
    scene.settle()
    sizes = dict(runs_of(scene.received))
    require(sizes.get("A", 0) in (0, BIG), f"a message in part: {sizes}")
    scene.until(lambda: told == [BIG] * ("A" in sizes), f"sent {sizes}, and told {told}")


@drives("from_thread.start", of="args")
@drives("from_thread.start", "of a result", of="result")
def start(scene: ThreadScene, of: str) -> None:
    operation: Any = None
    with from_thread.initiator(scene.host):
        if of == "args":
            operation = SocketAsyncEventArgs(bytearray(10))
            answer = scene.call(from_thread.start, scene.socket.receive_async, operation)
        else:
            operation = answer = scene.call(
                from_thread.start, scene.socket.begin_receive, bytearray(10)
            )
        require(answer or scene.interrupted, "it was refused")
    scene.settle(*[operation] * (operation is not None))


@drives("from_thread.end")
def end(scene: ThreadScene) -> None:
    """Either it was taken, or it still can be."""
    result = from_thread.begin_send(scene.socket, b"A" * BIG, host=scene.host)
    scene.reads.set()
    scene.call(from_thread.end, result)
    scene.settle(result)
    try:
        require(from_thread.end(result) == BIG, "another count")
    except InvalidOperationError:
        pass


@drives("from_thread.cancel", of="args")
@drives("from_thread.cancel", "of a result", of="result")
def cancel(scene: ThreadScene, of: str) -> None:
    operation: Any
    if of == "args":
        operation = SocketAsyncEventArgs(b"A" * BIG)
        from_thread.send_async(scene.socket, operation, host=scene.host)
    else:
        operation = from_thread.begin_send(scene.socket, b"A" * BIG, host=scene.host)
    scene.call(from_thread.cancel, operation, "why")
    if not scene.interrupted:
        scene.until(
            lambda: scene.in_trio(lambda: scene.socket.queued_operations) == 0, "it is not stopped"
        )
    scene.settle(operation)


@drives("from_thread.end_send")
def end_send(scene: ThreadScene) -> None:
    """Either it was taken, or it still can be."""
    result = from_thread.begin_send(scene.socket, b"A" * BIG, host=scene.host)
    scene.reads.set()
    scene.call(from_thread.end_send, result)
    scene.settle(result)
    try:
        require(from_thread.end_send(result) == BIG, "another count")
    except InvalidOperationError:
        pass
    require(not result.async_wait_handle._blocked, "nobody waits, and somebody is said to")


@drives("from_thread.wait_one", "set", is_set=True)
@drives("from_thread.wait_one", "not set", is_set=False)
def wait_one(scene: ThreadScene, is_set: bool) -> None:
    flag = ManualResetEvent(is_set)
    scene.call(from_thread.wait_one, flag, 0.001)
    require(not flag._blocked, "nobody waits, and somebody is said to")


@drives("ManualResetEvent.set")
def set_flag(scene: ThreadScene) -> None:
    """Of all that wait, or of none."""
    flag = ManualResetEvent()
    woken: list[bool] = []
    threads = [
        threading.Thread(target=lambda: woken.append(from_thread.wait_one(flag, 5)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    scene.until(lambda: len(flag._blocked) == 2, "nobody waits")
    scene.call(flag.set)
    if not flag._is_set:
        require(scene.interrupted, "it is not set")
        flag.set()
    for thread in threads:
        thread.join(2)
        require(not thread.is_alive(), "it is set, and who waits is not woken")
    require(woken == [True, True], "woken, and not told why")


@drives("AsyncResult.async_wait_handle")
def wait_handle(scene: ThreadScene) -> None:
    result = from_thread.begin_send(scene.socket, b"A" * 10, host=scene.host)
    scene.reads.set()
    scene.until(lambda: result.is_completed, "a result has no end")
    scene.call(getattr, result, "async_wait_handle")
    require(from_thread.wait_one(result.async_wait_handle, 1), "it has ended, and is never set")


@drives("_ThreadScope.__enter__", "and the exit", policy=trio_send.ExitPolicy.ABORT)
@drives("_ThreadScope.__exit__", "and the entry", policy=trio_send.ExitPolicy.ABORT)
@drives("_ThreadScope.__exit__", "JOIN", policy=trio_send.ExitPolicy.JOIN)
def use_block(scene: ThreadScene, policy: trio_send.ExitPolicy) -> None:
    """What was started inside ends, wherever the block was struck."""
    args = SocketAsyncEventArgs(b"A" * BIG)
    if policy is trio_send.ExitPolicy.JOIN:
        scene.reads.set()

    def inside() -> None:
        with from_thread.initiator(scene.host, policy):
            from_thread.send_async(scene.socket, args)

    scene.call(inside)
    scene.until(lambda: not args.pending, "the block was left, and its send is pending")
    scene.settle(args)
    owners = scene.in_trio(lambda: len(scene.host._owner.threads))
    require(owners <= 1, "the block was left, and its initiator lives on")  # one is the thread's


@drives("_ThreadScope.__enter__", "inside another")
@drives("_ThreadScope.__exit__", "inside another")
def use_inner_block(scene: ThreadScene) -> None:
    """Whatever became of the inner block, what is started behind it is the outer one's."""
    args = SocketAsyncEventArgs(b"A" * BIG)

    def inside() -> None:
        with from_thread.initiator():
            from_thread.send_async(scene.socket, args)

    with from_thread.initiator(scene.host) as outer:
        scene.call(inside)
        require(entered_owner() is outer._owner, "what is started now is not the outer block's")
        scene.until(lambda: not args.pending, "the block was left, and its send is pending")
    scene.settle(args)


@drives("SocketAsyncEventArgs.set_buffer")
def set_buffer(scene: ThreadScene) -> None:
    args = SocketAsyncEventArgs(b"A" * 1000)
    scene.call(args.set_buffer, b"B" * 700)
    said = args.buffer
    scene.reads.set()
    from_thread.send_async(scene.socket, args, host=scene.host)
    scene.settle(args)
    sent = bytes(scene.received[: args.bytes_transferred])
    require(sent == said, f"args held {runs_of(said)}, and sent {runs_of(sent)}")  # type: ignore[arg-type]


@drives("SocketAsyncEventArgs.close")
def close_args(scene: ThreadScene) -> None:
    args = SocketAsyncEventArgs(b"A" * 1000)
    scene.call(args.close)
    says_closed = "closed" in repr(args)
    try:
        from_thread.send_async(scene.socket, args, host=scene.host)
    except ObjectDisposedError:
        require(says_closed, "closed args say that they are open")
    else:
        require(not says_closed, "closed args were sent")
    scene.settle()


@drives("Socket.close", "where no Trio runs", how="close")
@drives("TrioFace.close", "where no Trio runs", how="face")
@drives("Socket.shutdown", "where no Trio runs", how="shutdown")
def close_outside(scene: ThreadScene, how: str) -> None:
    """A socket of the main thread, before its run of Trio."""
    left, right = stdlib_socket.socketpair()
    with right:
        right.setblocking(False)
        socket = Socket.from_stdlib(left)
        try:
            if how != "shutdown":
                scene.call(socket.close if how == "close" else socket.trio.close)
                socket.close()
                require(socket.fileno() < 0, "it says that it is closed, and is open")
            else:
                scene.call(socket.shutdown, trio_send.SocketShutdown.SEND)
                try:
                    is_down = right.recv(1) == b""
                except BlockingIOError:
                    is_down = False
                require(
                    is_down == socket._core.send_was_shut_down, "the kernel knows another thing"
                )
        finally:
            socket.close()


def run_thread_scene(call: ThreadCall, strike: Strike) -> str | None:
    """Run one scene, with its call struck; return what was wrong."""
    complaint: str | None = None
    before = sys.gettrace()
    try:
        with ThreadScene(strike) as scene:
            try:
                call.drive(scene)
            except Mistake as mistake:
                complaint = str(mistake)
            except (SocketException, InvalidOperationError) as error:
                complaint = f"it raised {error!r}"
            finally:
                sys.settrace(before)
    except Mistake as mistake:
        complaint = complaint or str(mistake)
    except KeyboardInterrupt:
        complaint = complaint or "Ctrl-C came late"
    return complaint
