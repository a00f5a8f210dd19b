"""Hold what sockets, initiators and the ledger count to their equations, and the ledger to finding what is wrong.

`tests/conftest.py` looks at the books of every socket and initiator after every test of all the others.

Modules: _base.statistics.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, strategies as st
from trio.testing import wait_all_tasks_blocked

from tests import conftest
from tests.helpers import args_for, scripted, unblock
from tests.scripted import run_virtual
from trio_send import (
    ExitPolicy,
    SendPacketsElement,
    Socket,
    SocketAsyncEventArgs,
    SocketException,
    add_instrument,
    open_initiator,
)
from trio_send._owners.exiting_owner import START_BUDGET
from trio_send.testing import Blocked, Ledger, ScriptedPort


def ends_of(counts: Any) -> tuple[int, int, int, int]:
    return counts.started, counts.succeeded, counts.failed, counts.aborted


def bytes_of(socket: Socket) -> tuple[int, int, int, int]:
    now = socket.statistics()
    return now.bytes_offered, now.bytes_accepted, now.queued_bytes, now.bytes_abandoned


@pytest.mark.parametrize("watched", [False, True])
async def test_what_becomes_of_each_send_is_counted(watched: bool, autojump_clock: Any) -> None:
    socket, port = scripted(5, 3, Blocked(), 7, 4, Blocked())
    ledger = Ledger()
    async with open_initiator() as initiator:
        if watched:
            add_instrument(ledger)
        socket.send_async(args_for(bytes(5)))  # at once
        first, second, third = (args_for(bytes(10)) for _ in range(3))
        for args in (first, second, third):
            assert socket.send_async(args)
        assert bytes_of(socket) == (35, 8, 27, 0)
        assert ends_of(socket.statistics()) == (3, 0, 0, 0)
        assert ends_of(initiator.statistics()) == (4, 1, 0, 0)
        third.cancel()
        assert bytes_of(socket) == (35, 8, 17, 10)
        await unblock(port)
        assert bytes_of(socket) == (35, 19, 6, 10)
        second.cancel()  # in its middle
        assert bytes_of(socket) == (35, 19, 0, 16)
        assert ends_of(socket.statistics()) == (3, 1, 0, 2)
        assert socket.send_async(args_for(b"x")) is False  # the stream is torn
        assert bytes_of(socket) == (36, 19, 0, 17)
        assert ends_of(socket.statistics()) == (4, 1, 1, 2)
        port.unblock()
        await second.wait()
        socket.resume(second)
        assert bytes_of(socket) == (42, 25, 0, 17)
        assert ends_of(socket.statistics()) == (4, 1, 1, 2)
        assert ends_of(initiator.statistics()) == (6, 3, 1, 2)
        if watched:
            ledger.check(socket, initiator)
            assert ends_of(ledger) == (6, 3, 1, 2)
            books = (ledger.offered, ledger.accepted, ledger.queued, ledger.abandoned)
            assert books == bytes_of(socket)


@pytest.mark.parametrize("face", ["send_async", "begin_send"])
@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("watched", [False, True])
async def test_starts_that_end_at_once_are_counted_by_the_budget(
    face: str, refused: bool, watched: bool, autojump_clock: Any
) -> None:
    """However often it is renewed, and by whatever: by its end, and by operations that wait."""
    socket, port = scripted()
    blocked, _ = scripted(Blocked(), on_torn="allow")
    count = 3 * START_BUDGET + 17
    async with open_initiator() as initiator:
        args = args_for(b"x")
        if watched:
            add_instrument(Ledger())
        if refused:
            port.add(*["ECONNRESET"] * 2)
        for number in range(count):
            if number in (50, 150):
                waits = args_for(b"y")
                assert blocked.send_async(waits)
            if face == "send_async":
                if socket.send_async(args):
                    await args.wait()
            else:
                try:
                    result = socket.begin_send(b"x")
                    await socket.try_end_send(result)
                except SocketException:
                    assert refused
        waiting = blocked.queued_operations
        now = initiator.statistics()
        assert now.pending_operations == waiting
        assert now.started == count + waiting
        assert (now.succeeded, now.failed) == ((0, count) if refused else (count, 0))
        assert socket.statistics().failed == (count if refused else 0)
        blocked.close()
    assert initiator.statistics().aborted == waiting


async def test_what_is_handed_over_counts_as_the_adopters(autojump_clock: Any) -> None:
    socket, _ = scripted(Blocked())
    async with open_initiator() as adopter:
        async with open_initiator(ExitPolicy.ADOPT) as inner:
            socket.send_async(args_for(b"a"))
            socket.send_async(args_for(b"b"))
        assert ends_of(inner.statistics()) == (0, 0, 0, 0)
        assert ends_of(adopter.statistics()) == (2, 0, 0, 0)
    assert ends_of(adopter.statistics()) == (2, 0, 0, 2)


async def test_starts_after_the_stop_are_aborted_ones(autojump_clock: Any) -> None:
    socket, _ = scripted()
    async with open_initiator() as initiator:
        args = args_for(b"x")
        socket.send_async(args)
        initiator.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
        assert socket.send_async(args) is False
        assert ends_of(initiator.statistics()) == (2, 1, 0, 1)


async def test_what_a_file_lacks_is_given_up(tmp_path: Path, autojump_clock: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    socket, port = scripted(Blocked())
    ledger = Ledger()
    add_instrument(ledger)
    async with open_initiator() as initiator:
        args = SocketAsyncEventArgs()
        args.send_packets_elements = [SendPacketsElement(path)]
        assert socket.send_packets_async(args)
        path.write_bytes(bytes(30))
        await unblock(port)
        await args.wait()
        ledger.check(socket, initiator)
        assert ends_of(ledger) == (1, 0, 1, 0)
        assert (ledger.offered, ledger.accepted, ledger.abandoned) == (100, 30, 70)
        socket.close()


@pytest.mark.skipif(not Path("/sys/class/net/lo/mtu").exists(), reason="there is no such file here")
async def test_a_file_that_claims_to_be_longer_than_it_is_offers_what_it_has(
    autojump_clock: Any,
) -> None:
    path = Path("/sys/class/net/lo/mtu")
    socket, port = scripted(Blocked())
    ledger = Ledger()
    add_instrument(ledger)
    async with open_initiator() as initiator:
        args = SocketAsyncEventArgs()
        args.send_packets_elements = [SendPacketsElement(path)]
        assert socket.send_packets_async(args)
        assert ledger.offered > len(path.read_bytes())
        await unblock(port)
        await args.wait()
        ledger.check(socket, initiator)
        assert ends_of(ledger) == (1, 1, 0, 0)
        assert ledger.offered == ledger.accepted == len(path.read_bytes())


async def test_what_began_before_the_ledger_is_not_in_its_books(autojump_clock: Any) -> None:
    socket, port = scripted(Blocked())
    ledger = Ledger()
    async with open_initiator():
        before, later = args_for(b"before"), args_for(b"later")
        socket.send_async(before)
        add_instrument(ledger)
        socket.send_async(later)
        await unblock(port)
        ledger.check(socket)
        assert (ledger.started, ledger.offered) == (1, 5)


SENDS = st.lists(
    st.tuples(
        st.sampled_from(["send", "begin", "cancel", "resume", "forget", "sleep"]),
        st.integers(0, 40),
    ),
    max_size=25,
)
SCRIPT = st.lists(
    st.one_of(st.integers(1, 60), st.just(Blocked(1.0)), st.sampled_from(["ENOBUFS", "EMSGSIZE"])),
    max_size=20,
)


@given(script=SCRIPT, deeds=SENDS, full=st.booleans())
def test_the_counts_add_up_at_every_moment(
    script: list[Any], deeds: list[tuple[str, int]], full: bool
) -> None:
    async def main() -> None:
        socket = Socket.from_port(ScriptedPort(script))
        ledger = Ledger()
        add_instrument(ledger)
        started: list[SocketAsyncEventArgs] = []
        if full:
            socket.low_water, socket.high_water, socket.when_full = 0, 1000, "refuse"
        async with open_initiator(ExitPolicy.JOIN) as initiator:
            for deed, number in deeds:
                if deed == "send":
                    started.append(SocketAsyncEventArgs(bytes(number)))
                    socket.send_async(started[-1])
                elif deed == "begin":
                    socket.try_begin_send(bytes(number))
                elif deed == "cancel" and started:
                    started[number % len(started)].cancel()
                elif deed == "resume" and socket.torn is not None:
                    rest = SocketAsyncEventArgs(buffer_list=socket.torn.remaining)
                    socket.resume(rest)
                elif deed == "forget":
                    socket.forget_torn()
                elif deed == "sleep":
                    await trio.sleep(number / 10)
                ledger.check(socket, initiator)
        ledger.check(socket, initiator)
        assert ledger.pending == 0
        assert ends_of(ledger) == ends_of(initiator.statistics())
        books = (ledger.offered, ledger.accepted, ledger.queued, ledger.abandoned)
        assert books == bytes_of(socket)

    run_virtual(main)


# What is wrong is found -------------------------------------------------------------------------


async def test_a_ledger_says_what_does_not_add_up(autojump_clock: Any) -> None:
    socket, _ = scripted(Blocked())
    async with open_initiator() as initiator:
        socket.send_async(args_for(b"1234"))
        for thing, name, what in (
            (
                socket._core.sends,
                "started",
                r"operations of <trio_send.Socket: .*: 2 are not 0 succeeded",
            ),
            (
                socket._core.sends,
                "offered",
                r"bytes of <trio_send.Socket: .*: 5 are not 0 accepted, 4",
            ),
            (socket._core.sends, "abandoned", "bytes of"),
            (initiator._owner, "aborted", r"operations of <Initiator: .*: 1 are not .* 1 pending"),
        ):
            setattr(thing, name, getattr(thing, name) + 1)
            with pytest.raises(AssertionError, match=what):
                Ledger().check(socket, initiator)
            setattr(thing, name, getattr(thing, name) - 1)
        Ledger().check(socket, initiator)
    ledger = Ledger()
    ledger.started = 1
    with pytest.raises(AssertionError, match="sends of the ledger do not add up: 1 are not"):
        ledger.check()
    ledger.started, ledger.accepted = 0, 1
    with pytest.raises(AssertionError, match="bytes of the ledger do not add up: 0 are not"):
        ledger.check()


async def test_every_test_is_looked_at(autojump_clock: Any) -> None:
    """A socket that is closed, one that is not, and an initiator, of which one number is wrong each."""
    closed, _ = scripted()
    kept, _ = scripted()
    closed._core.sends.started = kept._core.sends.started = 1
    closed.close()
    async with open_initiator() as initiator:
        initiator._owner.failed = 1
    assert len(conftest.WRONG) == 2
    conftest.WRONG.clear()
    conftest.audit(kept._core)
    assert len(conftest.WRONG) == 1
    conftest.WRONG.clear()
    closed._core.sends.started = kept._core.sends.started = 0


def test_it_takes_no_test_framework() -> None:
    program = "import sys; sys.modules['pytest'] = None; import trio_send.testing as t; t.Ledger().check()"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
