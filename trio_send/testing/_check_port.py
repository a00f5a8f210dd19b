"""The contract of `trio_send.abc.Port`, a function for each sentence."""

from __future__ import annotations

import select
import sys
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import trio
import trio.testing

from .._base.codes import SocketShutdown
from ._contract import check_all, require

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .._kernel.port import Port

#: Makes a port, and what receives the next bytes that it has accepted.
PortMaker: TypeAlias = "Callable[[], Awaitable[tuple[Port, Callable[[], Awaitable[bytes]]]]]"

#: What is sent until nothing more is taken.
PIECE: Final = bytes(range(256)) * 16

#: After so many bytes a port is held to take everything.
ENOUGH: Final = 16 * 1024 * 1024


class _Checked:
    """A port that is being checked, and what came out of it.

    Args:
      port: the port.
      receive: waits for the next bytes that it has accepted.
    """

    def __init__(self, port: Port, receive: Callable[[], Awaitable[bytes]]) -> None:
        self.port = port
        self.is_stream = port.is_stream
        self._receive = receive
        self._accepted: deque[bytes] = deque()

    @property
    def is_empty(self) -> bool:
        """Whether all that was accepted has been received."""
        return not self._accepted

    def send(self, data: bytes) -> int:
        """Send, and look at the count."""
        count: Any = self.port.send(data, 0)
        return self._note(data, count, "send")

    def send_gather(self, pieces: list[bytes]) -> int:
        """Send many buffers, and look at the count."""
        return self._note(b"".join(pieces), self.port.send_gather(pieces, 0), "send_gather")

    def _note(self, data: bytes, count: int, name: str) -> int:
        require(
            count in range(len(data) + 1),
            f"{name} of {len(data)} bytes returned {count!r}",
        )
        require(
            count > 0 or not data,
            f"{name} of {len(data)} bytes returned 0; a port that takes nothing raises BlockingIOError",
        )
        require(
            self.is_stream or count == len(data),
            f"{name} returned {count} for a datagram of {len(data)} bytes",
        )
        if count:
            self._accepted.append(data[:count])
        return count

    async def receive_one(self) -> None:
        """Receive something, and compare."""
        received = await self._receive()
        require(received, "the end came before all that was accepted")
        while received:
            require(self._accepted, f"{received[:16]!r} was received that was not accepted")
            expected = self._accepted.popleft()
            count = min(len(received), len(expected)) if self.is_stream else len(expected)
            same = received[:count] == expected[:count] if self.is_stream else received == expected
            require(same, f"{received[:16]!r} was received where {expected[:16]!r} was accepted")
            received = received[count:] if self.is_stream else b""
            if expected[count:]:
                self._accepted.appendleft(expected[count:])

    async def receive_all(self) -> None:
        """Receive all that was accepted, and compare."""
        while not self.is_empty:
            await self.receive_one()

    def fill(self) -> bool:
        """Send until nothing more is taken; return False if there is no end to it."""
        total = 0
        while total < ENOUGH:
            try:
                total += self.send(PIECE if self.is_stream else PIECE[:256])
            except BlockingIOError:
                if not self.is_stream or total == ENOUGH:
                    return True
                break
        else:
            return False
        # A byte may still fit where a piece does not.
        while True:
            try:
                self.send(b"x")
            except BlockingIOError:
                return True


async def _make(maker: PortMaker) -> _Checked:
    return _Checked(*await maker())


# The sentences ----------------------------------------------------------------------------------


async def a_port_says_what_it_is(maker: PortMaker) -> None:
    """is_stream is True or False, family is a number or None, and fileno() returns a number from -1 on."""
    port = (await _make(maker)).port
    require(isinstance(port.is_stream, bool), f"is_stream is {port.is_stream!r}")
    require(port.family is None or isinstance(port.family, int), f"family is {port.family!r}")
    number: Any = port.fileno()
    require(isinstance(number, int) and number >= -1, f"fileno() returned {number!r}")
    for name in ("receive_into", "shutdown", "send_file"):
        offered = getattr(port, name)
        require(offered is None or callable(offered), f"{name} is {offered!r}")


async def counts_are_exact(maker: PortMaker) -> None:
    """send returns how many bytes were accepted, and these are the first ones."""
    checked = await _make(maker)
    for size in (1, 5, 256):
        checked.send(PIECE[:size])
        await checked.receive_all()
    if checked.is_stream:
        count = checked.port.send(b"", 0)
        require(count == 0, f"send of no bytes returned {count!r}")


async def buffers_go_out_as_one(maker: PortMaker) -> None:
    """send_gather sends all buffers as one message, in order."""
    checked = await _make(maker)
    checked.send_gather([b"ab", b"", b"cde", b"f"])
    await checked.receive_all()


async def buffers_are_not_kept(maker: PortMaker) -> None:
    """When a call has returned, or has raised an error, its buffers belong to the caller again."""
    checked = await _make(maker)
    buffer = bytearray(b"abc")

    def look(when: str) -> None:
        try:
            buffer.append(0)
            buffer.pop()
        except BufferError:
            require(False, f"a buffer was still in use {when}")

    for gathers in (False, True):
        try:
            if gathers:
                checked.port.send_gather([buffer, b"x"], 0)
            else:
                checked.port.send(buffer, 0)
        except BlockingIOError:
            pass
        look("when the call had returned")
    if checked.fill():
        try:
            checked.port.send(buffer, 0)
        except BlockingIOError:
            pass
        look("when the call had raised BlockingIOError")


async def calls_do_not_wait(maker: PortMaker) -> None:
    """When nothing is taken, send raises BlockingIOError, and nothing was sent."""
    checked = await _make(maker)
    if checked.fill():
        for _ in range(3):
            try:
                count = checked.port.send(b"y", 0)
            except BlockingIOError:
                continue
            require(False, f"send returned {count!r} when nothing is taken")
        await checked.receive_all()


async def waiting_is_a_checkpoint(maker: PortMaker) -> None:
    """wait_writable and wait_readable are checkpoints, even where there is nothing to wait for."""
    checked = await _make(maker)
    with trio.CancelScope() as scope:
        scope.cancel()
        await checked.port.wait_writable()
    require(scope.cancelled_caught, "wait_writable returned in a scope that was cancelled")
    try:
        with trio.testing.assert_checkpoints():
            await checked.port.wait_writable()
    except AssertionError:
        require(False, "wait_writable returned without a checkpoint")
    with trio.CancelScope() as scope:
        scope.cancel()
        await checked.port.wait_readable()
    require(scope.cancelled_caught, "wait_readable returned in a scope that was cancelled")


async def waiting_can_be_cancelled(maker: PortMaker) -> None:
    """A wait that is cancelled has sent nothing, and another one can follow."""
    checked = await _make(maker)
    if checked.fill():
        for _ in range(2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(checked.port.wait_writable)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        await checked.receive_all()


async def waiting_ends_when_something_is_taken(maker: PortMaker) -> None:
    """wait_writable waits until send is worth another try, and no longer."""
    checked = await _make(maker)
    if checked.fill():
        is_over = False

        async def wait() -> None:
            nonlocal is_over
            await checked.port.wait_writable()
            is_over = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            require(not is_over, "wait_writable returned when nothing is taken")
            await checked.receive_all()
        for _ in range(100):  # a kernel may wake somebody for less than a message
            try:
                checked.send(b"z")
                break
            except BlockingIOError:
                await checked.port.wait_writable()
        else:
            require(False, "send takes nothing, time and again, though wait_writable returns")
        await checked.receive_all()


async def the_descriptor_tells(maker: PortMaker) -> None:
    """The descriptor, if there is one, is writable when something is taken, and not when nothing is."""
    checked = await _make(maker)

    def is_writable() -> bool:
        return bool(select.select([], [checked.port.fileno()], [], 0)[1])

    if checked.port.fileno() >= 0:
        require(is_writable(), "the descriptor is not writable at first")
        if checked.fill():
            require(not is_writable(), "the descriptor is writable when nothing is taken")
            await checked.receive_all()
            await checked.port.wait_writable()
            require(is_writable(), "the descriptor is not writable when something is taken again")


async def close_wakes_who_waits(maker: PortMaker) -> None:
    """close wakes whoever waits, who then returns, or gets `trio.ClosedResourceError`."""
    checked = await _make(maker)
    port = checked.port
    waits = [port.wait_readable] if port.receive_into is not None else []
    if checked.fill():
        waits.append(port.wait_writable)

    async def wait(until: Callable[[], Awaitable[None]]) -> None:
        try:
            await until()
        except (trio.ClosedResourceError, OSError):
            pass

    async with trio.open_nursery() as nursery:
        for until in waits:
            nursery.start_soon(wait, until)
        await trio.testing.wait_all_tasks_blocked()
        port.close(reset=False)
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        left = len(nursery.child_tasks)
        nursery.cancel_scope.cancel()
    require(not left, f"{left} still waited when the port was closed")


async def close_is_final(maker: PortMaker) -> None:
    """After close, send fails with an OSError, fileno() is -1, and another close does nothing."""
    for reset in (False, True):
        checked = await _make(maker)
        checked.port.close(reset=reset)
        require(checked.port.fileno() == -1, f"fileno() returned {checked.port.fileno()!r}")
        try:
            count = checked.port.send(b"x", 0)
        except BlockingIOError:
            require(False, "send raised BlockingIOError, as if it could go on")
        except OSError:
            pass
        else:
            require(False, f"send returned {count!r}")
        checked.port.close(reset=reset)


async def shutdown_is_final(maker: PortMaker) -> None:
    """After shutdown of the sends, if there is one, send fails with an OSError."""
    checked = await _make(maker)
    if checked.port.shutdown is not None:
        checked.port.shutdown(int(SocketShutdown.SEND))
        try:
            count = checked.port.send(b"x", 0)
        except BlockingIOError:
            require(False, "send raised BlockingIOError, as if it could go on")
        except OSError:
            pass
        else:
            require(False, f"send returned {count!r}")


async def receiving_does_not_wait(maker: PortMaker) -> None:
    """When nothing has arrived, receive_into, if there is one, raises BlockingIOError."""
    checked = await _make(maker)
    if checked.port.receive_into is not None:
        room = bytearray(8)
        try:
            count = checked.port.receive_into([memoryview(room)], 0)
        except BlockingIOError:
            pass
        else:
            require(False, f"receive_into returned {count!r} when nothing has arrived")
        room.append(0)


RULES: Final = (
    a_port_says_what_it_is,
    counts_are_exact,
    buffers_go_out_as_one,
    buffers_are_not_kept,
    calls_do_not_wait,
    waiting_is_a_checkpoint,
    waiting_can_be_cancelled,
    waiting_ends_when_something_is_taken,
    the_descriptor_tells,
    close_wakes_who_waits,
    close_is_final,
    shutdown_is_final,
    receiving_does_not_wait,
)


async def check_port(maker: PortMaker) -> None:
    """Check that a `Port` of your own does what a `Socket` expects of it.

    Each sentence of the contract is tried on a port of its own. Of a port that takes everything some of them cannot be
    tried: give ``maker`` one that takes nothing after a while, and something again when what it has accepted was
    received.

    Args:
      maker: an async function that returns a port and an async function, which waits for the next bytes that the port
        has accepted, as its peer gets them: of a stream as many as there are, of datagrams one. Nothing may arrive at
        the port.

    Raises:
      ContractError: a sentence is broken; its name is ``rule``.

    **Checkpoints**: always.

    **If cancelled**: `trio.Cancelled`; all ports are closed.

    **Threads**: only from a task of Trio.

    Source: the manner of `trio.testing.check_one_way_stream`.
    """
    rules = RULES
    if sys.platform == "win32":
        rules = tuple(rule for rule in RULES if rule is not the_descriptor_tells)
    made: list[Port] = []

    async def make() -> tuple[Port, Callable[[], Awaitable[bytes]]]:
        port, receive = await maker()
        made.append(port)
        return port, receive

    try:
        await check_all(rules, make)
    finally:
        for port in made:
            with suppress(Exception):  # which is about another sentence
                port.close(reset=False)
