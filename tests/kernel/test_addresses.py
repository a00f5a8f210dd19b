"""Hold the check of addresses to what the standard library and the kernel make of them."""

from __future__ import annotations

import socket as stdlib_socket
import sys
from pathlib import PurePosixPath
from typing import Any

import pytest

from tests.helpers import needs_ipv6
from trio_send._kernel.addresses import numeric, require_numeric

INET = int(stdlib_socket.AF_INET)
INET6 = int(stdlib_socket.AF_INET6)
UNIX = int(stdlib_socket.AF_UNIX)


def require_destination(family: int, name: str, address: Any) -> Any:
    """Check an address as a send does on a socket that takes its own family only."""
    return require_numeric(family, None, name, address, "sending")


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (INET, ("127.0.0.1", 0)),
        (INET, ("127.0.0.1", 65535)),
        (INET, ("", 80)),
        (INET, ("<broadcast>", 80)),
        (INET6, ("::1", 80)),
        (INET6, ("", 80)),
        (INET6, ("::1", 80, 0x12345)),
        (INET6, ("fe80::1", 80, 0, 7)),
        (INET6, ("::ffff:127.0.0.1", 80)),
        (UNIX, b"/a/path"),
        (UNIX, b"\0abstract"),
        (int(getattr(stdlib_socket, "AF_NETLINK", 16)), (0, 0)),
    ],
)
def test_addresses_the_kernel_takes_as_they_are(family: int, address: Any) -> None:
    assert numeric(family, "address", address) == address
    assert require_destination(family, "address", address) == address


@pytest.mark.parametrize(
    ("family", "address", "expected"),
    [
        (INET, ("127.1", 80), ("127.0.0.1", 80)),
        (INET, ("0x7f.1", 80), ("127.0.0.1", 80)),
        (INET6, ("::1%1", 80), ("::1", 80, 0, 1)),
        (INET6, ("::1%1", 80, 5), ("::1", 80, 5)),
        (UNIX, "/a/p\u00e4th", "/a/p\u00e4th".encode()),
        (UNIX, "/a/\udcff", b"/a/\xff"),
        (UNIX, bytearray(b"/a/path"), b"/a/path"),
        (UNIX, PurePosixPath("/a/p\u00e4th"), "/a/p\u00e4th".encode()),
    ],
)
def test_other_notations_are_put_into_the_plain_one(
    family: int, address: Any, expected: Any
) -> None:
    found = numeric(family, "address", address)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("host", ["localhost", "nobody.example", "a..b", "x" * 300, "127.0.0.1\0"])
@pytest.mark.parametrize("family", [INET, INET6])
@pytest.mark.fact("F250")
def test_a_name_is_no_destination(family: int, host: str) -> None:
    """It is not looked up, not even if the answer is well known."""
    assert numeric(family, "address", (host, 80)) is None
    with pytest.raises(ValueError, match=r"^somewhere has the host '.*', but must have an IPv[46]"):
        require_destination(family, "somewhere", (host, 80))


@pytest.mark.parametrize(("family", "host"), [(INET, "::1"), (INET6, "127.0.0.1")])
def test_an_address_of_another_family_is_no_destination(family: int, host: str) -> None:
    with pytest.raises(ValueError, match=r"^somewhere has the host .*, but must have an IPv[46]"):
        require_destination(family, "somewhere", (host, 80))


@needs_ipv6
@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "::ffff:127.0.0.1"),
        ("127.1", "::ffff:127.0.0.1"),
        ("0.0.0.0", "::ffff:0.0.0.0"),
        ("<broadcast>", "::ffff:255.255.255.255"),
        ("::1", None),
        ("", None),
    ],
)
def test_an_ipv6_socket_may_take_ipv4_addresses(host: str, expected: str | None) -> None:
    """Then they are written as IPv6 ones; otherwise they are no destination."""
    with stdlib_socket.socket(INET6) as sock:
        sock.setsockopt(stdlib_socket.IPPROTO_IPV6, stdlib_socket.IPV6_V6ONLY, 0)
        for address in ((host, 80), (host, 80, 0, 0)):
            found = require_numeric(INET6, sock, "somewhere", address, "sending")
            assert found == (address if expected is None else (expected, 80, 0, 0))
        with pytest.raises(ValueError, match=r"^somewhere has the host 'localhost', but must have"):
            require_numeric(INET6, sock, "somewhere", ("localhost", 80), "sending")
        sock.setsockopt(stdlib_socket.IPPROTO_IPV6, stdlib_socket.IPV6_V6ONLY, 1)
        if expected is not None:
            with pytest.raises(ValueError, match=r"^somewhere has the host .*, but must have an "):
                require_numeric(INET6, sock, "somewhere", (host, 80), "sending")


@pytest.mark.parametrize(
    ("family", "address"),
    [
        (INET, "127.0.0.1"),
        (INET, ["127.0.0.1", 80]),
        (INET, ("127.0.0.1",)),
        (INET, ("127.0.0.1", "80")),
        (INET, ("127.0.0.1", 80.0)),
        (INET, ("127.0.0.1", 80, 0)),
        (INET, (None, 80)),
        (INET, (b"127.0.0.1", 80)),
        (INET, (0x7F000001, 80)),
        (INET6, ("::1", 80, "0")),
        (INET6, ("::1", 80, 0, None)),
        (INET6, ("::1", 80, 0, 0, 0)),
        (UNIX, ("127.0.0.1", 80)),
        (UNIX, 7),
    ],
)
def test_wrong_shapes_are_refused_by_name(family: int, address: Any) -> None:
    for check in (numeric, require_destination):
        with pytest.raises(TypeError, match=r"^somewhere must be "):
            check(family, "somewhere", address)


@pytest.mark.parametrize(
    ("family", "address", "what"),
    [
        (INET, ("127.0.0.1", -1), "port -1,"),
        (INET, ("127.0.0.1", 65536), "port 65536,"),
        (INET6, ("::1", 80, -1), "flow label -1,"),
        (INET6, ("::1", 80, 0x100000), "flow label 1048576,"),
        (INET6, ("::1", 80, 0, -1), "scope -1,"),
        (INET6, ("::1", 80, 0, 2**32), "scope 4294967296,"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(family: int, address: Any, what: str) -> None:
    for check in (numeric, require_destination):
        with pytest.raises(ValueError, match=f"^somewhere has the {what}"):
            check(family, "somewhere", address)


@needs_ipv6
def test_the_ranges_are_those_of_the_standard_library() -> None:
    with stdlib_socket.socket(INET6, stdlib_socket.SOCK_DGRAM) as sock:
        for bad in (("::1", 9, 0x100000), ("::1", 65536)):
            with pytest.raises((OverflowError, ValueError)):
                sock.sendto(b"", bad)
        assert sock.sendto(b"", ("::1", 9, 0xFFFFF)) == 0


@pytest.mark.parametrize(
    "prefix",
    [b"/", pytest.param(b"\0", marks=pytest.mark.skipif(sys.platform != "linux", reason="none"))],
)
def test_paths_are_as_long_as_the_standard_library_lets_them_be(prefix: bytes) -> None:
    """A path needs room for a zero behind it, an abstract name has it in front."""
    longest = 0
    with stdlib_socket.socket(UNIX, stdlib_socket.SOCK_DGRAM) as sock:
        for size in range(90, 130):
            path = prefix + b"x" * (size - 1)
            try:
                sock.sendto(b"", path)
            except (FileNotFoundError, ConnectionRefusedError):
                pass  # the kernel was asked
            except OSError:
                with pytest.raises(ValueError, match=f"^somewhere is a path of {size} bytes"):
                    require_destination(UNIX, "somewhere", path)
                continue
            assert require_destination(UNIX, "somewhere", path) == path
            longest = size
    assert 90 < longest < 129


def test_text_that_is_no_path_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^somewhere is no path: "):
        require_destination(UNIX, "somewhere", "\ud800")
