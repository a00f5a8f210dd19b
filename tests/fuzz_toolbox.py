"""What the fuzzer's actions are made with: lists to stand in, choices, and an eye on what was started.

An action is a function of the world and of the bytes that choose. Those of `SYNC` never wait, so handlers do them too;
those of `AWAITED` return what a task of its own has to do.
"""

from __future__ import annotations

import socket as stdlib_socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import outcome

import trio_send
from tests.fuzz_oracle import Entry, is_refusal
from tests.fuzz_world import Follower, Pick, Step, Watched, World, bytes_of_elements
from trio_send import AsyncResult, SocketAsyncEventArgs, SocketException, SocketFlags
from trio_send._operations.gate import CLOSED
from trio_send._operations.states import CUT

Task = Callable[[], Awaitable[None]]

SYNC: dict[str, Callable[[FuzzWorld, Pick], None]] = {}
AWAITED: dict[str, Callable[[FuzzWorld, Pick], Task]] = {}


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
                if watched.socket._core.is_listening and watched.socket.fileno() >= 0:
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
        return bool(watched.socket._core.sends.gate & CLOSED)

    def configure(self, pick: Pick, what: str, args: SocketAsyncEventArgs, *values: Any) -> None:
        """Make a call that is refused while the args are in use, and after they were closed."""
        refused = args._operation.in_flight or args._operation.is_closed
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
        was_cut = args._operation.state == CUT
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
        refused = args._operation.in_flight or args._operation.is_closed or self.is_closed(watched)
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
        operation: Any = torn._cut.operation
        if operation.kind == trio_send.SocketAsyncOperation.SEND_PACKETS:
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
        # A datagram is accepted as a whole or not at all; of packets each is one.
        whole = not watched.socket._core.port.is_stream and name != "send_packets_async"
        entry = Entry(name, data, whole=whole, read=read)
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


def awaited(function: Callable[[FuzzWorld, Pick], Task]) -> Callable[[FuzzWorld, Pick], Task]:
    AWAITED[function.__name__] = function
    return function
