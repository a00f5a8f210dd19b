"""What the suites share: connected sockets of each kind and fixtures of them, peers that read, the faces of a send.

The peers are plain sockets of the standard library: the library under test has no hand in what is compared.
"""

from __future__ import annotations

import os
import random
import signal
import socket as stdlib_socket
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_send import Socket, SocketAsyncEventArgs, SocketError, SocketException, SocketFlags
from trio_send._kernel.port import KernelPort
from trio_send.testing import Blocked, ScriptedPort


def _have_ipv6() -> bool:
    try:
        with stdlib_socket.socket(stdlib_socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


HAVE_IPV6 = _have_ipv6()

needs_ipv6 = pytest.mark.skipif(not HAVE_IPV6, reason="this machine has no ::1")

#: The kinds of stream, as parameters of a fixture.
KINDS = ("tcp4", pytest.param("tcp6", marks=needs_ipv6), "unix")

#: Family and host of the kinds that have a port.
HOSTS = {
    "tcp4": (stdlib_socket.AF_INET, "127.0.0.1"),
    "tcp6": (stdlib_socket.AF_INET6, "::1"),
}


def bytes_of(size: int, seed: int = 0) -> bytes:
    """Bytes that look the same nowhere, so that a piece that is lost, doubled or moved shows."""
    return random.Random(seed).randbytes(size)


#: More than a connection with tiny buffers takes while nobody reads, and still quick to read.
BIG = bytes_of(300_000, seed=1)


def stdlib_pair(
    kind: str, *, tiny: bool = False
) -> tuple[stdlib_socket.socket, stdlib_socket.socket]:
    """Two plain sockets that are connected; if ``tiny``, little fits from the first to the second.

    How little is the kernel's business. Nothing here depends on a number, only on BIG being more.
    """
    if kind == "unix":
        left, right = stdlib_socket.socketpair(stdlib_socket.AF_UNIX)
        if tiny:
            left.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 1)
        return left, right
    family, host = HOSTS[kind]
    with stdlib_socket.socket(family) as listener:
        # What is accepted inherits the listener's buffer, and the window is negotiated from the first packet on.
        if tiny:
            listener.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_RCVBUF, 1)
        listener.bind((host, 0))
        listener.listen()
        left = stdlib_socket.socket(family)
        if tiny:
            left.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 1)
        left.connect(listener.getsockname())
        right, _ = listener.accept()
    return left, right


@contextmanager
def connected(kind: str, *, tiny: bool = True) -> Iterator[tuple[Socket, stdlib_socket.socket]]:
    """One of ours and its peer, a plain non-blocking socket; both are closed in the end."""
    left, right = stdlib_pair(kind, tiny=tiny)
    right.setblocking(False)
    with right:
        ours = Socket.from_stdlib(left)
        try:
            yield ours, right
        finally:
            ours.close()


class CountingPort(KernelPort):
    """The kernel's port, which also notes what the kernel said that it took.

    Attributes:
      accepted: the bytes that were accepted, in order.
      calls: how many of each call were accepted, in order.
    """

    __slots__ = ("accepted", "calls")

    def __init__(self, sock: stdlib_socket.socket) -> None:
        super().__init__(sock)
        self.accepted = bytearray()
        self.calls: list[int] = []

        def send(buffer: Any, flags: int, /) -> int:
            return self._note(sock.send(buffer, flags), [buffer])

        self.send = send

    def send_gather(self, views: Sequence[Any], flags: int, /) -> int:
        return self._note(super().send_gather(views, flags), views)

    def _note(self, count: int, buffers: Sequence[Any]) -> int:
        self.calls.append(count)
        left = count
        for buffer in buffers:
            taken = memoryview(buffer).cast("B")[:left] if left else b""
            self.accepted += taken
            left -= len(taken)
        return count


# Fixtures -------------------------------------------------------------------------------------
# A suite imports those that it uses, and those that they use, as in `import ends as ends, kind as kind`: so written,
# they are there on purpose.

Ends = tuple[Socket, stdlib_socket.socket]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """A kind of stream."""
    return str(request.param)


@pytest.fixture
def ends(kind: str) -> Iterator[Ends]:
    """A stream with tiny buffers, from one of ours to a plain socket."""
    with connected(kind) as both:
        yield both


@pytest.fixture
def tcp() -> Iterator[Ends]:
    """The same, for what only TCP does, or where the kind makes no difference."""
    with connected("tcp4") as both:
        yield both


@pytest.fixture
def unix() -> Iterator[Ends]:
    """The same, where the kind makes no difference."""
    with connected("unix") as both:
        yield both


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Whatever is put here is closed in the end."""
    with ExitStack() as made:
        yield made


# Peers ----------------------------------------------------------------------------------------


async def read_some(peer: stdlib_socket.socket, at_most: int = 65536) -> bytes:
    """What is there, as soon as something is; b"" at the end."""
    while True:
        try:
            return peer.recv(at_most)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(peer)


async def read_exactly(peer: stdlib_socket.socket, count: int) -> bytes:
    """Exactly so many bytes; fewer only if the stream ends before."""
    data = bytearray()
    while len(data) < count:
        piece = await read_some(peer, count - len(data))
        if not piece:
            break
        data += piece
    return bytes(data)


async def read_to_end(peer: stdlib_socket.socket) -> bytes:
    """Everything up to the clean end of the stream."""
    data = bytearray()
    while piece := await read_some(peer):
        data += piece
    return bytes(data)


#: How a stream can end for its peer.
RESET, CLEAN = "reset", "clean"


async def end_of(peer: stdlib_socket.socket) -> tuple[bytes, str]:
    """Read all there is; return it, and how the stream ended."""
    data = bytearray()
    while True:
        try:
            piece = await read_some(peer)
        except ConnectionResetError:
            return bytes(data), RESET
        if not piece:
            return bytes(data), CLEAN
        data += piece


def a_reset(kind: str) -> str:
    """How a stream ends for the peer that was to be reset. A Unix socket knows no resets."""
    return CLEAN if kind == "unix" else RESET


def reset_on_close(sock: Any) -> None:
    """Have the close of a socket reset its connection."""
    linger = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
    sock.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, linger)


def reset(peer: stdlib_socket.socket) -> None:
    """Close a peer, which resets its connection."""
    reset_on_close(peer)
    peer.close()


def nothing_to_read(peer: stdlib_socket.socket) -> bool:
    """Whether the peer has been sent nothing, neither a byte nor an end."""
    try:
        peer.recv(1, stdlib_socket.MSG_PEEK)
    except BlockingIOError:
        return True
    return False


# Faces ----------------------------------------------------------------------------------------

#: The ways to send a message.
FACES = ("send_async", "begin_send", "try_begin_send", "send", "send args")


def args_for(data: Any) -> SocketAsyncEventArgs:
    """Args for one buffer, or for a list of them."""
    if isinstance(data, (list, tuple)):
        return SocketAsyncEventArgs(buffer_list=data)
    return SocketAsyncEventArgs(data)


def values_of(args: SocketAsyncEventArgs) -> dict[str, Any]:
    """Everything that can be read of args, to see whether a refused call changed any of it."""
    names = (
        "buffer",
        "offset",
        "count",
        "buffer_list",
        "bytes_transferred",
        "socket_error",
        "socket_flags",
        "last_operation",
        "user_token",
        "remote_end_point",
        "accept_socket",
        "connect_socket",
        "pending",
        "activation",
    )
    values = {name: getattr(args, name) for name in names}
    values["remaining"] = [bytes(view) for view in args.remaining]
    values["outcome"] = repr(args.outcome)
    return values


async def send_through(face: str, socket: Socket, data: Any) -> int:
    """Send one message through a face, wait for its end and return its count."""
    if face == "send":
        return await socket.send(data)
    if face == "begin_send":
        return await socket.end_send(socket.begin_send(data))
    if face == "try_begin_send":
        result, error = socket.try_begin_send(data)
        assert error is SocketError.SUCCESS
        assert result is not None
        count, error = await socket.try_end_send(result)
        assert error is SocketError.SUCCESS
        return count
    args = args_for(data)
    if face == "send args":
        assert await socket.send(args) == args.bytes_transferred
    elif socket.send_async(args):
        await args.wait()
    assert args.outcome is not None
    return args.outcome.unwrap()


async def send_big(socket: Socket, peer: stdlib_socket.socket, args: SocketAsyncEventArgs) -> None:
    """Send a message of BIG with ``args`` from start to end."""
    args.set_buffer(BIG)
    assert socket.send_async(args) is True
    assert await read_exactly(peer, len(BIG)) == BIG
    await args.wait()
    await wait_all_tasks_blocked()


def never_called(*_: object) -> None:
    """A handler or callback that nobody may call."""
    pytest.fail("somebody was told of what has not been pending")


async def failure_on_the_spot(
    face: str, socket: Socket, data: Any, flags: SocketFlags = SocketFlags.NONE
) -> tuple[SocketError, int]:
    """Send what cannot be sent, in the way of each face; return the error and the count."""
    if face == "begin_send":
        with pytest.raises(SocketException) as begun:
            socket.begin_send(data, socket_flags=flags, callback=never_called)
        return begun.value.socket_error_code, begun.value.bytes_transferred
    if face == "try_begin_send":
        result, error = socket.try_begin_send(data, socket_flags=flags, callback=never_called)
        assert result is None
        return error, 0
    if face == "send":
        with pytest.raises(SocketException) as sent:
            await socket.send(data, flags)
        return sent.value.socket_error_code, sent.value.bytes_transferred
    args = args_for(data)
    args.socket_flags = flags
    args.completed += never_called
    if face == "send args":
        with pytest.raises(SocketException) as awaited:
            await socket.send(args)
        assert awaited.value.socket_error_code is args.socket_error
        assert awaited.value.bytes_transferred == args.bytes_transferred
    else:
        assert socket.send_async(args) is False
    assert args.socket_flags == flags
    assert args.outcome is not None
    with pytest.raises(SocketException) as unwrapped:
        args.outcome.unwrap()
    assert unwrapped.value.socket_error_code is args.socket_error
    assert unwrapped.value.bytes_transferred == args.bytes_transferred
    return args.socket_error, args.bytes_transferred


# Signals --------------------------------------------------------------------------------------


@pytest.fixture
def python_handles_ctrl_c() -> Iterator[None]:
    """Trio looks after Ctrl-C only where Python itself would have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


needs_sigpipe = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGPIPE")


def run_where_sigpipe_kills(script: str, *arguments: str) -> list[str]:
    """Run a script's ``main`` in a program that has given SIGPIPE back its default action, which is to end the process.

    It must end well all the same; return the words that it has printed.
    """
    begin = """
        import signal, sys, trio, trio_send
        from trio_send import SocketAsyncEventArgs as Args, SocketFlags
    """
    end = """
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        trio.run(main)
        print("alive")
    """
    process = subprocess.run(
        [sys.executable, "-c", "".join(map(textwrap.dedent, (begin, script, end))), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (process.returncode, process.stderr) == (0, "")
    *words, last = process.stdout.split()
    assert last == "alive"
    return words


# Ports that do what they are told, and handlers that remember ----------------------------------


def scripted(
    *script: int | str | Blocked, is_stream: bool = True, on_torn: str = "refuse"
) -> tuple[Socket, ScriptedPort]:
    """A socket on a port that follows a script, and that port."""
    port = ScriptedPort(script, is_stream=is_stream)
    return Socket.from_port(port, on_torn=on_torn), port


def cycle(*lines: int | Blocked, times: int) -> list[int | Blocked]:
    """A script that repeats some lines."""
    return list(lines) * times


async def unblock(port: ScriptedPort) -> None:
    """Lift the block that somebody waits at, and see what comes of it."""
    await wait_all_tasks_blocked()
    port.unblock()
    await wait_all_tasks_blocked()


class Told:
    """A handler that remembers what it was told.

    Attributes:
      events: the name, the error and the count of each operation, in the order in which it was told of them.
    """

    def __init__(self) -> None:
        self.events: list[tuple[str, SocketError, int]] = []

    def __call__(self, socket: Socket, args: SocketAsyncEventArgs) -> None:
        self.events.append((args.user_token, args.socket_error, args.bytes_transferred))

    def args(self, name: str, data: Any = None) -> SocketAsyncEventArgs:
        """Args of that name whose completion is remembered; by default ten bytes of their own."""
        args = SocketAsyncEventArgs(ten(name) if data is None else data, user_token=name)
        args.completed += self
        return args


def ten(name: str) -> bytes:
    """Ten bytes that tell whose they are."""
    return name.encode().ljust(9, b".")[:9] + b"|"


def fill(socket: Socket) -> int:
    """Send zeros past the library until the kernel takes no more; return how many it took."""
    filled = 0
    with stdlib_socket.socket(fileno=os.dup(socket.fileno())) as twin:
        twin.setblocking(False)
        for size in (4096, 1):
            try:
                while True:
                    filled += twin.send(bytes(size))
            except BlockingIOError:
                pass
    return filled


def in_flight(face: Any) -> bool:
    """Tell whether args or a result are under way, without asking for an end that is held back."""
    operation = getattr(face, "_operation", None)
    return operation is not None and bool(operation.in_flight)


def is_taken(result: Any) -> bool:
    """Tell whether the single call of the end method of a result was made."""
    return bool(result.is_taken if hasattr(result, "is_taken") else result._operation.is_taken)


class Turns(trio.abc.Instrument):
    """Divides a log into what happened between two looks at the outside world, in which every task has one turn.

    Args:
      log: to which `mark` is added at each look.
      mark: what stands for it.
    """

    def __init__(self, log: list[Any], mark: object) -> None:
        self._log = log
        self._mark = mark

    def after_io_wait(self, timeout: float) -> None:
        self._log.append(self._mark)
