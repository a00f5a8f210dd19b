"""An initiator of a world: the explorer may cancel it, and it is noted when it is left and with what."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, final

import attrs
import trio

from .. import ExitPolicy, Initiator, open_initiator
from ._record import InitiatorRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ._witness import Witness


@final
@attrs.frozen
class _Leave:
    """Something that the explorer may stop: an initiator, with all that is inside of it."""

    witness: Witness
    record: InitiatorRecord
    scope: trio.CancelScope

    @property
    def cancel_called(self) -> bool:
        return self.scope.cancel_called or self.record.left is not None

    def cancel(self) -> None:
        self.record.cancelled = self.witness.moment_of_stop(), trio.current_time()
        self.scope.cancel()


@final
class OpenInitiator:
    """The context manager of an initiator of a world.

    Args:
      witness: of the world.
      on_exit: the policy.
      grace: as for `open_initiator`.
      opened: called with it and its record.
    """

    # Not a generator, which would be looked after by Trio until the garbage collector has found it.

    def __init__(
        self,
        witness: Witness,
        on_exit: ExitPolicy,
        grace: float | None,
        opened: Callable[[Initiator, InitiatorRecord], object],
    ) -> None:
        self._witness = witness
        self._manager = open_initiator(on_exit, grace=grace)
        initiators = witness.record.initiators
        self._record = InitiatorRecord(len(initiators) + 1, on_exit.name, grace)
        initiators.append(self._record)
        self._opened = opened
        self._initiator: Initiator | None = None

    async def __aenter__(self) -> Initiator:
        witness, record = self._witness, self._record
        try:
            self._initiator = initiator = await self._manager.__aenter__()
        except BaseException:
            self._leave()
            raise
        self._opened(initiator, record)
        name = f"initiator {record.number}"
        witness.case.cancellable(_Leave(witness, record, initiator.cancel_scope), name)
        return initiator

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if exc is not None:
            self._record.was_raised = True
        self._record.ended = self._witness.now()
        try:
            return await self._manager.__aexit__(exc_type, exc, traceback)
        except BaseException as error:
            left = self._witness.without_raised(error)
            if left is None:
                return True
            if left is error:
                raise
            raise left from None
        finally:
            self._leave()

    def _leave(self) -> None:
        record = self._record
        record.left = self._witness.now()
        if record.cancelled is None and trio.current_effective_deadline() == -math.inf:
            # A scope around it was.
            record.cancelled = record.left
        if self._initiator is not None:
            record.pending = self._initiator.pending_operations
