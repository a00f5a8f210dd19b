"""Hold the log to one line for what would be lost in silence: failures nobody asks for, bytes that stay behind."""

from __future__ import annotations

import gc
import logging
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.helpers import python_handles_ctrl_c as python_handles_ctrl_c, scripted, ten
from trio_send import (
    AsyncResult,
    ExitPolicy,
    Socket,
    SocketAsyncEventArgs,
    SocketException,
    from_thread,
    open_initiator,
    socketpair,
)
from trio_send._socket import async_result
from trio_send._socket.results import origin_of
from trio_send._tracing.log import _write, write_soon
from trio_send.testing import Blocked, ScriptedPort

Log = pytest.LogCaptureFixture

LOST = (
    "a begin_send has failed, and nobody has called end_send for it: "
    "the peer reset the connection (CONNECTION_RESET, 10054), with 3 bytes accepted"
)


def lines(log: Log, level: int = logging.INFO) -> list[str]:
    """What the log has been told, in order."""
    return [
        record.getMessage()
        for record in log.records
        if record.name == "trio_send" and record.levelno >= level
    ]


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: Log) -> None:
    caplog.set_level(logging.DEBUG, "trio_send")


async def failed(callback: Callable[[AsyncResult], object] | None = None) -> list[AsyncResult]:
    """The result of a send that has failed while it was pending, in a list that holds it alone."""
    socket, _ = scripted(3, Blocked(0), "ECONNRESET")
    async with open_initiator(ExitPolicy.JOIN):
        results = [socket.begin_send(ten("a"), callback=callback)]
        while not results[0].is_completed:
            await trio.testing.wait_all_tasks_blocked()
    socket.close()
    return results


# A failure that nobody asks for ----------------------------------------------------------------


async def test_a_failure_whose_end_nobody_calls_is_one_line(caplog: Log) -> None:
    results = await failed()
    gc.collect()
    await trio.testing.wait_all_tasks_blocked()
    assert lines(caplog) == []  # somebody may call it yet
    results.clear()
    await trio.testing.wait_all_tasks_blocked()
    assert lines(caplog, logging.WARNING) == [LOST]
    gc.collect()
    await trio.testing.wait_all_tasks_blocked()
    assert lines(caplog) == [LOST]


@pytest.mark.usefixtures("python_handles_ctrl_c")
def test_ctrl_c_in_the_finaliser_is_given_back_and_the_line_is_one(
    caplog: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no Trio runs, so that it would come at once."""
    strikes = [signal.SIGINT]

    def struck(*arguments: Any) -> None:
        while strikes:
            signal.raise_signal(strikes.pop())
        write_soon(*arguments)

    results = trio.run(failed)
    _ = origin_of(results[0])  # whose own finalisers would throw the interrupt away
    monkeypatch.setattr(async_result, "write_soon", struck)
    with pytest.raises(KeyboardInterrupt):
        results.clear()
        be_interrupted()
    _write()
    assert lines(caplog) == [LOST]


def be_interrupted() -> None:
    """Let Python look at signals, which it does where a function begins."""


async def end(result: AsyncResult, socket: Socket) -> None:
    with pytest.raises(SocketException):
        await socket.end_send(result)


async def try_end(result: AsyncResult, socket: Socket) -> None:
    socket.try_end_send_nowait(result)


async def look(result: AsyncResult, socket: Socket) -> None:
    assert result.outcome is not None


@pytest.mark.parametrize("way", [end, try_end, look])
async def test_whoever_has_asked_is_not_told_again(
    way: Callable[[AsyncResult, Socket], object], caplog: Log
) -> None:
    results = await failed()
    await way(results[0], origin_of(results[0]))  # type: ignore[misc]
    results.clear()
    await trio.testing.wait_all_tasks_blocked()
    assert lines(caplog) == []


async def test_a_callback_that_ends_it_has_asked(caplog: Log) -> None:
    def callback(result: AsyncResult) -> None:
        with pytest.raises(SocketException):
            origin_of(result).end_send_nowait(result)

    (await failed(callback)).clear()
    (await failed(lambda result: None)).clear()  # and one that does not, has not
    await trio.testing.wait_all_tasks_blocked()
    assert lines(caplog) == [LOST]


async def test_what_has_succeeded_was_stopped_or_raised_is_nobodys_loss(caplog: Log) -> None:
    socket, _ = scripted(10, 3, Blocked(0), 7, "EPIPE")
    async with open_initiator(ExitPolicy.JOIN):
        socket.begin_send(bytearray(ten("a")))
        socket.begin_send(ten("b"))
        while socket.queued_operations:
            await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(SocketException):
            socket.begin_send(ten("c"))
    other, _ = scripted(Blocked())
    async with open_initiator(ExitPolicy.JOIN):
        other.begin_send(ten("d")).cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert lines(caplog) == []


async def test_the_line_is_not_written_inside_the_finaliser(caplog: Log) -> None:
    """Whoever is interrupted by the collector may hold a lock that the log needs."""
    results = await failed()
    lock = threading.Lock()
    at_once: list[str] = []

    class Strict(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert lock.acquire(blocking=False)
            results.clear()
            lock.release()

    handler = Strict()
    logger = logging.getLogger("trio_send")
    logger.addHandler(handler)
    try:
        logger.info("something else")
        at_once += lines(caplog)
        await trio.testing.wait_all_tasks_blocked()
    finally:
        logger.removeHandler(handler)
    assert at_once == ["something else"]
    assert lines(caplog) == ["something else", LOST]


async def test_the_line_is_written_in_the_trio_thread(caplog: Log) -> None:
    results = await failed()
    await trio.to_thread.run_sync(results.clear)
    await trio.testing.wait_all_tasks_blocked()
    (record,) = caplog.records
    assert record.getMessage() == LOST
    assert record.thread == threading.get_ident()


async def test_a_log_that_fails_ends_no_run(caplog: Log) -> None:
    class Failing(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise RuntimeError("a filter failed")

    failing = Failing()
    logger = logging.getLogger("trio_send")
    logger.addFilter(failing)
    try:
        (await failed()).clear()
        await trio.testing.wait_all_tasks_blocked()
    finally:
        logger.removeFilter(failing)
    assert lines(caplog) == []


def test_what_is_forgotten_behind_the_run_is_written_when_the_process_exits() -> None:
    script = """
        import trio, trio_send
        from trio_send.testing import Blocked, ScriptedPort

        async def main():
            socket = trio_send.Socket.from_port(ScriptedPort([3, Blocked(0), "ECONNRESET"]))
            async with trio_send.open_initiator(trio_send.ExitPolicy.JOIN):
                return [socket.begin_send(bytes(10))]

        results = trio.run(main)
        results.clear()
        print("still here", flush=True)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "still here\n")
    assert done.stderr.rstrip("\n") == LOST  # where nothing is set up, warnings go here


# Bytes that stay behind ------------------------------------------------------------------------


async def test_what_is_stopped_because_its_initiator_is_left_is_one_line(caplog: Log) -> None:
    socket, _ = scripted(4, Blocked())
    async with open_initiator(name="x"):
        assert socket.send_async(SocketAsyncEventArgs(ten("a")))
        socket.begin_send([ten("b"), ten("c")])
        args = SocketAsyncEventArgs(ten("d"))
        assert socket.send_async(args)
        args.cancel()  # which the program knows
    await trio.testing.wait_all_tasks_blocked()
    assert lines(caplog) == [
        "Initiator 'x' was left under ABORT; sends stopped: 2, bytes of them that were not sent: 26"
    ]
    (record,) = caplog.records
    assert record.levelno == logging.INFO


async def test_what_is_finished_or_no_send_is_not_mentioned(caplog: Log) -> None:
    sender, peer = socketpair()
    async with open_initiator():
        peer.begin_receive(bytearray(5))
        sender.begin_send(b"a whole one")
        peer.begin_receive(bytearray(5))
    sender.close()
    peer.close()
    socket, _ = scripted(4, Blocked(0), 6)
    async with open_initiator(ExitPolicy.JOIN):
        socket.begin_send(ten("a"))
    await trio.testing.wait_all_tasks_blocked()
    assert lines(caplog) == []


async def test_the_other_policies_say_what_they_could_not_finish(
    caplog: Log, autojump_clock: trio.testing.MockClock
) -> None:
    for policy, grace in ((ExitPolicy.DRAIN, 1), (ExitPolicy.FINISH_STARTED, 1)):
        socket, _ = scripted(4, Blocked())
        async with open_initiator(policy, grace=grace):
            socket.begin_send(ten("a"))
            socket.begin_send(ten("b"))
    with trio.CancelScope() as scope:
        async with open_initiator(ExitPolicy.JOIN):
            scripted(4, Blocked())[0].begin_send(ten("a"))
            scope.cancel()
    await trio.sleep(1)
    assert lines(caplog) == [
        f"Initiator was left under {name}; sends stopped: {count}, "
        f"bytes of them that were not sent: {size}"
        for name, count, size in (("DRAIN", 2, 16), ("FINISH_STARTED", 2, 16), ("JOIN", 1, 6))
    ]


async def test_a_thread_that_exits_leaves_a_line_too(caplog: Log) -> None:
    socket = Socket.from_port(ScriptedPort([4, Blocked()]))
    async with open_initiator() as host:
        thread = threading.Thread(
            target=lambda: from_thread.begin_send(socket, ten("a"), host=host), name="t"
        )
        thread.start()
        await trio.to_thread.run_sync(thread.join)
        while host.pending_operations or socket.queued_operations:
            await trio.testing.wait_all_tasks_blocked()
    await trio.testing.wait_all_tasks_blocked()
    assert lines(caplog) == [
        "ThreadInitiator 'thread t' was left under ABORT; sends stopped: 1, "
        "bytes of them that were not sent: 6"
    ]
