"""The command line in this process: what each command prints, and the status that it ends with.

Modules: _cli.command, _cli.demo.command, _cli.demo.embedded, _cli.demo.exit_policies, _cli.demo.three_faces,
_cli.interruption, _cli.output, _cli.parser, _cli.side_file, _cli.timeline, _cli.trace, _cli.transfer.endpoints,
_cli.transfer.report, _cli.transfer.send_command, _cli.transfer.sink_command, _cli.transfer.transmission.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import random
import re
import select
import signal
import socket as stdlib_socket
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

import trio_send
from tests.helpers import reset_on_close
from trio_send._cli import main
from trio_send._cli.demo import (
    command as _demo,
    exit_policies as _leaving,
    three_faces as _three_faces,
)
from trio_send._cli.interruption import hearing_as_before
from trio_send._cli.output import OutputLost, plain_table, say
from trio_send._cli.transfer import sink_command as _sink, transmission as _transmission
from trio_send._cli.transfer.faces import FACES

if TYPE_CHECKING:
    from typing_extensions import Self

faces = pytest.mark.parametrize("face", FACES)

AF_UNIX: int = getattr(stdlib_socket, "AF_UNIX", -1)

needs_unix_sockets = pytest.mark.skipif(AF_UNIX < 0, reason="needs Unix sockets")

Capture = pytest.CaptureFixture[str]


class Peer:
    """A receiver that nobody who wrote the library has written: a plain socket in a thread.

    Args:
      use: what to do with the one connection that is accepted.
    """

    def __init__(self, use: Callable[[stdlib_socket.socket], bytes]) -> None:
        self._use = use
        self._listener = stdlib_socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.received = b""

    def _run(self) -> None:
        with self._listener:
            connection, _ = self._listener.accept()
        with connection:
            self.received = self._use(connection)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        if details[0] is not None:  # the accept may never end otherwise
            with stdlib_socket.socket() as release:
                release.connect_ex(("127.0.0.1", int(self.address.rpartition(":")[2])))
        self._thread.join()


def read_all(connection: stdlib_socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(2**16), b""))


def facts(output: str) -> dict[str, str]:
    """The lines of a summary by their first words."""
    return dict(line.split(maxsplit=1) for line in output.splitlines())


def accepted(output: str) -> int:
    return int(facts(output)["accepted"].split()[0])


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def data() -> bytes:
    return random.Random(5).randbytes(300_000)


@pytest.fixture
def file(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "a file"
    path.write_bytes(data)
    return path


# Usage ----------------------------------------------------------------------------------------


def test_the_version(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    way = "with" if trio_send.__accelerated__ else "without"
    out = capsys.readouterr().out
    assert out == f"trio-send {trio_send.__version__}, {way} the accelerator\n"


@pytest.mark.parametrize("command", [[], ["demo"], ["send"], ["sink"]])
def test_help(command: list[str], capsys: Capture) -> None:
    assert main([*command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(" ".join(["usage: trio-send", *command]))
    assert err == ""


def test_the_arguments_of_the_process_are_the_default(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(sys, "argv", ["trio-send", "--version"])
    with hearing_as_before():
        assert main() == 0
        # The process is taken to be about to exit, and it must not be interrupted in the middle of that.
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    assert trio_send.__version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "COMMAND"),
        (["fetch"], "'fetch'"),
        (["send"], "FILE, ADDRESS"),
        (["send", "x"], "ADDRESS"),
        (["send", "x", "nowhere"], "has no port"),
        (["send", "x", "host:0"], "the port 0"),
        (["send", "x", "host:1", "--face", "glad"], "'glad'"),
        (["send", "x", "host:1", "--chunk", "0"], "at least 1 byte"),
        (["send", "x", "host:1", "--chunk", "big"], "'big' is not a size"),
        (["send", "x", "host:1", "--chu", "1"], "--chu"),
        (["send", "x", "host:1", "--in-flight", "0"], "'0' is not a whole number"),
        (["send", "x", "host:1", "--timeout", "0"], "'0' is not a time"),
        (["send", "x", "host:1", "--stall-timeout", "soon"], "'soon' is not a time"),
        (["send", "x", "host:1", "--from", "-1"], "'-1' is not a size"),
        (["send", "x", "host:1", "y"], "y"),
        (["sink", "[::1]"], "no port behind its brackets"),
        (["sink", "--rate", "0"], "at least 1 byte"),
        (["demo", "a", "b"], "b"),
    ],
)
def test_wrong_usage_is_one_sentence_and_status_2(
    arguments: list[str], complaint: str, capsys: Capture
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert complaint in err
    assert re.fullmatch(r"trio-send( \w+)?: .*\(try 'trio-send( \w+)? --help'\)\n", err)


# Sending --------------------------------------------------------------------------------------


@faces
@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_each_face_sends_the_same(
    face: str, size: int, tmp_path: Path, data: bytes, capsys: Capture
) -> None:
    path = tmp_path / "file"
    path.write_bytes(data[:size])
    with Peer(read_all) as peer:
        assert (
            main(
                [
                    "send",
                    str(path),
                    peer.address,
                    "--face",
                    face,
                    "--chunk",
                    "64K",
                    "--in-flight",
                    "3",
                ]
            )
            == 0
        )
    assert peer.received == data[:size]
    out, err = capsys.readouterr()
    assert err == ""
    told = facts(out)
    assert accepted(out) == size
    assert told["accepted"].endswith(f"from offset 0 up to {size}")
    assert told["sha256"] == sha256(data[:size])
    assert told["receiver"] == "closed the connection in order after the end"
    match = re.fullmatch(
        rf"(\d+) finished on the spot, (\d+) pending, with the face {face}", told["operations"]
    )
    assert match is not None
    assert int(match[1]) + int(match[2]) == -(-size // 2**16)
    assert re.fullmatch(r"\d+\.\d{3} s, [\d.]+ \w+/s", told["time"])


def test_from_an_offset(file: Path, data: bytes, capsys: Capture) -> None:
    with Peer(read_all) as peer:
        assert main(["send", str(file), peer.address, "--from", "200K"]) == 0
    assert peer.received == data[200 * 1024 :]
    out = capsys.readouterr().out
    assert facts(out)["accepted"] == "95200 bytes (93 KiB), from offset 204800 up to 300000"
    assert facts(out)["sha256"] == sha256(peer.received)


def test_from_the_end_there_is_nothing_to_send(file: Path, capsys: Capture) -> None:
    with Peer(read_all) as peer:
        assert main(["send", str(file), peer.address, "--from", "300000"]) == 0
    assert peer.received == b""
    assert accepted(capsys.readouterr().out) == 0


@contextmanager
def standard_input(monkeypatch: pytest.MonkeyPatch, data: bytes) -> Iterator[None]:
    """Have a pipe as standard input."""
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb") as pipe:
            pipe.write(data)

    with open(reading) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        thread = threading.Thread(target=write)
        thread.start()
        yield
        thread.join()


@pytest.mark.parametrize("offset", [0, 100_001])
def test_standard_input(
    offset: int, data: bytes, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    with standard_input(monkeypatch, data), Peer(read_all) as peer:
        assert main(["send", "-", peer.address, "--from", str(offset)]) == 0
    assert peer.received == data[offset:]
    assert facts(capsys.readouterr().out)["sha256"] == sha256(data[offset:])


def one_sentence(error: str, command: str) -> str:
    assert re.fullmatch(rf"trio-send {command}: [^\n]+\n", error), error
    return error


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["{tmp}/nothing", "127.0.0.1:1"], "cannot be read: No such file or directory"),
        (["{tmp}", "127.0.0.1:1"], "cannot be read: Is a directory"),
        (
            ["{file}", "{nobody}"],
            "cannot connect to {nobody}: nobody listens at the peer's address",
        ),
        (
            ["{file}", "unix:{tmp}/nothing"],
            "cannot connect to unix:{tmp}/nothing: No such file or directory",
        ),
        (["{file}", "no such.invalid:1"], ""),
        (["{file}", "nothing.invalid:1"], "the host 'nothing.invalid' cannot be found"),
        (["{file}", "a..b:1"], "the host 'a..b' cannot be found"),
        (
            ["{file}", "{nobody}", "--from", "1M"],
            "ends after 300000 bytes, so nothing can be sent from offset 1048576",
        ),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="the words are those of Unix")
def test_what_cannot_begin_is_one_sentence_and_status_1(
    arguments: list[str], complaint: str, tmp_path: Path, file: Path, capsys: Capture
) -> None:
    with stdlib_socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, so nobody else gets the port, and not listening
        names = {"tmp": tmp_path, "file": file, "nobody": f"127.0.0.1:{nobody.getsockname()[1]}"}
        assert main(["send", *(argument.format_map(names) for argument in arguments)]) == (
            1 if complaint else 2
        )
    out, err = capsys.readouterr()
    assert out == ""
    assert complaint.format_map(names) in one_sentence(err, "send")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is unreadable to this user"
)
def test_an_unreadable_file(file: Path, capsys: Capture) -> None:
    file.chmod(0)
    assert main(["send", str(file), "127.0.0.1:1"]) == 1
    assert "cannot be read: Permission denied" in one_sentence(capsys.readouterr().err, "send")


def test_standard_input_that_is_too_short(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    with standard_input(monkeypatch, b"abc"):
        assert main(["send", "-", "127.0.0.1:1", "--from", "4"]) == 1
    assert "standard input ends after 3 bytes" in one_sentence(capsys.readouterr().err, "send")


def test_closed_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["send", "-", "127.0.0.1:1"]) == 1
    assert "standard input cannot be read: it is closed" in one_sentence(
        capsys.readouterr().err, "send"
    )


def check_stop(status: int, capsys: Capture, data: bytes, reason: str, offset: int = 0) -> int:
    """Check what was said of a transfer that was stopped; return how many bytes were accepted."""
    assert status == 1
    out, err = capsys.readouterr()
    count = accepted(out)
    assert facts(out)["sha256"] == sha256(data[offset : offset + count])
    assert "receiver" not in facts(out)
    sentence = one_sentence(err, "send")
    assert reason in sentence
    assert f"{count} byte" in sentence
    assert "Accepted is not delivered" in sentence
    if reason.startswith("the connection broke"):
        # What was accepted may be lost, so no number from here is one to go on with.
        assert "'trio-send sink' prints the number" in sentence
        assert sentence.endswith(
            f"--from and that number{f' plus {offset}' if offset else ''}, or that size\n"
        )
    else:
        assert f"go on with --from {offset + count}." in sentence
    return count


class Deaf(Peer):
    """A receiver that does not read until it is told to."""

    def __init__(self) -> None:
        super().__init__(self._wait)
        self._listener.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_RCVBUF, 4096)
        self.may_read = threading.Event()

    def _wait(self, connection: stdlib_socket.socket) -> bytes:
        self.may_read.wait()
        return read_all(connection)

    def __exit__(self, *details: object) -> None:
        self.may_read.set()
        super().__exit__(*details)


@faces
@pytest.mark.parametrize("option", ["--timeout", "--stall-timeout"])
def test_a_receiver_that_does_not_read(
    face: str, option: str, tmp_path: Path, capsys: Capture
) -> None:
    data = random.Random(6).randbytes(8 * 2**20)
    path = tmp_path / "file"
    path.write_bytes(data)
    with Deaf() as peer:
        status = main(
            ["send", str(path), peer.address, "--face", face, option, "0.3", "--from", "1K"]
        )
        reason = (
            "stopped after 0.3 s" if option == "--timeout" else "no byte was accepted for 0.3 s"
        )
        count = check_stop(status, capsys, data, reason, offset=1024)
    # It was only slow, and what was accepted does reach it: to the byte where --from goes on.
    assert peer.received == data[1024 : 1024 + count]
    with Peer(read_all) as second:
        assert (
            main(["send", str(path), second.address, "--face", face, "--from", str(1024 + count)])
            == 0
        )
    assert data == data[:1024] + peer.received + second.received


@faces
def test_a_receiver_that_breaks_the_connection(face: str, tmp_path: Path, capsys: Capture) -> None:
    data = bytes(8 * 2**20)
    path = tmp_path / "file"
    path.write_bytes(data)

    def read_a_bit(connection: stdlib_socket.socket) -> bytes:
        # More is left unread, so that closing breaks the connection.
        return connection.recv(10_000)

    with Peer(read_a_bit) as peer:
        status = main(["send", str(path), peer.address, "--face", face, "--from", "7"])
    count = check_stop(status, capsys, data, "the connection broke: ", offset=7)
    assert count > 10_000


def test_a_connection_that_breaks_while_there_is_nothing_to_send(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    reading, writing = os.pipe()

    def reset(connection: stdlib_socket.socket) -> bytes:
        piece = connection.recv(1)
        reset_on_close(connection)
        return piece

    with open(reading) as stream, open(writing, "wb", buffering=0) as pipe:
        monkeypatch.setattr(sys, "stdin", stream)
        pipe.write(b"x")
        with Peer(reset) as peer:
            status = main(["send", "-", peer.address])
        assert peer.received == b"x"
        assert check_stop(status, capsys, b"x", "the connection broke: the peer reset") == 1
        pipe.write(b"y")  # the thread that still reads may go


if sys.platform == "linux":  # elsewhere the end cannot be seen without reading up to it

    def test_a_connection_that_breaks_over_the_last_bytes(tmp_path: Path, capsys: Capture) -> None:
        path = tmp_path / "file"
        path.write_bytes(bytes(1000))

        def leave_unread(connection: stdlib_socket.socket) -> bytes:
            poll = select.poll()
            poll.register(connection, select.POLLRDHUP)
            poll.poll()
            return b""

        with Peer(leave_unread) as peer:
            status = main(["send", str(path), peer.address])
        assert status == 1
        out, err = capsys.readouterr()
        assert accepted(out) == 1000
        sentence = one_sentence(err, "send")
        assert "; all of it, 1000 bytes, were accepted. Accepted is not delivered" in sentence
        assert sentence.endswith("Go on with --from and that number, or that size\n")


def test_a_receiver_that_talks_back(file: Path, data: bytes, capsys: Capture) -> None:
    def echo(connection: stdlib_socket.socket) -> bytes:
        received = b""
        while piece := connection.recv(2**16):
            connection.sendall(piece)
            received += piece
        return received

    with Peer(echo) as peer:
        assert main(["send", str(file), peer.address]) == 0
    assert peer.received == data
    assert facts(capsys.readouterr().out)["receiver"].endswith(
        "it sent 300000 bytes, which were thrown away"
    )


def test_a_receiver_that_says_one_byte(file: Path, capsys: Capture) -> None:
    def answer(connection: stdlib_socket.socket) -> bytes:
        connection.sendall(b"x")
        return read_all(connection)

    with Peer(answer) as peer:
        assert main(["send", str(file), peer.address]) == 0
    said = facts(capsys.readouterr().out)["receiver"]
    assert said.endswith("it sent 1 byte, which was thrown away")


def test_a_receiver_that_closes_its_side_first(
    file: Path, data: bytes, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    closed = threading.Event()

    def close_first(connection: stdlib_socket.socket) -> bytes:
        connection.shutdown(stdlib_socket.SHUT_WR)
        closed.set()
        return read_all(connection)

    reading, writing = os.pipe()

    def write() -> None:
        closed.wait()
        with open(writing, "wb") as pipe:
            pipe.write(data)

    writer = threading.Thread(target=write)
    with open(reading) as stream, Peer(close_first) as peer:
        monkeypatch.setattr(sys, "stdin", stream)
        writer.start()
        assert main(["send", "-", peer.address]) == 0
        writer.join()
    assert peer.received == data
    assert facts(capsys.readouterr().out)["receiver"].startswith("closed its side before the end")


def test_a_receiver_that_never_closes_is_not_waited_for(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(_transmission, "CLOSING_PATIENCE", 0.1)
    with Deaf() as peer:
        assert main(["send", str(file), peer.address, "--chunk", "1", "--from", "299999"]) == 0
    assert peer.received == file.read_bytes()[-1:]
    assert facts(capsys.readouterr().out)["receiver"].startswith("has not closed its side yet")


def test_a_connection_that_takes_too_long(file: Path, capsys: Capture) -> None:
    # A backlog that is full is the one way to a connection that hangs that works everywhere, at least for a while.
    with stdlib_socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        host, port = listener.getsockname()
        waiting = [stdlib_socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex((host, port))
        status = main(["send", str(file), f"{host}:{port}", "--timeout", "0.2"])
        for sock in waiting:
            sock.close()
    out, err = capsys.readouterr()
    assert (status, out) == (1, "")
    assert (
        "stopped after 0.2 s, the limit of --timeout, before there was a connection"
        in one_sentence(err, "send")
    )


@faces
def test_a_trace_of_a_transfer(face: str, file: Path, tmp_path: Path, capsys: Capture) -> None:
    trace = tmp_path / "trace.json"
    trace.write_text("what was there before")
    with Peer(read_all) as peer:
        arguments = ["send", str(file), peer.address, "--face", face, "--chunk", "100K"]
        assert main([*arguments, "--trace", str(trace)]) == 0
    events = json.loads(trace.read_text())
    ends = [event for event in events if event["ph"] == "e" and event["name"] == "send"]
    assert [end["args"]["error"] for end in ends] == ["SUCCESS"] * 3
    assert sum(end["args"]["bytes_accepted"] for end in ends) == 300_000
    assert capsys.readouterr().err == ""


def test_a_trace_that_cannot_be_written(file: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["send", str(file), "127.0.0.1:1", "--trace", str(tmp_path)]) == 1
    assert f"the trace {str(tmp_path)!r} cannot be written: " in one_sentence(
        capsys.readouterr().err, "send"
    )


def test_a_trace_does_not_replace_what_is_to_be_sent(
    file: Path, data: bytes, capsys: Capture
) -> None:
    assert main(["send", str(file), "127.0.0.1:1", "--trace", str(file)]) == 1
    assert "would replace what is to be sent" in one_sentence(capsys.readouterr().err, "send")
    assert file.read_bytes() == data


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("chunk", ["100K", "100"])
def test_a_trace_on_a_full_disk_stops_no_transfer(
    chunk: str, file: Path, data: bytes, capsys: Capture
) -> None:
    """Whether the disk is full in the end, or long before."""
    with Peer(read_all) as peer:
        arguments = ["send", str(file), peer.address, "--chunk", chunk]
        assert main([*arguments, "--trace", "/dev/full"]) == 0
    assert peer.received == data
    err = capsys.readouterr().err
    assert err == "the trace '/dev/full' is not whole: No space left on device\n"


@faces
def test_a_timeline_of_a_transfer(face: str, file: Path, tmp_path: Path, capsys: Capture) -> None:
    picture = tmp_path / "picture.svg"
    picture.write_text("what was there before")
    with Peer(read_all) as peer:
        arguments = ["send", str(file), peer.address, "--face", face, "--chunk", "100K"]
        assert main([*arguments, "--timeline", str(picture)]) == 0
    text = picture.read_text("utf-8")
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert text.count("send 102400 B, socket 1: done, 102400 of 102400") == 2
    assert f"trio-send send {file}" in text
    assert capsys.readouterr().err == ""


def test_a_timeline_does_not_replace_what_is_to_be_sent(
    file: Path, data: bytes, capsys: Capture
) -> None:
    assert main(["send", str(file), "127.0.0.1:1", "--timeline", str(file)]) == 1
    assert f"the timeline {str(file)!r} would replace what is" in one_sentence(
        capsys.readouterr().err, "send"
    )
    assert file.read_bytes() == data


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_timeline_on_a_full_disk_stops_no_transfer(
    file: Path, data: bytes, capsys: Capture
) -> None:
    with Peer(read_all) as peer:
        assert main(["send", str(file), peer.address, "--timeline", "/dev/full"]) == 0
    assert peer.received == data
    err = capsys.readouterr().err
    assert err == "the timeline '/dev/full' is not whole: No space left on device\n"


# The sink -------------------------------------------------------------------------------------


@contextmanager
def sending_to_the_sink(
    monkeypatch: pytest.MonkeyPatch, send: Callable[[str], None]
) -> Iterator[None]:
    """Have the sink's first line start a thread that sends to where it listens."""
    threads: list[threading.Thread] = []

    def say_and_start(text: str = "") -> None:
        say(text)
        if text.startswith("listening on "):
            thread = threading.Thread(target=send, args=[text.removeprefix("listening on ")])
            thread.start()
            threads.append(thread)

    monkeypatch.setattr(_sink, "say", say_and_start)
    yield
    for thread in threads:
        thread.join()


def connect(address: str) -> stdlib_socket.socket:
    if address.startswith("unix:"):
        sock = stdlib_socket.socket(AF_UNIX)
        sock.connect(address.removeprefix("unix:"))
        return sock
    host, _, port = address.rpartition(":")
    return stdlib_socket.create_connection((host.strip("[]"), int(port)))


def sender_of(data: bytes) -> Callable[[str], None]:
    def send(address: str) -> None:
        with connect(address) as sock:
            sock.sendall(data)

    return send


def test_the_sink_tells_what_came_in(
    data: bytes, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    with sending_to_the_sink(monkeypatch, sender_of(data)):
        assert main(["sink", "--once"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.fullmatch(
        r"listening on 127\.0\.0\.1:\d+\n"
        rf"connection 1 from 127\.0\.0\.1:\d+: 300000 bytes, sha256 {sha256(data)}, ended by the sender\n",
        out,
    )


def test_the_sink_over_ipv6(data: bytes, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    try:
        stdlib_socket.create_server(("::1", 0), family=stdlib_socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with sending_to_the_sink(monkeypatch, sender_of(data)):
        assert main(["sink", "[::1]:0", "--once"]) == 0
    assert "\nconnection 1 from [::1]:" in capsys.readouterr().out


@needs_unix_sockets
def test_the_sink_at_a_unix_socket(
    tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    path = tmp_path / "s"
    with sending_to_the_sink(monkeypatch, sender_of(data)):
        assert main(["sink", f"unix:{path}", "--once"]) == 0
    assert not path.exists()
    assert capsys.readouterr().out == (
        f"listening on unix:{path}\nconnection 1: 300000 bytes, sha256 {sha256(data)}, ended by the sender\n"
    )


@needs_unix_sockets
def test_a_unix_socket_that_is_left_over_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    path = tmp_path / "s"
    with stdlib_socket.socket(AF_UNIX) as left_over:
        left_over.bind(str(path))
    assert path.is_socket()
    with sending_to_the_sink(monkeypatch, sender_of(b"x")):
        assert main(["sink", f"unix:{path}", "--once"]) == 0
    assert not path.exists()


@needs_unix_sockets
def test_a_unix_socket_in_use_is_left_alone(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "s"
    with stdlib_socket.socket(AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        other.setblocking(False)
        assert main(["sink", f"unix:{path}", "--once"]) == 1
        assert "somebody else uses the socket at" in one_sentence(capsys.readouterr().err, "sink")
        assert path.is_socket()
        with pytest.raises(BlockingIOError):
            other.accept()  # nor was it bothered by a connection


@needs_unix_sockets
def test_a_file_is_never_replaced_by_a_socket(file: Path, data: bytes, capsys: Capture) -> None:
    assert main(["sink", f"unix:{file}"]) == 1
    assert "there is a file at" in one_sentence(capsys.readouterr().err, "sink")
    assert file.read_bytes() == data


@needs_unix_sockets
def test_a_socket_that_somebody_else_put_there_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    path = tmp_path / "s"

    def replace(address: str) -> None:
        with connect(address):
            path.unlink()
            path.write_text("something else")

    with sending_to_the_sink(monkeypatch, replace):
        assert main(["sink", f"unix:{path}", "--once"]) == 0
    assert path.read_text() == "something else"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["192.0.2.1:0"],
            "cannot listen at 192.0.2.1:0: there is no such address to use on this machine",
        ),
        (["nothing.invalid:0"], "the host 'nothing.invalid' cannot be found"),
        (["--out", "{tmp}/no/file"], "cannot be written: No such file or directory"),
        (
            ["unix:{tmp}/no/socket"],
            "cannot listen at unix:{tmp}/no/socket: No such file or directory",
        ),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="the words are those of Unix")
def test_where_the_sink_cannot_be(
    arguments: list[str], complaint: str, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["sink", *(argument.format(tmp=tmp_path) for argument in arguments)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert complaint.format(tmp=tmp_path) in one_sentence(err, "sink")


def test_a_port_in_use(capsys: Capture) -> None:
    with stdlib_socket.create_server(("127.0.0.1", 0)) as other:
        assert main(["sink", f"127.0.0.1:{other.getsockname()[1]}"]) == 1
    assert "another socket already uses that address" in one_sentence(
        capsys.readouterr().err, "sink"
    )


def test_a_connection_that_is_reset(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def reset(address: str) -> None:
        with connect(address) as sock:
            reset_on_close(sock)
            sock.sendall(b"abc")

    with sending_to_the_sink(monkeypatch, reset):
        assert main(["sink", "--once"]) == 1
    out, err = capsys.readouterr()
    assert "the connection broke: the peer reset the connection" in one_sentence(err, "sink")
    # Whether the reset overtakes the bytes is up to the kernel.
    assert re.search(
        r"(0|3) bytes, sha256 [0-9a-f]{64}, broken: the peer reset the connection", out
    )


def test_several_connections_to_one_file_do_not_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"begun:")
    parts = [bytes([65 + number]) * 200_000 for number in range(4)]
    senders = [sender_of(part) for part in parts]
    done = threading.Barrier(len(senders) + 1)

    def send_and_meet(sender: Callable[[str], None]) -> Callable[[str], None]:
        def run(address: str) -> None:
            sender(address)
            done.wait()

        return run

    lines: list[str] = []

    def say_until_all(text: str = "") -> None:
        lines.append(text)
        if text.startswith("listening on "):
            for sender in senders:
                threading.Thread(target=send_and_meet(sender), args=[text.split()[-1]]).start()
        elif sum(line.startswith("connection ") for line in lines) == len(parts):
            # All is read, whichever came last, so no sender waits for the thread that waits for it here.
            done.wait()
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(_sink, "say", say_until_all)
    assert main(["sink", "--out", str(path)]) == 130
    assert lines[1] == f"appending to {str(path)!r}, which has 6 bytes"
    kept = path.read_bytes()
    assert re.fullmatch(rb"begun:(A+|B+|C+|D+){4}", kept)
    assert len(kept) == 6 + 800_000
    for number, line in enumerate(lines[2:]):
        part = kept[6 + number * 200_000 :][:200_000]
        assert f": 200000 bytes, sha256 {sha256(part)}, ended by the sender; " in line
        assert line.endswith(f"now has {6 + (number + 1) * 200_000} bytes")
    assert "ended by Ctrl-C" in one_sentence(capsys.readouterr().err, "sink")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_ends_the_sink(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    said = []

    def send(address: str) -> None:
        with connect(address) as sock:
            sock.sendall(b"x")
            try:
                said.append(sock.recv(1))
            except ConnectionResetError:
                said.append(b"reset")

    with sending_to_the_sink(monkeypatch, send):
        assert main(["sink", "--out", "/dev/full"]) == 1
    assert said == [b"reset"], "the sender must not take this for an end"
    assert "'/dev/full' cannot be written: No space left" in one_sentence(
        capsys.readouterr().err, "sink"
    )


def test_a_limited_sink_takes_its_time(
    data: bytes, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    with sending_to_the_sink(monkeypatch, sender_of(data)):
        began = time.monotonic()
        assert main(["sink", "--once", "--rate", "1M"]) == 0
        passed = time.monotonic() - began
    assert passed >= 300_000 / 2**20 - 0.06
    assert f"300000 bytes, sha256 {sha256(data)}" in capsys.readouterr().out


def test_a_sink_that_cannot_accept_goes_on(
    data: bytes, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    accept = trio_send.Socket.accept
    failures = iter([trio_send.SocketException(trio_send.SocketError.TOO_MANY_OPEN_SOCKETS)])

    async def fail_once(self: trio_send.Socket) -> trio_send.Socket:
        for failure in failures:
            raise failure
        return await accept(self)

    monkeypatch.setattr(trio_send.Socket, "accept", fail_once)
    with sending_to_the_sink(monkeypatch, sender_of(data)):
        assert main(["sink", "--once"]) == 0
    assert "cannot accept a connection: no more sockets can be opened" in one_sentence(
        capsys.readouterr().err, "sink"
    )


# The demonstration ----------------------------------------------------------------------------


def test_the_demonstration(capsys: Capture) -> None:
    assert main(["demo"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.endswith("Every count and every SHA-256 agrees.\n")
    for face in FACES:
        assert re.search(
            rf"^{face} +4194304 +\d+ +\d+ +[\d.]+ s +4194304 +[0-9a-f]{{16}}\.\.\. +yes$",
            out,
            re.MULTILINE,
        )
    sends = re.findall(
        r"^ +\d+ +(\d+)  (on the spot|pending) +([01]) +(\d+)  (SUCCESS|OPERATION_ABORTED \(995\))$",
        out,
        re.MULTILINE,
    )
    assert len(sends) == _leaving.MESSAGES
    for size, started, raised, count, ended in sends:
        assert (started == "pending") == (raised == "1")
        assert (size == count) == (ended == "SUCCESS")
    total = sum(int(count) for _, _, _, count, _ in sends)
    assert (
        f"That makes {total} bytes accepted. The sink received {total} bytes: exactly these"
        in out.replace("\n", " ")
    )


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_the_demonstration_of_a_file(size: int, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(size))
    picture = tmp_path / "picture.html"
    trace = tmp_path / "trace.json"
    assert main(["demo", str(path), "--timeline", str(picture), "--trace", str(trace)]) == 0
    text = picture.read_text("utf-8")
    assert text.startswith("<!DOCTYPE html>") and "initiator " in text
    events = json.loads(trace.read_text("utf-8"))
    kinds = {event["name"] for event in events if event["ph"] == "b"}
    assert kinds >= {"accept", "connect", "receive", "send"}
    ends = [event["args"]["error"] for event in events if event["ph"] == "e"]
    assert ends.count("OPERATION_ABORTED") >= 1  # of the initiator that is left
    assert f"{size} byte" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize(
    ("file", "complaint"), [("-", "cannot be standard input"), ("{tmp}/no", "cannot be read")]
)
def test_a_demonstration_of_nothing(
    file: str, complaint: str, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["demo", file.format(tmp=tmp_path)]) == 1
    assert complaint in one_sentence(capsys.readouterr().err, "demo")


def test_a_demonstration_that_disagrees_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")

    async def wrong(path: str) -> tuple[int, str]:
        return 1, sha256(b"y")

    monkeypatch.setattr(_three_faces, "_measure", wrong)
    assert main(["demo", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out.count(" NO\n") == 3
    assert "the counts do not agree" in one_sentence(err, "demo")


def test_a_demonstration_that_loses_bytes_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    async def agree(path: str, name: str) -> bool:
        return True

    monkeypatch.setattr(_demo, "show_three_faces", agree)
    monkeypatch.setattr(_leaving._Send, "accepted", property(lambda self: 1))
    assert main(["demo"]) == 1
    assert "these are NOT the same" in capsys.readouterr().out


# Output ---------------------------------------------------------------------------------------


class Stream(io.StringIO):
    """A standard output of which nobody can have much."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self._error = error

    def write(self, text: str) -> int:
        raise self._error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), ""),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "standard output cannot be written: No space left on device",
        ),
    ],
)
@pytest.mark.parametrize("command", [["demo"], ["sink"], ["--version"]])
def test_output_that_nobody_takes(
    command: list[str],
    error: OSError,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.setattr(sys, "stdout", Stream(error))
    status = main(command)
    err = capsys.readouterr().err
    if command == ["--version"]:  # argparse does not mind
        assert (status, err) == (0, "")
    else:
        assert status == 1
        assert err == (sentence and f"trio-send {command[0]}: {sentence}\n")


def test_without_any_output_nothing_is_missed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with Peer(read_all) as peer:
        assert main(["send", str(file), peer.address]) == 0
    assert main(["send", str(file), "nowhere"]) == 2


def test_names_that_the_terminal_cannot_show(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(buffer, encoding="ascii"))
    assert main(["send", "n\N{LATIN SMALL LETTER O WITH DIAERESIS}\udcff", "127.0.0.1:1"]) == 1
    assert b"'n\\xf6\\udcff' cannot be read" in buffer.getvalue()


def test_a_lost_output_counts_as_a_failure() -> None:
    assert OutputLost("").status == 1


def test_tables() -> None:
    rows = [["a", "1", "2.5 s"], ["long one", "1000", "0.1 s"]]
    assert list(plain_table(["name", "count", "time"], rows, [False, True, True])) == [
        "name      count   time",
        "--------  -----  -----",
        "a             1  2.5 s",
        "long one   1000  0.1 s",
    ]


# Interruptions --------------------------------------------------------------------------------


def test_ctrl_c_before_anything_runs(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def interrupt() -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("trio_send._cli.make_parser", interrupt)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "trio-send: interrupted by Ctrl-C\n"


def test_ctrl_c_during_the_demonstration(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    async def interrupt() -> bool:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # once more changes nothing
        await trio.sleep_forever()
        raise AssertionError

    async def agree(path: str, name: str) -> bool:
        return True

    monkeypatch.setattr(_demo, "show_three_faces", agree)
    monkeypatch.setattr(_demo, "show_leaving", interrupt)
    before = signal.getsignal(signal.SIGINT)
    assert main(["demo"]) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert capsys.readouterr().err == "trio-send demo: interrupted by Ctrl-C\n"


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    async def bug(path: str, name: str) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(_demo, "show_three_faces", bug)
    with pytest.raises(ZeroDivisionError):
        main(["demo"])


def test_it_runs_outside_of_the_main_thread_too(capsys: Capture) -> None:
    statuses: list[int] = []
    thread = threading.Thread(
        target=lambda: statuses.append(main(["send", os.devnull, "127.0.0.1:1"]))
    )
    thread.start()
    thread.join()
    assert statuses == [1]
