"""What Trio's own tests ask of `trio.open_tcp_stream` and `trio.serve_listeners`, asked of what stands for them here.

The races are written down: when each address answers, and how. Trio's clock jumps, so every time is exact.
"""

from __future__ import annotations

import errno
import gc
import math
import socket as stdlib_socket
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_send
from tests.connections import Resolver, open_sockets
from tests.helpers import needs_ipv6
from trio_send import Socket, SocketError, SocketException, SocketListener, connect_tcp

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup

PORT = 80
NAME = "test.example"

Target = tuple[str, float, str]


# The races ----------------------------------------------------------------------------------------


@attrs.define
class Race:
    """Addresses that answer after some seconds: "yes", "no", or yes "with the others".

    Attributes:
      began: when the connect to each address began, in the order in which they did.
      sockets: the socket of each attempt.
    """

    targets: list[Target]
    monkeypatch: pytest.MonkeyPatch
    missing: tuple[int, ...] = ()
    began: dict[str, float] = attrs.field(factory=dict)
    sockets: dict[str, Socket] = attrs.field(factory=dict)
    together: trio.Event = attrs.field(factory=trio.Event)

    def set_up(self) -> None:
        answers = {host: (delay, answer) for host, delay, answer in self.targets}
        resolver = Resolver([])
        resolver.entries = [
            (stdlib_socket.AF_INET6, stdlib_socket.SOCK_STREAM, 6, "", (host, PORT, 0, 0))
            if ":" in host
            else (stdlib_socket.AF_INET, stdlib_socket.SOCK_STREAM, 6, "", (host, PORT))
            for host, _, _ in self.targets
        ]
        # A resolver without entries answers with what it was given instead, which is nothing.
        real_init = Socket.__init__

        def make(socket: Socket, family: int = 0, *args: Any, **options: Any) -> None:
            if family in self.missing:
                raise SocketException(SocketError.ADDRESS_FAMILY_NOT_SUPPORTED)
            real_init(socket, family, *args, **options)

        async def connect(socket: Socket, address: Any) -> None:
            host = address[0]
            assert host not in self.sockets
            self.sockets[host] = socket
            self.began[host] = trio.current_time()
            delay, answer = answers[host]
            if answer == "with the others":
                # A sleeping task would still hear of the cancel that the first one brings about.
                await self.together.wait()
            else:
                await trio.sleep(delay)
            if answer == "no":
                raise SocketException(SocketError.CONNECTION_REFUSED)

        self.monkeypatch.setattr(Socket, "__init__", make)
        self.monkeypatch.setattr(Socket, "connect", connect)

    async def run(self, **options: Any) -> str:
        """Connect; return the address that was connected, and see that nothing else is left."""
        socket = await connect_tcp(NAME, PORT, **options)
        [winner] = [host for host, each in self.sockets.items() if each is socket]
        assert [each for each in self.sockets.values() if each.fileno() >= 0] == [socket]
        socket.close()
        return winner


@pytest.fixture
def race(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    before = open_sockets()

    def make(*targets: Target, missing: tuple[int, ...] = ()) -> Race:
        made = Race(list(targets), monkeypatch, missing)
        made.set_up()
        return made

    yield make
    gc.collect()  # sockets that could not even be made are no sockets, and lie about in cycles
    assert open_sockets() - before == set()


@pytest.mark.parametrize("delay", [0.125, 100])
async def test_one_address_that_answers(race: Any, autojump_clock: MockClock, delay: float) -> None:
    made = race(("1.2.3.4", delay, "yes"))
    assert await made.run() == "1.2.3.4"
    assert trio.current_time() == delay


@pytest.mark.parametrize("delay", [0.125, 100])
async def test_one_address_that_refuses(race: Any, autojump_clock: MockClock, delay: float) -> None:
    made = race(("1.2.3.4", delay, "no"))
    with pytest.raises(OSError, match=r"connecting to 'test.example'.*1\.2\.3\.4:80"):
        await made.run()
    assert trio.current_time() == delay


@pytest.mark.parametrize(
    ("targets", "options", "winner", "began", "ended"),
    [
        pytest.param(
            [("1.1.1.1", 1, "yes"), ("2.2.2.2", 1, "yes"), ("3.3.3.3", 0.25, "yes")],
            {},
            "3.3.3.3",
            [0, 0.25, 0.5],
            0.75,
            id="slow ones are overtaken, one each quarter of a second",
        ),
        pytest.param(
            [("1.1.1.1", 1, "yes"), ("2.2.2.2", 0.125, "yes"), ("3.3.3.3", 0.125, "yes")],
            {},
            "2.2.2.2",
            [0, 0.25],
            0.375,
            id="nothing more is begun once one has answered",
        ),
        pytest.param(
            [("1.1.1.1", 1, "yes"), ("2.2.2.2", 1, "yes"), ("3.3.3.3", 0.125, "yes")],
            {"happy_eyeballs_delay": 0.375},
            "3.3.3.3",
            [0, 0.375, 0.75],
            0.875,
            id="another delay",
        ),
        pytest.param(
            [("1.1.1.1", 4, "yes"), ("2.2.2.2", 0, "yes")],
            {"happy_eyeballs_delay": None},
            "1.1.1.1",
            [0],
            4,
            id="without a delay the first is waited for",
        ),
        pytest.param(
            [("1.1.1.1", 4, "no"), ("2.2.2.2", 1, "yes")],
            {"happy_eyeballs_delay": None},
            "2.2.2.2",
            [0, 4],
            5,
            id="and its failure is not the end",
        ),
        pytest.param(
            [("1.1.1.1", 4, "yes"), ("2.2.2.2", 0, "yes")],
            {"happy_eyeballs_delay": math.inf},
            "1.1.1.1",
            [0],
            4,
            id="for ever is no delay either",
        ),
        pytest.param(
            [("1.1.1.1", 0.125, "no"), ("2.2.2.2", 1, "yes"), ("3.3.3.3", 0.125, "yes")],
            {},
            "3.3.3.3",
            [0, 0.125, 0.375],
            0.5,
            id="a failure lets the next one begin at once",
        ),
        pytest.param(
            [("1.1.1.1", 0.375, "yes"), ("2.2.2.2", 1, "yes"), ("3.3.3.3", 1, "yes")],
            {},
            "1.1.1.1",
            [0, 0.25],
            0.375,
            id="the first may still be the first",
        ),
    ],
)
async def test_who_is_tried_when(
    race: Any,
    autojump_clock: MockClock,
    targets: list[Target],
    options: dict[str, Any],
    winner: str,
    began: list[float],
    ended: float,
) -> None:
    made = race(*targets)
    assert await made.run(**options) == winner
    hosts = [host for host, _, _ in targets]
    assert list(made.began.items()) == list(zip(hosts, began, strict=False))
    assert trio.current_time() == ended


async def test_all_refuse_and_each_reason_is_told_in_its_order(
    race: Any, autojump_clock: MockClock
) -> None:
    made = race(("1.1.1.1", 1, "no"), ("2.2.2.2", 1, "no"), ("3.3.3.3", 0.125, "no"))
    with pytest.raises(SocketException) as caught:
        await made.run()
    assert caught.value.socket_error_code is SocketError.CONNECTION_REFUSED
    group = caught.value.__cause__
    assert isinstance(group, ExceptionGroup)
    assert [str(each).split("tried ")[1] for each in group.exceptions] == [
        "3.3.3.3:80",
        "1.1.1.1:80",
        "2.2.2.2:80",
    ]
    assert list(made.began.values()) == [0, 0.25, 0.5]
    assert trio.current_time() == 1.25
    assert all(socket.fileno() < 0 for socket in made.sockets.values())


async def test_several_that_answer_at_the_same_moment(race: Any, autojump_clock: MockClock) -> None:
    """One is taken, whichever, and nobody learns of the others."""
    made = race(*[(f"{number}.1.1.1", 0, "with the others") for number in range(1, 4)])

    async def answer() -> None:
        await trio.sleep(0.625)
        made.together.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        assert await made.run() in made.began
    assert len(made.sockets) == 3
    assert trio.current_time() == 0.625


@needs_ipv6
async def test_the_families_take_turns(race: Any, autojump_clock: MockClock) -> None:
    """Trio moves one address to the second place; here they take turns to the end (RFC 8305)."""
    made = race(*[(host, 9, "no") for host in ("1.1.1.1", "2.2.2.2", "3.3.3.3", "::3", "::4")])
    with pytest.raises(SocketException):
        await made.run(happy_eyeballs_delay=1)
    assert list(made.began) == ["1.1.1.1", "::3", "2.2.2.2", "::4", "3.3.3.3"]


@pytest.mark.parametrize(
    ("missing", "winner", "began"),
    [
        pytest.param(stdlib_socket.AF_INET, "::2", {"::2": 0}, id="no IPv4", marks=needs_ipv6),
        pytest.param(stdlib_socket.AF_INET6, "1.1.1.1", {"1.1.1.1": 0}, id="no IPv6"),
    ],
)
async def test_a_machine_with_one_family(
    race: Any, autojump_clock: MockClock, missing: int, winner: str, began: dict[str, float]
) -> None:
    """An attempt that cannot even have a socket has failed, and holds up nobody."""
    made = race(("::2", 1, "yes"), ("1.1.1.1", 1, "yes"), missing=(missing,))
    assert await made.run() == winner
    assert made.began == began
    assert trio.current_time() == 1


async def test_a_name_without_addresses(race: Any, autojump_clock: MockClock) -> None:
    made = race()
    with pytest.raises(SocketException, match="has no address"):
        await made.run()


async def test_a_cancel_gives_all_up(race: Any, autojump_clock: MockClock) -> None:
    made = race(*[(f"{number}.1.1.1", 10, "yes") for number in range(1, 6)])
    with trio.move_on_after(0.625) as scope:
        await made.run()
    assert scope.cancelled_caught
    assert len(made.sockets) == 3
    assert all(socket.fileno() < 0 for socket in made.sockets.values())


# Serving ------------------------------------------------------------------------------------------


async def test_each_connection_of_each_listener_has_its_handler() -> None:
    """And its stream is closed when the handler has returned, and the listeners when the serving is over."""
    listeners = [(await trio_send.open_tcp_listeners(0, host="127.0.0.1"))[0] for _ in range(2)]
    streams: list[trio.abc.HalfCloseableStream] = []

    async def handler(stream: trio.abc.HalfCloseableStream) -> None:
        streams.append(stream)
        await stream.send_all(b"123")
        assert await stream.receive_some() == b"456"

    async def client(listener: SocketListener) -> None:
        async with await connect_tcp(*listener.socket.local_end_point) as socket:
            assert await trio_send.Receiver(socket).receive_exactly(3) == b"123"
            await socket.send(b"456")
            assert await socket.receive() == b""

    async with trio.open_nursery() as nursery:
        started = await nursery.start(partial(trio.serve_listeners, handler, listeners))
        assert started == listeners
        async with trio.open_nursery() as clients:
            for listener in listeners * 3:
                clients.start_soon(client, listener)
        assert len(streams) == 6
        for stream in streams:
            with pytest.raises(trio.ClosedResourceError):
                await stream.send_all(b"x")
        nursery.cancel_scope.cancel()
    for listener in listeners:
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()


async def test_an_unknown_error_ends_the_serving_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    [listener] = await trio_send.open_tcp_listeners(0, host="127.0.0.1")
    error = KeyError()

    async def accept(socket: Socket) -> Socket:
        raise error

    monkeypatch.setattr(Socket, "accept", accept)
    with pytest.raises(BaseExceptionGroup) as caught:
        await trio.serve_listeners(trio.sleep, [listener])
    assert caught.value.exceptions == (error,)


async def test_while_something_is_lacking_it_tries_ten_times_a_second(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    [listener] = await trio_send.open_tcp_listeners(0, host="127.0.0.1")

    async def accept(socket: Socket) -> Socket:
        await trio.lowlevel.checkpoint()
        raise SocketException(SocketError.TOO_MANY_OPEN_SOCKETS, native_error_code=errno.EMFILE)

    monkeypatch.setattr(Socket, "accept", accept)
    with trio.move_on_after(0.95):
        await trio.serve_listeners(trio.sleep, [listener])
    assert len(caplog.records) == 10
    for record in caplog.records:
        assert "retrying" in record.msg
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], SocketException)


async def test_handlers_run_in_the_nursery_that_was_given() -> None:
    [listener] = await trio_send.open_tcp_listeners(0, host="127.0.0.1")

    class Done(Exception):
        pass

    async def watch(task_status: trio.TaskStatus[trio.Nursery]) -> None:
        async with trio.open_nursery() as nursery:
            task_status.started(nursery)
            while len(nursery.child_tasks) < 10:
                await wait_all_tasks_blocked()
            raise Done

    async def handler(stream: trio.abc.HalfCloseableStream) -> None:
        await trio.sleep_forever()

    async def client() -> None:
        async with await connect_tcp(*listener.socket.local_end_point) as socket:
            await socket.receive()

    with pytest.raises(BaseExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            handlers: trio.Nursery = await nursery.start(watch)
            serve = partial(trio.serve_listeners, handler, [listener], handler_nursery=handlers)
            await nursery.start(serve)
            for _ in range(10):
                nursery.start_soon(client)
    assert caught.group_contains(Done)
