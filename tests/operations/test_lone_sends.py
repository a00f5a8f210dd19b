"""A queue in which one plain message waits: what its drain does is what the drain of any other queue does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.scripted import RecordingOwner, SpyPort, run_virtual, start
from trio_send import (
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    TracedOperation,
    add_instrument,
    open_initiator,
)
from trio_send._messages.buffers import WholeBytes
from trio_send._operations.gate import BUSY
from trio_send._operations.operation import Operation
from trio_send._operations.queue import OPERATION_COST, OperationQueue
from trio_send._operations.send_calls import ATTEMPT_ALLOWANCE, PLAIN_FLAGS
from trio_send._operations.send_queue import SendQueue
from trio_send._operations.states import ABORTED, DONE, QUEUED
from trio_send.abc import Instrument
from trio_send.testing import Blocked

DATA = b"0123456789"

#: What the attempts of one drain meet.
SCRIPTS: dict[str, tuple[Any, ...]] = {
    "all": (10,),
    "nothing": (Blocked(),),
    "a part": (4, Blocked()),
    "two parts": (4, 6),
    "three parts": (4, 3, 3),
    "a part and a dead connection": (4, "ECONNRESET"),
    "a part and an error": (4, "EPERM"),
    "a dead connection": ("ECONNRESET",),
    "an error": ("EPERM",),
    "no memory": ("ENOBUFS",),
    "a part and no memory": (4, "ENOBUFS"),
    "no byte and then nothing": (0, Blocked()),
}

NAMES: dict[str, str] = {
    "queue": "accepted drained abandoned succeeded failed gate backoff backoffs hopeful length broken watched",
    "operation": "state transferred code errno detail",
    "refills": "skips _in_vain",
}


def waiting(
    *script: Any, refills: bool = True, skips: int = 0
) -> tuple[SendQueue, Operation, SpyPort, RecordingOwner]:
    """Return a queue in which one message waits, and for which nobody waits; the script is for what comes next."""
    port, owner = SpyPort([Blocked()]), RecordingOwner()
    port.refills = refills
    queue = SendQueue(port, refuse_torn=True)
    operation = Operation()
    operation.message = WholeBytes(DATA)
    operation.flags = PLAIN_FLAGS
    operation.reset_results()
    assert start(queue, operation, owner)
    queue.refills.skips = skips
    queue.watched = None
    port.inner.unblock()
    port.inner.add(*script)
    return queue, operation, port, owner


@pytest.mark.parametrize("skips", [0, 2])
@pytest.mark.parametrize("refills", [False, True])
@pytest.mark.parametrize("name", SCRIPTS)
def test_it_does_what_the_general_one_does(name: str, refills: bool, skips: int) -> None:
    async def after(drain: Callable[[SendQueue, int], int]) -> list[object]:
        queue, operation, port, owner = waiting(*SCRIPTS[name], refills=refills, skips=skips)
        used = drain(queue, 1 << 20)
        things = {"queue": queue, "operation": operation, "refills": queue.refills}
        found: list[object] = [
            (key, name, getattr(things[key], name)) for key in NAMES for name in NAMES[key].split()
        ]
        found.remove(("queue", "watched", queue.watched))
        if not isinstance(
            SCRIPTS[name][-1], str
        ):  # else the general one forgets what came before the error
            found.append(used)
        found += [port.accepted, port.results, len(owner.endings), queue.watched is owner]
        return found

    written_out = run_virtual(after, SendQueue.drain)
    in_general = run_virtual(after, OperationQueue.drain)
    assert written_out == in_general


def test_a_port_that_takes_no_byte_and_does_not_say_so_is_waited_for() -> None:
    """Else the queue would be drained at every turn for nothing."""

    async def main() -> None:
        calls = ATTEMPT_ALLOWANCE // OPERATION_COST
        queue, operation, port, owner = waiting(*[0] * 2 * calls)
        assert queue.drain(1 << 20) == OPERATION_COST
        assert port.results[1:] == [0] * (1 + calls)
        assert (operation.state, operation.transferred) == (QUEUED, 0)
        assert not queue.hopeful
        assert queue.watched is owner

    run_virtual(main)


class Hooks(Instrument):
    """Writes down which hooks were called."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def operation_started(self, operation: TracedOperation) -> None:
        self.called.append("started")

    def bytes_accepted(self, operation: TracedOperation, count: int, total: int) -> None:
        self.called.append(f"{count} accepted")

    def operation_completed(self, operation: TracedOperation, *_: object) -> None:
        self.called.append("completed")


async def test_an_instrument_that_comes_in_the_middle_is_told_at_the_end_of_the_step() -> None:
    """What it is told of was started behind it."""
    port, hooks = SpyPort([Blocked()]), Hooks()
    socket = Socket.from_port(port)
    behind = SocketAsyncEventArgs(b"behind")

    def strike(_: object) -> None:
        port.on_call = None
        add_instrument(hooks)
        assert socket.send_async(behind)
        assert hooks.called == []

    async with open_initiator():
        first = SocketAsyncEventArgs(DATA)
        assert socket.send_async(first)
        port.inner.unblock()
        port.on_call = strike
        assert socket._core.sends.drain(1 << 20) == OPERATION_COST + len(DATA)
        assert hooks.called == ["started", "6 accepted", "completed"]
        assert await behind.wait() == 6
        assert first.bytes_transferred == 10
    assert port.accepted == DATA + b"behind"
    socket.close()


def test_it_makes_no_call_behind_a_stop() -> None:
    """What strikes right in front of the call is a finaliser; one that strikes behind it finds all that was sent."""

    async def main() -> None:
        queue, operation, port, owner = waiting(4, 6)
        stopped: list[bool] = []
        port.on_call = lambda call: stopped.append(
            queue.request_stop(operation, SocketError.OPERATION_ABORTED, "struck")
        )
        assert queue.drain(1 << 20) == OPERATION_COST + 4
        assert stopped == [True]
        assert len(port.calls) == 2
        assert (operation.state, operation.transferred) == (ABORTED, 4)
        assert queue.torn is not None
        assert owner.endings == [operation]

    run_virtual(main)


def test_what_ends_at_the_very_call_has_ended_well() -> None:
    async def main() -> None:
        queue, operation, port, owner = waiting(10)
        port.on_call = lambda call: queue.request_stop(
            operation, SocketError.OPERATION_ABORTED, "struck"
        )
        queue.drain(1 << 20)
        assert (operation.state, operation.transferred) == (DONE, 10)
        assert owner.endings == [operation]
        assert not queue.gate & BUSY

    run_virtual(main)


def test_what_is_no_error_of_a_socket_is_raised_and_the_queue_is_as_it_was() -> None:
    async def main() -> None:
        queue, operation, port, _ = waiting(10)

        def strike(_: object) -> None:
            raise ZeroDivisionError

        port.on_call = strike
        with pytest.raises(ZeroDivisionError):
            queue.drain(1 << 20)
        assert queue.gate == BUSY
        assert queue.head is operation

    run_virtual(main)
