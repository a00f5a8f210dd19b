"""The calls in whose middle other code runs: each face of each kind of operation, in starts and in drains.

A drive sets a stage, makes one call by ``stage.call``, lets everything come to its end, and has the stage look whether
it adds up. `tests/whole/test_reentry.py` strikes at them.
"""

from __future__ import annotations

import socket as stdlib_socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio
import trio.testing

from tests.helpers import in_flight
from tests.reentering import (
    LIMIT,
    REFUSALS,
    ActingBuffer,
    ActingPort,
    Calls,
    Drive,
    Stage,
    shut_down,
)
from tests.striking import BIG, require
from trio_send import DatagramBatch, SendPacketsElement, Socket, SocketAsyncEventArgs


async def end(stage: Stage) -> None:
    """Read everything, and look."""
    await stage.settle()
    with trio.fail_after(LIMIT):
        stage.waiting.set()
        await stage.waiting.wait_one()


def args_of(kind: str, size: int = BIG) -> Drive:
    async def drive(stage: Stage) -> None:
        stage.connect()
        stage.subject = stage.args("A", size, kind)
        await stage.call(stage.start, stage.socket.send_async, stage.subject)
        await end(stage)

    return drive


async def behind_another(stage: Stage) -> None:
    stage.connect()
    stage.start(stage.socket.send_async, stage.args("P", BIG))
    stage.subject = stage.args("A", 100)
    await stage.call(stage.start, stage.socket.send_async, stage.subject)
    await end(stage)


def result_of(kind: str, *, tries: bool = False) -> Drive:
    async def drive(stage: Stage) -> None:
        stage.connect()
        message: Any = stage.message("A", BIG)
        if kind == "bytearray":
            message = bytearray(message)
        elif kind == "list":
            message = [message[:3], message[3:]]
        if tries:
            answer = await stage.call(stage.socket.try_begin_send, message)
            result = None if answer is None else answer[0]
        else:
            result = await stage.call(stage.socket.begin_send, message)
        if result is not None:
            stage.messages["A"] = BIG, result
        await end(stage)

    return drive


def awaited(kind: str, size: int = BIG) -> Drive:
    async def drive(stage: Stage) -> None:
        stage.connect()
        message: Any = stage.message("A", size)
        if kind == "bytearray":
            message = bytearray(message)
        elif kind == "args":
            message = stage.subject = stage.args("A", size)
        async with trio.open_nursery() as nursery:
            await nursery.start(stage.read_on)
            with trio.move_on_after(LIMIT / 2) as scope:
                await stage.call(stage.socket.send, message)
            require(not scope.cancelled_caught, "an awaited send has no end")
            nursery.cancel_scope.cancel()
        await end(stage)

    return drive


async def awaited_behind(stage: Stage) -> None:
    """Two tasks wait their turn behind a message that is on its way."""
    stage.connect()
    stage.subject = stage.args("A", BIG)
    stage.start(stage.socket.send_async, stage.subject)
    stage.behind = stage.args("F", 50)
    stage.start(stage.socket.send_async, stage.behind)
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(LIMIT / 2) as scope:
            nursery.start_soon(stage.read_on_when_blocked)
            await stage.call(stage.socket.send, stage.message("B", 60))
        require(not scope.cancelled_caught, "an awaited send has no end")
        nursery.cancel_scope.cancel()
    await end(stage)


def drained(kind: str, followers: int = 0) -> Drive:
    """The engine sends on."""

    async def drive(stage: Stage) -> None:
        stage.connect()
        stage.subject = stage.args("A", BIG, kind)
        require(stage.start(stage.socket.send_async, stage.subject), "there was room")
        for letter in "FGHIJK"[:followers]:
            stage.behind = stage.args(letter, 50, "list" if letter in "GI" else "bytes")
            stage.start(stage.socket.send_async, stage.behind)
        await trio.testing.wait_all_tasks_blocked()
        await stage.call(stage.read_to_the_end)
        await end(stage)

    return drive


async def waited_for(stage: Stage) -> None:
    """A task waits for args, and one for an event."""
    stage.connect()
    stage.subject = stage.args("A", BIG)
    stage.start(stage.socket.send_async, stage.subject)

    async def wait() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.read_to_the_end)
            await stage.subject.wait()

    await stage.call(wait)
    await end(stage)


async def resumed(stage: Stage) -> None:
    stage.connect()
    stage.subject = stage.args("A", BIG)
    stage.start(stage.socket.send_async, stage.subject)
    stage.subject.cancel()
    while stage.subject.pending:
        await trio.lowlevel.checkpoint()
    await stage.call(stage.start, stage.socket.resume, stage.subject)
    stage.settle_torn()
    await end(stage)


async def rest_sent(stage: Stage) -> None:
    stage.connect()
    stage.subject = stage.args("A", BIG)
    stage.start(stage.socket.send_async, stage.subject)
    stage.subject.cancel()
    while stage.subject.pending:
        await trio.lowlevel.checkpoint()
    stage.messages["A"] = BIG, None
    stage.subject = None
    async with trio.open_nursery() as nursery:
        await nursery.start(stage.read_on)
        await stage.call(stage.socket.send_rest)
        nursery.cancel_scope.cancel()
    stage.settle_torn()
    await end(stage)


def closing_with(what: Callable[[Stage], object]) -> Drive:
    """The calls that stop things are struck themselves."""

    async def drive(stage: Stage) -> None:
        stage.connect()
        stage.subject = stage.args("A", BIG)
        stage.start(stage.socket.send_async, stage.subject)
        stage.behind = stage.args("F", 50)
        stage.start(stage.socket.send_async, stage.behind)
        await stage.call(what, stage)
        await trio.testing.wait_all_tasks_blocked()
        stage.settle_torn()
        await end(stage)

    return drive


# -- files and packets ---------------------------------------------------------------------------


def packets_of(stage: Stage, folder: str) -> list[SendPacketsElement]:
    message = stage.message("A", BIG)
    path = Path(folder) / "file"
    path.write_bytes(message[: BIG // 2])
    return [
        SendPacketsElement(message[:100]),
        SendPacketsElement(path),
        SendPacketsElement(bytearray(message[BIG // 2 + 100 :])),
    ]


async def packets(stage: Stage) -> None:
    stage.connect()
    with tempfile.TemporaryDirectory() as folder:
        elements = packets_of(stage, folder)
        stage.subject = stage.args("A", BIG)
        stage.subject.set_buffer(None)
        stage.subject.send_packets_elements = elements
        await stage.call(stage.start, stage.socket.send_packets_async, stage.subject)
        if not in_flight(stage.subject) and stage.subject.last_operation.name == "NONE":
            stage.messages["A"] = BIG, None  # the socket was closed first
        await end(stage)


async def packets_drained(stage: Stage) -> None:
    stage.connect()
    with tempfile.TemporaryDirectory() as folder:
        elements = packets_of(stage, folder)
        stage.subject = stage.args("A", BIG)
        stage.subject.set_buffer(None)
        stage.subject.send_packets_elements = elements
        require(stage.start(stage.socket.send_packets_async, stage.subject), "there was room")
        await trio.testing.wait_all_tasks_blocked()
        await stage.call(stage.read_to_the_end)
        await end(stage)


async def file_sent(stage: Stage) -> None:
    stage.connect()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(stage.message("A", BIG))
        async with trio.open_nursery() as nursery:
            await nursery.start(stage.read_on)
            await stage.call(stage.socket.send_file, path)
            nursery.cancel_scope.cancel()
        await end(stage)


# -- datagrams -----------------------------------------------------------------------------------


def connect_datagrams(stage: Stage) -> Any:
    """Make a UDP socket and its receiver; return the address of that."""
    peer = stdlib_socket.socket(stdlib_socket.AF_INET, stdlib_socket.SOCK_DGRAM)
    peer.bind(("127.0.0.1", 0))
    peer.setblocking(False)
    stage.peer = stage.keep(peer)
    stage.socket = stage.keep(Socket(stdlib_socket.AF_INET, stdlib_socket.SOCK_DGRAM))
    return peer.getsockname()


def datagram_to(face: str) -> Drive:
    async def drive(stage: Stage) -> None:
        address = connect_datagrams(stage)
        if stage.warm:
            await stage.socket.connect(address)
        if face == "args":
            stage.subject = stage.args("A", 50)
            stage.subject.remote_end_point = address
            await stage.call(stage.start, stage.socket.send_to_async, stage.subject)
        elif face == "begin":
            message = bytearray(stage.message("A", 50))
            await stage.call(stage.socket.begin_send_to, message, remote_end_point=address)
        else:
            await stage.call(stage.socket.send_to, stage.message("A", 50), address)
        if not stage.warm:
            stage.socket.close()
        await end(stage)

    return drive


async def datagrams(stage: Stage) -> None:
    """More datagrams than fit, which are read meanwhile."""
    left, right = stdlib_socket.socketpair(stdlib_socket.AF_UNIX, stdlib_socket.SOCK_DGRAM)
    left.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 8192)
    right.setblocking(False)
    stage.peer = stage.keep(right)
    stage.socket = stage.keep(Socket.from_stdlib(left))
    batch = DatagramBatch([stage.message("A", 1000) for _ in range(30)])
    stage.messages["A"] = 30_000, batch
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.read_on_when_blocked)
        await stage.call(stage.socket.send_datagrams, batch)
        nursery.cancel_scope.cancel()
    stage.may_be_cut = True
    await end(stage)


# -- what is not sent ----------------------------------------------------------------------------


def received(face: str, kind: str = "receive") -> Drive:
    async def drive(stage: Stage) -> None:
        stage.connect()
        if stage.warm:
            stage.peer.send(b"x" * 30)
        result: Any = None

        async def send_later() -> None:
            await trio.testing.wait_all_tasks_blocked()
            with suppress(BrokenPipeError):  # the socket was closed
                stage.peer.send(b"x" * 30)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_later)
            if face == "args":
                stage.subject = SocketAsyncEventArgs(bytearray(100))
                stage.count_events(stage.subject)
                await stage.call(stage.start, getattr(stage.socket, f"{kind}_async"), stage.subject)
            elif face == "begin":
                result = await stage.call(getattr(stage.socket, f"begin_{kind}"), bytearray(100))
            else:
                await stage.call(getattr(stage.socket, kind), 100)
        if face == "begin" and result is not None:
            with trio.fail_after(LIMIT):
                await result.async_wait_handle.wait_one()
        stage.bytes_at_stop = None
        await end(stage)

    return drive


def accepted(face: str) -> Drive:
    async def drive(stage: Stage) -> None:
        stage.connect()
        listener = stage.keep(Socket(stdlib_socket.AF_INET, stdlib_socket.SOCK_STREAM))
        listener.bind(("127.0.0.1", 0))
        listener.listen(5)
        stage.socket, connection = listener, None
        stage.messages.clear()
        stage.starts.clear()
        stage.received.clear()
        address = listener.local_end_point
        client = stage.keep(stdlib_socket.socket())
        client.setblocking(False)
        if stage.warm:
            client.connect_ex(address)

        async def connect_later() -> None:
            await trio.testing.wait_all_tasks_blocked()
            client.connect_ex(address)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(connect_later)
            if face == "args":
                stage.subject = SocketAsyncEventArgs()
                stage.count_events(stage.subject)
                await stage.call(stage.start, listener.accept_async, stage.subject)
                with trio.fail_after(LIMIT):
                    await stage.subject.wait()
                connection = stage.subject.accept_socket
            elif face == "begin":
                result = await stage.call(listener.begin_accept)
                if result is not None:
                    with trio.fail_after(LIMIT):
                        await result.async_wait_handle.wait_one()
                    if result.outcome.__class__.__name__ == "Value":
                        connection = listener.end_accept_nowait(result)
            else:
                connection = await stage.call(listener.accept)
        if connection is not None:
            connection.close()
        stage.bytes_at_stop = None
        await end_quietly(stage)

    return drive


def connected(face: str) -> Drive:
    async def drive(stage: Stage) -> None:
        with stdlib_socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            stage.peer, far = stdlib_socket.socketpair()
            stage.peer.setblocking(False)
            stage.keep(stage.peer)
            stage.keep(far)
            stage.socket = stage.keep(Socket(stdlib_socket.AF_INET))
            if face == "args":
                stage.subject = SocketAsyncEventArgs()
                stage.subject.remote_end_point = listener.getsockname()
                stage.count_events(stage.subject)
                await stage.call(stage.start, stage.socket.connect_async, stage.subject)
                with trio.fail_after(LIMIT):
                    await stage.subject.wait()
            elif face == "begin":
                result = await stage.call(stage.socket.begin_connect, listener.getsockname())
                if result is not None:
                    with trio.fail_after(LIMIT):
                        await result.async_wait_handle.wait_one()
            else:
                await stage.call(stage.socket.connect, listener.getsockname())
            if stage.socket.fileno() >= 0 and stage.socket.connected:
                stage.peer, _ = listener.accept()
                stage.peer.setblocking(False)
                stage.keep(stage.peer)
                await end(stage)
            else:
                await end_quietly(stage)

    return drive


async def end_quietly(stage: Stage) -> None:
    """Look whether what has nothing to read is over."""
    with trio.fail_after(LIMIT):
        while any(in_flight(each) for each in [*stage.starts, *stage.operations]):
            await trio.lowlevel.checkpoint()
    await stage.look_at_events()


# -- what the library calls ----------------------------------------------------------------------


def on_port(followers: int) -> Drive:
    """A port of the program's own, in a start and in drains."""

    async def drive(stage: Stage) -> None:
        assert isinstance(stage.reentry, Calls)
        left, right = stdlib_socket.socketpair()
        right.setblocking(False)
        stage.peer = stage.keep(right)
        stage.socket = stage.keep(Socket.from_port(ActingPort(left, stage.reentry)))
        if stage.warm:
            stage.socket.send_async(stage.args("W", 10))
        stage.subject = stage.args("A", BIG, "list" if followers else "bytes")

        async def everything() -> None:
            stage.start(stage.socket.send_async, stage.subject)
            for letter in "FGH"[:followers]:
                stage.behind = stage.args(letter, 50)
                stage.start(stage.socket.send_async, stage.behind)
            await stage.read_to_the_end()

        await stage.call(everything)
        await end(stage)

    return drive


def with_buffer(face: str) -> Drive:
    """A buffer of the program's own, in a start and in drains."""

    async def drive(stage: Stage) -> None:
        assert isinstance(stage.reentry, Calls)
        stage.connect()
        stage.behind = stage.args("F", 50)
        buffer: Any = ActingBuffer(stage.message("A", BIG), stage.reentry)
        if face == "args":
            stage.subject = SocketAsyncEventArgs(buffer)
            stage.messages["A"] = BIG, stage.subject
            stage.count_events(stage.subject)

        async def everything() -> None:
            if face == "args":
                stage.start(stage.socket.send_async, stage.subject)
            elif face == "begin":
                stage.messages["A"] = BIG, stage.socket.begin_send([buffer])
            else:
                async with trio.open_nursery() as nursery:
                    await nursery.start(stage.read_on)
                    with suppress(*REFUSALS):
                        await stage.socket.send(buffer)
                    nursery.cancel_scope.cancel()
            stage.start(stage.socket.send_async, stage.behind)
            await stage.read_to_the_end()

        await stage.call(everything)
        await end(stage)

    return drive


CALLED: dict[str, Drive] = {
    "port": on_port(0),
    "port with followers": on_port(3),
}

WITH_BUFFERS: dict[str, Drive] = {
    f"buffer {face}": with_buffer(face) for face in ("args", "begin", "await")
}

DRIVES: dict[str, Drive] = {
    "send_async bytes": args_of("bytes"),
    "send_async bytearray": args_of("bytearray"),
    "send_async range": args_of("range"),
    "send_async list": args_of("list"),
    "send_async small": args_of("bytes", 50),
    "send_async behind": behind_another,
    "begin_send bytes": result_of("bytes"),
    "begin_send bytearray": result_of("bytearray"),
    "begin_send list": result_of("list"),
    "try_begin_send": result_of("bytes", tries=True),
    "send bytes": awaited("bytes"),
    "send bytearray": awaited("bytearray"),
    "send args": awaited("args"),
    "send small": awaited("bytes", 50),
    "send behind": awaited_behind,
    "drain bytes": drained("bytes"),
    "drain list": drained("list"),
    "drain run": drained("bytearray", 6),
    "wait": waited_for,
    "resume": resumed,
    "send_rest": rest_sent,
    "cancel": closing_with(lambda stage: stage.subject.cancel()),
    "cancel behind": closing_with(lambda stage: stage.behind.cancel()),
    "close": closing_with(lambda stage: stage.socket.close()),
    "shutdown": closing_with(shut_down),
    "send_packets_async": packets,
    "drain packets": packets_drained,
    "send_file": file_sent,
    "send_to_async": datagram_to("args"),
    "begin_send_to": datagram_to("begin"),
    "send_to": datagram_to("await"),
    "send_datagrams": datagrams,
    "receive_async": received("args"),
    "begin_receive": received("begin"),
    "receive": received("await"),
    "receive_from_async": received("args", "receive_from"),
    "begin_receive_from": received("begin", "receive_from"),
    "receive_from": received("await", "receive_from"),
    "receive_message_from_async": received("args", "receive_message_from"),
    "begin_receive_message_from": received("begin", "receive_message_from"),
    "receive_message_from": received("await", "receive_message_from"),
    "accept_async": accepted("args"),
    "begin_accept": accepted("begin"),
    "accept": accepted("await"),
    "connect_async": connected("args"),
    "begin_connect": connected("begin"),
    "connect": connected("await"),
}
