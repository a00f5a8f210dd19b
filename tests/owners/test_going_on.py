"""Hold every program to its end that goes on starting after the stop, whatever it is told.

Each face is started in the same few loops: a handler that goes on until a start pends, plain or asynchronous; a task
that waits for what pends and starts the next; and a thread that does. Loops that do not end fail the test themselves.
"""

from __future__ import annotations

import socket as stdlib_socket
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.connections import full
from tests.datagrams import receiver
from tests.helpers import Told, scripted, stack as stack, stdlib_pair, ten, unblock
from tests.worker_threads import KINDS_OF_THREAD, in_own_thread
from trio_send import (
    AsyncResult,
    ExitPolicy,
    Initiator,
    InvalidOperationError,
    ManualResetEvent,
    SendPacketsElement,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    add_instrument,
    from_thread,
    open_initiator,
)
from trio_send._owners import exiting_owner, thread_owner
from trio_send.abc import Instrument
from trio_send.testing import Blocked

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

ABORTED = SocketError.OPERATION_ABORTED


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have it all take fewer starts and rounds, which makes no difference but in time."""
    for module in (exiting_owner, thread_owner):
        monkeypatch.setattr(module, "START_BUDGET", 16)
    monkeypatch.setattr(exiting_owner, "STARTS_PER_LOOK", 8)
    monkeypatch.setattr(exiting_owner, "MAX_ROUNDS", 6)


def budget() -> int:
    """How many starts in a row may end on the spot."""
    return exiting_owner.START_BUDGET


def rounds() -> int:
    """After how many rounds starts raise."""
    return exiting_owner.MAX_ROUNDS


def too_many() -> int:
    """More starts than it may take. A round is over after two events in the worst case."""
    return 3 * rounds() * (budget() + 1)


class Program:
    """A program that starts and starts through one face.

    Attributes:
      start: starts once; returns whether that pended.
      wait: waits for the end of what pended.
    """

    def __init__(self, face: str, stack: ExitStack) -> None:
        self.starts = 0
        self.pended = 0
        #: How many of those that pended were told, and how.
        self.told: list[SocketError] = []
        #: What is called for each.
        self.handler: Callable[..., Any] | None = None
        self._start, self.wait = FACES[face](self, stack)

    def start(self) -> bool:
        self.starts += 1
        assert self.starts <= too_many(), "starts go on without end"
        pended = self._start()
        self.pended += pended
        return pended

    def go_on(self, *_: object) -> None:
        """Start until one pends."""
        while not self.start():
            pass

    async def go_on_later(self, *_: object) -> None:
        self.go_on()

    async def produce(self) -> None:
        """Start and start, and wait for what pends."""
        while True:
            if self.start():
                await self.wait()

    def with_args(
        self, args: SocketAsyncEventArgs, start: Callable[[SocketAsyncEventArgs], bool]
    ) -> tuple[Callable[[], bool], Callable[[], Any]]:
        """Start with one args object."""

        def completed(_: Socket, args: SocketAsyncEventArgs) -> Any:
            self.told.append(args.socket_error)
            return None if self.handler is None else self.handler()

        def once() -> bool:
            pending = start(args)
            assert pending or args.socket_error is ABORTED
            return pending

        args.completed += completed
        return once, args.wait

    def with_results(
        self, begin: Callable[..., AsyncResult | None], end: Callable[[AsyncResult], Any]
    ) -> tuple[Callable[[], bool], Callable[[], Any]]:
        """Begin again and again, and end what pended."""
        latest: list[AsyncResult] = []

        def called(result: AsyncResult) -> Any:
            with pytest.raises(SocketException) as caught:
                assert result.outcome is not None
                result.outcome.unwrap()
            self.told.append(caught.value.socket_error_code)
            return None if self.handler is None else self.handler()

        def once() -> bool:
            try:
                result = begin(callback=called)
            except SocketException as error:
                return error.socket_error_code is not ABORTED
            if result is None:
                return False
            assert not result.completed_synchronously
            latest[:] = [result]
            return True

        async def wait() -> None:
            with pytest.raises(SocketException) as caught:
                await end(latest[0])
            assert caught.value.socket_error_code is ABORTED

        return once, wait


Starter = tuple[Callable[[], bool], Callable[[], Any]]


def pair(stack: ExitStack) -> Socket:
    left, right = stdlib_pair("unix")
    stack.enter_context(right)
    socket = Socket.from_stdlib(left)
    stack.callback(socket.close)
    return socket


def send_async(program: Program, stack: ExitStack) -> Starter:
    return program.with_args(SocketAsyncEventArgs(b"x"), pair(stack).send_async)


def cut_args(program: Program, stack: ExitStack, name: str) -> Starter:
    socket, _ = scripted(3, Blocked())
    stack.callback(socket.close)
    args = SocketAsyncEventArgs(ten("cut"))
    assert socket.send_async(args)
    assert args.cancel()
    return program.with_args(args, getattr(socket, name))


def send_packets_async(program: Program, stack: ExitStack) -> Starter:
    args = SocketAsyncEventArgs()
    args.send_packets_elements = [SendPacketsElement(b"x")]
    return program.with_args(args, pair(stack).send_packets_async)


def udp(stack: ExitStack) -> tuple[Socket, Any]:
    peer = stack.enter_context(receiver())
    socket = Socket(stdlib_socket.AF_INET, stdlib_socket.SOCK_DGRAM)
    stack.callback(socket.close)
    return socket, peer.getsockname()


def send_to_async(program: Program, stack: ExitStack) -> Starter:
    socket, address = udp(stack)
    args = SocketAsyncEventArgs(b"x")
    args.remote_end_point = address
    return program.with_args(args, socket.send_to_async)


def receive_async(program: Program, stack: ExitStack) -> Starter:
    return program.with_args(SocketAsyncEventArgs(bytearray(10)), pair(stack).receive_async)


def listening(stack: ExitStack) -> Socket:
    socket = Socket()
    stack.callback(socket.close)
    socket.bind(("127.0.0.1", 0))
    socket.listen()
    return socket


def accept_async(program: Program, stack: ExitStack) -> Starter:
    return program.with_args(SocketAsyncEventArgs(), listening(stack).accept_async)


def connecting(stack: ExitStack) -> tuple[Socket, Any]:
    busy = stack.enter_context(full())
    socket = Socket()
    stack.callback(socket.close)
    return socket, busy.getsockname()


def connect_async(program: Program, stack: ExitStack) -> Starter:
    socket, address = connecting(stack)
    args = SocketAsyncEventArgs()
    args.remote_end_point = address
    return program.with_args(args, socket.connect_async)


def disconnect_async(program: Program, stack: ExitStack) -> Starter:
    return program.with_args(SocketAsyncEventArgs(), pair(stack).disconnect_async)


def begin_send(program: Program, stack: ExitStack) -> Starter:
    socket = pair(stack)
    return program.with_results(
        lambda callback: socket.begin_send(b"x", callback=callback), socket.end_send
    )


def try_begin_send(program: Program, stack: ExitStack) -> Starter:
    socket = pair(stack)
    return program.with_results(
        lambda callback: socket.try_begin_send(b"x", callback=callback)[0], socket.end_send
    )


def begin_send_to(program: Program, stack: ExitStack) -> Starter:
    socket, address = udp(stack)
    return program.with_results(
        lambda callback: socket.begin_send_to(b"x", remote_end_point=address, callback=callback),
        socket.end_send_to,
    )


def begin_receive(program: Program, stack: ExitStack) -> Starter:
    socket = pair(stack)
    return program.with_results(
        lambda callback: socket.begin_receive(bytearray(10), callback=callback),
        socket.end_receive,
    )


def begin_accept(program: Program, stack: ExitStack) -> Starter:
    socket = listening(stack)
    return program.with_results(socket.begin_accept, socket.end_accept)


def begin_connect(program: Program, stack: ExitStack) -> Starter:
    socket, address = connecting(stack)
    return program.with_results(
        lambda callback: socket.begin_connect(address, callback), socket.end_connect
    )


FACES: dict[str, Callable[[Program, ExitStack], Starter]] = {
    "send_async": send_async,
    "send_async of what was cut": lambda *a: cut_args(*a, "send_async"),
    "resume": lambda *a: cut_args(*a, "resume"),
    "send_packets_async": send_packets_async,
    "send_to_async": send_to_async,
    "receive_async": receive_async,
    "accept_async": accept_async,
    "connect_async": connect_async,
    "disconnect_async": disconnect_async,
    "begin_send": begin_send,
    "try_begin_send": try_begin_send,
    "begin_send_to": begin_send_to,
    "begin_receive": begin_receive,
    "begin_accept": begin_accept,
    "begin_connect": begin_connect,
}

in_few = pytest.mark.usefixtures("few")
every_face = pytest.mark.parametrize("face", FACES)


class Left(Exception):
    """What a body is left with."""


@asynccontextmanager
async def left_with(way: str, policy: ExitPolicy, then: Callable[..., Any], watched: bool) -> Any:
    """Open an initiator, stop it in one of the ways there are, and have ``then`` called as a handler after the stop.

    The block is run before that, inside the initiator.
    """
    blocked, _ = scripted(3, Blocked())  # begun, or FINISH_STARTED would not wait for it
    grace = 0 if policy in (ExitPolicy.DRAIN, ExitPolicy.FINISH_STARTED) else None
    with trio.CancelScope() as outer, ExitStack() as stack:
        if watched:
            stack.enter_context(add_instrument(Instrument()))
        async with open_initiator():  # whom ADOPT hands over to
            async with open_initiator(policy, grace=grace) as initiator:
                trigger = SocketAsyncEventArgs(b"hello")
                trigger.completed += then
                assert blocked.send_async(trigger)
                yield initiator
                if way == "raise":
                    raise Left
                if way == "cancel":
                    outer.cancel()
                    await trio.sleep_forever()


def only_mistakes(group: BaseExceptionGroup[BaseException], *others: type[Exception]) -> None:
    """Look whether a group holds nothing but starts that were mistakes, and perhaps what the body was left with."""
    mistakes, rest = group.split(InvalidOperationError)
    assert mistakes is not None
    if rest is not None:
        assert rest.split(others)[1] is None


async def count_turns(turns: list[int]) -> None:
    while True:
        turns[0] += 1
        await trio.lowlevel.checkpoint()


# Handlers that start until a start pends, after every event -----------------------------------


@in_few
@every_face
@pytest.mark.parametrize("kind", ["plain", "asynchronous"])
@pytest.mark.parametrize("way", ["end", "raise", "cancel"])
async def test_a_handler_that_goes_on_until_a_start_pends(
    face: str, kind: str, way: str, stack: ExitStack
) -> None:
    """After a while a start raises, and that leaves the initiator as any exception of a handler does."""
    turns = [0]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns, turns)
        with pytest.raises(BaseExceptionGroup) as caught:
            async with left_with(way, ExitPolicy.ABORT, lambda *_: program.handler(), False):
                program = Program(face, stack)
                program.handler = program.go_on if kind == "plain" else program.go_on_later
        nursery.cancel_scope.cancel()
    only_mistakes(caught.value, Left)
    # One pends after each budget, each is told and ends as what is started after the stop does.
    assert program.starts >= rounds() * (budget() + 1)
    assert program.pended == (program.starts - 1) // (budget() + 1)
    assert program.told == [ABORTED] * program.pended
    # Everybody else had a turn meanwhile, again and again.
    assert turns[0] >= program.pended


@in_few
@pytest.mark.parametrize("policy", [*ExitPolicy])
@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("kind", ["plain", "asynchronous"])
async def test_a_handler_that_goes_on_under_every_policy(
    policy: ExitPolicy, watched: bool, kind: str, stack: ExitStack
) -> None:
    program = Program("send_async", stack)
    program.handler = program.go_on if kind == "plain" else program.go_on_later
    with pytest.raises(BaseExceptionGroup) as caught:
        async with left_with("cancel", policy, program.handler, watched):
            pass
    only_mistakes(caught.value)
    assert program.told == [ABORTED] * program.pended


async def test_a_handler_that_goes_on_with_fresh_args_each_time() -> None:
    """It is the initiator that counts, so it does not help to come with others; here with the real numbers."""
    socket, port = scripted(Blocked())
    told = Told()
    starts = 0

    def go_on(*_: object) -> None:
        nonlocal starts
        while True:
            starts += 1
            assert starts <= too_many()
            args = told.args(str(starts))
            args.completed += go_on
            if socket.send_async(args):
                return

    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_initiator():
            go_on()
    only_mistakes(caught.value)
    assert {end for _, end, _ in told.events} == {ABORTED}
    assert port.accepted == b""


# Tasks that wait for what pends ----------------------------------------------------------------


@in_few
@every_face
async def test_tasks_that_wait_are_cancelled(face: str, stack: ExitStack) -> None:
    """Their checkpoint comes when a start pends. However many they are, none is told that it was too late."""
    async with open_initiator() as initiator:
        programs = [Program(face, stack) for _ in range(5)]
        initiator.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
        # Later than the stop, so none of them ever sees another answer.
        async with trio.open_nursery() as nursery:
            for program in programs:
                nursery.start_soon(program.produce)
    assert [program.pended for program in programs] == [1] * 5
    for program in programs:
        assert program.told == [ABORTED]


@in_few
async def test_a_crowd_of_tasks_is_cancelled(stack: ExitStack) -> None:
    """A round is not one task's but everybody's."""
    socket = pair(stack)
    crowd = 3 * rounds()
    starts = 0

    async def produce() -> None:
        nonlocal starts
        args = SocketAsyncEventArgs(b"x")
        while True:
            starts += 1
            if socket.send_async(args):
                await args.wait()

    async with open_initiator() as initiator:
        initiator.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            for _ in range(crowd):
                nursery.start_soon(produce)
    assert starts == crowd * (budget() + 1)


@in_few
@every_face
async def test_tasks_that_outlive_their_initiator(face: str, stack: ExitStack) -> None:
    """They have inherited it and nobody cancels them. It closes all the same, and then they are told so."""
    stopped, all_told_so = trio.Event(), trio.Event()
    told_so = 0

    async def outlive(program: Program) -> None:
        nonlocal told_so
        await stopped.wait()
        with pytest.raises(InvalidOperationError, match="have gone on all the same"):
            await program.produce()
        told_so += 1
        if told_so == 3:
            all_told_so.set()

    async def keep_open(*_: object) -> None:
        stopped.set()
        await all_told_so.wait()

    async with trio.open_nursery() as nursery:
        async with left_with("end", ExitPolicy.ABORT, keep_open, False):
            programs = [Program(face, stack) for _ in range(3)]
            for program in programs:
                nursery.start_soon(outlive, program)
    for program in programs:
        assert program.told == [ABORTED] * program.pended


@in_few
@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("policy", [*ExitPolicy])
async def test_tasks_that_outlive_initiators_of_every_policy(
    policy: ExitPolicy, watched: bool, stack: ExitStack
) -> None:
    """The initiators are cancelled, and the tasks are not."""
    stopped, all_told_so = trio.Event(), trio.Event()

    async def outlive(program: Program) -> None:
        await stopped.wait()
        with pytest.raises(InvalidOperationError, match="have gone on all the same"):
            await program.produce()
        all_told_so.set()

    async def keep_open(*_: object) -> None:
        stopped.set()
        with trio.CancelScope(shield=True):
            await all_told_so.wait()

    async with trio.open_nursery() as nursery:
        async with left_with("cancel", policy, keep_open, watched):
            program = Program("send_async", stack)
            nursery.start_soon(outlive, program)
    assert rounds() <= program.pended <= 2 * rounds()
    assert program.told == [ABORTED] * program.pended


async def test_a_body_that_shields_itself_comes_to_its_end(stack: ExitStack) -> None:
    """It is not left yet, but whoever goes on in it is told that it will not get any further."""
    program = Program("send_async", stack)
    async with open_initiator() as initiator:
        initiator.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
            with pytest.raises(InvalidOperationError, match="have gone on all the same"):
                await program.produce()
            with pytest.raises(InvalidOperationError, match="have gone on all the same"):
                program.start()
            # What needs no initiator is as possible as ever.
            await wait_all_tasks_blocked()
    assert program.told == [ABORTED] * program.pended


async def test_what_has_ended_on_the_spot_counts_once_when_another_start_has_to_wait() -> None:
    socket, port = scripted(5, 5, 5, 2, Blocked(), 3, 5)
    async with open_initiator() as initiator:
        for started in range(1, 4):
            assert not socket.send_async(SocketAsyncEventArgs(b"12345"))
            assert initiator.statistics().started == started
        args = SocketAsyncEventArgs(b"12345")
        assert socket.send_async(args)
        assert initiator.statistics().started == 4
        await unblock(port)
        assert not args.pending
        assert not socket.send_async(SocketAsyncEventArgs(b"12345"))
        assert initiator.statistics().started == initiator.statistics().succeeded == 5
    socket.close()


async def test_what_is_shown_of_the_starts_that_are_left(stack: ExitStack) -> None:
    program = Program("send_async", stack)
    async with open_initiator() as initiator:
        assert initiator.statistics().starts_before_yield == budget()
        initiator.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
            for number in range(budget()):
                assert initiator.statistics().starts_before_yield == budget() - number
                assert not program.start()
            assert initiator.statistics().starts_before_yield == 0
            assert program.start()
            assert initiator.statistics().starts_before_yield == budget()
            assert initiator.statistics().unfinished_events >= 1
    assert program.told == [ABORTED]


# Starting once for each event does no harm ----------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "asynchronous"])
async def test_a_crowd_of_handlers_that_restart_once_is_never_told_that_it_went_on(
    kind: str,
) -> None:
    """However many there are: the rounds are few, for most of what they start is told no more."""
    socket, port = scripted(Blocked())
    crowd = 20_000
    answers = []

    def again(socket: Socket, args: SocketAsyncEventArgs) -> None:
        answers.append(socket.send_async(args))

    async def again_later(socket: Socket, args: SocketAsyncEventArgs) -> None:
        again(socket, args)

    async with open_initiator() as initiator:
        for _ in range(crowd):
            args = SocketAsyncEventArgs(b"x")
            args.completed += again if kind == "plain" else again_later
            assert socket.send_async(args)
    pended = answers.count(True)
    assert len(answers) == crowd + pended
    assert pended == len(answers) // (budget() + 1)
    assert initiator._owner.rounds <= 4
    assert port.attempts == 1


async def test_what_was_cut_keeps_its_count_and_its_rest_through_its_event() -> None:
    """Refused or told later, the args stay those that were cut."""
    socket, port = scripted(3, Blocked())
    args = SocketAsyncEventArgs(ten("a"))
    seen: list[tuple[SocketError, int, int]] = []
    args.completed += lambda _, args: seen.append(
        (args.socket_error, args.bytes_transferred, args.activation)
    )
    async with open_initiator() as initiator:
        assert socket.send_async(args)
        assert args.cancel()
        await args.wait()
        initiator.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
            for _ in range(budget()):
                assert not socket.send_async(args)
            assert socket.send_async(args)
            assert args.pending
            assert not args.cancel()
            assert await args.wait() == 3
            assert socket.torn is not None
            assert socket.torn.operation is args
            # Of another stream it is no rest.
            other, _ = scripted()
            with pytest.raises(InvalidOperationError, match="was cut after 3 bytes"):
                other.send_async(args)
    assert seen == [(ABORTED, 3, 1), (ABORTED, 3, 2)]
    args.completed -= args.completed._handlers[0]
    async with open_initiator():
        assert socket.resume(args)
        port.unblock()
        assert await args.wait() == 10
    assert port.accepted == ten("a")


# Threads ----------------------------------------------------------------------------------------


def begin_again(socket: Socket, host: Initiator, ends: list[SocketError]) -> None:
    """Start and start in a thread, and wait for what pends."""
    for _ in range(too_many()):
        result, error = from_thread.try_begin_send(socket, b"x", host=host)
        if result is None:
            ends.append(error)
            continue
        with pytest.raises(SocketException) as caught:
            from_thread.end_send(result)
        ends.append(caught.value.socket_error_code)
    pytest.fail("the thread was never told to end")


def args_again(socket: Socket, host: Initiator, ends: list[SocketError]) -> None:
    """The same with args, those of a message that was cut if there is one."""
    torn = socket.torn
    args = SocketAsyncEventArgs(b"x") if torn is None else torn.operation
    assert isinstance(args, SocketAsyncEventArgs)
    count = args.bytes_transferred
    told = ManualResetEvent()
    args.completed += lambda *_: told.set()
    for _ in range(too_many()):
        told.reset()
        if from_thread.send_async(socket, args, host=host):
            assert from_thread.wait_one(told)
        ends.append(args.socket_error)
        assert args.bytes_transferred == count
    pytest.fail("the thread was never told to end")


def torn_socket() -> Socket:
    """A socket on which a message was cut; there has to be an initiator."""
    socket, _ = scripted(3, Blocked())
    args = SocketAsyncEventArgs(ten("cut"))
    assert socket.send_async(args)
    assert args.cancel()
    return socket


every_loop_of_a_thread = pytest.mark.parametrize(
    ("loop", "state"), [(begin_again, "fresh"), (args_again, "fresh"), (args_again, "cut")]
)
Loop = Callable[[Socket, Initiator, list[SocketError]], None]


@in_few
@every_loop_of_a_thread
async def test_a_call_that_waits_is_cancelled(loop: Loop, state: str) -> None:
    """It is told so where it waits for the end of a start, and after the stop there is one again now and then."""
    ends: list[SocketError] = []
    stopped, over = threading.Event(), threading.Event()

    def work(socket: Socket, host: Initiator) -> None:
        assert stopped.wait(10)
        try:
            loop(socket, host, ends)
        finally:
            over.set()

    async with open_initiator() as host, trio.open_nursery() as nursery:
        socket = torn_socket() if state == "cut" else scripted()[0]
        nursery.start_soon(trio.to_thread.run_sync, work, socket, host)
        await wait_all_tasks_blocked()
        host.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
        stopped.set()
        over.wait(
            10
        )  # without letting Trio go on, so the end cannot have come when it is waited for
    assert ends == [ABORTED] * budget()


@in_few
@every_loop_of_a_thread
@pytest.mark.parametrize("kind", KINDS_OF_THREAD)
async def test_a_thread_that_goes_on_is_told_so(loop: Loop, state: str, kind: str) -> None:
    """Nobody cancels it, but its starts raise in the end."""
    ends: list[SocketError] = []
    stopped, over = trio.Event(), trio.Event()

    async def keep_open(*_: object) -> None:
        stopped.set()
        await over.wait()

    async def work(host: Initiator, socket: Socket) -> None:
        await stopped.wait()
        with pytest.raises(InvalidOperationError, match=r"host has exited|would serve this thread"):
            await KINDS_OF_THREAD[kind](loop, socket, host, ends)
        over.set()

    async with trio.open_nursery() as nursery:
        async with left_with("end", ExitPolicy.ABORT, keep_open, False) as host:
            socket = torn_socket() if state == "cut" else scripted()[0]
            nursery.start_soon(work, host, socket)
    assert set(ends) == {ABORTED}
    assert rounds() * (budget() + 1) <= len(ends) <= too_many()


@in_few
async def test_a_thread_after_the_other_goes_on() -> None:
    """Each is an owner of its own, but it is their host that was stopped, and its rounds are everybody's."""
    socket, _ = scripted()
    over = trio.Event()
    stopped = trio.Event()
    threads = 0

    def one_round(host: Initiator) -> None:
        for _ in range(budget() + 1):
            result, _ = from_thread.try_begin_send(socket, b"x", host=host)
        assert result is not None
        with pytest.raises(SocketException):
            from_thread.end_send(result)

    async def work(host: Initiator) -> None:
        nonlocal threads
        await stopped.wait()
        with pytest.raises(InvalidOperationError):
            while threads <= 3 * rounds():
                await in_own_thread(one_round, host)
                threads += 1
        over.set()

    async def keep_open(*_: object) -> None:
        stopped.set()
        await over.wait()

    async with trio.open_nursery() as nursery:
        async with left_with("end", ExitPolicy.ABORT, keep_open, False) as host:
            nursery.start_soon(work, host)
    assert threads >= rounds()


async def test_a_failure_on_the_spot_is_told_later_to_a_thread_now_and_then() -> None:
    """Also before the stop: a thread that never waits is never told that its call was cancelled."""
    socket, _ = scripted()
    unconnected = Socket()
    async with open_initiator() as host:

        def work() -> None:
            for _ in range(3):
                for _ in range(budget()):
                    answer = from_thread.try_begin_send(unconnected, b"x", host=host)
                    assert answer == (None, SocketError.NOT_CONNECTED)
                result, error = from_thread.try_begin_send(unconnected, b"x", host=host)
                assert error is SocketError.SUCCESS
                assert result is not None
                with pytest.raises(SocketException) as caught:
                    from_thread.end_send(result)
                assert caught.value.socket_error_code is SocketError.NOT_CONNECTED
            for _ in range(budget() // 2):
                from_thread.try_begin_send(unconnected, b"x", host=host)
            # One that is posted gives the budget back.
            assert from_thread.end_send(from_thread.begin_send(socket, b"x", host=host)) == 1
            for _ in range(budget()):
                result, error = from_thread.try_begin_send(unconnected, b"x", host=host)
                assert (result, error) == (None, SocketError.NOT_CONNECTED)

        await in_own_thread(work)
    unconnected.close()


@pytest.mark.parametrize("frames", [1, 4, 6])
async def test_a_thread_that_calls_itself_for_each_failure_has_stack_enough(frames: int) -> None:
    unconnected = Socket()
    pended: list[AsyncResult] = []

    def start(layers: int, host: Initiator, left: int) -> None:
        if layers > 1:
            start(layers - 1, host, left)
        elif left:
            result, _ = from_thread.try_begin_send(unconnected, b"x", host=host)
            if result is None:
                start(frames, host, left - 1)
            else:
                pended.append(result)

    async with open_initiator() as host:
        for _ in range(3):
            await in_own_thread(start, frames, host, 1000)
            assert await unconnected.try_end_send(pended.pop()) == (0, SocketError.NOT_CONNECTED)
            assert pended == []
    unconnected.close()


async def test_a_block_of_a_thread_whose_handlers_go_on_can_be_left() -> None:
    """What is owed is told before it is left, and the exception of the handler leaves through the host."""
    program = Program.__new__(Program)
    program.starts = program.pended = 0
    socket, _ = scripted(Blocked())
    args = SocketAsyncEventArgs(b"x")
    told = 0

    def go_on(*_: object) -> None:
        nonlocal told
        told += 1
        program.go_on()

    program._start = lambda: socket.send_async(args)
    args.completed += go_on

    def work(host: Initiator) -> None:
        with from_thread.initiator(host):
            assert from_thread.send_async(socket, args)

    async with trio.open_nursery() as nursery:
        with pytest.raises(BaseExceptionGroup) as caught:
            async with open_initiator() as host:
                with trio.CancelScope(shield=True):
                    await in_own_thread(work, host)
                    left = told
        nursery.cancel_scope.cancel()
    only_mistakes(caught.value)
    assert told == left == program.pended + 1
