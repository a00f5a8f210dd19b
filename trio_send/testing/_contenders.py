"""Ways to send the same messages, all stopped at the same moment: under each exit policy, and without the library.

Two of them are *controls*, with faults that are well known elsewhere, so that it is seen that such faults are found. In
one a cancel is an exception that is raised once, and lost if it comes in the middle of a message: an edge, where Trio
has a level. In the other whoever has started the sends leaves, and they go on.
"""

from __future__ import annotations

import errno
import os
import random
import socket as stdlib_socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, final

import attrs
import trio

from .. import ExitPolicy, Socket, SocketAsyncEventArgs, SocketException, open_initiator
from ..timeline import Event, Recorder, Trace, TracedActivation, TracedInitiator
from ._record import InitiatorRecord, Record, Sent, SocketRecord, Taken
from ._scripted_port import Blocked, ScriptedPort

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from typing_extensions import Buffer

#: For how many seconds a kernel that has no room takes nothing.
TICK: Final = 1.0

ABORTED: Final = "OPERATION_ABORTED"
SUCCESS: Final = "SUCCESS"


@final
@attrs.frozen
class Workload:
    """What is sent, and when it is stopped.

    Attributes:
      messages: how many there are.
      size: how many bytes each has.
      room: for how many bytes at most the kernel gets room in a second, which is drawn anew for each.
      stop: after how many seconds whoever sends is stopped.
      grace: how many seconds DRAIN and FINISH_STARTED give.
    """

    messages: int = 12
    size: int = 8
    room: int = 16
    stop: float = 2.5
    grace: float = 2.0


class Scene:
    """One run: the messages, a kernel that is slow in its own way for each seed, and what happened."""

    def __init__(self, work: Workload, seed: int) -> None:
        self.work = work
        self.record = Record(sockets=[SocketRecord(1, True)])
        self.port = ScriptedPort(self._answer)
        self.trace = Trace((), (), ())
        self.stopped: tuple[int, float] = (0, 0.0)
        self._random = random.Random(seed)
        self._moments = 0
        self._second = -1
        self._room = 0
        self._events: list[Event] = []

    def moment(self) -> int:
        """Return the number of the next moment."""
        self._moments += 1
        return self._moments

    def messages(self) -> list[bytes]:
        """The messages; each byte has a value of its own, so that it is known whose it is."""
        size = self.work.size
        return [bytes(range(i * size, (i + 1) * size)) for i in range(self.work.messages)]

    @property
    def behind(self) -> bytes:
        """What the program sends when it has stopped the others."""
        return bytes([self.work.messages * self.work.size])

    def begin(self, face: str, message: bytes, *, initiator: int | None = 1) -> Sent:
        """Note the start of a send."""
        number = len(self.record.sends) + 1
        sent = Sent(number, 1, face, message, initiator, started=self.moment())
        self.record.sends.append(sent)
        return sent

    def enter(self, policy: str, grace: float | None = None) -> InitiatorRecord:
        """Note that whoever sends begins."""
        record = InitiatorRecord(1, policy, grace)
        self.record.initiators.append(record)
        return record

    def stop(self) -> None:
        """Note that whoever sends is stopped."""
        self.stopped = self.moment(), trio.current_time()
        self.record.initiators[0].ended = self.stopped

    def leave(self) -> None:
        """Note that whoever sends has ended."""
        self.record.initiators[0].left = self.moment(), trio.current_time()

    def note(self, what: str, number: int, count: int = 0, error: str = "") -> None:
        """Keep something for a picture, where no instrument does."""
        self._events.append(
            Event(trio.current_time(), len(self._events), what, number, count, error)
        )

    def draw(self, policy: str) -> None:
        """Make a trace of what was noted."""
        sends = [sent for sent in self.record.sends if sent.initiator is not None]
        self.trace = Trace(
            (TracedInitiator(1, "", policy),),
            [
                TracedActivation(sent.number, 1, "send", len(sent.message), initiator=1)
                for sent in sends
            ],
            [event for event in self._events if event.number <= len(sends)],
        )

    def _answer(self, data: bytes) -> int | Blocked:
        """Have room for some bytes in each second."""
        now = trio.current_time()
        second = int(now // TICK)
        while self._second < second:
            self._second += 1
            self._room = int(self._random.random() * (self.work.room + 1))
        if not self._room:
            return Blocked((second + 1) * TICK - now)
        taken = data[: self._room]
        self._room -= len(taken)
        self.record.sockets[0].taken.append(Taken(self.moment(), taken, now))
        return len(taken)


# With the library -----------------------------------------------------------------------------


def _under(policy: ExitPolicy) -> Callable[[Scene], Awaitable[None]]:
    """Send in an initiator, which is left when it is time to stop."""

    async def run(scene: Scene) -> None:
        work = scene.work
        gives = policy in (ExitPolicy.DRAIN, ExitPolicy.FINISH_STARTED)
        grace = work.grace if gives else None
        scene.enter(policy.name, grace)
        socket = Socket.from_port(scene.port)
        sends: dict[int, SocketAsyncEventArgs] = {}
        with Recorder() as recorder:
            async with AsyncExitStack() as stack:
                if policy is ExitPolicy.ADOPT:
                    await stack.enter_async_context(open_initiator(ExitPolicy.JOIN))
                async with open_initiator(policy, grace=grace):
                    for message in scene.messages():
                        sends[len(sends)] = _start(scene, socket, message)
                    await trio.sleep(work.stop)
                    scene.stop()
                scene.leave()
        scene.trace = recorder.trace()
        for sent, args in zip(scene.record.sends, sends.values(), strict=True):
            sent.is_over = not args.pending
            sent.count = args.bytes_transferred
            sent.error = args.socket_error.name
        sent = scene.begin("send", scene.behind, initiator=None)
        try:
            sent.count = await socket.send(sent.message)
            sent.error = SUCCESS
        except SocketException as error:
            sent.count, sent.error = error.bytes_transferred, error.socket_error_code.name
        sent.is_over = True
        scene.record.sockets[0].left = socket.queued_operations, socket.queued_bytes
        socket.close(reset=False)

    return run


def _start(scene: Scene, socket: Socket, message: bytes) -> SocketAsyncEventArgs:
    sent = scene.begin("send_async", message)
    args = SocketAsyncEventArgs(message)

    def completed(_: object, args: SocketAsyncEventArgs) -> None:
        sent.told.append(scene.moment())
        sent.told_as = args.bytes_transferred, args.socket_error.name

    args.completed += completed
    sent.pending = socket.send_async(args)
    sent.answered = scene.moment()
    return args


# Without it -----------------------------------------------------------------------------------


class _PlayedSocket(trio.socket.SocketType):
    """A socket of Trio's that sends to a scripted port in the way in which Trio's own send to the kernel."""

    did_shutdown_SHUT_WR = False
    type = stdlib_socket.SOCK_STREAM

    def __init__(self, scene: Scene, sent: list[Sent]) -> None:
        self._scene = scene
        self._sent = sent

    def setsockopt(self, *arguments: Any) -> None:
        """Have no options."""
        raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))

    def getpeername(self) -> Any:
        """Be connected."""
        return "played"

    async def send(self, data: Buffer, flags: int = 0) -> int:
        """Send what is taken."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            count = _attempt(self._scene, self._sent[-1], data)
        except BlockingIOError:
            pass
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return count
        while True:
            await self._scene.port.wait_writable()
            try:
                return _attempt(self._scene, self._sent[-1], data)
            except BlockingIOError:
                pass


def _attempt(scene: Scene, sent: Sent, data: Buffer) -> int:
    count = scene.port.send(data, 0)
    scene.note("accepted", sent.number, count)
    return count


def _finish(scene: Scene, sent: Sent) -> None:
    sent.count, sent.error, sent.is_over = len(sent.message), SUCCESS, True
    scene.note("ended", sent.number, sent.count, sent.error)


async def _send_all(scene: Scene) -> None:
    """A task sends one message after the other with Trio's own `send_all`, and is cancelled."""
    scene.enter("ABORT")
    sends: list[Sent] = []
    stream = trio.SocketStream(_PlayedSocket(scene, sends))

    async def send(message: bytes, initiator: int | None) -> None:
        sent = scene.begin("send", message, initiator=initiator)
        sends.append(sent)
        scene.note("started", sent.number)
        try:
            await stream.send_all(message)
        except trio.Cancelled:
            # How much was accepted nobody says.
            sent.stopped, sent.is_over = scene.stopped[0], True
            accepted = sum(1 for _ in scene.record.accepted(sent))
            scene.note("ended", sent.number, accepted, ABORTED)
            raise
        _finish(scene, sent)

    async def send_each() -> None:
        for message in scene.messages():
            await send(message, 1)

    await _stopped_later(scene, send_each)
    scene.leave()
    await send(scene.behind, None)
    scene.draw("Trio's send_all")


async def _stopped_later(scene: Scene, send_each: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:

        async def watched() -> None:
            await send_each()
            nursery.cancel_scope.cancel()

        nursery.start_soon(watched)
        await trio.sleep(scene.work.stop)
        scene.stop()
        scene.note("cancelled", 1)
        nursery.cancel_scope.cancel()
    if not scene.stopped[0]:
        scene.stop()  # all was sent before


class _Interrupted(Exception):
    """What a cancel of the control is: raised once, where the task waits."""


async def _edge(scene: Scene) -> None:
    """A cancel is raised once, where the task waits, which takes it for something else if a message has begun."""
    scene.enter("ABORT")
    waits: list[trio.CancelScope] = []

    async def wait() -> None:
        with trio.CancelScope() as scope:
            waits.append(scope)
            await scene.port.wait_writable()
        if scope.cancelled_caught:
            raise _Interrupted

    async def send(message: bytes, initiator: int | None) -> None:
        sent = scene.begin("send", message, initiator=initiator)
        scene.note("started", sent.number)
        done = 0
        try:
            while done < len(message):
                try:
                    done += _attempt(scene, sent, message[done:])
                except BlockingIOError:
                    try:
                        await wait()
                    except _Interrupted:
                        sent.stopped = scene.stopped[0]
                        if not done:
                            raise
        except _Interrupted:
            sent.count, sent.error, sent.is_over = done, ABORTED, True
            sent.was_cancelled = True
            scene.note("ended", sent.number, done, ABORTED)
            raise
        _finish(scene, sent)

    async def send_each() -> None:
        try:
            for message in scene.messages():
                await send(message, 1)
        except _Interrupted:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_each)
        await trio.sleep(scene.work.stop)
        scene.stop()
        scene.note("cancelled", 1)
        if waits:
            waits[-1].cancel()
    scene.leave()
    await send(scene.behind, None)
    scene.draw("control: edge")


async def _abandon(scene: Scene) -> None:
    """Whoever has started the sends leaves with the counts as they are, and the sends go on."""
    scene.enter("ABORT")

    async def write(sent: Sent) -> None:
        done = 0
        scene.note("started", sent.number)
        while done < len(sent.message):
            try:
                done += _attempt(scene, sent, sent.message[done:])
            except BlockingIOError:
                await scene.port.wait_writable()
        if not sent.is_over:
            _finish(scene, sent)
        else:
            scene.note("ended", sent.number, done, SUCCESS)

    async def write_each() -> None:
        for sent in sends:
            await write(sent)

    async with trio.open_nursery() as nursery:
        sends = [scene.begin("send", message) for message in scene.messages()]
        nursery.start_soon(write_each)
        await trio.sleep(scene.work.stop)
        scene.stop()
        scene.note("cancelled", 1)
        for sent in sends:
            if not sent.is_over:
                sent.count = sum(1 for _ in scene.record.accepted(sent))
                sent.error, sent.is_over, sent.stopped = ABORTED, True, scene.stopped[0]
                sent.was_cancelled = True
        scene.leave()
        await write(scene.begin("send", scene.behind, initiator=None))
    scene.draw("control: abandon")


CONTENDERS: Final[Mapping[str, Callable[[Scene], Awaitable[None]]]] = {
    **{policy.name: _under(policy) for policy in ExitPolicy},
    "Trio's send_all": _send_all,
    "control: edge": _edge,
    "control: abandon": _abandon,
}
