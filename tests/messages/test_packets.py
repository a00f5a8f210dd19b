"""Hold elements to what they accept and say, and the message of them to which bytes it is made of and when it opens.

Modules: _messages.files, _messages.packet_element.
"""

from __future__ import annotations

import gzip
import io
import mmap
import os
import socket as stdlib_socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.files import needs_proc, needs_unix, times_open
from tests.helpers import bytes_of
from trio_send import (
    InvalidOperationError,
    ObjectDisposedError,
    SendPacketsElement,
    SocketAsyncEventArgs,
    SocketAsyncOperation,
)
from trio_send._messages.packets import Packets

DATA = bytes_of(1000, seed=5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    return path


# Elements -------------------------------------------------------------------------------------


def facts(element: SendPacketsElement) -> tuple[int, int, bool]:
    return element.offset, element.count, element.end_of_packet


def test_an_element_of_a_buffer() -> None:
    buffer = bytearray(10)
    element = SendPacketsElement(buffer)
    assert element.buffer is buffer
    assert element.file_path is element.file_stream is None
    assert facts(element) == (0, 10, False)
    assert facts(SendPacketsElement(buffer, 2, 8, True)) == (2, 8, True)
    assert facts(SendPacketsElement(buffer, 4)) == (4, 6, False)
    assert facts(SendPacketsElement(buffer, 10)) == (10, 0, False)
    assert facts(SendPacketsElement(buffer, 4, 0)) == (4, 0, False)
    assert repr(SendPacketsElement(buffer, 2, 3)) == (
        "<SendPacketsElement: 3 bytes of bytearray from 2>"
    )
    buffer.append(1)  # nothing is locked


def test_an_element_says_whether_it_is_copied(path: Path) -> None:
    for source in (b"abc", path):
        assert SendPacketsElement(source).copy is False
        element = SendPacketsElement(source, 1, 2, copy=True)
        assert element.copy is True
        packets = Packets([element])
        (rest,) = packets.rest(1)
        assert (rest.offset, rest.count, rest.copy) == (2, 1, True)
        packets.close()


def test_an_element_of_a_path(path: Path) -> None:
    element = SendPacketsElement(path)
    assert element.file_path is path
    assert element.buffer is element.file_stream is None
    assert facts(element) == (0, 0, False)
    assert facts(SendPacketsElement(str(path), 10, 20, True)) == (10, 20, True)
    assert (
        repr(SendPacketsElement("there", 2)) == "<SendPacketsElement: the rest of 'there' from 2>"
    )
    SendPacketsElement(path / "missing", 2**40, 5)  # looked at when it is sent


def test_an_element_of_an_open_file(path: Path) -> None:
    with path.open("rb") as file:
        element = SendPacketsElement(file, 3, 4)
        assert element.file_stream is file
        assert element.buffer is element.file_path is None
        assert facts(element) == (3, 4, False)


def test_bytes_are_a_buffer_and_not_a_path() -> None:
    assert SendPacketsElement(b"/etc/hostname").buffer == b"/etc/hostname"


def test_a_map_of_a_file_is_a_buffer(path: Path) -> None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert SendPacketsElement(mapped).count == len(DATA)


@pytest.mark.parametrize("opener", [tempfile.TemporaryFile, tempfile.NamedTemporaryFile])
def test_temporary_files_are_files(opener: Callable[[], Any]) -> None:
    with opener() as file:
        file.write(b"abc")
        packets = Packets([SendPacketsElement(file)])
        assert content(packets) == b"abc"
        packets.close()


@pytest.mark.parametrize("mode", ["r+b", "w+b", "a+b", "x+b"])
@pytest.mark.parametrize("buffering", [-1, 0, 5])
def test_what_was_written_and_not_flushed_is_flushed(
    tmp_path: Path, mode: str, buffering: int
) -> None:
    """Or a program that writes a file and then sends it would send nothing, and be told that this was a success."""
    path = tmp_path / "written"
    if mode == "r+b":
        path.touch()
    with open(path, mode, buffering) as file:
        element = SendPacketsElement(file)
        file.writelines((b"ab", b"cd", b"ef"))
        place = file.tell()
        packets = Packets([SendPacketsElement(b"0"), element, element])
        assert content(packets) == b"0abcdefabcdef"
        assert file.tell() == place
        packets.close()
        # What comes later is not sent, as of any file.
        packets = Packets([element])
        file.write(b"later")
        file.flush()
        assert content(packets) == b"abcdef"
        packets.close()


@needs_proc
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no such device")
def test_a_file_that_cannot_be_flushed_is_not_sent() -> None:
    file = open("/dev/full", "w+b")  # noqa: SIM115
    file.write(b"abc")
    with pytest.raises(OSError, match="No space left"):
        Packets([SendPacketsElement(file)])
    with pytest.raises(OSError, match="No space left"):
        file.close()
    assert times_open(Path("/dev/full")) == 0


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda path: None, TypeError, "source is None, .* a path, or a file open for reading"),
        (lambda path: 5, TypeError, "source must be a bytes-like .* or a file open .*, not int"),
        (lambda path: "", ValueError, "source is an empty path"),
        (lambda path: path.open(), TypeError, "source is a file in text mode"),
        (lambda path: gzip.GzipFile(path, "wb"), TypeError, "whose bytes are not those of a file"),
        (lambda path: io.BytesIO(b"abc"), TypeError, "not BytesIO"),
        (lambda path: stdlib_socket.socket(), TypeError, "not socket"),
        (lambda path: path.open("ab"), ValueError, "not open for reading"),
    ],
)
def test_what_is_no_source_is_refused(
    path: Path, make: Callable[[Path], Any], error: type[Exception], match: str
) -> None:
    source = make(path)
    try:
        with pytest.raises(error, match=match):
            SendPacketsElement(source)
    finally:
        if hasattr(source, "close"):
            source.close()


def test_a_closed_file_is_refused_at_once_and_when_it_is_sent(path: Path) -> None:
    with path.open("rb") as file:
        element = SendPacketsElement(file)
    with pytest.raises(ValueError, match="source is a file that is closed"):
        SendPacketsElement(file)
    with pytest.raises(ValueError, match="closed file"):
        Packets([element])


@pytest.mark.parametrize("kind", ["buffer", "path"])
@pytest.mark.parametrize(
    ("offset", "count", "name"), [(-1, None, "offset"), (0, -1, "count"), (2**63, None, "offset")]
)
def test_a_bad_range_is_refused(kind: str, offset: int, count: int | None, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is"):
        SendPacketsElement(bytes(10) if kind == "buffer" else "file", offset, count)


def test_a_range_must_be_of_whole_numbers() -> None:
    with pytest.raises(TypeError, match="offset must be a whole number"):
        SendPacketsElement("file", 1.5)  # type: ignore[arg-type]


def test_a_range_must_lie_in_the_buffer() -> None:
    with pytest.raises(ValueError, match="count is 9, but must be from 0 to 8"):
        SendPacketsElement(bytes(10), 2, 9)


# Elements in args -----------------------------------------------------------------------------


def test_args_have_no_elements_at_first() -> None:
    args = SocketAsyncEventArgs()
    assert args.send_packets_elements is None
    assert args.remaining_elements == []


def test_the_list_is_noted_when_it_is_set() -> None:
    first = SendPacketsElement(b"abc")
    elements = [first]
    args = SocketAsyncEventArgs()
    args.send_packets_elements = elements
    elements.append(SendPacketsElement(b"def"))
    assert args.send_packets_elements is elements
    assert args.remaining_elements == [first]
    args.send_packets_elements = None
    assert args.send_packets_elements is None
    assert args.remaining_elements == []


@pytest.mark.parametrize(
    ("elements", "match"),
    [
        (5, "must be a list of SendPacketsElement, not int"),
        ([SendPacketsElement(b"abc"), b"def"], r"send_packets_elements\[1\] must be"),
        ([None], r"send_packets_elements\[0\] must be a SendPacketsElement, not NoneType"),
    ],
)
def test_a_bad_list_changes_nothing(elements: Any, match: str) -> None:
    args = SocketAsyncEventArgs()
    args.send_packets_elements = before = [SendPacketsElement(b"abc")]
    with pytest.raises(TypeError, match=match):
        args.send_packets_elements = elements
    assert args.send_packets_elements is before


def test_closed_args_hold_nothing_and_take_nothing() -> None:
    args = SocketAsyncEventArgs()
    args.send_packets_elements = [SendPacketsElement(b"abc")]
    args.close()
    assert args.send_packets_elements is None
    assert args.remaining_elements == []
    with pytest.raises(ObjectDisposedError):
        args.send_packets_elements = []


def test_elements_stand_beside_a_buffer() -> None:
    args = SocketAsyncEventArgs(b"buffer", 1, 3)
    args.send_packets_elements = [SendPacketsElement(b"abc")]
    assert (args.buffer, args.offset, args.count) == (b"buffer", 1, 3)
    assert args.last_operation is SocketAsyncOperation.NONE


# The message ----------------------------------------------------------------------------------


def content(packets: Packets, start: int = 0) -> bytes:
    """What a message sends from a byte on."""
    return packets.peek(start, packets.size)


def test_ranges_of_files(path: Path) -> None:
    for arguments, expected in [
        ((), DATA),
        ((10,), DATA[10:]),
        ((0, 0), DATA),
        ((10, 20), DATA[10:30]),
        ((990, 10), DATA[990:]),
        ((1000,), b""),
    ]:
        packets = Packets([SendPacketsElement(path, *arguments)])
        assert packets.size == len(expected)
        assert content(packets) == expected
        packets.close()


@pytest.mark.fact("F299")
@pytest.mark.parametrize(
    ("offset", "count", "match"),
    [
        (1001, None, "offset is 1001, but '.*data' has 1000 bytes"),
        (1001, 1, "offset is 1001"),
        (5, 996, "count is 996, but '.*data' has 995 bytes from offset 5 on"),
    ],
)
def test_a_range_must_lie_in_the_file(
    path: Path, offset: int, count: int | None, match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        Packets([SendPacketsElement(path, offset, count)])


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    packets = Packets([SendPacketsElement(path)])
    assert packets.size == 0
    packets.close()
    with pytest.raises(ValueError, match="count is 1, but"):
        Packets([SendPacketsElement(path, 0, 1)])


@needs_unix
def test_a_named_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(ValueError, match="is a pipe or the like"):
        Packets([SendPacketsElement(path, 0, 5)])


def test_a_pipe_is_refused() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as file, open(writing, "wb"):
        with pytest.raises(ValueError, match="is a pipe or the like"):
            Packets([SendPacketsElement(file)])


@needs_unix
def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        Packets([SendPacketsElement(tmp_path)])


@pytest.mark.parametrize("name", ["/dev/zero", "/proc/self/cmdline"])
def test_a_file_of_unknown_length_needs_a_count(name: str) -> None:
    if not os.path.exists(name):
        pytest.skip(f"this system has no {name}")
    with pytest.raises(ValueError, match="does not say how long it is; give a count"):
        Packets([SendPacketsElement(name)])
    packets = Packets([SendPacketsElement(name, 2, 3)])
    with open(name, "rb") as file:
        assert content(packets) == file.read(5)[2:]
    packets.close()


@needs_proc
def test_if_one_file_cannot_be_opened_none_stays_open(path: Path) -> None:
    elements = [SendPacketsElement(path), SendPacketsElement(path.with_name("missing"))]
    with pytest.raises(FileNotFoundError):
        Packets(elements)
    assert times_open(path) == 0


@needs_proc
def test_a_file_that_is_named_twice_is_opened_once(path: Path) -> None:
    packets = Packets([SendPacketsElement(path, 0, 5), SendPacketsElement(str(path), 5, 5)])
    assert times_open(path) == 1
    assert content(packets) == DATA[:10]
    packets.close()
    packets.close()
    assert times_open(path) == 0


def test_an_open_file_is_left_as_it_is(path: Path) -> None:
    """Its position is neither used nor moved, and it is not closed."""
    with path.open("rb") as file:
        file.seek(500)
        packets = Packets([SendPacketsElement(file, 10, 20)])
        assert content(packets) == DATA[10:30]
        packets.close()
        assert file.tell() == 500
        assert file.read(5) == DATA[500:505]


def test_an_open_file_may_be_closed_meanwhile(path: Path) -> None:
    with path.open("rb") as file:
        packets = Packets([SendPacketsElement(file)])
    assert content(packets) == DATA
    packets.close()


def test_a_rest_of_buffers_can_be_viewed_and_one_of_files_cannot(path: Path) -> None:
    packets = Packets([SendPacketsElement(path, 0, 10), SendPacketsElement(b"abc")])
    assert [bytes(view) for view in packets.remaining(11)] == [b"bc"]
    assert packets.remaining(13) == []
    with pytest.raises(InvalidOperationError, match="the rest of this message lies in files"):
        packets.remaining(9)
    packets.close()


pieces = st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 9)), max_size=6)


@given(pieces, st.integers(0, 60))
def test_any_rest_is_what_is_behind(chosen: list[tuple[bool, int, int]], start: int) -> None:
    """Whatever buffers and ranges there are: the content from any byte on, and that of a rest, and of its rest."""
    with tempfile.TemporaryFile() as file:
        file.write(DATA)
        file.flush()
        elements = []
        expected = b""
        for is_file, offset, count in chosen:
            if is_file and count:
                elements.append(SendPacketsElement(file, offset, count))  # type: ignore[arg-type]
            else:
                elements.append(SendPacketsElement(DATA, offset, count))
            expected += DATA[offset : offset + count]
        packets = Packets(elements)
        start = min(start, len(expected))
        assert packets.size == len(expected)
        assert content(packets, start) == expected[start:]
        assert packets.peek(start, 3) == expected[start : start + 3]
        rest = Packets(packets.rest(start))
        assert content(rest) == expected[start:]
        again = Packets(rest.rest(min(3, rest.size)))
        assert content(again) == expected[start:][3:]
        for message in (packets, rest, again):
            message.close()


def test_what_cannot_be_read_any_more_is_left_out(path: Path) -> None:
    buffer = bytearray(b"abc")
    packets = Packets([SendPacketsElement(b"begin"), SendPacketsElement(buffer)])
    buffer.clear()
    assert content(packets) == b"begin"
    packets = Packets([SendPacketsElement(b"begin"), SendPacketsElement(path, 0, 10)])
    os.truncate(path, 5)
    assert content(packets) == b"begin" + DATA[:5]
    packets.close()
    assert content(packets) == b"begin"


@needs_unix
def test_a_descriptor_that_is_gone_already_does_no_harm(path: Path) -> None:
    """A disk, too, may have something to say when a file is closed, and nobody to say it to."""
    packets = Packets([SendPacketsElement(path)])
    (file,) = packets._files.values()
    os.close(file._raw.fileno())
    packets.close()
    packets.close()
