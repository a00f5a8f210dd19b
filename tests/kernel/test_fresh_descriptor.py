"""Hold a fresh descriptor to being what the one was whose place it takes.

Modules: _kernel.carried_options.
"""

from __future__ import annotations

import errno
import os
import re
import socket as stdlib_socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from tests.helpers import needs_ipv6
from trio_send._kernel import carried_options
from trio_send._kernel.fresh_descriptor import describe_untried, renew

INET, INET6 = stdlib_socket.AF_INET, stdlib_socket.AF_INET6
SOL_SOCKET, TCP = stdlib_socket.SOL_SOCKET, stdlib_socket.IPPROTO_TCP
IP, IPV6 = stdlib_socket.IPPROTO_IP, stdlib_socket.IPPROTO_IPV6

resource = pytest.importorskip("resource")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such call")

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux's options")

HOSTS = {INET: "127.0.0.1", INET6: "::1"}

every_family = pytest.mark.parametrize(
    "family", [INET, pytest.param(INET6, marks=needs_ipv6)], ids=["IPv4", "IPv6"]
)


def refused(sock: stdlib_socket.socket) -> None:
    """Have a socket try to connect in vain."""
    with stdlib_socket.socket(sock.family) as deaf:
        deaf.bind((HOSTS[INET6 if sock.family == INET6 else INET], 0))
        with pytest.raises(ConnectionRefusedError):
            sock.connect(deaf.getsockname())


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let no descriptor be made."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@every_family
@pytest.mark.parametrize("inheritable", [False, True])
def test_it_is_another_descriptor_under_the_same_number(family: int, inheritable: bool) -> None:
    with stdlib_socket.socket(family) as sock:
        sock.set_inheritable(inheritable)
        number, inode = sock.fileno(), os.fstat(sock.fileno()).st_ino
        untried = describe_untried(sock)
        refused(sock)
        renew(sock, untried)
        assert sock.fileno() == number
        assert os.fstat(number).st_ino != inode
        assert sock.get_inheritable() is inheritable
        assert not os.get_blocking(number)
        assert describe_untried(sock) == untried


@every_family
def test_what_was_set_is_carried_and_nothing_else_is_set(family: int) -> None:
    """Among it an option that the kernel forgets with a failed attempt, and those that have effects on others."""
    chosen = [
        (SOL_SOCKET, stdlib_socket.SO_KEEPALIVE, struct.pack("i", 1)),
        (SOL_SOCKET, stdlib_socket.SO_LINGER, struct.pack("ii", 1, 7)),
        (SOL_SOCKET, stdlib_socket.SO_OOBINLINE, struct.pack("i", 1)),
        (TCP, stdlib_socket.TCP_NODELAY, struct.pack("i", 1)),
    ]
    if sys.platform == "linux":
        chosen += [
            (SOL_SOCKET, stdlib_socket.SO_SNDBUF, struct.pack("i", 30_000)),
            (SOL_SOCKET, stdlib_socket.SO_PRIORITY, struct.pack("i", 5)),
            (SOL_SOCKET, stdlib_socket.SO_BINDTODEVICE, b"lo\0"),
            (TCP, stdlib_socket.TCP_MAXSEG, struct.pack("i", 1000)),
            (TCP, stdlib_socket.TCP_CONGESTION, b"reno"),
            (TCP, stdlib_socket.TCP_USER_TIMEOUT, struct.pack("i", 9000)),
            (IP, stdlib_socket.IP_TOS, struct.pack("i", 16)),
        ]
        if family == INET6:
            chosen += [
                (IPV6, stdlib_socket.IPV6_V6ONLY, struct.pack("i", 1)),
                (IPV6, stdlib_socket.IPV6_TCLASS, struct.pack("i", 32)),
            ]
    with stdlib_socket.socket(family) as sock, stdlib_socket.socket(family) as other:
        for level, number, value in chosen:
            sock.setsockopt(level, number, value)
        before = [sock.getsockopt(level, number, 64) for level, number, _ in chosen]
        untouched = [other.getsockopt(level, number, 64) for level, number, _ in chosen]
        assert all(one != two for one, two in zip(before, untouched, strict=True))
        for each in (sock, other):
            untried = describe_untried(each)
            refused(each)
            renew(each, untried)
        assert [sock.getsockopt(level, number, 64) for level, number, _ in chosen] == before
        assert [other.getsockopt(level, number, 64) for level, number, _ in chosen] == untouched
        if sys.platform == "linux":
            buf_lock = 72  # whether the sizes of the buffers were set
            assert sock.getsockopt(SOL_SOCKET, buf_lock) == 1
            assert other.getsockopt(SOL_SOCKET, buf_lock) == 0


@needs_ipv6
@needs_linux
def test_an_attempt_at_a_device_binds_nothing_to_it() -> None:
    """The kernel does so on the socket that has tried, and from there no other address could be reached."""
    with stdlib_socket.socket(INET6) as sock:
        untried = describe_untried(sock)
        device = stdlib_socket.if_nametoindex("lo")
        with pytest.raises(OSError):  # noqa: PT011
            sock.connect(("fe80::7", 9, 0, device))
        assert sock.getsockopt(SOL_SOCKET, stdlib_socket.SO_BINDTODEVICE, 16)
        renew(sock, untried)
        assert sock.getsockopt(SOL_SOCKET, stdlib_socket.SO_BINDTODEVICE, 16) == b""


@needs_linux
def test_an_option_that_cannot_be_set_any_more_is_not_lost_without_a_word() -> None:
    """The socket is as it was then. A device that has gone cannot be bound to, for example."""
    with stdlib_socket.socket() as sock:
        untried = describe_untried(sock)
        inode = os.fstat(sock.fileno()).st_ino
        gone = {(SOL_SOCKET, stdlib_socket.SO_BINDTODEVICE): b"nodevice7\0"}
        with pytest.raises(OSError) as caught:  # noqa: PT011
            renew(sock, untried._replace(options=gone))
        assert caught.value.errno == errno.ENODEV
        assert os.fstat(sock.fileno()).st_ino == inode


@every_family
@pytest.mark.parametrize("shared", [0, 1])
def test_the_own_address_is_carried(family: int, shared: int) -> None:
    """With the option that lets others have it as it was, and also if a duplicate goes on holding the address."""
    with stdlib_socket.socket(family) as sock:
        sock.setsockopt(SOL_SOCKET, stdlib_socket.SO_REUSEADDR, shared)
        sock.bind((HOSTS[family], 0))
        address = sock.getsockname()
        untried = describe_untried(sock)
        assert untried.address == address
        refused(sock)
        with sock.dup():
            renew(sock, untried)
            assert sock.getsockname() == address
            assert bool(sock.getsockopt(SOL_SOCKET, stdlib_socket.SO_REUSEADDR)) is bool(shared)


def test_what_was_not_bound_is_not_bound_by_an_attempt() -> None:
    with stdlib_socket.socket() as sock:
        untried = describe_untried(sock)
        refused(sock)
        renew(sock, untried)
        assert sock.getsockname() == ("0.0.0.0", 0)


def test_without_a_descriptor_all_stays_as_it_was() -> None:
    with stdlib_socket.socket() as sock:
        untried = describe_untried(sock)
        inode = os.fstat(sock.fileno()).st_ino
        with no_descriptors(), pytest.raises(OSError) as caught:  # noqa: PT011
            renew(sock, untried)
        assert caught.value.errno == errno.EMFILE
        assert os.fstat(sock.fileno()).st_ino == inode


async def test_who_waits_for_the_old_one_is_woken() -> None:
    """It would wait for ever, for the kernel tells nobody that a number stands for something else."""
    woken: list[str] = []
    with stdlib_socket.socket() as sock, stdlib_socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        sock.setblocking(False)
        untried = describe_untried(sock)
        sock.connect_ex(listener.getsockname())

        async def wait() -> None:
            try:
                await trio.lowlevel.wait_readable(sock)
            except trio.ClosedResourceError:
                woken.append("closed")

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                renew(sock, untried)
        assert woken == ["closed"]
        assert sock.connect_ex(listener.getsockname()) == errno.EINPROGRESS
        with trio.fail_after(60):
            await trio.lowlevel.wait_writable(sock)
        assert sock.getpeername() == listener.getsockname()


def test_the_page_names_every_option_that_is_carried() -> None:
    """And no other."""
    page = (Path(__file__).parents[2] / "docs" / "explanations" / "addresses.rst").read_text(
        "utf-8"
    )
    names = page.partition("On Linux these are:")[2].partition("On other systems")[0]
    listed = re.findall(r"``(\w+)``", names)
    tables = [table for name, table in vars(carried_options).items() if name.endswith("_OPTIONS")]
    known = [name for table in tables for name, number in table.items() if number is not None]
    assert len(tables) == 6
    assert sorted(listed) == sorted(known)
    for table in tables:
        for name, number in table.items():
            assert sys.platform != "linux" or getattr(stdlib_socket, name, number) == number
