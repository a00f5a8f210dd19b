"""Actions that wait: each returns what a task of its own has to do."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import outcome
import trio

import trio_send
from tests.fuzz_starts import a_result
from tests.fuzz_toolbox import FuzzWorld, Task, awaited
from tests.fuzz_world import Follower, Pick, Watched
from trio_send import DatagramBatch, Socket, SocketAsyncEventArgs
from trio_send._operations.states import CUT

# -- sends -------------------------------------------------------------------------------------------------------------


def noted(
    world: FuzzWorld, watched: Watched, name: str, data: Callable[[], bytes | None]
) -> Callable[[], Callable[[Any], None]]:
    """Make what notes an awaited send that nobody holds."""

    def begin() -> Callable[[Any], None]:
        entry = world.note(watched, name, data(), None)

        def end(came: Any) -> None:
            if isinstance(came, outcome.Value):
                entry.settle(len(entry.data) if entry.data is not None else None)
            elif came is not None:
                error = came.error
                entry.settle(getattr(error, "bytes_transferred", 0))

        return end

    return begin


@awaited
def send(world: FuzzWorld, pick: Pick) -> Task:
    watched, buffer = world.a_socket(pick), world.a_buffer(pick)
    data: Any = pick.of((buffer, [buffer, b"and more"]))
    flags = pick.or_wrong(world.flags(pick))
    members = data if isinstance(data, list) else [data]
    return lambda: world.wait(
        "Socket.send",
        pick,
        lambda: watched.socket.send(data, flags),
        noted(world, watched, "send", lambda: world.content(members)),
    )


@awaited
def send_args(world: FuzzWorld, pick: Pick) -> Task:
    watched, follower = world.a_socket(pick), world.a_follower(pick)
    args = follower.args
    return lambda: world.wait(
        "Socket.send", pick, lambda: watched.socket.send(args), followed(world, watched, follower)
    )


def followed(
    world: FuzzWorld, watched: Watched, follower: Follower
) -> Callable[[], Callable[[Any], None]]:
    """Make what follows args through an awaited send."""

    def begin() -> Callable[[Any], None]:
        args, before = follower.args, follower.args.bytes_transferred
        if args._operation.in_flight or args._operation.state == CUT or args._operation.is_closed:
            return lambda came: None  # it will be refused
        data, former = world.message_of(args), follower.entry
        if args._operation.message is None or world.is_closed(watched):
            return lambda came: None
        if former is not None:
            former.settle(before - former.base)
        follower.settled, follower.count = False, 0
        follower.entry = entry = world.note(
            watched, "send args", data, lambda: args.bytes_transferred
        )

        def end(came: Any) -> None:
            follower.settled = False
            if args._operation.in_flight:
                return  # a handler, or another task, has it
            follower.count = args.bytes_transferred
            assert entry is not None

        return end

    return begin


@awaited
def send_to(world: FuzzWorld, pick: Pick) -> Task:
    watched, buffer, address = world.a_socket(pick), world.a_buffer(pick), world.address(pick)
    return lambda: world.wait(
        "Socket.send_to",
        pick,
        lambda: watched.socket.send_to(buffer, address),
        noted(world, watched, "send_to", lambda: world.content([buffer])),
    )


@awaited
def send_datagrams(world: FuzzWorld, pick: Pick) -> Task:
    watched = world.a_socket(pick)
    address = pick.of((None, None, world.address(pick)))
    batch: Any
    if world.batches and pick.number(2):
        batch = pick.of(world.batches)
    else:
        datagrams = [world.fresh(pick.of((5, 5, 0, 3))) for _ in range(pick.number(8))]
        batch = DatagramBatch(datagrams)
        world.batches.append(batch)

    def begin() -> Callable[[Any], None]:
        if batch.pending:
            return lambda came: None
        before = batch.bytes_transferred
        entry = world.note(watched, "send_datagrams", b"".join(batch.remaining), None)
        size = len(entry.data or b"")
        entry.whole = False
        entry.read = lambda: batch.bytes_transferred - before

        def end(came: Any) -> None:
            if came is None:
                entry.settle(batch.bytes_transferred - before)
            elif isinstance(came, outcome.Value):
                entry.settle(size)
            else:
                entry.settle(getattr(came.error, "bytes_transferred", 0))

        return end

    return lambda: world.wait(
        "Socket.send_datagrams", pick, lambda: watched.socket.send_datagrams(batch, address), begin
    )


@awaited
def send_file(world: FuzzWorld, pick: Pick) -> Task:
    watched = world.a_socket(pick)
    file: Any = pick.or_wrong(pick.of((world.path, world.file, "/nowhere/at/all")))
    offset, count = pick.of((0, 10, -1, 400)), pick.of((None, 20, 0, -1))

    def data() -> bytes:
        with open(world.path, "rb") as source:
            content = source.read()[max(0, offset) :]
            return content if count is None else content[: max(0, count)]

    return lambda: world.wait(
        "Socket.send_file",
        pick,
        lambda: watched.socket.send_file(file, offset, count),
        noted(world, watched, "send_file", data),
    )


@awaited
def send_rest(world: FuzzWorld, pick: Pick) -> Task:
    watched = world.a_socket(pick)

    def begin() -> Callable[[Any], None]:
        torn = watched.socket.torn
        if torn is None:
            return lambda came: None
        operation: Any = torn._cut.operation
        follower = next((each for each in world.followers if each.args is torn.operation), None)
        is_args = isinstance(torn.operation, SocketAsyncEventArgs)
        if (is_args and operation.in_flight) or world.is_closed(watched):
            return lambda came: None
        before = operation.transferred
        entry = world.note(watched, "send_rest", world.left_of(torn), None)
        if follower is not None:
            if follower.entry is not None:
                follower.entry.settle(before - follower.entry.base)
            follower.entry, follower.settled = entry, False
            entry.base = before
            entry.read = lambda: operation.transferred - before

        def end(came: Any) -> None:
            if follower is not None:
                follower.settled = False
                follower.count = 0
                if follower.entry is entry and not operation.in_flight:
                    entry.settle(operation.transferred - before)
                    follower.entry = None
            elif isinstance(came, outcome.Value):
                entry.settle(came.value)
            elif (
                came is not None
                and type(operation) is trio_send._operations.operation.Operation
                and entry.data is not None
            ):
                entry.settle(getattr(came.error, "bytes_transferred", 0))

        return end

    return lambda: world.wait("Socket.send_rest", pick, watched.socket.send_rest, begin)


# -- all the others ----------------------------------------------------------------------------------------------------


@awaited
def receive(world: FuzzWorld, pick: Pick) -> Task:
    socket = world.a_socket(pick).socket
    size = pick.or_wrong(pick.of((100, 1, 0, -1)))
    return lambda: world.wait("Socket.receive", pick, lambda: socket.receive(size))


@awaited
def receive_into(world: FuzzWorld, pick: Pick) -> Task:
    socket = world.a_socket(pick).socket
    buffer = pick.or_wrong(pick.of((bytearray(10), bytearray(), b"read-only")))
    return lambda: world.wait("Socket.receive_into", pick, lambda: socket.receive_into(buffer))


@awaited
def connect(world: FuzzWorld, pick: Pick) -> Task:
    socket, address = world.a_socket(pick).socket, world.address(pick)
    return lambda: world.wait("Socket.connect", pick, lambda: socket.connect(address))


@awaited
def accept(world: FuzzWorld, pick: Pick) -> Task:
    socket = world.a_socket(pick).socket

    async def accept() -> None:
        (await socket.accept()).close()

    return lambda: world.wait("Socket.accept", pick, accept)


@awaited
def disconnect(world: FuzzWorld, pick: Pick) -> Task:
    socket, reuse = world.a_socket(pick).socket, pick.of((False, True))
    return lambda: world.wait(
        "Socket.disconnect", pick, lambda: socket.disconnect(reuse_socket=reuse)
    )


@awaited
def end(world: FuzzWorld, pick: Pick) -> Task:
    socket, result, kind = a_result(world, pick)
    method = f"end_{kind}"
    if kind == "send" and pick.number(2):
        method = f"try_{method}"

    async def run() -> None:
        came: Any = await getattr(socket, method)(result)
        world.take(result)
        if isinstance(came, Socket):
            came.close()

    return lambda: world.wait(f"Socket.{method}", pick, run)


@awaited
def wait_args(world: FuzzWorld, pick: Pick) -> Task:
    args = world.a_follower(pick).args
    return lambda: world.wait("SocketAsyncEventArgs.wait", pick, args.wait)


@awaited
def wait_one(world: FuzzWorld, pick: Pick) -> Task:
    handle: Any = world.event
    if world.results and pick.number(2):
        handle = pick.of(world.results).async_wait_handle
    timeout = pick.of((1, math.inf, 0, -1, math.nan))
    return lambda: world.wait("WaitHandle.wait_one", pick, lambda: handle.wait_one(timeout))


@awaited
def wait_below_low_water(world: FuzzWorld, pick: Pick) -> Task:
    socket = world.a_socket(pick).socket
    return lambda: world.wait("Socket.wait_below_low_water", pick, socket.wait_below_low_water)


@awaited
def wait_acknowledged(world: FuzzWorld, pick: Pick) -> Task:
    socket = world.a_socket(pick).socket

    async def wait() -> None:
        with trio.move_on_after(1):
            await socket.wait_acknowledged()

    return lambda: world.wait("Socket.wait_acknowledged", pick, wait)


@awaited
def aclose(world: FuzzWorld, pick: Pick) -> Task:
    socket = world.a_socket(pick).socket
    return lambda: world.wait("Socket.aclose", pick, socket.aclose)


@awaited
def use_stream(world: FuzzWorld, pick: Pick) -> Task:
    if not world.streams:
        return trio.lowlevel.checkpoint
    stream, watched = pick.of(world.streams)
    which = pick.number(5)
    if which == 0:
        buffer = world.a_buffer(pick)
        return lambda: world.wait(
            "SocketStream.send_all",
            pick,
            lambda: stream.send_all(buffer),
            unknown(world, watched, buffer),
        )
    name = ("receive_some", "send_eof", "wait_send_all_might_not_block", "aclose")[which - 1]
    return lambda: world.wait(f"SocketStream.{name}", pick, getattr(stream, name))


def unknown(world: FuzzWorld, watched: Watched, buffer: Any) -> Callable[[], Callable[[Any], None]]:
    """Make what notes a send whose count nobody is told."""

    def begin() -> Callable[[Any], None]:
        entry = world.note(watched, "send_all", world.content([buffer]), None)

        def end(came: Any) -> None:
            if isinstance(came, outcome.Value) and entry.data is not None:
                entry.settle(len(entry.data))

        return end

    return begin


@awaited
def act_later(world: FuzzWorld, pick: Pick) -> Task:
    step, seconds = world.handler(pick), pick.number(3)

    async def later() -> None:
        await trio.sleep(seconds)
        world.act(step)

    return later
