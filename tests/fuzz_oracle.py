"""What the fuzzer knows of what is right: the errors that docstrings promise, and the order and the counts of bytes.

`tests.fuzz_world` makes the calls and asks here.
"""

from __future__ import annotations

import builtins
import errno
import functools
import inspect
import re
import socket as stdlib_socket
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
import trio

import trio_send
import trio_send.testing
from trio_send import (
    InvalidOperationError,
    ObjectDisposedError,
    OperationInProgressError,
    SocketException,
)
from trio_send._base.errors import SocketClosedError
from trio_send._kernel.port import KernelPort
from trio_send._messages.files import read_at

# The errors that may come out of a call -----------------------------------------------------------------------------

_USE: Final = (ObjectDisposedError, InvalidOperationError)
_CONFIGURE: Final = (*_USE, OperationInProgressError)
_STREAM: Final = (
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    ObjectDisposedError,
    trio.BusyResourceError,
)

#: What is set and read like an attribute says in prose what it raises, and a stream's methods are Trio's.
IN_PROSE: Final[dict[str, tuple[type[BaseException], ...]]] = {
    "SocketAsyncEventArgs.buffer_list =": (*_CONFIGURE, TypeError, ValueError),
    "SocketAsyncEventArgs.send_packets_elements =": (*_CONFIGURE, TypeError),
    "SocketAsyncEventArgs.timeout =": (ObjectDisposedError, OperationInProgressError, ValueError),
    "SocketAsyncEventArgs.stall_timeout =": (
        ObjectDisposedError,
        OperationInProgressError,
        ValueError,
    ),
    "SocketAsyncEventArgs.remaining": (InvalidOperationError,),
    "TornMessage.remaining": (InvalidOperationError,),
    "Socket.high_water =": (*_USE, ValueError),
    "Socket.low_water =": (*_USE, ValueError),
    "Socket.when_full =": (*_USE, ValueError),
    "Socket.local_end_point": (ObjectDisposedError, SocketException),
    "Socket.remote_end_point": (ObjectDisposedError, SocketException),
    "Socket.family": (SocketException,),
    "Socket.type": (SocketException,),
    "SocketStream.send_all": (*_STREAM, TypeError, ValueError),
    "SocketStream.wait_send_all_might_not_block": _STREAM,
    "SocketStream.send_eof": _STREAM,
    "SocketStream.receive_some": (*_STREAM, ValueError),
}


@functools.cache
def errors_of(what: str) -> tuple[type[BaseException], ...]:
    """Return what may come out of ``"Class.method"``, ``"function"`` or ``"Class.attribute ="``."""
    if what in IN_PROSE:
        return IN_PROSE[what]
    thing: Any = trio_send
    for name in what.removesuffix(" =").split("."):
        thing = (
            inspect.getattr_static(thing, name) if isinstance(thing, type) else getattr(thing, name)
        )
    return errors_in(inspect.getdoc(getattr(thing, "__func__", thing)) or "")


def errors_in(doc: str) -> tuple[type[BaseException], ...]:
    """Return the errors that stand under "Raises" in a docstring."""
    lines = iter(inspect.cleandoc(doc).splitlines())
    found = []
    for line in lines:
        if line == "Raises:":
            break
    for line in lines:
        if not line.strip():
            break
        match = re.match(r"( {2}| {4})([\w.]+): ", line)
        if match is not None and not line.startswith("      "):
            found.append(_error_named(match[2]))
    return tuple(found)


def _error_named(name: str) -> type[BaseException]:
    module: Any = trio_send
    if name.startswith("trio."):
        module, name = trio, name.removeprefix("trio.")
    if not hasattr(module, name):
        module = trio_send.testing if hasattr(trio_send.testing, name) else builtins
    error = getattr(module, name)
    assert issubclass(error, BaseException)
    return error  # type: ignore[no-any-return]


def is_documented(what: str, error: BaseException, *, wrong_type: bool) -> bool:
    """Tell whether an error is one that a call promises.

    Args:
      what: the call.
      error: what came out of it.
      wrong_type: whether an argument was of a type that the call's annotations exclude. Then TypeError needs no
        mentioning.
    """
    if wrong_type and type(error) is TypeError:
        return True
    documented = errors_of(what)
    if isinstance(
        error, SocketClosedError
    ):  # it is both, and the call knows which of the two it is here
        return bool(
            {SocketException, ObjectDisposedError, trio.ClosedResourceError} & {*documented}
        )
    # Errors of the system are documented by their base, others by their own name.
    return type(error) in documented or (
        OSError in documented and isinstance(error, OSError) and type(error) is not SocketException
    )


def is_refusal(error: BaseException) -> bool:
    """Tell whether an error says that the call was wrong and has changed nothing."""
    if isinstance(error, SocketClosedError):
        return error.native_error_code == errno.EBADF  # otherwise it has ended what was pending
    return not isinstance(error, SocketException) and isinstance(
        error, (TypeError, ValueError, RuntimeError, trio.ClosedResourceError, OSError)
    )


# Bytes --------------------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Entry:
    """One start of a send.

    Attributes:
      name: what was called, for people.
      data: the bytes it is about; None if nobody can know them, for something was received into their buffer.
      whole: whether it is accepted as a whole or not at all.
      count: how many were accepted; None if nobody was told.
      read: how to find that out, as long as it may change.
      base: where in the message of its operation it begins.
    """

    name: str
    data: bytes | None
    whole: bool = False
    count: int | None = None
    read: Callable[[], int | None] | None = None
    base: int = 0

    def look(self) -> int | None:
        return self.count if self.read is None else self.read()

    def settle(self, count: int | None) -> None:
        self.count, self.read = count, None


def complaint_about(entries: Sequence[Entry], accepted: bytes | bytearray) -> str | None:
    """Say what is wrong if what a port accepted is not the accepted beginnings of the messages, in order."""
    places = {0}
    for entry in entries:
        count = entry.look()
        size = None if entry.data is None else len(entry.data)
        if count is not None and not 0 <= count <= (count if size is None else size):
            return f"{entry} has a count that cannot be"
        if count and entry.whole and size not in (None, count):
            return f"{entry} was accepted in part"
        reached = set()
        for place in places:
            if count is not None:
                if entry.data is None or accepted.startswith(entry.data[:count], place):
                    reached.add(place + count)
            elif entry.data is None:
                reached.update(range(place, len(accepted) + 1))
            else:
                reached.add(place)
                for size, byte in enumerate(entry.data, 1):
                    if accepted[place + size - 1 : place + size] != bytes([byte]):
                        break
                    reached.add(place + size)
        places = {place for place in reached if place <= len(accepted)}
        if not places:
            return f"{entry} is not where it should be in what was accepted"
    if len(accepted) not in places:
        return f"{len(accepted)} bytes were accepted, but only {max(places)} are accounted for"
    return None


class RecordingPort(KernelPort):
    """The kernel's port, which keeps what the kernel has accepted.

    Attributes:
      accepted: the bytes, in order.
    """

    __slots__ = ("accepted",)

    def __init__(self, sock: stdlib_socket.socket) -> None:
        super().__init__(sock)
        self.accepted = bytearray()

        def send(buffer: Any, flags: int, /) -> int:
            return self._note(sock.send(buffer, flags), [buffer])

        self.send = send

    def _note(self, count: int, buffers: Sequence[Any]) -> int:
        self.accepted += b"".join(bytes(memoryview(buffer)) for buffer in buffers)[:count]
        return count

    def send_to(self, buffer: Any, flags: int, address: Any, /) -> int:
        return self._note(super().send_to(buffer, flags, address), [buffer])

    def send_gather(self, views: Sequence[Any], flags: int, /) -> int:
        return self._note(super().send_gather(views, flags), views)

    def send_segments(self, buffers: Sequence[Any], size: int, flags: int, address: Any, /) -> int:
        return self._note(super().send_segments(buffers, size, flags, address), buffers)

    def send_file(self, descriptor: int, offset: int, count: int, /) -> int:
        data = read_at(descriptor, offset, count)
        return self._note(super().send_file(descriptor, offset, count), [data])
