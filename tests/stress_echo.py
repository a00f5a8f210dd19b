"""Trials of the pooled echo server in ``examples/``, as a crowd of clients has it.

`tests.stress` registers it. The server is a process of its own, started as a reader of the example starts it; its
clients are Trio's own streams, so the library has no hand in what is compared. Nothing here is imported from
`tests.stress`, for that may run as ``__main__``.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket as stdlib_socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from tests.stress import Trials

SERVER = Path(__file__).parent.parent / "examples" / "pooled_echo_server.py"

#: Where all messages come from: no two pieces of it look alike.
POOL = random.Random(2).randbytes(1 << 20)

#: Longer than the server's buffer, which has to take such a message in pieces.
LONGEST = 20_000

#: Descriptors that a process has besides its connections, generously.
OTHER_DESCRIPTORS = 100

#: Connections that are made at the same time. They all stay; but where few may wait to be accepted, the kernel makes
#: those that are too many try again a second later.
AT_ONCE = 50

LINGER_FOR_NO_TIME = struct.pack("ii", 1, 0)


@contextlib.contextmanager
def room_for(connections: int) -> Iterator[int]:
    """Let this process and its children have so many connections each, or as many as they may; give that number."""
    import resource

    soft, hard = limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        yield connections
        return
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        wanted = soft  # macOS has yet another limit, which it tells in no other way
    try:
        yield min(connections, wanted - OTHER_DESCRIPTORS)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def a_message(rng: random.Random) -> bytes:
    """A piece of the pool, more often short than long."""
    size = int(LONGEST ** rng.random())
    start = rng.randrange(len(POOL) - size)
    return POOL[start : start + size]


class Crowd:
    """Clients of one server, and what they have found.

    Attributes:
      sent: how many bytes were offered to the server.
      returned: how many of them came back.
    """

    def __init__(self, trials: Trials, port: int) -> None:
        self.trials = trials
        self.port = port
        self.sent = self.returned = 0
        self.places = trio.Semaphore(AT_ONCE)

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def echo(self, stream: trio.SocketStream, message: bytes) -> str | None:
        """Send a message and read as much; say what was wrong."""
        received = bytearray()
        async with trio.open_nursery() as nursery:
            self.sent += len(message)
            nursery.start_soon(stream.send_all, message)
            while len(received) < len(message):
                piece = await stream.receive_some(len(message) - len(received))
                if not piece:
                    return f"the stream ended after {len(received)} of {len(message)} bytes"
                received += piece
                self.returned += len(piece)
        return None if received == message else f"{len(message)} bytes came back as others"

    async def leave(self, stream: trio.SocketStream, rng: random.Random, how: str) -> str | None:
        """Go in one of three ways; say what was wrong."""
        if how == "finished":
            await stream.send_eof()
            rest = await stream.receive_some(1)
            await stream.aclose()
            return "something came that nobody had sent" if rest else None
        message = a_message(rng) + b"."
        self.sent += len(message)
        await stream.send_all(message)
        if how == "reset":
            stream.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, LINGER_FOR_NO_TIME)
        else:
            await stream.receive_some(rng.randrange(1, 1 + len(message)))
        stream.socket.close()
        return None

    async def visit(self, number: int, rng: random.Random, meeting: Meeting) -> None:
        """Be one client: come, meet the others, talk, and leave somehow."""
        async with self.places:
            stream = await self.connect()
            complaint = await self.echo(stream, a_message(rng))
        await meeting.meet()
        for _ in range(rng.randrange(1, 6)):
            complaint = complaint or await self.echo(stream, a_message(rng))
        how = rng.choice(("finished", "finished", "finished", "left in the middle", "reset"))
        complaint = complaint or await self.leave(stream, rng, how)
        self.trials.happened[how] += 1
        self.trials.check(number, how, complaint)

    async def visit_again(
        self, number: int, rng: random.Random, meeting: Meeting, stopped: trio.Event
    ) -> None:
        """Be a client of the second wave: half of them are still there when the server stops."""
        async with self.places:
            stream = await self.connect()
            complaint = await self.echo(stream, a_message(rng))
        await meeting.meet()
        if rng.random() < 0.5:
            complaint = complaint or await self.leave(stream, rng, "finished")
        else:
            await stopped.wait()
            rest = await stream.receive_some(1)
            await stream.aclose()
            if rest:
                complaint = complaint or "something came when the server stopped"
            self.trials.happened["dismissed"] += 1
        self.trials.check(number, "second wave", complaint)


class Meeting:
    """Where so many tasks wait for each other.

    Args:
      size: how many.
    """

    def __init__(self, size: int) -> None:
        self._missing = size
        self.complete = trio.Event()
        self.over = trio.Event()

    async def meet(self) -> None:
        self._missing -= 1
        if not self._missing:
            self.complete.set()
        await self.over.wait()


def descriptors_of(process: subprocess.Popen[str]) -> int | None:
    """How many descriptors a process has, where one can know."""
    try:
        return len(os.listdir(f"/proc/{process.pid}/fd"))
    except FileNotFoundError:
        return None


async def crowd(trials: Trials, size: int, process: subprocess.Popen[str], port: int) -> Crowd:
    """Be all the clients of a server that is there, and stop it."""
    clients = Crowd(trials, port)

    meeting = Meeting(size)
    async with trio.open_nursery() as nursery:
        for number, rng in trials:
            if number - trials.first < size:
                nursery.start_soon(clients.visit, number, rng, meeting)
        # Each has had an answer and none has left: the server has them all at the same time.
        await meeting.complete.wait()
        trials.happened["connected at the same time"] = size
        descriptors = descriptors_of(process)
        meeting.over.set()

    # As many again. If a place, args or a buffer had been lost, the last of these would wait for ever.
    meeting, stopped = Meeting(size), trio.Event()
    async with trio.open_nursery() as nursery:
        for number in range(size):
            rng = random.Random(f"{trials.seed} {number} again")
            nursery.start_soon(clients.visit_again, number, rng, meeting, stopped)
        await meeting.complete.wait()
        # As many connections as before, so whatever else there is has been left behind by the first wave.
        if descriptors is not None:
            now = descriptors_of(process)
            trials.check(
                -1,
                "descriptors",
                None if now == descriptors else f"{descriptors} have become {now}",
            )
            trials.happened["descriptors compared"] += 1
        meeting.over.set()
        process.send_signal(signal.SIGTERM)
        stopped.set()
    return clients


def check_summary(trials: Trials, size: int, clients: Crowd, printed: str) -> None:
    """Compare what the server says that it did with what its clients know."""
    pattern = (
        r"clients served: (\d+), at most (\d+) at once\n"
        r"bytes received: (\d+), sent: (\d+)\n"
        r"args in the pool: (\d+) of (\d+)\n"
    )
    found = re.fullmatch(pattern, printed)
    if found is None:
        trials.check(-1, "summary", f"it printed {printed!r}")
        return
    served, at_once, received, sent, pooled, made = map(int, found.groups())
    for what, is_right in {
        "clients": (served, at_once) == (2 * size, size),
        "args": pooled == made == size,
        # What the server sent to those who had left came back to nobody.
        "bytes": clients.returned <= sent <= received <= clients.sent,
    }.items():
        trials.check(-1, what, None if is_right else f"the server says {printed!r}")


def echo(trials: Trials) -> None:
    """Have as many clients at the same time as there are trials, twice."""
    with room_for(trials.count) as size:
        if size < trials.count:
            print(f"only {size} clients: this process may not have more descriptors")
        with subprocess.Popen(
            [sys.executable, "-W", "error", str(SERVER), "--max-clients", str(size)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            try:
                found = re.match(r"listening on 127\.0\.0\.1:(\d+),", process.stdout.readline())
                if found is None:
                    process.kill()
                    assert process.stderr is not None
                    trials.check(-1, "start", process.stderr.read())
                    return

                async def main() -> Crowd:
                    with trio.fail_after(300):
                        return await crowd(trials, size, process, int(found[1]))

                clients = trio.run(main)
                printed, complaints = process.communicate(timeout=60)
            finally:
                process.kill()
    if complaints or process.returncode:
        trials.check(-1, "end", f"status {process.returncode}, {complaints!r}")
    check_summary(trials, size, clients, printed)
