"""Worlds: what is tried on the code that is shipped, and that the rules bite when it does something else.

Modules: testing._chosen_port, testing._random_world, testing._uses, testing._witness, testing._world_initiator,
testing._worlds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

import trio_send
from trio_send import ExitPolicy, Socket, SocketAsyncEventArgs
from trio_send.testing import (
    Case,
    Ledger,
    Report,
    Sent,
    World,
    _world_initiator,
    explore,
    random_world,
    small_world,
)
from trio_send.testing._chosen_port import ChosenPort
from trio_send.testing._rules import RULES

POLICIES = list(ExitPolicy)


def broken_rules(report: Report) -> set[str]:
    """The rules that were broken, and whatever else was."""
    return {
        finding.checked.function if finding.checked is not None else finding.sentence
        for finding in report.findings
    }


# The code that is shipped ---------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_one_message_in_every_way(policy: ExitPolicy) -> None:
    report = explore(partial(small_world, sizes=(2,), policy=policy), limits={"kernel": 1})
    assert report.findings == (), str(report)
    assert report.exhausted
    assert report.runs > 150


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_two_messages_with_errors_by_chance(policy: ExitPolicy) -> None:
    errors = ("ECONNRESET", "ENOBUFS", "EINVAL")
    report = explore(
        partial(small_world, sizes=(3, 2), errors=errors, policy=policy),
        orders=2,
        seeds=range(60),
    )
    assert report.findings == (), str(report)
    assert report.traces > 30


def test_datagrams_by_chance() -> None:
    scenario = partial(small_world, sizes=(2, 2), errors=("EMSGSIZE",), is_stream=False)
    report = explore(scenario, orders=1, seeds=range(60))
    assert report.findings == (), str(report)


def test_random_worlds() -> None:
    report = explore(random_world, cancels=2, orders=3, seeds=range(200))
    assert report.findings == (), str(report)
    assert report.plans > 150


def test_random_worlds_have_all_that_programs_do(monkeypatch: pytest.MonkeyPatch) -> None:
    worlds: list[World] = []
    watched: list[Ledger] = []
    real, check = World.__aexit__, Ledger.check

    async def leave(self: World, *failure: object) -> None:
        worlds.append(self)
        await real(self, *failure)  # type: ignore[arg-type]

    def checked(self: Ledger, *things: Any) -> None:
        watched.append(self)
        check(self, *things)

    monkeypatch.setattr(World, "__aexit__", leave)
    monkeypatch.setattr(Ledger, "check", checked)
    explore(random_world, seeds=range(500))
    assert 85 < len(watched) < 125  # of those that were not cancelled at once, one in four
    sends = [sent for world in worlds for sent in world._record.sends]
    for seen in (
        [sent for sent in sends if sent.resumed == [True]],
        [sent for sent in sends if sent.resumed and sent.initiator is None],
        [sent for sent in sends if sent.awaited_as and sent.face == "send_async"],
        [sent for sent in sends if sent.awaited_as and sent.face == "begin_send"],
        [sent for sent in sends if not sent.is_told],
        [sent for sent in sends if sent.face == "send" and sent.pending is None and sent.count],
        [world for world in worlds if world._record.raised],
        [socket for world in worlds for socket in world._record.sockets if socket.closed],
        [sent for sent in sends if sent.error == "SHUTDOWN"],
        [sent for sent in sends if sent.error == "TIMED_OUT"],
    ):
        assert seen


def test_random_worlds_with_stops_from_inside_of_system_calls() -> None:
    report = explore(random_world, cancels=1, limits={"inside": 1}, seeds=range(200, 400))
    assert report.findings == (), str(report)


def test_the_same_seed_gives_the_same_world() -> None:
    once, again = (explore(random_world, cancels=2, orders=3, seeds=range(20)) for _ in range(2))
    assert once == again


# What a world knows ---------------------------------------------------------------------------


def run(scenario: Callable[[World], Any], **choices: int) -> tuple[World, Report]:
    worlds: list[World] = []

    async def with_world(case: Case) -> None:
        async with World(case) as world:
            worlds.append(world)
            await scenario(world)

    report = explore(with_world, only={f"kernel {name}": n for name, n in choices.items()})
    return worlds[0], report


def kernel(*answers: int) -> dict[str, int]:
    """The answers of socket 1 that are not 0."""
    names = ["answer of socket 1", *(f"answer of socket 1 ({i})" for i in range(2, 10))]
    return {name: n for name, n in zip(names, answers, strict=False) if n}


def test_a_send_that_ends_on_the_spot() -> None:
    async def scenario(world: World) -> None:
        async with world.initiator():
            world.send_async(world.socket(), 3)

    world, report = run(scenario)
    (sent,) = world._record.sends
    assert (sent.pending, sent.told, sent.count, sent.error) == (False, [], 3, "SUCCESS")
    assert report.findings == ()


def test_a_send_that_waits_for_the_engine() -> None:
    async def scenario(world: World) -> None:
        async with world.initiator(ExitPolicy.JOIN):
            world.send_async(world.socket(), 3)
        assert trio.current_time() == 1.0

    # One byte, then nothing for a second, then the rest.
    world, report = run(scenario, **kernel(2, 1))
    (sent,) = world._record.sends
    assert sent.pending and len(sent.told) == 1
    assert [taken.data for taken in world._record.sockets[0].taken] == [b"\0", b"\1\2"]
    assert report.findings == ()


def test_whose_a_send_is() -> None:
    async def scenario(world: World) -> None:
        socket = world.socket()
        async with world.initiator(), world.initiator():
            world.begin_send(socket, 1)
            await world.send(socket, 1)
        world.send_async(socket, 1)

    world, report = run(scenario)
    sends = world._record.sends
    assert [sent.initiator for sent in sends] == [2, None, None]
    # Without an initiator nothing was started.
    assert (sends[2].count, sends[2].is_over, sends[2].pending) == (0, True, None)
    assert report.findings == ()


def test_a_message_that_was_cut_goes_on() -> None:
    async def scenario(world: World) -> None:
        socket = world.socket()
        async with world.initiator():
            assert world.resume(socket) is None
            sent = world.send_async(socket, 3)
            world.stop(sent)
            await trio.sleep(0.5)  # its end is told
            assert socket.torn is not None
            async with world.initiator(ExitPolicy.JOIN):
                assert world.resume(socket) is sent

    # One byte, then nothing for a second, in which it is cut and resumed.
    world, report = run(scenario, **kernel(2, 1))
    (sent,) = world._record.sends
    assert (sent.resumed, sent.initiator, sent.count, sent.error) == ([True], 2, 3, "SUCCESS")
    assert len(sent.told) == 2
    assert report.findings == ()


def test_a_rest_that_a_task_awaits() -> None:
    async def scenario(world: World) -> None:
        socket = world.socket()
        await world.send_rest(socket)  # nothing is torn, and nothing happens
        async with world.initiator():
            world.stop(world.send_async(socket, 3))
            await trio.sleep(0.5)
        await world.send_rest(socket)

    world, report = run(scenario, **kernel(2, 1))
    (sent,) = world._record.sends
    assert (sent.resumed, sent.initiator, sent.count, sent.error) == ([False], None, 3, "SUCCESS")
    assert len(sent.told) == 1
    assert report.findings == ()


def test_the_same_args_again() -> None:
    async def scenario(world: World) -> None:
        socket = world.socket()
        async with world.initiator(ExitPolicy.JOIN):
            first = world.send_async(socket, 2)
            world.send_async(socket, 1, again=first)  # they are in use
            await world.wait(first)
            third = world.send_async(socket, 1, parts=2, again=first)
            world.send_async(socket, 1, parts=2, again=third)
            world.stop(first)
            world.send_async(socket, 1, again=world.begin_send(socket, 1))  # which has no args

    world, report = run(scenario, **kernel(1))
    sends = world._record.sends
    assert [sent.pending for sent in sends] == [True, None, False, False, False, None]
    assert [sent.count for sent in sends] == [2, 0, 1, 1, 1, 0]
    assert sends[0].awaited_as == [(2, None)]
    assert [len(sent.told) for sent in sends] == [1, 0, 0, 0, 1, 0]
    assert world._record.strays == [] == list(report.findings)


def test_what_follows_an_event() -> None:
    seen: set[str] = set()

    async def scenario(world: World) -> None:
        socket = world.socket()

        def fail(sent: Sent) -> None:
            raise ValueError(str(sent))

        async def fail_later(sent: Sent) -> None:
            await trio.lowlevel.checkpoint()
            fail(sent)

        async with world.initiator(ExitPolicy.JOIN):
            world.send_async(socket, 1, then=fail)
            world.send_async(socket, 1, then=fail_later)
            world.send_async(socket, 1, then=lambda sent: seen.add(str(sent)))
            with pytest.raises(ValueError, match="again and then"):
                world.send_async(socket, 1, again=Sent(1, 1, "", b"", 1, 1), then=fail)

    world, report = run(scenario, **kernel(1))
    assert seen == {"send 3 of 1 bytes"}
    assert [str(error) for error in world._record.raised][:1] == ["send 1 of 1 bytes"]
    assert world._record.surfaced == len(world._record.raised)
    assert all(initiator.was_raised for initiator in world._record.initiators)
    assert report.findings == ()


def test_what_else_a_body_raises_goes_on() -> None:
    async def scenario(world: World) -> None:
        socket = world.socket()

        def fail(sent: Sent) -> None:
            raise ValueError("of a handler")

        with pytest.raises(Exception) as caught:
            async with world.initiator(ExitPolicy.DRAIN, grace=1.5):
                world.send_async(socket, 1, then=fail)
                raise KeyError("of the body")
        (left,) = caught.value.exceptions  # type: ignore[attr-defined]
        assert isinstance(left, KeyError)

    world, report = run(scenario, **kernel(1))
    assert world._record.surfaced == 1
    assert report.findings == (), str(report)


def test_whose_end_is_awaited() -> None:
    async def scenario(world: World) -> None:
        socket = world.socket()
        async with world.initiator(ExitPolicy.JOIN):
            one = world.begin_send(socket, 2, parts=2, callback=False)
            two = world.begin_send(socket, 1)
            for sent in (one, one, two):
                await world.wait(sent)
            await world.wait(await world.send(socket, 1, by_args=True))

    world, report = run(scenario, **kernel(1))
    sends = world._record.sends
    assert [sent.awaited_as for sent in sends] == [[(2, "SUCCESS")], [(1, "SUCCESS")], [(1, None)]]
    assert [len(sent.told) for sent in sends] == [0, 1, 0]
    assert report.findings == ()


def test_a_send_by_args_whose_task_is_cancelled_tells_its_count() -> None:
    async def scenario(world: World) -> None:
        socket = world.socket()
        with trio.move_on_after(0.5):
            await world.send(socket, 3, by_args=True)
        async with world.initiator(ExitPolicy.JOIN):
            assert socket.torn is not None
            assert world.resume(socket) is world._record.sends[0]

    world, report = run(scenario, **kernel(2, 1))
    (sent,) = world._record.sends
    assert (sent.count, sent.error, sent.was_cancelled) == (3, "SUCCESS", True)
    assert (len(sent.told), sent.initiator) == (1, 1)
    assert report.findings == ()


@pytest.mark.parametrize("how", ["close", "shutdown"])
def test_an_end_stops_what_is_pending(how: str) -> None:
    async def scenario(world: World) -> None:
        socket = world.socket()
        async with world.initiator(ExitPolicy.JOIN), trio.open_nursery() as nursery:
            world.send_async(socket, 3)
            world.begin_send(socket, 1)
            nursery.start_soon(world.send, socket, 1)
            await trio.sleep(0.5)
            getattr(world, how)(socket)
            getattr(world, how)(socket)
            world.send_async(socket, 1)
            world.begin_send(socket, 1)
            await world.send(socket, 1)
            assert world.is_closed(socket) is (how == "close")

    world, report = run(scenario, **kernel(2, 1))
    sends = world._record.sends
    code = "OPERATION_ABORTED" if how == "close" else "SHUTDOWN"
    assert [sent.count for sent in sends] == [1, 0, 0, 0, 0, 0]
    assert [sent.stopped is not None for sent in sends] == [True] * 3 + [False] * 3
    assert {sent.error for sent in sends[:3]} == {code}
    assert report.findings == (), str(report)


def test_an_error_is_chosen_after_the_parts() -> None:
    async def scenario(world: World) -> None:
        socket = world.socket(errors=("EINVAL", "ECONNRESET"))
        async with world.initiator():
            world.send_async(socket, 2)
            world.send_async(socket, 1)

    # All, nothing, one byte, and then the errors.
    world, _ = run(scenario, **kernel(4))
    assert [sent.error for sent in world._record.sends] == ["CONNECTION_RESET"] * 2


def test_a_world_is_small() -> None:
    async def scenario(world: World) -> None:
        world.send_async(world.socket(), 200)
        with pytest.raises(ValueError, match="at most 256 bytes"):
            world.send_async(world.socket(), 100)

    run(scenario)


def test_the_shipped_engine_waits_for_the_kernel() -> None:
    """Where there is an eventfd, an epoll set is what watches it."""

    async def scenario(world: World) -> None:
        socket = world.socket()
        async with world.initiator(ExitPolicy.JOIN) as initiator:
            world.send_async(socket, 1)
            await trio.sleep(0.5)
            assert initiator.statistics().queues == 1
            assert (socket.fileno() >= 0) == hasattr(__import__("os"), "eventfd")

    _, report = run(scenario, **kernel(1))
    assert report.findings == ()


# Controls: other behaviour is found -----------------------------------------------------------


async def torn_and_gone_on(case: Case) -> None:
    """Two messages over a stream that may be written behind when it is torn: a control of promise L."""
    async with World(case) as world:
        socket = world.socket(on_torn="allow")
        async with world.initiator(ExitPolicy.JOIN):
            world.send_async(socket, 2)
            await trio.sleep(0.5)
            world.send_async(socket, 1)


def test_control_a_stream_that_is_not_loud() -> None:
    report = explore(torn_and_gone_on, limits={"kernel": 2})
    assert broken_rules(report) == {"torn_streams_are_loud"}


async def torn_and_forgotten(case: Case) -> None:
    async with World(case) as world:
        socket = world.socket()
        async with world.initiator(ExitPolicy.JOIN):
            world.send_async(socket, 2)
            await trio.sleep(0.5)
            if socket.torn is not None:
                world.forget_torn(socket)
            world.send_async(socket, 1)


def test_a_torn_stream_may_be_forgotten() -> None:
    report = explore(torn_and_forgotten, limits={"kernel": 2})
    assert broken_rules(report) == set()


def search() -> Report:
    return explore(partial(small_world, sizes=(2, 1)), limits={"kernel": 1}, most_runs=120)


def test_control_nothing_is_changed() -> None:
    assert broken_rules(search()) == set()


def test_control_events_that_come_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    real = SocketAsyncEventArgs.on_completed

    def twice(self: SocketAsyncEventArgs) -> object:
        real(self)
        return real(self)

    monkeypatch.setattr(SocketAsyncEventArgs, "on_completed", twice)
    assert broken_rules(search()) == {"events_come_once"}


def test_control_answers_that_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Socket.send_async
    monkeypatch.setattr(Socket, "send_async", lambda self, args: real(self, args) or True)
    assert broken_rules(search()) == {"events_come_once"}


def test_control_buffers_that_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    real = SocketAsyncEventArgs.on_completed
    kept = []

    def keep(self: SocketAsyncEventArgs) -> object:
        kept.append(memoryview(self.buffer))  # type: ignore[arg-type]
        return real(self)

    monkeypatch.setattr(SocketAsyncEventArgs, "on_completed", keep)
    assert broken_rules(search()) == {"buffers_are_free"}


def test_control_stops_that_do_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        SocketAsyncEventArgs, "cancel", lambda self, *args, **kwargs: bool(self.pending)
    )
    assert broken_rules(explore_join()) == {"stops_are_prompt"}


def explore_join() -> Report:
    return explore(partial(small_world, sizes=(2,), policy=ExitPolicy.JOIN), limits={"kernel": 1})


def exits_as(policy: ExitPolicy) -> Callable[..., Any]:
    """An `open_initiator` that has one policy, whatever is asked for."""
    grace = 1.5 if policy in (ExitPolicy.DRAIN, ExitPolicy.FINISH_STARTED) else None

    @asynccontextmanager
    async def opened(*_: object, **__: object) -> Any:
        async with trio_send.open_initiator(policy, grace=grace) as initiator:
            yield initiator

    return opened


def drawn() -> set[str]:
    """The rules that random worlds break, as soon as they break one."""
    for first in range(0, 2000, 25):
        report = explore(random_world, cancels=2, orders=3, seeds=range(first, first + 25))
        if report.findings:
            return broken_rules(report)
    return set()


def test_controls_are_found_in_random_worlds(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Socket.resume
    with monkeypatch.context() as control:
        control.setattr(Socket, "resume", lambda self, args: real(self, args) or True)
        assert drawn() == {"events_come_once"}
    with monkeypatch.context() as control:
        control.setattr(
            SocketAsyncEventArgs,
            "cancel",
            lambda self, activation=None: self.pending and activation in (None, self.activation),
        )
        assert drawn() == {"stops_are_prompt"}
    with monkeypatch.context() as control:
        control.setattr(_world_initiator, "open_initiator", exits_as(ExitPolicy.JOIN))
        assert drawn() == {"policies_are_kept"}
    with monkeypatch.context() as control:
        control.setattr(World, "forget_torn", lambda self, socket: socket.forget_torn())
        assert drawn() == {"torn_streams_are_loud"}


@pytest.mark.parametrize(
    ("asked", "real"),
    [
        (ExitPolicy.ABORT, ExitPolicy.JOIN),
        (ExitPolicy.DRAIN, ExitPolicy.JOIN),
        (ExitPolicy.JOIN, ExitPolicy.ABORT),
    ],
    ids=lambda policy: policy.name,
)
def test_control_another_policy(
    asked: ExitPolicy, real: ExitPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_world_initiator, "open_initiator", exits_as(real))
    report = explore(
        partial(small_world, sizes=(2,), policy=asked), cancels=0, limits={"kernel": 3}
    )
    assert broken_rules(report) == {"policies_are_kept"}


def test_control_operations_that_are_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else has what should have ended: the operations outlive their initiator."""

    async def scenario(case: Case) -> None:
        async with trio_send.open_initiator(ExitPolicy.JOIN):
            await small_world(case, sizes=(2,), policy=ExitPolicy.ABORT)
            await trio.sleep(2)

    monkeypatch.setattr(_world_initiator, "open_initiator", exits_as(ExitPolicy.ADOPT))
    report = explore(scenario, limits={"kernel": 1})
    # It is found when the world ends before they do.
    assert "all_ends" in broken_rules(report)


class Lies:
    """A port's answer that is changed."""

    def __init__(self, change: Callable[[bytes], bytes], counted: Callable[[int], int]) -> None:
        self.change = change
        self.counted = counted

    def apply(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = ChosenPort._attempt

        def attempt(port: ChosenPort, data: bytes) -> int:
            return self.counted(real(port, self.change(data)))

        monkeypatch.setattr(ChosenPort, "_attempt", attempt)


@pytest.mark.parametrize(
    ("lie", "rules"),
    [
        # It says one less than it took: the byte goes out again.
        (Lies(bytes, lambda n: max(0, n - 1) if n > 1 else n), {"counts_are_exact"}),
        (Lies(lambda data: data[::-1], int), {"bytes_are_a_prefix"}),
    ],
    ids=["less", "backwards"],
)
def test_control_a_kernel_that_lies(
    lie: Lies, rules: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lie.apply(monkeypatch)
    found = broken_rules(search())
    assert rules <= found <= {rule.__name__ for rule in RULES}


def kinds(sends: Sequence[Sent]) -> set[str]:
    return {sent.face for sent in sends}


def test_every_face_is_tried() -> None:
    seen: set[str] = set()

    async def scenario(case: Case) -> None:
        await small_world(case, sizes=(1, 1), policy=ExitPolicy.JOIN)

    real = World._new

    def new(self: World, socket: Socket, size: int, face: str) -> Sent:
        seen.add(face)
        return real(self, socket, size, face)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(World, "_new", new)
        report = explore(scenario, cancels=0, limits={"kernel": 0})
    assert seen == {"send_async", "begin_send", "send"}
    assert report.plans == 9


def test_two_stops_from_inside_of_one_call() -> None:
    """What the kernel accepts in that very call is not late, however many stops came from inside of it."""

    async def scenario(case: Case) -> None:
        async with World(case) as world:
            socket = world.socket()
            async with world.initiator():
                world.send_async(socket, 2)
                world.send_async(socket, 1)
                await trio.sleep(0.5)

    report = explore(scenario, cancels=0, limits={"kernel": 1, "inside": 2})
    assert report.findings == ()
    assert report.exhausted
