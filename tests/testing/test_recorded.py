"""Findings that are run again while somebody keeps a record of what happens to their operations."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable

import pytest
import trio

from trio_send import ExitPolicy, SocketAsyncEventArgs
from trio_send.testing import Case, World, explore, record, replay

real = SocketAsyncEventArgs.on_completed


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every event raised twice."""

    def twice(self: SocketAsyncEventArgs) -> object:
        real(self)
        return real(self)

    monkeypatch.setattr(SocketAsyncEventArgs, "on_completed", twice)


async def two_sends(case: Case, size: int = 3) -> None:
    async with World(case) as world:
        socket = world.socket()
        async with world.initiator(ExitPolicy.JOIN):
            world.send_async(socket, size)
            world.send_async(socket, 1)
            await trio.sleep(0.5)


@pytest.mark.parametrize("scenario", [two_sends, functools.partial(two_sends, size=3)])
def test_the_run_is_the_one_that_was_found(
    control: None, scenario: Callable[[Case], Awaitable[None]]
) -> None:
    (finding, *_) = explore(scenario, limits={"kernel": 2}).findings
    recorded = record(scenario, finding)
    assert recorded.replay == replay(scenario, finding)
    assert recorded.replay.is_found_again and recorded.replay.is_same
    trace = recorded.trace
    assert [one.policy for one in trace.initiators] == ["JOIN"]
    assert [(one.kind, one.size) for one in trace.activations] == [("send", 3), ("send", 1)]
    assert any(event.what == "accepted" for event in trace.events)


def test_what_ends_with_an_exception_is_recorded(control: None) -> None:
    async def scenario(case: Case) -> None:
        await two_sends(case)
        raise ValueError("in the end")

    findings = explore(scenario, only={}).findings
    (finding,) = [one for one in findings if one.sentence == "ValueError: in the end"]
    recorded = record(scenario, finding)
    assert recorded.replay.is_same
    assert len(recorded.trace.activations) == 2
