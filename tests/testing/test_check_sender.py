"""The contract of senders: a socket keeps it, Trio's own streams do not, and each wrong one is refused by name.

Modules: testing._contract.
"""

from __future__ import annotations

import socket as stdlib_socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock

from trio_send import Socket, SocketError, SocketException
from trio_send.testing import ContractError, check_sender
from trio_send.testing._check_sender import RULES, Sender

Receive = Callable[[], Awaitable[bytes]]


class Makers:
    """Makes pairs of sockets, the second one of Trio's own, and closes the second ones in the end."""

    def __init__(self) -> None:
        self.peers: list[stdlib_socket.socket] = []

    def pair(self) -> tuple[stdlib_socket.socket, Receive]:
        first, second = stdlib_socket.socketpair()
        for end in (first, second):
            end.setblocking(False)
        self.peers.append(second)
        peer = trio.socket.from_stdlib_socket(second)
        return first, lambda: peer.recv(65536)

    def clogged_pair(self) -> tuple[stdlib_socket.socket, Receive]:
        first, receive = self.pair()
        for size in (4096, 1):
            with suppress(BlockingIOError):
                while True:
                    first.send(bytes(size))
        return first, receive


@pytest.fixture
def makers() -> Iterator[Makers]:
    makers = Makers()
    yield makers
    for peer in makers.peers:
        peer.close()


async def test_a_socket_keeps_it(makers: Makers) -> None:
    async def make() -> tuple[Socket, Receive]:
        sock, receive = makers.pair()
        return Socket.from_stdlib(sock), receive

    async def make_clogged() -> tuple[Socket, Receive]:
        sock, receive = makers.clogged_pair()
        return Socket.from_stdlib(sock), receive

    await check_sender(make, make_clogged)


class OfTrio:
    """Trio's own stream as it would be if it returned a count."""

    def __init__(self, sock: stdlib_socket.socket) -> None:
        self.stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self.lock = trio.StrictFIFOLock()

    async def send(self, data: bytes | bytearray, /) -> int:
        async with self.lock:
            await self.stream.send_all(data)
        return len(data)

    def close(self) -> None:
        self.stream.socket.close()


async def test_control_send_all(makers: Makers) -> None:
    async def make() -> tuple[OfTrio, Receive]:
        sock, receive = makers.pair()
        sock.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 1 << 16)
        return OfTrio(sock), receive

    async def make_clogged() -> tuple[OfTrio, Receive]:
        sock, receive = makers.clogged_pair()
        return OfTrio(sock), receive

    with pytest.raises(ContractError) as caught:
        await check_sender(make, make_clogged)
    assert caught.value.rule == "torn_streams_are_loud"
    assert "the next message stands behind the one that was cut" in str(caught.value)


# Wrong ones -------------------------------------------------------------------------------------


class Good:
    """A sender into memory of which each wrong one has one thing different; it has room for 1000 bytes."""

    def __init__(self, clogged: bool) -> None:
        self.data = bytearray(1000 if clogged else 0)
        self.lock = trio.StrictFIFOLock()
        self.moved = trio.lowlevel.ParkingLot()
        self.is_closed = False
        self.is_torn = False

    async def send(self, data: bytes | bytearray, /) -> int:
        await trio.lowlevel.checkpoint()
        async with self.lock:
            return await self.send_whole(bytes(data))

    def require_usable(self, count: int) -> None:
        if self.is_closed:
            raise SocketException(SocketError.OPERATION_ABORTED, bytes_transferred=count)

    async def send_whole(self, data: bytes) -> int:
        count = 0
        self.require_usable(0)
        if self.is_torn:
            raise SocketException(SocketError.CONNECTION_ABORTED)
        try:
            while count < len(data):
                self.require_usable(count)
                took = data[count : count + 1000 - len(self.data)]
                self.data += took
                count += len(took)
                if took:
                    self.moved.unpark_all()
                if count < len(data):
                    await self.moved.park()
        finally:
            self.is_torn = 0 < count < len(data)
        return count

    def close(self) -> None:
        self.is_closed = True
        self.moved.unpark_all()

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        while not self.data:
            if self.is_closed:
                return b""
            await self.moved.park()
        # Not more than a little at a time is on its way.
        data = bytes(self.data[:1000])
        self.data.clear()
        self.moved.unpark_all()
        return data


async def check(cls: type[Good]) -> None:
    async def make() -> tuple[Sender, Receive]:
        await trio.lowlevel.checkpoint()
        sender = cls(clogged=False)
        return sender, sender.receive

    async def make_clogged() -> tuple[Sender, Receive]:
        await trio.lowlevel.checkpoint()
        sender = cls(clogged=True)
        return sender, sender.receive

    await check_sender(make, make_clogged)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the large message take a moment only, in which memory is no slower than a kernel."""
    from trio_send.testing import _check_sender

    monkeypatch.setattr(_check_sender, "LARGE", _check_sender.LARGE[:20_000])


@pytest.mark.usefixtures("short")
async def test_the_good_one(autojump_clock: MockClock) -> None:
    await check(Good)


WRONG: dict[type[Good], str] = {}


def wrong(rule: str) -> Callable[[type[Good]], type[Good]]:
    def note(cls: type[Good]) -> type[Good]:
        WRONG[cls] = rule
        return cls

    return note


@wrong("counts_are_exact")
class SaysNothing(Good):
    async def send_whole(self, data: bytes) -> int:
        await super().send_whole(data)
        return None  # type: ignore[return-value]


@wrong("counts_are_exact")
class SendsAPart(Good):
    async def send_whole(self, data: bytes) -> int:
        return await super().send_whole(data[:100])


@wrong("sending_is_a_checkpoint")
class DoesNotCheckpoint(Good):
    async def send(self, data: bytes | bytearray, /) -> int:
        if not data:
            return 0
        return await super().send(data)


@wrong("a_send_that_never_began_has_sent_nothing")
class SendsFirst(Good):
    async def send(self, data: bytes | bytearray, /) -> int:
        if len(self.data) + len(data) <= 1000:
            self.data += data
            await trio.lowlevel.checkpoint()
            return len(data)
        return await super().send(data)


@wrong("buffers_are_free")
class KeepsBuffers(Good):
    async def send(self, data: bytes | bytearray, /) -> int:
        self.kept = memoryview(data)
        return await super().send(data)


@wrong("buffers_are_free")
class KeepsBuffersThatWereCut(Good):
    async def send(self, data: bytes | bytearray, /) -> int:
        try:
            return await super().send(data)
        except trio.Cancelled:
            self.kept = memoryview(data)
            raise


@wrong("order_is_kept")
class MixesMessages(Good):
    async def send(self, data: bytes | bytearray, /) -> int:
        await trio.lowlevel.checkpoint()
        return await self.send_whole(bytes(data))


@wrong("stops_are_prompt")
class GoesOn(Good):
    async def send_whole(self, data: bytes) -> int:
        over = trio.Event()

        async def send() -> None:
            with suppress(SocketException):
                await Good.send_whole(self, data)
            over.set()

        trio.lowlevel.spawn_system_task(send)
        await over.wait()
        return len(data)


@wrong("torn_streams_are_loud")
class WritesBehind(Good):
    async def send_whole(self, data: bytes) -> int:
        self.is_torn = False
        return await super().send_whole(data)


@wrong("torn_streams_are_loud")
class LosesWhatComesThen(Good):
    async def send_whole(self, data: bytes) -> int:
        if self.is_torn:
            return len(data)
        return await super().send_whole(data)


@wrong("errors_tell_the_count")
class TellsNoCount(Good):
    def require_usable(self, count: int) -> None:
        if self.is_closed:
            raise trio.ClosedResourceError


@wrong("errors_tell_the_count")
class TellsAnotherCount(Good):
    def require_usable(self, count: int) -> None:
        super().require_usable(0)


@wrong("errors_tell_the_count")
class IsNotWoken(Good):
    def close(self) -> None:
        self.is_closed = True


@wrong("close_is_final")
class StaysOpen(Good):
    async def send_whole(self, data: bytes) -> int:
        if self.is_closed and data == b"a":
            return 1
        return await super().send_whole(data)


@wrong("close_is_final")
class ClosesOnce(Good):
    def close(self) -> None:
        if self.is_closed:
            raise RuntimeError("closed already")
        super().close()


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("cls", WRONG, ids=lambda cls: cls.__name__)
async def test_a_wrong_sender_is_refused_by_name(
    cls: type[Good], autojump_clock: MockClock
) -> None:
    with pytest.raises(ContractError) as caught:
        await check(cls)
    assert caught.value.rule == WRONG[cls]


def test_there_is_a_wrong_sender_for_each_sentence() -> None:
    assert set(WRONG.values()) == {rule.__name__ for rule in RULES}
