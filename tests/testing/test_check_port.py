"""The contract of ports: that of the kernel and a scripted one keep it, and each wrong one is refused by name.

Modules: _kernel.port, abc, testing._contract, testing._readiness.
"""

from __future__ import annotations

import errno
import os
import socket as stdlib_socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock
from typing_extensions import Buffer

from trio_send._kernel.port import KernelPort
from trio_send.abc import Port
from trio_send.testing import Blocked, ContractError, ScriptedPort, check_port
from trio_send.testing._check_port import RULES

Receive = Callable[[], Awaitable[bytes]]


def pair(kind: int) -> tuple[stdlib_socket.socket, stdlib_socket.socket]:
    first, second = stdlib_socket.socketpair(type=kind)
    for end in (first, second):
        end.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 4096)
        end.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_RCVBUF, 4096)
    return first, second


@pytest.mark.parametrize(
    "kind",
    [
        stdlib_socket.SOCK_STREAM,
        pytest.param(
            stdlib_socket.SOCK_DGRAM,
            marks=pytest.mark.skipif(os.name == "nt", reason="there are no such pairs"),
        ),
    ],
)
async def test_the_port_of_the_kernel(kind: int) -> None:
    peers: list[trio.socket.SocketType] = []

    async def make() -> tuple[Port, Receive]:
        first, second = pair(kind)
        second.setblocking(False)
        peers.append(trio.socket.from_stdlib_socket(second))
        return KernelPort(first), lambda: peers[-1].recv(65536)

    await check_port(make)
    for peer in peers:
        peer.close()


async def test_a_tcp_connection() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    peers: list[trio.abc.AsyncResource] = [listener]

    async def make() -> tuple[Port, Receive]:
        client = stdlib_socket.create_connection(listener.socket.getsockname()[:2])
        peer = await listener.accept()
        peers.append(peer)
        return KernelPort(client), lambda: peer.receive_some()

    await check_port(make)
    for peer in peers:
        await peer.aclose()


def scripted(**arguments: Any) -> Callable[[], Awaitable[tuple[Port, Receive]]]:
    """Makes ports that are full with 2000 bytes, until these were received."""

    async def make() -> tuple[Port, Receive]:
        def script(data: bytes) -> int | Blocked:
            room = 2000 - len(port.accepted) + received
            if room <= 0 or (len(data) > room and not port.is_stream):
                return Blocked()
            return room

        port = ScriptedPort(script, **arguments)
        received = messages = 0

        async def receive() -> bytes:
            nonlocal received, messages
            await trio.lowlevel.checkpoint()
            data = bytes(port.accepted[received:])
            if not port.is_stream:
                data = port.messages[messages]
                messages += 1
            received += len(data)
            port.unblock()
            return data

        return port, receive

    return make


@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize("more", [{}, {"descriptor": True}, {"incoming": [Blocked()]}])
async def test_scripted_ports(is_stream: bool, more: dict[str, Any]) -> None:
    await check_port(scripted(is_stream=is_stream, **more))


async def test_a_port_that_takes_everything() -> None:
    async def make() -> tuple[Port, Receive]:
        port = ScriptedPort()

        async def receive() -> bytes:
            await trio.lowlevel.checkpoint()
            data = bytes(port.accepted)
            port.accepted.clear()
            return data

        return port, receive

    await check_port(make)


# Wrong ones -------------------------------------------------------------------------------------


class Good(Port):
    """A stream of which each wrong port has one thing different; it has room for 100 bytes."""

    is_stream = True

    def __init__(self) -> None:
        self.data = bytearray()
        self.closed = False
        self.lot = trio.lowlevel.ParkingLot()

    def take(self, data: bytes) -> int:
        if self.closed:
            raise OSError(errno.EBADF, "closed")
        room = 100 - len(self.data)
        if room <= 0 and data:
            raise BlockingIOError
        self.data += data[:room]
        return len(data[:room])

    def send(self, buffer: Buffer, flags: int, /) -> int:
        return self.take(bytes(buffer))

    def send_gather(self, views: Sequence[Buffer], flags: int, /) -> int:
        return self.take(b"".join(views))

    def send_to(self, buffer: Buffer, flags: int, address: Any, /) -> int:
        return self.take(bytes(buffer))

    def fileno(self) -> int:
        return -1

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()
        while len(self.data) >= 100 and not self.closed:
            await self.lot.park()

    async def wait_readable(self) -> None:
        await trio.sleep_forever()

    def close(self, *, reset: bool) -> None:
        self.closed = True
        self.lot.unpark_all()

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        data = bytes(self.data)
        self.data.clear()
        self.lot.unpark_all()
        return data


def maker(cls: type[Good]) -> Callable[[], Awaitable[tuple[Port, Receive]]]:
    async def make() -> tuple[Port, Receive]:
        await trio.lowlevel.checkpoint()
        port = cls()
        return port, port.receive

    return make


async def test_the_good_one() -> None:
    await check_port(maker(Good))


WRONG: dict[type[Good], str] = {}


def wrong(rule: str) -> Callable[[type[Good]], type[Good]]:
    def note(cls: type[Good]) -> type[Good]:
        WRONG[cls] = rule
        return cls

    return note


@wrong("a_port_says_what_it_is")
class SaysNothing(Good):
    is_stream = None  # type: ignore[assignment]


@wrong("a_port_says_what_it_is")
class HasNoNumber(Good):
    def fileno(self) -> int:
        return -2


@wrong("counts_are_exact")
class CountsTooMuch(Good):
    def take(self, data: bytes) -> int:
        return super().take(data[:-1]) + 1 if len(data) > 1 else super().take(data)


@wrong("counts_are_exact")
class CountsWhatIsNotThere(Good):
    def take(self, data: bytes) -> int:
        return super().take(data) + 1


@wrong("counts_are_exact")
class SendsTheEnd(Good):
    def take(self, data: bytes) -> int:
        return super().take(data[::-1])


@wrong("buffers_go_out_as_one")
class GathersBackwards(Good):
    def send_gather(self, views: Sequence[Buffer], flags: int, /) -> int:
        return self.take(b"".join(reversed(views)))


@wrong("buffers_are_not_kept")
class KeepsBuffers(Good):
    def send(self, buffer: Buffer, flags: int, /) -> int:
        self.kept = memoryview(buffer)
        return super().send(buffer, flags)


@wrong("buffers_are_not_kept")
class KeepsBuffersOfFailures(Good):
    def send(self, buffer: Buffer, flags: int, /) -> int:
        try:
            return super().send(buffer, flags)
        except BlockingIOError:
            self.kept = memoryview(buffer)
            raise


@wrong("buffers_are_not_kept")
class SaysNothingWasTaken(Good):
    """It is full, and says 0, which is what the first sentence that fills a port finds."""

    def take(self, data: bytes) -> int:
        try:
            return super().take(data)
        except BlockingIOError:
            return 0


@wrong("calls_do_not_wait")
class TakesInSecret(Good):
    def take(self, data: bytes) -> int:
        try:
            return super().take(data)
        except BlockingIOError:
            if data == b"y":
                self.data += data
            raise


@wrong("waiting_is_a_checkpoint")
class DoesNotCheckpoint(Good):
    async def wait_writable(self) -> None:
        while len(self.data) >= 100 and not self.closed:
            await self.lot.park()


@wrong("waiting_is_a_checkpoint")
class DoesNotWaitToRead(Good):
    async def wait_readable(self) -> None:
        return


@wrong("waiting_can_be_cancelled")
class SendsWhileItWaits(Good):
    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()
        try:
            await super().wait_writable()
        finally:
            if len(self.data) >= 100:
                self.data += b"!"


@wrong("waiting_ends_when_something_is_taken")
class DoesNotWait(Good):
    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()


@wrong("waiting_ends_when_something_is_taken")
class WaitsForEver(Good):
    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()
        while len(self.data) >= 100 or self.closed:
            await trio.sleep_forever()


class OnDescriptor(Good):
    def __init__(self) -> None:
        super().__init__()
        self.ends = stdlib_socket.socketpair()

    def fileno(self) -> int:
        return self.ends[0].fileno()

    def close(self, *, reset: bool) -> None:
        super().close(reset=reset)
        for end in self.ends:
            end.close()


@wrong("the_descriptor_tells")
class HasAnyDescriptor(OnDescriptor): ...


@wrong("close_wakes_who_waits")
class WakesNobody(Good):
    def close(self, *, reset: bool) -> None:
        self.closed = True


@wrong("close_is_final")
class StaysOpen(Good):
    def close(self, *, reset: bool) -> None:
        super().close(reset=reset)
        self.closed = False

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()
        if len(self.data) >= 100:
            await self.lot.park()


@wrong("close_is_final")
class KeepsItsNumber(Good):
    def fileno(self) -> int:
        return 0 if self.closed else -1


@wrong("close_is_final")
class ClosesOnce(Good):
    def close(self, *, reset: bool) -> None:
        if self.closed:
            raise RuntimeError("closed already")
        super().close(reset=reset)


@wrong("shutdown_is_final")
class ShutsNothing(Good):
    def shutdown(self, how: int, /) -> None: ...


@wrong("receiving_does_not_wait")
class ReceivesNothing(Good):
    def receive_into(self, views: Sequence[memoryview], flags: int, /) -> int:
        return 0

    async def wait_readable(self) -> None:
        await trio.lowlevel.checkpoint()
        while not self.closed:
            await self.lot.park()


@pytest.mark.parametrize("cls", WRONG, ids=lambda cls: cls.__name__)
async def test_a_wrong_port_is_refused_by_name(cls: type[Good], autojump_clock: MockClock) -> None:
    if WRONG[cls] == "the_descriptor_tells" and sys.platform == "win32":
        pytest.skip("a pipe cannot be looked at there")
    with pytest.raises(ContractError) as caught:
        await check_port(maker(cls))
    error = caught.value
    assert error.rule == WRONG[cls]
    assert str(error).startswith(f"{error.rule}: {error.sentence} But {error.details}")


def test_there_is_a_wrong_port_for_each_sentence() -> None:
    assert set(WRONG.values()) == {rule.__name__ for rule in RULES}
