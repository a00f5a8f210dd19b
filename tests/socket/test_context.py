"""Hold every operation to the context of its start: handlers and callbacks see what their starter saw, never older."""

from __future__ import annotations

import contextvars
import socket as stdlib_socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.connections import Resolver
from tests.helpers import (
    BIG,
    connected,
    fill,
    read_exactly,
    scripted,
    stack as stack,
    stdlib_pair,
)
from trio_send import AsyncResult, Socket, SocketAsyncEventArgs, open_initiator
from trio_send._owners.exiting_owner import START_BUDGET
from trio_send.testing import Blocked

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")


@attrs.frozen
class Scene:
    """An operation that can be started again and again on one socket.

    Attributes:
      start: starts it with args; it is pending then.
      begin: begins it with a callback; None for what has no such form.
      end: brings it about that what is pending ends.
    """

    start: Callable[[SocketAsyncEventArgs], bool]
    begin: Callable[[Callable[[AsyncResult], object]], AsyncResult] | None
    end: Callable[[], Awaitable[None]]


def sending(stack: ExitStack) -> Scene:
    socket, peer = stack.enter_context(connected("unix"))

    def start(args: SocketAsyncEventArgs) -> bool:
        args.set_buffer(BIG)
        return socket.send_async(args)

    async def end() -> None:
        await read_exactly(peer, len(BIG))

    return Scene(start, lambda callback: socket.begin_send(BIG, callback=callback), end)


def sending_to(stack: ExitStack) -> Scene:
    """Between Unix datagram sockets, where the receiver's full queue holds the next one up."""
    path = str(Path(stack.enter_context(TemporaryDirectory())) / "receiver")
    peer = stack.enter_context(
        stdlib_socket.socket(stdlib_socket.AF_UNIX, stdlib_socket.SOCK_DGRAM)
    )
    peer.bind(path)
    peer.setblocking(False)
    sock = stdlib_socket.socket(stdlib_socket.AF_UNIX, stdlib_socket.SOCK_DGRAM)
    sock.connect(path)
    socket = stack.enter_context(closing(Socket.from_stdlib(sock)))

    def start(args: SocketAsyncEventArgs) -> bool:
        fill(socket)
        args.set_buffer(b"x" * 4096)
        args.remote_end_point = path
        return socket.send_to_async(args)

    def begin(callback: Callable[[AsyncResult], object]) -> AsyncResult:
        fill(socket)
        return socket.begin_send_to(b"x" * 4096, remote_end_point=path, callback=callback)

    async def end() -> None:
        try:
            while True:
                peer.recv(65536)
        except BlockingIOError:
            pass

    return Scene(start, begin, end)


def receiving(stack: ExitStack) -> Scene:
    socket, peer = stack.enter_context(connected("unix"))

    def start(args: SocketAsyncEventArgs) -> bool:
        args.set_buffer(bytearray(1))
        return socket.receive_async(args)

    async def end() -> None:
        peer.send(b"x")

    return Scene(start, lambda callback: socket.begin_receive(bytearray(1), callback=callback), end)


def accepting(stack: ExitStack) -> Scene:
    socket = stack.enter_context(closing(Socket()))
    socket.bind(("127.0.0.1", 0))
    socket.listen()

    def forget(args: SocketAsyncEventArgs) -> None:
        if args.accept_socket is not None:
            args.accept_socket.close()
            args.accept_socket = None

    def start(args: SocketAsyncEventArgs) -> bool:
        forget(args)
        stack.callback(forget, args)
        return socket.accept_async(args)

    async def end() -> None:
        stack.enter_context(stdlib_socket.create_connection(socket.local_end_point))

    def begin(callback: Callable[[AsyncResult], object]) -> AsyncResult:
        async def end_accept(result: AsyncResult) -> None:
            (await socket.end_accept(result)).close()
            made = callback(result)
            if made is not None:
                await made  # type: ignore[misc]

        return socket.begin_accept(end_accept)

    return Scene(start, begin, end)


def connecting(stack: ExitStack) -> Scene:
    """To a name that cannot be found, so that the same socket can be connected again and again."""
    socket = stack.enter_context(closing(Socket()))
    resolver = Resolver(OSError("no such name"), held=True)

    def start(args: SocketAsyncEventArgs) -> bool:
        resolver.released = trio.Event()
        args.remote_end_point = ("name.example", 80)
        return socket.connect_async(args)

    async def end() -> None:
        await wait_all_tasks_blocked()
        resolver.released.set()

    def begin(callback: Callable[[AsyncResult], object]) -> AsyncResult:
        resolver.released = trio.Event()
        return socket.begin_connect(("name.example", 80), callback)

    return Scene(start, begin, end)


def disconnecting(stack: ExitStack) -> Scene:
    """It never waits, so it is the start that has to pend for the others' sake."""
    socket = stack.enter_context(closing(Socket()))

    def start(args: SocketAsyncEventArgs) -> bool:
        for _ in range(START_BUDGET):
            assert socket.disconnect_async(args) is False
        return socket.disconnect_async(args)

    return Scene(start, None, trio.lowlevel.checkpoint)


def pacing(stack: ExitStack) -> Scene:
    """A send of which the kernel has taken everything, and that pends for the others' sake."""
    socket, _ = scripted()

    def start(args: SocketAsyncEventArgs) -> bool:
        args.set_buffer(b"x")
        for _ in range(START_BUDGET):
            assert socket.send_async(args) is False
        return socket.send_async(args)

    return Scene(start, None, trio.lowlevel.checkpoint)


SCENES = (sending, sending_to, receiving, accepting, connecting, disconnecting, pacing)

every_scene = pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
either_kind = pytest.mark.parametrize("asynchronous", [False, True])


def watcher(seen: list[str], asynchronous: bool) -> Callable[..., Any]:
    """A handler or callback that notes what it sees, and leaves something behind."""

    def note() -> None:
        seen.append(variable.get())
        variable.set("left behind by a handler")

    async def note_later(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        note()

    return note_later if asynchronous else lambda *_: note()


@pytest.mark.fact("F262", "F267", "F268", "F270")
@pytest.mark.page("B48")
@either_kind
@every_scene
async def test_handlers_see_what_the_latest_starter_saw(
    scene: Callable[[ExitStack], Scene], asynchronous: bool, stack: ExitStack
) -> None:
    """With one socket, one args object and one handler throughout, which is what .NET Framework keyed its cache by."""
    seen: list[str] = []
    made = scene(stack)
    args = SocketAsyncEventArgs()
    args.completed += watcher(seen, asynchronous)
    async with open_initiator():
        for number in range(3):
            variable.set(f"start {number}")
            assert made.start(args) is True
            variable.set("later")
            await made.end()
            await args.wait()
            await wait_all_tasks_blocked()
            assert seen == [f"start {each}" for each in range(number + 1)]
        assert variable.get() == "later"


@pytest.mark.fact("F262", "F267", "F270")
@pytest.mark.page("B48")
@either_kind
@pytest.mark.parametrize("scene", SCENES[:-2], ids=lambda scene: scene.__name__)
async def test_callbacks_see_what_the_latest_starter_saw(
    scene: Callable[[ExitStack], Scene], asynchronous: bool, stack: ExitStack
) -> None:
    """The same with one socket and one callback."""
    seen: list[str] = []
    made = scene(stack)
    assert made.begin is not None
    callback = watcher(seen, asynchronous)
    async with open_initiator():
        for number in range(3):
            variable.set(f"start {number}")
            result = made.begin(callback)
            assert not result.completed_synchronously
            variable.set("later")
            await made.end()
            await result.async_wait_handle.wait_one()
            await wait_all_tasks_blocked()
            assert seen == [f"start {each}" for each in range(number + 1)]
        assert variable.get() == "later"


@pytest.mark.fact("F269")
@either_kind
@every_scene
async def test_a_context_that_does_not_flow_is_that_of_the_initiators_entry(
    scene: Callable[[ExitStack], Scene], asynchronous: bool, stack: ExitStack
) -> None:
    """Each handler in a copy of its own."""
    seen: list[str] = []
    made = scene(stack)
    args = SocketAsyncEventArgs(flow_context=False)
    args.completed += watcher(seen, asynchronous)
    variable.set("entry")
    async with open_initiator():
        for number in range(2):
            variable.set(f"start {number}")
            assert made.start(args) is True
            await made.end()
            await args.wait()
            await wait_all_tasks_blocked()
    assert seen == ["entry"] * 2


async def test_the_rest_of_a_cut_message_is_told_in_the_context_of_the_call_that_resumed_it() -> (
    None
):
    seen: list[str] = []
    socket, _ = scripted(3, Blocked(0), Blocked(0))
    async with open_initiator():
        args = SocketAsyncEventArgs(b"message")
        args.completed += watcher(seen, asynchronous=False)
        variable.set("start")
        assert socket.send_async(args) is True
        args.cancel()
        await args.wait()
        variable.set("resume")
        assert socket.resume(args) is True
        variable.set("later")
        assert await args.wait() == 7
    assert seen == ["start", "resume"]
    socket.close()


def calls_of(function: Callable[[], object]) -> int:
    """How many functions are called inside, those of the interpreter included."""
    count = 0

    def note(_: object, event: str, __: object) -> None:
        nonlocal count
        if event in ("call", "c_call"):
            count += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.page("B49")
@pytest.mark.parametrize("method", ["send_async", "begin_send", "receive_async"])
async def test_later_uses_of_a_method_a_socket_and_a_callback_are_cheaper(method: str) -> None:
    """What the first start finds out, the later ones need not. The context is not among it."""
    left, peer = stdlib_pair("unix")
    seen: list[str] = []
    told = watcher(seen, asynchronous=False)
    with peer, closing(Socket.from_stdlib(left)) as socket:
        async with open_initiator():

            def start() -> None:
                if method == "begin_send":
                    socket.begin_send(bytearray(b"x"), callback=told)
                    return
                args = made.pop()
                if method == "send_async":
                    socket.send_async(args)
                else:
                    socket.receive_async(args)

            made = [SocketAsyncEventArgs(bytearray(b"x")) for _ in range(3)]
            for args in made:
                args.completed += told
            costs: list[int] = []
            for number in range(3):
                variable.set(f"start {number}")
                costs.append(calls_of(start))
            assert costs[1] == costs[2] < costs[0]
            if method == "receive_async":
                peer.send(b"xxx")
            await wait_all_tasks_blocked()
    if method != "send_async":  # which has told nobody
        assert seen == [f"start {number}" for number in range(3)]
