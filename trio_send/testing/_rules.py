"""What has to hold of every send, one function a rule, over what happened in a world.

Each rule yields a sentence for everything that breaks it. The letters are those of the promises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._record import Record, Sent

#: By how many seconds the difference of two times may be off, because they are sums of fractions.
ROUNDING: Final = 1e-9


def _bytes_of(record: Record, sent: Sent) -> bytes:
    return bytes(value for _, value in record.accepted(sent))


def counts_are_exact(record: Record) -> Iterator[str]:
    """A: a count is the number of bytes that the kernel accepted."""
    for sent in record.sends:
        accepted = len(_bytes_of(record, sent))
        if sent.count is not None and sent.count != accepted:
            yield f"{sent} says {sent.count}, but {accepted} were accepted"


def bytes_are_a_prefix(record: Record) -> Iterator[str]:
    """B: what was accepted of a message is its beginning, each byte once."""
    for sent in record.sends:
        accepted = _bytes_of(record, sent)
        if accepted != sent.message[: len(accepted)]:
            yield f"of {sent} the bytes {accepted!r} were accepted, which are not the first ones"


def order_is_kept(record: Record) -> Iterator[str]:
    """C: messages go out in the order in which they were started, and never into one another."""
    for socket in record.sockets:
        owner = {
            value: sent.number
            for sent in record.sends
            if sent.socket == socket.number
            for value in sent.message
        }
        order = [owner[value] for taken in socket.taken for value in taken.data if value in owner]
        if order != sorted(order):
            yield f"on socket {socket.number} the bytes of sends went out in the order {order}"


def datagrams_are_whole(record: Record) -> Iterator[str]:
    """K: a datagram is accepted as a whole or not at all."""
    for socket in record.sockets:
        if not socket.is_stream:
            messages = {sent.message for sent in record.sends if sent.socket == socket.number}
            for taken in socket.taken:
                if taken.data not in messages:
                    yield f"the datagram {taken.data!r} is no message"


def there_is_one_outcome(record: Record) -> Iterator[str]:
    """D: an operation has succeeded if and only if all of its bytes were accepted, and says the same ever after."""
    for sent in record.sends:
        if sent.told_as is not None and sent.is_over and sent.told_as != (sent.count, sent.error):
            yield f"{sent} was told of as {sent.told_as}, and then said {(sent.count, sent.error)}"
        if sent.count is None or not sent.error:
            continue
        if sent.error == "SUCCESS" and sent.count < len(sent.message):
            yield f"{sent} succeeded with {sent.count}"
        elif sent.error != "SUCCESS" and sent.count == len(sent.message) > 0:
            yield f"{sent} ended with {sent.error} though all was accepted"
        for count, error in sent.awaited_as:
            if count != sent.count or error not in (None, sent.error):
                yield f"who waited for {sent} was told {(count, error)}, and it says {(sent.count, sent.error)}"


def events_come_once(record: Record) -> Iterator[str]:
    """E: an event is raised once for each start that answered that the operation is pending, and never else."""
    for sent in record.sends:
        if sent.face == "send_async":
            # What was refused or interrupted has not been answered.
            expected = int(bool(sent.pending)) + sum(sent.resumed)
        elif sent.face == "begin_send":
            expected = int(sent.pending is not None and sent.is_told)
        else:
            expected = sum(sent.resumed)
        if len(sent.told) != expected:
            yield f"{sent} by {sent.face} was told of {len(sent.told)} times, not {expected}"


def events_come_after_the_start(record: Record) -> Iterator[str]:
    """E: no event is raised before the start has returned, nor from inside of it."""
    for sent in record.sends:
        if sent.told and (sent.answered is None or sent.told[0] < sent.answered):
            yield f"{sent} was told of before its start had returned"


def buffers_are_free(record: Record) -> Iterator[str]:
    """F: when an operation is told of, its buffer belongs to the program again."""
    for sent in record.sends:
        if not sent.was_free:
            yield f"the buffer of {sent} was still in use when it was told of"


def nothing_outlives_an_initiator(record: Record) -> Iterator[str]:
    """G: after an initiator has exited none of its operations is alive, and none of their bytes goes out."""
    for initiator in record.initiators:
        if initiator.left is None or initiator.policy == "ADOPT":
            continue
        if initiator.pending:
            yield f"initiator {initiator.number} was left with {initiator.pending} pending"
        for sent in record.sends:
            if sent.initiator == initiator.number:
                late = [
                    value for moment, value in record.accepted(sent) if moment > initiator.left[0]
                ]
                if late:
                    yield f"{len(late)} bytes of {sent} went out after initiator {initiator.number} was left"


def stops_are_prompt(record: Record) -> Iterator[str]:
    """H: after a stop not one byte of the operation goes out."""
    for sent in record.sends:
        if sent.stopped is not None:
            late = [value for moment, value in record.accepted(sent) if moment > sent.stopped]
            if late:
                yield f"{len(late)} bytes of {sent} went out after it was stopped"
    for initiator in record.initiators:
        # An initiator notices the cancel of its scope in the same round of the scheduler, before any time has passed.
        if initiator.cancelled is None or initiator.policy not in ("ABORT", "JOIN"):
            continue
        for sent in record.sends:
            if sent.initiator == initiator.number:
                end = initiator.cancelled[1]
                own = set(sent.message)
                late = [
                    value
                    for taken in record.sockets[sent.socket - 1].taken
                    if taken.time > end
                    for value in taken.data
                    if value in own
                ]
                if late:
                    yield f"{len(late)} bytes of {sent} went out after initiator {initiator.number} was cancelled"


def stops_are_for_one_activation(record: Record) -> Iterator[str]:
    """I: a stop of a send that is over stops nothing else, whoever uses its args by then."""
    for sent in record.strays:
        yield f"a stop of {sent} has stopped the next send by the same args"


def cancels_are_told_as_such(record: Record) -> Iterator[str]:
    """A task that awaits a send is told of its cancel by `trio.Cancelled`, and not by an error."""
    for sent in record.sends:
        if (
            sent.face == "send"
            and sent.error == "OPERATION_ABORTED"
            and not sent.was_cancelled
            and not sent.resumed
            and record.sockets[sent.socket - 1].closed is None
        ):
            yield f"{sent} was awaited, and its cancel was told as an error"


def errors_of_handlers_surface(record: Record) -> Iterator[str]:
    """What a handler raises leaves an initiator, once."""
    if record.surfaced != len(record.raised):
        yield f"handlers have raised {len(record.raised)} errors, and {record.surfaced} came out"


def policies_are_kept(record: Record) -> Iterator[str]:
    """What happens to pending operations at an exit is what the policy says."""
    for initiator in record.initiators:
        if initiator.ended is None or initiator.left is None:
            continue
        waited = initiator.left[1] - initiator.ended[1]
        most = {"ABORT": 0.0, "DRAIN": initiator.grace, "FINISH_STARTED": initiator.grace}.get(
            initiator.policy
        )
        if most is not None and waited > most + ROUNDING:
            yield f"initiator {initiator.number}, {initiator.policy}, took {waited} s to exit"
        if initiator.policy == "JOIN" and not initiator.was_raised and initiator.cancelled is None:
            for sent in record.sends:
                is_cut = (
                    sent.error == "OPERATION_ABORTED"
                    and sent.stopped is None
                    and record.sockets[sent.socket - 1].closed is None
                )
                if sent.initiator == initiator.number and is_cut:
                    yield f"{sent} was stopped by initiator {initiator.number}, JOIN, with nothing to stop it"


def all_ends(record: Record) -> Iterator[str]:
    """Every operation has ended in the end, and queues are empty."""
    for sent in record.sends:
        if not sent.is_over:
            yield f"{sent} never ended"
    for socket in record.sockets:
        if socket.left != (0, 0):
            yield f"socket {socket.number} still has {socket.left[0]} operations and {socket.left[1]} bytes"


def torn_streams_are_loud(record: Record) -> Iterator[str]:
    """L: after a message was cut, nothing is written behind it unless the program says so."""
    for socket in record.sockets:
        if not socket.is_stream:
            continue
        for cut in record.sends:
            if cut.socket != socket.number:
                continue
            got = list(record.accepted(cut))
            if not 0 < len(got) < len(cut.message):
                continue
            last = got[-1][0]
            for taken in socket.taken:
                behind = taken.moment > last or (
                    taken.moment == last and taken.data[-1] not in cut.message
                )
                if (
                    taken.data
                    and behind
                    and not any(last < moment < taken.moment for moment in socket.forgiven)
                ):
                    yield f"bytes were written behind {cut}, of which {len(got)} were accepted"
                    break


RULES: Final[tuple[Callable[[Record], Iterator[str]], ...]] = (
    counts_are_exact,
    bytes_are_a_prefix,
    order_is_kept,
    datagrams_are_whole,
    there_is_one_outcome,
    events_come_once,
    events_come_after_the_start,
    buffers_are_free,
    nothing_outlives_an_initiator,
    stops_are_prompt,
    stops_are_for_one_activation,
    cancels_are_told_as_such,
    errors_of_handlers_surface,
    policies_are_kept,
    all_ends,
    torn_streams_are_loud,
)
