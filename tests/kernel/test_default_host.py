"""Hold the default remote host to being any host, whatever it was before."""

from __future__ import annotations

import errno
import socket as stdlib_socket
import sys
from contextlib import ExitStack
from typing import Any

import pytest

from tests.datagrams import receiver
from tests.helpers import needs_ipv6, stack as stack
from trio_send._kernel.default_host import _fits, set_default_host

INET, INET6 = stdlib_socket.AF_INET, stdlib_socket.AF_INET6
DGRAM = stdlib_socket.SOCK_DGRAM

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does it")

#: For documentation, and routed nowhere. To make it the default host sends nothing.
OUTSIDE = ("192.0.2.7", 9)


def sender(family: int, stack: ExitStack) -> stdlib_socket.socket:
    sock = stack.enter_context(stdlib_socket.socket(family, DGRAM))
    sock.settimeout(10)
    return sock


def mapped(address: Any) -> Any:
    return f"::ffff:{address[0]}", address[1], 0, 0


def exchange(sock: stdlib_socket.socket, peer: stdlib_socket.socket) -> None:
    """Send something there and have it answered."""
    peer.settimeout(10)
    sock.send(b"question")
    question, sender = peer.recvfrom(100)
    assert question == b"question"
    peer.sendto(b"answer", sender)
    assert sock.recv(100) == b"answer"


@needs_ipv6
@pytest.mark.parametrize("first", [INET, INET6])
def test_both_families_in_turn(first: int, stack: ExitStack) -> None:
    """And the answers come. In one direction the kernel refuses, in the other the answers would be lost."""
    sock = sender(INET6, stack)
    peers = [stack.enter_context(receiver(family)) for family in (INET, INET6)]
    if first == INET6:
        peers.reverse()
    ports = set()
    for peer in peers * 2:
        address = peer.getsockname()
        set_default_host(sock, mapped(address) if peer.family == INET else address)
        exchange(sock, peer)
        ports.add(sock.getsockname()[1])
    assert len(ports) == 1


@pytest.mark.parametrize(
    ("own", "peer", "fits"),
    [
        ("127.0.0.1", "127.0.0.2", True),
        ("::1", "::1", True),
        ("fd00::2", "::1", True),
        ("fd00::2", "fd00::9", True),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.2", True),
        ("::1", "fd00::9", False),
        ("::1", "::ffff:127.0.0.1", False),
        ("fd00::2", "::ffff:127.0.0.1", False),
        ("::ffff:127.0.0.1", "fd00::9", False),
    ],
)
def test_from_which_own_address_a_peer_is_answered(own: str, peer: str, fits: bool) -> None:
    """The kernel takes each of these pairs, but of some the answers are lost."""
    assert _fits(own, peer) is fits


@needs_linux
@pytest.mark.parametrize("bound", [None, ("", 0)])
def test_from_loopback_to_the_world_and_back(bound: Any, stack: ExitStack) -> None:
    """The port stays, and what has arrived before can still be read."""
    near = stack.enter_context(receiver())
    sock = sender(INET, stack)
    if bound is not None:
        sock.bind(bound)
    set_default_host(sock, near.getsockname())
    port = sock.getsockname()[1]
    near.sendto(b"early", sock.getsockname())
    try:
        set_default_host(sock, OUTSIDE)
    except OSError:  # this machine has no network
        assert sock.getpeername() == near.getsockname()
    else:
        assert sock.getpeername() == OUTSIDE
    assert sock.getsockname()[1] == port
    set_default_host(sock, near.getsockname())
    assert sock.recv(100) == b"early"
    exchange(sock, near)


@needs_linux
def test_an_own_address_that_was_chosen_is_kept(stack: ExitStack) -> None:
    """From which the world cannot be reached; so the former default host stays, and the port."""
    near = stack.enter_context(receiver())
    sock = sender(INET, stack)
    sock.bind(("127.0.0.1", 0))
    address = sock.getsockname()
    set_default_host(sock, near.getsockname())
    with pytest.raises(OSError) as caught:  # noqa: PT011
        set_default_host(sock, OUTSIDE)
    assert caught.value.errno == errno.EINVAL
    assert sock.getsockname() == address
    exchange(sock, near)


@needs_ipv6
@needs_linux
def test_the_device_is_kept(stack: ExitStack) -> None:
    """Dissolving takes it back."""
    sock = sender(INET6, stack)
    sock.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_BINDTODEVICE, b"lo\0")
    four, six = (stack.enter_context(receiver(family)) for family in (INET, INET6))
    set_default_host(sock, mapped(four.getsockname()))
    set_default_host(sock, six.getsockname())
    device = sock.getsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_BINDTODEVICE, 16)
    assert device.rstrip(b"\0") == b"lo"
    exchange(sock, six)


@needs_linux
def test_what_has_nothing_to_do_with_the_own_address_dissolves_nothing(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = stack.enter_context(receiver())
    sock = sender(INET, stack)
    set_default_host(sock, near.getsockname())
    monkeypatch.setattr("trio_send._kernel.default_host._dissolve", None)
    with pytest.raises(PermissionError):
        set_default_host(sock, ("127.255.255.255", 9))  # a broadcast, which has to be allowed
    other = stack.enter_context(receiver())
    set_default_host(sock, other.getsockname())
    exchange(sock, other)
