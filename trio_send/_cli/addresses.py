"""Addresses as they are written on the command line: ``HOST:PORT``, ``[V6]:PORT`` and ``unix:PATH``."""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import sys
from dataclasses import dataclass
from typing import Any

UNIX_PREFIX = "unix:"

#: The kernel's address structure has room for so many bytes and a null character.
MAX_UNIX_PATH = 107 if sys.platform in ("linux", "win32") else 103

#: What no host name contains, but URLs, mail addresses and typing errors do.
_NOT_IN_HOSTS = re.compile(r"[\s\x00-\x1f\x7f/\\@?#%\[\]]")


@dataclass(frozen=True)
class InternetAddress:
    """A host, by name or by number, and a port.

    Attributes:
      host: a name, an IPv4 address, or an IPv6 address without brackets.
      port: from 0 to 65535; 0 stands for any that is free.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class UnixAddress:
    """A Unix socket.

    Attributes:
      path: where it is in the file system.
    """

    path: str

    def __str__(self) -> str:
        return UNIX_PREFIX + self.path


Address = InternetAddress | UnixAddress


def parse_address(text: str) -> Address:
    """Return the address that ``text`` stands for.

    Raises:
      argparse.ArgumentTypeError: it stands for none.
    """
    if text.startswith(UNIX_PREFIX):
        path = text[len(UNIX_PREFIX) :]
        if not path:
            raise _fault(text, "no path behind unix:", "unix:PATH, such as unix:/tmp/sink")
        if "\0" in path:
            raise _fault(text, "a null character in its path", "unix:PATH, such as unix:/tmp/sink")
        if len(os.fsencode(path)) > MAX_UNIX_PATH:
            raise _fault(text, "too long a path", f"one of at most {MAX_UNIX_PATH} bytes")
        return UnixAddress(path)
    if text.startswith("["):
        return _parse_bracketed(text)
    host, colon, port = text.rpartition(":")
    if not colon:
        raise _fault(text, "no port", "HOST:PORT, such as 127.0.0.1:9000, or unix:PATH")
    if not host:
        raise _fault(text, "no host", "HOST:PORT, such as 127.0.0.1:9000")
    if "/" in host:
        raise _fault(
            text, "a slash in its host", "HOST:PORT without anything in front, or unix:PATH"
        )
    if ":" in host:
        raise _fault(
            text,
            "too many colons for HOST:PORT",
            "an IPv6 address as [ADDRESS]:PORT, such as [::1]:9000",
        )
    bad = _NOT_IN_HOSTS.search(host)
    if bad is not None:
        raise _fault(text, f"{bad[0]!r} in its host", "HOST:PORT, such as 127.0.0.1:9000")
    if re.fullmatch(r"[0-9.]+", host) and not _is_v4(host):
        raise _fault(
            text, "a host that is neither a name nor an IPv4 address", "four numbers from 0 to 255"
        )
    return InternetAddress(host, _parse_port(text, port))


def parse_peer(text: str) -> Address:
    """Return the address to connect to that ``text`` stands for.

    Raises:
      argparse.ArgumentTypeError: it stands for none, or for one that nobody can be reached at.
    """
    address = parse_address(text)
    if isinstance(address, InternetAddress) and address.port == 0:
        raise _fault(
            text, "the port 0, at which nobody can be reached", "the port that the receiver printed"
        )
    return address


def _parse_bracketed(text: str) -> InternetAddress:
    example = "[ADDRESS]:PORT, such as [::1]:9000"
    host, bracket, rest = text[1:].partition("]")
    if not bracket:
        raise _fault(text, "no closing bracket", example)
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise _fault(
            text, "something else than an IPv6 address between its brackets", example
        ) from None
    if not rest.startswith(":"):
        raise _fault(text, "no port behind its brackets", example)
    return InternetAddress(host, _parse_port(text, rest[1:]))


def _parse_port(text: str, port: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise _fault(text, f"the port {port!r}", "a number from 0 to 65535 behind the colon")
    return int(port)


def _is_v4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _fault(text: str, has: str, remedy: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"the address {text!r} has {has}; write {remedy}")


def show_end_point(end_point: Any) -> str:
    """Show a Python socket address as it is written here; nothing for a Unix socket without a name."""
    if isinstance(end_point, tuple):
        return str(InternetAddress(end_point[0], end_point[1]))
    # Linux has names that are in no file system; they begin with a null character.
    if isinstance(end_point, bytes):
        return UNIX_PREFIX + os.fsdecode(end_point).replace("\0", "@")
    return str(UnixAddress(end_point)) if end_point else ""
