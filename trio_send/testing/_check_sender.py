"""The contract of what sends on behalf of the calling task, a function for each sentence."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import trio
import trio.testing

from ._contract import check_all, require

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Sender(Protocol):
    """What sends over a stream on behalf of the calling task, as `trio_send.Socket` does."""

    async def send(self, data: bytes | bytearray, /) -> int:
        """Send all, and return how many bytes that were."""

    def close(self) -> object:
        """End what waits, and send nothing more."""


#: Makes a sender, and what receives the next bytes that it has sent.
SenderMaker: TypeAlias = "Callable[[], Awaitable[tuple[Sender, Callable[[], Awaitable[bytes]]]]]"

#: A message that no queue of a system can take as a whole, and that looks like nothing that was sent before.
LARGE: Final = b"<a large message>" + bytes(range(256)) * 65536


class _Peer:
    """Receives what a sender sends.

    Args:
      receive: waits for the next bytes; none, or an error, at the end.
    """

    def __init__(self, receive: Callable[[], Awaitable[bytes]]) -> None:
        self._receive = receive
        self.received = bytearray()

    async def receive(self) -> bool:
        """Receive something; return False at the end."""
        try:
            data = await self._receive()
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            return False
        self.received += data
        return bool(data)

    async def receive_until(self, count: int) -> None:
        """Receive so many bytes in all."""
        while len(self.received) < count:
            require(await self.receive(), f"the end came after {len(self.received)} bytes")

    async def receive_rest(self) -> None:
        """Receive until nothing comes any more, although everybody waits."""
        async with trio.open_nursery() as nursery:
            is_over = False

            async def receive_all() -> None:
                nonlocal is_over
                while await self.receive():
                    pass
                is_over = True

            nursery.start_soon(receive_all)
            before = -1
            while not is_over and before < len(self.received):
                before = len(self.received)
                # Bytes that a system has accepted may take a moment, so nothing of this is about how long.
                await trio.testing.wait_all_tasks_blocked(0.02)
            nursery.cancel_scope.cancel()

    def count_of(self, message: bytes) -> int:
        """How many bytes of a message have come, which must be its first ones, with nothing behind them."""
        start = self.received.find(message[:17])
        if start < 0:
            return 0
        got = self.received[start:]
        require(message.startswith(got), "bytes came that are not the first ones of the message")
        return len(got)


async def _make(maker: SenderMaker) -> tuple[Sender, _Peer]:
    sender, receive = await maker()
    return sender, _Peer(receive)


# The sentences ----------------------------------------------------------------------------------


async def counts_are_exact(maker: SenderMaker, clogged: SenderMaker) -> None:
    """send returns how many bytes it has sent, which are all of them, and the peer gets these."""
    sender, peer = await _make(maker)
    expected = b""
    for message in (b"a", b"bcd", b"", bytes(range(256))):
        count: Any = await sender.send(message)
        require(count == len(message), f"send of {len(message)} bytes returned {count!r}")
        expected += message
        await peer.receive_until(len(expected))
        require(peer.received == expected, f"{bytes(peer.received[-16:])!r} came at the end")


async def sending_is_a_checkpoint(maker: SenderMaker, clogged: SenderMaker) -> None:
    """send is a checkpoint each time, also when nothing makes it wait."""
    sender, _ = await _make(maker)
    for message in (b"a", b""):
        try:
            with trio.testing.assert_checkpoints():
                await sender.send(message)
        except AssertionError:
            require(False, f"send of {len(message)} bytes returned without a checkpoint")


async def a_send_that_never_began_has_sent_nothing(
    maker: SenderMaker, clogged: SenderMaker
) -> None:
    """send in a scope that was cancelled before raises `trio.Cancelled`, and nothing goes out."""
    sender, peer = await _make(maker)
    with trio.CancelScope() as scope:
        scope.cancel()
        await sender.send(b"a")
    require(scope.cancelled_caught, "send returned")
    await sender.send(b"b")
    await peer.receive_until(1)
    require(peer.received == b"b", f"{bytes(peer.received)!r} came, where b'b' was sent behind it")


async def buffers_are_free(maker: SenderMaker, clogged: SenderMaker) -> None:
    """When send has returned, or was cancelled, its buffer belongs to the caller again."""
    sender, _ = await _make(maker)
    buffer = bytearray(b"abc")
    await sender.send(buffer)
    try:
        buffer.append(0)
    except BufferError:
        require(False, "it was still in use when send had returned")
    sender, _ = await _make(clogged)
    buffer = bytearray(LARGE)
    await _cancel_when_it_waits(sender, buffer)
    try:
        buffer.append(0)
    except BufferError:
        require(False, "it was still in use when send was cancelled")


async def _cancel_when_it_waits(sender: Sender, message: bytes | bytearray) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.send, message)
            await trio.testing.wait_all_tasks_blocked(0.02)
            scope.cancel()
    require(scope.cancelled_caught, "send returned, although nobody has received")


async def order_is_kept(maker: SenderMaker, clogged: SenderMaker) -> None:
    """Messages of many tasks go out whole, in the order in which their sends were called."""
    sender, peer = await _make(clogged)
    messages = [bytes([65 + i]) * 70_000 for i in range(5)]
    counts: list[tuple[int, int]] = []

    async def send(i: int) -> None:
        counts.append((i, await sender.send(messages[i])))

    async with trio.open_nursery() as sends:
        for i in range(len(messages)):
            sends.start_soon(send, i)
            await trio.testing.wait_all_tasks_blocked(0.02)
        await peer.receive_rest()
    require(
        sorted(counts) == [(i, len(message)) for i, message in enumerate(messages)],
        f"the sends returned {sorted(counts)}",
    )
    require(
        peer.received.endswith(b"".join(messages)),
        "the messages did not come one after the other",
    )


async def stops_are_prompt(maker: SenderMaker, clogged: SenderMaker) -> None:
    """When send was cancelled, no further byte of its message goes out, though the peer receives."""
    sender, peer = await _make(clogged)
    await _cancel_when_it_waits(sender, LARGE)
    await peer.receive_rest()
    count = peer.count_of(LARGE)
    # What the system holds is behind the peer's back, and the message is larger.
    require(count < len(LARGE), "all of the message came, long after the cancel")


async def torn_streams_are_loud(maker: SenderMaker, clogged: SenderMaker) -> None:
    """When send was cancelled in the middle of a message, the next send raises an error rather than write behind it."""
    sender, peer = await _make(clogged)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.send, LARGE)
            while not peer.count_of(LARGE):
                require(await peer.receive(), "the end came before the message")
            await trio.testing.wait_all_tasks_blocked(0.02)
            scope.cancel()
    error: Exception | None = None
    async with trio.open_nursery() as nursery:

        async def send() -> None:
            nonlocal error
            try:
                await sender.send(b"<another message>")
            except Exception as raised:
                error = raised

        nursery.start_soon(send)
        await peer.receive_rest()
        nursery.cancel_scope.cancel()
    came = b"<another message>" in peer.received
    require(not came, "the next message stands behind the one that was cut")
    require(error is not None, "the next send raised nothing")


async def errors_tell_the_count(maker: SenderMaker, clogged: SenderMaker) -> None:
    """close ends a send that waits with an error, whose bytes_transferred is how many bytes of it were accepted."""
    sender, peer = await _make(clogged)
    error: Exception | None = None

    async def send() -> None:
        nonlocal error
        try:
            await sender.send(LARGE)
        except Exception as raised:
            error = raised

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while not peer.count_of(LARGE):
            require(await peer.receive(), "the end came before the message")
        await trio.testing.wait_all_tasks_blocked(0.02)
        sender.close()
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        left = len(nursery.child_tasks)
        nursery.cancel_scope.cancel()
    require(not left, "send still waited when the sender was closed")
    require(error is not None, "send returned")
    count = getattr(error, "bytes_transferred", None)
    require(isinstance(count, int), f"bytes_transferred of {type(error).__name__} is {count!r}")
    await peer.receive_rest()
    came = peer.count_of(LARGE)
    require(
        came <= count < len(LARGE),  # type: ignore[operator]
        f"bytes_transferred is {count} of {len(LARGE)}, and {came} have come",
    )


async def close_is_final(maker: SenderMaker, clogged: SenderMaker) -> None:
    """After close, send raises an error, and another close does nothing."""
    sender, _ = await _make(maker)
    sender.close()
    is_refused = False
    try:
        await sender.send(b"a")
    except Exception:
        is_refused = True
    require(is_refused, "send returned")
    sender.close()


RULES: Final = (
    counts_are_exact,
    sending_is_a_checkpoint,
    a_send_that_never_began_has_sent_nothing,
    buffers_are_free,
    order_is_kept,
    stops_are_prompt,
    torn_streams_are_loud,
    errors_tell_the_count,
    close_is_final,
)


async def check_sender(maker: SenderMaker, clogged_maker: SenderMaker) -> None:
    """Check that something of your own that sends over a stream keeps what a `Socket` promises.

    It has two methods: ``await sender.send(data)`` sends all of ``data`` and returns how many bytes that were, and
    ``sender.close()`` ends what waits. Each sentence is tried on a sender of its own.

    Args:
      maker: an async function that returns a sender and an async function, which waits for the next bytes that the
        sender has sent, as its peer gets them, and returns ``b""`` or raises an error at the end.
      clogged_maker: the same for a sender whose next send has to wait until its peer receives. All that has been sent
        before comes first.

    Raises:
      ContractError: a sentence is broken; its name is ``rule``.

    **Checkpoints**: always.

    **If cancelled**: `trio.Cancelled`; all senders are closed.

    **Threads**: only from a task of Trio.

    Source: the manner of `trio.testing.check_one_way_stream`; the promises.
    """
    made: list[Sender] = []

    def noting(maker: SenderMaker) -> SenderMaker:
        async def make() -> tuple[Sender, Callable[[], Awaitable[bytes]]]:
            sender, receive = await maker()
            made.append(sender)
            return sender, receive

        return make

    try:
        await check_all(RULES, noting(maker), noting(clogged_maker))
    finally:
        for sender in made:
            with suppress(Exception):  # which is about another sentence
                sender.close()
