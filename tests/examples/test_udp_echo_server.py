"""The UDP echo server of ``examples/``: as a process of its own, and beside the program that it is a port of."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest
from trio.testing import wait_all_tasks_blocked

from tests.datagrams import receiver
from trio_send import SocketError, open_initiator

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "examples" / "udp_echo_server.py"
PAGE = ROOT / "docs" / "howto" / "porting_event_args.rst"

#: What is called otherwise here. Of the first, the constructor has the name of the class there.
OTHERWISE = {"udp_echo_server": "__init__", "set_buffer_range": "set_range", "write_line": "print"}

needs_signals = pytest.mark.skipif(
    os.name == "nt", reason="the server is stopped by signals, as on Unix"
)


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("udp_echo_server", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_signals
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_clients_that_are_none_of_ours(how: signal.Signals) -> None:
    """Each gets back what it has sent, and an empty datagram too."""
    with (
        subprocess.Popen(
            [sys.executable, "-W", "error", str(PROGRAM)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as running,
        receiver() as one,
        receiver() as other,
    ):
        try:
            assert running.stdout is not None
            found = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", running.stdout.readline())
            assert found is not None
            address = "127.0.0.1", int(found[1])
            expected = []
            for number in range(20):
                for client in (one, other):
                    client.settimeout(60)
                    message = b"x" * (number * 1000 + client.getsockname()[1] % 7)
                    client.sendto(message, address)
                    assert client.recvfrom(65536) == (message, address)
                    expected.append(f"{len(message)} bytes from {client.getsockname()}")
            one.sendto(b"", address)
            assert one.recv(9) == b""
            running.send_signal(how)
            printed, complaints = running.communicate(timeout=60)
            assert complaints == ""
            assert running.returncode == 0
            assert printed.splitlines() == [*expected, f"0 bytes from {one.getsockname()}"]
        finally:
            running.kill()


async def test_an_answer_that_nobody_takes_stops_nothing() -> None:
    """An answer to a port that is closed has the system complain; the next datagram is answered."""
    server = load().UdpEchoServer(("127.0.0.1", 0))
    address = server.socket.local_end_point
    with closing(server.socket), receiver() as client:
        async with open_initiator():
            server.start()
            with receiver() as gone:
                gone.sendto(b"lost", address)
            await wait_all_tasks_blocked()
            client.sendto(b"hello", address)
            await wait_all_tasks_blocked()
            assert client.recv(9) == b"hello"
            assert server.args.pending
        assert server.args.socket_error is SocketError.OPERATION_ABORTED


async def test_many_that_wait_are_answered_without_a_deep_stack() -> None:
    """Each operation ends on the spot, so no event is raised, and the loop in the handler goes on."""
    server = load().UdpEchoServer(("127.0.0.1", 0))
    with closing(server.socket), receiver() as client:
        for number in range(100):
            client.sendto(b"%d" % number, server.socket.local_end_point)
        async with open_initiator():
            server.start()
            await wait_all_tasks_blocked()
        assert [client.recv(9) for _ in range(100)] == [b"%d" % n for n in range(100)]


def snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def test_it_is_the_program_of_the_page() -> None:
    """The same methods in the same order, each of which calls the same in the same order."""
    page = PAGE.read_text("utf-8")
    block = page[
        page.index("class UdpEchoServer") : page.index(
            ".. tab-item:: Python", page.index("class UdpEchoServer")
        )
    ]
    theirs: dict[str, list[str]] = {}
    header = re.compile(r"^ {13}(?:[a-z]+ )*([A-Z]\w+)\(.*\)$")
    name = ""
    for line in block.splitlines():
        if found := header.match(line):
            name = OTHERWISE.get(snake_case(found[1]), snake_case(found[1]))
            theirs[name] = []
        elif name:
            line = line.replace("SetBuffer(0,", "SetBufferRange(0,")
            if "IPEndPoint" not in line and "throw" not in line:
                calls = [snake_case(call) for call in re.findall(r"(\w+)(?=\()", line)]
                calls = [call for call in calls if call not in ("if", "while", "socket")]
                theirs[name] += [OTHERWISE.get(call, call) for call in calls]
    tree = ast.parse(PROGRAM.read_text("utf-8"))
    (kind,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    ours: dict[str, list[str]] = {}
    for function in kind.body:
        if isinstance(function, ast.FunctionDef):
            found_calls = sorted(
                (node for node in ast.walk(function) if isinstance(node, ast.Call)),
                key=lambda node: (node.lineno, node.col_offset),
            )
            ours[function.name] = [
                snake_case(ast.unparse(call.func).split(".")[-1])
                for call in found_calls
                if ast.unparse(call.func) not in ("Socket", "bytearray", "ValueError")
            ]
    assert list(ours) == list(theirs)
    assert sum(map(len, ours.values())) == 15
    assert ours == theirs
    assert not any(isinstance(node, (ast.AsyncFunctionDef, ast.Await)) for node in ast.walk(kind))
