"""Call everything in random order, with right and wrong arguments, on sockets of every kind.

Whatever is called may raise what its docstring says and nothing else, and must keep to what is promised. For large
numbers, ``python -m tests.stress fuzz``.
"""

from __future__ import annotations

import errno

import pytest
import trio
from hypothesis import HealthCheck, given, settings, strategies as st

from tests import fuzz_oracle, stress_fuzz
from tests.fuzz_actions import CONTROL, NAMES, run_sequence
from tests.fuzz_oracle import Entry, complaint_about, errors_in, errors_of, is_documented
from tests.fuzz_toolbox import AWAITED, SYNC
from tests.fuzz_world import Step
from tests.house.test_public_names import everything
from tests.stress import Trials
from trio_send import (
    InvalidOperationError,
    ObjectDisposedError,
    OperationInProgressError,
    SocketError,
    SocketException,
)

# What lies inside an initiator is met most often, for nearly everything needs one.
sequences = st.builds(
    lambda first, rest: [*first, *rest],
    st.sampled_from([[("open", bytes([policy]))] for policy in range(5)] + [[]]),
    st.lists(st.tuples(st.sampled_from(stress_fuzz.WEIGHTED), st.binary(max_size=8)), max_size=40),
)


@given(header=st.binary(max_size=8), steps=sequences)
@settings(
    max_examples=300,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_no_sequence_of_calls_breaks_a_promise(header: bytes, steps: list[Step]) -> None:
    run_sequence(header, steps)


def test_random_sequences() -> None:
    """A few of those that are run in large numbers, and a look at whether they get anywhere."""
    trials = Trials(300, seed=1)
    stress_fuzz.fuzz(trials)
    assert trials.mismatches == []
    for what in ("calls", "awaited calls", "initiators", "events", "callbacks", "cancelled"):
        assert trials.happened[what] > 0, what
    assert trials.happened["starts that pended"] > 0
    assert trials.happened["starts on the spot"] > 0


def test_each_action_has_a_name_of_its_own() -> None:
    assert len(NAMES) == len(set(NAMES)) == len(SYNC) + len(AWAITED) + len(CONTROL)


# The oracle -----------------------------------------------------------------------------------


def test_every_docstring_names_errors_that_exist() -> None:
    assert sum(len(errors_in(item.doc or "")) for item in everything()) > 100


def test_errors_are_found_in_docstrings() -> None:
    assert errors_of("Socket.send_async") == (
        TypeError,
        ValueError,
        OperationInProgressError,
        ObjectDisposedError,
        InvalidOperationError,
    )
    assert trio.WouldBlock in errors_of("Socket.end_send_nowait")
    assert errors_of("BufferManager.set_buffer")[0] is TypeError
    assert errors_of("Socket.statistics") == ()


@pytest.mark.parametrize(
    ("what", "error", "wrong_type", "expected"),
    [
        ("Socket.send_async", ValueError(), False, True),
        ("Socket.send_async", KeyError(), False, False),
        ("Socket.send_async", RuntimeError(), False, False),
        ("Socket.send_async", UnicodeEncodeError("ascii", "", 0, 0, ""), False, False),
        ("Socket.send_async", SocketException(SocketError.FAULT), False, False),
        ("Socket.send_packets_async", FileNotFoundError(errno.ENOENT, ""), False, True),
        ("Socket.statistics", TypeError(), False, False),
        ("Socket.listen", TypeError(), True, True),
    ],
)
def test_only_what_is_documented_passes(
    what: str, error: BaseException, wrong_type: bool, expected: bool
) -> None:
    assert is_documented(what, error, wrong_type=wrong_type) is expected


@pytest.mark.parametrize(
    ("entries", "accepted", "fine"),
    [
        ([], b"", True),
        ([], b"x", False),
        ([Entry("one", b"abc", count=3), Entry("two", b"def", count=1)], b"abcd", True),
        ([Entry("one", b"abc", count=3), Entry("two", b"def", count=1)], b"dabc", False),
        ([Entry("one", b"abc", count=2)], b"abc", False),
        ([Entry("one", b"abc", count=3)], b"ab", False),
        ([Entry("one", b"abc", count=4)], b"abcd", False),
        ([Entry("one", b"abc", count=-1)], b"", False),
        ([Entry("one", b"abc"), Entry("two", b"def", count=3)], b"abdef", True),
        ([Entry("one", b"abc"), Entry("two", b"def", count=3)], b"acdef", False),
        ([Entry("one", None, count=2), Entry("two", b"def", count=3)], b"xydef", True),
        ([Entry("one", None, count=1), Entry("two", b"def", count=3)], b"xydef", False),
        ([Entry("one", None), Entry("two", b"def", count=3)], b"xydef", True),
        ([Entry("one", b"abc", whole=True, count=2)], b"ab", False),
        ([Entry("one", b"abc", read=lambda: 1)], b"a", True),
        ([Entry("one", b"abc", read=lambda: 1)], b"ab", False),
    ],
)
def test_accepted_bytes_have_to_be_accounted_for(
    entries: list[Entry], accepted: bytes, fine: bool
) -> None:
    assert (complaint_about(entries, accepted) is None) is fine


def test_what_cannot_be_read_of_a_docstring_is_an_error() -> None:
    with pytest.raises(AttributeError):
        errors_in("Do it.\n\nRaises:\n  NoSuchError: never.")
    assert fuzz_oracle.is_refusal(ObjectDisposedError("it was closed"))
    assert not fuzz_oracle.is_refusal(SocketException(SocketError.FAULT))
