"""What happens to pending operations when their initiator is left: each policy, by each way out.

The kernel is a script and the clock is virtual, so who ends how, with how many bytes and at which second is exact.

Modules: _owners.exiting_owner.
"""

from __future__ import annotations

import contextlib
import contextvars
import re
import signal
import sys
from typing import Any, NamedTuple

import pytest
import trio
import trio.testing

from tests.helpers import cycle, python_handles_ctrl_c as python_handles_ctrl_c, scripted
from trio_send import (
    ExitPolicy,
    InvalidOperationError,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    current_initiator,
    open_initiator,
    socketpair,
)
from trio_send.testing import Blocked, ScriptedPort

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

ABORT = ExitPolicy.ABORT
JOIN = ExitPolicy.JOIN
DRAIN = ExitPolicy.DRAIN
FINISH_STARTED = ExitPolicy.FINISH_STARTED
ADOPT = ExitPolicy.ADOPT

MESSAGE = b"0123456789"

ABORTED = "aborted"
DONE = "done"
BEHIND_CUT = "behind a cut"
TIMED_OUT = "timed out"

WORDS = {
    SocketError.OPERATION_ABORTED: ABORTED,
    SocketError.SUCCESS: DONE,
    SocketError.CONNECTION_ABORTED: BEHIND_CUT,
    SocketError.TIMED_OUT: TIMED_OUT,
}


class End(NamedTuple):
    """How an operation ended: the outcome, the number of bytes, and the second of the test."""

    how: str
    sent: int
    at: float


class Sends:
    """Starts sends and notes what `Completed` tells of each, in the order in which it is told."""

    def __init__(self) -> None:
        self.began = trio.current_time()
        self.told: list[tuple[str, End]] = []

    @property
    def now(self) -> float:
        return trio.current_time() - self.began

    def make(self, name: str, message: bytes = MESSAGE) -> SocketAsyncEventArgs:
        args = SocketAsyncEventArgs(message, user_token=name)
        args.completed += self.on_completed
        return args

    def start(self, socket: Socket, name: str, message: bytes = MESSAGE) -> SocketAsyncEventArgs:
        args = self.make(name, message)
        assert socket.send_async(args), f"{name} did not pend"
        return args

    def on_completed(self, socket: Socket, args: SocketAsyncEventArgs) -> None:
        assert not args.pending
        end = End(WORDS[args.socket_error], args.bytes_transferred, self.now)
        self.told.append((args.user_token, end))

    def ends(self) -> dict[str, End]:
        """How each operation ended, by name. Fails if one was told twice."""
        assert len({name for name, _ in self.told}) == len(self.told), self.told
        return dict(self.told)


def stuck_socket(after: int = 0, seconds: float = float("inf")) -> tuple[Socket, ScriptedPort]:
    """A socket that takes ``after`` bytes of the first message and then nothing for a while."""
    if after:
        return scripted(after, Blocked(seconds))
    return scripted(Blocked(seconds))


# -- the table --------------------------------------------------------------------------------------------------------
#
# One world, left in each way under each policy. Three sockets, each of which takes nothing from second 0 to 5:
#
#     started    the head had 3 of its 10 bytes accepted; behind it one of ours, then one of theirs
#     unstarted  the head had none accepted; behind it one of theirs
#     foreign    the head is theirs and had 3 bytes accepted; behind it one of ours
#
# Ours belong to the initiator that is left at second 1, theirs to the enclosing one, which waits for all of its own.

TABLE = """
policy          grace  left by   out  started  own       foreign   unstarted  foreign    own behind
                                 at   head     follower  follower  head       behind it  foreign

ABORT           -      any       1    cut 1    stop 1    refuse 1  stop 1     done 5     stop 1

JOIN            -      exit      5    done 5   done 5    done 5    done 5     done 5     done 5
JOIN            -      not exit  1    cut 1    stop 1    refuse 1  stop 1     done 5     stop 1

DRAIN           10     any       5    done 5   done 5    done 5    done 5     done 5     done 5
DRAIN           2      any       3    cut 3    stop 3    refuse 3  stop 3     done 5     stop 3
DRAIN           0      any       1    cut 1    stop 1    refuse 1  stop 1     done 5     stop 1

FINISH_STARTED  10     any       5    done 5   stop 1    done 5    stop 1     done 5     stop 1
FINISH_STARTED  2      any       3    cut 3    stop 1    refuse 3  stop 1     done 5     stop 1
FINISH_STARTED  0      any       1    cut 1    stop 1    refuse 1  stop 1     done 5     stop 1

ADOPT           -      any       1    done 5   done 5    done 5    done 5     done 5     done 5
"""

#: The words of the table. What follows them is the second.
CELLS = {
    "done": (DONE, 10),
    "cut": (ABORTED, 3),
    "stop": (ABORTED, 0),
    "refuse": (BEHIND_CUT, 0),
}

#: The columns, and what the test calls the operations in them.
COLUMNS = (
    "started",
    "own follower",
    "foreign follower",
    "unstarted",
    "foreign behind unstarted",
    "own behind foreign",
)

WAYS = ("exit", "raise", "outer cancel", "own cancel")


class Row(NamedTuple):
    policy: ExitPolicy
    grace: float | None
    #: When the scope has been left.
    out_at: float
    ends: dict[str, End]


def read_table() -> list[Any]:
    """The table's rows, each in the ways in which it is left, as parameters of a test."""
    parameters = []
    for line in TABLE.strip().splitlines()[2:]:
        if not line:
            continue
        policy, grace, left_by, out_at, *cells = re.split(r"  +", line)
        ends = {}
        for name, cell in zip(COLUMNS, cells, strict=True):
            word, second = cell.split()
            ends[name] = End(*CELLS[word], float(second))
        row = Row(ExitPolicy[policy], None if grace == "-" else float(grace), float(out_at), ends)
        for way in {"any": WAYS, "exit": WAYS[:1], "not exit": WAYS[1:]}[left_by]:
            parameters.append(pytest.param(row, way, id=f"{policy} {grace} {way}"))
    return parameters


class LeavingError(Exception):
    """What the body raises."""


async def leave_by(way: str, outer: trio.CancelScope, own: trio.CancelScope) -> None:
    if way == "raise":
        raise LeavingError
    if way == "outer cancel":
        outer.cancel(reason="the test says so")
        await trio.sleep_forever()
    if way == "own cancel":
        own.cancel(reason="the test says so")
        await trio.sleep_forever()
    assert way == "exit"


@pytest.mark.parametrize(("row", "way"), read_table())
async def test_table(row: Row, way: str, autojump_clock: trio.testing.MockClock) -> None:
    sends = Sends()
    started, started_port = stuck_socket(3, 5)
    unstarted, unstarted_port = stuck_socket(0, 5)
    foreign, foreign_port = stuck_socket(3, 5)
    raised: BaseException | None = None
    left_at = -1.0
    async with open_initiator(JOIN, name="theirs") as theirs:
        theirs_context = contextvars.copy_context()
        with trio.CancelScope() as outer:
            try:
                async with open_initiator(row.policy, grace=row.grace, name="ours") as ours:
                    theirs_context.run(sends.start, foreign, "foreign head")
                    head = sends.start(started, "started")
                    sends.start(started, "own follower")
                    theirs_context.run(sends.start, started, "foreign follower")
                    idle = sends.start(unstarted, "unstarted")
                    theirs_context.run(sends.start, unstarted, "foreign behind unstarted")
                    behind = sends.start(foreign, "own behind foreign")
                    assert (ours.pending_operations, theirs.pending_operations) == (4, 3)
                    await trio.sleep(1)
                    await leave_by(way, outer, ours.cancel_scope)
            except LeavingError as error:
                raised = error
        left_at = sends.now
        # Nothing of it is alive any more, unless somebody else has taken it over.
        assert ours.pending_operations == 0
        if row.policy is ADOPT:
            assert theirs.pending_operations == 7
        else:
            assert not (head.pending or idle.pending or behind.pending)

    assert sends.now == 5  # when the last of theirs was done
    assert left_at == row.out_at
    assert (raised is not None) == (way == "raise")
    assert outer.cancelled_caught == (way == "outer cancel")
    ends = sends.ends()
    assert ends.pop("foreign head") == End(DONE, 10, 5)
    assert ends == row.ends

    # Every byte that was counted went, none that was not, and in order.
    for port, names in [
        (started_port, ["started", "own follower", "foreign follower"]),
        (unstarted_port, ["unstarted", "foreign behind unstarted"]),
    ]:
        assert bytes(port.accepted) == b"".join(MESSAGE[: ends[name].sent] for name in names)
    assert bytes(foreign_port.accepted) == MESSAGE + MESSAGE[: ends["own behind foreign"].sent]

    # A stream is torn exactly if a message on it was cut.
    assert (started.torn is not None) == (ends["started"].sent == 3)
    assert unstarted.torn is None
    assert foreign.torn is None
    if ends["started"].sent == 3:
        assert started.torn is not None and started.torn.operation is head
        assert b"".join(head.remaining) == MESSAGE[3:]


@pytest.mark.parametrize(
    ("way", "policy", "why"),
    [
        ("exit", ABORT, "its initiator exited"),
        ("raise", ABORT, "the initiator was left by an exception"),
        ("outer cancel", ABORT, "the test says so"),
        ("own cancel", JOIN, "the test says so"),
        ("raise", JOIN, "the initiator was left by an exception"),
    ],
)
async def test_the_error_says_why(
    way: str, policy: ExitPolicy, why: str, autojump_clock: trio.testing.MockClock
) -> None:
    # Whether the body or the initiator's own tasks are the first to notice a cancel is left to chance by Trio, and must
    # make no difference. In this many rounds both happen.
    for _ in range(25):
        sends = Sends()
        socket, _ = stuck_socket(3)
        with trio.CancelScope() as outer:
            try:
                async with open_initiator(policy) as initiator:
                    args = sends.start(socket, "cut")
                    result = socket.begin_send(MESSAGE)
                    await leave_by(way, outer, initiator.cancel_scope)
            except LeavingError:
                pass
        assert args.outcome is not None
        with pytest.raises(SocketException, match=why) as caught:
            args.outcome.unwrap()
        assert caught.value.bytes_transferred == 3
        with pytest.raises(SocketException, match=why) as caught:
            socket.end_send_nowait(result)
        assert caught.value.bytes_transferred == 0
        # A stop is never reported as Trio's own exception.
        assert caught.value.socket_error_code is SocketError.OPERATION_ABORTED


async def test_the_error_says_that_the_grace_was_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    socket, _ = stuck_socket()
    async with open_initiator(DRAIN, grace=1.5):
        result = socket.begin_send(MESSAGE)
    with pytest.raises(SocketException, match=r"its grace of 1\.5 s was over"):
        socket.end_send_nowait(result)


# -- grace ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [DRAIN, FINISH_STARTED])
@pytest.mark.parametrize("grace", [None, -1, -0.001, float("inf"), float("-inf"), float("nan")])
def test_grace_must_be_given_and_finite(policy: ExitPolicy, grace: float | None) -> None:
    with pytest.raises(ValueError, match=r"^grace is .*finite"):
        open_initiator(policy, grace=grace)


@pytest.mark.parametrize("policy", [ABORT, JOIN, ADOPT])
@pytest.mark.parametrize("grace", [0, 1.5, float("inf")])
def test_grace_is_for_two_policies_only(policy: ExitPolicy, grace: float) -> None:
    with pytest.raises(ValueError, match=rf"^grace is .*not {policy.name}"):
        open_initiator(policy, grace=grace)


@pytest.mark.parametrize("on_exit", [None, "abort", 1, ExitPolicy])
def test_wrong_type_of_policy(on_exit: object) -> None:
    with pytest.raises(TypeError, match="on_exit must be an ExitPolicy"):
        open_initiator(on_exit)  # type: ignore[arg-type]


@pytest.mark.parametrize("grace", ["1", [], object()])
def test_wrong_type_of_grace(grace: object) -> None:
    with pytest.raises(TypeError):
        open_initiator(DRAIN, grace=grace)  # type: ignore[arg-type]


async def test_what_is_said_of_an_initiator() -> None:
    async with open_initiator(DRAIN, grace=2.5, name="mine") as initiator:
        assert current_initiator() is initiator
        assert (initiator.on_exit, initiator.grace, initiator.name) == (DRAIN, 2.5, "mine")
        assert repr(initiator) == "<Initiator 'mine': DRAIN, open, 0 pending>"
    assert repr(initiator) == "<Initiator 'mine': DRAIN, exited, 0 pending>"


@pytest.mark.parametrize("policy", [DRAIN, FINISH_STARTED])
async def test_grace_counts_from_the_cancel_if_that_comes_first(
    policy: ExitPolicy, autojump_clock: trio.testing.MockClock
) -> None:
    sends = Sends()
    socket, _ = stuck_socket(3)
    with trio.CancelScope() as outer:
        async with open_initiator(policy, grace=4):
            sends.start(socket, "head")
            outer.cancel()
            with trio.CancelScope(shield=True):
                await trio.sleep(3)  # the body cleans up
    assert sends.now == 4
    assert sends.ends() == {"head": End(ABORTED, 3, 4)}
    assert outer.cancelled_caught


@pytest.mark.parametrize("policy", [DRAIN, FINISH_STARTED])
async def test_grace_ends_while_the_body_still_cleans_up(
    policy: ExitPolicy, autojump_clock: trio.testing.MockClock
) -> None:
    sends = Sends()
    socket, _ = stuck_socket(3)
    with trio.CancelScope() as outer:
        async with open_initiator(policy, grace=2):
            args = sends.start(socket, "head")
            outer.cancel()
            with trio.CancelScope(shield=True):
                await trio.sleep(10)
                assert not args.pending
                # From the stop on, starts end on the spot.
                late = SocketAsyncEventArgs(b"late")
                assert not socket.send_async(late)
                assert late.socket_error is SocketError.OPERATION_ABORTED
    assert sends.ends() == {"head": End(ABORTED, 3, 2)}
    assert sends.now == 10


@pytest.mark.parametrize("policy", [DRAIN, FINISH_STARTED])
async def test_grace_counts_from_the_exit_if_that_comes_first(
    policy: ExitPolicy, autojump_clock: trio.testing.MockClock
) -> None:
    sends = Sends()
    socket, _ = stuck_socket(3)
    with trio.move_on_after(3) as outer:
        async with open_initiator(policy, grace=4):
            sends.start(socket, "head")
            await trio.sleep(1)
    # The cancel at 3, in the middle of the grace, neither shortens nor prolongs it.
    assert sends.now == 5
    assert sends.ends() == {"head": End(ABORTED, 3, 5)}
    # No checkpoint of the body was cancelled, and the exit had nothing to give up.
    assert outer.cancel_called


@pytest.mark.parametrize("policy", [DRAIN, FINISH_STARTED])
async def test_a_second_cancel_does_not_hurry_the_grace(
    policy: ExitPolicy, autojump_clock: trio.testing.MockClock
) -> None:
    sends = Sends()
    socket, _ = stuck_socket(3, 3)
    with trio.move_on_after(2), trio.move_on_after(1):
        async with open_initiator(policy, grace=10):
            sends.start(socket, "head")
            await trio.sleep_forever()
    assert sends.ends() == {"head": End(DONE, 10, 3)}


@pytest.mark.parametrize("policy", [DRAIN, FINISH_STARTED])
async def test_the_exit_waits_no_longer_than_needed(
    policy: ExitPolicy, autojump_clock: trio.testing.MockClock
) -> None:
    sends = Sends()
    async with open_initiator(policy, grace=1_000_000):
        pass
    assert sends.now == 0


# -- stops during the wait --------------------------------------------------------------------------------------------


async def test_join_can_be_given_up_while_it_waits(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sends = Sends()
    socket, port = stuck_socket(3)
    with trio.move_on_after(7) as outer:
        async with open_initiator(JOIN):
            sends.start(socket, "head")
            sends.start(socket, "follower")
    assert outer.cancelled_caught
    assert sends.told == [("head", End(ABORTED, 3, 7)), ("follower", End(ABORTED, 0, 7))]
    assert bytes(port.accepted) == MESSAGE[:3]


@pytest.mark.parametrize(
    ("policy", "grace"), [(ABORT, None), (JOIN, None), (DRAIN, 5), (FINISH_STARTED, 5)]
)
@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_body_that_cleans_up_slowly_delays_no_stop(
    policy: ExitPolicy, grace: float | None, cancelled: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """A stop comes with the cancel, not with the body's end, and no byte goes after it."""
    sends = Sends()
    socket, port = stuck_socket(3)
    with trio.CancelScope() as outer:
        async with open_initiator(policy, grace=grace):
            sends.start(socket, "head")
            if cancelled:
                outer.cancel()
            with trio.CancelScope(shield=True):
                await trio.sleep(20)
                port.unblock()
                await trio.sleep(1)
    if not cancelled:
        assert sends.ends() == {"head": End(DONE, 10, 20)}
    else:
        assert sends.ends() == {"head": End(ABORTED, 3, grace or 0)}
        assert bytes(port.accepted) == MESSAGE[:3]


@pytest.mark.usefixtures("python_handles_ctrl_c")
@pytest.mark.parametrize("policy", [DRAIN, FINISH_STARTED, JOIN])
def test_keyboard_interrupt_during_the_wait_stops_all(policy: ExitPolicy) -> None:
    sends: Sends | None = None
    socket, port = stuck_socket(3)
    other, _ = stuck_socket(0)

    @trio.lowlevel.enable_ki_protection
    async def interrupt() -> None:
        await trio.sleep(2)
        signal.raise_signal(signal.SIGINT)  # protected here, so it goes to the main task

    async def main() -> None:
        nonlocal sends
        sends = Sends()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(interrupt)
            async with open_initiator(policy, grace=None if policy is JOIN else 50):
                sends.start(socket, "head")
                sends.start(socket, "follower")
                sends.start(other, "unstarted")

    with pytest.raises(BaseException) as caught:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    error = caught.value
    while isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, KeyboardInterrupt)
    assert sends is not None
    early = 0 if policy is FINISH_STARTED else 2  # those not started were stopped at the exit
    assert sends.ends() == {
        "head": End(ABORTED, 3, 2),
        "follower": End(ABORTED, 0, early),
        "unstarted": End(ABORTED, 0, early),
    }
    assert bytes(port.accepted) == MESSAGE[:3]


@pytest.mark.usefixtures("python_handles_ctrl_c")
def test_keyboard_interrupt_leaves_bare() -> None:
    """No group is put around an interrupt that hits the wait of the exit."""
    socket, _ = stuck_socket(3)

    @trio.lowlevel.enable_ki_protection
    def interrupt() -> None:
        signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        try:
            async with open_initiator(DRAIN, grace=50):
                args = SocketAsyncEventArgs(MESSAGE)
                assert socket.send_async(args)
                trio.lowlevel.current_trio_token().run_sync_soon(interrupt)
        except KeyboardInterrupt:
            assert args.socket_error is SocketError.OPERATION_ABORTED
            assert args.bytes_transferred == 3
            raise

    with pytest.raises(KeyboardInterrupt):
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("policy", list(ExitPolicy), ids=lambda policy: policy.name)
async def test_a_send_that_pends_in_the_very_step_of_the_cancel(policy: ExitPolicy) -> None:
    """The initiator's own tasks have been told of the cancel by then, and have not yet run."""
    left, right = socketpair()
    with contextlib.closing(left), contextlib.closing(right):
        args = SocketAsyncEventArgs(bytes(10_000_000))
        async with open_initiator(ABORT):
            grace = 0 if policy in (DRAIN, FINISH_STARTED) else None
            async with open_initiator(policy, grace=grace) as initiator:
                await trio.testing.wait_all_tasks_blocked()
                initiator.cancel_scope.cancel()
                assert left.send_async(args)
        assert args.socket_error is SocketError.OPERATION_ABORTED
        left.close(reset=False)
        received = 0
        while got := len(await right.receive()):
            received += got
        assert received == args.bytes_transferred


async def test_operations_are_handed_to_an_adopter_in_the_very_step_of_its_cancel() -> None:
    """A cancel around both may reach the inner one first; the outer one, told and not yet run, takes over."""
    for _ in range(25):  # which is first is left to chance
        left, right = socketpair()
        with contextlib.closing(left), contextlib.closing(right):
            args = SocketAsyncEventArgs(bytes(10_000_000))
            with trio.CancelScope() as scope:
                async with open_initiator(JOIN):
                    async with open_initiator(ADOPT):
                        assert left.send_async(args)
                        await trio.testing.wait_all_tasks_blocked()
                        scope.cancel()
                        await trio.sleep_forever()
            assert args.socket_error is SocketError.OPERATION_ABORTED


# -- handlers while the initiator is left -----------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [JOIN, DRAIN])
async def test_handlers_may_start_sends_while_the_exit_waits(
    policy: ExitPolicy, autojump_clock: trio.testing.MockClock
) -> None:
    sends = Sends()
    socket, port = scripted(*cycle(Blocked(1), 10, times=4))
    answers: list[bool] = []

    def go_on(_: Socket, args: SocketAsyncEventArgs) -> None:
        args.user_token += 1
        if args.user_token < 4:
            answers.append(socket.send_async(args))

    async with open_initiator(policy, grace=100 if policy is DRAIN else None):
        args = SocketAsyncEventArgs(MESSAGE, user_token=0)
        args.completed += go_on
        assert socket.send_async(args)
    assert answers == [True] * 3
    assert args.user_token == 4
    assert sends.now == 4
    assert bytes(port.accepted) == MESSAGE * 4


async def test_grace_bounds_handlers_that_restart_for_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sends = Sends()
    socket, port = scripted(*cycle(Blocked(1), 10, times=1000))
    ends: list[End] = []
    refused: list[SocketAsyncEventArgs] = []

    def go_on(_: Socket, args: SocketAsyncEventArgs) -> None:
        ends.append(End(WORDS[args.socket_error], args.bytes_transferred, sends.now))
        if not socket.send_async(args):
            refused.append(args)

    async with open_initiator(DRAIN, grace=3.5):
        args = SocketAsyncEventArgs(MESSAGE)
        args.completed += go_on
        assert socket.send_async(args)
    assert sends.now == 3.5
    assert ends == [End(DONE, 10, 1), End(DONE, 10, 2), End(DONE, 10, 3), End(ABORTED, 0, 3.5)]
    # The start from inside the last one ended on the spot and made no system call.
    assert refused == [args]
    assert args.socket_error is SocketError.OPERATION_ABORTED
    assert len(port.accepted) == 30


async def test_grace_bounds_handlers_whose_restarts_never_block(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Such a chain has no wait of its own, yet the others have their turns, and the end comes."""
    socket, port = scripted(Blocked(0.5))
    sent = 0

    def go_on(_: Socket, args: SocketAsyncEventArgs) -> None:
        nonlocal sent
        while args.socket_error is SocketError.SUCCESS:
            sent += 1
            if sent == 5000:
                port.add(Blocked())  # lets the virtual clock go on
            if socket.send_async(args):
                return

    async with open_initiator(DRAIN, grace=1):
        args = SocketAsyncEventArgs(b"x")
        args.completed += go_on
        assert socket.send_async(args)
    assert sent == 5000
    assert len(port.accepted) == 5000
    assert args.socket_error is SocketError.OPERATION_ABORTED


@pytest.mark.parametrize("policy", [ABORT, JOIN])
async def test_restarting_blindly_at_the_stop_does_no_harm(
    policy: ExitPolicy, autojump_clock: trio.testing.MockClock
) -> None:
    socket, port = stuck_socket(3)
    answers: list[tuple[bool, SocketError, int]] = []

    def again(_: Socket, args: SocketAsyncEventArgs) -> None:
        answers.append((socket.send_async(args), args.socket_error, args.bytes_transferred))

    with trio.CancelScope() as outer:
        async with open_initiator(policy):
            cut = SocketAsyncEventArgs(MESSAGE)
            follower = SocketAsyncEventArgs(MESSAGE)
            for args in (cut, follower):
                args.completed += again
                assert socket.send_async(args)
            await trio.testing.wait_all_tasks_blocked()
            outer.cancel()
            await trio.lowlevel.checkpoint()
    # The one that was cut keeps its count, for its rest is still wanted.
    assert answers == [
        (False, SocketError.OPERATION_ABORTED, 3),
        (False, SocketError.OPERATION_ABORTED, 0),
    ]
    assert b"".join(cut.remaining) == MESSAGE[3:]
    assert port.attempts == 2


async def test_begin_send_raises_after_the_stop(autojump_clock: trio.testing.MockClock) -> None:
    socket, _ = stuck_socket()
    fresh, fresh_port = scripted()
    errors: list[SocketException] = []

    def on_end(result: object) -> None:
        with pytest.raises(SocketException) as caught:
            fresh.begin_send(MESSAGE)
        errors.append(caught.value)
        assert fresh.try_begin_send(MESSAGE) == (None, SocketError.OPERATION_ABORTED)

    async with open_initiator():
        socket.begin_send(MESSAGE, callback=on_end)
    assert [error.socket_error_code for error in errors] == [SocketError.OPERATION_ABORTED]
    assert fresh_port.attempts == 0


async def test_a_start_after_the_exit_is_a_mistake(autojump_clock: trio.testing.MockClock) -> None:
    socket, port = scripted()
    async with trio.open_nursery() as nursery:
        gone = trio.Event()

        async def adopter_of_the_context() -> None:
            await gone.wait()
            args = SocketAsyncEventArgs(MESSAGE)
            with pytest.raises(InvalidOperationError, match="this task inherited has exited"):
                socket.send_async(args)
            with pytest.raises(InvalidOperationError, match="this task inherited has exited"):
                current_initiator()

        async with open_initiator():
            # The fast path has found the initiator fit once, and must not remember that.
            assert not socket.send_async(SocketAsyncEventArgs(MESSAGE))
            nursery.start_soon(adopter_of_the_context)
        gone.set()
    assert bytes(port.accepted) == MESSAGE


async def test_finish_started_stops_what_its_handlers_start_when_the_grace_is_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The sorting is done once, at the exit. What handlers start later may go on, but not beyond the grace."""
    sends = Sends()
    socket, _ = scripted(3, Blocked(1), 7, Blocked())

    def start_another(_: Socket, args: SocketAsyncEventArgs) -> None:
        if args.socket_error is SocketError.SUCCESS:
            sends.start(socket, "another")

    async with open_initiator(FINISH_STARTED, grace=4):
        args = sends.start(socket, "started")
        args.completed += start_another
    assert sends.ends() == {"started": End(DONE, 10, 1), "another": End(ABORTED, 0, 4)}
    assert sends.now == 4


async def test_one_initiators_events_come_in_the_order_of_their_ends(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Under FINISH_STARTED that is not the order of their starts."""
    sends = Sends()
    socket, _ = stuck_socket(3, 2)
    async with open_initiator(FINISH_STARTED, grace=4):
        sends.start(socket, "started")
        sends.start(socket, "follower 1")
        sends.start(socket, "follower 2")
    assert [name for name, _ in sends.told] == ["follower 1", "follower 2", "started"]


async def test_finish_started_spares_a_message_that_is_being_resumed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Its count goes on from the first activation, so it is started although this activation sent nothing."""
    sends = Sends()
    socket, port = scripted(3, Blocked(1))
    async with open_initiator(FINISH_STARTED, grace=9):
        args = SocketAsyncEventArgs(MESSAGE)
        assert socket.send_async(args)
        args.cancel()
        await args.wait()
        assert socket.resume(args)
    assert args.socket_error is SocketError.SUCCESS
    assert args.bytes_transferred == 10
    assert bytes(port.accepted) == MESSAGE
    assert sends.now == 1


async def test_finish_started_and_datagrams(autojump_clock: trio.testing.MockClock) -> None:
    """A datagram is accepted whole or not at all, so one that pends has never been started."""
    sends = Sends()
    port = ScriptedPort([Blocked(3)], is_stream=False)
    socket = Socket.from_port(port)
    async with open_initiator(FINISH_STARTED, grace=9):
        sends.start(socket, "first")
        sends.start(socket, "second")
    assert sends.ends() == {"first": End(ABORTED, 0, 0), "second": End(ABORTED, 0, 0)}
    assert port.messages == []


async def test_finish_started_where_torn_streams_are_allowed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What is cut tears nothing there, but what is started is started."""
    sends = Sends()
    port = ScriptedPort([3, Blocked(2)])
    socket = Socket.from_port(port, on_torn="allow")
    async with open_initiator(FINISH_STARTED, grace=9):
        sends.start(socket, "started")
        sends.start(socket, "follower")
    assert sends.ends() == {"started": End(DONE, 10, 2), "follower": End(ABORTED, 0, 0)}


async def test_asynchronous_handlers_end_before_the_exit(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sends = Sends()
    socket, _ = stuck_socket()
    log: list[str] = []

    async def handler(_: Socket, args: SocketAsyncEventArgs) -> None:
        log.append("begins")
        await trio.sleep(5)
        log.append("ends")

    async with open_initiator():
        args = SocketAsyncEventArgs(MESSAGE)
        args.completed += handler
        assert socket.send_async(args)
    assert log == ["begins", "ends"]
    assert sends.now == 5


async def test_asynchronous_handlers_run_to_their_next_checkpoint_if_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    socket, _ = stuck_socket()
    log: list[str] = []

    async def handler(_: Socket, args: SocketAsyncEventArgs) -> None:
        log.append("begins")
        try:
            await trio.sleep(5)
        except trio.Cancelled:
            log.append("is cancelled")
            raise

    with trio.CancelScope() as outer:
        async with open_initiator():
            args = SocketAsyncEventArgs(MESSAGE)
            args.completed += handler
            assert socket.send_async(args)
            outer.cancel()
            await trio.lowlevel.checkpoint()
    assert log == ["begins", "is cancelled"]
    assert outer.cancelled_caught


class HandlerError(Exception):
    """What a handler raises."""


@pytest.mark.parametrize(
    ("policy", "grace", "end_of_other"),
    [
        (ABORT, None, End(ABORTED, 0, 1)),
        (JOIN, None, End(ABORTED, 0, 1)),
        (DRAIN, 2, End(ABORTED, 0, 3)),
        (DRAIN, 20, End(DONE, 10, 6)),
        (FINISH_STARTED, 20, End(ABORTED, 0, 1)),
    ],
)
async def test_a_handler_that_raises_is_an_outside_cancel_to_the_policy(
    policy: ExitPolicy,
    grace: float | None,
    end_of_other: End,
    autojump_clock: trio.testing.MockClock,
) -> None:
    sends = Sends()
    quick, _ = stuck_socket(0, 1)
    slow, _ = stuck_socket(0, 6)

    def fail(_: Socket, args: SocketAsyncEventArgs) -> None:
        raise HandlerError

    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_initiator(policy, grace=grace):
            sends.start(quick, "quick").completed += fail
            sends.start(slow, "slow")
            await trio.sleep_forever()
    assert [type(error) for error in caught.value.exceptions] == [HandlerError]
    assert sends.ends() == {"quick": End(DONE, 10, 1), "slow": end_of_other}


# -- ADOPT ------------------------------------------------------------------------------------------------------------


async def test_adopt_needs_somebody_to_adopt() -> None:
    with pytest.raises(InvalidOperationError, match="needs an enclosing initiator"):
        async with open_initiator(ADOPT):
            raise AssertionError("the body ran")
    # Nothing is left behind that would pass for an initiator.
    with pytest.raises(InvalidOperationError):
        current_initiator()


async def test_a_handler_of_what_was_handed_over_outlives_it_under_an_adopter_that_was_stopped(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What it starts then ends as everything of the adopter's does, though both initiators of its context are gone."""
    socket = Socket.from_port(ScriptedPort([Blocked(1000)]))
    release, left = trio.Event(), trio.Event()
    ends: list[tuple[bool, SocketError]] = []

    async def restart(socket: Socket, args: SocketAsyncEventArgs) -> None:
        with trio.CancelScope(shield=True):
            await left.wait()
        ends.append((socket.send_async(args), args.socket_error))

    async def adopted() -> None:
        try:
            async with open_initiator(ADOPT) as ours:
                args = SocketAsyncEventArgs(MESSAGE)
                args.completed += restart
                assert socket.send_async(args)
                ours.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await release.wait()
        finally:
            left.set()

    async with open_initiator() as adopter:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(adopted)
            await trio.testing.wait_all_tasks_blocked()
            assert adopter.pending_operations == 1
            adopter.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
                release.set()
    assert ends == [(False, SocketError.OPERATION_ABORTED)]


async def test_adopt_needs_an_adopter_that_is_open() -> None:
    context: contextvars.Context | None = None
    async with open_initiator():
        context = contextvars.copy_context()

    async def enter() -> None:
        with pytest.raises(InvalidOperationError, match="needs an enclosing initiator"):
            async with open_initiator(ADOPT):
                raise AssertionError("the body ran")

    async with trio.open_nursery() as nursery:
        context.run(nursery.start_soon, enter)


async def test_adopt_needs_an_adopter_that_was_not_stopped(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_initiator() as adopter:
        adopter.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(InvalidOperationError, match="needs an enclosing initiator"):
                async with open_initiator(ADOPT):
                    raise AssertionError("the body ran")


async def test_operations_survive_under_the_adopters_policy(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sends = Sends()
    socket, _ = stuck_socket(3)
    async with open_initiator(DRAIN, grace=4) as adopter:
        async with open_initiator(ADOPT):
            sends.start(socket, "head")
            sends.start(socket, "follower")
        assert sends.told == []
        assert adopter.pending_operations == 2
        await trio.sleep(1)
    assert sends.told == [("head", End(ABORTED, 3, 5)), ("follower", End(ABORTED, 0, 5))]


@pytest.mark.parametrize("way", ["outer cancel", "own cancel"])
async def test_a_cancel_from_outside_hands_over_at_once(
    way: str, autojump_clock: trio.testing.MockClock
) -> None:
    sends = Sends()
    socket, _ = stuck_socket(3, 2)
    async with open_initiator(JOIN) as adopter:
        with trio.CancelScope() as outer:
            async with open_initiator(ADOPT) as ours:
                sends.start(socket, "head")
                (outer if way == "outer cancel" else ours.cancel_scope).cancel()
                with trio.CancelScope(shield=True):
                    await trio.testing.wait_all_tasks_blocked()
                    assert (ours.pending_operations, adopter.pending_operations) == (0, 1)
                    # What the body starts in its cleanup is handed over when it is done.
                    sends.start(socket, "late")
                    assert (ours.pending_operations, adopter.pending_operations) == (1, 1)
        assert (ours.pending_operations, adopter.pending_operations) == (0, 2)
    assert sends.ends() == {"head": End(DONE, 10, 2), "late": End(DONE, 10, 2)}


async def test_a_cancel_around_both_aborts(autojump_clock: trio.testing.MockClock) -> None:
    sends = Sends()
    socket, port = stuck_socket(3)
    with trio.move_on_after(2):
        async with open_initiator(JOIN):
            async with open_initiator(ADOPT):
                sends.start(socket, "head")
                sends.start(socket, "follower")
                await trio.sleep_forever()
    assert sends.told == [("head", End(ABORTED, 3, 2)), ("follower", End(ABORTED, 0, 2))]
    assert bytes(port.accepted) == MESSAGE[:3]


async def test_a_cancel_around_both_leaves_the_grace_to_the_adopter(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sends = Sends()
    socket, _ = stuck_socket(3)
    with trio.move_on_after(2):
        async with open_initiator(DRAIN, grace=3):
            async with open_initiator(ADOPT):
                sends.start(socket, "head")
                await trio.sleep_forever()
    assert sends.told == [("head", End(ABORTED, 3, 5))]


async def test_what_nobody_can_take_over_any_more_is_aborted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The adopter was stopped between the entry and the exit of the one whose operations it was to adopt."""
    sends = Sends()
    socket, _ = stuck_socket(3)
    async with open_initiator(ABORT) as adopter:
        adopter_shield = trio.CancelScope(shield=True)
        with adopter_shield:
            async with open_initiator(ADOPT):
                sends.start(socket, "head")
                adopter.cancel_scope.cancel()
                await trio.testing.wait_all_tasks_blocked()
                assert sends.told == []  # shielded from that cancel, and so is what it owns
            assert sends.ends() == {"head": End(ABORTED, 3, 0)}
            assert adopter.pending_operations == 0


async def test_what_an_exited_adopter_cannot_take_over_is_aborted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A task that inherited an initiator, and opened its own under it, may outlive it."""
    sends = Sends()
    socket, _ = stuck_socket(3)
    may_leave = trio.Event()

    async def outlive() -> None:
        async with open_initiator(ADOPT):
            sends.start(socket, "head")
            await may_leave.wait()

    async with trio.open_nursery() as nursery:
        async with open_initiator(JOIN):
            nursery.start_soon(outlive)
            await trio.testing.wait_all_tasks_blocked()
        assert sends.told == []  # it was not the adopter's yet
        may_leave.set()
    assert sends.ends() == {"head": End(ABORTED, 3, 0)}


async def test_the_adopter_runs_the_handlers_and_owns_what_they_start(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sends = Sends()
    socket, port = stuck_socket(3, 2)
    owners: list[object] = []
    counts: list[tuple[int, int]] = []
    variable = contextvars.ContextVar("variable", default="not the one of the start")

    def start_another(_: Socket, args: SocketAsyncEventArgs) -> None:
        owners.append(current_initiator())
        port.add(Blocked(3))
        another = sends.start(socket, "another")
        another.completed += note_owner
        counts.append((ours.pending_operations, adopter.pending_operations))
        counts.append(variable.get())  # type: ignore[arg-type]

    def note_owner(_: Socket, args: SocketAsyncEventArgs) -> None:
        owners.append(current_initiator())

    async with open_initiator(JOIN) as adopter:
        async with open_initiator(ADOPT) as ours:
            variable.set("that of the start")
            sends.start(socket, "head").completed += start_another
    assert owners == [adopter, adopter]
    assert counts == [(0, 1), "that of the start"]
    assert sends.told == [("head", End(DONE, 10, 2)), ("another", End(DONE, 10, 5))]


async def test_asynchronous_handlers_of_adopted_operations_belong_to_the_adopter(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sends = Sends()
    socket, _ = stuck_socket(3, 2)
    log: list[float] = []

    async def handler(_: Socket, args: SocketAsyncEventArgs) -> None:
        await trio.sleep(4)
        assert current_initiator() is adopter
        # Through the awaiting face and through the adopter.
        assert await socket.send(b"more") == 4
        log.append(sends.now)

    async with open_initiator(ABORT) as adopter:
        async with open_initiator(ADOPT):
            args = sends.start(socket, "head")
            args.completed += handler
        assert await args.wait() == 10
    assert log == [6]


async def test_a_handler_may_open_an_initiator_that_is_adopted_in_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Its context still names the initiator that has exited, but the adopter has taken its place there too."""
    sends = Sends()
    socket, _ = stuck_socket(3, 2)
    other, _ = stuck_socket(3, 5)

    async def handler(_: Socket, args: SocketAsyncEventArgs) -> None:
        async with open_initiator(ADOPT):
            sends.start(other, "started by the handler")

    async with open_initiator(JOIN):
        async with open_initiator(ADOPT):
            sends.start(socket, "head").completed += handler
    assert sends.ends() == {
        "head": End(DONE, 10, 2),
        "started by the handler": End(DONE, 10, 7),
    }


async def test_adopted_operations_go_on_while_their_first_initiator_is_still_being_left(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A slow handler of another operation holds the exit up. That is no reason to refuse a start to the adopter's."""
    sends = Sends()
    quick, _ = stuck_socket(0, 1)
    socket, _ = scripted(Blocked(3), 10, Blocked(3))

    async def hold_up(_: Socket, args: SocketAsyncEventArgs) -> None:
        await trio.sleep(5)

    def start_another(_: Socket, args: SocketAsyncEventArgs) -> None:
        sends.start(socket, "another")

    async with open_initiator(JOIN):
        async with open_initiator(ADOPT):
            sends.start(quick, "quick").completed += hold_up
            sends.start(socket, "adopted").completed += start_another
            await trio.sleep(2)  # the slow handler runs already
        assert sends.now == 6
    assert sends.ends() == {
        "quick": End(DONE, 10, 1),
        "adopted": End(DONE, 10, 3),
        "another": End(DONE, 10, 6),
    }


@pytest.mark.parametrize(
    ("timeout", "stall_timeout", "at", "count"),
    [
        (4, float("inf"), 4, 5),
        (float("inf"), 2.5, 4.5, 5),
        (float("inf"), 1, 1, 3),
    ],
)
async def test_time_limits_survive_an_adoption(
    timeout: float,
    stall_timeout: float,
    at: float,
    count: int,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """They count on from where they were: adopted at 1, the last byte accepted at 2."""
    sends = Sends()
    socket, _ = scripted(3, Blocked(2), 2, Blocked())
    async with open_initiator(JOIN):
        with trio.move_on_after(0.5):
            async with open_initiator(ADOPT):
                args = sends.make("head")
                args.timeout = timeout
                args.stall_timeout = stall_timeout
                assert socket.send_async(args)
                await trio.sleep_forever()
    assert sends.ends() == {"head": End(TIMED_OUT, count, at)}


@pytest.mark.parametrize("policy", [DRAIN, FINISH_STARTED])
@pytest.mark.parametrize("cancelled", [False, True])
async def test_time_limits_go_on_during_the_grace(
    policy: ExitPolicy, cancelled: bool, autojump_clock: trio.testing.MockClock
) -> None:
    sends = Sends()
    socket, _ = stuck_socket(3)
    other, _ = stuck_socket(3)
    with trio.CancelScope() as outer:
        async with open_initiator(policy, grace=50):
            for name, target, limit in [("a", socket, "timeout"), ("b", other, "stall_timeout")]:
                args = sends.make(name)
                setattr(args, limit, 4)
                assert target.send_async(args)
            await trio.sleep(1)
            if cancelled:
                outer.cancel()
                await trio.lowlevel.checkpoint()
    assert sends.ends() == {"a": End(TIMED_OUT, 3, 4), "b": End(TIMED_OUT, 3, 4)}
    assert sends.now == 4


# -- nesting ----------------------------------------------------------------------------------------------------------


async def test_three_deep_each_under_its_own_policy(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sends = Sends()
    sockets = [stuck_socket(3, 9)[0] for _ in range(3)]
    async with open_initiator(JOIN) as outermost:
        sends.start(sockets[0], "outermost")
        async with open_initiator(DRAIN, grace=3) as middle:
            sends.start(sockets[1], "middle")
            async with open_initiator(ABORT) as innermost:
                sends.start(sockets[2], "innermost")
                assert current_initiator() is innermost
                await trio.sleep(1)
            assert sends.now == 1
            assert current_initiator() is middle
        assert sends.now == 4
        assert current_initiator() is outermost
    with pytest.raises(InvalidOperationError, match="no initiator is open here"):
        current_initiator()
    assert sends.told == [
        ("innermost", End(ABORTED, 3, 1)),
        ("middle", End(ABORTED, 3, 4)),
        ("outermost", End(DONE, 10, 9)),
    ]


async def test_three_deep_on_one_socket(autojump_clock: trio.testing.MockClock) -> None:
    """Stopped from the tail, nothing is cut; the head goes on under its own policy."""
    sends = Sends()
    socket, port = stuck_socket(3, 9)
    async with open_initiator(JOIN):
        sends.start(socket, "outermost")
        async with open_initiator(DRAIN, grace=3):
            sends.start(socket, "middle")
            async with open_initiator(ABORT):
                sends.start(socket, "innermost")
    assert sends.told == [
        ("innermost", End(ABORTED, 0, 0)),
        ("middle", End(ABORTED, 0, 3)),
        ("outermost", End(DONE, 10, 9)),
    ]
    assert bytes(port.accepted) == MESSAGE
    assert socket.torn is None


async def test_a_cancel_around_three_reaches_each_through_its_policy(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sends = Sends()
    sockets = [stuck_socket(3)[0] for _ in range(3)]
    with trio.move_on_after(2):
        async with open_initiator(DRAIN, grace=5):
            sends.start(sockets[0], "outermost")
            async with open_initiator(JOIN):
                sends.start(sockets[1], "middle")
                async with open_initiator(FINISH_STARTED, grace=3):
                    sends.start(sockets[2], "innermost")
                    await trio.sleep_forever()
    # JOIN aborts at once, before the inner one has been left.
    assert sends.told == [
        ("middle", End(ABORTED, 3, 2)),
        ("innermost", End(ABORTED, 3, 5)),
        ("outermost", End(ABORTED, 3, 7)),
    ]


async def test_an_outer_grace_may_be_over_before_an_inner_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sends = Sends()
    sockets = [stuck_socket(3)[0] for _ in range(2)]
    with trio.move_on_after(2):
        async with open_initiator(DRAIN, grace=3):
            sends.start(sockets[0], "outer")
            async with open_initiator(DRAIN, grace=5):
                sends.start(sockets[1], "inner")
                await trio.sleep_forever()
    assert sends.told == [("outer", End(ABORTED, 3, 5)), ("inner", End(ABORTED, 3, 7))]
    assert sends.now == 7


async def test_adopted_twice(autojump_clock: trio.testing.MockClock) -> None:
    sends = Sends()
    socket, _ = stuck_socket(3, 4)
    owners: list[object] = []
    async with open_initiator(JOIN) as outermost:
        async with open_initiator(ADOPT) as middle:
            async with open_initiator(ADOPT):
                args = sends.start(socket, "head")
                args.completed += lambda *_: owners.append(current_initiator())
                sends.start(socket, "follower")
                await trio.sleep(1)
            assert middle.pending_operations == 2
            await trio.sleep(1)
        assert outermost.pending_operations == 2
    assert sends.told == [("head", End(DONE, 10, 4)), ("follower", End(DONE, 10, 4))]
    assert owners == [outermost]


async def test_a_cancel_around_the_inner_two_hands_over_to_the_outermost(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sends = Sends()
    socket, _ = stuck_socket(3, 4)
    async with open_initiator(JOIN) as outermost:
        with trio.move_on_after(1):
            async with open_initiator(ADOPT):
                async with open_initiator(ADOPT):
                    sends.start(socket, "head")
                    await trio.sleep_forever()
        assert outermost.pending_operations == 1
    assert sends.told == [("head", End(DONE, 10, 4))]


# -- two initiators on one socket -------------------------------------------------------------------------------------

POLICIES = [ABORT, JOIN, DRAIN, FINISH_STARTED, ADOPT]


@pytest.mark.parametrize("first", POLICIES, ids=lambda policy: f"head {policy.name}")
@pytest.mark.parametrize("second", POLICIES, ids=lambda policy: f"follower {policy.name}")
async def test_the_heads_initiator_leaves_then_the_followers(
    first: ExitPolicy, second: ExitPolicy, autojump_clock: trio.testing.MockClock
) -> None:
    """The head's initiator leaves at 1, the follower's at 2; grace is 2; the socket takes more at 10."""
    sends = Sends()
    socket, port = stuck_socket(3, 10)

    async def use(name: str, policy: ExitPolicy, until: float) -> None:
        grace = 2 if policy in (DRAIN, FINISH_STARTED) else None
        async with open_initiator(policy, grace=grace):
            sends.start(socket, name)
            await trio.sleep(until)

    async with open_initiator(JOIN), trio.open_nursery() as nursery:
        nursery.start_soon(use, "head", first, 1)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(use, "follower", second, 2)

    head = {
        ABORT: End(ABORTED, 3, 1),
        JOIN: End(DONE, 10, 10),
        DRAIN: End(ABORTED, 3, 3),
        FINISH_STARTED: End(ABORTED, 3, 3),
        ADOPT: End(DONE, 10, 10),
    }[first]
    follower = {
        ABORT: End(ABORTED, 0, 2),
        JOIN: End(DONE, 10, 10),
        DRAIN: End(ABORTED, 0, 4),
        FINISH_STARTED: End(ABORTED, 0, 2),
        ADOPT: End(DONE, 10, 10),
    }[second]
    if head.how == ABORTED and head.at < follower.at:
        follower = End(BEHIND_CUT, 0, head.at)
    assert sends.ends() == {"head": head, "follower": follower}
    assert bytes(port.accepted) == MESSAGE[: head.sent] + MESSAGE[: follower.sent]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
async def test_the_followers_initiator_goes_on_when_nothing_was_cut(
    policy: ExitPolicy, autojump_clock: trio.testing.MockClock
) -> None:
    """A head that leaves with no byte accepted hands the socket over to the next one's initiator."""
    sends = Sends()
    socket, port = stuck_socket(0, 10)

    async def leave_early() -> None:
        async with open_initiator(policy, grace=2 if policy in (DRAIN, FINISH_STARTED) else None):
            sends.start(socket, "head")
            await trio.sleep(1)

    async with open_initiator(JOIN), trio.open_nursery() as nursery:
        nursery.start_soon(leave_early)
        await trio.testing.wait_all_tasks_blocked()
        sends.start(socket, "follower")
    head = {
        ABORT: End(ABORTED, 0, 1),
        JOIN: End(DONE, 10, 10),
        DRAIN: End(ABORTED, 0, 3),
        FINISH_STARTED: End(ABORTED, 0, 1),
        ADOPT: End(DONE, 10, 10),
    }[policy]
    assert sends.ends() == {"head": head, "follower": End(DONE, 10, 10)}
    assert bytes(port.accepted) == MESSAGE[: head.sent] + MESSAGE


async def test_an_awaiting_task_between_the_operations_of_an_initiator(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It is an owner of its own: behind a cut head it ends with CONNECTION_ABORTED, as another initiator's would."""
    sends = Sends()
    socket, _ = stuck_socket(3)
    errors: list[SocketException] = []

    async def await_send() -> None:
        with pytest.raises(SocketException) as caught:
            await socket.send(MESSAGE)
        errors.append(caught.value)

    async with trio.open_nursery() as nursery:
        async with open_initiator():
            sends.start(socket, "head")
            nursery.start_soon(await_send)
            await trio.testing.wait_all_tasks_blocked()
            sends.start(socket, "last")
            await trio.sleep(1)
    assert sends.told == [("head", End(ABORTED, 3, 1)), ("last", End(ABORTED, 0, 1))]
    assert [(e.socket_error_code, e.bytes_transferred) for e in errors] == [
        (SocketError.CONNECTION_ABORTED, 0)
    ]


async def test_an_awaiting_task_takes_over_from_an_initiator_that_leaves(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sends = Sends()
    socket, port = stuck_socket(0, 5)
    counts: list[tuple[int, float]] = []

    async def await_send() -> None:
        counts.append((await socket.send(MESSAGE), sends.now))

    async with trio.open_nursery() as nursery:
        async with open_initiator():
            sends.start(socket, "head")
            nursery.start_soon(await_send)
            await trio.testing.wait_all_tasks_blocked()
    assert sends.told == [("head", End(ABORTED, 0, 0))]
    assert counts == [(10, 5)]
    assert bytes(port.accepted) == MESSAGE


async def test_an_initiator_takes_over_from_an_awaiting_task_that_is_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sends = Sends()
    socket, port = stuck_socket(0, 5)

    async def await_send() -> None:
        with trio.move_on_after(1):
            await socket.send(MESSAGE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(await_send)
        await trio.testing.wait_all_tasks_blocked()
        async with open_initiator(JOIN):
            sends.start(socket, "follower")
    assert sends.told == [("follower", End(DONE, 10, 5))]
    assert bytes(port.accepted) == MESSAGE


# -- what is left behind ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
async def test_no_task_is_left_behind(
    policy: ExitPolicy, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_initiator(ABORT):
        before = trio.lowlevel.current_statistics().tasks_living
        socket, _ = stuck_socket(3, 5)
        async with open_initiator(policy, grace=9 if policy in (DRAIN, FINISH_STARTED) else None):
            args = SocketAsyncEventArgs(MESSAGE)
            args.timeout = 50
            assert socket.send_async(args)
            assert socket.send_async(SocketAsyncEventArgs(MESSAGE))
            await trio.sleep(1)
        if policy is ADOPT:
            await args.wait()
            before += 1  # the adopter watches the time limits now
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before


@pytest.mark.parametrize("policy", [ABORT, JOIN, DRAIN, FINISH_STARTED])
async def test_nothing_goes_out_after_the_exit(
    policy: ExitPolicy, autojump_clock: trio.testing.MockClock
) -> None:
    socket, port = stuck_socket(3)
    with trio.move_on_after(1):
        async with open_initiator(policy, grace=2 if policy in (DRAIN, FINISH_STARTED) else None):
            socket.send_async(SocketAsyncEventArgs(MESSAGE))
            socket.send_async(SocketAsyncEventArgs(MESSAGE))
            await trio.sleep_forever()
    attempts = port.attempts
    port.unblock()
    await trio.sleep(100)
    assert port.attempts == attempts
    assert bytes(port.accepted) == MESSAGE[:3]


async def test_buffers_are_free_when_the_scope_has_been_left(
    autojump_clock: trio.testing.MockClock,
) -> None:
    socket, _ = stuck_socket(3)
    buffers = [bytearray(MESSAGE) for _ in range(3)]
    async with open_initiator():
        for buffer in buffers:
            assert socket.send_async(SocketAsyncEventArgs(buffer))
    for buffer in buffers:
        buffer += b"a bytearray that is exported could not grow"


async def test_receives_and_accepts_are_owned_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Reading has no bytes to have started with, so every policy but JOIN, DRAIN and ADOPT stops it at once."""
    async with Socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        args = SocketAsyncEventArgs()
        began = trio.current_time()
        async with open_initiator(FINISH_STARTED, grace=9):
            assert listener.accept_async(args)
        assert trio.current_time() == began
        assert args.socket_error is SocketError.OPERATION_ABORTED
        async with open_initiator(DRAIN, grace=9):
            assert listener.accept_async(args)
        assert trio.current_time() == began + 9
        assert args.socket_error is SocketError.OPERATION_ABORTED
        assert args.accept_socket is None
