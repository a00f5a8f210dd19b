"""Hold every operation to waiting, and to its end, in a process that has no descriptor left.

The programs run in another process, so that the limit concerns everything there, and nothing in the one of the tests.
"""

from __future__ import annotations

import contextvars
import errno
import json
import os
import socket as stdlib_socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.helpers import bytes_of, connected, fill, read_exactly
from tests.worker_threads import Worker, outliving
from trio_send import (
    ExitPolicy,
    Initiator,
    SendPacketsElement,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    from_thread,
    open_initiator,
)
from trio_send._kernel.epoll_set import HAVE_EPOLL

if sys.platform == "win32":
    pytest.skip("Windows has no such limit", allow_module_level=True)

import resource

JOIN = ExitPolicy.JOIN
MESSAGE = bytes_of(300_000)
SUCCESS = SocketError.SUCCESS

Program = Callable[..., Awaitable[None]]
PROGRAMS: dict[str, Program] = {}


def program(function: Program) -> Program:
    """Have a function run in the other process."""
    PROGRAMS[function.__name__] = function
    return function


@contextmanager
def none_left() -> Iterator[None]:
    """Take all descriptors, and give them back in the end."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(128, before[1]), before[1]))
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
    try:
        yield
    finally:
        for each in taken:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def start_async(socket: Socket, host: Initiator) -> Callable[[], Any]:
    args = SocketAsyncEventArgs(MESSAGE)
    assert socket.send_async(args)
    return lambda: (args.pending, args.bytes_transferred, args.socket_error)


async def start_begin(socket: Socket, host: Initiator) -> Callable[[], Any]:
    result = socket.begin_send(MESSAGE)
    assert not result.is_completed
    return lambda: (
        not result.is_completed,
        result.bytes_transferred,
        SocketError(result._operation.code),
    )


async def start_packets(socket: Socket, host: Initiator) -> Callable[[], Any]:
    args = SocketAsyncEventArgs()
    args.send_packets_elements = [SendPacketsElement(MESSAGE)]
    assert socket.send_packets_async(args)
    return lambda: (args.pending, args.bytes_transferred, args.socket_error)


async def start_in_thread(socket: Socket, host: Initiator) -> Callable[[], Any]:
    worker = Worker(partial(outliving, host, from_thread.begin_send, socket, MESSAGE))
    while worker.thread.is_alive():
        await trio.lowlevel.checkpoint()
    result = worker.take()
    return lambda: (
        not result.is_completed,
        result.bytes_transferred,
        SocketError(result._operation.code),
    )


STARTS = {
    "send_async": start_async,
    "begin_send": start_begin,
    "send_packets_async": start_packets,
    "thread": start_in_thread,
}


@program
async def a_send_that_blocks(face: str, when: str) -> None:
    """It is sent whole while nothing is left, and the set is taken when there is something again."""
    with connected("tcp4") as (socket, peer):
        async with open_initiator(JOIN) as initiator:
            if when == "in use":
                await wait_all_tasks_blocked()
            with none_left():
                state = await STARTS[face](socket, initiator)
                await wait_all_tasks_blocked()
                pending, count, _ = state()
                assert pending
                assert 0 < count < len(MESSAGE)
                assert socket.queued_operations == 1
                assert initiator._owner.engine._pollset is None
                assert await read_exactly(peer, len(MESSAGE)) == MESSAGE
                await wait_all_tasks_blocked()
                assert state() == (False, len(MESSAGE), SUCCESS)
                assert initiator._owner.engine._pollset is None
                state = await STARTS[face](socket, initiator)
                await wait_all_tasks_blocked()
            # It waits as it began, until it blocks again.
            assert await read_exactly(peer, len(MESSAGE)) == MESSAGE
            await wait_all_tasks_blocked()
            assert state() == (False, len(MESSAGE), SUCCESS)
            await STARTS[face](socket, initiator)
            await wait_all_tasks_blocked()
            assert (initiator._owner.engine._pollset is not None) == HAVE_EPOLL
            assert await read_exactly(peer, len(MESSAGE)) == MESSAGE


@program
async def what_waits_to_read() -> None:
    """Receives wait too, and each has a task."""
    with connected("unix") as (one, one_peer), connected("unix") as (two, two_peer):
        receives = [SocketAsyncEventArgs(bytearray(10)) for _ in range(2)]
        async with open_initiator(JOIN):
            with none_left():
                assert one.receive_async(receives[0])
                assert two.receive_async(receives[1])
                await wait_all_tasks_blocked()
                one_peer.send(b"one")
                await wait_all_tasks_blocked()
                assert [args.pending for args in receives] == [False, True]
                two_peer.send(b"two")
                await wait_all_tasks_blocked()
                assert [args.pending for args in receives] == [False, False]
        assert [(args.socket_error, args.bytes_transferred) for args in receives] == [
            (SUCCESS, 3),
            (SUCCESS, 3),
        ]


@program
async def a_listener() -> None:
    """An accept needs a descriptor, and says so; the connection waits."""
    with closing(Socket()) as listener, stdlib_socket.socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.connect(listener.local_end_point)
        args = SocketAsyncEventArgs()
        async with open_initiator(JOIN):
            with none_left():
                assert not listener.accept_async(args)
                assert args.socket_error is SocketError.TOO_MANY_OPEN_SOCKETS
                assert listener.accept_async(args)  # it is tried a moment later
        assert args.accept_socket is not None
        assert args.accept_socket.remote_end_point == client.getsockname()
        args.accept_socket.close()


@program
async def initiators_that_take_over() -> None:
    """The head's initiator leaves, and the next head's has to wait for the socket, in the middle of the leaving."""
    with connected("unix") as (socket, peer):
        filled = fill(socket)
        follower = SocketAsyncEventArgs(b"follower")
        async with open_initiator(JOIN):
            as_outer = contextvars.copy_context()
            await wait_all_tasks_blocked()
            with none_left():
                async with open_initiator():
                    head = SocketAsyncEventArgs(b"head")
                    assert socket.send_async(head)
                    assert as_outer.run(socket.send_async, follower)
                    await wait_all_tasks_blocked()
                assert head.socket_error is SocketError.OPERATION_ABORTED
                assert follower.pending
                await read_exactly(peer, filled)
                assert await follower.wait() == 8


@program
async def an_awaited_send() -> None:
    """It needs no initiator and no descriptor."""
    with connected("tcp4") as (socket, peer), none_left():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.send, MESSAGE)
            assert await read_exactly(peer, len(MESSAGE)) == MESSAGE


@program
async def files() -> None:
    """The start raises what it says, and nothing has changed; the queue goes on."""
    with connected("unix") as (socket, peer), tempfile.NamedTemporaryFile() as file:
        file.write(b"from a file")
        file.flush()
        filled = fill(socket)
        waiting = SocketAsyncEventArgs(b"waits")
        async with open_initiator(JOIN):
            assert socket.send_async(waiting)
            await wait_all_tasks_blocked()
            several = []
            with none_left():
                for source in (file.name, Path(file.name), file):
                    args = SocketAsyncEventArgs()
                    args.send_packets_elements = elements = [
                        SendPacketsElement(b"head "),
                        SendPacketsElement(source),
                    ]
                    with pytest.raises(OSError, match="Too many open files") as caught:
                        socket.send_packets_async(args)
                    assert caught.value.errno == errno.EMFILE
                    assert not args.pending
                    assert args.activation == 0
                    assert args.outcome is None
                    assert args.send_packets_elements is elements
                    with pytest.raises(OSError, match="Too many open files"):
                        await socket.send_file(source)
                    assert socket.queued_operations == 1
                    several.append(args)
            assert waiting.pending
            for args in several:
                assert socket.send_packets_async(args)
            expected = b"waits" + 3 * b"head from a file"
            assert (await read_exactly(peer, filled + len(expected)))[filled:] == expected
        assert {args.socket_error for args in several} == {SUCCESS}


@program
async def a_socket_to_be_used_again() -> None:
    """It takes a fresh descriptor to connect it anew. Without one it is left as it is."""
    with connected("tcp4") as (socket, _):
        args = SocketAsyncEventArgs()
        args.disconnect_reuse_socket = True
        async with open_initiator():
            with none_left():
                assert not socket.disconnect_async(args)
                assert args.socket_error is SocketError.TOO_MANY_OPEN_SOCKETS
                assert socket.connected
            assert not socket.disconnect_async(args)
            assert args.socket_error is SUCCESS


CASES = [
    *(("a_send_that_blocks", face, when) for face in STARTS for when in ("fresh", "in use")),
    *((name,) for name in PROGRAMS if name != "a_send_that_blocks"),
]


def run_all() -> None:
    """Run all programs, one after the other, and print how each has ended; called in the process that is for them."""
    ends = []
    for name, *arguments in CASES:
        try:
            trio.run(PROGRAMS[name], *arguments)
        except BaseException:
            ends.append(traceback.format_exc())
        else:
            ends.append("fine")
    print(json.dumps(ends))


@pytest.fixture(scope="module")
def ends() -> dict[tuple[str, ...], str]:
    """How the programs end."""
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "dev",
            "-W",
            "error",
            "-c",
            f"from {__name__} import run_all; run_all()",
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return dict(zip(CASES, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_in_a_process_that_has_none_left(
    case: tuple[str, ...], ends: dict[tuple[str, ...], str]
) -> None:
    assert ends[case] == "fine", ends[case]
