"""Hold the inbox of a run to the order of what is posted, to few trips, and to losing no post in silence."""

from __future__ import annotations

import errno
import threading
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from tests.worker_threads import in_own_thread
from trio_send._base.inbox import POSTS_PER_TRIP, Inbox


class Token:
    """The token of a run, which counts how often it is woken, or fails.

    Attributes:
      trips: what the run is to call, once for each time that it was woken.
    """

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.trips: list[Any] = []

    def run_sync_soon(self, action: Any) -> None:
        if self.error is not None:
            raise self.error
        self.trips.append(action)


def inbox_of(token: Token) -> Inbox:
    return Inbox(token)  # type: ignore[arg-type]


def test_a_run_has_one_inbox_and_the_next_one_another() -> None:
    async def main() -> tuple[Inbox, trio.lowlevel.TrioToken]:
        inbox = Inbox.current()
        await trio.lowlevel.checkpoint()
        assert Inbox.current() is inbox
        return inbox, trio.lowlevel.current_trio_token()

    (first, token), (second, _) = trio.run(main), trio.run(main)
    assert first is not second
    assert first.token is token


async def test_what_is_posted_is_called_in_the_trio_thread_in_order() -> None:
    called: list[tuple[int, int]] = []
    inbox = Inbox.current()

    def note(number: int) -> None:
        called.append((number, threading.get_ident()))

    def work() -> None:
        for number in range(3):
            assert inbox.post(partial(note, number))

    await in_own_thread(work)
    await trio.testing.wait_all_tasks_blocked()
    assert called == [(number, threading.get_ident()) for number in range(3)]


def test_what_comes_while_the_run_is_waking_makes_the_same_trip() -> None:
    token = Token()
    taken: list[object] = []
    inbox = inbox_of(token)
    for number in range(5):
        assert inbox.post(partial(taken.append, number))
    assert len(token.trips) == 1
    assert taken == []
    token.trips.pop()()
    assert taken == [0, 1, 2, 3, 4]
    assert token.trips == []
    inbox.post(partial(taken.append, 5))
    assert len(token.trips) == 1


def test_what_is_put_waits_for_somebody_to_wake_the_run() -> None:
    token = Token()
    taken: list[object] = []
    inbox = inbox_of(token)
    inbox.put(partial(taken.append, "first"))
    assert token.trips == []
    inbox.post(partial(taken.append, "second"))
    token.trips.pop()()
    assert taken == ["first", "second"]


def test_what_is_posted_while_posts_are_taken_in_makes_another_trip() -> None:
    token = Token()
    taken: list[object] = []
    inbox = inbox_of(token)

    def post() -> None:
        inbox.post(partial(taken.append, "second"))
        taken.append("first")

    inbox.post(post)
    token.trips.pop()()
    assert taken == ["first"]
    token.trips.pop()()
    assert taken == ["first", "second"]
    assert token.trips == []


def test_a_crowd_is_taken_in_by_batches() -> None:
    """Trio's other tasks have their turn in between."""
    token = Token()
    taken: list[object] = []
    inbox = inbox_of(token)
    count = 2 * POSTS_PER_TRIP + 1
    for number in range(count):
        inbox.post(partial(taken.append, number))
    seen = []
    while token.trips:
        token.trips.pop()()
        seen.append(len(taken))
    assert seen == [POSTS_PER_TRIP, 2 * POSTS_PER_TRIP, count]
    assert taken == list(range(count))


def test_posts_that_come_last_are_taken_in_all_the_same() -> None:
    taken: list[int] = []

    async def main() -> None:
        inbox = Inbox.current()
        for number in range(10 * POSTS_PER_TRIP):
            inbox.post(partial(taken.append, number))

    trio.run(main)
    assert taken == list(range(10 * POSTS_PER_TRIP))


@pytest.mark.parametrize(
    "error", [trio.RunFinishedError(), OSError(errno.EBADF, "Bad file descriptor")]
)
def test_a_run_that_is_over_takes_in_nothing_and_is_given_nothing(error: Exception) -> None:
    """One that has crashed has closed the socket by which it is woken."""
    inbox = inbox_of(Token(error))
    for _ in range(2):
        assert not inbox.post(pytest.fail)
    inbox.take_in()


def test_a_run_that_could_not_be_woken_can_be_later() -> None:
    token = Token(MemoryError())
    taken: list[object] = []
    inbox = inbox_of(token)
    inbox.put(partial(taken.append, "post"))
    with pytest.raises(MemoryError):
        inbox.wake()
    token.error = None
    assert inbox.wake()
    token.trips.pop()()
    assert taken == ["post"]


def test_a_post_can_be_taken_back_until_it_is_taken_in() -> None:
    token = Token()
    taken: list[object] = []
    inbox = inbox_of(token)
    first, second = (partial(taken.append, number) for number in range(2))
    inbox.post(first)
    inbox.post(second)
    assert inbox.take_back(first)
    assert not inbox.take_back(first)
    token.trips.pop()()
    assert not inbox.take_back(second)
    assert taken == [1]


async def test_posts_are_taken_in_where_ctrl_c_cannot_come_between() -> None:
    inbox = inbox_of(Token())
    kept = [trio.lowlevel.currently_ki_protected()]
    inbox.post(lambda: kept.append(trio.lowlevel.currently_ki_protected()))
    inbox.take_in()
    assert kept == [False, True]
