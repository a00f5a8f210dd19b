"""Hold the fixtures for pytest to what they promise, in runs of pytest of their own.

Modules: testing._pytest_fixtures, testing._read_slowly.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_send import ExitPolicy, open_initiator, socketpair
from trio_send.testing import read_slowly

BEGIN = """
    import pytest, trio
    from trio_send import SocketAsyncEventArgs, SocketError, add_instrument, open_initiator, socketpair
    from trio_send.testing import Blocked
"""


def run(directory: Path, test: str) -> tuple[dict[str, int], str]:
    """Run pytest on one file; return how many tests ended how, and all that it has written."""
    (directory / "conftest.py").write_text('pytest_plugins = ["trio_send.testing.pytest_plugin"]\n')
    (directory / "pytest.ini").write_text("[pytest]\ntrio_mode = true\nfilterwarnings = error\n")
    (directory / "test_it.py").write_text(textwrap.dedent(BEGIN) + textwrap.dedent(test))
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(directory)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        cwd=directory,
    )
    last = ran.stdout.splitlines()[-1]
    numbers = {word: int(number) for number, word in re.findall(r"(\d+) ([a-z]+?)s?\b", last)}
    return numbers, ran.stdout + ran.stderr


def test_a_program_is_tested_with_all_of_them(tmp_path: Path) -> None:
    numbers, output = run(
        tmp_path,
        """
        async def test_scripted(scripted_socket, send_ledger, socket_leaks, autojump_clock):
            socket, port = scripted_socket(4, Blocked(25))
            add_instrument(send_ledger)
            async with open_initiator():
                args = SocketAsyncEventArgs(b"a message")
                assert socket.send_async(args)
                await args.wait()
                assert args.socket_error is SocketError.SUCCESS
                assert trio.current_time() >= 25
            assert port.accepted == b"a message"
            assert send_ledger.succeeded == 1

        async def test_datagrams(scripted_socket):
            socket, port = scripted_socket("EMSGSIZE", is_stream=False)
            async with open_initiator():
                assert socket.try_begin_send(b"long") == (None, SocketError.MESSAGE_SIZE)

        async def test_slow(socket_leaks, small_pair, slow_reader, send_ledger):
            socket, peer = small_pair
            add_instrument(send_ledger)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(slow_reader, peer)
                async with open_initiator():
                    args = SocketAsyncEventArgs(bytes(30_000))
                    assert socket.send_async(args)
                    await args.wait()
                socket.close()
        """,
    )
    assert numbers == {"passed": 3}, output


@pytest.mark.parametrize(
    ("test", "complaint"),
    [
        (
            """
            async def test_it(socket_leaks):
                global kept
                kept = socketpair()
            """,
            "sockets were left open: [<trio_send.Socket",
        ),
        (
            """
            async def test_it(send_ledger):
                send_ledger.started = 1
            """,
            "the sends of the ledger do not add up",
        ),
        (
            """
            async def test_it(send_ledger):
                send_ledger.started = 1
                send_ledger._open[1] = 0, 0
            """,
            "sends are pending although the test is over",
        ),
    ],
)
def test_what_is_wrong_is_found(tmp_path: Path, test: str, complaint: str) -> None:
    numbers, output = run(tmp_path, textwrap.dedent(test))
    assert numbers == {"passed": 1, "error": 1}, output
    assert complaint in output


async def test_reading_slowly_gives_everything_and_keeps_a_sender_waiting() -> None:
    socket, peer = socketpair()
    message = bytes(range(256)) * 2000
    received: list[bytes] = []

    async def read() -> None:
        received.append(await read_slowly(peer, max_bytes=50_000, pause=0.001))

    async with peer, trio.open_nursery() as nursery:
        async with socket, open_initiator(ExitPolicy.JOIN):
            result = socket.begin_send(message)
            await wait_all_tasks_blocked()
            assert not result.is_completed
            nursery.start_soon(read)
            assert await socket.end_send(result) == len(message)
    assert received == [message]
