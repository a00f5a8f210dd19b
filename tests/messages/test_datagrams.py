"""Hold lists of datagrams to the system calls that they are cut into."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, strategies as st

from trio_send._messages.buffers import BufferShrankError
from trio_send._messages.datagrams import MAX_RUN_SIZE, Datagrams, datagrams_from_list

datagram = st.builds(
    lambda size, fill, make: make(bytes([fill]) * size),
    st.sampled_from((0, 1, 2, 2, 2, 3)),
    st.integers(0, 255),
    st.sampled_from((bytes, bytearray, memoryview)),
)


def runs(message: Datagrams, most: int) -> list[tuple[Sequence[bytes], int]]:
    """All system calls that a message takes, each of which succeeds."""
    found = []
    while message.sent < message.count:
        opened: list[memoryview] = []
        views, size = message.open_run(most, opened)
        found.append(([bytes(view) for view in views], size))
        message.sent += len(views)
        for view in reversed(opened):
            view.release()
    return found


@given(st.lists(datagram, max_size=40), st.sampled_from((1, 2, 3, 64)))
def test_every_list_is_cut_into_calls_that_the_kernel_takes(
    datagrams: list[Any], most: int
) -> None:
    """Nothing lost, doubled or moved; and no call could have taken one more."""
    message = datagrams_from_list("datagrams", datagrams)
    assert message.count == len(datagrams)
    assert message.size == sum(map(len, datagrams))
    found = runs(message, most)
    assert [each for run, _ in found for each in run] == [bytes(each) for each in datagrams]
    rest = list(map(len, datagrams))
    for run, size in found:
        assert [len(each) for each in run[:-1]] == [size] * (len(run) - 1)
        assert len(run) == 1 or 0 < len(run[-1]) <= size
        assert 1 <= len(run) <= most
        del rest[: len(run)]
        assert not rest or len(run) == most or not 0 < rest[0] <= size or len(run[-1]) < size
    assert message.bytes_sent == message.size
    assert message.unsent == []


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([1000] * 100, [64, 36]),
        ([1200] * 100, [54, 46]),
        ([32754] * 2, [1, 1]),
        ([32753] * 3, [2, 1]),
        ([65507, 1], [1, 1]),
        ([70000, 70000], [1, 1]),
        ([8000] * 8 + [1507], [8, 1]),
    ],
)
def test_no_call_is_longer_than_an_ip_packet(sizes: list[int], expected: list[int]) -> None:
    found = runs(datagrams_from_list("datagrams", [bytes(size) for size in sizes]), 64)
    assert [len(run) for run, _ in found] == expected
    assert all(sum(map(len, run)) <= MAX_RUN_SIZE for run, _ in found if len(run) > 1)


def test_what_turns_out_to_be_too_long_for_the_path_goes_by_itself() -> None:
    message = datagrams_from_list("datagrams", [b"xxx"] * 2 + [b"yy"] * 2 + [b"zzzz"] * 2)
    message.cannot_share(3, errno.EINVAL)
    assert [len(run) for run, _ in runs(message, 64)] == [1, 1, 2, 1, 1]


def test_what_the_device_cannot_cut_goes_by_itself() -> None:
    message = datagrams_from_list("datagrams", [b"xxx"] * 2 + [b"yy"] * 2)
    message.cannot_share(3, errno.EIO)
    assert [len(run) for run, _ in runs(message, 64)] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("datagrams", "error", "sentence"),
    [
        ([b"x", None], TypeError, r"^datagrams\[1\] is None"),
        ([b"x", bytearray(), "x"], TypeError, r"^datagrams\[2\] must be a bytes-like object"),
        ([memoryview(b"abcd")[::2]], TypeError, r"^datagrams\[0\] must be contiguous"),
        (b"abc", TypeError, r"^datagrams\[0\] must be a bytes-like object such as .*, not int"),
        (7, TypeError, r"^datagrams must be a list of bytes-like objects, not int"),
        (None, TypeError, r"^datagrams must be a list of bytes-like objects, not NoneType"),
    ],
)
def test_what_is_no_datagram_is_refused_by_name(
    datagrams: Any, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        datagrams_from_list("datagrams", datagrams)


@pytest.mark.parametrize("make", [bytes, bytearray])
def test_the_list_is_looked_at_once(make: Any) -> None:
    datagrams = [make(b"one"), make(b"two")]
    message = datagrams_from_list("datagrams", datagrams)
    datagrams.append(make(b"three"))
    del datagrams[0]
    assert runs(message, 1) == [([b"one"], 3), ([b"two"], 3)]


def test_no_buffer_is_locked_between_calls() -> None:
    buffer = bytearray(b"abc")
    message = datagrams_from_list("datagrams", [buffer, b"x"])
    buffer += b"def"  # it would raise BufferError
    assert runs(message, 1)[0] == ([b"abc"], 3)


def test_a_buffer_that_shrank_ends_the_call_in_front_of_it() -> None:
    shrunk = bytearray(b"abc")
    message = datagrams_from_list("datagrams", [b"one", bytearray(b"two"), shrunk, b"end"])
    del shrunk[0]
    opened: list[memoryview] = []
    views, size = message.open_run(64, opened)
    assert ([bytes(view) for view in views], size) == ([b"one", b"two"], 3)
    message.sent = 2
    with pytest.raises(BufferShrankError):
        message.open_run(64, opened)
    assert message.unsent == [shrunk, b"end"]
    for view in reversed(opened):
        view.release()
    shrunk.clear()
