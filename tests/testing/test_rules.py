"""The rules of a world: each finds what nobody else does.

Modules: testing._record.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trio_send.testing._record import InitiatorRecord, Record, Sent, SocketRecord, Taken
from trio_send.testing._rules import RULES


def record() -> Record:
    """A small world in which everything is as it should be.

    Two sends by args over a stream, in an initiator; the second is stopped with one of its two bytes accepted. A third,
    begun in the callback way, comes after the torn stream was forgiven. Then a datagram is awaited over another socket.
    """
    first = Sent(1, 1, "send_async", b"\0\1\2", 1, started=1, answered=3, pending=True, told=[8])
    first.told_as, first.count, first.error = (3, "SUCCESS"), 3, "SUCCESS"
    second = Sent(2, 1, "send_async", b"\3\4", 1, started=4, answered=5, pending=True, told=[11])
    second.told_as, second.count = (1, "OPERATION_ABORTED"), 1
    second.error, second.stopped = "OPERATION_ABORTED", 9
    third = Sent(3, 1, "begin_send", b"\5", 1, started=13, answered=15, pending=False, told=[16])
    third.told_as, third.count, third.error = (1, "SUCCESS"), 1, "SUCCESS"
    fourth = Sent(4, 2, "send", b"\6\7", None, started=20, answered=22)
    fourth.count, fourth.error = 2, "SUCCESS"
    sends = [first, second, third, fourth]
    for sent in sends:
        sent.is_over = True
    stream = SocketRecord(1, True, [Taken(2, b"\0"), Taken(7, b"\1\2\3"), Taken(14, b"\5")], [12])
    datagrams = SocketRecord(2, False, [Taken(21, b"\6\7")])
    initiator = InitiatorRecord(1, "DRAIN", 2.0, ended=(17, 1.0), left=(18, 1.5))
    return Record(sends, [stream, datagrams], [initiator])


def broken(what: Record) -> dict[str, list[str]]:
    """The sentences of each rule that is broken."""
    found = {rule.__name__: list(rule(what)) for rule in RULES}
    return {name: sentences for name, sentences in found.items() if sentences}


def test_nothing_is_said_of_a_good_world() -> None:
    assert broken(record()) == {}


def wrong_count(what: Record) -> None:
    what.sends[1].count = 0
    what.sends[1].told_as = (0, "OPERATION_ABORTED")


def a_byte_twice(what: Record) -> None:
    # And the count goes with it.
    what.sockets[0].taken[1].data = b"\1\1\2\3"
    what.sends[0].message = b"\0\1\2"
    what.sends[0].count = 4
    what.sends[0].told_as = (4, "SUCCESS")


def a_gap(what: Record) -> None:
    what.sockets[0].taken[1].data = b"\1\2\4"


def out_of_order(what: Record) -> None:
    what.sockets[0].taken = [Taken(2, b"\0"), Taken(7, b"\3\4\1\2"), Taken(14, b"\5")]
    what.sends[1].count, what.sends[1].error = 2, "SUCCESS"
    what.sends[1].told_as = (2, "SUCCESS")


def half_a_datagram(what: Record) -> None:
    what.sockets[1].taken[0].data = b"\6"
    what.sends[3].count, what.sends[3].error = 1, "CONNECTION_RESET"


def changes_its_mind(what: Record) -> None:
    what.sends[1].told_as = (1, "TIMED_OUT")


def too_good(what: Record) -> None:
    what.sends[1].error = "SUCCESS"
    what.sends[1].told_as = (1, "SUCCESS")


def completion_loses(what: Record) -> None:
    what.sends[0].error = "OPERATION_ABORTED"
    what.sends[0].told_as = (3, "OPERATION_ABORTED")


def told_twice(what: Record) -> None:
    what.sends[0].told = [8, 10]


def told_for_nothing(what: Record) -> None:
    what.sends[0].pending = False


def never_told(what: Record) -> None:
    what.sends[2].told = []


def told_too_early(what: Record) -> None:
    what.sends[0].told = [2]


def buffer_in_use(what: Record) -> None:
    what.sends[0].was_free = False


def left_pending(what: Record) -> None:
    what.initiators[0].pending = 1


def ghost_bytes(what: Record) -> None:
    what.sockets[0].taken[2].moment = 19


def late_bytes(what: Record) -> None:
    what.sends[1].stopped = 6


def late_bytes_of_an_initiator(what: Record) -> None:
    what.initiators[0].policy = "ABORT"
    what.initiators[0].cancelled, what.initiators[0].ended = (6, 0.5), (17, 1.5)
    what.sockets[0].taken[2].time = 1.0


def told_another_count(what: Record) -> None:
    what.sends[0].awaited_as = [(3, None), (2, None)]


def told_another_error(what: Record) -> None:
    what.sends[2].awaited_as = [(1, "SUCCESS"), (1, "TIMED_OUT")]


def stray_stop(what: Record) -> None:
    what.strays = [what.sends[0]]


def cancel_as_error(what: Record) -> None:
    what.sends[3].count, what.sends[3].error = 0, "OPERATION_ABORTED"
    what.sockets[1].taken = []


def swallowed(what: Record) -> None:
    what.raised, what.surfaced = [ValueError(), ValueError()], 1


def takes_too_long(what: Record) -> None:
    what.initiators[0].left = (18, 3.5)


def join_stops(what: Record) -> None:
    what.initiators[0].policy = "JOIN"
    what.sends[1].stopped = None


def never_ends(what: Record) -> None:
    what.sends[3].is_over = False


def queue_is_left(what: Record) -> None:
    what.sockets[0].left = (1, 1)


def written_behind(what: Record) -> None:
    what.sockets[0].forgiven = []


def joined_behind(what: Record) -> None:
    what.sockets[0].taken = [Taken(2, b"\0"), Taken(7, b"\1\2\3\5")]
    what.sockets[0].forgiven = [6]


@pytest.mark.parametrize(
    ("change", "rule", "words"),
    [
        (wrong_count, "counts_are_exact", "send 2 of 2 bytes says 0, but 1 were accepted"),
        (a_byte_twice, "bytes_are_a_prefix", "which are not the first ones"),
        (a_gap, "bytes_are_a_prefix", "of send 2 of 2 bytes the bytes b'\\x04' were accepted"),
        (out_of_order, "order_is_kept", "in the order [1, 2, 2, 1, 1, 3]"),
        (half_a_datagram, "datagrams_are_whole", "the datagram b'\\x06' is no message"),
        (changes_its_mind, "there_is_one_outcome", "was told of as (1, 'TIMED_OUT')"),
        (too_good, "there_is_one_outcome", "send 2 of 2 bytes succeeded with 1"),
        (
            completion_loses,
            "there_is_one_outcome",
            "with OPERATION_ABORTED though all was accepted",
        ),
        (told_twice, "events_come_once", "was told of 2 times, not 1"),
        (told_for_nothing, "events_come_once", "was told of 1 times, not 0"),
        (never_told, "events_come_once", "send 3 of 1 bytes by begin_send was told of 0 times"),
        (told_too_early, "events_come_after_the_start", "before its start had returned"),
        (buffer_in_use, "buffers_are_free", "the buffer of send 1 of 3 bytes was still in use"),
        (left_pending, "nothing_outlives_an_initiator", "initiator 1 was left with 1 pending"),
        (ghost_bytes, "nothing_outlives_an_initiator", "1 bytes of send 3 of 1 bytes went out"),
        (late_bytes, "stops_are_prompt", "1 bytes of send 2 of 2 bytes went out after it was"),
        (
            late_bytes_of_an_initiator,
            "stops_are_prompt",
            "1 bytes of send 3 of 1 bytes went out after initiator 1 was cancelled",
        ),
        (told_another_count, "there_is_one_outcome", "was told (2, None), and it says (3, 'SUCCE"),
        (told_another_error, "there_is_one_outcome", "was told (1, 'TIMED_OUT')"),
        (stray_stop, "stops_are_for_one_activation", "a stop of send 1 of 3 bytes has stopped"),
        (cancel_as_error, "cancels_are_told_as_such", "send 4 of 2 bytes was awaited"),
        (swallowed, "errors_of_handlers_surface", "have raised 2 errors, and 1 came out"),
        (takes_too_long, "policies_are_kept", "initiator 1, DRAIN, took 2.5 s to exit"),
        (join_stops, "policies_are_kept", "JOIN, with nothing to stop it"),
        (never_ends, "all_ends", "send 4 of 2 bytes never ended"),
        (queue_is_left, "all_ends", "socket 1 still has 1 operations and 1 bytes"),
        (written_behind, "torn_streams_are_loud", "behind send 2 of 2 bytes, of which 1 were"),
        (joined_behind, "torn_streams_are_loud", "behind send 2 of 2 bytes, of which 1 were"),
    ],
)
def test_each_rule_alone_finds_what_is_its_own(
    change: Callable[[Record], None], rule: str, words: str
) -> None:
    what = record()
    change(what)
    found = broken(what)
    assert list(found) == [rule]
    assert words in found[rule][0]


def test_times_are_sums_of_fractions() -> None:
    what = record()
    takes_too_long(what)
    (initiator,) = [each for each in what.initiators if each.policy == "DRAIN"]
    assert (
        initiator.ended is not None and initiator.left is not None and initiator.grace is not None
    )
    moment, _ = initiator.left
    initiator.left = (moment, initiator.ended[1] + initiator.grace + 3e-16)
    assert broken(what) == {}


def test_every_rule_is_needed() -> None:
    marks = test_each_rule_alone_finds_what_is_its_own.pytestmark  # type: ignore[attr-defined]
    needed = {rule for _, rule, _ in marks[0].args[1]}
    assert needed == {rule.__name__ for rule in RULES}
