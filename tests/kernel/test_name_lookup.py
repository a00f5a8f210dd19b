"""Hold the way from a name to addresses to what it says. No name server is asked."""

from __future__ import annotations

import socket as stdlib_socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.connections import Resolver
from tests.helpers import needs_ipv6
from trio_send import SocketError, SocketException
from trio_send._kernel.addresses import find_other_family, takes_ipv4
from trio_send._kernel.name_lookup import look_up

INET, INET6 = stdlib_socket.AF_INET, stdlib_socket.AF_INET6


@contextmanager
def plain(family: int, *, only: bool = False) -> Iterator[stdlib_socket.socket]:
    """A plain socket; an IPv6 one takes IPv4 addresses too, unless it is to take its own only."""
    with stdlib_socket.socket(family) as sock:
        if family == INET6:
            sock.setsockopt(stdlib_socket.IPPROTO_IPV6, stdlib_socket.IPV6_V6ONLY, only)
        yield sock


def mixed() -> Resolver:
    """A name with addresses of both families."""
    resolver = Resolver([])
    resolver.entries = [
        (INET6, stdlib_socket.SOCK_STREAM, 0, "", ("::1", 80, 0, 0)),
        (INET, stdlib_socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80)),
    ]
    return resolver


async def test_addresses_of_other_families_are_left_out() -> None:
    """A resolver of one's own need not look at what it was asked for."""
    mixed()
    with plain(INET) as sock:
        assert await look_up(sock, "both.example", 80) == [("127.0.0.1", 80)]


@needs_ipv6
@pytest.mark.parametrize("only", [False, True])
async def test_an_ipv6_socket_takes_ipv4_addresses_unless_told_otherwise(only: bool) -> None:
    """Mapped, and in the order in which they were found."""
    mixed()
    with plain(INET6, only=only) as sock:
        assert takes_ipv4(sock) is not only
        expected = [("::1", 80, 0, 0)] + [("::ffff:127.0.0.1", 80, 0, 0)] * (not only)
        assert await look_up(sock, "both.example", 80) == expected


async def test_what_is_found_twice_is_tried_once() -> None:
    """A file of hosts may name an address in two lines; to wait for it twice would be in vain."""
    one, two = ("127.0.0.2", 80), ("127.0.0.1", 80)
    Resolver([one, two, one])
    with plain(INET) as sock:
        assert await look_up(sock, "twice.example", 80) == [one, two]


@needs_ipv6
async def test_a_name_without_an_address_of_the_family() -> None:
    resolver = mixed()
    del resolver.entries[1]
    with plain(INET) as sock:
        with pytest.raises(SocketException, match=r"'six\.example' has no address") as caught:
            await look_up(sock, "six.example", 80)
    assert caught.value.socket_error_code is SocketError.NO_DATA


@needs_ipv6
def test_hosts_of_the_other_family() -> None:
    with plain(INET) as sock:
        assert find_other_family(sock, ("::1", 80)) == []
        assert find_other_family(sock, ("some.example", 80)) is None
        assert find_other_family(sock, ("nul\0.example", 80)) is None
    with plain(INET6) as sock:
        assert find_other_family(sock, ("127.0.0.1", 80)) == [("::ffff:127.0.0.1", 80, 0, 0)]
        assert find_other_family(sock, ("some.example", 80)) is None
    with plain(INET6, only=True) as sock:
        assert find_other_family(sock, ("127.0.0.1", 80)) == []


def test_other_kinds_of_socket_take_no_ipv4_addresses() -> None:
    with plain(stdlib_socket.AF_UNIX) as sock:
        assert not takes_ipv4(sock)
    with plain(INET) as sock:
        assert not takes_ipv4(sock)
