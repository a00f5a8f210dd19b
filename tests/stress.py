"""Trials in large numbers: something strikes at an instant that nobody chose, and the counts are compared.

Run in the checkout as ``python -m tests.stress NAME --trials N --seed S``. It prints how many trials there were, what
happened in them, and each trial in which what the library reported was not, byte for byte, what the peer has got. Its
exit status says whether there was any. A trial depends on the seed and on its number alone, so far as timing allows;
``--first`` begins with a later number.

cancel
    Operations of all faces on a real socket, and cancels, stops, closes and exits in between. What was cut is resumed
    in half of the trials, and then the peer must have the stream of a send that nobody cancelled.
sigint
    Ctrl-C at a random instant while one of the faces, or the one that ``--only`` names, sends to a thread that reads.
instants
    Ctrl-C at each instant in turn, on a scripted port. An instant is a step of a task, and where nothing protects the
    library, or the code that uses it, each line.

This one stands in `tests.stress_strikes`; the number of trials is that of the strikes at each way to make a call:

strikes
    Ctrl-C at each instant of every public call, made by a function that nothing protects, in Trio and in a thread that
    runs none.

This one stands in `tests.stress_reentry`; the number of trials is that of the strikes at each call:

reentry
    A signal handler, a finaliser, a port and a buffer that start, stop and close in the middle of every call.

These stand in `tests.stress_scale`; the number of trials is that of their operations:

audit
    Sends on TCP connections that are stopped in every way, and the kernel's own count beside the library's.
sigkill
    A sender that journals what it means to send and what it has sent, killed at a random instant.
many
    As many connections as there are trials, each with a pending send, and one scope cancelled.
leaks
    Cancelled sends, and what they leave behind: descriptors, locked buffers, reference cycles, memory.
single_cancels
    Sends on one socket that are cancelled one by one, and what each costs.
chain
    Sends that end on the spot, each started by the handler of the one before, and how deep the stack is.

This one stands in `tests.stress_echo`:

echo
    As many clients at the same time as there are trials, twice, for the pooled echo server of ``examples/``.

These stand in `tests.stress_threads`:

threads
    So many sends in all, from 64 threads on 8 sockets, and a third of the threads end with sends pending.
threads_as_guest
    The same while Trio runs as the guest of another loop.

This one stands in `tests.stress_fuzz`:

fuzz
    Sequences of public calls, with right and wrong arguments, on sockets of every kind. Each may raise what its
    docstring says and nothing else; the shortest sequence that finds something is printed.

Another one is a function of `Trials`, registered by `named`.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import random
import signal
import socket as stdlib_socket
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO, Any

import attrs
import trio
from trio.testing import MockClock

import trio_send
from tests import (
    stress_echo,
    stress_fuzz,
    stress_reentry,
    stress_scale,
    stress_strikes,
    stress_threads,
)
from tests.helpers import reset_on_close
from trio_send import (
    AsyncResult,
    ExitPolicy,
    SendPacketsElement,
    Socket,
    SocketAsyncEventArgs,
    SocketException,
    TornMessage,
    open_initiator,
)
from trio_send._owners import engine as _engine
from trio_send.testing import Blocked, ScriptedPort

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup


@attrs.define
class Trials:
    """What to do, and what has come of it so far.

    Attributes:
      count: how many trials to run.
      seed: what their random numbers depend on.
      first: the number of the first one.
      only: the scenario to run; None stands for all. Not every kind of trial has any.
      happened: what happened, and how often.
      mismatches: what was wrong, a sentence for each trial in which something was.
    """

    count: int
    seed: int = 0
    first: int = 0
    only: str | None = None
    happened: Counter[str] = attrs.field(factory=Counter)
    mismatches: list[str] = attrs.field(factory=list)

    def __iter__(self) -> Iterator[tuple[int, random.Random]]:
        """Give each trial its number and its random numbers."""
        for number in range(self.first, self.first + self.count):
            yield number, random.Random(f"{self.seed} {number}")

    def check(self, number: int, what: str, complaint: str | None) -> None:
        """Note what came of a trial."""
        if complaint is not None:
            self.mismatches.append(f"trial {number} ({what}): {complaint}")


NAMES: dict[str, Callable[[Trials], None]] = {}


def named(function: Callable[[Trials], None]) -> Callable[[Trials], None]:
    """Let the command line find a kind of trial."""
    NAMES[function.__name__] = function
    return function


# What was sent --------------------------------------------------------------------------------

#: Where all messages come from: no two pieces of it look alike.
POOL = random.Random(0).randbytes(1 << 20)


def a_message(rng: random.Random, most: int) -> bytes:
    """A piece of the pool, more often short than long."""
    size = int(most ** rng.random())
    start = rng.randrange(len(POOL) - size)
    return POOL[start : start + size]


@attrs.define(eq=False)
class Entry:
    """One message, and how to find out how much of it was reported as accepted."""

    message: bytes
    operation: SocketAsyncEventArgs | AsyncResult | None = None
    #: For a message whose operation nobody holds.
    told: int = 0
    #: False while a call is under way whose interruption would leave its operation in nobody's hand.
    is_known: bool = True

    @property
    def count(self) -> int:
        return self.told if self.operation is None else self.operation.bytes_transferred

    @property
    def is_pending(self) -> bool:
        if isinstance(self.operation, SocketAsyncEventArgs):
            return self.operation.pending
        return self.operation is not None and not self.operation.is_completed


def compare(entries: list[Entry], received: bytes | bytearray) -> str | None:
    """Say what is wrong if the peer did not get, in order of the starts, what each operation reports."""
    pending = sum(entry.is_pending for entry in entries)
    if pending:
        return f"{pending} operations are still pending"
    lost = [entry for entry in entries if not entry.is_known]
    if len(lost) > 1:
        return f"one Ctrl-C has taken the results of {len(lost)} calls"
    for entry in lost:
        # Nobody can say how much of it was accepted, so it must be as much as the others leave.
        entry.told = len(received) - sum(each.count for each in entries if each is not entry)
        if not 0 <= entry.told <= len(entry.message):
            return f"{entry.told} bytes are left to the call that was interrupted"
    expected = b"".join(entry.message[: entry.count] for entry in entries)
    if expected == received:
        return None
    where = next(
        (n for n, (one, other) in enumerate(zip(expected, received, strict=False)) if one != other),
        min(len(expected), len(received)),
    )
    return f"{len(expected)} bytes were reported, {len(received)} received; they differ from byte {where} on"


# None of what follows is protected, for the library is called as applications call it.


def args_for(entry: Entry) -> SocketAsyncEventArgs:
    """Make args for a message."""
    entry.operation = args = SocketAsyncEventArgs(entry.message)
    return args


def begin(
    socket: Socket, entry: Entry, callback: Callable[[AsyncResult], object] | None = None
) -> AsyncResult:
    """Begin a send and keep its result."""
    entry.is_known = False
    entry.operation = result = socket.begin_send(entry.message, callback=callback)
    entry.is_known = True
    return result


async def send_plain(socket: Socket, entry: Entry) -> None:
    """Await a send of plain bytes, and find out the count however that ends."""
    await find_out(socket, entry, socket.send(entry.message))


async def find_out(socket: Socket, entry: Entry, sending: Awaitable[int | None]) -> None:
    """Await a send whose operation nobody holds; a stream's tells no count."""
    entry.is_known = False
    try:
        count = await sending
        entry.told = len(entry.message) if count is None else count
        entry.is_known = True
    except SocketException as error:
        entry.told = error.bytes_transferred
        entry.is_known = True
        raise
    except BaseException as error:
        torn = socket.torn
        if (
            torn is not None
            and torn.operation is None
            and torn.size == len(entry.message)
            and rest_of(torn) == entry.message[torn.bytes_transferred :]
        ):
            entry.told = torn.bytes_transferred
            entry.is_known = True
        # Nothing of it was accepted; or all, and Ctrl-C has come before the count could be kept.
        entry.is_known = entry.is_known or not isinstance(error, KeyboardInterrupt)
        raise


def rest_of(torn: TornMessage) -> bytes:
    """What is left of a message that was cut, in buffers or in files."""
    message = torn._cut.operation.message
    assert message is not None
    return message.peek(torn.bytes_transferred, torn.size)


@trio.lowlevel.enable_ki_protection
def a_file(content: bytes) -> IO[bytes]:
    """Make a file, and keep it: one step, for files of the trials' own are of no interest."""
    file = tempfile.TemporaryFile()  # noqa: SIM115
    FILES.append(file)
    file.write(content)
    file.flush()
    return file


#: Those of the trial that runs; a file that nobody has closed when it goes away is complained of.
FILES: list[IO[bytes]] = []


def close_files() -> None:
    while FILES:
        FILES.pop().close()


def start_packets(socket: Socket, entry: Entry) -> bool:
    """Start a message that lies in a buffer and in a file that is gone right after."""
    half = len(entry.message) // 2
    args = entry.operation = SocketAsyncEventArgs()
    with a_file(entry.message[half:]) as file:
        args.send_packets_elements = [
            SendPacketsElement(entry.message[:half]),
            SendPacketsElement(file),
        ]
        return socket.send_packets_async(args)


async def send_as_file(socket: Socket, entry: Entry) -> None:
    """Await a message that lies in a file, and find out the count however that ends."""
    with a_file(entry.message) as file:
        await find_out(socket, entry, socket.send_file(file))


# Cancels --------------------------------------------------------------------------------------


def tcp_pair() -> tuple[stdlib_socket.socket, stdlib_socket.socket]:
    """Two ends of a connection on this machine, with little room in it."""
    with stdlib_socket.socket() as listener:
        listener.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        left = stdlib_socket.socket()
        left.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 4096)
        left.connect(listener.getsockname())
        right, _ = listener.accept()
    return left, right


def unix_pair() -> tuple[stdlib_socket.socket, stdlib_socket.socket]:
    """Two ends of a connection inside the kernel, with little room in it."""
    left, right = stdlib_socket.socketpair()
    left.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 1)
    return left, right


class CancelTrial:
    """One socket, a handful of operations on it, and what happens to them."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.happened: Counter[str] = Counter()
        self.entries: list[Entry] = []
        self.received = bytearray()
        self.kind = rng.choice(("tcp", "unix"))
        self.on_torn = rng.choice(("refuse", "refuse", "allow"))
        left, self.peer = tcp_pair() if self.kind == "tcp" else unix_pair()
        self.peer.setblocking(False)
        self.socket = Socket.from_stdlib(left, on_torn=self.on_torn)
        self.scopes: list[trio.CancelScope] = []
        self.read_on = trio.Event()

    async def run(self) -> str | None:
        """Run it; say what was wrong."""
        with self.peer:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.read)
                    await self.send()
                    await self.settle()
                    # No reset, because what was accepted is to arrive.
                    self.socket.close(reset=False)
                    self.read_on.set()
            finally:
                self.socket.close(reset=False)
            reset_on_close(self.peer)  # leaves no connection in TIME_WAIT behind
        for entry in self.entries:
            if 0 < entry.count < len(entry.message):
                self.happened["cut"] += 1
        return compare(self.entries, self.received)

    async def read(self) -> None:
        """Read now and then, until it is time to read to the end."""
        for _ in range(self.rng.randrange(12)):
            for _ in range(self.rng.randrange(4)):
                await trio.lowlevel.checkpoint()
            try:
                self.received += self.peer.recv(self.rng.choice((100, 3000, 65536)))
            except BlockingIOError:
                pass
        await self.read_on.wait()
        while True:
            try:
                piece = self.peer.recv(65536)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self.peer)
                continue
            if not piece:
                return
            self.received += piece

    async def send(self) -> None:
        """Start operations in an initiator and do something to them."""
        rng = self.rng
        with trio.CancelScope() as scope:
            try:
                async with open_initiator(rng.choice((ExitPolicy.ABORT, ExitPolicy.JOIN))) as owner:
                    self.scopes += [scope, owner.cancel_scope]
                    async with trio.open_nursery() as nursery:
                        for _ in range(rng.randrange(1, 7)):
                            self.start(nursery)
                            if rng.random() < 0.3:
                                await trio.lowlevel.checkpoint()
                        for _ in range(rng.randrange(3)):
                            for _ in range(rng.randrange(6)):
                                await trio.lowlevel.checkpoint()
                            self.strike()
                        if rng.random() < 0.5:
                            # Otherwise nobody reads what JOIN, or an awaiting task, waits for.
                            self.read_on.set()
                        elif rng.random() < 0.5:
                            scope.cancel()
                        else:
                            raise InterruptedError
            except InterruptedError:
                pass
            except BaseExceptionGroup as group:
                _, rest = group.split(InterruptedError)
                if rest is not None:
                    raise rest from None

    def start(self, nursery: trio.Nursery) -> None:
        """Start one operation, through one of the faces."""
        rng = self.rng
        entry = Entry(a_message(rng, 20_000))
        face = rng.choice(("send_async", "packets", "begin_send", "args", "plain"))
        if face == "plain" and self.on_torn == "allow":
            face = "args"  # where a cut is not kept, nobody could say how long it is
        if face in ("send_async", "args"):
            entry.operation = SocketAsyncEventArgs(entry.message)
        if face == "send_async":
            self.entries.append(entry)
            self.socket.send_async(entry.operation)
        elif face == "packets":
            self.entries.append(entry)
            start_packets(self.socket, entry)
        elif face == "begin_send":
            entry.operation, _ = self.socket.try_begin_send(entry.message)
            self.entries.append(entry)
        else:
            nursery.start_soon(self.send_awaited, entry)

    async def send_awaited(self, entry: Entry) -> None:
        scope = trio.CancelScope()
        self.scopes.append(scope)
        self.entries.append(entry)  # the send starts before this task yields
        with scope:
            try:
                if entry.operation is None:
                    await send_plain(self.socket, entry)
                else:
                    await self.socket.send(entry.operation)
            except (SocketException, trio_send.ObjectDisposedError):
                pass

    def strike(self) -> None:
        """Do something to what is pending."""
        rng = self.rng
        what = rng.choice(("operation", "operation", "scope", "scope", "close", "nothing"))
        if what == "operation" and self.entries:
            operation = rng.choice(self.entries).operation
            if operation is not None and operation.cancel():
                self.happened["operation cancelled"] += 1
        elif what == "scope":
            rng.choice(self.scopes).cancel()
            self.happened["scope cancelled"] += 1
        elif what == "close" and all(entry.operation is not None for entry in self.entries):
            # An awaited send of plain bytes tells its count by the stream it tears, and a closed one is not torn.
            if rng.random() < 0.8:
                return
            self.socket.close(reset=False)
            self.happened["closed"] += 1

    async def settle(self) -> None:
        """Resume what was cut, or give it up, or leave it."""
        while self.socket.torn is not None and self.rng.random() < 0.7:
            torn = self.socket.torn
            entry = next(
                entry
                for entry in self.entries
                if entry.operation is torn.operation
                and entry.count < len(entry.message)
                and rest_of(torn) == entry.message[entry.count :]
            )
            self.read_on.set()
            if self.rng.random() < 0.2:
                self.socket.forget_torn()
                self.happened["given up"] += 1
                return
            before = torn.bytes_transferred
            with trio.CancelScope() as scope:
                if self.rng.random() < 0.3:
                    scope.deadline = trio.current_time() + self.rng.random() * 0.001
                if isinstance(torn.operation, SocketAsyncEventArgs) and self.rng.random() < 0.5:
                    async with open_initiator(ExitPolicy.JOIN):
                        self.socket.resume(torn.operation)
                elif isinstance(torn.operation, AsyncResult) or torn.operation is None:
                    rest = SocketAsyncEventArgs(buffer_list=torn.remaining)
                    self.entries.insert(
                        self.entries.index(entry) + 1, Entry(entry.message[before:], rest)
                    )
                    async with open_initiator(ExitPolicy.JOIN):
                        self.socket.resume(rest)
                else:
                    await self.socket.send_rest()
            if self.socket.torn is None:
                self.happened["resumed to the end"] += 1


@named
def cancel(trials: Trials) -> None:
    """Cancel operations of all faces on real sockets."""

    async def main() -> None:
        have_epoll = _engine.HAVE_EPOLL
        for number, rng in trials:
            _engine.HAVE_EPOLL = have_epoll and rng.random() < 0.7
            trial = CancelTrial(rng)
            with trio.fail_after(60):
                complaint = await trial.run()
            close_files()
            trials.happened += trial.happened
            trials.check(number, f"{trial.kind}, {trial.on_torn}", complaint)
        _engine.HAVE_EPOLL = have_epoll

    trio.run(main)


# Ctrl-C ---------------------------------------------------------------------------------------


async def through_send_async(socket: Socket, entries: list[Entry]) -> None:
    """Start each as soon as the one before has ended."""
    for entry in entries:
        args = args_for(entry)
        if socket.send_async(args):
            await args.wait()


async def through_the_queue(socket: Socket, entries: list[Entry]) -> None:
    """Start all of them at once, and leave the waiting to the initiator."""
    for entry in entries:
        socket.send_async(args_for(entry))


async def through_handlers(socket: Socket, entries: list[Entry]) -> None:
    """Have each started by the handler of the one before; both are interrupted like any code of an application."""
    ahead = iter(entries)

    def start_next(*_: object) -> None:
        for entry in ahead:
            args = args_for(entry)
            args.completed += start_next
            if socket.send_async(args):
                return

    start_next()


async def through_async_handlers(socket: Socket, entries: list[Entry]) -> None:
    """The same with handlers that are tasks."""
    ahead = iter(entries)

    async def start_next(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        for entry in ahead:
            args = args_for(entry)
            args.completed += start_next
            if socket.send_async(args):
                return

    await start_next()


async def through_begin_and_end(socket: Socket, entries: list[Entry]) -> None:
    """Begin two, end one, and so on."""
    results: list[AsyncResult] = []
    for entry in entries:
        results.append(begin(socket, entry))
        if len(results) == 2:
            await socket.end_send(results.pop(0))
    for result in results:
        await socket.end_send(result)


async def through_callbacks(socket: Socket, entries: list[Entry]) -> None:
    """Begin each in the callback of the one before, which takes its result."""
    ahead = iter(entries)

    def go_on(result: AsyncResult) -> None:
        try:
            socket.end_send_nowait(result)
        except SocketException:
            return
        for entry in ahead:
            begin(socket, entry, go_on)
            return

    for entry in ahead:
        begin(socket, entry, go_on)
        return


async def through_trying(socket: Socket, entries: list[Entry]) -> None:
    """Begin and end each in the way that returns errors."""
    for entry in entries:
        entry.is_known = False
        entry.operation, _ = socket.try_begin_send(entry.message)
        entry.is_known = True
        if entry.operation is None:
            return
        await socket.try_end_send(entry.operation)


async def through_a_stream(socket: Socket, entries: list[Entry]) -> None:
    """Await each as a stream's."""
    stream = socket.as_stream()
    for entry in entries:
        await find_out(socket, entry, stream.send_all(entry.message))


async def through_awaiting(socket: Socket, entries: list[Entry]) -> None:
    """Await each, by turns as args and as plain bytes."""
    for number, entry in enumerate(entries):
        if number % 2:
            await send_plain(socket, entry)
        else:
            args = args_for(entry)
            await socket.send(args)


async def through_files(socket: Socket, entries: list[Entry]) -> None:
    """Send each from a file, by turns as packets and by awaiting."""
    for number, entry in enumerate(entries):
        if number % 2:
            await send_as_file(socket, entry)
        elif start_packets(socket, entry):
            assert isinstance(entry.operation, SocketAsyncEventArgs)
            await entry.operation.wait()


async def through_many_tasks(socket: Socket, entries: list[Entry]) -> None:
    """Await each in a task of its own."""

    async def send(entry: Entry) -> None:
        started.append(entry)
        args = args_for(entry)
        await socket.send(args)

    started: list[Entry] = []
    try:
        async with trio.open_nursery() as nursery:
            for entry in entries:
                nursery.start_soon(send, entry)
    except BaseExceptionGroup as group:
        _, rest = group.split(SocketException)  # those behind one that was cut
        if rest is not None:
            raise
    finally:
        in_order(entries, started)


@trio.lowlevel.enable_ki_protection
def in_order(entries: list[Entry], started: list[Entry]) -> None:
    """Put the entries into the order of their starts."""
    entries[:] = started + [entry for entry in entries if entry not in started]


async def through_resuming(socket: Socket, entries: list[Entry]) -> None:
    """Cut each on the way and send the rest."""
    for number, entry in enumerate(entries):
        args = args_for(entry)
        if socket.send_async(args):
            args.cancel()
            await args.wait()
            if socket.torn is None:
                continue
            if number % 2:
                await socket.send_rest()
            elif socket.resume(args):
                await args.wait()


SENDERS: dict[str, Callable[[Socket, list[Entry]], Awaitable[None]]] = {
    function.__name__.removeprefix("through_").replace("_", " "): function
    for function in (
        through_send_async,
        through_the_queue,
        through_handlers,
        through_async_handlers,
        through_begin_and_end,
        through_callbacks,
        through_trying,
        through_a_stream,
        through_awaiting,
        through_files,
        through_many_tasks,
        through_resuming,
    )
}


# Where a block is left, Python looks at signals between the last line of its body and the call that closes it, and then
# nothing closes it. What opens a block here is therefore protected, and what runs inside it is not.
for function in SENDERS.values():
    trio.lowlevel.disable_ki_protection(function)
trio.lowlevel.enable_ki_protection(through_many_tasks)


@trio.lowlevel.enable_ki_protection
async def send_all(name: str, socket: Socket, entries: list[Entry], policy: ExitPolicy) -> None:
    """Send everything inside an initiator."""
    async with open_initiator(policy):
        await SENDERS[name](socket, entries)


class Alarm:
    """Ctrl-C after a while, if it is armed when its time comes.

    The interval timer's own signal is passed on as SIGINT from inside its handler, so that it strikes the very
    instruction that was about to run.

    Attributes:
      armed: whether to strike.
      struck: whether it has struck.
      ignored: whether Python has thrown the exception away, as it does in finalisers and the callbacks of weak
        references, which return to nobody.
    """

    def __init__(self) -> None:
        self.armed = False
        self.struck = False
        self.ignored = False

    def ignore(self, unraisable: Any) -> None:
        """Stand in for `sys.unraisablehook`."""
        if unraisable.exc_type is KeyboardInterrupt:
            self.ignored = True
        else:
            sys.__unraisablehook__(unraisable)

    def ring(self, *_: object) -> None:
        if self.armed:
            self.struck = True
            signal.raise_signal(signal.SIGINT)


def without_interrupt(error: BaseException) -> BaseException | None:
    """What is left of an exception when Ctrl-C, and what it cut off, is taken out."""
    if isinstance(error, BaseExceptionGroup):
        return error.split((KeyboardInterrupt, SocketException))[1]
    return None if isinstance(error, KeyboardInterrupt) else error


def interrupted(
    run: Callable[[], Awaitable[object]], alarm: Alarm, delay: float
) -> tuple[bool, str | None]:
    """Run something in Trio under an alarm.

    The alarm is on inside only: what Trio does with Ctrl-C while it starts and ends is not in question here.

    Returns:
      Whether Ctrl-C came out of it, and what else did, if anything.
    """
    caught: BaseException | None = None

    @trio.lowlevel.enable_ki_protection
    async def main() -> None:
        alarm.armed, alarm.struck, alarm.ignored = True, False, False
        signal.setitimer(signal.ITIMER_REAL, delay)
        try:
            await run()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            alarm.armed = False

    try:
        trio.run(main)
    except BaseException as error:
        caught = error
    if caught is None:
        return False, None
    rest = without_interrupt(caught)
    return rest is not caught, None if rest is None else f"it raised {rest!r}"


def sigint_trial(
    rng: random.Random, name: str, kind: str, alarm: Alarm, delay: float
) -> tuple[str, str | None, list[Entry]]:
    """Send to a thread that reads; return what happened, and what was wrong."""
    left, right = tcp_pair() if kind == "tcp" else unix_pair()
    received = bytearray()

    def read() -> None:
        while piece := right.recv(4096):
            received.extend(piece)

    reader = threading.Thread(target=read)
    entries = [Entry(a_message(rng, 20_000)) for _ in range(10)]
    policy = rng.choice((ExitPolicy.ABORT, ExitPolicy.JOIN))
    socket = Socket.from_stdlib(left)
    with left, right:
        reader.start()
        came_out, complaint = interrupted(
            partial(send_all, name, socket, entries, policy), alarm, delay
        )
        socket.close(reset=False)
        reader.join()
    close_files()
    if complaint is None and alarm.struck and not came_out and not alarm.ignored:
        complaint = "Ctrl-C was lost"
    happened = (
        "interrupted" if came_out else "thrown away by Python" if alarm.ignored else "too late"
    )
    accepted = socket.statistics().bytes_accepted
    if complaint is None and accepted != len(received):
        complaint = f"the library knows of {accepted} bytes, and {len(received)} have come"
    return happened, complaint or compare(entries, received), entries


@named
def sigint(trials: Trials) -> None:
    """Press Ctrl-C while something is sent on a real socket."""
    alarm = Alarm()
    before = signal.signal(signal.SIGALRM, alarm.ring)
    sys.unraisablehook, hook = alarm.ignore, sys.unraisablehook
    names = SENDERS if trials.only is None else [trials.only]
    kinds = [(name, kind) for name in names for kind in ("tcp", "unix")]
    durations: dict[tuple[str, str], float] = {}
    try:
        for number, rng in trials:
            name, kind = kinds[number % len(kinds)]
            if (name, kind) not in durations:
                taken = []
                for _ in range(5):
                    start = time.perf_counter()
                    sigint_trial(random.Random(number), name, kind, alarm, 1000)
                    taken.append(time.perf_counter() - start)
                durations[name, kind] = statistics.median(taken)
            # Never 0, which would mean never.
            delay = 1e-6 + rng.random() * durations[name, kind]
            happened, complaint, entries = sigint_trial(rng, name, kind, alarm, delay)
            trials.happened[happened] += 1
            if any(0 < entry.count < len(entry.message) for entry in entries):
                trials.happened["cut"] += 1
            trials.check(number, f"{name}, {kind}", complaint)
    finally:
        signal.signal(signal.SIGALRM, before)
        sys.unraisablehook = hook


# Ctrl-C at each instant -----------------------------------------------------------------------

#: Whose lines count as instants: the library's, and those of the code above that uses it.
WATCHED = (str(Path(trio_send.__file__).parent), __file__)


class Instants(trio.abc.Instrument):
    """Counts the instants of a run at which Ctrl-C may make a difference, and presses it at one of them.

    Where code is protected, Trio keeps Ctrl-C for the main task's next checkpoint. So there each step of a task is one
    instant. Elsewhere KeyboardInterrupt strikes at once, so each line is one, and each beginning of a function.

    A trace function runs on top of the frame that it traces, and Trio takes what it does for a part of that frame.
    Where a coroutine is suspended and resumed is no instant, for there Python looks at no signals.
    """

    def __init__(self, strike_at: int) -> None:
        self.seen = 0
        self.struck = False
        self._strike_at = strike_at

    def count(self) -> None:
        self.seen += 1
        if self.seen == self._strike_at:
            self.struck = True
            sys.settrace(None)
            signal.raise_signal(signal.SIGINT)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count()

    def begun(self, frame: FrameType, event: str, _: object) -> Any:
        """Be called by Python for each function that is called or resumed."""
        if not frame.f_code.co_filename.startswith(WATCHED):
            return None
        if trio.lowlevel.currently_ki_protected():
            return None
        if frame.f_lineno == frame.f_code.co_firstlineno:
            self.count()
        return self.line

    def line(self, frame: FrameType, event: str, _: object) -> Any:
        """Be called by Python for each line of a function that is not protected."""
        if event == "line":
            self.count()
        return self.line

    @contextmanager
    def counted(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self.begun)
        try:
            yield
        finally:
            sys.settrace(before)


class Watchdog(trio.abc.Instrument):
    """Ends the process when nothing can happen any more: a task that hangs behind a shield cannot be ended otherwise.

    Args:
      what: says which trial it is.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._idle = 0

    def after_io_wait(self, timeout: float) -> None:
        statistics = trio.lowlevel.current_statistics()
        is_idle = not statistics.tasks_runnable and statistics.seconds_to_next_deadline == math.inf
        self._idle = self._idle + 1 if is_idle else 0
        if self._idle > 100:
            print(f"{self._what}: it hangs\nmismatches: at least 1", flush=True)
            os._exit(1)


def instant_trial(name: str, policy: ExitPolicy, strike_at: int) -> tuple[Instants, str | None]:
    """Send on a scripted port, with Ctrl-C at one instant; return what was wrong."""
    port = ScriptedPort([4, Blocked(0), 3, Blocked(1), 3, 2, Blocked(0)])
    socket = Socket.from_port(port)
    entries = [Entry(bytes([65 + number]) * 10) for number in range(3)]
    instants = Instants(strike_at)
    watchdog = Watchdog(f"{name}, {policy.name}, instant {strike_at}")

    @trio.lowlevel.enable_ki_protection
    async def main() -> None:
        with trio.fail_after(1000):  # by a clock that jumps when nothing else can happen
            await send_all(name, socket, entries, policy)

    caught: BaseException | None = None
    try:
        with instants.counted():
            trio.run(main, clock=MockClock(autojump_threshold=0), instruments=[instants, watchdog])
    except BaseException as error:
        caught = error
    rest = None if caught is None else without_interrupt(caught)
    complaint = compare(entries, port.accepted)
    accepted = socket.statistics().bytes_accepted
    if complaint is None and accepted != len(port.accepted):
        complaint = f"the library knows of {accepted} bytes, and {len(port.accepted)} have come"
    if rest is not None:
        complaint = f"it raised {rest!r}"
    elif instants.struck and caught is None:
        complaint = "Ctrl-C was lost"
    socket.close()
    close_files()
    return instants, complaint


@named
def instants(trials: Trials) -> None:
    """Press Ctrl-C at the instants of each scenario: so many of them, and evenly spread."""
    for name in SENDERS if trials.only is None else [trials.only]:
        for policy in (ExitPolicy.ABORT, ExitPolicy.JOIN):
            undisturbed, complaint = instant_trial(name, policy, 0)
            trials.check(0, f"{name}, {policy.name}, undisturbed", complaint)
            step = max(1, undisturbed.seen // trials.count)
            for strike_at in range(1 + trials.first, undisturbed.seen + 1, step):
                struck, complaint = instant_trial(name, policy, strike_at)
                trials.happened["struck"] += struck.struck
                trials.check(strike_at, f"{name}, {policy.name}", complaint)


for kind_of_trial in (
    *stress_scale.KINDS,
    stress_echo.echo,
    *stress_threads.KINDS,
    *stress_fuzz.KINDS,
    stress_strikes.strikes,
    stress_reentry.reentry,
):
    named(kind_of_trial)


# The command line -----------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Run trials of one kind; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.stress", description=__doc__.split("\n")[0]
    )
    parser.add_argument("name", choices=sorted(NAMES))
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", choices=sorted(SENDERS))
    chosen = parser.parse_args(arguments)
    # An asynchronous function that is interrupted between its call and its first step never begins.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    # Many a result is left to itself, and the log would tell of each.
    logging.getLogger("trio_send").setLevel(logging.CRITICAL)
    trials = Trials(chosen.trials, chosen.seed, chosen.first, chosen.only)
    begun = time.perf_counter()
    NAMES[chosen.name](trials)
    taken = time.perf_counter() - begun
    print(f"{chosen.name}: {chosen.trials} trials, seed {chosen.seed}, {taken:.1f} s")
    for what, count in sorted(trials.happened.items()):
        print(f"  {what}: {count}")
    for mismatch in trials.mismatches[:20]:
        print(f"  {mismatch}")
    print(f"mismatches: {len(trials.mismatches)}")
    return 1 if trials.mismatches else 0


if __name__ == "__main__":
    # A shell has what it starts in the background ignore Ctrl-C, and some trials are about nothing else.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
