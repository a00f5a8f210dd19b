"""What ``send`` says at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ... import SocketError, SocketException
from ..failures import describe
from ..values import show_bytes, show_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .transmission import Transmission


def summary(transmission: Transmission, face: str, offset: int) -> Iterator[str]:
    """Yield the lines of the summary; the first word of each says what it is about.

    Args:
      transmission: what has ended.
      face: what it was sent through.
      offset: what it began with.
    """
    transfer = transmission.transfer
    accepted = transfer.accepted
    in_short = f" ({show_size(accepted)})" if accepted >= 1024 else ""
    yield f"accepted    {show_bytes(accepted)}{in_short}, from offset {offset} up to {offset + accepted}"
    count = transfer.stopped
    its = "its" if count == 1 else "their"
    stopped = f", {count} of all stopped before {its} end" if count else ""
    yield (
        f"operations  {transfer.on_the_spot} finished on the spot, {transfer.pending} pending{stopped}, "
        f"with the face {face}"
    )
    rate = show_size(accepted / transfer.seconds) if transfer.seconds > 0 else "0 B"
    yield f"time        {transfer.seconds:.3f} s, {rate}/s"
    yield f"sha256      {transfer.digest()}"
    if transfer.is_complete and transmission.error is None:
        yield f"receiver    {_receiver(transmission)}"


def _receiver(transmission: Transmission) -> str:
    if transmission.closed_early:
        said = "closed its side before the end, so there is no sign of how much it has read"
    elif transmission.closed:
        said = "closed the connection in order after the end"
    else:
        said = "has not closed its side yet, so there is no sign of how much it has read"
    if transmission.thrown_away:
        count = transmission.thrown_away
        said += (
            f"; it sent {show_bytes(count)}, which {'was' if count == 1 else 'were'} thrown away"
        )
    return said


def verdict(transmission: Transmission, offset: int, cause: str) -> str | None:
    """Return the sentence on what went wrong and how to go on; None if nothing did.

    Args:
      transmission: what has ended.
      offset: what it began with.
      cause: what stopped it from outside, if anything did.
    """
    transfer = transmission.transfer
    accepted = show_bytes(transfer.accepted)
    reached = offset + transfer.accepted
    if transfer.is_complete:
        if transmission.error is None:
            return None
        were = "was" if transfer.accepted == 1 else "were"
        return (
            f"the connection broke: {_describe_break(transmission.error)}; all of it, {accepted}, {were} accepted. "
            f"{_how_to_go_on(offset)}"
        )
    error = transfer.error
    if error is not None:
        if error.socket_error_code is SocketError.SHUTDOWN and transmission.error is not None:
            # The first of two to look is told the reason, the other one just that it is over.
            error = transmission.error
        return (
            f"the connection broke: {_describe_break(error)}; {accepted} accepted. "
            f"{_how_to_go_on(offset)}"
        )
    if transfer.stop_reason is not None:
        cause = f"stopped because {transfer.stop_reason}"
    return (
        f"{cause}; {accepted} accepted, so go on with --from {reached}. Accepted is not delivered: if the receiver has "
        f"less than {show_bytes(reached)}, go on from there"
    )


def _how_to_go_on(offset: int) -> str:
    """Say where to go on when the connection broke, because then nobody here knows what was lost on the way."""
    number = f"that number plus {offset}" if offset else "that number"
    return (
        "Accepted is not delivered, and how much has arrived, the receiver alone can tell: 'trio-send sink' prints the "
        "number of bytes of each connection, and with --out the size of its file, also when it is started again. "
        f"Go on with --from and {number}, or that size"
    )


def _describe_break(error: SocketException) -> str:
    if error.socket_error_code is SocketError.SHUTDOWN:
        return "the receiver has closed it"
    return describe(error)
