"""Each exit policy against peers that misbehave: one that reads nothing, that resets, that half-closes, that leaves.

The peers are processes of their own. What they read, where they can know it, is compared with what the library counted:
its length, and its content by a hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket as stdlib_socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
import trio
import trio.testing

from tests.helpers import bytes_of
from trio_send import (
    ExitPolicy,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    SocketException,
    open_initiator,
)

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGSTOP"), reason="a process cannot be stopped on this system"
)

#: What a peer does: connects, then obeys one word a line. It answers each with one line, at once or when it is done.
PEER = """
import hashlib, socket, struct, sys

sock = socket.socket()
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
sock.connect(("127.0.0.1", int(sys.argv[1])))

def answer(text):
    sys.stdout.write(text + "\\n")
    sys.stdout.flush()

answer("connected")
for line in sys.stdin:
    word = line.strip()
    if word == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        answer("reset")
    elif word == "half-close":
        sock.shutdown(socket.SHUT_WR)
        answer("half-closed")
    elif word == "leave":
        sock.close()
        answer("left")
    elif word == "read":
        answer("reads")
        count, content = 0, hashlib.sha256()
        try:
            while data := sock.recv(65536):
                count += len(data)
                content.update(data)
            end = "end"
        except ConnectionResetError:
            end = "reset"
        answer(f"{count} {content.hexdigest()} {end}")
"""


class Peer:
    """A process at the other end of a connection."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._commands = process.stdin
        self._answers = process.stdout

    def answer(self) -> str:
        return self._answers.readline().strip()

    def command(self, word: str) -> None:
        """Write a command without waiting for the answer, which a stopped process would not give."""
        self._commands.write(f"{word}\n")
        self._commands.flush()

    def do(self, word: str) -> str:
        self.command(word)
        return self.answer()

    def stop(self) -> None:
        """Stop it, and return when it does nothing any more."""
        os.kill(self._process.pid, signal.SIGSTOP)
        _, status = os.waitpid(self._process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def go_on(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)


@contextlib.contextmanager
def peer_process(port: int) -> Iterator[Peer]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", PEER, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Peer(process)
        finally:
            process.kill()


@contextlib.asynccontextmanager
async def connection() -> AsyncIterator[tuple[Socket, Peer]]:
    """One of ours, into which little fits, and the process at its other end."""
    with stdlib_socket.socket() as listener:
        listener.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with peer_process(listener.getsockname()[1]) as peer:
            assert peer.answer() == "connected"
            ours = Socket.from_stdlib(listener.accept()[0])
            try:
                yield ours, peer
            finally:
                ours.close()


#: Does not fit into the buffers of both ends together.
MESSAGE = bytes_of(600_000, seed=4)
FOLLOWER = bytes_of(1_000, seed=5)

POLICIES = list(ExitPolicy)
GRACE = (ExitPolicy.DRAIN, ExitPolicy.FINISH_STARTED)


class Sends:
    """A message that pends with some bytes accepted, and one behind it, under a policy; then how both ended."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.args = SocketAsyncEventArgs(MESSAGE)
        self.follower = SocketAsyncEventArgs(FOLLOWER)
        self.told: list[SocketAsyncEventArgs] = []
        for args in (self.args, self.follower):
            args.completed += self.on_completed

    def on_completed(self, _: Socket, args: SocketAsyncEventArgs) -> None:
        self.told.append(args)

    def start(self) -> None:
        assert self.socket.send_async(self.args)
        assert self.socket.send_async(self.follower)
        assert 0 < self.args.bytes_transferred < len(MESSAGE)

    @property
    def errors(self) -> tuple[SocketError, SocketError]:
        return self.args.socket_error, self.follower.socket_error

    @property
    def content(self) -> bytes:
        """What was counted, as the stream that the peer must see."""
        return MESSAGE[: self.args.bytes_transferred] + FOLLOWER[: self.follower.bytes_transferred]

    def check(self) -> None:
        """Check what holds whatever has happened."""
        assert sorted(map(id, self.told)) == sorted([id(self.args), id(self.follower)])
        assert not self.args.pending
        assert not self.follower.pending
        if self.args.bytes_transferred < len(MESSAGE):
            assert self.follower.bytes_transferred == 0
        if sys.platform == "linux":
            audit = self.socket.audit()
            assert audit.agrees
            assert audit.bytes_accepted == len(self.content)

    def check_read(self, answer: str) -> None:
        """Check what the peer says that it has read."""
        count, content, end = answer.split()
        assert int(count) == len(self.content)
        assert content == hashlib.sha256(self.content).hexdigest()
        assert end == "end"


@contextlib.asynccontextmanager
async def left_under(policy: ExitPolicy, *, grace: float = 600) -> AsyncIterator[trio.CancelScope]:
    """An initiator that is left under a policy, and around it one to adopt what it may leave, until that is over.

    What it gives is a scope between the two.
    """
    async with open_initiator(ExitPolicy.JOIN):
        with trio.CancelScope() as scope:
            async with open_initiator(policy, grace=grace if policy in GRACE else None):
                yield scope


SUCCESS = SocketError.SUCCESS
ABORTED = SocketError.OPERATION_ABORTED


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
async def test_a_peer_that_reads_nothing(policy: ExitPolicy) -> None:
    """It is stopped until all is over. No policy waits for it longer than it says."""
    async with connection() as (ours, peer):
        peer.stop()
        sends = Sends(ours)
        with trio.CancelScope() as outer:
            async with left_under(policy, grace=0.02):
                sends.start()
                await trio.testing.wait_all_tasks_blocked()
                if policy in (ExitPolicy.JOIN, ExitPolicy.ADOPT):
                    outer.cancel()  # these two have all the patience in the world
        assert sends.errors == (ABORTED, ABORTED)
        assert ours.torn is not None
        assert ours.torn.bytes_transferred == sends.args.bytes_transferred
        sends.check()
        ours.close(reset=False)
        peer.command("read")
        peer.go_on()
        assert peer.answer() == "reads"
        sends.check_read(peer.answer())


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
async def test_a_peer_that_reads_nothing_for_a_while(policy: ExitPolicy, cancelled: bool) -> None:
    """It goes on while the initiator is being left; who has the patience gets everything through."""
    async with connection() as (ours, peer):
        peer.stop()
        sends = Sends(ours)

        async def go_on_later() -> None:
            await trio.testing.wait_all_tasks_blocked()
            peer.command("read")
            peer.go_on()

        async with trio.open_nursery() as nursery:
            async with left_under(policy) as scope:
                sends.start()
                nursery.start_soon(go_on_later)
                if cancelled:
                    scope.cancel()
        assert (
            sends.errors
            == {
                ExitPolicy.ABORT: (ABORTED, ABORTED),
                ExitPolicy.JOIN: (ABORTED, ABORTED) if cancelled else (SUCCESS, SUCCESS),
                ExitPolicy.DRAIN: (SUCCESS, SUCCESS),
                ExitPolicy.FINISH_STARTED: (SUCCESS, ABORTED),
                ExitPolicy.ADOPT: (SUCCESS, SUCCESS),
            }[policy]
        )
        sends.check()
        ours.close(reset=False)
        assert peer.answer() == "reads"
        sends.check_read(peer.answer())


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
async def test_a_peer_that_is_stopped_and_a_rest_that_is_sent_later(policy: ExitPolicy) -> None:
    """What a policy has cut can be finished, and the peer sees the stream of one uncancelled send."""
    async with connection() as (ours, peer):
        peer.stop()
        sends = Sends(ours)
        with trio.CancelScope() as outer:
            async with left_under(policy, grace=0.02):
                sends.start()
                await trio.testing.wait_all_tasks_blocked()
                if policy in (ExitPolicy.JOIN, ExitPolicy.ADOPT):
                    outer.cancel()
        cut = sends.args.bytes_transferred
        peer.command("read")
        peer.go_on()
        assert await ours.send_rest() == len(MESSAGE) - cut
        assert await ours.send(sends.follower) == len(FOLLOWER)
        sends.check()
        assert sends.content == MESSAGE + FOLLOWER
        await ours.aclose()
        assert peer.answer() == "reads"
        sends.check_read(peer.answer())


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
async def test_a_peer_that_sees_a_cut_message(policy: ExitPolicy) -> None:
    """It must not take it for a whole one: the stream that was cut ends with a reset."""
    async with connection() as (ours, peer):
        peer.stop()
        sends = Sends(ours)
        with trio.CancelScope() as outer:
            async with left_under(policy, grace=0.02):
                sends.start()
                await trio.testing.wait_all_tasks_blocked()
                if policy in (ExitPolicy.JOIN, ExitPolicy.ADOPT):
                    outer.cancel()
        ours.close()
        peer.command("read")
        peer.go_on()
        assert peer.answer() == "reads"
        count, _, end = peer.answer().split()
        assert end == "reset"
        assert int(count) <= sends.args.bytes_transferred


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
async def test_a_peer_that_resets(policy: ExitPolicy) -> None:
    """What is still pending then fails with the cause, in order, at once: no patience is needed with the dead."""
    async with connection() as (ours, peer):
        sends = Sends(ours)

        async def reset_later() -> None:
            await trio.testing.wait_all_tasks_blocked()
            assert peer.do("reset") == "reset"

        async with trio.open_nursery() as nursery:
            async with left_under(policy):
                sends.start()
                nursery.start_soon(reset_later)
        reset = SocketError.CONNECTION_RESET
        assert (
            sends.errors
            == {
                ExitPolicy.ABORT: (ABORTED, ABORTED),
                ExitPolicy.JOIN: (reset, reset),
                ExitPolicy.DRAIN: (reset, reset),
                ExitPolicy.FINISH_STARTED: (reset, ABORTED),
                ExitPolicy.ADOPT: (reset, reset),
            }[policy]
        )
        # A cut tears the stream; a reset is the end of it.
        assert (ours.torn is not None) == (policy is ExitPolicy.ABORT)
        assert ours.connected == (policy is ExitPolicy.ABORT)
        sends.check()


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
async def test_a_peer_that_half_closes(policy: ExitPolicy) -> None:
    """It has finished its own direction and still reads ours, so nothing is different."""
    async with connection() as (ours, peer):
        assert peer.do("half-close") == "half-closed"
        assert await ours.receive() == b""
        sends = Sends(ours)

        async def read_later() -> None:
            await trio.testing.wait_all_tasks_blocked()
            assert peer.do("read") == "reads"

        async with trio.open_nursery() as nursery:
            async with left_under(policy):
                sends.start()
                nursery.start_soon(read_later)
        assert (
            sends.errors
            == {
                ExitPolicy.ABORT: (ABORTED, ABORTED),
                ExitPolicy.JOIN: (SUCCESS, SUCCESS),
                ExitPolicy.DRAIN: (SUCCESS, SUCCESS),
                ExitPolicy.FINISH_STARTED: (SUCCESS, ABORTED),
                ExitPolicy.ADOPT: (SUCCESS, SUCCESS),
            }[policy]
        )
        sends.check()
        ours.close(reset=False)
        sends.check_read(peer.answer())


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
async def test_a_peer_that_leaves_cleanly(policy: ExitPolicy) -> None:
    """The first send after that still succeeds, for the kernel accepts it; only the answer to it is the reset.

    What the library counts is what was accepted, however little of it will ever be read.
    """
    async with connection() as (ours, peer):
        assert peer.do("leave") == "left"
        assert await ours.receive() == b""
        assert await ours.send(b"first") == 5
        # The peer's kernel answers that nobody is there, and from then on ours knows.
        with pytest.raises(SocketException) as caught:
            while True:
                await ours.send(b"more")
        assert caught.value.bytes_transferred == 0
        assert not ours.connected

        args = SocketAsyncEventArgs(MESSAGE)
        async with left_under(policy):
            assert not ours.send_async(args)
        assert args.socket_error is caught.value.socket_error_code
        assert args.bytes_transferred == 0


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
async def test_a_peer_that_leaves_while_a_message_is_pending(policy: ExitPolicy) -> None:
    """It leaves with bytes unread, so its kernel resets the connection at once."""
    async with connection() as (ours, peer):
        sends = Sends(ours)

        async def leave_later() -> None:
            await trio.testing.wait_all_tasks_blocked()
            assert peer.do("leave") == "left"

        async with trio.open_nursery() as nursery:
            async with left_under(policy):
                sends.start()
                nursery.start_soon(leave_later)
        if policy is ExitPolicy.ABORT:
            assert sends.errors == (ABORTED, ABORTED)
        else:
            assert sends.args.socket_error is SocketError.CONNECTION_RESET
            assert sends.follower.socket_error is (
                ABORTED if policy is ExitPolicy.FINISH_STARTED else SocketError.CONNECTION_RESET
            )
        sends.check()
