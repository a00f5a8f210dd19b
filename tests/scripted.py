"""What the suites on a scripted port share: a port that notes its calls, an idle owner, a clock that jumps."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import attrs
import trio
from trio.testing import MockClock

from trio_send._operations.operation import Operation, Owner
from trio_send._operations.queue import OperationQueue
from trio_send.abc import Port
from trio_send.testing import Blocked, ScriptedPort


def run_virtual(main: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Run ``main`` by a clock that jumps; for tests that call Trio themselves, one run for each example."""
    return trio.run(main, *args, clock=MockClock(autojump_threshold=0))


@attrs.frozen
class Call:
    """One call of a port.

    Attributes:
      kind: ``"send"``, ``"send_gather"`` or ``"send_to"``.
      offered: the bytes.
      flags: the native flags.
      result: how many bytes were accepted, or the name of the errno.
      time: when, by Trio's clock.
    """

    kind: str
    offered: bytes
    flags: int
    result: int | str
    time: float


class SpyPort(Port):
    """A scripted port that notes every call, and takes no more than 1024 buffers in one.

    Args:
      script: as for `ScriptedPort`.
      is_stream: as for `ScriptedPort`.
      on_call: called with the `Call` after each, before its result is returned.
    """

    def __init__(
        self,
        script: Iterable[int | str | Blocked] = (),
        *,
        is_stream: bool = True,
        on_call: Callable[[Call], object] | None = None,
    ) -> None:
        self.inner = ScriptedPort(script, is_stream=is_stream)
        self.is_stream = is_stream
        self.calls: list[Call] = []
        self.on_call = on_call

    @property
    def accepted(self) -> bytes:
        return bytes(self.inner.accepted)

    @property
    def offers(self) -> list[bytes]:
        return [call.offered for call in self.calls]

    @property
    def results(self) -> list[int | str]:
        return [call.result for call in self.calls]

    def _note(self, kind: str, offered: bytes, flags: int, send: Callable[[], int]) -> int:
        result: int | str = 0
        try:
            result = send()
        except OSError as error:
            result = errno.errorcode[error.errno or 0]
            raise
        finally:
            call = Call(kind, offered, flags, result, trio.current_time())
            self.calls.append(call)
            if self.on_call is not None:
                self.on_call(call)
        assert isinstance(result, int)
        return result

    def send(self, buffer: Any, flags: int, /) -> int:
        data = bytes(buffer)
        return self._note("send", data, flags, lambda: self.inner.send(data, flags))

    def send_gather(self, views: Sequence[Any], flags: int, /) -> int:
        data = b"".join(views)

        def send() -> int:
            if len(views) > 1024:  # as the kernel does
                raise OSError(errno.EMSGSIZE, "too many views")
            return self.inner.send_gather(views, flags)

        return self._note("send_gather", data, flags, send)

    def send_to(self, buffer: Any, flags: int, address: Any, /) -> int:
        data = bytes(buffer)
        return self._note("send_to", data, flags, lambda: self.inner.send_to(data, flags, address))

    def fileno(self) -> int:
        return -1

    async def wait_writable(self) -> None:
        await self.inner.wait_writable()

    async def wait_readable(self) -> None:
        await self.inner.wait_readable()

    def close(self, *, reset: bool) -> None:
        self.inner.close(reset=reset)


class RecordingOwner(Owner):
    """An owner that drains nothing by itself and notes what a queue says to it.

    Attributes:
      endings: the operations that ended, in order.
      watched: the queues it is to watch.
      joins: how many operations joined a queue.
    """

    def __init__(self) -> None:
        self.endings: list[Operation] = []
        self.watched: set[Any] = set()
        self.joins = 0

    def joined(self, queue: Any) -> None:
        self.joins += 1

    def parted(self, queue: Any) -> None:
        pass

    def ended(self, operation: Operation, queue: Any) -> None:
        self.endings.append(operation)

    def limit_changed(self, operation: Operation) -> None:
        pass

    def watch(self, queue: Any) -> None:
        queue.watched = self
        self.watched.add(queue)

    def unwatch(self, queue: Any) -> None:
        queue.watched = None
        self.watched.discard(queue)

    def tell(self) -> None:
        """Make every operation that has ended free again, as telling its user does."""
        for operation in self.endings:
            operation.release()
        self.endings.clear()


def start(queue: OperationQueue, operation: Operation, owner: Owner) -> bool:
    """Start an operation as a face does, with the claim before and the rest after; return whether it is pending."""
    operation.claim()
    pending = queue.start(operation, owner)
    if not pending:
        operation.rest(queue)
    return pending


def join(queue: OperationQueue, operation: Operation, owner: Owner) -> bool:
    """Start an operation without a first attempt, in the same way."""
    operation.claim()
    pending = queue.join(operation, owner)
    if not pending:
        operation.rest(queue)
    return pending


def nothing() -> None:
    """Do nothing, once a queue is closed."""
