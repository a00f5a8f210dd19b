"""Hold a process that was forked off to leaving the sockets of the other one alone.

Modules: _kernel.forks.
"""

from __future__ import annotations

import inspect
import os
import socket as stdlib_socket
import struct
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.helpers import (
    BIG,
    CLEAN,
    Ends,
    end_of,
    ends as ends,
    kind as kind,
    nothing_to_read,
    read_exactly,
    scripted,
    stdlib_pair,
    tcp as tcp,
)
from trio_send import (
    InvalidOperationError,
    Socket,
    SocketAsyncEventArgs,
    SocketShutdown,
    from_thread,
    open_initiator,
)
from trio_send._kernel.epoll_set import HAVE_EPOLL
from trio_send._socket.trio_face import TrioFace

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked here")

LINGER = struct.Struct("ii")


def in_a_child(call: Callable[[], object]) -> str:
    """Call something in a process that is forked off; return what came of it, in words."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Threads that have done their work for Trio are no danger here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            try:
                came = call()
            except BaseException as error:
                came = f"{type(error).__name__}: {error}"
            os.write(writing, str(came).encode()[:4000])
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as words:
        said = words.read().decode()
    os.waitpid(child, 0)
    return said


def step(coroutine: Coroutine[Any, Any, object]) -> object:
    """Take the first step of a coroutine, which is all that it takes to be refused."""
    return coroutine.send(None)


# Closing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset", "aclose", "trio", "stream"])
@pytest.mark.parametrize("face", ["send_async", "begin_send", "await", "stream"])
async def test_closing_in_a_child_changes_nothing_for_the_parent(
    ends: Ends, how: str, face: str
) -> None:
    """Its pending send goes on, its options are as they were, and it is told when its socket is ready."""
    socket, peer = ends
    stream = socket.as_stream()
    args = SocketAsyncEventArgs(BIG)

    def close() -> str:
        if how == "close":
            socket.close()
        elif how == "reset":
            socket.close(reset=True)
        elif how == "aclose":
            step(socket.aclose())
        elif how == "trio":
            socket.trio.close()
        else:
            step(stream.aclose())
        socket.close()
        return f"{socket.fileno()} {socket!r}"

    async with open_initiator(), trio.open_nursery() as nursery:
        if face == "send_async":
            assert socket.send_async(args) is True
        elif face == "begin_send":
            socket.begin_send(BIG)
        elif face == "await":
            nursery.start_soon(socket.send, BIG)
        else:
            nursery.start_soon(stream.send_all, BIG)
        await wait_all_tasks_blocked()
        assert in_a_child(close) == "-1 <trio_send.Socket: closed>"
        assert await read_exactly(peer, len(BIG)) == BIG
        while socket.queued_operations:
            await trio.lowlevel.checkpoint()
    linger = socket.getsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, LINGER.size)
    assert LINGER.unpack(linger)[0] == 0
    peer.send(b"x")
    assert await socket.receive() == b"x"
    await socket.aclose()
    assert await end_of(peer) == (b"", CLEAN)


@pytest.mark.parametrize("how", ["close", "aclose"])
async def test_a_port_of_ones_own_is_not_closed_by_a_child(how: str) -> None:
    """What it stands on is the other process's as well, and only the port knows what that is."""
    socket, port = scripted()

    def close() -> str:
        for _ in range(2):
            if how == "close":
                socket.close()
            else:
                step(socket.aclose())
        return f"{port.closed}, {port.shut_down}, {socket.connected}"

    assert in_a_child(close) == "False, [], False"
    assert await socket.send(b"x") == 1
    assert port.accepted == b"x"
    socket.close()
    assert port.closed


async def test_a_torn_stream_is_not_reset_by_a_child(tcp: Ends) -> None:
    socket, peer = tcp
    async with open_initiator():
        args = SocketAsyncEventArgs(BIG)
        assert socket.send_async(args) is True
        assert args.cancel() is True
        in_a_child(socket.close)
        assert socket.torn is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.send_rest)
            assert await read_exactly(peer, len(BIG)) == BIG


async def test_a_child_may_go_on_with_a_socket_that_it_makes_of_the_descriptor(tcp: Ends) -> None:
    """As the sentence of the refusal says."""
    socket, peer = tcp

    def use() -> object:
        own = Socket.from_stdlib(stdlib_socket.socket(fileno=os.dup(socket.fileno())))
        own.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_KEEPALIVE, 1)
        return own.connected

    assert in_a_child(use) == "True"
    assert socket.getsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_KEEPALIVE)
    await socket.send(b"x")
    assert await read_exactly(peer, 1) == b"x"


# Everything else --------------------------------------------------------------------------------

#: What may be asked in a child, for it changes nothing. And what makes a socket, or only reads a result.
HARMLESS = {
    "aclose", "cancel_connect_async", "close", "end_send_nowait", "fileno",
    "from_port", "from_stdlib", "from_trio", "getpeername", "getsockname", "getsockopt", "high_water",
    "local_end_point", "low_water", "queued_bytes", "queued_operations", "remote_end_point", "statistics", "torn",
    "trio", "type", "when_full",
}  # fmt: skip

#: The arguments that every other call can do with.
ARGUMENTS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "accept": tuple,
    "as_stream": tuple,
    "audit": tuple,
    "begin_accept": tuple,
    "begin_connect": lambda: (("127.0.0.1", 9),),
    "begin_receive": lambda: (bytearray(1),),
    "begin_send": lambda: (b"x",),
    "begin_send_to": lambda: (b"x", 0, 1, 0, ("127.0.0.1", 9)),
    "bind": lambda: (("127.0.0.1", 0),),
    "connect": lambda: (("127.0.0.1", 9),),
    "disconnect": tuple,
    "forget_torn": tuple,
    "listen": tuple,
    "receive": tuple,
    "receive_into": lambda: (bytearray(1),),
    "send": lambda: (b"x",),
    "send_datagrams": lambda: (b"x", 1),
    "send_file": lambda: (__file__,),
    "send_rest": tuple,
    "send_to": lambda: (b"x", ("127.0.0.1", 9)),
    "setsockopt": lambda: (stdlib_socket.SOL_SOCKET, stdlib_socket.SO_KEEPALIVE, 1),
    "shutdown": lambda: (SocketShutdown.BOTH,),
    "try_begin_send": lambda: (b"x",),
    "wait_acknowledged": tuple,
    "wait_below_low_water": tuple,
}


def is_property(name: str) -> bool:
    return inspect.isdatadescriptor(inspect.getattr_static(Socket, name))


def calls() -> list[str]:
    return sorted(
        name
        for name in dir(Socket)
        if not name.startswith("_") and name not in HARMLESS and not is_property(name)
    )


def settable() -> list[str]:
    return sorted(
        name
        for name in dir(Socket)
        if not name.startswith("_")
        and getattr(inspect.getattr_static(Socket, name), "fset", None) is not None
    )


@pytest.mark.parametrize("name", [name for name in settable() if name != "dual_mode"])
async def test_no_property_is_set(tcp: Ends, name: str) -> None:
    """An option would change for the parent as well. `dual_mode` is none of an IPv4 socket."""
    socket, _ = tcp
    wrong = (AttributeError, OSError)  # not an option of this kind of socket

    def change() -> str:
        try:
            before = getattr(socket, name)
        except wrong:
            before = True
        setattr(socket, name, before)
        return "was not refused"

    assert in_a_child(change).startswith("InvalidOperationError: this socket belongs to the")


@pytest.mark.parametrize("name", calls())
async def test_every_other_call_is_refused(tcp: Ends, name: str) -> None:
    """Whatever it would do to the connection, the parent would not know of it."""
    socket, peer = tcp
    async with open_initiator():
        receive = SocketAsyncEventArgs(bytearray(10))
        assert socket.receive_async(receive) is True  # which a child must not take the bytes of
        result = socket.begin_send(b"x")

        def call() -> str:
            arguments: tuple[Any, ...]
            if name in ARGUMENTS:
                arguments = ARGUMENTS[name]()
            elif "end_" in name and not name.startswith(("send_", "begin_", "try_begin")):
                arguments = (result,)
            else:
                arguments = (SocketAsyncEventArgs(b"x"),)
            came = getattr(socket, name)(*arguments)
            if isinstance(came, Coroutine):
                came = step(came)
            return f"was not refused: {came!r}"

        said = in_a_child(call)
        assert said.startswith("InvalidOperationError: this socket belongs to the process"), said
        assert await read_exactly(peer, 1) == b"x"
        assert nothing_to_read(peer)
        peer.send(b"answer")
        await receive.wait()
        assert receive.bytes_transferred == 6


async def test_so_are_those_of_streams_and_of_the_trio_face(tcp: Ends) -> None:
    socket, peer = tcp
    stream = socket.as_stream()
    face = socket.trio
    looks = {"close", "detach", "dup", "fileno", "getpeername", "getsockname", "getsockopt"}
    names = sorted(
        name
        for name, member in vars(TrioFace).items()
        if not name.startswith("_") and callable(member) and name not in looks
    )
    assert {"connect", "recv", "send", "setsockopt", "shutdown"} <= set(names)

    def refusal(call: Callable[[], object]) -> str | None:
        try:
            call()
        except InvalidOperationError:
            return None
        except BaseException as error:
            return repr(error)
        return "not refused"

    def call_all() -> dict[str, str | None]:
        came: dict[str, str | None] = {
            name: refusal(lambda name=name: getattr(face, name)(stdlib_socket.SHUT_RDWR))  # type: ignore[misc]
            for name in names
        }
        came["send_all"] = refusal(lambda: step(stream.send_all(b"x")))
        came["send_eof"] = refusal(lambda: step(stream.send_eof()))
        came["receive_some"] = refusal(lambda: step(stream.receive_some()))
        came["wait"] = refusal(lambda: step(stream.wait_send_all_might_not_block()))
        return {name: said for name, said in came.items() if said is not None}

    assert in_a_child(call_all) == "{}"
    await socket.send(b"x")
    assert await read_exactly(peer, 1) == b"x"


@pytest.mark.parametrize("what", ["args", "result"])
async def test_what_is_pending_cannot_be_stopped_there(tcp: Ends, what: str) -> None:
    socket, peer = tcp
    async with open_initiator():
        args = SocketAsyncEventArgs(BIG)
        assert socket.send_async(args) is True
        result = socket.begin_send(b"behind")
        said = in_a_child(lambda: args.cancel() if what == "args" else result.cancel())
        assert said.startswith("InvalidOperationError: this socket belongs to the process")
        assert await read_exactly(peer, len(BIG) + 6) == BIG + b"behind"


@pytest.mark.skipif(
    not HAVE_EPOLL, reason="tasks wait through Trio's own epoll set, which both processes have"
)
@pytest.mark.parametrize("face", ["args", "wait", "await"])
async def test_a_child_that_goes_on_in_trio_takes_nothing_and_sends_nothing(
    tcp: Ends, face: str
) -> None:
    """It should not; but where its copies of engine and tasks are run, they end what waits there, and that is all."""
    socket, peer = tcp
    async with open_initiator() as initiator, trio.open_nursery() as nursery:
        args, receive = SocketAsyncEventArgs(BIG), SocketAsyncEventArgs(bytearray(10))
        assert socket.receive_async(receive) is True
        if face == "await":
            nursery.start_soon(socket.send, BIG)
        else:
            assert socket.send_async(args) is True
        if face == "wait":
            nursery.start_soon(args.wait)
        await wait_all_tasks_blocked()
        filled = args.bytes_transferred
        peer.send(b"answer")

        def go_on() -> tuple[int, int]:
            receives = socket._core.receives
            assert receives is not None
            receives.stop_owner(initiator, 995, "the child unwinds")
            receives.drain(10**6)
            socket._core.sends.drain(10**6)
            return socket.queued_operations, receives.length

        assert in_a_child(go_on) == "(0, 0)"
        assert args.bytes_transferred == filled
        # In this order, for a wait for the socket would set right what the child may have undone in Trio's epoll set.
        assert await read_exactly(peer, len(BIG)) == BIG
        await receive.wait()
        assert receive.bytes_transferred == 6


async def test_a_child_of_a_worker_thread_is_refused_too() -> None:
    left, right = stdlib_pair("tcp4")
    right.setblocking(False)
    with right:
        socket = Socket.from_stdlib(left)
        async with open_initiator():
            said = await trio.to_thread.run_sync(
                in_a_child, lambda: from_thread.begin_send(socket, b"x")
            )
            assert said.startswith("InvalidOperationError: this socket belongs to the process")
            assert nothing_to_read(right)
        socket.close()


def test_what_the_child_makes_is_its_own() -> None:
    def use() -> int:
        socket = Socket(type=stdlib_socket.SOCK_DGRAM)
        socket.bind(("127.0.0.1", 0))
        socket.close()
        return socket.fileno()

    assert in_a_child(use) == "-1"


async def test_a_socket_made_before_the_run_stays_with_its_process() -> None:
    """A listener, say, that is made before the workers are forked off."""
    listener = Socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    assert in_a_child(lambda: step(listener.accept())).startswith("InvalidOperationError")
    in_a_child(listener.close)
    with stdlib_socket.create_connection(listener.local_end_point):
        (await listener.accept()).close()
    listener.close()
