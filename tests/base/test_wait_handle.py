"""Hold flags to staying as they were set, and waits for them to ending in time and losing nobody.

What of an operation is waited for by a flag is tested with `Socket.begin_send`, and threads that wait with
`trio_send.from_thread`.
"""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from trio_send import ManualResetEvent


async def test_a_time_that_is_none_is_refused() -> None:
    handle = ManualResetEvent()
    for timeout in (-1, -math.inf, math.nan):
        with pytest.raises(ValueError, match=r"^timeout is .*, but must be a number of seconds"):
            await handle.wait_one(timeout)
    with pytest.raises(TypeError, match=r"^timeout must be a number of seconds, not '3'"):
        await handle.wait_one("3")  # type: ignore[arg-type]


async def test_waiting_for_a_flag_is_always_a_checkpoint() -> None:
    event = ManualResetEvent(True)
    with assert_checkpoints():
        assert await event.wait_one()
    event.reset()
    with assert_checkpoints():
        assert not await event.wait_one(0)


@pytest.mark.page("B30")
@pytest.mark.fact("F294")
async def test_a_manual_reset_event() -> None:
    """It stays set until it is reset (F294)."""
    event = ManualResetEvent()
    assert await event.wait_one(0) is False
    event.set()
    event.set()
    assert await event.wait_one() is True
    assert await event.wait_one(0) is True
    event.reset()
    assert await event.wait_one(0) is False
    event.reset()
    event.set()
    assert await event.wait_one(0) is True
    assert await ManualResetEvent(True).wait_one(0) is True
    assert repr(event) == "<ManualResetEvent: set, 0 waiting>"


@pytest.mark.parametrize("timeout", [math.inf, 60])
async def test_setting_an_event_releases_those_who_wait_even_if_it_is_reset_at_once(
    timeout: float,
) -> None:
    """They were waiting when it was set, and time did not run out."""
    event = ManualResetEvent()
    log: list[bool] = []

    async def wait() -> None:
        log.append(await event.wait_one(timeout))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        event.set()
        event.reset()
    assert log == [True, True]
    assert await event.wait_one(0) is False


async def test_a_cancelled_wait_leaves_the_flag_alone() -> None:
    event = ManualResetEvent()
    with trio.CancelScope() as scope:
        scope.cancel()
        await event.wait_one()
    assert scope.cancelled_caught
    assert repr(event) == "<ManualResetEvent: not set, 0 waiting>"
