"""Hold the trace to its format, and to what happened.

Modules: _tracing.chrome_events.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.helpers import scripted
from tests.scripted import run_virtual
from trio_send import (
    ChromeTrace,
    Socket,
    SocketAsyncEventArgs,
    add_instrument,
    open_initiator,
    remove_instrument,
    socketpair,
)
from trio_send.testing import Blocked, ScriptedPort

Event = dict[str, Any]


def checked(text: str) -> list[Event]:
    """The events of a whole trace, once they are known to keep to the format.

    That is Chrome's trace event format: what each phase must have, and that what belongs together is nested.
    """
    events = json.loads(text)
    assert isinstance(events, list)
    latest = 0.0
    open_ids: dict[tuple[str, int, str], Event] = {}
    named: set[tuple[int, str]] = set()
    for event in events:
        assert set(event) - {"id2", "s"} == {"ph", "name", "cat", "pid", "tid", "ts", "args"}
        assert isinstance(event["name"], str) and event["name"]
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int)
        assert isinstance(event["args"], dict)
        assert event["ts"] >= latest
        latest = event["ts"]
        assert ("id2" in event) == (event["ph"] in "bne")
        assert ("s" in event) == (event["ph"] == "i")
        if event["ph"] == "M":
            names = {"process_name": f"socket {event['pid']}", "thread_name": "events"}
            assert event["args"] == {"name": names[event["name"]]}
            assert (event["pid"], event["name"]) not in named
            named.add((event["pid"], event["name"]))
            continue
        assert (event["pid"], "process_name") in named
        if event["ph"] == "i":
            assert event["s"] in ("g", "p", "t")
            continue
        tie = (event["cat"], event["pid"], event["id2"]["local"])
        assert isinstance(event["id2"]["local"], str)
        if event["ph"] == "b":
            assert tie not in open_ids
            open_ids[tie] = event
        else:
            begin = open_ids[tie]
            assert (event["pid"], event["tid"]) == (begin["pid"], begin["tid"])
        if event["ph"] == "e":
            assert event["name"] == open_ids.pop(tie)["name"]
    assert open_ids == {}
    return events


def phases(events: list[Event]) -> list[tuple[str, str, Any]]:
    return [(event["ph"], event["name"], event["ts"]) for event in events if event["ph"] != "M"]


async def test_a_send_that_waits(autojump_clock: MockClock) -> None:
    socket, _ = scripted(4, Blocked(2.0), 6)
    file = io.StringIO()
    with ChromeTrace(file) as trace, add_instrument(trace):
        async with open_initiator():
            args = SocketAsyncEventArgs(b"." * 10)
            socket.send_async(args)
            await args.wait()
        socket.close()
    events = checked(file.getvalue())
    assert phases(events) == [
        ("b", "send", 0),
        ("n", "accepted", 0),
        ("n", "queued", 0),
        ("n", "accepted", 2_000_000),
        ("e", "send", 2_000_000),
        ("i", "raised", 2_000_000),
        ("i", "closed", 2_000_000),
    ]
    told = [event["args"] for event in events if event["ph"] != "M"]
    number = told[0]["number"]
    assert told == [
        {"number": number, "size": 10},
        {"bytes": 4, "total": 4},
        {"ahead": 0},
        {"bytes": 6, "total": 10},
        {"error": "SUCCESS", "bytes_accepted": 10},
        {"kind": "send", "number": number},
        {"reset": False},
    ]


async def test_the_clock_begins_with_the_first_event(autojump_clock: MockClock) -> None:
    socket, _ = scripted()
    file = io.StringIO()
    with ChromeTrace(file) as trace, add_instrument(trace):
        await trio.sleep(3)
        await socket.send(b"one")
        await trio.sleep(1.5)
        await socket.send(b"two")
    begins = [event["ts"] for event in checked(file.getvalue()) if event["ph"] == "b"]
    assert begins == [0, 1_500_000]


async def test_what_fails_and_what_is_told_of_the_others() -> None:
    file = io.StringIO()
    with ChromeTrace(file) as trace, add_instrument(trace):
        async with Socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            async with Socket() as client, open_initiator():
                await client.connect(listener.local_end_point)
                async with await listener.accept() as server:
                    await server.send(b"hello")
                    await client.receive()
                broken, _ = scripted("EPIPE")
                broken.try_begin_send(b"x")
    ends = [event for event in checked(file.getvalue()) if event["ph"] == "e"]
    told = {event["name"]: event["args"] for event in ends}
    assert told["connect"]["error"] == "SUCCESS"
    assert told["accept"]["address"].startswith("('127.0.0.1', ")
    assert told["receive"] == {"error": "SUCCESS", "bytes_received": 5}
    assert ends[-1]["args"]["error"] == "SHUTDOWN"


async def test_what_is_pending_when_it_begins_and_when_it_ends() -> None:
    socket, port = scripted(4, Blocked(), 1, Blocked())
    file = io.StringIO()
    async with open_initiator():
        args = SocketAsyncEventArgs(b"." * 10)
        socket.send_async(args)
        await wait_all_tasks_blocked()
        with ChromeTrace(file) as trace, add_instrument(trace):
            port.unblock()
            await wait_all_tasks_blocked()
            socket.begin_send(b"next")
        socket.close()
    events = checked(file.getvalue())
    assert events[2]["args"] == {
        "number": int(events[2]["id2"]["local"]),
        "size": 10,
        "accepted_before": 4,
    }
    assert [event["args"] for event in events if event["ph"] == "e"] == [{"pending": True}] * 2


async def test_what_comes_after_the_end_is_not_written() -> None:
    socket, _ = scripted()
    file = io.StringIO()
    trace = ChromeTrace(file)
    add_instrument(trace)
    await socket.send(b"one")
    trace.close()
    text = file.getvalue()
    await socket.send(b"two")
    socket.close()
    trace.close()
    assert file.getvalue() == text
    remove_instrument(trace)  # it has not been thrown out
    assert len([event for event in checked(text) if event["ph"] == "b"]) == 1


async def test_a_file_that_was_cut_is_whole_but_for_its_end() -> None:
    """As when the process is killed; the format allows for it."""
    socket, _ = scripted()
    file = io.StringIO()
    with add_instrument(ChromeTrace(file)):
        await socket.send(b"one")
    checked(file.getvalue() + "\n]")


def test_a_trace_of_nothing() -> None:
    file = io.StringIO()
    ChromeTrace(file).close()
    assert checked(file.getvalue()) == []


@pytest.mark.parametrize("what", [None, "trace.json", io.BytesIO(), Path("trace.json")])
def test_what_cannot_be_written(what: Any) -> None:
    with pytest.raises(TypeError, match=r"^file must be a text file, open for writing"):
        ChromeTrace(what)


@given(
    script=st.lists(
        st.one_of(st.integers(1, 40), st.just(Blocked(1.0)), st.just("ECONNRESET")), max_size=8
    ),
    deeds=st.lists(st.tuples(st.sampled_from("absc"), st.integers(0, 30)), max_size=12),
)
def test_whatever_happens_every_bar_begins_and_ends_once(
    script: list[Any], deeds: list[tuple[str, int]]
) -> None:
    file = io.StringIO()
    accepted = 0

    async def main() -> None:
        nonlocal accepted
        port = ScriptedPort(script)
        socket = Socket.from_port(port)
        with ChromeTrace(file) as trace, add_instrument(trace):
            async with open_initiator():
                results = []
                for deed, size in deeds:
                    if deed == "a":
                        socket.send_async(SocketAsyncEventArgs(bytes(size)))
                    elif deed == "b":
                        results.append(socket.try_begin_send(bytes(size))[0])
                    elif deed == "s":
                        await trio.sleep(size / 10)
                    elif results and (result := results.pop()) is not None:
                        result.cancel()
            socket.close()
        accepted = len(port.accepted)

    run_virtual(main)
    events = checked(file.getvalue())
    marks = [event["args"]["bytes"] for event in events if event["name"] == "accepted"]
    assert sum(marks) == accepted
    ends = [event["args"] for event in events if event["ph"] == "e"]
    assert sum(end["bytes_accepted"] for end in ends) == accepted


async def test_two_sockets_have_rows_of_their_own() -> None:
    file = io.StringIO()
    with ChromeTrace(file) as trace, add_instrument(trace):
        left, right = socketpair()
        async with left, right:
            await left.send(b"there")
            await right.send(b"back")
    begins = [event for event in checked(file.getvalue()) if event["ph"] == "b"]
    assert len({event["pid"] for event in begins}) == 2
