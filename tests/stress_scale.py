"""Trials of what only large numbers show: the kernel's own count, sudden death, crowds, leaks, long chains.

`tests.stress` registers these and describes them; each is a function of its `Trials`, and what the number of trials
counts stands in each one's docstring. Nothing here is imported from there, for it may run as ``__main__``.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import random
import signal
import socket as stdlib_socket
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from tests.files import open_descriptors
from tests.helpers import reset_on_close
from trio_send import (
    AsyncResult,
    ExitPolicy,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    open_initiator,
)
from trio_send.abc import Port

if TYPE_CHECKING:
    from tests.stress import Trials

#: Where all messages come from: no two pieces of it look alike.
POOL = random.Random(1).randbytes(1 << 20)

#: Closing with this leaves no connection in TIME_WAIT behind, of which there are fewer than trials.


def tcp_pair(
    listener: stdlib_socket.socket,
) -> tuple[stdlib_socket.socket, stdlib_socket.socket]:
    """Two ends of a connection, with little room in it."""
    left = stdlib_socket.socket()
    left.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 4096)
    left.connect(listener.getsockname())
    right, _ = listener.accept()
    reset_on_close(right)
    right.setblocking(False)
    return left, right


@contextlib.contextmanager
def listening(backlog: int = 128) -> Iterator[stdlib_socket.socket]:
    """A listener whose connections have little room."""
    with stdlib_socket.socket() as listener:
        listener.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen(backlog)
        yield listener


async def read_exactly(peer: stdlib_socket.socket, count: int) -> bytes:
    """Exactly so many bytes; fewer only if the stream ends before."""
    data = bytearray()
    while len(data) < count:
        try:
            piece = peer.recv(count - len(data))
        except BlockingIOError:
            await trio.lowlevel.wait_readable(peer)
            continue
        if not piece:
            break
        data += piece
    return bytes(data)


# -- the kernel as referee ---------------------------------------------------------------------------------------------

#: How many trials share a connection.
TRIALS_PER_CONNECTION = 50


class Refereed:
    """One connection, and what must arrive through it."""

    def __init__(self, left: stdlib_socket.socket, right: stdlib_socket.socket) -> None:
        self.socket = Socket.from_stdlib(left)
        self.peer = right
        self.counted = 0  # on the whole connection

    def close(self) -> None:
        self.socket.close(reset=False)
        self.peer.close()

    def glance(self, received: bytearray, most: int) -> None:
        with contextlib.suppress(BlockingIOError):
            received += self.peer.recv(most)

    async def trial(self, rng: random.Random, happened: Counter[str]) -> str | None:
        """Start some sends, stop them somehow, and compare three counts: the library's, the kernel's, the peer's."""
        received = bytearray()
        policy = rng.choice(list(ExitPolicy))
        grace = 0 if policy in (ExitPolicy.DRAIN, ExitPolicy.FINISH_STARTED) else None
        sends = []
        for _ in range(rng.randrange(1, 4)):
            size = int(60_000 ** rng.random())
            start = rng.randrange(len(POOL) - size)
            args = SocketAsyncEventArgs(POOL[start : start + size])
            if rng.random() < 0.1:
                args.timeout = 0
            sends.append(args)
        with trio.CancelScope() as scope:
            async with open_initiator(ExitPolicy.ABORT):
                async with open_initiator(policy, grace=grace):
                    for args in sends:
                        self.socket.send_async(args)
                        for _ in range(rng.randrange(3)):
                            await trio.lowlevel.checkpoint()
                        if rng.random() < 0.5:
                            self.glance(received, rng.randrange(1, 20_000))
                    if rng.random() < 0.5:
                        rng.choice(sends).cancel()
                    if rng.random() < 0.8:
                        scope.cancel()
                    for _ in range(rng.randrange(3)):
                        await trio.lowlevel.checkpoint()
                    if policy is ExitPolicy.JOIN:
                        scope.cancel()  # it would wait for a peer that does not read
        if any(args.pending for args in sends):
            return "an operation is pending after the exit"
        complaint = self.audit(sends)
        torn = self.socket.torn
        if torn is not None:
            happened["cut"] += 1
            if rng.random() < 0.5:
                self.socket.forget_torn()
            else:
                happened["resumed"] += 1
                if isinstance(torn.operation, SocketAsyncEventArgs):
                    torn.operation.timeout = float("inf")
                counted = sum(args.bytes_transferred for args in sends)
                rest = torn.size - torn.bytes_transferred
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.socket.send_rest)
                    received += await read_exactly(self.peer, counted + rest - len(received))
                complaint = complaint or self.audit(sends)
        expected = b"".join(accepted_of(args) for args in sends)
        self.counted += len(expected)
        received += await read_exactly(self.peer, len(expected) - len(received))
        if received != expected:
            return f"the peer read {len(received)} bytes, and {len(expected)} were counted"
        if rng.random() < 0.01:
            happened["acknowledged"] += 1
            await self.socket.wait_acknowledged()
            if self.socket.audit().bytes_acknowledged != self.counted:
                return f"after the wait: {self.socket.audit()}"
        return complaint

    def audit(self, sends: list[SocketAsyncEventArgs]) -> str | None:
        audit = self.socket.audit()
        counted = self.counted + sum(args.bytes_transferred for args in sends)
        if not audit.agrees or audit.bytes_accepted != counted:
            return f"the operations say {counted} bytes, the kernel says {audit}"
        return None


def accepted_of(args: SocketAsyncEventArgs) -> bytes:
    assert isinstance(args.buffer, bytes)
    return args.buffer[: args.bytes_transferred]


def audit(trials: Trials) -> None:
    """Stop sends on TCP connections in every way, and ask the kernel what it has accepted."""

    async def main() -> None:
        connection: Refereed | None = None
        with listening() as listener:
            for index, (number, rng) in enumerate(trials):
                if connection is None or index % TRIALS_PER_CONNECTION == 0:
                    if connection is not None:
                        connection.close()
                    connection = Refereed(*tcp_pair(listener))
                with trio.fail_after(60):
                    complaint = await connection.trial(rng, trials.happened)
                trials.check(number, "audit", complaint)
                if complaint is not None:
                    connection.close()
                    connection = None
            if connection is not None:
                connection.close()

    trio.run(main)


# -- sudden death ------------------------------------------------------------------------------------------------------

#: The longest message of a sender that is to be killed.
CHUNK = 8192


class Journal:
    """Two numbers that survive their writer: how far it meant to send, and how far it knows to have sent.

    Each is written in one machine instruction, so that death finds the old one there or the new one.
    """

    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:
            self._numbers = memoryview(mmap.mmap(file.fileno(), 16)).cast("Q")

    def intend(self, total: int) -> None:
        self._numbers[0] = total

    def count(self, total: int) -> None:
        self._numbers[1] = total

    def read(self) -> tuple[int, int]:
        return self._numbers[0], self._numbers[1]

    def clear(self) -> None:
        self._numbers[0] = self._numbers[1] = 0


async def send_for_ever(port: int, journal: Journal, rng: random.Random) -> None:
    """Send the pool round and round, in messages of all faces, and journal each."""
    socket = Socket()
    socket.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 4096)
    await socket.connect(("127.0.0.1", port))
    total = 0
    async with open_initiator():
        while True:
            size = rng.randrange(1, CHUNK + 1)
            start = total % len(POOL)
            message = POOL[start : start + size]
            journal.intend(total + len(message))
            face = rng.randrange(3)
            if face == 0:
                total += await socket.send(message)
            elif face == 1:
                total += await socket.end_send(socket.begin_send(message))
            else:
                args = SocketAsyncEventArgs(message)
                if socket.send_async(args):
                    await args.wait()
                total += args.bytes_transferred
            journal.count(total)


def mother_of_senders(port: int, path: str) -> None:
    """Make a sender for each line of the standard input, with the line as its seed; print its process number.

    A process of its own, because a fork takes along what other threads have locked, and a test run has threads.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody has to wait for the dead
    journal = Journal(path)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                trio.run(send_for_ever, port, journal, random.Random(line))
            finally:
                os._exit(1)
        print(child, flush=True)


def receive_until(peer: stdlib_socket.socket, received: bytearray, when: float) -> None:
    """Read until a time."""
    while (left := when - time.perf_counter()) > 0:
        peer.settimeout(left)
        try:
            received += peer.recv(65536)
        except TimeoutError:
            return


def receive_rest(peer: stdlib_socket.socket, received: bytearray) -> None:
    peer.settimeout(60)
    with contextlib.suppress(ConnectionResetError):
        while piece := peer.recv(65536):
            received += piece


def sigkill(trials: Trials) -> None:
    """Kill a sender that journals, at a random instant, and read what it has left behind."""
    with listening() as listener, tempfile.NamedTemporaryFile() as file:
        file.write(bytes(16))
        file.flush()
        journal = Journal(file.name)
        arguments = (listener.getsockname()[1], file.name)
        command = f"from tests.stress_scale import mother_of_senders as m; m{arguments!r}"
        with subprocess.Popen(
            [sys.executable, "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        ) as mother:
            assert mother.stdin is not None
            assert mother.stdout is not None
            for number, rng in trials:
                journal.clear()
                mother.stdin.write(f"{trials.seed} {number}\n")
                mother.stdin.flush()
                sender = int(mother.stdout.readline())
                peer, _ = listener.accept()
                received = bytearray()
                with peer:
                    now = time.perf_counter()
                    if rng.random() < 0.7:
                        receive_until(peer, received, now + rng.random() * 0.003)
                    time.sleep(rng.random() * 0.002)
                    os.kill(sender, signal.SIGKILL)
                    receive_rest(peer, received)
                    reset_on_close(peer)
                trials.check(number, "sigkill", judge(journal, received, trials.happened))
            mother.stdin.close()


def judge(journal: Journal, received: bytearray, happened: Counter[str]) -> str | None:
    intended, counted = journal.read()
    rounds = len(received) // len(POOL) + 1
    if received != (POOL * rounds)[: len(received)]:
        return "what the peer read is not what was sent"
    if not counted <= len(received) <= intended <= counted + CHUNK:
        return f"{len(received)} bytes were read, {counted} counted, and {intended} intended"
    if received:
        happened["some bytes"] += 1
    if counted < len(received):
        happened["in the middle of a message"] += 1
    return None


# -- a crowd -----------------------------------------------------------------------------------------------------------


def room_for_descriptors(wanted: int) -> int:
    """Raise the limit of descriptors as far as wanted and allowed; return how many there may be then."""
    import resource  # not on every system

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


def many(trials: Trials) -> None:
    """Have as many sends pending on as many connections as there are trials, and cancel one scope around them."""
    in_use = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 200
    count = min(
        trials.count, (room_for_descriptors(2 * trials.count + in_use + 50) - in_use - 50) // 2
    )
    told: Counter[int] = Counter()
    sends: list[SocketAsyncEventArgs] = []
    seconds = processor_seconds = 0.0

    def on_completed(_: Socket, args: SocketAsyncEventArgs) -> None:
        told[args.user_token] += 1

    async def main(sockets: list[Socket]) -> None:
        nonlocal seconds, processor_seconds
        with trio.CancelScope() as scope:
            async with open_initiator():
                for index, socket in enumerate(sockets):
                    args = SocketAsyncEventArgs(POOL, user_token=index)
                    args.completed += on_completed
                    sends.append(args)
                    if not socket.send_async(args):
                        trials.check(index, "many", "it did not pend")
                await trio.testing.wait_all_tasks_blocked()
                begun, processor_begun = time.perf_counter(), time.process_time()
                scope.cancel()
                await trio.sleep_forever()
        seconds = time.perf_counter() - begun
        processor_seconds = time.process_time() - processor_begun

    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listening(backlog=1024))
        pairs = []
        for _ in range(count):
            left, right = tcp_pair(listener)
            pairs.append((Socket.from_stdlib(left), stack.enter_context(right)))
        for socket, _ in pairs:
            stack.callback(socket.close, reset=False)
        trio.run(main, [socket for socket, _ in pairs])
        total = 0
        for index, (socket, peer) in enumerate(pairs):
            args = sends[index]
            socket.close(reset=False)
            received = bytearray()
            receive_rest(peer, received)
            total += len(received)
            complaint = None
            if args.pending or args.socket_error is not SocketError.OPERATION_ABORTED:
                complaint = f"it ended as {args!r}"
            elif told[index] != 1:
                complaint = f"Completed was raised {told[index]} times"
            elif received != POOL[: args.bytes_transferred]:
                complaint = (
                    f"the peer read {len(received)} bytes, counted were {args.bytes_transferred}"
                )
            trials.check(index, "many", complaint)
    trials.happened["connections"] = count
    trials.happened["bytes counted"] = sum(args.bytes_transferred for args in sends)
    trials.happened["bytes read"] = total
    trials.happened["milliseconds from the cancel to the exit"] = round(1000 * seconds)
    trials.happened["of them the processor's"] = round(1000 * processor_seconds)


# -- what is left behind -----------------------------------------------------------------------------------------------


class Leaver:
    """Stops sends in every way, on one socket after the other."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.wrong = 0

    async def run(self, count: int) -> None:
        left = right = None
        for index in range(count):
            if index % 100 == 0:
                if left is not None and right is not None:
                    left.close()
                    right.close()
                ours, right = stdlib_socket.socketpair()
                ours.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 1)
                left = Socket.from_stdlib(ours)
            assert left is not None
            await self.one(left, self.rng.randrange(6))
            left.forget_torn()
        if left is not None and right is not None:
            left.close()
            right.close()

    async def one(self, socket: Socket, how: int) -> None:
        buffer = bytearray(20_000)
        args = SocketAsyncEventArgs(buffer)
        args.completed += lambda *_: None
        if how == 0:  # by the exit
            async with open_initiator():
                socket.send_async(args)
        elif how == 1:  # by itself, with a task that waits for it
            async with open_initiator():
                socket.send_async(args)
                args.cancel("a reason")
                await args.wait()
        elif how == 2:  # by a cancelled scope
            with trio.CancelScope() as scope:
                async with open_initiator(ExitPolicy.JOIN):
                    socket.send_async(args)
                    scope.cancel()
        elif how == 3:  # by a time limit
            async with open_initiator(ExitPolicy.JOIN):
                args.timeout = args.stall_timeout = 0
                socket.send_async(args)
        elif how == 4:  # while it is awaited
            with trio.move_on_after(0):
                await socket.send(args)
        else:  # with its error raised
            async with open_initiator():
                result = socket.begin_send(buffer, callback=lambda _: None)
                result.cancel()
                try:
                    await socket.end_send(result)
                except SocketException:
                    pass
        try:
            buffer += b"a buffer that is exported could not grow"
        except BufferError:
            self.wrong += 1


def leaks(trials: Trials) -> None:
    """Cancel as many sends as there are trials, twice, and look for what is left of them the second time."""
    leaver = Leaver(random.Random(trials.seed))

    async def main() -> None:
        tracemalloc.start()
        gc.disable()
        try:
            # The first time around, what is made once and kept is made.
            await leaver.run(trials.count)
            gc.collect()
            descriptors = len(open_descriptors())
            before = tracemalloc.get_traced_memory()[0]
            await leaver.run(trials.count)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            # Trio's own things may be in cycles, and are no concern of this.
            ours = Counter(
                type(thing).__qualname__
                for thing in gc.garbage
                if type(thing).__module__.split(".")[0] == "trio_send"
            )
            gc.set_debug(0)
            gc.garbage.clear()
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            gc.set_debug(0)
            gc.enable()
            tracemalloc.stop()
        more = len(open_descriptors()) - descriptors
        trials.happened["descriptors left"] = more
        trials.happened["buffers that stayed locked"] = leaver.wrong
        trials.happened["our objects in cycles"] = sum(ours.values())
        trials.happened["bytes grown in all"] = grown
        if more:
            trials.check(0, "leaks", f"{more} descriptors are left")
        if leaver.wrong:
            trials.check(0, "leaks", f"{leaver.wrong} buffers stayed locked")
        if ours:
            trials.check(0, "leaks", f"reference cycles: {dict(ours)}")
        if grown > max(trials.count, 20_000):
            trials.check(0, "leaks", f"memory grew by {grown / trials.count:.1f} bytes for each")

    trio.run(main)


# -- one by one --------------------------------------------------------------------------------------------------------

ORDERS: dict[str, Callable[[list[Any]], None]] = {
    "front": lambda sends: None,
    "back": lambda sends: sends.reverse(),
    "random": lambda sends: random.Random(0).shuffle(sends),
}


async def cancel_singly(count: int, order: str) -> tuple[float, str | None]:
    """Cancel so many sends on one socket; return the time for each, and what was wrong."""
    left, right = stdlib_socket.socketpair()
    left.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        # The head must have no byte accepted, or its cancel would tear the stream.
        while True:
            left.send(b"x")
    told: Counter[int] = Counter()
    socket = Socket.from_stdlib(left)
    with right, contextlib.closing(socket):
        async with open_initiator():
            sends = []
            for index in range(count):
                args = SocketAsyncEventArgs(b"message", user_token=index)
                args.completed += lambda _, args: told.update([args.user_token])
                assert socket.send_async(args)
                sends.append(args)
            await trio.testing.wait_all_tasks_blocked()
            ORDERS[order](sends)
            begun = time.process_time()  # which does not count what others do on this machine
            stopped = sum(args.cancel() for args in sends)
            seconds = time.process_time() - begun
        if stopped != count or len(told) != count or told.total() != count:
            return 0, f"{stopped} of {count} were stopped, {told.total()} told"
        if any(args.bytes_transferred for args in sends) or socket.queued_operations:
            return 0, "something was sent, or is queued"
    return seconds / count, None


def single_cancels(trials: Trials) -> None:
    """Cancel as many sends on one socket one by one, and an eighth of that number; compare the times for each."""

    async def main() -> None:
        for order in ORDERS:
            times = []
            for count in (max(1, trials.count // 8), trials.count):
                best = float("inf")
                for _ in range(3):
                    seconds, complaint = await cancel_singly(count, order)
                    best = min(best, seconds)
                    if complaint is not None:
                        trials.check(count, f"single cancels, {order}", complaint)
                times.append(best)
            ratio = times[1] / times[0] if times[0] else 0
            trials.happened[f"{order}: nanoseconds for each"] = round(1e9 * times[1])
            trials.happened[f"{order}: percent of that of an eighth as many"] = round(100 * ratio)
            # Were the time quadratic, it would be 800. A small number of trials proves nothing either way.
            if trials.count >= 8000 and ratio > 4:
                trials.check(0, f"single cancels, {order}", f"{ratio:.1f} times as expensive each")

    trio.run(main)


# -- a chain -----------------------------------------------------------------------------------------------------------


class Sink(Port):
    """A port that takes everything."""

    is_stream = True
    send = staticmethod(lambda buffer, flags: len(buffer))
    send_gather = staticmethod(lambda views, flags: sum(map(len, views)))
    send_to = staticmethod(lambda buffer, flags, address: len(buffer))

    def fileno(self) -> int:
        return -1

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_readable(self) -> None:
        await trio.sleep_forever()

    def close(self, *, reset: bool) -> None:
        pass


def depth() -> int:
    """How many frames are on the stack."""
    count = 0
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        count += 1
        frame = frame.f_back
    return count


def chain(trials: Trials) -> None:
    """Chain as many completions, each started by the handler of the one before; watch the stack.

    Three kinds of handler: one that loops over starts that end on the spot, one that calls itself for them, as .NET's
    examples do, and, for a tenth of the number, a callback. The first and the last find the stack as deep at each call
    as at the first. For the second it is bounded, because every so often a start is answered "pending" although it has
    ended.
    """
    fewer = max(1, trials.count // 10)  # each of these goes through the dispatcher by itself
    depths: dict[str, set[int]] = {"a loop": set(), "a call of itself": set(), "a callback": set()}
    told: Counter[str] = Counter()

    async def main() -> None:
        socket = Socket.from_port(Sink())

        def loop(_: Socket, args: SocketAsyncEventArgs) -> None:
            depths["a loop"].add(depth())
            while True:
                told["a loop"] += 1
                if told["a loop"] >= trials.count or socket.send_async(args):
                    return

        def call_itself(_: Socket, args: SocketAsyncEventArgs) -> None:
            told["a call of itself"] += 1
            if told["a call of itself"] % 100 == 0:
                depths["a call of itself"].add(depth())
            if told["a call of itself"] < trials.count and not socket.send_async(args):
                call_itself(socket, args)

        def callback(result: AsyncResult) -> None:
            depths["a callback"].add(depth())
            told["a callback"] += socket.end_send_nowait(result) == 1
            if told["a callback"] < fewer:
                socket.begin_send(b"x", callback=callback)

        for handler in (loop, call_itself):
            async with open_initiator(ExitPolicy.JOIN):
                args = SocketAsyncEventArgs(b"x")
                args.completed += handler
                while not socket.send_async(args):
                    pass  # until one pends, so that a handler begins the chain
        async with open_initiator(ExitPolicy.JOIN):
            socket.begin_send(b"x", callback=callback)

    trio.run(main)
    for name, seen in depths.items():
        trials.happened[f"{name}: completions"] = told[name]
        trials.happened[f"{name}: frames at most"] = max(seen, default=0)
        wanted = fewer if name == "a callback" else trials.count
        if told[name] != wanted:
            trials.check(0, f"chain, {name}", f"{told[name]} of {wanted} were told")
        if len(seen) > 1 and name != "a call of itself":
            trials.check(0, f"chain, {name}", f"the stack was {sorted(seen)} frames deep")
        if max(seen, default=0) > 600:
            trials.check(0, f"chain, {name}", f"the stack was {max(seen)} frames deep")


KINDS: tuple[Callable[[Trials], None], ...] = (
    audit,
    sigkill,
    many,
    leaks,
    single_cancels,
    chain,
)
