"""The compiled ways of sending and those in Python do the same, step by step.

A script is played twice over sockets of the system, whose buffers are filled and read as the script says: once with
what is compiled, and once with the methods in Python. After each step, what it returned or raised is compared, what the
peer has read, and every attribute of every object of the library that can be reached from the socket, the initiator,
the args and the results.
"""

from __future__ import annotations

import contextvars
import enum
import gc
import socket as stdlib_socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings, strategies as st

from tests.accelerator import go_in_python, needs_accelerator
from trio_send import (
    ObjectDisposedError,
    Socket,
    SocketAsyncEventArgs,
    SocketFlags,
    add_instrument,
    open_initiator,
    remove_instrument,
)
from trio_send.abc import Instrument

pytestmark = [
    needs_accelerator,
    # Of results that nobody takes.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

#: What one step does: a name and its arguments.
Step = tuple[Any, ...]

#: What the sockets' buffers hold, roughly; the system doubles it.
ROOM = 80_000

#: How many bytes the messages have: some that always fit, one that may be cut, and two during which other threads run.
SIZES = (0, 1, 64, 5_000, 40_000, 70_000, 300_000)


def message(size: int) -> bytes:
    whole, rest = divmod(size, 251)
    return bytes(range(251)) * whole + bytes(range(rest))


#: What can be sent, by kind: a buffer, and perhaps a range of it, made of a message.
KINDS: dict[str, Callable[[bytes], tuple[Any, ...]]] = {
    "bytes": lambda data: (data,),
    "range of bytes": lambda data: (b"<<" + data + b">", 2, len(data)),
    "bytearray": lambda data: (bytearray(data),),
    "range of bytearray": lambda data: (bytearray(b"<<" + data + b">"), 2, len(data)),
    "memoryview": lambda data: (memoryview(bytearray(data)),),
    "range of memoryview": lambda data: (memoryview(b"<<" + data + b">"), 2, len(data)),
    "numbers": lambda data: (memoryview(data + bytes(len(data) % 2)).cast("H"),),
    "rows": lambda data: (memoryview(data + b"x").cast("B", (1, len(data) + 1)),),
}

NAMES = tuple(f"{kind} {size}" for size in SIZES for kind in KINDS)


class OwnBytes(bytes):
    pass


#: Lists that can be sent as one message, or cannot.
LISTS: dict[str, Callable[[], Any]] = {
    "many": lambda: [message(128) for _ in range(64)],
    "one": lambda: [message(64)],
    "none": list,
    "nothing": lambda: None,
    "empty ones": lambda: [b"", b""],
    "a tuple": lambda: (message(64), message(5)),
    "an iterator": lambda: iter([message(64)]),
    "a string": lambda: "text",
    "the most": lambda: [b"x"] * 1024,
    "too many": lambda: [b"x"] * 1025,
    "the longest": lambda: [message(65_535), b"x"],
    "too long": lambda: [message(65_535), b"xx"],
    "with a bytearray": lambda: [message(64), bytearray(64)],
    "with bytes of a class of their own": lambda: [message(64), OwnBytes(message(64))],
    "with a number": lambda: [message(64), 1],
}


#: What is written as it is.
PLAIN = frozenset({type(None), bool, int, float, str})


@cache
def slots_of(kind: type) -> list[tuple[str, Any]]:
    """The slots of a class, and what gets their values."""
    found = []
    for cls in kind.__mro__:
        slots = vars(cls).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            member = vars(cls).get(slot)
            if slot not in ("__weakref__", "__dict__") and member is not None:
                found.append((slot, member))
    return found


class State:
    """Describe objects, those of the library with all their attributes, in the order in which they are met."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._waiting: deque[Any] = deque()
        self.lines: list[str] = []

    def of(self, things: Mapping[str, Any]) -> list[str]:
        for name, thing in things.items():
            self.lines.append(f"{name} = {self._name(thing)}")
        while self._waiting:
            thing = self._waiting.popleft()
            name_of_thing = self._name(thing)
            for name, value in self._attributes(thing):
                self.lines.append(f"{name_of_thing}.{name} = {self._name(value)}")
        return self.lines

    def _name(self, thing: Any) -> str:
        kind = type(thing)
        number = self._numbers.get(id(thing))
        if number is not None:
            return f"{kind.__name__} {number}"
        if kind in PLAIN or isinstance(thing, enum.Enum):
            return repr(thing)
        if kind in (bytes, bytearray):
            return f"{kind.__name__} of {len(thing)}"
        if kind in (tuple, list):
            return f"{kind.__name__}({', '.join(map(self._name, thing))})"
        if isinstance(thing, dict):
            items = (f"{self._name(k)}: {self._name(v)}" for k, v in thing.items())
            return f"{kind.__name__}({', '.join(items)})"
        if not kind.__module__.startswith("trio_send"):
            return kind.__name__
        number = self._numbers[id(thing)] = len(self._numbers)
        self._waiting.append(thing)
        return f"{kind.__name__} {number}"

    def _attributes(self, thing: Any) -> Iterator[tuple[str, Any]]:
        for slot, member in slots_of(type(thing)):
            try:
                value = member.__get__(thing)
            except AttributeError:
                continue
            yield slot, value
        yield from getattr(thing, "__dict__", {}).items()


class Player:
    """Plays a script and writes down what becomes of it."""

    def __init__(self, kind: int) -> None:
        left, right = stdlib_socket.socketpair(stdlib_socket.AF_UNIX, kind)
        left.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, ROOM)
        right.setblocking(False)
        self.peer = right
        self.twin = left.dup()
        self.socket = Socket.from_stdlib(left)
        other, self.other_peer = stdlib_socket.socketpair(stdlib_socket.AF_UNIX, kind)
        self.other = Socket.from_stdlib(other)
        self.buffers: dict[str, tuple[Any, ...]] = {}
        self.args: dict[str, SocketAsyncEventArgs] = {}
        self.results: list[Any] = []
        self.piled: list[SocketAsyncEventArgs] = []
        self.told: list[str] = []
        self.log: list[list[str]] = []
        self.instrument = Instrument()

    async def play(self, steps: Sequence[Step]) -> None:
        async with trio.open_nursery() as self.nursery, open_initiator() as initiator:
            for step in steps:
                name, *arguments = step
                try:
                    answer = getattr(self, name)(*arguments)
                    if name == "turn":
                        await answer
                        answer = None
                except Exception as error:
                    answer = f"{type(error).__name__}: {error}"
                watched = {
                    "answer": answer,
                    "told": list(self.told),
                    "sockets": [self.socket, self.other],
                    "initiator": initiator,
                    "args": list(self.args.values()),
                    "results": list(self.results),
                    "piled": list(self.piled),
                }
                self.log.append([str(step), *State().of(watched)])
            for socket in (self.socket, self.other):
                socket.close(reset=False)
            self.close_rest()

    def close_rest(self) -> None:
        for sock in (self.twin, self.peer, self.other_peer):
            sock.close()

    def buffer_of(self, name: str) -> tuple[Any, ...]:
        if name not in self.buffers:
            kind, _, size = name.rpartition(" ")
            self.buffers[name] = KINDS[kind](message(int(size)))
        return self.buffers[name]

    def args_of(self, name: str) -> SocketAsyncEventArgs:
        if name not in self.args:
            self.args[name] = SocketAsyncEventArgs(*self.buffer_of(name))
        return self.args[name]

    # -- the steps ----------------------------------------------------------------------------------------------------

    def send_async(self, name: str) -> bool:
        return self.socket.send_async(self.args_of(name))

    def send_elsewhere(self, name: str) -> bool:
        return self.other.send_async(self.args_of(name))

    def begin_send(self, name: str, form: str) -> Any:
        buffer, *part = self.buffer_of(name)
        offset, size = part or (0, None)
        if form == "positional":
            result = self.socket.begin_send(buffer, *part)
        elif form == "all":
            result = self.socket.begin_send(buffer, offset, size, SocketFlags.NONE, None, "state")
        elif form == "from":
            result = self.socket.begin_send(buffer, offset)
        elif form == "named":
            result = self.socket.begin_send(buffer, offset=offset, size=size, state="state")
        else:
            assert form == "callback"
            told = self.told
            result = self.socket.begin_send(
                buffer, offset, size, SocketFlags.NONE, lambda ar: told.append(f"called: {ar!r}")
            )
        self.results.append(result)
        return result

    def wrong(self, number: int) -> Any:
        buffer = self.buffer_of("bytearray 64")[0]
        calls: list[Callable[[], Any]] = [
            lambda: self.socket.send_async(None),  # type: ignore[arg-type]
            lambda: self.socket.send_async(SocketAsyncEventArgs()),
            lambda: self.socket.begin_send(None),  # type: ignore[arg-type]
            lambda: self.socket.begin_send(buffer, 65),
            lambda: self.socket.begin_send(buffer, -1),
            lambda: self.socket.begin_send(buffer, 60, 5),
            lambda: self.socket.begin_send(buffer, 60, -5),
            lambda: self.socket.begin_send(buffer, True),
            lambda: self.socket.begin_send(buffer, 0, 2.0),  # type: ignore[arg-type]
            lambda: self.socket.begin_send(memoryview(buffer)[::2]),
            lambda: self.socket.begin_send([]),
            lambda: self.socket.end_send_nowait(None),  # type: ignore[arg-type]
            lambda: self.socket.end_send_nowait("result"),  # type: ignore[arg-type]
        ]
        return calls[number % len(calls)]()

    def end(self, index: int) -> Any:
        return (
            self.socket.end_send_nowait(self.results[index]) if index < len(self.results) else None
        )

    def end_elsewhere(self, index: int) -> Any:
        return self.other.end_send_nowait(self.results[index])

    def in_a_thread(self, name: str, *arguments: Any) -> Any:
        answers: list[Any] = []

        def call() -> None:
            try:
                answers.append(getattr(self, name)(*arguments))
            except Exception as error:
                answers.append(f"{type(error).__name__}: {error}")

        thread = threading.Thread(target=contextvars.copy_context().run, args=(call,))
        thread.start()
        thread.join()
        return answers

    def look(self, index: int) -> Any:
        if index >= len(self.results):
            return None
        result = self.results[index]
        return [
            result.is_completed,
            result.completed_synchronously,
            result.bytes_transferred,
            result.async_state,
            repr(result),
            repr(result.outcome),
        ]

    def look_at_args(self, name: str) -> Any:
        args = self.args_of(name)
        return [args.pending, args.bytes_transferred, repr(args), repr(args.outcome)]

    def read(self, count: int) -> Any:
        with suppress(BlockingIOError):
            return self.peer.recv(count).hex()[:100]
        return None

    def read_all(self) -> int:
        count = 0
        with suppress(BlockingIOError):
            while data := self.peer.recv(1_000_000):
                count += len(data)
        return count

    async def turn(self) -> None:
        await trio.testing.wait_all_tasks_blocked()

    def cancel(self, name: str) -> bool:
        return self.args_of(name).cancel()

    def cancel_result(self, index: int) -> Any:
        return self.results[index].cancel() if index < len(self.results) else None

    def forget_torn(self) -> None:
        self.socket.forget_torn()

    def resume(self, name: str) -> bool:
        return self.socket.resume(self.args_of(name))

    def refuse_when_full(self) -> None:
        self.socket.high_water = 10_000
        self.socket.when_full = "refuse"

    def set_buffer(self, name: str, other: str) -> None:
        self.args_of(name).set_buffer(*self.buffer_of(other))

    def set_list(self, name: str, kind: str) -> None:
        self.args_of(name).buffer_list = LISTS[kind]()

    def set_no_buffer(self, name: str) -> None:
        self.args_of(name).set_buffer(None)

    def close_args(self, name: str) -> None:
        self.args_of(name).close()

    def set_flags(self, name: str, flags: SocketFlags) -> None:
        self.args_of(name).socket_flags = flags

    def listen_to(self, name: str) -> None:
        told = self.told
        self.args_of(name).completed += lambda _, args: told.append(f"raised: {args!r}")

    def listen_in_a_task(self, name: str) -> None:
        async def handler(_: Socket, args: SocketAsyncEventArgs) -> None:
            self.told.append(f"begins: {args!r}")
            await trio.lowlevel.checkpoint()
            self.told.append(f"ends: {args!r}")

        self.args_of(name).completed += handler

    def start_again(self, name: str) -> None:
        """Have a handler start the args once more."""
        times = iter(range(1))

        def handler(socket: Socket, args: SocketAsyncEventArgs) -> None:
            with suppress(ObjectDisposedError):
                self.told += [f"started: {socket.send_async(args)}" for _ in times]

        self.args_of(name).completed += handler

    def await_end(self, name: str) -> None:
        """Have a task wait for the end."""

        async def wait() -> None:
            self.told.append(f"waited: {await self.args_of(name).wait()}")

        self.nursery.start_soon(wait)

    def fill(self) -> None:
        """Leave no room for a message, without the library."""
        for size in (4096, 1):
            with suppress(OSError):  # the peer may be gone
                while True:
                    self.twin.send(bytes(size))

    def resize(self, name: str, by: int) -> None:
        buffer = self.buffer_of(name)[0]
        if by < 0:
            del buffer[by:]
        else:
            buffer += bytes(by)

    def release(self, name: str) -> None:
        self.buffer_of(name)[0].release()

    def watch(self) -> None:
        add_instrument(self.instrument)

    def watch_no_more(self) -> None:
        with suppress(KeyError):  # it does not watch
            remove_instrument(self.instrument)

    def shut_down(self) -> None:
        self.socket.trio._sock.shutdown(stdlib_socket.SHUT_WR)

    def close_peer(self) -> None:
        self.peer.close()

    def close(self) -> None:
        self.socket.close()

    def many(self, name: str, times: int) -> list[bool]:
        return [self.socket.send_async(self.args_of(name)) for _ in range(times)]

    def pile(self, kind: str, name: str, times: int) -> list[bool]:
        """Start other args each time, so that they wait behind each other."""
        answers = []
        for _ in range(times):
            args = SocketAsyncEventArgs(*self.buffer_of(name))
            if kind == "limited":
                args.timeout = 1000
            elif kind == "listened to":
                args.completed += self.note
            elif kind == "to be closed":
                self.piled.append(args)
            answers.append(self.socket.send_async(args))
            if kind == "to be closed":
                args.close()
            elif kind != "forgotten":
                self.piled.append(args)
        return answers

    def note(self, _: Socket, args: SocketAsyncEventArgs) -> None:
        self.told.append(f"raised: {args!r}")

    def begin_many(self, name: str, times: int) -> list[bool]:
        results = [self.socket.begin_send(*self.buffer_of(name)) for _ in range(times)]
        return [each.completed_synchronously for each in results]


def play(steps: Sequence[Step], kind: int = stdlib_socket.SOCK_STREAM) -> list[list[str]]:
    player = Player(kind)
    try:
        trio.run(player.play, steps, clock=trio.testing.MockClock())  # in which no time goes by
    finally:
        player.close_rest()
    return player.log


def compare(steps: Sequence[Step], kind: int = stdlib_socket.SOCK_STREAM) -> None:
    gc.collect()  # or what other tests have left would be closed in between, and the numbers of descriptors differ
    compiled = play(steps, kind)
    with pytest.MonkeyPatch.context() as patched:
        go_in_python(patched)
        in_python = play(steps, kind)
    for one, other in zip(compiled, in_python, strict=True):
        assert one == other


# A table --------------------------------------------------------------------------------------

WARM: tuple[Step, ...] = (("send_async", "bytes 0"),)
FULL: tuple[Step, ...] = (*WARM, ("many", "bytes 5000", 200))

#: What kinds of args can wait behind others.
PILES = ("simple", "listened to", "limited", "forgotten", "to be closed")

#: Who is told of the end of args, and what else there is to them when they wait.
TOLD: dict[str, tuple[Step, ...]] = {
    "nobody": (),
    "a handler": (("listen_to", "X"),),
    "two handlers": (("listen_to", "X"), ("listen_to", "X")),
    "a task of a handler": (("listen_in_a_task", "X"),),
    "a handler that starts again": (("start_again", "X"),),
}

#: What comes while args wait with nobody in front and nobody behind.
MEANWHILE: dict[str, tuple[Step, ...]] = {
    "room": (),
    "a little room": (("read", 3_000),),
    "a task": (("await_end", "X"), ("turn",)),
    "a task, and a little room": (("await_end", "X"), ("turn",), ("read", 3_000)),
    "two tasks": (("await_end", "X"), ("turn",), ("await_end", "X"), ("turn",)),
    "another": (("send_async", "bytes 1"),),
    "a task, and another": (("await_end", "X"), ("turn",), ("send_async", "bytes 1")),
    "a stop": (("cancel", "X"),),
    "a task, and a stop": (("await_end", "X"), ("turn",), ("cancel", "X")),
    "an instrument": (("watch",),),
    "the end": (("close_peer",),),
    "a task, and the end": (("await_end", "X"), ("turn",), ("close_peer",)),
    "a close": (("close",),),
}


def about(name: str, *steps: Step) -> tuple[Step, ...]:
    """Return steps with the name of args in its place."""
    return tuple(tuple(name if each == "X" else each for each in step) for step in steps)


def alone(name: str, told: str, meanwhile: str, *before: Step) -> tuple[Step, ...]:
    """Return what becomes of args that wait alone, twice, and of the sends behind that."""
    start: tuple[Step, ...] = (("fill",), ("send_async", "X"), ("turn",), *MEANWHILE[meanwhile])
    room: tuple[Step, ...] = (("turn",), ("read_all",), ("turn",)) * 4
    return about(name, *before, *TOLD[told], *start, *room, *start, *room, ("send_async", "X"))


SITUATIONS: dict[str, tuple[Step, ...]] = {
    "a first start": (("send_async", "bytes 64"), ("begin_send", "bytes 64", "positional")),
    "a first begun": (("begin_send", "bytes 64", "positional"), ("end", 0), ("end", 0)),
    **{
        f"send_async {name}": (
            *WARM,
            ("send_async", name),
            ("send_async", name),
            ("read", 200),
            ("turn",),
            ("read_all",),
            ("turn",),
            ("read_all",),
            ("turn",),
            ("send_async", name),
            ("look_at_args", name),
        )
        for name in NAMES
    },
    **{
        f"begin_send {name} {form}": (
            *WARM,
            ("begin_send", name, form),
            ("look", 0),
            ("end", 0),
            ("begin_send", name, form),
            ("read", 200),
            ("turn",),
            ("read_all",),
            ("turn",),
            ("end", 1),
            ("end", 1),
            ("end", 0),
        )
        for name in NAMES
        for form in ("positional", "all", "from", "named", "callback")
    },
    **{
        f"alone: {name}, of which {told} is told, and {meanwhile}": alone(
            name, told, meanwhile, *(WARM if meanwhile != "room" else ())
        )
        for name in ("bytes 64", "bytes 5000", "range of bytearray 5000")
        for told in TOLD
        for meanwhile in MEANWHILE
        # Which of two tasks has the first turn is Trio's to choose.
        if told != "a task of a handler" or "task" not in meanwhile
    },
    "behind others": (
        *FULL,
        ("send_async", "bytes 64"),
        ("begin_send", "bytearray 64", "positional"),
        ("end", 0),
        ("send_async", "bytes 64"),
        ("read_all",),
        ("turn",),
        ("end", 0),
        ("read_all",),
        ("turn",),
        ("send_async", "bytes 64"),
    ),
    **{
        f"behind others, begun: {name} {form}": (
            *FULL,
            ("begin_send", name, form),
            ("begin_send", name, form),
            ("look", 0),
            ("end", 0),
            ("begin_many", name, 140),
            ("cancel_result", 1),
            *(("read", 50_000), ("turn",)) * 3,
            ("begin_send", name, form),
            ("refuse_when_full",),
            ("begin_send", name, form),
            *(("read_all",), ("turn",)) * 15,
            ("end", 0),
            ("end", 0),
            ("begin_send", name, form),
        )
        for name in ("bytes 64", "bytes 0", "bytes 70000", "range of bytes 64", "bytearray 64")
        for form in ("positional", "all", "from", "named", "callback")
    },
    **{
        f"behind others, begun, {name}": (
            *FULL,
            ("begin_many", "bytes 64", 3),
            *steps,
            ("begin_many", "bytes 64", 3),
            ("turn",),
            ("read_all",),
            ("turn",),
        )
        for name, steps in {
            "watched": (("watch",),),
            "broken": (("close_peer",),),
            "closed": (("close",),),
            "torn": (
                ("send_async", "bytes 300000"),
                ("read_all",),
                ("turn",),
                ("cancel", "bytes 300000"),
            ),
            "in a thread": (("in_a_thread", "begin_many", "bytes 64", 2),),
        }.items()
    },
    **{
        f"a pile of {kind} args": (
            *FULL,
            ("pile", kind, "bytes 64", 40),
            ("pile", kind, "range of bytes 64", 2),
            ("pile", kind, "bytes 1", 40),
            ("read", 20_000),
            ("turn",),
            ("pile", kind, "bytes 5000", 40),
            ("begin_send", "bytes 64", "positional"),
            ("begin_send", "bytes 64", "callback"),
            ("pile", kind, "bytearray 64", 3),
            ("pile", kind, "bytes 0", 3),
            ("pile", kind, "bytes 300000", 2),
            ("pile", kind, "bytes 64", 3),
            *(("read", 50_000), ("turn",)) * 15,
            ("read_all",),
            ("turn",),
            *(("read_all",), ("turn",)) * 15,
            ("pile", kind, "bytes 64", 3),
            ("turn",),
        )
        for kind in PILES
    },
    "a pile that is too high": (
        ("refuse_when_full",),
        *FULL,
        ("pile", "simple", "bytes 64", 40),
        ("read_all",),
        ("turn",),
        ("pile", "simple", "bytes 64", 3),
    ),
    "a pile that is watched": (
        *FULL,
        ("pile", "simple", "bytes 64", 4),
        ("watch",),
        ("pile", "simple", "bytes 64", 4),
        ("read_all",),
        ("turn",),
        ("watch_no_more",),
        ("pile", "simple", "bytes 64", 4),
    ),
    "a pile that is broken": (
        *FULL,
        ("pile", "simple", "bytes 64", 4),
        ("close_peer",),
        ("turn",),
        ("pile", "simple", "bytes 64", 4),
    ),
    "a pile that is closed": (*FULL, ("pile", "simple", "bytes 64", 4), ("close",), ("turn",)),
    "a pile that is torn": (
        *FULL,
        ("send_async", "bytes 300000"),
        ("pile", "simple", "bytes 64", 4),
        *(("read_all",), ("turn",)) * 5,
        ("cancel", "bytes 300000"),
        ("pile", "simple", "bytes 64", 4),
        ("turn",),
    ),
    "many in a row": (*WARM, ("many", "bytes 1", 300), ("turn",), ("many", "bytearray 1", 300)),
    "many that are begun": (
        *WARM,
        ("begin_many", "bytes 1", 300),
        ("turn",),
        ("begin_many", "range of bytearray 1", 300),
        ("turn",),
    ),
    "many, of both kinds": (
        *WARM,
        ("many", "bytes 0", 127),
        ("begin_send", "bytes 1", "positional"),
        ("begin_send", "bytes 1", "positional"),
        ("many", "bytes 0", 126),
        ("begin_send", "bytes 1", "positional"),
        ("send_async", "bytes 0"),
        ("turn",),
        ("send_async", "bytes 0"),
    ),
    "a peer that is gone": (
        *WARM,
        ("close_peer",),
        ("send_async", "bytes 64"),
        ("look_at_args", "bytes 64"),
        ("begin_send", "bytes 64", "positional"),
        ("send_async", "bytearray 64"),
    ),
    "a peer that is gone, begun": (
        *WARM,
        ("close_peer",),
        ("begin_send", "bytearray 64", "positional"),
        ("begin_send", "bytearray 64", "positional"),
    ),
    "a peer that goes with unread input": (
        *WARM,
        ("send_async", "bytes 64"),
        ("close_peer",),
        ("send_async", "bytes 64"),
        ("send_async", "bytes 64"),
    ),
    "shut down": (*WARM, ("shut_down",), ("send_async", "bytes 64"), ("send_async", "bytes 64")),
    "closed": (
        *WARM,
        ("begin_send", "bytes 64", "positional"),
        ("close",),
        ("send_async", "bytes 64"),
        ("begin_send", "bytes 64", "positional"),
        ("end", 0),
    ),
    "torn": (
        *WARM,
        ("send_async", "bytes 300000"),
        ("cancel", "bytes 300000"),
        ("turn",),
        ("send_async", "bytes 64"),
        ("begin_send", "bytes 64", "positional"),
        ("send_async", "bytes 300000"),
        ("forget_torn",),
        ("read_all",),
        ("send_async", "bytes 64"),
    ),
    "resumed": (
        *WARM,
        ("send_async", "range of bytearray 300000"),
        ("cancel", "range of bytearray 300000"),
        ("turn",),
        ("resume", "range of bytearray 300000"),
        ("read_all",),
        ("turn",),
        ("read_all",),
        ("turn",),
        ("read_all",),
        ("turn",),
        ("send_async", "bytes 64"),
    ),
    "a buffer that shrank": (
        *WARM,
        ("resize", "bytearray 64", -1),
        ("send_async", "bytearray 64"),
        ("look_at_args", "bytearray 64"),
        ("resize", "range of bytearray 64", -2),
        ("send_async", "range of bytearray 64"),
        ("begin_send", "range of bytearray 64", "positional"),
        ("resize", "range of bytearray 64", 1),
        ("send_async", "range of bytearray 64"),
        ("read", 100),
    ),
    "a buffer that grew": (
        *WARM,
        ("resize", "bytearray 64", 3),
        ("send_async", "bytearray 64"),
        ("begin_send", "bytearray 64", "positional"),
        ("read", 200),
    ),
    "a view that was released": (
        *WARM,
        ("release", "memoryview 64"),
        ("send_async", "memoryview 64"),
        ("begin_send", "memoryview 64", "positional"),
        ("release", "range of memoryview 64"),
        ("send_async", "range of memoryview 64"),
        ("begin_send", "range of memoryview 64", "positional"),
    ),
    "a resizing afterwards": (
        *FULL,
        ("send_async", "bytearray 64"),
        ("resize", "bytearray 64", 1),
        ("begin_send", "range of bytearray 64", "positional"),
        ("resize", "range of bytearray 64", 1),
        ("read_all",),
        ("turn",),
    ),
    "another buffer": (
        *WARM,
        ("set_buffer", "bytes 64", "bytearray 1"),
        ("send_async", "bytes 64"),
        ("set_buffer", "bytes 64", "range of memoryview 64"),
        ("send_async", "bytes 64"),
        ("read", 100),
    ),
    **{
        f"a list: {kind}": (
            *WARM,
            ("set_list", "bytes 64", kind),
            ("set_no_buffer", "bytes 64"),
            ("set_list", "bytes 64", kind),
            ("send_async", "bytes 64"),
            ("look_at_args", "bytes 64"),
            ("read", 100),
            ("set_list", "bytes 64", "one"),
            ("set_buffer", "bytes 64", "bytes 1"),
            ("set_flags", "bytes 64", SocketFlags.DONT_ROUTE),
            ("set_list", "bytes 64", kind),
            ("set_flags", "bytes 64", SocketFlags.NONE),
            ("send_async", "bytes 64"),
            ("many", "bytes 5000", 200),
            ("send_async", "bytes 64"),
            ("set_list", "bytes 64", kind),
            ("read_all",),
            ("turn",),
            ("close_args", "bytes 64"),
            ("set_list", "bytes 64", kind),
        )
        for kind in LISTS
    },
    "flags": (
        *WARM,
        ("set_flags", "bytes 64", SocketFlags.DONT_ROUTE),
        ("send_async", "bytes 64"),
        ("set_flags", "bytes 64", SocketFlags.NONE),
        ("send_async", "bytes 64"),
    ),
    "watched": (
        *WARM,
        ("watch",),
        ("send_async", "bytes 64"),
        ("begin_send", "bytes 64", "positional"),
        ("watch_no_more",),
        ("send_async", "bytes 64"),
        ("begin_send", "bytes 64", "positional"),
    ),
    "too much waits": (
        ("refuse_when_full",),
        *FULL,
        ("send_async", "bytes 64"),
        ("begin_send", "bytes 64", "positional"),
        ("read_all",),
        ("turn",),
        ("send_async", "bytes 64"),
    ),
    "handlers": (
        *WARM,
        ("listen_to", "bytes 64"),
        ("listen_to", "bytes 5000"),
        ("send_async", "bytes 64"),
        ("turn",),
        ("many", "bytes 5000", 200),
        ("turn",),
        ("send_async", "bytes 64"),
        ("read_all",),
        ("turn",),
    ),
    "args that are in use elsewhere": (
        *WARM,
        ("send_elsewhere", "bytes 300000"),
        ("send_async", "bytes 300000"),
        ("look_at_args", "bytes 300000"),
    ),
    "a result of another socket": (
        *WARM,
        ("begin_send", "bytes 64", "positional"),
        ("end_elsewhere", 0),
        ("end", 0),
    ),
    "another thread": (
        *WARM,
        ("in_a_thread", "send_async", "bytes 64"),
        ("in_a_thread", "begin_send", "bytes 64", "positional"),
        ("begin_send", "bytes 64", "positional"),
        ("in_a_thread", "end", 0),
    ),
    "wrong calls": (*WARM, *(("wrong", number) for number in range(13))),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_a_situation(name: str) -> None:
    compare(SITUATIONS[name])


@pytest.mark.skipif(
    sys.platform != "linux", reason="how datagrams fill a socket is each system's own"
)
@pytest.mark.parametrize("name", ["many in a row", "a peer that is gone", "behind others", *NAMES])
def test_datagrams(name: str) -> None:
    if name in NAMES:
        steps: tuple[Step, ...] = (*WARM, ("send_async", name), ("look_at_args", name))
        steps += (("begin_send", name, "positional"), ("look", 0), ("read_all",), ("turn",))
    else:
        steps = SITUATIONS[name]
    compare(steps, stdlib_socket.SOCK_DGRAM)


# At random ------------------------------------------------------------------------------------

names = st.sampled_from(NAMES)
indices = st.integers(0, 5)
forms = st.sampled_from(("positional", "all", "from", "named", "callback"))

steps_at_random = st.one_of(
    st.tuples(st.just("send_async"), names),
    st.tuples(st.just("begin_send"), names, forms),
    st.tuples(st.just("end"), indices),
    st.tuples(st.just("many"), names, st.sampled_from((2, 127, 128, 200))),
    st.tuples(st.just("pile"), st.sampled_from(PILES), names, st.sampled_from((2, 20))),
    st.tuples(st.just("begin_many"), names, st.sampled_from((2, 127, 128, 200))),
    st.tuples(st.just("read"), st.integers(1, 100_000)),
    st.tuples(st.sampled_from(("turn", "read_all", "turn", "read_all", "forget_torn"))),
    st.tuples(st.sampled_from(("watch", "watch_no_more", "refuse_when_full"))),
    st.tuples(st.sampled_from(("cancel", "resume", "listen_to", "look_at_args")), names),
    st.tuples(st.sampled_from(("cancel_result", "look")), indices),
    st.tuples(st.just("set_buffer"), names, names),
    st.tuples(st.just("set_list"), names, st.sampled_from(tuple(LISTS))),
    st.tuples(st.just("set_no_buffer"), names),
    st.tuples(
        st.just("resize"),
        st.sampled_from([n for n in NAMES if "bytearray" in n]),
        st.integers(-3, 3),
    ),
    st.tuples(st.just("release"), st.sampled_from([n for n in NAMES if "memoryview" in n])),
    st.tuples(st.just("wrong"), st.integers(0, 12)),
    st.tuples(st.sampled_from(("shut_down", "close_peer", "close"))),
)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.lists(steps_at_random, max_size=25))
def test_a_random_script(steps: list[Step]) -> None:
    compare([*WARM, *steps])


# What a comparison does not see ----------------------------------------------------------------


@pytest.mark.parametrize("face", ["send_async", "begin_send"])
async def test_no_view_outlives_the_system_call(face: str) -> None:
    """When Python goes on with a start that has to wait, its buffer can be resized."""
    buffer = bytearray(300_000)
    lengths: list[int] = []

    def profile(frame: Any, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name == f"_{face}_stuck":
            buffer.append(0)
            lengths.append(len(buffer))

    player = Player(stdlib_socket.SOCK_STREAM)
    async with open_initiator():
        player.socket.send_async(SocketAsyncEventArgs(b""))
        args = SocketAsyncEventArgs(buffer)
        sys.setprofile(profile)
        try:
            if face == "send_async":
                player.socket.send_async(args)
            else:
                player.socket.begin_send(buffer)
        finally:
            sys.setprofile(None)
        player.socket.close()
    player.other.close()
    player.close_rest()
    assert lengths == [300_001]
