"""The pooled echo server of ``examples/``: as a process of its own, and looked at from inside.

Whoever talks to the process is none of ours: the standard library's streams of asyncio, which are always there, and
programs that a machine may have. Inside, a client is Trio's own stream, or a plain socket where the moment matters.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import random
import re
import shutil
import signal
import socket as stdlib_socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests import stress_echo
from tests.helpers import BIG, bytes_of, nothing_to_read, read_exactly, read_to_end, reset
from tests.stress import Trials
from trio_send import Socket, SocketAsyncEventArgs, SocketAsyncOperation

PROGRAM = Path(__file__).parents[2] / "examples" / "pooled_echo_server.py"

needs_signals = pytest.mark.skipif(
    os.name == "nt", reason="the server is stopped by signals, as on Unix"
)


# As a process ---------------------------------------------------------------------------------


@attrs.define
class Process:
    """The server, run by itself.

    Attributes:
      port: where it listens.
      printed: what it printed in the end.
    """

    _process: subprocess.Popen[str]
    port: int
    printed: str = ""

    def stop(self, how: signal.Signals) -> None:
        """Send a signal and wait for the orderly end."""
        self._process.send_signal(how)
        self.printed, complaints = self._process.communicate(timeout=60)
        assert complaints == ""
        assert self._process.returncode == 0


@contextlib.contextmanager
def process(max_clients: int) -> Iterator[Process]:
    with subprocess.Popen(
        [sys.executable, "-W", "error", str(PROGRAM), "--max-clients", str(max_clients)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            assert running.stdout is not None
            line = running.stdout.readline()
            found = re.fullmatch(
                rf"listening on 127\.0\.0\.1:(\d+), clients at once: {max_clients}\n", line
            )
            assert found is not None
            yield Process(running, int(found[1]))
        finally:
            running.kill()


async def exchange(port: int, rounds: int, size: int, seed: int) -> None:
    """Send messages and compare what comes back, as a user of asyncio does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(rounds):
        message = bytes_of(size, seed=1000 * seed + number)
        writer.write(message)
        await writer.drain()
        assert await reader.readexactly(size) == message
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


@needs_signals
@pytest.mark.fact("F284", "F285", "F289", "F295")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_twenty_clients_of_asyncio(how: signal.Signals) -> None:
    """What the fact tells of: 20 clients with 20 rounds of 700 bytes each, and all args are back."""

    async def clients(port: int) -> None:
        await asyncio.gather(*(exchange(port, 20, 700, seed) for seed in range(20)))

    with process(max_clients=20) as server:
        asyncio.run(clients(server.port))
        server.stop(how)
    assert re.fullmatch(
        r"clients served: 20, at most \d+ at once\n"
        r"bytes received: 280000, sent: 280000\n"
        r"args in the pool: 20 of 20\n",
        server.printed,
    )


#: Programs that copy their input to a connection, and what comes back to their output, until the other side closes.
PROGRAMS = {
    "socat": ("socat", "-t60", "-", "TCP4:127.0.0.1:{port}"),
    "ncat": ("ncat", "127.0.0.1", "{port}"),
    "busybox": ("busybox", "nc", "127.0.0.1", "{port}"),
}


@needs_signals
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_that_others_wrote(name: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"this machine has no {name}")
    message = bytes_of(300_000, seed=3)
    with process(max_clients=1) as server:
        command = [part.format(port=server.port) for part in PROGRAMS[name]]
        done = subprocess.run(command, input=message, capture_output=True, timeout=60, check=True)
        assert done.stdout == message
        server.stop(signal.SIGTERM)
    assert server.printed == (
        "clients served: 1, at most 1 at once\n"
        "bytes received: 300000, sent: 300000\n"
        "args in the pool: 1 of 1\n"
    )


@needs_signals
@pytest.mark.fact("F293", "F295")
def test_a_thousand_clients(capsys: pytest.CaptureFixture[str]) -> None:
    """All connected at the same time, some that leave in the middle and some that reset; then a thousand more."""
    trials = Trials(1000)
    stress_echo.echo(trials)
    if not capsys.readouterr().out:  # which says why, if there were fewer
        assert trials.happened["connected at the same time"] == 1000
    assert trials.mismatches == []
    for what in ("finished", "left in the middle", "reset", "dismissed"):
        assert trials.happened[what] > 0


# Looked at from inside ------------------------------------------------------------------------


@pytest.fixture
def module() -> ModuleType:
    """The program as a module of its own, whose constants a test may change."""
    spec = importlib.util.spec_from_file_location("pooled_echo_server", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@attrs.define
class Running:
    """A server in this very process."""

    server: Any
    port: int

    def client(self) -> stdlib_socket.socket:
        """Connect a plain socket. The kernel answers, whether or not the server gets to run."""
        client = stdlib_socket.create_connection(("127.0.0.1", self.port))
        client.setblocking(False)
        return client


@contextlib.asynccontextmanager
async def serving(server: Any, *, tiny: bool = False) -> AsyncIterator[Running]:
    """Have a server serve until the body is over, and then check that it has lost nothing."""
    everything = {id(args) for args in server.pool._args.values()}
    listener = Socket()
    listener.bind(("127.0.0.1", 0))
    if tiny:  # what is accepted inherits it
        listener.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 1)
    listener.listen()
    running = Running(server, listener.local_end_point[1])
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, listener)
            yield running
            server.stop()
    assert {id(args) for args in server.pool._args.values()} == everything
    assert len(everything) == server.max_clients
    assert server.connected == 0
    assert server.places.value == server.max_clients
    assert all(args.user_token.socket is None for args in server.pool._args.values())
    assert listener.fileno() == -1


@pytest.mark.fact("F284", "F285", "F286", "F287")
def test_everything_is_made_before_the_first_client(module: ModuleType) -> None:
    server = module.EchoServer(7)
    assert server.pool.count == 7
    assert server.buffers.available == 0
    everything = list(server.pool._args.values())
    assert len({id(args.user_token) for args in everything}) == 7
    assert {args.count for args in everything} == {module.BUFFER_SIZE}
    assert sorted(args.offset for args in everything) == [4096 * n for n in range(7)]
    assert len({id(args.buffer) for args in everything}) == 1
    assert {len(args.completed) for args in everything} == {1}


@pytest.mark.fact("F286")
def test_any_other_operation_is_an_error(module: ModuleType) -> None:
    server = module.EchoServer(1)
    with pytest.raises(ValueError, match=r"^the last operation was NONE, not RECEIVE or SEND$"):
        server.on_completed(None, SocketAsyncEventArgs())


@pytest.mark.fact("F287", "F288", "F289", "F292")
async def test_one_args_object_serves_one_client_after_the_other(module: ModuleType) -> None:
    server = module.EchoServer(1)
    (args,) = server.pool._args.values()
    token = args.user_token
    sockets = []
    async with serving(server) as running:
        for number in range(3):
            with running.client() as client:
                client.send(b"hello")
                assert await read_exactly(client, 5) == b"hello"
                assert args.user_token is token
                sockets.append(token.socket)
                assert sockets[-1].remote_end_point == client.getsockname()
                if number == 1:
                    reset(client)
                else:
                    client.shutdown(stdlib_socket.SHUT_WR)
                    assert await read_to_end(client) == b""
    assert len(set(map(id, sockets))) == 3
    assert [socket.fileno() for socket in sockets] == [-1, -1, -1]
    assert server.served == 3
    assert server.most_connected == 1


@pytest.mark.fact("F290")
async def test_a_short_message_does_not_shorten_the_next(module: ModuleType) -> None:
    """The classic server would receive these 4096 bytes in pieces of 3."""
    server = module.EchoServer(1)
    received = []

    def process_receive(args: SocketAsyncEventArgs) -> bool:
        received.append(args.bytes_transferred)
        return bool(module.EchoServer.process_receive(server, args))

    server.process_receive = process_receive
    async with serving(server) as running:
        with running.client() as client:
            for size in (3, 4096):
                message = bytes_of(size, seed=size)
                assert client.send(message) == size
                assert await read_exactly(client, size) == message
            client.shutdown(stdlib_socket.SHUT_WR)
            assert await read_to_end(client) == b""
    assert received == [3, 4096, 0]


@pytest.mark.fact("F135", "F291")
async def test_what_ends_on_the_spot_is_taken_in_a_loop_and_in_turns(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client with much to say keeps the stack flat, and does not keep another one waiting until it has finished."""
    monkeypatch.setattr(module, "BUFFER_SIZE", 8)
    server = module.EchoServer(2)
    log: list[tuple[int, int]] = []  # whose result was processed, and how deep in the stack

    def process(args: SocketAsyncEventArgs) -> bool:
        depth, frame = 0, sys._getframe()
        while frame.f_back is not None:
            depth, frame = depth + 1, frame.f_back
        log.append((id(args), depth))
        return bool(module.EchoServer.process(server, args))

    server.process = process
    message = bytes_of(8000, seed=8)
    async with serving(server) as running:
        with running.client() as talker, running.client() as other:
            await wait_all_tasks_blocked()
            assert server.connected == 2
            assert talker.send(message) == len(message)
            assert other.send(b"and I?") == 6
            assert await read_exactly(talker, len(message)) == message
            assert await read_exactly(other, 6) == b"and I?"
    assert len(log) > 2000
    # However it was called: from the accept, by the dispatcher, or again by the loop.
    assert len({depth for _, depth in log}) <= 2
    of_the_other = next(n for n, (who, _) in enumerate(log) if who != log[0][0])
    assert of_the_other < 600


@pytest.mark.fact("F293")
async def test_who_finds_no_place_waits_for_one(module: ModuleType) -> None:
    server = module.EchoServer(2)
    async with serving(server) as running:
        clients = [running.client() for _ in range(4)]
        for client in clients:
            client.send(b"hello")
        await wait_all_tasks_blocked()
        assert (server.connected, server.served, server.pool.count) == (2, 2, 0)
        for client in clients[:2]:
            assert await read_exactly(client, 5) == b"hello"
        assert all(map(nothing_to_read, clients[2:]))
        clients[0].close()
        assert await read_exactly(clients[2], 5) == b"hello"
        await wait_all_tasks_blocked()
        assert nothing_to_read(clients[3])
        reset(clients[1])
        assert await read_exactly(clients[3], 5) == b"hello"
        for client in clients:
            client.close()
        await wait_all_tasks_blocked()
        assert server.pool.count == 2
    assert (server.served, server.most_connected) == (4, 2)
    assert (server.bytes_received, server.bytes_sent) == (20, 20)


@pytest.mark.fact("F292")
async def test_who_is_there_when_the_server_stops_is_told_goodbye(module: ModuleType) -> None:
    """One that says nothing, and one for whom there was no place."""
    server = module.EchoServer(1)
    async with serving(server) as running:
        client, waiting = running.client(), running.client()
        await wait_all_tasks_blocked()
        assert server.connected == 1
        server.stop()
        assert await read_to_end(client) == b""
        with pytest.raises(ConnectionResetError):
            await read_to_end(waiting)
        client.close()
        waiting.close()
    assert server.served == 1


async def test_a_place_that_becomes_free_as_the_server_stops(module: ModuleType) -> None:
    """Whoever waited for it accepts nobody any more, and the listener may be closed already."""
    for _ in range(10):  # for the order of tasks that go on at the same time is anybody's guess
        server = module.EchoServer(1)

        def close_client(args: SocketAsyncEventArgs, server: Any = server) -> None:
            module.EchoServer.close_client(server, args)
            server.stop()

        server.close_client = close_client
        async with serving(server) as running:
            # So that it is a handler, and not the first call, that waits.
            await wait_all_tasks_blocked()
            with running.client():
                await wait_all_tasks_blocked()
                assert server.connected == 1
            await wait_all_tasks_blocked()
            assert server.stopping
        assert server.served == 1


async def test_a_client_that_comes_as_the_server_stops(module: ModuleType) -> None:
    """It is told goodbye, and no receive is started that would last for the time of grace."""
    module.GRACE = 600
    for _ in range(10):  # again for the order of tasks
        server = module.EchoServer(1)
        server.accept_args.completed -= server.on_accepted
        server.accept_args.completed += lambda *_, server=server: server.stop()
        server.accept_args.completed += server.on_accepted
        async with serving(server) as running:
            await wait_all_tasks_blocked()
            with running.client() as client:
                assert await read_to_end(client) == b""
        assert server.served == 1


#: Arrives at once, and does not fit into tiny buffers on its way back.
ECHO = BIG[:40_000]


@contextlib.asynccontextmanager
async def half_an_echo(module: ModuleType) -> AsyncIterator[tuple[Any, stdlib_socket.socket]]:
    """A server whose only client has been sent some of its echo, and has yet to read it."""
    module.BUFFER_SIZE = len(ECHO)
    server = module.EchoServer(1)
    (args,) = server.pool._args.values()
    async with serving(server, tiny=True) as running:
        with stdlib_socket.socket() as client:
            client.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_RCVBUF, 1)
            client.connect(("127.0.0.1", running.port))
            client.setblocking(False)
            assert client.send(ECHO) == len(ECHO)
            await wait_all_tasks_blocked()
            assert args.pending
            assert args.last_operation is SocketAsyncOperation.SEND
            assert 0 < args.bytes_transferred < args.count == len(ECHO)
            yield server, client
    assert not args.pending


async def test_an_echo_that_has_begun_is_finished(module: ModuleType) -> None:
    """The server stops while a send waits for its client; who reads on gets all of it, and a clean end, at once."""
    module.GRACE = 600
    async with half_an_echo(module) as (server, client):
        server.stop()
        assert await read_to_end(client) == ECHO
    assert server.bytes_sent == server.bytes_received == len(ECHO)


async def test_who_does_not_read_on_is_cut_off(module: ModuleType) -> None:
    """When the grace is over, the rest of an echo is given up: with a reset, so that nobody takes it for all."""
    module.GRACE = 0
    async with half_an_echo(module) as (server, client):
        server.stop()
        await wait_all_tasks_blocked()
        assert server.connected == 0
        with pytest.raises(ConnectionResetError):
            await read_to_end(client)
    assert server.bytes_received == len(ECHO)
    assert 0 < server.bytes_sent < len(ECHO)


@pytest.mark.skipif(os.name == "nt", reason="descriptors are limited on Unix")
async def test_a_server_without_descriptors_goes_on_later(
    module: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    import resource

    server = module.EchoServer(2)
    async with serving(server) as running:
        await wait_all_tasks_blocked()
        with running.client() as client:
            client.send(b"hello")
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            free = os.dup(0)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
            try:
                await wait_all_tasks_blocked()
                assert server.connected == 0
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            printed = capsys.readouterr().err
            assert set(printed.splitlines()) == {"accept failed: TOO_MANY_OPEN_SOCKETS"}
            assert await read_exactly(client, 5) == b"hello"
    assert server.served == 1


async def test_any_mix_of_clients(module: ModuleType) -> None:
    """More clients than places, at random, and no byte of one that another gets."""
    server = module.EchoServer(5)

    async def visit(number: int, running: Running) -> None:
        rng = random.Random(number)
        with running.client() as client:
            for _ in range(rng.randrange(4)):
                message = rng.randbytes(rng.choice((1, 100, 4096, 4097, 9000)))
                assert client.send(message) == len(message)
                assert await read_exactly(client, len(message)) == message
            if rng.random() < 0.3:
                client.send(b"never read")
                reset(client)

    async with serving(server) as running:
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(visit, number, running)
        await wait_all_tasks_blocked()
    assert server.served == 40
