"""What a fuzzed sequence can do: every action is a function of the world and of the bytes that choose.

Those of `SYNC` never wait, so handlers do them too. Those of `CONTROL` open and leave scopes and let others run; they
are for the main task, and written in `run_sequence`.
"""

from __future__ import annotations

import math
import socket as stdlib_socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import outcome
import trio
from trio.testing import wait_all_tasks_blocked

import trio_send
from tests.fuzz_oracle import Entry, is_refusal
from tests.fuzz_world import (
    MOST_TASKS,
    PATIENCE,
    Boom,
    Follower,
    Pick,
    Step,
    Watched,
    World,
    bytes_of_elements,
    elements_of,
)
from trio_send import (
    AsyncResult,
    DatagramBatch,
    ExitPolicy,
    Socket,
    SocketAsyncEventArgs,
    SocketException,
    SocketFlags,
    SocketShutdown,
    open_initiator,
)
from trio_send._operation import CUT
from trio_send._queue import CLOSED
from trio_send.testing import Blocked, ScriptedPort

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

SYNC: dict[str, Callable[[FuzzWorld, Pick], None]] = {}


class FuzzWorld(World):
    """A world in which everything can be done."""

    def act(self, step: Step) -> None:
        name, data = step
        SYNC[name](self, Pick(data))

    # Choosing.

    def a_socket(self, pick: Pick) -> Watched:
        watched: Watched = pick.of(self.sockets)
        return watched

    def a_follower(self, pick: Pick) -> Follower:
        follower: Follower = pick.of(self.followers)
        return follower

    def a_buffer(self, pick: Pick) -> Any:
        """Something to send, mostly."""
        kind = pick.number(32)
        if kind < 12 or not self.buffers:
            return self.add_buffer(pick)
        if kind < 26:
            return pick.of(self.buffers)
        self.volatile_bad = True
        if kind == 26:
            return memoryview(b"0123456789")[::2]
        if kind == 27:
            view = memoryview(b"released")
            view.release()
            return view
        return pick.or_wrong(self.buffers[0])

    def a_range(self, pick: Pick) -> tuple[Any, Any]:
        return pick.of((0, 0, 1, 2, -1, 9, 10**6, 2**70)), pick.of((None, None, 0, 1, 3, -1, 2**70))

    def flags(self, pick: Pick) -> Any:
        return pick.of(
            (
                SocketFlags.NONE,
                SocketFlags.NONE,
                SocketFlags.NONE,
                SocketFlags.DONT_ROUTE,
                SocketFlags.PARTIAL,
                SocketFlags.BROADCAST | SocketFlags.PEEK,
                12345,
                -1,
            )
        )

    def address(self, pick: Pick) -> Any:
        """Where to send or connect to: somebody, nobody, or nothing that is an address."""
        kind = pick.number(10)
        if kind <= 2:
            for watched in self.sockets:
                if watched.peer is not None and watched.peer.family == stdlib_socket.AF_INET:
                    try:
                        return watched.peer.getsockname()
                    except OSError:
                        pass  # closed
        if kind <= 4:
            for watched in reversed(self.sockets):
                if watched.socket._listening and watched.socket.fileno() >= 0:
                    return watched.socket.local_end_point
        if kind <= 7:
            return ("127.0.0.1", pick.of((9, 1, 0)))
        return pick.of(
            (
                ("127.0.0.1", 70000),
                ("127.0.0.1", -1),
                ("::1", 9),
                "/nowhere/at/all",
                b"\0" + bytes(200),
                (1, 2),
                None,
            )
        )

    def is_closed(self, watched: Watched) -> bool:
        return bool(watched.socket._sends.gate & CLOSED)

    def configure(self, pick: Pick, what: str, args: SocketAsyncEventArgs, *values: Any) -> None:
        """Make a call that is refused while the args are in use, and after they were closed."""
        refused = args._in_flight or args._closed
        kind, _, name = what.rpartition(".")
        function: Callable[..., Any] = getattr(args, name, setattr)
        if name.endswith(" ="):
            values = (args, name.removesuffix(" ="), *values)
        elif kind == "SocketAsyncEventArgsPool":
            function = self.pool.push
        elif kind == "BufferManager":
            function = self.manager.set_buffer
        came = self.call(what, pick, function, *values)
        if refused and isinstance(came, outcome.Value):
            self.wrong(f"{what} was not refused")

    # Sends.

    def message_of(self, args: SocketAsyncEventArgs) -> bytes | None:
        """What args would send, if nobody receives into it."""
        if args.buffer is not None:
            return self.content([args.buffer], args.offset, args.offset + args.count)
        if args.buffer_list is not None:
            return self.content(args.buffer_list)
        return b""

    def content(
        self, buffers: Sequence[Any], start: int = 0, stop: int | None = None
    ) -> bytes | None:
        if any(id(buffer) in self.volatile for buffer in buffers):
            return None
        try:
            return b"".join(bytes(memoryview(buffer)) for buffer in buffers)[start:stop]
        except (TypeError, ValueError):
            return None

    def start(
        self,
        pick: Pick,
        method: str,
        watched: Watched,
        follower: Follower,
        *,
        sends: bool = True,
        resumes: bool = False,
    ) -> None:
        """Start args in one way or another, and follow what becomes of them."""
        args = follower.args
        passed = pick.or_wrong(args)
        before = args.bytes_transferred
        was_cut = args._state == CUT
        packets = method == "send_packets_async"
        data: bytes | None = None
        if packets:
            data = bytes_of_elements(self, args.send_packets_elements or ())
        elif sends:
            data = self.message_of(args)
        elif resumes:
            data = self.rest_of(watched, args)
        base = before if was_cut and resumes else 0
        settled, entry = follower.settled, follower.entry
        follower.settled, follower.count = False, 0
        activation = args.activation
        refused = args._in_flight or args._closed or self.is_closed(watched)
        came = self.call(f"Socket.{method}", pick, getattr(watched.socket, method), passed)
        if isinstance(came, outcome.Error):
            if is_refusal(came.error) or method == "connect_async":
                follower.settled, follower.count = settled, before
            return
        if refused:
            self.wrong(f"{method} was not refused")
        if came.value:
            follower.pended += 1
            if args.activation != activation + 1:
                raise AssertionError(f"{args} are pending for the {args.activation}. time")
        elif was_cut and not resumes:
            follower.settled, follower.count = settled, before
            return  # its initiator is being left, and it stays as it is
        self.happened["starts that pended" if came.value else "starts on the spot"] += 1
        if method in ("accept_async", "receive_async") and args.buffer is not None:
            self.volatile.add(id(args.buffer))
            self.distrust(args.buffer)
        if args.buffer_list is not None and method == "receive_async":
            for buffer in args.buffer_list:
                self.volatile.add(id(buffer))
                self.distrust(buffer)
        if entry is not None:
            entry.settle(before - entry.base)
        follower.entry = None
        if sends or resumes:
            follower.entry = self.note(
                watched, method, data, lambda: args.bytes_transferred - base, base
            )

    def distrust(self, buffer: Any) -> None:
        """Take note that the content of a buffer may change."""
        for follower in self.followers:
            args = follower.args
            members = [args.buffer, *(args.buffer_list or ())]
            if follower.entry is not None and any(each is buffer for each in members):
                follower.entry.data = None
        for watched in self.sockets:
            for entry in watched.entries:
                if entry.read is not None or entry.count is None:
                    entry.data = None

    def rest_of(self, watched: Watched, args: SocketAsyncEventArgs) -> bytes | None:
        """What a resume would send."""
        torn = watched.socket.torn
        if torn is None:
            return b""
        if torn.operation is not args:
            return self.message_of(args)
        return self.left_of(torn)

    def left_of(self, torn: trio_send.TornMessage) -> bytes | None:
        operation: Any = torn._operation
        if operation._last_operation == trio_send.SocketAsyncOperation.SEND_PACKETS:
            return None
        try:
            return b"".join(bytes(view) for view in torn.remaining)
        except ValueError:
            return None  # a buffer became shorter

    def note(
        self,
        watched: Watched,
        name: str,
        data: bytes | None,
        read: Callable[[], int | None] | None,
        base: int = 0,
    ) -> Entry:
        entry = Entry(name, data, whole=not watched.socket._port.is_stream, read=read)
        entry.base = base
        watched.entries.append(entry)
        return entry

    def begin(
        self,
        pick: Pick,
        method: str,
        watched: Watched,
        data: bytes | None,
        *args: Any,
        sends: bool = True,
        **more: Any,
    ) -> None:
        """Begin an operation in the way of begin and end."""
        calls: list[AsyncResult] = []
        has_callback = pick.number(3) != 0
        handler = self.handler(pick)

        def callback(result: AsyncResult) -> None:
            if self.inside is not None:
                self.wrong(f"a callback was called from inside {self.inside}")
            if not result.is_completed:
                self.wrong(f"{result} is not completed in its callback")
            calls.append(result)
            self.happened["callbacks"] += 1
            self.react(1, handler)

        if has_callback:
            more["callback"] = callback
        before = 0 if watched.port is None else len(watched.port.accepted)
        came = self.call(f"Socket.{method}", pick, getattr(watched.socket, method), *args, **more)
        result: AsyncResult | None = None
        if isinstance(came, outcome.Value):
            result = came.value[0] if isinstance(came.value, tuple) else came.value
        elif is_refusal(came.error):
            return
        if result is not None:
            self.results.append(result)
            if has_callback:
                self.callbacks.append((result, calls))
        if not sends:
            return
        if result is not None:
            taken: AsyncResult = result
            self.note(watched, method, data, lambda: taken.bytes_transferred)
        else:
            entry = self.note(watched, method, data, None)
            if watched.port is not None:
                entry.settle(len(watched.port.accepted) - before)
            if isinstance(came, outcome.Error):
                assert isinstance(came.error, SocketException)
                if watched.port is not None and came.error.bytes_transferred != entry.count:
                    self.wrong(f"{method} raised {came.error!r}, but {entry.count} bytes went")

    def take(self, result: AsyncResult) -> None:
        """Note that an end method has given the result away."""
        if result in self.taken:
            self.wrong(f"{result} was taken twice")
        self.taken.append(result)

    def handler(self, pick: Pick) -> Step:
        names = sorted(SYNC)
        return names[(pick.number(256) * 256 + pick.number(256)) % len(names)], bytes(
            pick.number(256) for _ in range(6)
        )


def sync(function: Callable[[FuzzWorld, Pick], None]) -> Callable[[FuzzWorld, Pick], None]:
    SYNC[function.__name__] = function
    return function


# -- things ------------------------------------------------------------------------------------------------------------

LINES = (
    3,
    Blocked(1),
    0,
    1,
    100,
    Blocked(),
    "ENOBUFS",
    "EACCES",
    "ECONNRESET",
    "EPIPE",
    "EMSGSIZE",
)


@sync
def make_socket(world: FuzzWorld, pick: Pick) -> None:
    world.add_socket(pick.number(256), [pick.of(LINES) for _ in range(pick.number(5))])


@sync
def make_args(world: FuzzWorld, pick: Pick) -> None:
    world.add_args(pick, world.handler(pick))


@sync
def extend_script(world: FuzzWorld, pick: Pick) -> None:
    port = world.a_socket(pick).port
    if isinstance(port, ScriptedPort):
        port.add(*(pick.of(LINES) for _ in range(3)))


@sync
def unblock(world: FuzzWorld, pick: Pick) -> None:
    port = world.a_socket(pick).port
    if isinstance(port, ScriptedPort):
        port.unblock()


@sync
def peer_reads(world: FuzzWorld, pick: Pick) -> None:
    peer = world.a_socket(pick).peer
    if peer is not None:
        try:
            while peer.recv(65536) and pick.number(2):
                pass
        except OSError:
            pass


@sync
def peer_writes(world: FuzzWorld, pick: Pick) -> None:
    watched = world.a_socket(pick)
    if watched.peer is not None:
        try:
            watched.peer.sendto(b"hello", watched.socket.local_end_point)
        except (OSError, trio.ClosedResourceError):
            pass


@sync
def peer_closes(world: FuzzWorld, pick: Pick) -> None:
    peer = world.a_socket(pick).peer
    if peer is not None:
        peer.close()


# -- args --------------------------------------------------------------------------------------------------------------


@sync
def set_buffer(world: FuzzWorld, pick: Pick) -> None:
    args = world.a_follower(pick).args
    buffer = world.a_buffer(pick)
    world.configure(pick, "SocketAsyncEventArgs.set_buffer", args, buffer, *world.a_range(pick))


@sync
def set_range(world: FuzzWorld, pick: Pick) -> None:
    args = world.a_follower(pick).args
    world.configure(pick, "SocketAsyncEventArgs.set_range", args, *world.a_range(pick))


#: What may be set while the args are in use.
ANY_TIME = ("socket_flags", "remote_end_point")


def assign(world: FuzzWorld, pick: Pick, thing: Any, name: str, value: Any) -> None:
    if isinstance(thing, SocketAsyncEventArgs) and name not in ANY_TIME:
        world.configure(pick, f"SocketAsyncEventArgs.{name} =", thing, value)
        return
    kind = SocketAsyncEventArgs if isinstance(thing, SocketAsyncEventArgs) else type(thing)
    world.call(f"{kind.__name__}.{name} =", pick, setattr, thing, name, value)


@sync
def set_buffer_list(world: FuzzWorld, pick: Pick) -> None:
    args = world.a_follower(pick).args
    if args.buffer is not None and pick.number(3):
        world.call("SocketAsyncEventArgs.set_buffer", pick, args.set_buffer, None)
    many = [world.a_buffer(pick) for _ in range(pick.number(4))] * pick.of((1, 1, 1, 1, 300))
    assign(world, pick, args, "buffer_list", pick.of((many, many, tuple(many), None)))


@sync
def set_elements(world: FuzzWorld, pick: Pick) -> None:
    elements: Any = elements_of(world, pick)
    args = world.a_follower(pick).args
    assign(
        world,
        pick,
        args,
        "send_packets_elements",
        pick.of((elements, elements, elements, None, pick.or_wrong(elements))),
    )


@sync
def set_flags(world: FuzzWorld, pick: Pick) -> None:
    args = world.a_follower(pick).args
    assign(world, pick, args, "socket_flags", pick.or_wrong(world.flags(pick)))


@sync
def set_address(world: FuzzWorld, pick: Pick) -> None:
    assign(world, pick, world.a_follower(pick).args, "remote_end_point", world.address(pick))


@sync
def set_timeouts(world: FuzzWorld, pick: Pick) -> None:
    name = pick.of(("timeout", "stall_timeout"))
    seconds = pick.of((math.inf, 1, 0, 3, -1, math.nan))
    assign(world, pick, world.a_follower(pick).args, name, pick.or_wrong(seconds))


@sync
def clear_sockets(world: FuzzWorld, pick: Pick) -> None:
    args = world.a_follower(pick).args
    if args.accept_socket is not None:
        world.call("Socket.close", pick, args.accept_socket.close)
        args.accept_socket = None
    args.disconnect_reuse_socket = pick.number(2) == 1


@sync
def close_args(world: FuzzWorld, pick: Pick) -> None:
    follower = world.a_follower(pick)
    if pick.number(3) == 0:
        world.call("SocketAsyncEventArgs.close", pick, follower.args.close)


@sync
def cancel_args(world: FuzzWorld, pick: Pick) -> None:
    args = world.a_follower(pick).args
    activation = pick.of((None, None, args.activation, args.activation - 1))
    meant = activation in (None, args.activation) and args._in_flight
    came = world.call(
        "SocketAsyncEventArgs.cancel", pick, args.cancel, "fuzzed", activation=activation
    )
    if came.unwrap() and not meant:
        world.wrong(f"{args} were stopped by a cancel that was not for them")


@sync
def cut(world: FuzzWorld, pick: Pick) -> None:
    """Cut a message, if everything is in place for it."""
    streams = [each for each in world.sockets if isinstance(each.port, ScriptedPort)]
    follower = world.a_follower(pick)
    if streams and not follower.args._in_flight:
        watched = pick.of(streams)
        watched.port.add(1, Blocked())
        world.start(pick, "send_async", watched, follower)
        if pick.number(3):
            world.call("SocketAsyncEventArgs.cancel", pick, follower.args.cancel)


@sync
def read_args(world: FuzzWorld, pick: Pick) -> None:
    args = world.a_follower(pick).args
    world.call(
        "SocketAsyncEventArgs.remaining", pick, lambda: [view.nbytes for view in args.remaining]
    )
    world.call("SocketAsyncEventArgs.remaining_elements", pick, lambda: args.remaining_elements)
    for name in ("outcome", "connect_by_name_error", "pending", "socket_error"):
        world.call(f"SocketAsyncEventArgs.{name}", pick, getattr, args, name)
    repr(args)


@sync
def pool(world: FuzzWorld, pick: Pick) -> None:
    args = world.a_follower(pick).args
    which = pick.number(4)
    if which == 0:
        world.configure(pick, "SocketAsyncEventArgsPool.push", args, args)
    elif which == 1:
        world.call("SocketAsyncEventArgsPool.pop", pick, world.pool.pop)
    elif which == 2:
        world.configure(pick, "BufferManager.set_buffer", args, args)
        world.volatile.add(id(args.buffer))
    else:
        world.call(
            "BufferManager.free_buffer", pick, world.manager.free_buffer, pick.or_wrong(args)
        )


# -- starts ------------------------------------------------------------------------------------------------------------


@sync
def send_async(world: FuzzWorld, pick: Pick) -> None:
    world.start(pick, "send_async", world.a_socket(pick), world.a_follower(pick))


@sync
def send_to_async(world: FuzzWorld, pick: Pick) -> None:
    world.start(pick, "send_to_async", world.a_socket(pick), world.a_follower(pick))


@sync
def send_packets_async(world: FuzzWorld, pick: Pick) -> None:
    world.start(pick, "send_packets_async", world.a_socket(pick), world.a_follower(pick))


@sync
def connect_async(world: FuzzWorld, pick: Pick) -> None:
    world.start(pick, "connect_async", world.a_socket(pick), world.a_follower(pick))


@sync
def receive_async(world: FuzzWorld, pick: Pick) -> None:
    world.start(pick, "receive_async", world.a_socket(pick), world.a_follower(pick), sends=False)


@sync
def accept_async(world: FuzzWorld, pick: Pick) -> None:
    world.start(pick, "accept_async", world.a_socket(pick), world.a_follower(pick), sends=False)


@sync
def disconnect_async(world: FuzzWorld, pick: Pick) -> None:
    world.start(pick, "disconnect_async", world.a_socket(pick), world.a_follower(pick), sends=False)


@sync
def cancel_connect_async(world: FuzzWorld, pick: Pick) -> None:
    args = pick.or_wrong(world.a_follower(pick).args)
    world.call("Socket.cancel_connect_async", pick, Socket.cancel_connect_async, args)


@sync
def resume(world: FuzzWorld, pick: Pick) -> None:
    watched, follower = world.a_socket(pick), world.a_follower(pick)
    torn = watched.socket.torn
    if torn is not None and pick.number(4):
        for each in world.followers:
            if each.args is torn.operation:
                follower = each
    world.start(pick, "resume", watched, follower, sends=False, resumes=True)


# -- begin and end -----------------------------------------------------------------------------------------------------


def sliced(data: bytes | None, offset: int, size: int | None) -> bytes | None:
    return data if data is None or (size is None and not offset) else data[offset:][:size]


@sync
def begin_send(world: FuzzWorld, pick: Pick) -> None:
    watched = world.a_socket(pick)
    method = pick.of(("begin_send", "try_begin_send"))
    if pick.number(4) == 3:
        buffers = [world.a_buffer(pick) for _ in range(pick.number(4))]
        world.begin(pick, method, watched, world.content(buffers), buffers)
        return
    buffer = world.a_buffer(pick)
    offset, size = world.a_range(pick) if pick.number(2) else (0, None)
    flags = pick.or_wrong(world.flags(pick))
    data = sliced(world.content([buffer]), offset, size)
    world.begin(pick, method, watched, data, buffer, offset, size, flags)


@sync
def begin_send_to(world: FuzzWorld, pick: Pick) -> None:
    watched, buffer = world.a_socket(pick), world.a_buffer(pick)
    data = world.content([buffer])
    world.begin(pick, "begin_send_to", watched, data, buffer, remote_end_point=world.address(pick))


@sync
def begin_receive(world: FuzzWorld, pick: Pick) -> None:
    buffer = bytearray(pick.of((10, 0, 1000)))
    buffers = pick.of((buffer, [buffer, bytearray(5)], b"read-only", []))
    world.begin(
        pick,
        "begin_receive",
        world.a_socket(pick),
        None,
        buffers,
        socket_flags=world.flags(pick),
        sends=False,
    )


@sync
def begin_connect(world: FuzzWorld, pick: Pick) -> None:
    world.begin(pick, "begin_connect", world.a_socket(pick), None, world.address(pick), sends=False)


@sync
def begin_accept(world: FuzzWorld, pick: Pick) -> None:
    world.begin(pick, "begin_accept", world.a_socket(pick), None, sends=False)


KINDS = ("send", "send", "receive", "connect", "accept", "send_to")


def a_result(world: FuzzWorld, pick: Pick) -> tuple[Socket, Any, str]:
    """A result, the socket it came from, and the kind that it is of; or something that does not fit."""
    if not world.results:
        return world.a_socket(pick).socket, pick.or_wrong(None), pick.of(KINDS)
    result: Any = pick.of(world.results)
    if pick.number(4):
        return result._origin, result, result._last_operation.name.lower()
    return world.a_socket(pick).socket, pick.or_wrong(result), pick.of(KINDS)


@sync
def end_nowait(world: FuzzWorld, pick: Pick) -> None:
    socket, result, kind = a_result(world, pick)
    method = f"end_{kind}_nowait"
    if kind == "send" and pick.number(2):
        method = f"try_{method}"
    came = world.call(f"Socket.{method}", pick, getattr(socket, method), result)
    if isinstance(came, outcome.Value):
        world.take(result)
    if kind == "accept" and isinstance(came, outcome.Value):
        came.value.close()


@sync
def cancel_result(world: FuzzWorld, pick: Pick) -> None:
    if world.results:
        world.call("AsyncResult.cancel", pick, pick.of(world.results).cancel)


@sync
def read_result(world: FuzzWorld, pick: Pick) -> None:
    if world.results:
        result = pick.of(world.results)
        for name in ("async_state", "async_wait_handle", "outcome", "is_completed"):
            world.call(f"AsyncResult.{name}", pick, getattr, result, name)
        world.call(
            "AsyncResult.remaining", pick, lambda: [view.nbytes for view in result.remaining]
        )
        repr(result)


# -- sockets -----------------------------------------------------------------------------------------------------------


@sync
def bind(world: FuzzWorld, pick: Pick) -> None:
    address = pick.of((("127.0.0.1", 0), ("127.0.0.1", 0), world.address(pick), ("localhost", 0)))
    pick.wrong_type = True
    world.call("Socket.bind", pick, world.a_socket(pick).socket.bind, address)


@sync
def listen(world: FuzzWorld, pick: Pick) -> None:
    socket = world.a_socket(pick).socket
    world.call("Socket.listen", pick, socket.listen, pick.or_wrong(pick.of((1, 0, 100))))


@sync
def shutdown(world: FuzzWorld, pick: Pick) -> None:
    socket = world.a_socket(pick).socket
    how = pick.or_wrong(pick.of((*SocketShutdown, 0, 7)))
    if pick.number(2):
        world.call("Socket.shutdown", pick, socket.shutdown, how)


@sync
def close(world: FuzzWorld, pick: Pick) -> None:
    socket = world.a_socket(pick).socket
    if pick.number(3) == 0:
        world.call("Socket.close", pick, socket.close, reset=pick.of((None, True, False)))


@sync
def forget_torn(world: FuzzWorld, pick: Pick) -> None:
    world.call("Socket.forget_torn", pick, world.a_socket(pick).socket.forget_torn)


@sync
def set_water(world: FuzzWorld, pick: Pick) -> None:
    name = pick.of(("high_water", "low_water"))
    assign(
        world, pick, world.a_socket(pick).socket, name, pick.or_wrong(pick.of((10, 0, 70000, -1)))
    )


@sync
def options(world: FuzzWorld, pick: Pick) -> None:
    socket = world.a_socket(pick).socket
    level = stdlib_socket.SOL_SOCKET
    option = pick.of((stdlib_socket.SO_SNDBUF, stdlib_socket.SO_ERROR, 9999))
    if pick.number(2):
        value = pick.or_wrong(pick.of((1, 5000)))
        world.call("Socket.setsockopt", pick, socket.setsockopt, level, option, value)
    else:
        world.call("Socket.getsockopt", pick, socket.getsockopt, level, option, pick.of((None, 4)))


@sync
def read_socket(world: FuzzWorld, pick: Pick) -> None:
    socket = world.a_socket(pick).socket
    for name in ("local_end_point", "remote_end_point", "family", "type", "connected", "torn"):
        world.call(f"Socket.{name}", pick, getattr, socket, name)
    world.call("Socket.audit", pick, socket.audit)
    world.call("Socket.statistics", pick, socket.statistics)
    torn = socket.torn
    if torn is not None:
        for name in ("operation", "bytes_transferred", "size", "reason"):
            world.call(f"TornMessage.{name}", pick, getattr, torn, name)
        world.call(
            "TornMessage.remaining", pick, lambda: sum(view.nbytes for view in torn.remaining)
        )
    repr(socket)
    repr(torn)


@sync
def as_stream(world: FuzzWorld, pick: Pick) -> None:
    socket = world.a_socket(pick).socket
    came = world.call("Socket.as_stream", pick, socket.as_stream, shared=pick.of((False, True)))
    if isinstance(came, outcome.Value):
        world.streams.append((came.value, next(w for w in world.sockets if w.socket is socket)))


# -- scopes, instruments and flags -------------------------------------------------------------------------------------


@sync
def watch(world: FuzzWorld, pick: Pick) -> None:
    instrument = pick.or_wrong(pick.of(world.instruments))
    world.call("add_instrument", pick, trio_send.add_instrument, instrument)


@sync
def unwatch(world: FuzzWorld, pick: Pick) -> None:
    world.call("remove_instrument", pick, trio_send.remove_instrument, pick.of(world.instruments))


@sync
def look_at_initiators(world: FuzzWorld, pick: Pick) -> None:
    world.call("current_initiator", pick, trio_send.current_initiator)
    policy = pick.or_wrong(pick.of(tuple(ExitPolicy)))
    grace = pick.of((None, 1, -1, math.inf, math.nan))
    world.call("open_initiator", pick, open_initiator, policy, grace=grace)
    for initiator in world.initiators:
        initiator.statistics()
        repr(initiator)


@sync
def cancel_initiator(world: FuzzWorld, pick: Pick) -> None:
    if world.initiators and pick.number(2):
        pick.of(world.initiators).cancel_scope.cancel()


@sync
def cancel_scope(world: FuzzWorld, pick: Pick) -> None:
    if world.scopes:
        pick.of(world.scopes).cancel()


@sync
def flag(world: FuzzWorld, pick: Pick) -> None:
    if pick.number(2):
        world.event.set()
    else:
        world.event.reset()


# -- awaited calls -----------------------------------------------------------------------------------------------------

Task = Callable[[], Awaitable[None]]
AWAITED: dict[str, Callable[[FuzzWorld, Pick], Task]] = {}


def awaited(function: Callable[[FuzzWorld, Pick], Task]) -> Callable[[FuzzWorld, Pick], Task]:
    AWAITED[function.__name__] = function
    return function


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
        if args._in_flight or args._state == CUT or args._closed:
            return lambda came: None  # it will be refused
        data, former = world.message_of(args), follower.entry
        if args._message is None or world.is_closed(watched):
            return lambda came: None
        if former is not None:
            former.settle(before - former.base)
        follower.settled, follower.count = False, 0
        follower.entry = entry = world.note(
            watched, "send args", data, lambda: args.bytes_transferred
        )

        def end(came: Any) -> None:
            follower.settled = False
            if args._in_flight:
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
        operation: Any = torn._operation
        follower = next((each for each in world.followers if each.args is operation), None)
        is_args = isinstance(operation, SocketAsyncEventArgs)
        if (is_args and operation._in_flight) or world.is_closed(watched):
            return lambda came: None
        before = operation._transferred
        entry = world.note(watched, "send_rest", world.left_of(torn), None)
        if follower is not None:
            if follower.entry is not None:
                follower.entry.settle(before - follower.entry.base)
            follower.entry, follower.settled = entry, False
            entry.base = before
            entry.read = lambda: operation._transferred - before

        def end(came: Any) -> None:
            if follower is not None:
                follower.settled = False
                follower.count = 0
                if follower.entry is entry and not operation._in_flight:
                    entry.settle(operation._transferred - before)
                    follower.entry = None
            elif isinstance(came, outcome.Value):
                entry.settle(came.value)
            elif (
                came is not None
                and type(operation) is trio_send._operation.Operation
                and entry.data is not None
            ):
                entry.settle(getattr(came.error, "bytes_transferred", 0))

        return end

    return lambda: world.wait("Socket.send_rest", pick, watched.socket.send_rest, begin)


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


# -- sequences ---------------------------------------------------------------------------------------------------------

CONTROL = ("checkpoint", "settle", "sleep", "open", "leave", "fail", "scope", "in_initiator")


class Run:
    """Runs a sequence of steps in a world."""

    def __init__(self, world: FuzzWorld, steps: Sequence[Step]) -> None:
        self.world = world
        self.steps: Iterator[Step] = iter(steps)
        self.depth = 0

    async def main(self) -> None:
        world = self.world
        for kind in world.first_sockets:
            world.add_socket(kind, [LINES[(kind + n) % len(LINES)] for n in range(kind % 7)])
        for number in (1, 1, 3):
            world.add_args(Pick(bytes([number, 1, number])), None)
        with trio.fail_after(10_000):
            async with trio.open_nursery() as self.nursery:
                while await self.block() is not None:
                    pass
                for scope in world.scopes:
                    scope.deadline = trio.current_time() + 1
        for watched in world.sockets:
            watched.socket.close()
        for follower in world.followers:
            if follower.args.accept_socket is not None:
                follower.args.accept_socket.close()
        await wait_all_tasks_blocked()
        world.check_over()

    async def block(self) -> str | None:
        """Do steps up to the end of a scope; return why it ended, None at the end of the sequence."""
        for name, data in self.steps:
            pick = Pick(data)
            if name in SYNC:
                self.world.act((name, data))
            elif name in AWAITED:
                if self.world.tasks < MOST_TASKS:
                    self.nursery.start_soon(self.task, AWAITED[name](self.world, pick))
            elif name == "checkpoint":
                await trio.lowlevel.checkpoint()
            elif name == "settle":
                await wait_all_tasks_blocked()
                self.world.check_bytes()
            elif name == "sleep":
                await trio.sleep(1 + pick.number(3))
            elif name == "leave":
                return name
            elif name == "fail":
                if self.depth:
                    raise Boom
            elif name == "scope":
                await self.scope()
            elif self.depth < 4:
                await self.initiator(pick)
        return None

    async def task(self, run: Task) -> None:
        self.world.tasks += 1
        try:
            await run()
        finally:
            self.world.tasks -= 1

    async def scope(self) -> None:
        with trio.CancelScope() as scope:
            self.world.scopes.append(scope)
            await self.block()
        self.world.scopes.remove(scope)

    async def initiator(self, pick: Pick) -> None:
        world = self.world
        policy = pick.of(tuple(ExitPolicy))
        patient = policy in (ExitPolicy.DRAIN, ExitPolicy.FINISH_STARTED)
        if policy is ExitPolicy.ADOPT and not self.may_adopt():
            policy = ExitPolicy.ABORT
        initiator = None
        self.depth += 1
        try:
            with trio.CancelScope() as guard:
                async with open_initiator(policy, grace=2 if patient else None) as initiator:
                    world.log.append(f"{policy.name} {{")
                    world.initiators.append(initiator)
                    world.happened["initiators"] += 1
                    try:
                        await self.block()
                    finally:
                        guard.deadline = trio.current_time() + PATIENCE
                        world.log.append("leaving")
        except BaseException as error:
            if not only_boom(error):
                raise
        finally:
            self.depth -= 1
            world.log.append("}")
            if initiator is not None:
                world.check_left(initiator)
                world.initiators.remove(initiator)
        world.check()

    def may_adopt(self) -> bool:
        try:
            initiator = trio_send.current_initiator()
        except trio_send.InvalidOperationError:
            return False
        return initiator._stopped is None


def only_boom(error: BaseException) -> bool:
    """Tell whether an exception is what bodies and handlers raise, and nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(only_boom, error.exceptions))
    return isinstance(error, Boom)


def run_sequence(header: bytes, steps: Sequence[Step]) -> FuzzWorld:
    """Run a sequence; raise if anything is not as it should be, with all that was called in a note."""
    world = FuzzWorld(header)
    try:
        world.run(Run(world, steps).main)
    except BaseException as error:
        error.__dict__.setdefault("log", world.log)
        raise
    return world


NAMES = sorted([*SYNC, *AWAITED, *CONTROL])
