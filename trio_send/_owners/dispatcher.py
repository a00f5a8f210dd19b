"""The dispatcher: one task that tells what has ended, by raising `Completed` and calling callbacks.

Operations that have ended come in batches: to wake the task costs ten times what one more entry in a list does. The
batch that it has not taken yet is still open; whatever ends meanwhile joins it.

Handlers are never called from inside a start, so a handler may start the next send, and that one the next, for ever,
and the stack stays as deep as it was. A handler that fails does not stop the dispatcher: the error goes to the
initiator, and every other operation is still told.

An asynchronous handler runs in a task of its own, and Trio does not say when that has its first turn, before or after
whom. So the dispatcher waits until it has had it. Whatever a handler does up to its first checkpoint comes before
everything that is told later.
"""

from __future__ import annotations

import contextvars
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from .._base.waiting_tasks import WaitingTasks
from .._operations.operation import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._tracing.instruments import Instruments


class Told(Protocol):
    """What the dispatcher tells: an operation that has ended, or something else that comes in its turn."""

    def tell(self, dispatcher: Dispatcher) -> None:
        """Do what is to be done now."""


#: Operations told before the other tasks have their turn.
EVENTS_PER_TRIP: Final = 128


class Dispatcher:
    """Tells of ended operations for one initiator.

    Args:
      spawn: starts a task in the initiator's nursery.
      on_error: takes the exception of a synchronous handler.
      on_quiet: called whenever all is told and no asynchronous handler runs.
      instruments: who else is told.
    """

    __slots__ = (
        "_begun",
        "_idle",
        "_instruments",
        "_is_beginning",
        "_is_closed",
        "_on_error",
        "_on_quiet",
        "_open_batch",
        "_spawn",
        "outstanding",
    )

    def __init__(
        self,
        spawn: Callable[..., None],
        on_error: Callable[[BaseException], None],
        on_quiet: Callable[[], None],
        instruments: Instruments,
    ) -> None:
        self._spawn = spawn
        self._on_error = on_error
        self._on_quiet = on_quiet
        self._instruments = instruments
        self._open_batch: list[Told] = []
        self._is_closed = False
        self._idle: WaitingTasks[None] = WaitingTasks(None)
        #: Operations that have yet to be told, and asynchronous handlers that run.
        self.outstanding: int = 0
        #: Whether an asynchronous handler has yet to take its first step, and where the dispatcher waits for it.
        self._is_beginning = False
        self._begun = trio.lowlevel.ParkingLot()

    @property
    def is_quiet(self) -> bool:
        """Whether all is told and no asynchronous handler runs."""
        return self.outstanding == 0

    def post(self, told: Told) -> None:
        """Have something told. Never yields, never calls a handler."""
        self.outstanding += 1
        self._open_batch.append(told)
        self._idle.wake(None)

    def _has_work(self) -> bool:
        return bool(self._open_batch) or self._is_closed

    def close(self) -> None:
        """End the task, once all is told."""
        self._is_closed = True
        self._idle.wake(None)

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Tell until closed. Shielded from the first step: what has ended is told, whatever is cancelled."""
        with trio.CancelScope(shield=True):
            told = 0
            while self._open_batch or not self._is_closed:
                await self._idle.wait(self._has_work)
                # Whatever is posted in the middle of this joins the batch that is taken.
                batch, self._open_batch = self._open_batch, []
                for operation in batch:
                    if told == EVENTS_PER_TRIP:
                        told = 0
                        await trio.lowlevel.checkpoint()
                    told += 1
                    if self._instruments.watching and isinstance(operation, Operation):
                        self._instruments.raising(operation)
                    try:
                        operation.tell(self)
                    except BaseException as error:
                        self._on_error(error)
                    self._settle()
                    if self._is_beginning:
                        told = 0
                        await self._begun.park()
                    del operation
                del batch  # or what was told last would stay alive until the next is

    def _settle(self) -> None:
        self.outstanding -= 1
        if self.outstanding == 0:
            self._on_quiet()

    def call(
        self,
        context: contextvars.Context | None,
        handler: Callable[..., object],
        *args: object,
        begin: Callable[[], None] | None = None,
    ) -> bool:
        """Call a handler; if it is asynchronous, run it in a task.

        Args:
          context: what to call it in. None stands for a copy of the dispatcher's own, which is the initiator's.
          handler: what to call.
          args: what to pass.
          begin: called in the task, right before the first step of an asynchronous one.

        Returns:
          Whether it is asynchronous, and so has yet to begin.
        """
        if context is None:
            context = contextvars.copy_context()
        result = context.run(call_unprotected, handler, *args)
        return result is not None and self.go_on(context, result, begin)

    def go_on(
        self, context: contextvars.Context, result: object, begin: Callable[[], None] | None
    ) -> bool:
        """Go on with what a handler has returned, as `call` does."""
        if not isinstance(result, Coroutine):
            return False
        self.outstanding += 1
        context.run(self._spawn, self._run, result, begin)
        self._is_beginning = True
        return True

    @trio.lowlevel.enable_ki_protection
    async def _run(
        self, coroutine: Coroutine[Any, Any, object], begin: Callable[[], None] | None
    ) -> None:
        # Nobody who is woken here goes on before this task has its next checkpoint.
        self._is_beginning = False
        self._begun.unpark_all()
        try:
            if begin is not None:
                begin()
            await _await_unprotected(coroutine)
        finally:
            coroutine.close()  # in case Ctrl-C struck before its first step
            self._settle()


@trio.lowlevel.disable_ki_protection
def call_unprotected(handler: Callable[..., object], *args: object) -> object:
    return handler(*args)


@trio.lowlevel.disable_ki_protection
async def _await_unprotected(coroutine: Coroutine[Any, Any, object]) -> None:
    await coroutine


def call_in_order(
    handlers: Iterator[Callable[..., object]], *args: object
) -> Coroutine[Any, Any, None] | None:
    """Call handlers until one proves asynchronous.

    Returns:
      A coroutine that finishes that one and calls the others; None when all are done.
    """
    for handler in handlers:
        result = handler(*args)
        if result is not None and isinstance(result, Coroutine):
            return _finish_in_order(result, handlers, *args)
    return None


async def _finish_in_order(
    first: Coroutine[Any, Any, object],
    others: Iterator[Callable[..., object]],
    *args: object,
) -> None:
    await first
    for handler in others:
        result = handler(*args)
        if isinstance(result, Coroutine):
            await result
