"""The table of the public calls: what each may change, and how to drive it.

Whoever adds a public function, method, setter or coroutine adds a row: with `drives`, or if the call changes nothing
that anybody else could see, to `CHANGES_NOTHING`. `tests/whole/test_strikes.py` reads the table.

A row's drive makes one call by ``scene.call``, and checks afterwards that what it was about is whole: done, or not
done. It is a function that nothing protects.
"""

from __future__ import annotations

import os
import socket as stdlib_socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Literal

import attrs
import trio
import trio.testing

import trio_send
from tests.connections import open_sockets
from tests.striking import BIG, Scene, host_of_this_task, require, runs_of
from trio_send import (
    AsyncResult,
    BufferManager,
    DatagramBatch,
    ExitPolicy,
    ManualResetEvent,
    ObjectDisposedError,
    Receiver,
    SendPacketsElement,
    Socket,
    SocketAsyncEventArgs,
    SocketAsyncEventArgsPool,
    SocketFlags,
    SocketShutdown,
    TransmitFileOptions,
    abc,
    open_initiator,
)
from trio_send.testing import ScriptedPort

Drive = Callable[[Scene], Awaitable[None]]

AF_UNIX: int = getattr(stdlib_socket, "AF_UNIX", -1)

EVERYTHING = "kernel queue owner operation"


@attrs.frozen
class Call:
    """One way to drive one public call.

    Attributes:
      name: of the call, without ``trio_send``; that of a setter ends in ``.setter``.
      changes: what it may change, in all the ways together: "kernel", "queue", "owner", "operation".
      drive: makes the call in a scene.
      case: tells the ways apart.
    """

    name: str
    changes: frozenset[str]
    drive: Drive
    case: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.case}".rstrip()


CALLS: list[Call] = []


def drives(name: str, changes: str, case: str = "", /, **settings: Any) -> Callable[[Any], Any]:
    """Put a function into the table, with these settings for its other parameters."""

    def put(function: Any) -> Any:
        drive = partial(function, **settings)
        CALLS.append(Call(name, frozenset(changes.split()), drive, case))
        return function

    return put


# Starts of sends ------------------------------------------------------------------------------

SIZES = {"fits": 1000, "in part": BIG}


def cases_of_sends() -> Iterator[tuple[str, str, int, bool]]:
    for kind in ("bytes", "bytearray", "view", "range", "mutable range", "list"):
        for word, size in SIZES.items():
            yield f"{kind}, {word}", kind, size, False
    yield "behind another", "bytes", 1000, True


#: What a whole message of a kind is made with.
MAKERS: dict[str, Callable[[bytes], Any]] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "view": lambda message: memoryview(bytearray(message)),
}


async def send_async(scene: Scene, kind: str, size: int, behind: bool) -> None:
    scene.connect()
    if behind:
        scene.fill()
    args = scene.args("A", size, kind)
    await scene.call(scene.socket.send_async, args)
    await scene.settle()


async def begin_send(scene: Scene, kind: str, size: int, behind: bool, name: str) -> None:
    scene.connect()
    if behind:
        scene.fill()
    message = scene.message("A", size)
    begin = getattr(scene.socket, name)
    if kind.endswith("range"):
        block = b"--" + message + b"-"
        await scene.call(begin, block if kind == "range" else bytearray(block), 2, size)
    elif kind == "list":
        await scene.call(begin, [message[:3], message[3:]])
    else:
        await scene.call(begin, MAKERS[kind](message))
    await scene.settle()


async def with_reader(scene: Scene, function: Callable[..., Any], *arguments: Any) -> Any:
    """Make the call while another task reads."""
    done = False

    async def read() -> None:
        while not done:
            scene.drain()
            await trio.sleep(0.0005)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        try:
            return await scene.call(function, *arguments)
        finally:
            done = True


async def send(scene: Scene, kind: str, size: int, behind: bool, way: str) -> None:
    scene.connect()
    if behind:
        scene.fill()
    message = scene.message("A", size)
    data: Any = {
        "range": memoryview(b"-" + message)[1:],
        "mutable range": memoryview(bytearray(b"-" + message))[1:],
        "list": [message[:3], message[3:]],
    }.get(kind) or MAKERS[kind](message)
    if way == "args":
        data = scene.args("A", size, kind)
        await with_reader(scene, scene.socket.send, data)
    elif way == "send":
        await with_reader(scene, scene.socket.send, data)
    else:
        await with_reader(scene, scene.socket.as_stream().send_all, data)
    scene.settle_torn()
    await scene.settle()


for case, kind, size, behind in cases_of_sends():
    settings: dict[str, Any] = {"kind": kind, "size": size, "behind": behind}
    drives("Socket.send_async", EVERYTHING, case, **settings)(send_async)
    for name in ("begin_send", "try_begin_send"):
        drives(f"Socket.{name}", EVERYTHING, case, **settings, name=name)(begin_send)
    drives("Socket.send", EVERYTHING, case, **settings, way="send")(send)
    drives("Socket.send", EVERYTHING, f"args, {case}", **settings, way="args")(send)
    if kind != "list":
        drives("SocketStream.send_all", EVERYTHING, case, **settings, way="stream")(send)


@drives("Socket.begin_send", EVERYTHING, "callback")
async def begin_send_with_callback(scene: Scene) -> None:
    scene.connect()
    told: list[int] = []
    message = scene.message("A", 1000)
    result = await scene.call(
        scene.socket.begin_send, message, callback=lambda ar: told.append(ar.bytes_transferred)
    )
    await scene.settle()
    if result is not None:
        await scene.until(lambda: told == [1000], "the callback is not called")


# Files ----------------------------------------------------------------------------------------


@drives("Socket.send_file", EVERYTHING, "awaited", elements=False)
@drives("Socket.send_packets_async", EVERYTHING, "args", elements=True)
async def send_files(scene: Scene, elements: bool) -> None:
    scene.connect()
    message = scene.message("A", BIG)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "message")
        with open(path, "wb") as file:
            file.write(message)
        if elements:
            args = SocketAsyncEventArgs()
            args.send_packets_elements = [SendPacketsElement(path)]
            scene.messages["A"] = BIG, args
            await with_reader(scene, scene.socket.send_packets_async, args)
        else:
            await with_reader(scene, scene.socket.send_file, path)
        await scene.until(lambda: not scene.socket.queued_operations, "it is never sent")
        scene.settle_torn()
        await scene.settle()
        require(
            all(path != os.path.realpath(f"/proc/self/fd/{n}") for n in range(256)),
            "the file is open still",
        )


@drives(
    "Socket.send_packets_async", EVERYTHING, "and the end", flags=TransmitFileOptions.DISCONNECT
)
@drives(
    "Socket.send_packets_async",
    EVERYTHING,
    "and another connection",
    flags=TransmitFileOptions.REUSE_SOCKET,
)
async def send_and_disconnect(scene: Scene, flags: TransmitFileOptions) -> None:
    """The connection is ended when all was accepted, and not before."""
    scene.connect("tcp")
    args = SocketAsyncEventArgs()
    args.send_packets_elements = [SendPacketsElement(scene.message("A", 1000))]
    scene.messages["A"] = 1000, args
    args.send_packets_flags = flags
    await scene.call(scene.socket.send_packets_async, args)
    await scene.until(lambda: not args.pending, "it is never sent")
    if args.bytes_transferred == 1000 and args.socket_error == 0:
        require(not scene.socket.connected, "all was sent, and it is still connected")
    else:
        require(scene.interrupted and scene.socket.connected, "it is ended, and not all was sent")


@drives("Socket.send_packets_async", EVERYTHING, "datagrams")
async def send_packets_as_datagrams(scene: Scene) -> None:
    peer = scene.keep(stdlib_socket.socket(type=stdlib_socket.SOCK_DGRAM))
    peer.bind(("127.0.0.1", 0))
    peer.setblocking(False)
    socket = scene.keep(Socket(type=stdlib_socket.SOCK_DGRAM))
    await socket.connect(peer.getsockname())
    args = SocketAsyncEventArgs()
    args.send_packets_elements = [SendPacketsElement(b"d" * 100)] * 20
    await scene.call(socket.send_packets_async, args)
    require(not args.pending, "there is room, and it waits")
    sizes = []
    while True:
        try:
            sizes.append(len(peer.recv(2000)))
        except BlockingIOError:
            break
    require(set(sizes) <= {100}, "a datagram in part")
    require(sum(sizes) == args.bytes_transferred, "another number of bytes than is known")
    require(len(args.remaining_elements) == 20 - len(sizes), "another rest")


# The ends of sends ----------------------------------------------------------------------------


@drives("Socket.end_send", "kernel queue owner operation", name="end_send")
@drives("Socket.try_end_send", "kernel queue owner operation", name="try_end_send")
@drives("Socket.end_send_nowait", "operation", name="end_send_nowait")
@drives("Socket.try_end_send_nowait", "operation", name="try_end_send_nowait")
async def end_send(scene: Scene, name: str) -> None:
    """Either it was taken, or it still can be."""
    scene.connect()
    result = scene.socket.begin_send(scene.message("A", BIG))
    scene.messages["A"] = BIG, result
    if name.endswith("nowait"):
        await scene.until(lambda: result.is_completed, "it is never sent")
        await scene.call(getattr(scene.socket, name), result)
    else:
        await with_reader(scene, getattr(scene.socket, name), result)
    await scene.settle()
    if scene.interrupted:
        try:
            await scene.socket.end_send(result)
        except trio_send.InvalidOperationError:
            pass


@drives("AsyncResult.cancel", "queue owner operation", of="result")
@drives("SocketAsyncEventArgs.cancel", "queue owner operation", of="args")
@drives("SocketAsyncEventArgs.cancel", "queue owner operation", "behind another", of="follower")
async def cancel(scene: Scene, of: str) -> None:
    scene.connect()
    operation: Any
    if of == "result":
        operation = scene.socket.begin_send(scene.message("A", BIG))
        scene.messages["A"] = BIG, operation
    else:
        operation = scene.args("A", BIG)
        scene.socket.send_async(operation)
    follower = scene.args("Z", 100)
    scene.socket.send_async(follower)
    was_stopped = await scene.call((follower if of == "follower" else operation).cancel, "why")
    if was_stopped and of != "follower":
        require(scene.socket.torn is not None, "what was cut is not torn")
    scene.settle_torn()
    await scene.settle()


@drives("SocketAsyncEventArgs.wait", "kernel queue owner operation")
async def wait(scene: Scene) -> None:
    scene.connect()
    args = scene.args("A", BIG)
    scene.socket.send_async(args)
    await with_reader(scene, args.wait)
    await scene.settle()


# Torn streams ---------------------------------------------------------------------------------


@drives("Socket.resume", "kernel operation", how="resume")
@drives("Socket.send_rest", "kernel operation", how="send_rest")
@drives("Socket.forget_torn", "queue operation", how="forget_torn")
async def mend(scene: Scene, how: str) -> None:
    scene.connect()
    args = scene.args("A", BIG)
    scene.socket.send_async(args)
    args.cancel()
    await scene.until(lambda: not args.pending, "a stop is never told")
    if how == "resume":
        await scene.call(scene.socket.resume, args)
        await scene.until(lambda: not args.pending, "the rest is never sent")
    elif how == "send_rest":
        await with_reader(scene, scene.socket.send_rest)
    else:
        await scene.call(scene.socket.forget_torn)
        scene.given_up.add("A")
    if scene.socket.torn is not None:
        require(scene.interrupted, "the stream is still torn")
        await with_reader_unstruck(scene, scene.socket.send_rest)
    await scene.settle()


async def with_reader_unstruck(scene: Scene, function: Callable[[], Awaitable[Any]]) -> None:
    """Do something that takes a reader, with nothing to strike it."""
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            while True:
                scene.drain()
                await trio.sleep(0.0005)

        nursery.start_soon(read)
        await function()
        nursery.cancel_scope.cancel()


# Starts that are answered pending though they are done ----------------------------------------


def start_until_paced(scene: Scene) -> tuple[SocketAsyncEventArgs, int]:
    """Start until one is answered pending although it has ended."""
    args = SocketAsyncEventArgs(b"x")
    for number in range(2000):
        if scene.socket.send_async(args):
            return args, number
        scene.drain()
    raise AssertionError("no start was answered pending")


def look_at_pending(args: SocketAsyncEventArgs) -> None:
    assert args.pending in (True, False)


def look_at_error(args: SocketAsyncEventArgs) -> None:
    assert args.socket_error is not None


def look_at_completed(args: SocketAsyncEventArgs) -> None:
    args.completed += lambda socket, args: None


@drives("SocketAsyncEventArgs.pending", "owner", look=look_at_pending)
@drives("SocketAsyncEventArgs.socket_error", "owner", look=look_at_error)
@drives("SocketAsyncEventArgs.outcome", "owner", look=lambda args: args.outcome)
@drives("SocketAsyncEventArgs.completed", "owner", look=look_at_completed)
@drives("SocketAsyncEventArgs.completed.setter", "owner", look=look_at_completed)
@drives("SocketAsyncEventArgs.connect_socket", "", look=lambda args: args.connect_socket)
@drives(
    "SocketAsyncEventArgs.connect_by_name_error", "", look=lambda args: args.connect_by_name_error
)
@drives("SocketAsyncEventArgs.close", "owner", "done and pending", look=SocketAsyncEventArgs.close)
@drives("SocketAsyncEventArgs.cancel", "queue owner operation", "done", look=lambda a: a.cancel())
@drives(
    "SocketAsyncEventArgs.wait",
    "kernel queue owner operation",
    "done and pending",
    look=SocketAsyncEventArgs.wait,
)
async def look_at_paced(scene: Scene, look: Callable[[SocketAsyncEventArgs], object]) -> None:
    scene.connect()
    args, _ = start_until_paced(scene)
    await scene.call(look, args)
    with trio.move_on_after(1) as scope:
        await args.wait()
    require(not scope.cancelled_caught, "the end is never told")
    await scene.until(lambda: not args.pending, "it is pending for ever")


@drives("AsyncResult.is_completed", "owner", look="is_completed")
@drives("AsyncResult.outcome", "owner", look="outcome")
@drives("AsyncResult.async_wait_handle", "owner", "done and pending", look="async_wait_handle")
async def look_at_paced_result(scene: Scene, look: str) -> None:
    scene.connect()
    result: AsyncResult | None = None
    while result is None or result.completed_synchronously:
        result = scene.socket.begin_send(b"x")
        scene.drain()
    await scene.call(getattr, result, look)
    with trio.move_on_after(1) as scope:
        await scene.socket.end_send(result)
    require(not scope.cancelled_caught, "the end is never told")


@drives("AsyncResult.async_wait_handle", "owner", "done", size=5)
@drives("AsyncResult.async_wait_handle", "owner", "pending", size=BIG)
async def wait_handle(scene: Scene, size: int) -> None:
    scene.connect()
    result = scene.socket.begin_send(scene.message("A", size))
    scene.messages["A"] = size, result
    await scene.call(getattr, result, "async_wait_handle")
    await scene.until(lambda: result.is_completed, "it is never sent")
    with trio.move_on_after(1) as scope:
        await result.async_wait_handle.wait_one()
    require(not scope.cancelled_caught, "the flag of what has ended is never set")


# What args are told ---------------------------------------------------------------------------


def set_list(args: SocketAsyncEventArgs) -> None:
    args.buffer_list = [b"B" * 300, b"B" * 400]


def set_flags(args: SocketAsyncEventArgs) -> None:
    args.socket_flags = SocketFlags.DONT_ROUTE


def set_both_limits(args: SocketAsyncEventArgs, name: str) -> None:
    setattr(args, name, 5.0)


@drives("SocketAsyncEventArgs.set_buffer", "", "bytes", setting=lambda a: a.set_buffer(b"B" * BIG))
@drives(
    "SocketAsyncEventArgs.set_buffer",
    "",
    "bytearray",
    setting=lambda a: a.set_buffer(bytearray(b"BB")),
)
@drives(
    "SocketAsyncEventArgs.set_buffer", "", "range", setting=lambda a: a.set_buffer(b"BBBBB", 1, 2)
)
@drives("SocketAsyncEventArgs.set_buffer", "", "None", setting=lambda a: a.set_buffer(None))
@drives("SocketAsyncEventArgs.set_range", "", setting=lambda a: a.set_range(0, 500))
@drives("SocketAsyncEventArgs.buffer_list.setter", "", empty=True, setting=set_list)
@drives("SocketAsyncEventArgs.socket_flags.setter", "", setting=set_flags)
@drives("SocketAsyncEventArgs.timeout.setter", "", setting=partial(set_both_limits, name="timeout"))
@drives(
    "SocketAsyncEventArgs.stall_timeout.setter",
    "",
    setting=partial(set_both_limits, name="stall_timeout"),
)
@drives(
    "SocketAsyncEventArgs.remote_end_point.setter",
    "",
    setting=lambda a: setattr(a, "remote_end_point", ("127.0.0.1", 1)),
)
@drives(
    "SocketAsyncEventArgs.send_packets_flags.setter",
    "",
    setting=lambda a: setattr(a, "send_packets_flags", TransmitFileOptions.DISCONNECT),
)
@drives(
    "SocketAsyncEventArgs.accept_socket.setter",
    "",
    setting=lambda a: setattr(a, "accept_socket", None),
)
@drives(
    "SocketAsyncEventArgs.connect_socket.setter",
    "",
    setting=lambda a: setattr(a, "connect_socket", None),
)
async def set_what_is_sent(
    scene: Scene, setting: Callable[[SocketAsyncEventArgs], object], empty: bool = False
) -> None:
    """Whatever became of it, what args say they hold is what they send."""
    scene.connect()
    args = SocketAsyncEventArgs() if empty else SocketAsyncEventArgs(b"A" * 1000)
    await scene.call(setting, args)
    said = b"".join(bytes(each) for each in args.buffer_list or ())
    if args.buffer is not None:
        said = bytes(memoryview(args.buffer)[args.offset : args.offset + args.count])
    held = b"".join(args.remaining)
    require(said == held, f"args hold {runs_of(said)}, and what remains is {runs_of(held)}")
    before = scene.socket.statistics().bytes_accepted
    try:
        scene.socket.send_async(args)
    except ValueError:
        require(not said, "args hold something, and there is nothing to send")
        return
    await scene.until(lambda: not args.pending, "it is never sent")
    await scene.until(
        lambda: len(scene.received) == before + args.bytes_transferred, "bytes are missing"
    )
    sent = bytes(scene.received[before:])
    require(sent == said, f"args held {runs_of(said)}, and sent {runs_of(sent)}")


@drives("SocketAsyncEventArgs.send_packets_elements.setter", "")
async def set_elements(scene: Scene) -> None:
    scene.connect()
    args = SocketAsyncEventArgs()
    args.send_packets_elements = [SendPacketsElement(b"A" * 10)]
    new = [SendPacketsElement(b"B" * 20)]
    await scene.call(setattr, args, "send_packets_elements", new)
    letter = "B" if args.send_packets_elements is new else "A"
    scene.messages[letter] = len(args.remaining_elements[0].buffer or b""), args
    scene.socket.send_packets_async(args)
    await scene.settle()
    require(args.bytes_transferred == (20 if letter == "B" else 10), "other elements were sent")


@drives("SocketAsyncEventArgs.close", "owner", "idle", how="close")
@drives("SocketAsyncEventArgs.__exit__", "", how="block")
async def close_args(scene: Scene, how: str) -> None:
    scene.connect()
    args = SocketAsyncEventArgs(b"A" * 1000)
    if how == "close":
        await scene.call(args.close)
    else:
        await scene.call(args.__exit__, None, None, None)
        require("closed" in repr(args), "the block was left, and the args are open")
    says_closed = "closed" in repr(args)
    try:
        scene.socket.send_async(args)
    except ObjectDisposedError:
        require(says_closed, "closed args say that they are open")
    else:
        require(not says_closed, "closed args were sent")


# Closing and shutting down --------------------------------------------------------------------


async def expect_all_ended(scene: Scene) -> None:
    """After a close: everything has ended, with counts that add up, and the peer has no more than was accepted."""
    scene.socket.close()
    scene.drain()
    await scene.until(
        lambda: not any(operation.pending for operation in scene.operations), "closed, and pending"
    )
    accepted = scene.socket.statistics().bytes_accepted
    total = sum(operation.bytes_transferred for operation in scene.operations)
    require(total == accepted, f"the operations count {total} bytes, the socket {accepted}")
    require(len(scene.received) <= accepted, "the peer has more than was accepted")
    require(scene.socket.fileno() < 0, "closed, and the descriptor is open")


@drives("Socket.close", EVERYTHING, reset=None)
@drives("Socket.close", EVERYTHING, "without a reset", reset=False)
async def close(scene: Scene, reset: bool | None) -> None:
    scene.connect()
    scene.fill()
    scene.socket.send_async(scene.args("Z", 10))
    await scene.call(scene.socket.close, reset=reset)
    if not scene.interrupted:
        require(scene.socket.fileno() < 0, "it is open")
    await expect_all_ended(scene)


@drives("Socket.aclose", EVERYTHING, how="aclose")
@drives("Socket.__aexit__", EVERYTHING, how="block")
@drives("SocketStream.aclose", EVERYTHING, how="stream")
@drives("TrioFace.close", EVERYTHING, how="face")
@drives("TrioFace.__exit__", EVERYTHING, how="face's block")
async def close_in_other_ways(scene: Scene, how: str) -> None:
    scene.connect()
    scene.fill()
    if how == "aclose":
        await with_reader(scene, scene.socket.aclose)
    elif how == "block":
        await with_reader(scene, scene.socket.__aexit__, None, None, None)
    elif how == "stream":
        stream = scene.socket.as_stream()
        await with_reader(scene, stream.aclose)
    elif how == "face":
        await scene.call(scene.socket.trio.close)
    else:
        await scene.call(scene.socket.trio.__exit__, None, None, None)
    if how != "face":
        require(scene.socket.fileno() < 0, "the block was left, and the socket is open")
    await expect_all_ended(scene)


def has_seen_the_end(scene: Scene) -> bool:
    """Whether the kernel refuses to send any more."""
    try:
        with stdlib_socket.socket(fileno=os.dup(scene.socket.fileno())) as twin:
            twin.setblocking(False)
            twin.send(b"")
    except BrokenPipeError:
        return True
    except OSError:
        pass
    return False


@drives("Socket.shutdown", EVERYTHING, how="shutdown")
@drives("TrioFace.shutdown", EVERYTHING, how="face")
async def shut_down(scene: Scene, how: str) -> None:
    scene.connect()
    args = scene.fill()
    if how == "shutdown":
        await scene.call(scene.socket.shutdown, SocketShutdown.SEND)
    else:
        await scene.call(scene.socket.trio.shutdown, stdlib_socket.SHUT_WR)
    if has_seen_the_end(scene):
        require(not args.pending, "it is shut down, and the send waits on")
        require(
            scene.socket._core.send_was_shut_down, "it is shut down, and the socket does not know"
        )
    else:
        require(scene.interrupted, "it is not shut down")
        await scene.settle()


@drives("SocketStream.send_eof", EVERYTHING)
async def send_eof(scene: Scene) -> None:
    scene.connect()
    stream = scene.socket.as_stream()
    scene.fill()
    await with_reader(scene, stream.send_eof)
    with trio.fail_after(2):
        await with_reader_unstruck(scene, stream.send_eof)
    await scene.until(scene.drain, "the peer does not see the end")
    require(len(scene.received) == scene.socket.statistics().bytes_accepted, "bytes are missing")


@drives("SocketStream.wait_send_all_might_not_block", EVERYTHING)
async def wait_for_room(scene: Scene) -> None:
    scene.connect()
    scene.fill()
    await with_reader(scene, scene.socket.as_stream().wait_send_all_might_not_block)
    await scene.settle()


# Back pressure --------------------------------------------------------------------------------


@drives("Socket.low_water.setter", "queue", name="low_water")
@drives("Socket.high_water.setter", "queue", name="high_water")
async def move_marks(scene: Scene, name: str) -> None:
    scene.connect()
    scene.fill()
    went = False

    async def produce() -> None:
        nonlocal went
        await scene.socket.wait_below_low_water()
        went = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        await trio.testing.wait_all_tasks_blocked()
        scene.socket.high_water = 10_000_000
        await scene.call(setattr, scene.socket, name, 9_000_000)
        try:
            await scene.until(lambda: went, "the queue is empty, and the producer waits")
        finally:
            nursery.cancel_scope.cancel()
    await scene.settle()


@drives("Socket.when_full.setter", "queue", way="queue")
@drives("Socket.when_full.setter", "queue", "refusing", way="refuse")
async def set_when_full(scene: Scene, way: Literal["queue", "refuse"]) -> None:
    scene.connect()
    scene.fill()
    socket = scene.socket
    if way == "queue":
        socket.when_full = "refuse"
    await scene.call(setattr, socket, "when_full", way)
    require(socket.statistics().is_above_high_water, "what was queued is gone")
    await scene.settle()


@drives("Socket.wait_below_low_water", "kernel queue owner operation")
async def wait_below(scene: Scene) -> None:
    scene.connect()
    scene.fill()
    await with_reader(scene, scene.socket.wait_below_low_water)
    await scene.settle()


# Receiving ------------------------------------------------------------------------------------


async def expect_in_hand(scene: Scene, buffer: bytearray, got: Any) -> None:
    """What the peer has sent is in somebody's hand, or still to be had, unless the interrupt took the result away."""
    with trio.move_on_after(0.1 if got is None and not buffer.strip(b"\0") else 0.02):
        got = got or await scene.socket.receive()
    require(got or buffer.strip(b"\0") or scene.interrupted, "what came is in nobody's hand")


@drives("Socket.receive", EVERYTHING, "something is there", name="receive")
@drives("Socket.receive", EVERYTHING, "something comes", name="receive", later=True)
@drives("Socket.receive_into", "kernel operation", name="receive_into")
@drives("Socket.receive_async", EVERYTHING, "something is there", name="receive_async")
@drives("Socket.receive_async", EVERYTHING, "something comes", name="receive_async", later=True)
@drives("Socket.begin_receive", EVERYTHING, "something is there", name="begin_receive")
@drives("Socket.begin_receive", EVERYTHING, "something comes", name="begin_receive", later=True)
@drives("Socket.begin_receive", "kernel operation", "no room", name="begin_receive", room=0)
@drives("Socket.receive_into", "kernel operation", "no room", name="receive_into", room=0)
@drives("Socket.receive_async", "kernel operation", "no room", name="receive_async", room=0)
@drives("Socket.try_begin_receive", EVERYTHING, "something is there", name="try_begin_receive")
@drives(
    "Socket.try_begin_receive", EVERYTHING, "something comes", name="try_begin_receive", later=True
)
@drives("Socket.try_end_receive", "operation", name="try_end_receive")
@drives("Socket.try_end_receive_nowait", "operation", name="try_end_receive_nowait")
@drives("Socket.end_receive", "operation", name="end_receive")
@drives("Socket.end_receive_nowait", "operation", name="end_receive_nowait")
@drives("SocketStream.receive_some", "kernel operation", name="receive_some")
async def receive(scene: Scene, name: str, later: bool = False, room: int = 100) -> None:
    scene.connect()
    buffer = bytearray(room)
    if not later:
        scene.peer.send(b"hello")

    async def speak() -> None:
        await trio.sleep(0.002)
        scene.peer.send(b"hello")

    async with trio.open_nursery() as nursery:
        if later:
            nursery.start_soon(speak)
        got: Any = None
        socket = scene.socket
        if name == "receive":
            got = await scene.call(socket.receive)
        elif name == "receive_some":
            got = await scene.call(socket.as_stream().receive_some)
        elif name == "receive_into":
            await scene.call(socket.receive_into, buffer)
        elif name == "receive_async":
            args = SocketAsyncEventArgs(buffer)
            await scene.call(socket.receive_async, args)
            if not later:
                require(not args.pending or scene.interrupted, "something was there")
            await scene.until(
                lambda: not args.pending or scene.interrupted, "a receive waits for ever"
            )
        elif "begin" in name:
            result = await scene.call(getattr(socket, name), buffer)
            if name.startswith("try"):
                result = result and result[0]
            if result is not None:
                await socket.end_receive(result)
        else:
            result = socket.begin_receive(buffer)
            await scene.call(getattr(socket, name), result)
    await expect_in_hand(scene, buffer, got)


def cases_of_receives_from() -> Iterator[tuple[str, str, str]]:
    for name in ("receive_from", "receive_message_from"):
        yield name, EVERYTHING, name
        yield f"{name}_async", EVERYTHING, name
        yield f"begin_{name}", EVERYTHING, name
        yield f"end_{name}", "kernel queue owner operation", name
        yield f"end_{name}_nowait", "operation", name


async def receive_from(scene: Scene, how: str, kind: str, later: bool) -> None:
    """A datagram is told of as a whole, with its sender, or it is still there."""
    peer = scene.keep(stdlib_socket.socket(type=DATAGRAM))
    peer.bind(("127.0.0.1", 0))
    socket = scene.keep(Socket(type=DATAGRAM))
    socket.bind(("127.0.0.1", 0))
    buffer = bytearray(10)
    args = SocketAsyncEventArgs(buffer)
    got: Any = None

    def speak() -> None:
        peer.sendto(b"hello", socket.local_end_point)

    async def speak_later() -> None:
        await trio.sleep(0.002)
        speak()

    async with trio.open_nursery() as nursery:
        if later:
            nursery.start_soon(speak_later)
        else:
            speak()
        if how == kind:
            got = await scene.call(getattr(socket, how))
            got = got and (len(got.data), got.remote_end_point)
        elif how.endswith("_async"):
            await scene.call(getattr(socket, how), args)
            with trio.move_on_after(0.05):
                await args.wait()
            if args.bytes_transferred:
                got = args.bytes_transferred, args.remote_end_point
        else:
            end = getattr(socket, f"end_{kind}")
            if how.startswith("begin"):
                result = await scene.call(getattr(socket, how), buffer)
                got = None if result is None else await end(result)
            else:
                result = getattr(socket, f"begin_{kind}")(buffer)
                if how.endswith("nowait"):
                    await result.async_wait_handle.wait_one()
                got = await scene.call(getattr(socket, how), result)
            got = got and (got[0], got[2 if "message" in kind else 1])
    if got is None:
        require(scene.interrupted, "a datagram is in nobody's hand")
    else:
        require(got == (5, peer.getsockname()), f"told of {got}")


for case, changes, kind in cases_of_receives_from():
    settings = {"how": case, "kind": kind}
    drives(f"Socket.{case}", changes, "something is there", **settings, later=False)(receive_from)
    drives(f"Socket.{case}", changes, "something comes", **settings, later=True)(receive_from)


@drives("Receiver.receive_exactly", "kernel queue owner operation", how="exactly")
@drives("Receiver.receive_until", "kernel queue owner operation", how="until")
async def receive_messages(scene: Scene, how: str) -> None:
    """What has come is handed out, or still held."""
    scene.connect()
    receiver = Receiver(scene.socket)
    scene.peer.send(b"hel")

    async def go_on() -> None:
        await trio.sleep(0.002)
        scene.peer.send(b"lo;rest")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_on)
        if how == "exactly":
            got = await scene.call(receiver.receive_exactly, 5)
        else:
            got = await scene.call(receiver.receive_until, b";", 100)
    if got is None:
        require(scene.interrupted, "nothing is handed out")
        got = await receiver.receive_exactly(5)
    require(got == b"hello", f"a message of {got!r}")


# One message to many --------------------------------------------------------------------------


@drives("broadcast", EVERYTHING, "fits", size=1000)
@drives("broadcast", EVERYTHING, "in part", size=BIG)
@drives("broadcast", EVERYTHING, "in the place of another", size=1000, when_behind="drop_oldest")
async def send_to_many(scene: Scene, size: int, when_behind: Any = "skip") -> None:
    scene.connect()
    sockets = [scene.socket]
    if when_behind == "drop_oldest":
        scene.fill()
        trio_send.broadcast(sockets, scene.message("O", 1000), max_queued_bytes=BIG * 2)
    room = scene.socket.queued_bytes + 512 * 4 if when_behind == "drop_oldest" else BIG * 2
    await scene.call(
        trio_send.broadcast,
        sockets,
        scene.message("A", size),
        max_queued_bytes=room,
        when_behind=when_behind,
    )
    await scene.settle()


# Connecting, listening, accepting -------------------------------------------------------------


def listener(scene: Scene) -> stdlib_socket.socket:
    made = scene.keep(stdlib_socket.socket())
    made.bind(("127.0.0.1", 0))
    made.listen()
    return made  # type: ignore[no-any-return]


@drives("Socket.connect", EVERYTHING, how="connect")
@drives("Socket.connect_async", EVERYTHING, how="connect_async")
@drives("Socket.begin_connect", EVERYTHING, how="begin_connect")
@drives("Socket.end_connect", EVERYTHING, how="end_connect")
@drives("Socket.end_connect_nowait", "operation", how="end_connect_nowait")
@drives("Socket.cancel_connect_async", EVERYTHING, how="cancel_connect_async")
async def connect(scene: Scene, how: str) -> None:
    address = listener(scene).getsockname()
    socket = scene.keep(Socket())
    args = SocketAsyncEventArgs(b"first")
    args.remote_end_point = address
    if how == "connect":
        await scene.call(socket.connect, address)
    elif how == "connect_async":
        await scene.call(socket.connect_async, args)
    elif how == "begin_connect":
        await scene.call(socket.begin_connect, address)
    elif how == "cancel_connect_async":
        socket.connect_async(args)
        await scene.call(Socket.cancel_connect_async, args)
    else:
        result = socket.begin_connect(address)
        if how == "end_connect_nowait":
            await result.async_wait_handle.wait_one()
        await scene.call(getattr(socket, how), result)
    for _ in range(400):
        if not args.pending and not socket.queued_operations:
            break
        await trio.sleep(0.001)
    require(not args.pending and not socket.queued_operations, "it is connected for ever")
    if socket.fileno() >= 0 and not socket.connected:
        with trio.fail_after(2):
            await socket.connect(address)
    if socket.connected:
        await socket.send(b"x")


@drives("Initiator.run_sync", "kernel operation owner queue")
async def run_sync(scene: Scene) -> None:
    scene.connect()
    args = scene.args("R", BIG)
    await scene.call(host_of_this_task().run_sync, scene.socket.send_async, args)


@drives("connect_tcp", EVERYTHING, how="connect_tcp")
@drives("connect_unix", "kernel operation", how="connect_unix")
@drives("connect_async", "queue owner operation", how="connect_async")
async def connect_new(scene: Scene, how: str) -> None:
    """Either there is a socket that the caller has, or there is none."""
    before = open_sockets()
    args = SocketAsyncEventArgs()
    with tempfile.TemporaryDirectory() as directory, stdlib_socket.socket(AF_UNIX) as unix:
        address: Any = listener(scene).getsockname()
        if how == "connect_unix":
            address = os.path.join(directory, "socket")
            unix.bind(address)
            unix.listen()
        if how == "connect_async":
            args.remote_end_point = address
            await scene.call(trio_send.connect_async, args)
            with trio.fail_after(2):
                await args.wait()
            socket = args.connect_socket
        elif how == "connect_unix":
            socket = await scene.call(trio_send.connect_unix, address)
        else:
            socket = await scene.call(trio_send.connect_tcp, *address)
        if socket is not None:
            scene.keep(socket)
            require(socket.connected, "it is not connected")
        left = open_sockets() - before - {socket}
        require(not left, "a socket is left that nobody has")


@drives("open_tcp_listeners", "kernel", how="open_tcp_listeners")
@drives("open_unix_listener", "kernel", how="open_unix_listener")
async def listen_anew(scene: Scene, how: str) -> None:
    """Either there is a listener that the caller has, or nobody listens and no file is left."""
    before = open_sockets()
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "socket")
        if how == "open_unix_listener":
            made = await scene.call(trio_send.open_unix_listener, path)
            listeners = [] if made is None else [made]
            require(os.path.exists(path) == bool(listeners), "there is a file, or none")
        else:
            listeners = await scene.call(trio_send.open_tcp_listeners, 0, host="127.0.0.1") or []
        left = open_sockets() - before - {each.socket for each in listeners}
        require(not left, "a socket is left that nobody has")
        for each in listeners:
            await each.aclose()
        require(not os.path.exists(path), "a file is left")


@drives("serve_tcp", EVERYTHING)
async def serve(scene: Scene) -> None:
    """A server that is struck has closed everything."""
    before = open_sockets()

    async def serve_for_a_moment() -> None:
        with trio.move_on_after(0.01):
            await trio_send.serve_tcp(trio.sleep, 0, host="127.0.0.1")

    await scene.call(serve_for_a_moment)
    require(open_sockets() == before, "somebody still listens")


@drives("SocketListener.accept", "kernel operation", how="accept")
@drives("SocketListener.accept_socket", "kernel operation", how="accept_socket")
@drives("SocketListener.aclose", "kernel", how="aclose")
async def use_listener(scene: Scene, how: str) -> None:
    (made,) = await trio_send.open_tcp_listeners(0, host="127.0.0.1")
    scene.keep(made.socket)
    before = open_sockets()
    client = scene.keep(stdlib_socket.create_connection(made.socket.local_end_point))
    accepted = await scene.call(getattr(made, how))
    if how == "aclose":
        require(made.socket.fileno() == -1, "it is open")
    elif accepted is not None:
        client.close()
        accepted = getattr(accepted, "socket", accepted)
        scene.keep(accepted)
        require(await accepted.receive() == b"", "it is another connection")
    left = open_sockets() - before - {accepted}
    require(not left, "a socket is left that nobody has")


@drives("Socket.bind", "kernel")
async def bind(scene: Scene) -> None:
    socket = scene.keep(Socket())
    await scene.call(socket.bind, ("127.0.0.1", 0))
    if socket.local_end_point[1] == 0:
        socket.bind(("127.0.0.1", 0))
    socket.listen()


@drives("Socket.listen", "kernel")
async def listen(scene: Scene) -> None:
    """Either it listens and knows it, or it does not listen."""
    socket = scene.keep(Socket())
    socket.bind(("127.0.0.1", 0))
    await scene.call(socket.listen)
    listens = socket.getsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_ACCEPTCONN)
    with trio.move_on_after(0) as scope:
        try:
            await socket.accept()
        except trio_send.InvalidOperationError:
            require(not listens, "it listens, and does not know it")
        else:
            require(scope.cancelled_caught, "an accept of nothing")


@drives("Socket.setsockopt", "kernel")
async def set_option(scene: Scene) -> None:
    scene.connect()
    option = stdlib_socket.SOL_SOCKET, stdlib_socket.SO_KEEPALIVE
    await scene.call(scene.socket.setsockopt, *option, 1)
    require(scene.interrupted or scene.socket.getsockopt(*option), "it is not set")


STREAM, DATAGRAM = stdlib_socket.SOCK_STREAM, stdlib_socket.SOCK_DGRAM
IP, IPV6 = stdlib_socket.AF_INET, stdlib_socket.AF_INET6


@drives("Socket.no_delay.setter", "kernel", name="no_delay", value=True)
@drives("Socket.linger_state.setter", "kernel", name="linger_state", value=3)
@drives("Socket.send_buffer_size.setter", "kernel", name="send_buffer_size", value=10_000)
@drives("Socket.receive_buffer_size.setter", "kernel", name="receive_buffer_size", value=10_000)
@drives("Socket.dual_mode.setter", "kernel", name="dual_mode", value=True, family=IPV6)
@drives(
    "Socket.enable_broadcast.setter", "kernel", name="enable_broadcast", value=True, kind=DATAGRAM
)
@drives("Socket.ttl.setter", "kernel", name="ttl", value=9)
@drives("Socket.ttl.setter", "kernel", "IPv6", name="ttl", value=9, family=IPV6)
@drives(
    "Socket.multicast_loopback.setter",
    "kernel",
    name="multicast_loopback",
    value=False,
    kind=DATAGRAM,
)
async def set_named_option(
    scene: Scene, name: str, value: Any, family: int = IP, kind: int = STREAM
) -> None:
    socket = scene.keep(Socket(family, kind))
    before = getattr(socket, name)
    await scene.call(setattr, socket, name, value)
    now = getattr(socket, name)
    if scene.interrupted and now == before:
        setattr(socket, name, value)
        now = getattr(socket, name)
    require(now == value or (now != before and "size" in name), f"{name} is {now!r}")


@drives("Socket.accept", EVERYTHING, "somebody is there", how="accept")
@drives("Socket.accept", EVERYTHING, "somebody comes", how="accept", later=True)
@drives("Socket.accept_async", EVERYTHING, "somebody is there", how="accept_async")
@drives("Socket.accept_async", EVERYTHING, "somebody comes", how="accept_async", later=True)
@drives("Socket.begin_accept", "kernel operation", how="begin_accept")
@drives("Socket.end_accept", "operation", how="end_accept")
@drives("Socket.end_accept_nowait", "operation", how="end_accept_nowait")
async def accept(scene: Scene, how: str, later: bool = False) -> None:
    socket = scene.keep(Socket())
    socket.bind(("127.0.0.1", 0))
    socket.listen()
    visitor = scene.keep(stdlib_socket.socket())
    visitor.setblocking(False)

    def come() -> None:
        visitor.connect_ex(socket.local_end_point)

    async def come_later() -> None:
        await trio.sleep(0.002)
        come()

    args = SocketAsyncEventArgs()
    result: Any = None
    async with trio.open_nursery() as nursery:
        if later:
            nursery.start_soon(come_later)
        else:
            come()
        if how == "accept":
            result = await scene.call(socket.accept)
        elif how == "accept_async":
            await scene.call(socket.accept_async, args)
            if args.pending and not scene.interrupted:
                await args.wait()
        elif how == "begin_accept":
            result = await scene.call(socket.begin_accept)
            if result is not None:
                result = await socket.end_accept(result)
        else:
            begun = socket.begin_accept()
            await begun.async_wait_handle.wait_one()
            result = await scene.call(getattr(socket, how), begun)
            if result is None:
                result = await socket.end_accept(begun)  # it was not taken
    connection = result or args.accept_socket
    if connection is None:
        require(scene.interrupted, "the connection is in nobody's hand")
    else:
        connection.close()


@drives("Socket.disconnect", EVERYTHING, how="await")
@drives("Socket.disconnect_async", EVERYTHING, how="args")
async def disconnect(scene: Scene, how: str) -> None:
    scene.connect("tcp")
    pending = scene.args("P", 9_000_000)
    scene.socket.send_async(pending)
    if how == "await":
        await scene.call(scene.socket.disconnect, reuse_socket=True)
    else:
        args = SocketAsyncEventArgs()
        args.disconnect_reuse_socket = True
        await scene.call(scene.socket.disconnect_async, args)
    if scene.socket.connected:
        require(scene.interrupted, "it is still connected")
        await scene.settle()
    else:
        await scene.until(lambda: not pending.pending, "disconnected, and pending")
        with trio.fail_after(2):
            await scene.socket.connect(listener(scene).getsockname())
        await scene.socket.send(b"x")


# Datagrams ------------------------------------------------------------------------------------


@drives("Socket.send_to", "kernel operation", how="send_to")
@drives("Socket.send_to_async", "kernel operation", how="send_to_async")
@drives("Socket.begin_send_to", "kernel operation", how="begin_send_to")
@drives("Socket.end_send_to", "operation", how="end_send_to")
@drives("Socket.end_send_to_nowait", "operation", how="end_send_to_nowait")
@drives("Socket.send_datagrams", "kernel operation", how="send_datagrams")
async def send_datagrams(scene: Scene, how: str) -> None:
    peer = scene.keep(stdlib_socket.socket(type=stdlib_socket.SOCK_DGRAM))
    peer.bind(("127.0.0.1", 0))
    peer.setblocking(False)
    address = peer.getsockname()
    socket = scene.keep(Socket(type=stdlib_socket.SOCK_DGRAM))
    args = SocketAsyncEventArgs(b"d" * 100)
    args.remote_end_point = address
    batch = DatagramBatch([b"d" * 100] * 20)
    if scene.warm:
        await socket.send_to(b"w" * 100, address)
    if how == "send_to":
        await scene.call(socket.send_to, b"d" * 100, address)
    elif how == "send_to_async":
        await scene.call(socket.send_to_async, args)
    elif how == "begin_send_to":
        await scene.call(socket.begin_send_to, b"d" * 100, remote_end_point=address)
    elif how == "send_datagrams":
        await scene.call(socket.send_datagrams, batch, address)
    else:
        result = socket.begin_send_to(b"d" * 100, remote_end_point=address)
        await scene.call(getattr(socket, how), result)
    await socket.send_to(b"!" * 100, address)
    sizes = []
    while True:
        try:
            sizes.append(len(peer.recv(2000)))
        except BlockingIOError:
            break
    require(set(sizes) == {100}, "a datagram in part")
    require(
        sum(sizes) == socket.statistics().bytes_accepted, "another number of bytes than is known"
    )
    if how == "send_datagrams":
        require(batch.datagrams_transferred == len(sizes) - 1 - scene.warm, "another number")


# Initiators and instruments -------------------------------------------------------------------


@drives("_OpenInitiator.__aenter__", EVERYTHING, "and the exit", policy=ExitPolicy.ABORT)
@drives("_OpenInitiator.__aexit__", EVERYTHING, "and the entry", policy=ExitPolicy.ABORT)
@drives("_OpenInitiator.__aexit__", EVERYTHING, "JOIN", policy=ExitPolicy.JOIN)
async def open_and_leave(scene: Scene, policy: ExitPolicy) -> None:
    """Whatever is struck, nothing is left behind."""
    scene.connect()
    args = scene.args("A", BIG)
    tasks = trio.lowlevel.current_statistics().tasks_living

    async def inside() -> None:
        async with open_initiator(policy):
            scene.socket.send_async(args)

    if policy is ExitPolicy.JOIN:
        await with_reader(scene, inside)
    else:
        await scene.call(inside)
    require(not args.pending, "the scope was left, and its operation is pending")
    await trio.testing.wait_all_tasks_blocked(0.001)
    require(trio.lowlevel.current_statistics().tasks_living == tasks, "a task lives on")
    scene.settle_torn()
    await scene.settle()


class Watching(abc.Instrument):
    """Sees the starts."""

    def __init__(self) -> None:
        self.seen = 0

    def operation_started(self, operation: object) -> None:
        self.seen += 1


@drives("add_instrument", "", how="add")
@drives("remove_instrument", "", how="remove")
@drives("_Registration.__exit__", "", how="block")
async def watch(scene: Scene, how: str) -> None:
    scene.connect()
    instrument = Watching()
    if how == "add":
        await scene.call(trio_send.add_instrument, instrument)
    else:
        registration = trio_send.add_instrument(instrument)
        if how == "remove":
            await scene.call(trio_send.remove_instrument, instrument)
        else:
            await scene.call(registration.__exit__, None, None, None)
    seen = instrument.seen
    await scene.settle()
    is_watching = instrument.seen > seen
    require(scene.interrupted or is_watching == (how == "add"), "it is not as it was told")
    try:
        trio_send.remove_instrument(instrument)
    except KeyError:
        require(not is_watching, "it watches, and nobody knows")
    else:
        require(is_watching, "it is known, and does not watch")
    args = SocketAsyncEventArgs(b"x")
    pended = [scene.socket.send_async(args) for _ in range(10)]
    require(not any(pended), "the short way is closed for ever")


# Flags, pools ---------------------------------------------------------------------------------


@drives("ManualResetEvent.set", "")
async def set_flag(scene: Scene) -> None:
    flag = ManualResetEvent()
    woken = False

    async def wait() -> None:
        nonlocal woken
        woken = await flag.wait_one()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await scene.call(flag.set)
        if not await flag.wait_one(0):
            require(scene.interrupted, "it is not set")
            flag.set()
        await trio.testing.wait_all_tasks_blocked()
        try:
            require(woken, "it is set, and who waits is not woken")
        finally:
            nursery.cancel_scope.cancel()


@drives("ManualResetEvent.wait_one", "")
@drives("WaitHandle.wait_one", "")
async def wait_for_flag(scene: Scene) -> None:
    flag = ManualResetEvent()

    async def set_it() -> None:
        await trio.testing.wait_all_tasks_blocked()
        flag.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(set_it)
        await scene.call(flag.wait_one)
    require(flag._tasks == 0, "nobody waits, and somebody is said to")


@drives("SocketAsyncEventArgsPool.push", "", how="push")
@drives("SocketAsyncEventArgsPool.pop", "", how="pop")
async def use_pool(scene: Scene, how: str) -> None:
    pool, args = SocketAsyncEventArgsPool(), SocketAsyncEventArgs(b"x")
    if how == "push":
        await scene.call(pool.push, args)
        if not pool.count:
            require(scene.interrupted, "it is not there")
            pool.push(args)
    else:
        pool.push(args)
        got = await scene.call(pool.pop)
        require(got is args or pool.count == 1, "they are in nobody's hand")


@drives("BufferManager.set_buffer", "", how="set")
@drives("BufferManager.free_buffer", "", how="free")
async def use_buffers(scene: Scene, how: str) -> None:
    manager, args = BufferManager(300, 100), SocketAsyncEventArgs()
    if how == "set":
        await scene.call(manager.set_buffer, args)
    else:
        manager.set_buffer(args)
        await scene.call(manager.free_buffer, args)
    has_one = args.buffer is not None
    require(manager.available == (2 if has_one else 3), "a buffer belongs to nobody, or to two")
    if has_one:
        manager.free_buffer(args)
    require(manager.available == 3, "a buffer is lost")


@drives("Socket.from_trio", "kernel")
async def from_trio(scene: Scene) -> None:
    """The descriptor is the trio socket's, or ours."""
    left, right = stdlib_socket.socketpair()
    scene.keep(right)
    theirs = trio.socket.from_stdlib_socket(left)
    ours = await scene.call(Socket.from_trio, theirs)
    if ours is not None:
        ours.close()
    elif theirs.fileno() >= 0:
        theirs.close()
    right.setblocking(False)
    require(right.recv(1) == b"", "the descriptor is open, and nobody's")


@drives("Socket.__init__", "", make=Socket)
@drives("socketpair", "kernel", make=trio_send.socketpair)
async def make_sockets(scene: Scene, make: Callable[[], Socket | tuple[Socket, Socket]]) -> None:
    """A descriptor that is open is somebody's: one that is not would be warned of."""
    made = await scene.call(make)
    for socket in made if isinstance(made, tuple) else [made]:
        require(scene.interrupted or socket is not None, "there is none")
        if socket is not None:
            socket.close()


@drives("Socket.from_port", "")
async def from_port(scene: Scene) -> None:
    port = ScriptedPort()
    socket = await scene.call(Socket.from_port, port)
    require(scene.interrupted or socket is not None, "there is none")
    if socket is not None:
        await socket.send(b"message")
        require(port.accepted == b"message", "it is another port's")
        socket.close()


@drives("Socket.from_stdlib", "")
async def from_stdlib(scene: Scene) -> None:
    """It is what it was, or has all that was known of it."""
    left, right = stdlib_socket.socketpair()
    scene.keep(left)
    scene.keep(right)
    socket = await scene.call(Socket.from_stdlib, left)
    require(scene.interrupted or socket is not None, "there is none")
    if socket is not None:
        require(socket.connected, "the peer is forgotten")
        scene.keep(socket)


@drives("Socket.as_stream", "kernel")
async def as_stream(scene: Scene) -> None:
    scene.connect("tcp")
    stream = await scene.call(scene.socket.as_stream)
    require(scene.interrupted or stream is not None, "there is none")
    require(stream is None or scene.socket.no_delay, "it waits for acknowledgements")


#: Calls in which Ctrl-C can come at once, because no more than one thing in them changes anything, and that keeps it
#: away by itself. All other calls keep it away from their first instruction to their last.
STEP_INSIDE = frozenset(
    {
        "AsyncResult.async_wait_handle",
        "AsyncResult.is_completed",
        "AsyncResult.outcome",
        "Initiator.run_sync",
        "ManualResetEvent.set",
        "Socket.cancel_connect_async",
        "Socket.dual_mode.setter",
        "Socket.enable_broadcast.setter",
        "Socket.end_send_to",
        "Socket.linger_state.setter",
        "Socket.no_delay.setter",
        "Socket.receive_buffer_size.setter",
        "Socket.send_buffer_size.setter",
        "Socket.wait_below_low_water",
        "SocketAsyncEventArgs.accept_socket.setter",
        "SocketAsyncEventArgs.buffer_list.setter",
        "SocketAsyncEventArgs.close",
        "SocketAsyncEventArgs.completed",
        "SocketAsyncEventArgs.completed.setter",
        "SocketAsyncEventArgs.connect_by_name_error",
        "SocketAsyncEventArgs.connect_socket",
        "SocketAsyncEventArgs.outcome",
        "SocketAsyncEventArgs.pending",
        "SocketAsyncEventArgs.remote_end_point.setter",
        "SocketAsyncEventArgs.send_packets_elements.setter",
        "SocketAsyncEventArgs.send_packets_flags.setter",
        "SocketAsyncEventArgs.set_buffer",
        "SocketAsyncEventArgs.set_range",
        "SocketAsyncEventArgs.socket_error",
        "SocketAsyncEventArgs.socket_flags.setter",
        "SocketAsyncEventArgs.stall_timeout.setter",
        "SocketAsyncEventArgs.timeout.setter",
        "SocketAsyncEventArgs.wait",
        "TrioFace.close",
        "add_instrument",
        "remove_instrument",
    }
)

#: What makes something that nobody else holds yet, reads, writes a file of its own, or is called by the library: none
#: of it is driven.
CHANGES_NOTHING = frozenset(
    {
        "Socket.__aenter__",
        "Socket.audit",
        "Socket.wait_acknowledged",
        "Socket.fileno",
        "Socket.getpeername",
        "Socket.getsockname",
        "Socket.getsockopt",
        "Socket.statistics",
        "SocketAsyncEventArgs.__init__",
        "SocketAsyncEventArgs.__enter__",
        "SocketAsyncEventArgs.on_completed",
        "AsyncResult.__init__",
        "BufferManager.__init__",
        "SocketAsyncEventArgsPool.__init__",
        "DatagramBatch.__init__",
        "SendPacketsElement.__init__",
        "WaitHandle.__init__",
        "ManualResetEvent.__init__",
        "ManualResetEvent.reset",
        "CompletedEvent.__init__",
        "CompletedEvent.__iadd__",
        "CompletedEvent.__isub__",
        "Initiator.__init__",
        "Initiator.statistics",
        "current_initiator",
        "open_initiator",
        "from_thread.ThreadInitiator.__init__",
        "from_thread.initiator",
        "SocketException.__init__",
        "ObjectDisposedError.__init__",
        "InvalidOperationError.__init__",
        "OperationInProgressError.__init__",
        "CountingInstrument.__init__",
        "CountingInstrument.snapshot",
        "LoggingInstrument.__init__",
        "TracedOperation.peek",
        "Receiver.__init__",
        "SocketListener.__init__",
        "ChromeTrace.__init__",
        "ChromeTrace.__enter__",
        "ChromeTrace.__exit__",
        "ChromeTrace.close",
        "SocketStream.__init__",
        "TrioFace.__init__",
        "TrioFace.__enter__",
        "TrioFace.detach",
        "_OpenInitiator.__init__",
        "_ThreadScope.__init__",
        "_Registration.__init__",
        "_Registration.__enter__",
    }
)
