"""The callback client of ``examples/``, a process of its own, and servers that are none of ours.

A server that nobody here wrote and that is always there is Python's own ``http.server``. Nothing in the standard
library echoes; but of an echo on `socketserver` all but one line is the standard library's. Where there is the
program cat, that echoes too.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shutil
import socket as stdlib_socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers import reset

EXAMPLES = Path(__file__).parents[2] / "examples"

#: Longer than the client's buffer, with letters of one, two and three bytes, and no longer than an argument may be.
LONG = "".join(f"{number}: all that ä client has to say, 100 €\n" for number in range(2000))


def talk(port: int, *message: str) -> subprocess.CompletedProcess[str]:
    """Run the client, whose output is text in UTF-8 wherever it runs."""
    return subprocess.run(
        [
            sys.executable,
            *("-W", "error", "-X", "utf8"),
            str(EXAMPLES / "callback_client.py"),
            *("127.0.0.1", str(port)),
            *message,
        ],
        capture_output=True,
        check=False,
        encoding="utf-8",
        timeout=60,
    )


def check(done: subprocess.CompletedProcess[str], port: int, message: str, answer: str) -> None:
    """Check that each phase came to what it should."""
    assert done.stderr == ""
    assert done.stdout == (
        f"connected to 127.0.0.1:{port}\n"
        f"bytes sent: {len(message.encode())}\n"
        f"bytes received: {len(answer.encode())}; as text: {answer}\n"
    )
    assert done.returncode == 0


@contextlib.contextmanager
def serving(handle: Callable[[socketserver.StreamRequestHandler], None]) -> Iterator[int]:
    """Have a server of the standard library in a thread."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            handle(self)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.fact("F294")
@pytest.mark.parametrize("message", ["hello", LONG], ids=["short", "long"])
def test_an_echo_of_the_standard_library(message: str) -> None:
    with serving(lambda handler: shutil.copyfileobj(handler.rfile, handler.wfile)) as port:
        check(talk(port, message), port, message, message)


@pytest.mark.fact("F294")
def test_the_web_server_of_the_standard_library(tmp_path: Path) -> None:
    """A server that knows nothing of echoes: it reads a request, answers, and closes."""
    (tmp_path / "page.txt").write_text("what the page says", "ascii")
    with subprocess.Popen(
        [
            sys.executable,
            *("-u", "-m", "http.server", "0", "--bind", "127.0.0.1"),
            *("--directory", str(tmp_path)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            found = re.search(r" port (\d+) ", server.stdout.readline())
            assert found is not None
            port = int(found[1])
            request = "GET /page.txt HTTP/1.0\r\n\r\n"
            done = talk(port, request)
        finally:
            server.kill()
    assert done.stderr == ""
    connected, sent, received = done.stdout.split("\n", 2)
    assert connected == f"connected to 127.0.0.1:{port}"
    assert sent == f"bytes sent: {len(request)}"
    assert re.match(r"bytes received: \d+; as text: HTTP/1\.[01] 200 OK", received)
    assert received.endswith("\n\nwhat the page says\n")
    assert done.returncode == 0


@pytest.mark.skipif(shutil.which("cat") is None, reason="this machine has no cat")
def test_a_program_that_others_wrote() -> None:
    """As inetd has it: the connection is the input and the output of a program that knows nothing of networks."""
    with stdlib_socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)

        def inetd() -> None:
            connection, _ = listener.accept()
            with connection:
                subprocess.run(["cat"], stdin=connection, stdout=connection, check=True)

        thread = threading.Thread(target=inetd)
        thread.start()
        port = listener.getsockname()[1]
        done = talk(port, LONG)
        thread.join()
    check(done, port, LONG, LONG)


@pytest.mark.fact("F294")
def test_nobody_listens() -> None:
    with stdlib_socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # and does not listen
        done = talk(reserved.getsockname()[1])
    assert done.stdout == ""
    assert re.fullmatch(r"connect failed: .*CONNECTION_REFUSED.*\n", done.stderr)
    assert done.returncode == 1


@pytest.mark.fact("F294")
def test_the_server_resets() -> None:
    """The main task does not wait for ever for a phase that failed."""

    def handle(handler: socketserver.StreamRequestHandler) -> None:
        handler.rfile.read(5)
        handler.wfile.write(b"well, ")
        # The framework would end the connection politely first.
        reset(handler.connection)

    with serving(handle) as port:
        done = talk(port, "hello")
    assert re.search(r"^(receive|talk) failed: ", done.stderr)
    assert "Traceback" not in done.stderr
    assert done.returncode == 1


@pytest.mark.fact("F294")
@pytest.mark.skipif(os.name == "nt", reason="the server is stopped by signals, as on Unix")
def test_the_two_programs_together() -> None:
    """They print what the documentation shows."""
    with subprocess.Popen(
        [
            sys.executable,
            *("-W", "error"),
            str(EXAMPLES / "pooled_echo_server.py"),
            *("--max-clients", "1000"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            first = server.stdout.readline()
            found = re.match(r"listening on 127\.0\.0\.1:(\d+),", first)
            assert found is not None
            done = talk(int(found[1]), "Hello, server.")
            server.terminate()
            last, _ = server.communicate(timeout=60)
        finally:
            server.kill()
    check(done, int(found[1]), "Hello, server.", "Hello, server.")
    printed = [first, done.stdout, last]
    page = EXAMPLES.parent / "docs" / "classic_programs.rst"
    if not page.exists():
        pytest.skip("the documentation is not here")
    text = page.read_text("utf-8")
    shown = re.findall(r"^   ((?!\$|[.:]).+)$", text.partition("---\n")[0], re.MULTILINE)
    assert shown == "".join(printed).replace(found[1], "7007").splitlines()


def test_the_page_shows_what_is_there() -> None:
    """Whatever part of a program the documentation includes, the program has it."""
    page = EXAMPLES.parent / "docs" / "classic_programs.rst"
    if not page.exists():
        pytest.skip("the documentation is not here")
    included = re.findall(
        r"^\.\. literalinclude:: (\S+)\n   :pyobject: (\S+)$", page.read_text("utf-8"), re.MULTILINE
    )
    assert len(included) == page.read_text("utf-8").count("literalinclude::") > 10
    for name, part in included:
        within: ast.AST = ast.parse((page.parent / name).read_text("utf-8"))
        for step in part.split("."):
            parts = {getattr(node, "name", ""): node for node in ast.iter_child_nodes(within)}
            assert step in parts, f"{name} has no {part}"
            within = parts[step]
