"""What people write on the command line, and what is shown to them: addresses, sizes, numbers, times.

Modules: _cli.addresses.
"""

from __future__ import annotations

import argparse
import ipaddress
import re

import pytest
from hypothesis import given, strategies as st

from trio_send._cli.addresses import (
    MAX_UNIX_PATH,
    InternetAddress,
    UnixAddress,
    parse_address,
    parse_peer,
    show_end_point,
)
from trio_send._cli.values import (
    MAX_SIZE,
    UNITS,
    parse_count,
    parse_positive_size,
    parse_rate,
    parse_seconds,
    parse_size,
    show_bytes,
    show_seconds,
    show_size,
)

PORTS = st.integers(0, 65535)
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z][a-z0-9-]{0,20}){0,3}", fullmatch=True)


def sentence_of(error: BaseException) -> str:
    """The complaint, which must be one clear sentence without an end of its own."""
    text = str(error)
    assert text
    assert "\n" not in text
    assert not text.endswith(".")
    return text


# Addresses ------------------------------------------------------------------------------------


@given(NAMES, PORTS)
def test_a_name_and_a_port(host: str, port: int) -> None:
    address = parse_address(f"{host}:{port}")
    assert address == InternetAddress(host, port)
    assert str(address) == f"{host}:{port}"


@given(st.ip_addresses(v=4), PORTS)
def test_ipv4_and_a_port(host: ipaddress.IPv4Address, port: int) -> None:
    assert parse_address(f"{host}:{port}") == InternetAddress(str(host), port)


@given(st.ip_addresses(v=6), PORTS)
def test_ipv6_in_brackets_and_a_port(host: ipaddress.IPv6Address, port: int) -> None:
    address = parse_address(f"[{host}]:{port}")
    assert address == InternetAddress(str(host), port)
    assert parse_address(str(address)) == address


@given(
    st.text(
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=25
    )
)
def test_a_unix_path_may_hold_anything(path: str) -> None:
    address = parse_address(f"unix:{path}")
    assert address == UnixAddress(path)
    assert str(address) == f"unix:{path}"


@given(st.text())
def test_any_other_text_gets_one_sentence(text: str) -> None:
    complaint = ""
    try:
        address = parse_address(text)
    except argparse.ArgumentTypeError as error:
        complaint = sentence_of(error)
    else:
        assert parse_address(str(address)) == address
    assert not complaint or repr(text) in complaint


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no port"),
        ("localhost", "no port"),
        ("127.0.0.1", "no port"),
        (":80", "no host"),
        ("localhost:", "the port ''"),
        ("localhost:http", "the port 'http'"),
        ("localhost:-1", "the port '-1'"),
        ("localhost:+1", "the port '+1'"),
        ("localhost:65536", "the port '65536'"),
        ("localhost:٣", "the port"),
        ("localhost:80 ", "the port '80 '"),
        ("my host:80", "' ' in its host"),
        ("user@host:80", "'@' in its host"),
        ("http://host:80", "a slash in its host"),
        ("host/x:80", "a slash in its host"),
        ("::1:80", "too many colons"),
        ("a:b:80", "too many colons"),
        ("256.0.0.1:80", "neither a name nor an IPv4 address"),
        ("1.2.3:80", "neither a name nor an IPv4 address"),
        ("[::1]", "no port behind its brackets"),
        ("[::1]80", "no port behind its brackets"),
        ("[::1]:", "the port ''"),
        ("[::1:80", "no closing bracket"),
        ("[localhost]:80", "something else than an IPv6 address"),
        ("[127.0.0.1]:80", "something else than an IPv6 address"),
        ("[]:80", "something else than an IPv6 address"),
        ("unix:", "no path"),
        ("unix:a\0b", "a null character"),
        ("unix:" + "x" * (MAX_UNIX_PATH + 1), "too long a path"),
        ("unix:" + "ä" * MAX_UNIX_PATH, "too long a path"),
    ],
)
def test_bad_addresses(text: str, complaint: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        parse_address(text)
    assert complaint in sentence_of(caught.value)


def test_an_ipv6_zone_is_kept() -> None:
    assert parse_address("[fe80::1%eth0]:80") == InternetAddress("fe80::1%eth0", 80)


def test_nobody_can_be_reached_at_port_0() -> None:
    assert parse_address("localhost:0") == InternetAddress("localhost", 0)
    with pytest.raises(argparse.ArgumentTypeError, match="the port 0"):
        parse_peer("localhost:0")
    assert parse_peer("localhost:1") == InternetAddress("localhost", 1)
    assert parse_peer("unix:x") == UnixAddress("x")


def test_end_points_are_shown_as_they_are_written() -> None:
    assert show_end_point(("127.0.0.1", 80)) == "127.0.0.1:80"
    assert show_end_point(("::1", 80, 0, 0)) == "[::1]:80"
    assert show_end_point("/tmp/x") == "unix:/tmp/x"
    assert show_end_point("") == ""
    assert show_end_point(b"\0abstract") == "unix:@abstract"


# Sizes ----------------------------------------------------------------------------------------


@given(st.integers(0, 2**20), st.sampled_from(sorted(UNITS)), st.booleans(), st.integers(0, 3))
def test_sizes(number: int, unit: str, lower: bool, zeros: int) -> None:
    text = "0" * zeros + f"{number}{unit}"
    assert parse_size(text.lower() if lower else text) == number * UNITS[unit]


@given(st.text())
def test_any_other_text_is_a_size_or_gets_one_sentence(text: str) -> None:
    try:
        size = parse_size(text)
    except argparse.ArgumentTypeError as error:
        sentence_of(error)
    else:
        assert re.fullmatch(r"[0-9]+( ?(B|BYTES?))?|[0-9.]+ ?[KMGT](IB)?", text.upper())
        assert 0 <= size <= MAX_SIZE


@pytest.mark.parametrize(
    "text",
    [
        *("", "K", "-1", "+1", "1.5", "1.5 B", ".5K", "1.K", "1,5M", "1  K", " 1", "1KB", "1P"),
        *("1i", "0x10", "1_000", "٣", "1K\n", "1 byt", "1K/s"),
    ],
)
def test_bad_sizes(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["9" * 19, "9" * 5000, f"{2**63}", f"{2**33}G"])
def test_sizes_beyond_all_files(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="too large a size") as caught:
        parse_size(text)
    assert len(sentence_of(caught.value)) < 120
    assert parse_size(str(MAX_SIZE)) == MAX_SIZE


@given(st.integers(0, 2**62), st.booleans())
def test_sizes_are_read_as_they_are_shown(size: int, spaced: bool) -> None:
    for shown in (show_size(size), show_bytes(size)):
        text = shown if spaced else shown.replace(" ", "")
        # One digit behind the point is what is shown of it.
        assert parse_size(text) == pytest.approx(size, rel=0.05)
        assert show_size(parse_size(text)) == show_size(size)
    assert parse_size(show_bytes(size)) == size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64KiB", 65536),
        ("1.5M", 1572864),
        ("1.5 mib", 1572864),
        ("0.1K", 102),
        ("1 byte", 1),
        ("20bytes", 20),
        ("7 B", 7),
        (f"0.{'9' * 5000}K", 1023),
        ("8388607.9T", 2**63 - 2**40 + 2**40 * 9 // 10),
    ],
)
def test_sizes_in_other_words(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_rates_are_read_as_they_are_shown() -> None:
    assert parse_rate("64K") == parse_rate("64 KiB/s") == 65536
    for text, why in (("64K/s/s", "is not a size"), ("0 B/s", "at least 1 byte")):
        with pytest.raises(argparse.ArgumentTypeError, match=why):
            parse_rate(text)


def test_some_sizes_must_not_be_0() -> None:
    assert parse_positive_size("1") == 1
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1 byte"):
        parse_positive_size("0K")


@given(st.floats(0, 2.0**80))
def test_sizes_are_shown_in_few_characters(size: float) -> None:
    shown = show_size(size)
    number, unit = shown.split()
    factor = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}[unit]
    assert float(number) * factor == pytest.approx(size, rel=0.05, abs=0.5)
    assert len(number) <= 6 or unit == "TiB"
    assert not number.endswith(".0")


def test_sizes_as_they_are_shown() -> None:
    shown = [show_size(size) for size in (0, 1, 1023, 1024, 1536, 2**20 - 1, 2**20, 2**40)]
    assert shown == ["0 B", "1 B", "1023 B", "1 KiB", "1.5 KiB", "1 MiB", "1 MiB", "1 TiB"]
    assert [show_bytes(count) for count in (0, 1, 2)] == ["0 bytes", "1 byte", "2 bytes"]


# Numbers and times ----------------------------------------------------------------------------


@given(st.integers(1, 10_000))
def test_counts(count: int) -> None:
    assert parse_count(str(count)) == count


@pytest.mark.parametrize("text", ["", "0", "-1", "1.0", "10001", "9" * 5000, "٣", "1\n"])
def test_bad_counts(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number") as caught:
        parse_count(text)
    sentence_of(caught.value)


@given(st.floats(1e-9, 1e9))
def test_times(seconds: float) -> None:
    assert parse_seconds(repr(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "1s", "soon"])
def test_bad_times(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a time in seconds") as caught:
        parse_seconds(text)
    sentence_of(caught.value)


def test_times_are_shown_as_they_were_given() -> None:
    assert [show_seconds(parse_seconds(text)) for text in ("2", "0.5", "1e-3")] == [
        "2 s",
        "0.5 s",
        "0.001 s",
    ]
