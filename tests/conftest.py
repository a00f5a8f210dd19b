"""What every run of the tests needs."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import pytest
from hypothesis import settings

from trio_send._kernel import forks
from trio_send._owners.exiting_owner import ExitingOwner
from trio_send._owners.scope_owner import ScopeOwner
from trio_send._socket.core import SocketCore
from trio_send.testing._ledger import check_initiator, check_socket

# A machine that has much else to do takes its time.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

#: What did not add up in the test that is running.
WRONG: list[AssertionError] = []


def audit(thing: Any) -> None:
    """Note it if what a socket or an initiator counts does not add up."""
    try:
        if isinstance(thing, SocketCore):
            check_socket("a socket", thing.statistics())
        elif isinstance(thing, ScopeOwner):
            check_initiator(repr(thing), thing.statistics())
    except AssertionError as error:
        WRONG.append(error)


def audited(method: Callable[..., None]) -> Callable[..., None]:
    @wraps(method)
    def call(self: Any, *arguments: Any) -> None:
        audit(self)
        method(self, *arguments)

    return call


def pytest_configure() -> None:
    """Have Ctrl-C heard, which many tests press; a shell has what it starts in the background ignore it.

    And have the books of each socket looked at when it is closed, and those of each initiator when it has been left,
    for most of them are gone when their test is over.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    SocketCore.close_port = audited(SocketCore.close_port)  # type: ignore[method-assign]
    ExitingOwner.tell_unsent = audited(ExitingOwner.tell_unsent)  # type: ignore[method-assign]


def pytest_collection_finish() -> None:
    """Have nobody look for garbage in what is there before the first test.

    These are 300,000 objects, and each full collection of the many that tests ask for would take 0.2 seconds.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def ledger() -> Iterator[None]:
    """See after every test that whatever was started has ended or is pending, and that no byte is missing."""
    WRONG.clear()
    yield
    for thing in tuple(forks._told):
        audit(thing)
    assert not WRONG, WRONG[0]
