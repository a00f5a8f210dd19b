"""Every example, and the program in the README, runs by itself and shows what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.typed_programs import programs

ROOT = Path(__file__).parents[2]

#: What the last lines of each example must say, as regular expressions; how much a kernel takes at once is its affair.
ENDINGS = {
    "initiators.py": [
        r"thread: sent 5 bytes, and waited for it",
        r"thread: gone, pending on its socket: 0",
        r"task:   sent 5 bytes, and waited for it",
        r"task:   gone, pending on its socket: 0",
        r"thread: OPERATION_ABORTED, as many bytes read as counted",
        r"task:   OPERATION_ABORTED, as many bytes read as counted",
    ],
    "three_faces.py": [
        r"left with a send pending: OPERATION_ABORTED",
        r"behind it: CONNECTION_ABORTED",
        r"the peer has read 300000 bytes",
        r"accepted then and now add up to 300000",
    ],
    "prometheus.py": [
        r"HTTP/1.1 200 OK",
        r"Content-Type: text/plain; version=0.0.4; charset=utf-8",
        r"Content-Length: \d+",
        r"Connection: close",
        r"",
        r"# HELP trio_send_bytes_sent_total Bytes that the kernel has accepted.",
        r"# TYPE trio_send_bytes_sent_total counter",
        r"trio_send_bytes_sent_total 12047",
        r"# HELP trio_send_bytes_received_total Bytes that were received.",
        r"# TYPE trio_send_bytes_received_total counter",
        r"trio_send_bytes_received_total 12047",
        r"# HELP trio_send_connections_accepted_total Connections that were accepted.",
        r"# TYPE trio_send_connections_accepted_total counter",
        r"trio_send_connections_accepted_total 1",
    ],
}

#: Those that need a peer, which have tests of their own.
OTHERS = {
    "asgi_server.py",
    "callback_client.py",
    "chat_server.py",
    "https_files.py",
    "httpx_client.py",
    "pooled_echo_server.py",
    "udp_echo_server.py",
}

#: Those that the pages of the documentation grow from. What they print lies beside them, for the pages to show.
NUMBERED = sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))

#: What fits on a screen or two, and into a page.
MOST_LINES = 80


def run(*arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


def test_every_example_has_an_ending() -> None:
    numbered = {path.name for path in NUMBERED}
    everything = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert everything == ENDINGS.keys() | OTHERS | numbered
    outputs = {path.stem for path in (ROOT / "examples").glob("*.out")}
    assert outputs == {path.stem for path in NUMBERED}
    for name in OTHERS:
        assert (ROOT / "tests" / "examples" / f"test_{name}").exists()


@pytest.mark.parametrize("name", ENDINGS)
def test_example(name: str) -> None:
    lines = run(str(ROOT / "examples" / name))
    endings = ENDINGS[name]
    for line, pattern in zip(lines[-len(endings) :], endings, strict=True):
        assert re.fullmatch(pattern, line)


@pytest.mark.parametrize("path", NUMBERED, ids=lambda path: path.name)
def test_a_numbered_example_prints_what_lies_beside_it(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= MOST_LINES
    assert run(str(path)) == path.with_suffix(".out").read_text("utf-8").splitlines()


def test_the_program_in_the_readme(tmp_path: Path) -> None:
    file = tmp_path / "readme.py"
    file.write_text(programs()["readme_1.py"], "utf-8")
    assert run(str(file)) == ["sent 5 bytes", "received b'hello'"]
