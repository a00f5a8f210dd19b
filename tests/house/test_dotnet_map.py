"""Hold the page on .NET's members to the package, and show what stands for those that are left out."""

from __future__ import annotations

import socket as stdlib_socket
import struct
import sys
from pathlib import Path

import pytest
import trio

import trio_send
from tests.dotnet_map import ROOT, faults, find, main, read, row_faults, snake
from trio_send import (
    InvalidOperationError,
    ManualResetEvent,
    Socket,
    SocketAsyncEventArgs,
    SocketError,
    open_initiator,
    open_tcp_listeners,
    socketpair,
)

SECTIONS = read((ROOT / "docs" / "dotnet_map.toml").read_text("utf-8"))
ROWS = [(section, row) for section in SECTIONS for row in section.rows]


# The page -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "row"), ROWS, ids=[", ".join(row.net or row.here) for _, row in ROWS]
)
def test_each_row_is_so(section: object, row: object) -> None:
    facts = {f"F{number}" for number in range(1000)}
    assert list(row_faults(section, row, facts)) == []  # type: ignore[arg-type]


def test_differences_have_their_rows_and_nothing_is_left_out() -> None:
    assert faults(ROOT) == []


def test_the_page_is_up_to_date() -> None:
    assert main(["--check"]) == 0, "run: python -m tests.dotnet_map"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("AcceptAsync(SAEA)", "accept_async"),
        ("IsCompleted", "is_completed"),
        ("IOControl", "io_control"),
        ("OSSupportsIPv6", "os_supports_i_pv6"),
        ("Ttl", "ttl"),
    ],
)
def test_names_are_spelled_as_in_python(name: str, expected: str) -> None:
    assert snake(name) == expected


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('here = ["Socket.bind"]', 'here = ["Socket.bound"]', "trio_send has no Socket.bound"),
        ('here = ["Socket.bind"]', 'here = ["Socket.listen"]', "Bind is not there by the same"),
        ('here = ["Socket.bind"]', "here = []", "does not say what is here"),
        ('net = ["Poll", "Select"]', 'net = ["Accept"]', "Accept is there"),
        (
            'fact = "F306", instead = ["trio.Sem',
            'fact = "F999", instead = ["trio.Sem',
            "F999 is no",
        ),
        ('"trio.CapacityLimiter"', '"trio.Capacity"', "there is no trio.Capacity"),
        ('net = ["Bind"], is = "same"', 'net = ["Bind"], is = "like"', "'like' is none of"),
        ('here = ["SendPacketsElement.copy"]', 'here = ["connect_tcp"]', "Element.copy is not on"),
    ],
)
def test_the_checker_bites(tmp_path: Path, old: str, new: str, fault: str) -> None:
    (tmp_path / "docs").mkdir()
    for name in ("dotnet_map.toml", "conformance.toml"):
        text = (ROOT / "docs" / name).read_text("utf-8")
        if name == "dotnet_map.toml":
            assert text.count(old) == 1
            text = text.replace(old, new)
        (tmp_path / "docs" / name).write_text(text, "utf-8")
    assert fault in "\n".join(faults(tmp_path))
    assert main([], tmp_path) == 1


# What stands for what is left out -----------------------------------------------------------------


@pytest.mark.fact("F300")
async def test_a_disconnect_and_files_tell_handlers(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a file")
    ours, peer = socketpair()
    async with peer, open_initiator():
        told: list[trio_send.SocketAsyncOperation] = []
        args = SocketAsyncEventArgs()
        args.completed += lambda socket, args: told.append(args.last_operation)
        args.send_packets_elements = [trio_send.SendPacketsElement(str(tmp_path / "file"))]
        if ours.send_packets_async(args):
            await args.wait()
        assert await peer.receive() == b"a file"
        args.send_packets_elements = None
        if ours.disconnect_async(args):
            await args.wait()
        assert await peer.receive() == b""
    ours.close()
    for absent in ("begin_disconnect", "begin_send_file"):
        assert not hasattr(Socket, absent)


@pytest.mark.fact("F301")
async def test_each_accept_makes_its_socket() -> None:
    [listener] = await open_tcp_listeners(0, host="127.0.0.1")
    async with listener, open_initiator(), Socket() as mine:
        args = SocketAsyncEventArgs()
        args.accept_socket = mine
        with pytest.raises(InvalidOperationError, match="each accept makes a socket of its own"):
            listener.socket.accept_async(args)


@pytest.mark.fact("F302")
async def test_a_client_a_listener_and_a_stream_without_classes_of_their_own() -> None:
    [listener] = await open_tcp_listeners(0, host="127.0.0.1")
    assert isinstance(listener, trio.abc.Listener)
    async with listener, await trio_send.connect_tcp(*listener.socket.local_end_point) as client:
        stream = await listener.accept()
        assert isinstance(stream, trio.abc.HalfCloseableStream)
        async with stream:
            await client.send(b"hello")
            assert await stream.receive_some() == b"hello"
    async with Socket(type=stdlib_socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        await one.send_to(b"datagram", one.local_end_point)
        assert (await one.receive_from()).data == b"datagram"


@pytest.mark.fact("F303", "F305", "F307")
@pytest.mark.skipif(sys.platform == "win32", reason="the group's option has another form there")
async def test_numbers_are_pythons_and_options_go_by_them() -> None:
    async with Socket(stdlib_socket.AF_INET, stdlib_socket.SOCK_DGRAM) as socket:
        assert socket.family == stdlib_socket.AF_INET
        group = struct.pack(
            "4s4s", stdlib_socket.inet_aton("224.0.0.251"), stdlib_socket.inet_aton("127.0.0.1")
        )
        socket.setsockopt(stdlib_socket.IPPROTO_IP, stdlib_socket.IP_ADD_MEMBERSHIP, group)
        socket.setsockopt(stdlib_socket.IPPROTO_IP, stdlib_socket.IP_DROP_MEMBERSHIP, group)
        assert socket.fileno() >= 0


@pytest.mark.fact("F304")
async def test_a_state_is_asked_for_elsewhere() -> None:
    ours, peer = socketpair()
    async with ours, peer, Socket() as fresh:
        assert not ours.trio.is_readable()
        await peer.send(b"x")
        await trio.lowlevel.wait_readable(ours.fileno())
        assert ours.trio.is_readable()
        fresh.bind(("127.0.0.1", 0))
        assert fresh.local_end_point[1] != 0


@pytest.mark.fact("F306")
async def test_the_first_of_two_flags_and_both() -> None:
    flags = [ManualResetEvent(), ManualResetEvent()]
    passed: list[int] = []

    async def wait(number: int, scope: trio.CancelScope) -> None:
        assert await flags[number].wait_one()
        passed.append(number)
        scope.cancel()

    async with trio.open_nursery() as nursery:
        for number in range(2):
            nursery.start_soon(wait, number, nursery.cancel_scope)
        flags[1].set()
    assert passed == [1]


@pytest.mark.fact("F308")
async def test_a_limit_is_an_operations(autojump_clock: trio.testing.MockClock) -> None:
    ours, peer = socketpair()
    async with ours, peer, open_initiator():
        args = SocketAsyncEventArgs(bytearray(1))
        args.timeout = 5
        assert ours.receive_async(args)
        await args.wait()
        assert args.socket_error is SocketError.TIMED_OUT
        with trio.move_on_after(5) as scope:
            await ours.receive()
        assert scope.cancelled_caught
    assert find("Socket.receive")
