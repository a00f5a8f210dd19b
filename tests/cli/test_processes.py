"""The command line as a user has it: processes of their own, signals, pipes and terminals.

Modules: __main__, _cli.interruption.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from trio_send._cli.transfer.faces import FACES

if os.name == "nt":
    pytest.skip("signals and terminals are those of Unix", allow_module_level=True)
assert sys.platform != "win32"  # for type checkers

faces = pytest.mark.parametrize("face", FACES)

TIMEOUT = 60

WITHOUT_RICH = """
import sys

sys.modules["rich"] = None
from trio_send._cli import main

sys.exit(main())
"""


def command(*arguments: object, rich: bool = True) -> list[str]:
    program = ["-m", "trio_send"] if rich else ["-c", WITHOUT_RICH]
    return [sys.executable, *program, *map(str, arguments)]


def hear_ctrl_c() -> None:
    # Whoever runs the tests in the background of a shell has made them deaf to it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Whoever runs them may have had this one ignored, as nohup does.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=TIMEOUT, check=False, **options
    )


@contextmanager
def started(*arguments: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Have a command run while the body does, and no longer."""
    with subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
        **options,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def rest_of(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for the end of a command; return what it still printed on both outputs, which is little."""
    assert process.stdout is not None
    assert process.stderr is not None
    # Popen.communicate would pass by what reading a line has left in the stream's buffer.
    printed = process.stdout.read(), process.stderr.read()
    process.wait(TIMEOUT)
    return printed


@contextmanager
def sink(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Have a sink; the second value is its address."""
    with started("sink", *arguments) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on ")
        yield process, line.split()[-1]


@contextmanager
def peer(use: Callable[[socket.socket], None]) -> Iterator[str]:
    """Have a receiver of another make: a plain socket in a thread of this process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                use(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join(TIMEOUT)
        assert not thread.is_alive()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def accepted(output: str) -> int:
    match = re.search(r"^accepted +(\d+) bytes?", output, re.MULTILINE)
    assert match is not None, output
    return int(match[1])


@pytest.fixture(scope="module")
def data() -> bytes:
    return random.Random(7).randbytes(8 * 2**20)


@pytest.fixture(scope="module")
def file(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "file"
    path.write_bytes(data)
    return path


def check_stop(output: str, error: str, data: bytes, reason: str, offset: int = 0) -> int:
    """Check what was said of a transfer that was stopped; return how many bytes were accepted."""
    count = accepted(output)
    assert re.fullmatch(rf"trio-send send: {reason}[^\n]*\n", error), error
    told = f"; {count} bytes accepted"
    if reason.startswith("the connection broke"):
        # The receiver has less, so the count from here is none to go on with.
        assert f"{told}. Accepted is not delivered" in error
        assert error.endswith("Go on with --from and that number, or that size\n")
    else:
        assert f"{told}, so go on with --from {offset + count}. Accepted is not delivered" in error
    assert f"sha256      {sha256(data[offset : offset + count])}\n" in output
    return count


# Whole transfers ------------------------------------------------------------------------------


@faces
def test_a_file_to_the_sink(face: str, file: Path, data: bytes) -> None:
    with sink("--once") as (process, address):
        sent = run("send", file, address, "--face", face)
        out, err = rest_of(process)
    assert (sent.returncode, sent.stderr) == (0, "")
    assert accepted(sent.stdout) == len(data)
    assert f"sha256      {sha256(data)}\n" in sent.stdout
    assert (process.returncode, err) == (0, "")
    assert f": {len(data)} bytes, sha256 {sha256(data)}, ended by the sender\n" in out


@faces
def test_a_file_to_a_plain_socket(face: str, file: Path, data: bytes) -> None:
    received = hashlib.sha256()

    def read(connection: socket.socket) -> None:
        while piece := connection.recv(2**16):
            received.update(piece)

    with peer(read) as address:
        sent = run("send", file, address, "--face", face)
    assert (sent.returncode, sent.stderr) == (0, "")
    assert f"sha256      {received.hexdigest()}\n" in sent.stdout
    assert received.hexdigest() == sha256(data)


def test_standard_input_over_a_unix_socket(tmp_path: Path, file: Path, data: bytes) -> None:
    path = tmp_path / "s"
    kept = tmp_path / "kept"
    with (
        sink(f"unix:{path}", "--once", "--out", kept) as (process, address),
        file.open("rb") as stream,
    ):
        assert address == f"unix:{path}"
        # Through a pipe, and as a file that can be wound on.
        with subprocess.Popen(["cat"], stdin=stream, stdout=subprocess.PIPE) as cat:
            sent = run("send", "-", address, stdin=cat.stdout)
        rest_of(process)
    assert (sent.returncode, sent.stderr) == (0, "")
    assert kept.read_bytes() == data
    with sink("--once") as (process, address), file.open("rb") as stream:
        sent = run("send", "-", address, "--from", "8388600", stdin=stream)
        out, _ = rest_of(process)
    assert (sent.returncode, sent.stderr) == (0, "")
    assert f": 8 bytes, sha256 {sha256(data[-8:])}" in out


# Stops ----------------------------------------------------------------------------------------


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@faces
def test_the_sink_is_killed_and_another_one_completes_the_file(
    face: str, file: Path, data: bytes, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    with sink("--rate", "8M", "--out", kept) as (process, address):
        with started("send", file, address, "--face", face) as sender:
            wait_for(lambda: kept.stat().st_size > 500_000)
            process.send_signal(signal.SIGKILL)
            out, err = rest_of(sender)
    assert sender.returncode == 1
    count = check_stop(out, err, data, "the connection broke: ")
    size = kept.stat().st_size
    assert 0 < size <= count < len(data), (
        "more was accepted than arrived, and never the other way round"
    )
    assert kept.read_bytes() == data[:size]
    with sink("--once", "--out", kept) as (process, address):
        # Accepted is not delivered: what counts is what the receiver has, as the sentence says.
        sent = run("send", file, address, "--face", face, "--from", size)
        out, _ = rest_of(process)
    assert (sent.returncode, sent.stderr) == (0, "")
    assert f"appending to {str(kept)!r}, which has {size} bytes\n" in out
    assert kept.read_bytes() == data


@pytest.mark.parametrize(
    ("face", "number", "name"),
    [*((face, signal.SIGINT, "Ctrl-C") for face in FACES), ("event", signal.SIGTERM, "SIGTERM")],
)
def test_a_signal_stops_the_sender(
    face: str, number: signal.Signals, name: str, file: Path, data: bytes
) -> None:
    received = bytearray()
    begun = threading.Event()
    may_read = threading.Event()

    def read_late(connection: socket.socket) -> None:
        connection.recv(1, socket.MSG_PEEK)
        begun.set()
        may_read.wait()
        while piece := connection.recv(2**16):
            received.extend(piece)

    with peer(read_late) as address:
        with started("send", file, address, "--face", face) as sender:
            begun.wait(TIMEOUT)
            for _ in range(2):  # the second one must not disturb what the first has begun
                sender.send_signal(number)
            out, err = rest_of(sender)
        may_read.set()
    assert sender.returncode == 128 + number
    count = check_stop(out, err, data, f"stopped by {name}")
    # The receiver lives on, so everything that was accepted reaches it.
    assert received == data[:count]


def test_ctrl_c_while_there_is_nothing_to_send() -> None:
    received = bytearray()
    begun = threading.Event()

    def read(connection: socket.socket) -> None:
        while piece := connection.recv(10):
            received.extend(piece)
            begun.set()

    with peer(read) as address, started("send", "-", address, stdin=subprocess.PIPE) as sender:
        assert sender.stdin is not None
        sender.stdin.write("abc")
        sender.stdin.flush()
        begun.wait(TIMEOUT)
        sender.send_signal(signal.SIGINT)
        out, err = rest_of(sender)
    assert sender.returncode == 130
    assert check_stop(out, err, b"abc", "stopped by Ctrl-C") == 3
    assert received == b"abc"


def test_ctrl_c_before_there_is_a_connection(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)  # nobody writes to it, so opening it takes for ever
    with started("send", fifo, "127.0.0.1:1") as sender:
        wait_for(lambda: listens_to_ctrl_c(sender.pid))
        sender.send_signal(signal.SIGINT)
        out, err = rest_of(sender)
    assert (sender.returncode, out) == (130, "")
    assert (
        err
        == "trio-send send: stopped by Ctrl-C, before there was a connection to 127.0.0.1:1; nothing was sent\n"
    )


def test_ctrl_c_before_the_sink_can_keep_anything(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)  # nobody reads from it, so opening it takes for ever
    with started("sink", "--out", fifo) as process:
        wait_for(lambda: listens_to_ctrl_c(process.pid))
        process.send_signal(signal.SIGINT)
        out, err = rest_of(process)
    assert (process.returncode, out, err) == (130, "", "trio-send sink: ended by Ctrl-C\n")


def listens_to_ctrl_c(pid: int) -> bool:
    """Tell whether a process has got as far as to listen to SIGHUP, which only the commands do."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("needs /proc")
    match = re.search(r"^SigCgt:\s*([0-9a-f]+)", status.read_text(), re.MULTILINE)
    return match is not None and bool(int(match[1], 16) & (1 << (signal.SIGHUP - 1)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_sink(number: signal.Signals, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "s"
    with sink(f"unix:{path}") as (process, _), socket.socket(socket.AF_UNIX) as sender:
        sender.connect(str(path))
        sender.sendall(data[:1000])
        # It has to be read by then, and nothing but the buffers' emptiness tells: a second connection that is over.
        with socket.socket(socket.AF_UNIX) as second:
            second.connect(str(path))
        assert process.stdout is not None
        assert process.stdout.readline().startswith("connection 2: 0 bytes")
        process.send_signal(number)
        out, err = rest_of(process)
        assert not path.exists()
    assert process.returncode == 128 + number
    assert err == f"trio-send sink: ended by {'Ctrl-C' if number == signal.SIGINT else 'SIGTERM'}\n"
    match = re.fullmatch(
        r"connection 1: (\d+) bytes, sha256 ([0-9a-f]{64}), stopped here before its end\n", out
    )
    assert match is not None, out
    assert match[2] == sha256(data[: int(match[1])])


def test_ctrl_c_ends_the_demonstration() -> None:
    with started("demo") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("1. One file")
        process.send_signal(signal.SIGINT)
        _, err = rest_of(process)
    assert (process.returncode, err) == (130, "trio-send demo: interrupted by Ctrl-C\n")


def test_a_limit_on_the_time() -> None:
    may_close = threading.Event()

    def hold(connection: socket.socket) -> None:
        may_close.wait()

    with peer(hold) as address:
        with open("/dev/zero", "rb") as zeros:
            sent = run("send", "-", address, "--timeout", "1", stdin=zeros)
        may_close.set()
    assert sent.returncode == 1
    count = accepted(sent.stdout)
    assert count > 0
    assert (
        check_stop(
            sent.stdout, sent.stderr, bytes(count), "stopped after 1 s, the limit of --timeout"
        )
        == count
    )


# Pipes and terminals --------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["demo"], ["send", "--help"], ["--version"]])
def test_a_reader_that_has_had_enough(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as stdout:
        done = subprocess.run(
            command(*arguments),
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    assert done.stderr == ""
    assert done.returncode == (1 if arguments == ["demo"] else 0)


def test_a_full_disk_behind_the_output() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with open("/dev/full", "wb") as stdout:
        done = subprocess.run(
            command("demo"),
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    assert done.returncode == 1
    assert (
        done.stderr
        == "trio-send demo: standard output cannot be written: No space left on device\n"
    )


def on_a_terminal(*arguments: object, rich: bool, typed: str = "") -> tuple[int, str]:
    """Run a command on a terminal of its own, and type; return its status and what was seen."""
    import pty

    screen, terminal = pty.openpty()
    os.write(screen, typed.encode())
    environment = {
        **os.environ,
        "TERM": "xterm-256color",
        "COLUMNS": "120",
        "PYTHONIOENCODING": "utf-8",
    }
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        environment.pop(name, None)
    with subprocess.Popen(
        command(*arguments, rich=rich),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment,
    ) as process:
        os.close(terminal)
        seen = b""
        while select.select([screen], [], [], TIMEOUT)[0]:
            try:
                piece = os.read(screen, 2**16)
            except OSError:  # the terminal has been hung up
                break
            if not piece:
                break
            seen += piece
        os.close(screen)
        process.wait(TIMEOUT)
    return process.returncode, seen.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("rich", [True, False])
def test_the_demonstration_on_a_terminal(rich: bool, tmp_path: Path) -> None:
    if rich and importlib.util.find_spec("rich") is None:
        pytest.skip("rich is not here")
    path = tmp_path / "file"
    path.write_bytes(bytes(100_000))
    status, seen = on_a_terminal("demo", path, rich=rich)
    assert status == 0
    assert seen.endswith("Every count and every SHA-256 agrees.\n")
    assert ("───" in seen) == rich, "a table with rules"
    assert ("-----" in seen) != rich, "a plain table"
    assert ("━" in seen) == rich, "a bar"
    assert ("\revent: " in seen) != rich, "a line that is written over"


@pytest.mark.parametrize("rich", [True, False])
def test_sending_on_a_terminal(rich: bool, file: Path, data: bytes) -> None:
    if rich and importlib.util.find_spec("rich") is None:
        pytest.skip("rich is not here")
    with sink("--rate", "16M", "--once") as (process, address):
        status, seen = on_a_terminal("send", file, address, rich=rich)
        rest_of(process)
    assert status == 0
    assert ("━" in seen) == rich
    assert " of 8 MiB, " in seen
    assert f"sha256      {sha256(data)}\n" in seen
    # The bar is gone before the summary comes.
    assert re.search(r"(\r *\r|\x1b\[2K(\x1b\[\?25h)?)accepted ", seen)


@pytest.mark.parametrize("rich", [True, False])
def test_nothing_is_drawn_into_what_is_typed(rich: bool) -> None:
    if rich and importlib.util.find_spec("rich") is None:
        pytest.skip("rich is not here")
    with sink("--once") as (process, address):
        status, seen = on_a_terminal("send", "-", address, rich=rich, typed="hello\n\4")
        rest_of(process)
    assert status == 0
    assert seen.startswith("hello\n")
    assert "\r" not in seen
    assert "\x1b" not in seen
    assert f"sha256      {sha256(b'hello' + os.linesep.encode())}\n" in seen


def test_without_a_terminal_there_is_no_bar(file: Path) -> None:
    with sink("--once") as (process, address):
        sent = run("send", file, address)
        _, err = rest_of(process)
    assert err == sent.stderr == ""
    assert sent.stdout.isascii()
    assert "\r" not in sent.stdout
