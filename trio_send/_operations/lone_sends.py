"""The drain of a queue in which one plain message waits, which is what most queues are like, written out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .._messages.buffers import Message, WholeBytes
from .bulk_ends import ENDING_OWNERS
from .gate import BUSY, NOTED, STEP
from .queue import ATTEMPT_ERRORS, OPERATION_COST
from .send_calls import SendCalls

if TYPE_CHECKING:
    from .._messages.buffers import BufferShrankError
    from .operation import Operation


class LoneSends(SendCalls):
    """The part of `SendQueue` for a plain message with nothing in front and nothing behind."""

    __slots__ = ()

    @trio.lowlevel.enable_ki_protection
    def drain(self, allowance: int) -> int:
        head = self.head
        message = None if head is None else head.message
        is_plain = type(message) is WholeBytes or type(message) is Message
        if (
            not is_plain
            or message is None
            or (data := message.direct) is None
            # The last looks. Nothing is called between them and what follows, so nothing can strike there.
            or head is None
            or head is not self.head
            or head is not self.tail
            or head.message is not message
            or head.step is not None
            or head.limit is not None
            or head.address is not None
            or self.gate != BUSY
            or self.backoff
            or ENDING_OWNERS
            or self.instruments.watching
        ):
            return super().drain(allowance)
        # One plain message waits and nobody watches: the same as for any other queue, written out.
        self.gate = BUSY | STEP
        self.halted = self.hopeful = False
        done = head.transferred
        sent = 0
        error: OSError | BufferShrankError | None = None
        try:
            rest = memoryview(data)[done:] if done else data
            # What was made here may have run a finaliser that has stopped it.
            sent = self.ask(self.port.send, rest, head.flags)
        except ATTEMPT_ERRORS as caught:
            # With a traceback, this frame and the exception would hold each other.
            error = caught.with_traceback(None)
        except BaseException:
            self._leave()
            raise
        self.accepted += sent
        done = head.transferred = done + sent
        if error is not None or done != message.size:
            return self.go_on_alone(head, sent, error)
        try:
            self.drained += sent
            self._finish_alone(head)
        finally:
            if self.gate & NOTED or self.held:
                self._leave()
            else:
                self.gate &= ~STEP
        if self.instruments.watching:
            self.instruments.tell()
        return OPERATION_COST + sent

    @trio.lowlevel.enable_ki_protection
    def go_on_alone(
        self, head: Operation, sent: int, error: OSError | BufferShrankError | None
    ) -> int:
        """Go on with a step of `drain` whose first system call did not complete the one operation.

        Args:
          head: the operation, which counts what was accepted, as the queue does.
          sent: how many bytes that were.
          error: what the call raised, if it did.

        Returns:
          What `drain` does.
        """
        before = self.accepted - sent
        is_done = False
        try:
            if error is not None:
                self._missed(head, error)
            elif self.refills.skips:
                self.refills.skips -= 1
            elif self.port.refills:
                done = head.transferred
                try:
                    self.attempt(head)
                    is_done = True
                    self.refills.learn(in_vain=False)
                except BlockingIOError as caught:
                    self.refills.learn(in_vain=head.transferred == done)
                    if self.accepted == before:
                        self._missed(head, caught)
                except ATTEMPT_ERRORS as caught:
                    self._missed(head, caught)
            self.drained += self.accepted - before
            if is_done:
                self._finish_alone(head)
            elif (
                self.head is not head
                or self.marks is None
                or self.marks.is_above
                or (self.watched is None and head.owner is not None and not head.owner.waits)
            ):
                self.look_after()
        finally:
            self._leave()
        self._tell()
        return OPERATION_COST + self.accepted - before
