"""Choose which way the short ways of sending are gone: compiled, or in Python."""

from __future__ import annotations

import inspect

import pytest

import trio_send
from trio_send import Socket, SocketAsyncEventArgs
from trio_send._kernel.epoll_set import EpollSet
from trio_send._operations.send_queue import SendQueue
from trio_send._socket.event_args_operation import EventArgsOperation

#: The methods that are compiled, if anything is: the classes and the names.
COMPILED: tuple[tuple[type, str], ...] = (
    (Socket, "send_async"),
    (Socket, "begin_send"),
    (Socket, "end_send_nowait"),
    (SocketAsyncEventArgs, "set_buffer"),
    (SocketAsyncEventArgs, "_set_list"),
    (SendQueue, "_attempt_run"),
    (SendQueue, "drain"),
    (EpollSet, "fetch"),
    (EpollSet, "silence"),
    (EventArgsOperation, "tell"),
)

needs_accelerator = pytest.mark.skipif(
    not trio_send.__accelerated__, reason="there is no accelerator"
)


def go_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have all of it done in Python until the test is over."""
    for cls, name in COMPILED:
        monkeypatch.setattr(cls, name, inspect.unwrap(getattr(cls, name)))


def is_compiled(name: str) -> bool:
    """Tell whether a method is compiled here; the name has that of its class in front."""
    names = [each for _, each in COMPILED]
    return trio_send.__accelerated__ and name.rpartition(".")[2] in names
