"""Choose which way the short ways of sending are gone: compiled, or in Python."""

from __future__ import annotations

import inspect

import pytest

import trio_send
from trio_send import Socket

#: The methods that are compiled, if anything is.
COMPILED = ("send_async", "begin_send", "end_send_nowait")

needs_accelerator = pytest.mark.skipif(
    not trio_send.__accelerated__, reason="there is no accelerator"
)


def go_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all of it done in Python until the test is over."""
    for name in COMPILED:
        monkeypatch.setattr(Socket, name, inspect.unwrap(getattr(Socket, name)))
