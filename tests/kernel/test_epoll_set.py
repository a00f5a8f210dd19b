"""Hold an epoll set to losing nobody, whatever the system refuses."""

from __future__ import annotations

import errno
import os
import socket as stdlib_socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from trio_send._kernel.epoll_set import EpollSet
from trio_send._kernel.port import KernelPort

if sys.platform != "linux":
    pytest.skip("this system has no epoll", allow_module_level=True)


class Direction:
    """One who waits for a socket."""

    def __init__(self, port: KernelPort, *, writes: bool) -> None:
        self.port = port
        self.writes = writes


class Refusing:
    """An epoll object that refuses what it is told to, as the system does that has no memory."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.refused: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        if name in self.refused:
            raise OSError(errno.ENOSPC, "all watches of this user are taken")
        return getattr(self._inner, name)


@pytest.fixture
def both() -> Iterator[tuple[Direction, Direction, stdlib_socket.socket]]:
    """A reader and a writer of the same socket, which has no room, and its peer."""
    left, right = stdlib_socket.socketpair()
    with left, right:
        port = KernelPort(left)
        try:
            while True:
                left.send(bytes(65536))
        except BlockingIOError:
            pass
        yield Direction(port, writes=False), Direction(port, writes=True), right


@pytest.fixture
def watched() -> Iterator[tuple[EpollSet[Direction], Refusing]]:
    """A set, and what it stands on."""
    pollset: EpollSet[Direction] = EpollSet()
    with closing(pollset):
        refusing = Refusing(pollset._epoll)
        pollset._epoll = refusing  # type: ignore[assignment]
        yield pollset, refusing


def make_room(peer: stdlib_socket.socket) -> None:
    peer.setblocking(False)
    try:
        while peer.recv(1 << 20):
            pass
    except BlockingIOError:
        pass


def test_one_that_cannot_be_watched_leaves_the_set_as_it_was(both: Any, watched: Any) -> None:
    reader, writer, peer = both
    pollset, refusing = watched
    fd = reader.port.fileno()
    refusing.refused = {"register"}
    for _ in range(2):
        with pytest.raises(OSError, match="all watches"):
            pollset.arm(fd, reader)
    assert pollset.armed == 0
    refusing.refused = set()
    pollset.arm(fd, reader)
    refusing.refused = {"modify"}
    with pytest.raises(OSError, match="all watches"):
        pollset.arm(fd, writer)
    assert pollset.armed == 1
    peer.send(b"x")
    make_room(peer)
    assert pollset.fetch() == [reader]
    refusing.refused = set()
    pollset.arm(fd, writer)
    assert pollset.fetch() == [writer]
    assert pollset.armed == 0


@pytest.mark.parametrize("stays", ["reader", "writer"])
def test_one_that_cannot_be_watched_any_more_is_given_back_with_the_other(
    both: Any, watched: Any, stays: str
) -> None:
    reader, writer, _ = both
    pollset, refusing = watched
    for each in (reader, writer):
        pollset.arm(each.port.fileno(), each)
    leaves, other = (writer, reader) if stays == "reader" else (reader, writer)
    refusing.refused = {"modify"}
    assert pollset.disarm(leaves) is other
    assert pollset.armed == 0
    assert pollset.disarm(other) is None
    refusing.refused = set()
    pollset.arm(other.port.fileno(), other)
    assert pollset.armed == 1
    assert pollset.disarm(other) is None
    assert pollset.armed == 0


@pytest.mark.parametrize("ready", ["reader", "writer"])
def test_one_that_cannot_be_watched_any_more_is_fetched_with_the_other(
    both: Any, watched: Any, ready: str
) -> None:
    reader, writer, peer = both
    pollset, refusing = watched
    for each in (reader, writer):
        pollset.arm(each.port.fileno(), each)
    refusing.refused = {"modify"}
    if ready == "reader":
        peer.send(b"x")
    else:
        make_room(peer)
    assert sorted(pollset.fetch(), key=lambda each: each.writes) == [reader, writer]
    assert pollset.armed == 0
    assert pollset.fetch() == []


@pytest.mark.parametrize(
    ("wanted", "said"),
    [("task", "False"), ("epoll", "TRIO_SEND_ENGINE is 'epoll', but can only be 'task'")],
)
def test_the_environment_says_how_engines_wait(wanted: str, said: str) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from trio_send._kernel.epoll_set import HAVE_EPOLL; print(HAVE_EPOLL)",
        ],
        env={**os.environ, "TRIO_SEND_ENGINE": wanted},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert said in done.stdout + done.stderr


def test_one_that_is_silenced_is_not_fetched_until_it_is_armed_again(
    both: Any, watched: Any
) -> None:
    """Nor is it known to wait; the other direction goes on."""
    reader, writer, peer = both
    pollset, _ = watched
    fd = reader.port.fileno()
    assert not pollset.silence(fd, writer)  # it does not wait
    pollset.arm(fd, writer)
    assert pollset.silence(fd, writer)
    assert not pollset.silence(fd, writer)
    assert pollset.armed == 0
    make_room(peer)
    assert pollset.fetch() == []
    pollset.arm(fd, writer)
    pollset.arm(fd, reader)
    assert pollset.silence(fd, writer)
    assert pollset.armed == 1
    assert pollset.fetch() == []
    peer.send(b"x")
    assert pollset.fetch() == [reader]
    pollset.arm(fd, writer)
    assert pollset.armed == 1
    assert pollset.fetch() == [writer]


@pytest.mark.parametrize("with_reader", [False, True])
def test_one_that_cannot_be_silenced_goes_on_waiting(
    both: Any, watched: Any, with_reader: bool
) -> None:
    reader, writer, peer = both
    pollset, refusing = watched
    fd = reader.port.fileno()
    pollset.arm(fd, writer)
    if with_reader:
        pollset.arm(fd, reader)
    refusing.refused = {"modify"}
    assert not pollset.silence(fd, writer)
    refusing.refused = set()
    assert pollset.armed == 1 + with_reader
    make_room(peer)
    assert pollset.fetch() == [writer]


def test_one_that_was_silenced_is_armed_again_under_a_number_that_is_new_to_the_kernel(
    both: Any, watched: Any
) -> None:
    """The socket was replaced by another one meanwhile."""
    _, writer, _ = both
    pollset, _ = watched
    fd = writer.port.fileno()
    pollset.arm(fd, writer)
    assert pollset.silence(fd, writer)
    left, right = stdlib_socket.socketpair()
    with left, right:
        os.dup2(left.fileno(), fd)
        pollset.arm(fd, writer)
        assert pollset.fetch() == [writer]
