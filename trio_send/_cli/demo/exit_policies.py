"""The second half of the demonstration: an initiator is left while its sends are pending."""

from __future__ import annotations

import hashlib
import random

import trio

from ... import Socket, SocketAsyncEventArgs, SocketError, open_initiator
from ..output import say, say_paragraph, say_table
from ..values import show_bytes, show_size
from .embedded import slow_connection

MESSAGES = 8
MESSAGE_SIZE = 32 * 1024

#: So slow that the initiator is left long before everything could be read.
RATE = 256 * 1024

#: How long to wait for a telling moment to leave: a send that was pending is finished, and the next has begun.
PATIENCE = 3.0


class _Send:
    """One of the sends: its args, how it started, and how often its event was raised."""

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.args = SocketAsyncEventArgs(message)
        self.args.completed += self._completed
        self.pended = False
        self.raised = 0

    def start(self, socket: Socket) -> None:
        self.pended = socket.send_async(self.args)

    def _completed(self, socket: Socket, args: SocketAsyncEventArgs) -> None:
        self.raised += 1

    @property
    def accepted(self) -> int:
        return self.args.bytes_transferred

    @property
    def is_cut(self) -> bool:
        return 0 < self.accepted < len(self.message)

    @property
    def is_right(self) -> bool:
        """Whether its event was raised as often as it should be, and its outcome fits its count."""
        whole = self.accepted == len(self.message)
        outcome = SocketError.SUCCESS if whole else SocketError.OPERATION_ABORTED
        return self.raised == int(self.pended) and self.args.socket_error is outcome

    def row(self, number: int) -> list[str]:
        error = self.args.socket_error
        return [
            str(number),
            str(len(self.message)),
            "pending" if self.pended else "on the spot",
            str(self.raised),
            str(self.accepted),
            error.name if error is SocketError.SUCCESS else f"{error.name} ({int(error)})",
        ]


async def _wait_for_a_telling_moment(sends: list[_Send]) -> None:
    with trio.move_on_after(PATIENCE):
        # Nothing tells of a part that was accepted, but the counts can be read at any time.
        while not (any(send.raised for send in sends) and any(send.is_cut for send in sends)):  # noqa: ASYNC110
            await trio.sleep(0.001)


async def show_leaving() -> bool:
    """Start sends, leave their initiator before they are finished, and show what was accepted of each.

    Returns:
      Whether all counts, outcomes and hashes agree.
    """
    say_paragraph(
        f"2. Leaving early. {MESSAGES} sends of {show_size(MESSAGE_SIZE)} are started at once, to a sink that reads "
        f"{show_size(RATE)}/s. After a moment their initiator, the scope they belong to, is left, and what is still "
        "pending ends with it. Each send tells to the byte what was accepted of it, and the event of each that was "
        "pending has been raised, once."
    )
    say()
    generator = random.Random(2)
    sends = [_Send(generator.randbytes(MESSAGE_SIZE)) for _ in range(MESSAGES)]
    async with slow_connection(RATE) as (socket, reception):
        async with open_initiator():
            for send in sends:
                send.start(socket)
            await _wait_for_a_telling_moment(sends)
        agreed = await _refuses_more(socket)
        # The accepted bytes are to arrive, so no reset, although the last message is not whole.
        socket.close(reset=False)
    say_table(
        ["send", "bytes", "started", "raised", "accepted", "ended with"],
        [send.row(number) for number, send in enumerate(sends, 1)],
    )
    total = sum(send.accepted for send in sends)
    digest = hashlib.sha256(b"".join(send.message[: send.accepted] for send in sends)).hexdigest()
    received = reception.count == total and reception.digest() == digest
    say()
    say_paragraph(
        f"That makes {show_bytes(total)} accepted. The sink received {show_bytes(reception.count)}: "
        + ("exactly these, with the same SHA-256." if received else "these are NOT the same bytes.")
    )
    return agreed and received and all(send.is_right for send in sends)


async def _refuses_more(socket: Socket) -> bool:
    """Tell whether nothing can be written behind a message that was cut."""
    if socket.torn is None:
        return True
    args = SocketAsyncEventArgs(b"more")
    async with open_initiator():
        pending = socket.send_async(args)
    return (
        not pending
        and args.socket_error is SocketError.CONNECTION_ABORTED
        and args.bytes_transferred == 0
    )
