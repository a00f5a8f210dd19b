"""Hold the checks of plain numbers to naming the parameter and saying what would be right."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

import pytest

from trio_send import BufferManager, ExitPolicy, SocketAsyncEventArgs, open_initiator
from trio_send._base.checks import counted, require_number, require_seconds, require_whole_number
from trio_send.testing import Blocked, ScriptedPort


class Index:
    """A number that is none of Python's own."""

    def __index__(self) -> int:
        return 7


@pytest.mark.parametrize("value", [7, Index()])
def test_a_whole_number(value: Any) -> None:
    assert require_whole_number("size", value, "bytes") == 7


@pytest.mark.parametrize("value", [None, 7.0, "7"])
def test_no_whole_number(value: Any) -> None:
    sentence = f"size must be a whole number of bytes, not {value!r}"
    with pytest.raises(TypeError, match=f"^{re.escape(sentence)}$"):
        require_whole_number("size", value, "bytes")


@pytest.mark.parametrize("value", [0, 1.5, Fraction(3, 2), math.inf])
def test_seconds(value: Any) -> None:
    assert require_seconds("timeout", value) == value
    assert type(require_seconds("timeout", value)) is float


@pytest.mark.parametrize("value", [None, "3", 1j])
def test_no_seconds(value: Any) -> None:
    sentence = f"timeout must be a number of seconds, not {value!r}"
    for check in (require_seconds, require_number):
        with pytest.raises(TypeError, match=f"^{re.escape(sentence)}$"):
            check("timeout", value)


@pytest.mark.parametrize("value", [-1, -0.001, -math.inf, math.nan])
def test_seconds_that_are_not_from_zero_on(value: float) -> None:
    with pytest.raises(ValueError, match=rf"^timeout is {value}, but must be .* from 0 on"):
        require_seconds("timeout", value)


def test_who_asks_for_them() -> None:
    """Each names its own parameter."""
    args = SocketAsyncEventArgs()
    with pytest.raises(TypeError, match=r"^timeout must be a number of seconds, not None"):
        args.timeout = None  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"^stall_timeout must be a number of seconds, not 'x'"):
        args.stall_timeout = "x"  # type: ignore[assignment]
    assert (args.timeout, args.stall_timeout) == (math.inf, math.inf)
    with pytest.raises(TypeError, match=r"^grace must be a number of seconds, not '3'"):
        open_initiator(ExitPolicy.DRAIN, grace="3")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^total_bytes must be a whole number of bytes, not '10'"):
        BufferManager("10", 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^buffer_size must be a whole number of bytes, not 1.5"):
        BufferManager(10, 1.5)  # type: ignore[arg-type]


def test_a_line_that_no_script_has() -> None:
    with pytest.raises(TypeError, match=r"^script has 1.5, but each line must be a number of"):
        ScriptedPort([3, 1.5])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"^script has 'ENOTHING', which is not the name"):
        ScriptedPort([3, Blocked(), "ENOTHING"])


def test_things_are_counted_in_words() -> None:
    assert [counted(number, "byte") for number in (0, 1, 2)] == ["0 bytes", "1 byte", "2 bytes"]
