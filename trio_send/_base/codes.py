"""The numbers: Winsock's error codes, flags and modes, and the kernel's numbers for them.

The public enums carry Winsock's numbers on every platform, because that is what .NET's names stand
for. The kernel speaks errno and MSG_ bits. This room translates between the two, in tables that are
built once, so that a translation costs one dictionary lookup. Everything is an int: hot paths may
keep and compare plain numbers and leave it to the reader of a result to make an enum of it.

The tables are built from the constants that the `errno` and `socket` modules have here. What a
platform lacks is left out; nothing is assumed to exist but the two modules.
"""

from __future__ import annotations

import enum
import errno as _errno
import socket as _socket
from itertools import product
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class SocketError(enum.IntEnum):
    """Name what became of a socket operation, with Winsock's number.

    The 47 members and their numbers are .NET's (F252), the same on every platform.
    `SOCKET_ERROR` stands for every error that has no Winsock number (F255).
    """

    SOCKET_ERROR = -1
    SUCCESS = 0
    OPERATION_ABORTED = 995
    IO_PENDING = 997
    INTERRUPTED = 10004
    ACCESS_DENIED = 10013
    FAULT = 10014
    INVALID_ARGUMENT = 10022
    TOO_MANY_OPEN_SOCKETS = 10024
    WOULD_BLOCK = 10035
    IN_PROGRESS = 10036
    ALREADY_IN_PROGRESS = 10037
    NOT_SOCKET = 10038
    DESTINATION_ADDRESS_REQUIRED = 10039
    MESSAGE_SIZE = 10040
    PROTOCOL_TYPE = 10041
    PROTOCOL_OPTION = 10042
    PROTOCOL_NOT_SUPPORTED = 10043
    SOCKET_NOT_SUPPORTED = 10044
    OPERATION_NOT_SUPPORTED = 10045
    PROTOCOL_FAMILY_NOT_SUPPORTED = 10046
    ADDRESS_FAMILY_NOT_SUPPORTED = 10047
    ADDRESS_ALREADY_IN_USE = 10048
    ADDRESS_NOT_AVAILABLE = 10049
    NETWORK_DOWN = 10050
    NETWORK_UNREACHABLE = 10051
    NETWORK_RESET = 10052
    CONNECTION_ABORTED = 10053
    CONNECTION_RESET = 10054
    NO_BUFFER_SPACE_AVAILABLE = 10055
    IS_CONNECTED = 10056
    NOT_CONNECTED = 10057
    SHUTDOWN = 10058
    TIMED_OUT = 10060
    CONNECTION_REFUSED = 10061
    HOST_DOWN = 10064
    HOST_UNREACHABLE = 10065
    PROCESS_LIMIT = 10067
    SYSTEM_NOT_READY = 10091
    VERSION_NOT_SUPPORTED = 10092
    NOT_INITIALIZED = 10093
    DISCONNECTING = 10101
    TYPE_NOT_FOUND = 10109
    HOST_NOT_FOUND = 11001
    TRY_AGAIN = 11002
    NO_RECOVERY = 11003
    NO_DATA = 11004


class SocketFlags(enum.IntFlag):
    """Say how a message is to be sent or received; combine members with ``|``.

    The numbers are .NET's (F183), not the kernel's. On a send, `OUT_OF_BAND`, `PEEK`,
    `DONT_ROUTE`, `TRUNCATED` and `CONTROL_DATA_TRUNCATED` are accepted, on a receive the first
    three of these; with any other bit either ends with `SocketError.OPERATION_NOT_SUPPORTED` before
    the kernel sees it (F184).
    """

    NONE = 0
    OUT_OF_BAND = 0x1
    PEEK = 0x2
    DONT_ROUTE = 0x4
    MAX_IO_VECTOR_LENGTH = 0x10
    TRUNCATED = 0x100
    CONTROL_DATA_TRUNCATED = 0x200
    BROADCAST = 0x400
    MULTICAST = 0x800
    PARTIAL = 0x8000


class SocketShutdown(enum.IntEnum):
    """Say which direction of a connection `shutdown` ends (F261)."""

    RECEIVE = 0
    SEND = 1
    BOTH = 2


class SocketAsyncOperation(enum.IntEnum):
    """Name the kind of operation that an args object performed last (F260)."""

    NONE = 0
    ACCEPT = 1
    CONNECT = 2
    DISCONNECT = 3
    RECEIVE = 4
    RECEIVE_FROM = 5
    RECEIVE_MESSAGE_FROM = 6
    SEND = 7
    SEND_PACKETS = 8
    SEND_TO = 9


# Which errnos mean which code (F256, F257). The first name is also the way back, so the order
# counts: ECANCELED before EBADF, EACCES before EPERM, ENFILE before EMFILE (F259). EAGAIN and
# EWOULDBLOCK are one number on every Unix, but not on Windows. WSAEBADF is the one Winsock number
# that is no member of SocketError and has a meaning here all the same.
_ERRNO_NAMES: Final[dict[SocketError, tuple[str, ...]]] = {
    SocketError.OPERATION_ABORTED: ("ECANCELED", "EBADF", "WSAEBADF"),
    SocketError.INTERRUPTED: ("EINTR",),
    SocketError.ACCESS_DENIED: ("EACCES", "EPERM"),
    SocketError.FAULT: ("EFAULT",),
    SocketError.INVALID_ARGUMENT: ("EINVAL",),
    SocketError.TOO_MANY_OPEN_SOCKETS: ("ENFILE", "EMFILE"),
    SocketError.WOULD_BLOCK: ("EAGAIN", "EWOULDBLOCK"),
    SocketError.IN_PROGRESS: ("EINPROGRESS",),
    SocketError.ALREADY_IN_PROGRESS: ("EALREADY",),
    SocketError.NOT_SOCKET: ("ENOTSOCK",),
    SocketError.DESTINATION_ADDRESS_REQUIRED: ("EDESTADDRREQ",),
    SocketError.MESSAGE_SIZE: ("EMSGSIZE",),
    SocketError.PROTOCOL_TYPE: ("EPROTOTYPE",),
    SocketError.PROTOCOL_OPTION: ("ENOPROTOOPT",),
    SocketError.PROTOCOL_NOT_SUPPORTED: ("EPROTONOSUPPORT",),
    SocketError.SOCKET_NOT_SUPPORTED: ("ESOCKTNOSUPPORT",),
    SocketError.OPERATION_NOT_SUPPORTED: ("ENOTSUP", "EOPNOTSUPP"),
    SocketError.PROTOCOL_FAMILY_NOT_SUPPORTED: ("EPFNOSUPPORT",),
    SocketError.ADDRESS_FAMILY_NOT_SUPPORTED: ("EAFNOSUPPORT",),
    SocketError.ADDRESS_ALREADY_IN_USE: ("EADDRINUSE",),
    SocketError.ADDRESS_NOT_AVAILABLE: ("EADDRNOTAVAIL", "ENOENT"),
    SocketError.NETWORK_DOWN: ("ENETDOWN",),
    SocketError.NETWORK_UNREACHABLE: ("ENETUNREACH",),
    SocketError.NETWORK_RESET: ("ENETRESET",),
    SocketError.CONNECTION_ABORTED: ("ECONNABORTED",),
    SocketError.CONNECTION_RESET: ("ECONNRESET",),
    SocketError.NO_BUFFER_SPACE_AVAILABLE: ("ENOBUFS",),
    SocketError.IS_CONNECTED: ("EISCONN",),
    SocketError.NOT_CONNECTED: ("ENOTCONN",),
    SocketError.SHUTDOWN: ("EPIPE",),
    SocketError.TIMED_OUT: ("ETIMEDOUT",),
    SocketError.CONNECTION_REFUSED: ("ECONNREFUSED",),
    SocketError.HOST_DOWN: ("EHOSTDOWN",),
    SocketError.HOST_UNREACHABLE: ("EHOSTUNREACH",),
    SocketError.DISCONNECTING: ("ESHUTDOWN",),
    SocketError.HOST_NOT_FOUND: ("ENXIO",),
    SocketError.NO_DATA: ("ENODATA",),
}

# Codes that no errno means, but that are shown as one (F258, F259).
_REVERSE_ONLY: Final = {
    SocketError.IO_PENDING: "EINPROGRESS",
    SocketError.TRY_AGAIN: "EAGAIN",
}

# ENXIO is read as "no such host", but telling somebody "no such device" because a name was not
# found would mislead: there is no way back (F259).
_FORWARD_ONLY: Final = frozenset({SocketError.HOST_NOT_FOUND})

# Winsock numbers below this one are Windows' general error numbers, not socket errors.
_WINSOCK_BASE: Final = 10000

# On Windows an OSError carries these under their POSIX numbers: CPython folds them when it makes
# its `errno` from `winerror`. All other socket errors keep their Winsock number there.
_FOLDED_ON_WINDOWS: Final = frozenset(
    {
        SocketError.INTERRUPTED,
        SocketError.ACCESS_DENIED,
        SocketError.FAULT,
        SocketError.INVALID_ARGUMENT,
        SocketError.TOO_MANY_OPEN_SOCKETS,
    }
)


def _build_errno_maps(
    names: Mapping[str, int],
) -> tuple[dict[int, SocketError], dict[int, int]]:
    """Build the maps between errnos and codes from a platform's errno names and numbers."""
    from_errno = {0: SocketError.SUCCESS}
    to_errno: dict[int, int] = {SocketError.SUCCESS: 0}
    for code, candidates in _ERRNO_NAMES.items():
        numbers = [names[name] for name in candidates if name in names]
        for number in numbers:
            from_errno[number] = code
        if numbers and code not in _FORWARD_ONLY:
            to_errno[code] = numbers[0]
    for code, name in _REVERSE_ONLY.items():
        if name in names:
            to_errno[code] = names[name]
    if "WSAECONNRESET" in names:
        # Windows. These overrule the names: its ESHUTDOWN, for one, is Winsock's 10058, which is
        # SHUTDOWN and not DISCONNECTING.
        for code in SocketError:
            if code > 0:
                from_errno[int(code)] = code
            if code > _WINSOCK_BASE and code not in _FOLDED_ON_WINDOWS:
                to_errno[code] = int(code)
    return from_errno, to_errno


_FROM_ERRNO, _TO_ERRNO = _build_errno_maps(vars(_errno))


def socket_error_from_errno(errno: int) -> SocketError:
    """Return the code for an errno of this platform; `SOCKET_ERROR` for one that has none.

    Several errnos share a code (F256), and some codes are unlike the errno's name: ``EPIPE`` is
    `SHUTDOWN`, ``ESHUTDOWN`` is `DISCONNECTING`, ``ENXIO`` is `HOST_NOT_FOUND` (F257). On Windows
    the argument may as well be a Winsock number, that is an error's ``winerror``.

    Args:
        errno: the number in `OSError.errno`. 0 is `SUCCESS`.
    """
    return _FROM_ERRNO.get(errno, SocketError.SOCKET_ERROR)


def errno_from_socket_error(code: int) -> int | None:
    """Return the errno to show for a code, or None where no errno says the same.

    Not the inverse of `socket_error_from_errno`: of the errnos that share a code one is shown, and
    `IO_PENDING` and `TRY_AGAIN`, which no errno turns into, are shown as ``EINPROGRESS`` and
    ``EAGAIN`` (F258, F259). On Windows it is the number that an `OSError` has there, which for most
    codes is the Winsock number itself.

    Args:
        code: a `SocketError` or its number.
    """
    return _TO_ERRNO.get(code)


def _numbers_of(names: Mapping[str, int], *wanted: str) -> frozenset[int]:
    """Return the numbers of those errnos that exist here, and of their Winsock twins."""
    candidates = (prefix + name for name in wanted for prefix in ("", "WSA"))
    return frozenset(names[name] for name in candidates if name in names)


# After one of these a stream is dead: no later send on it can succeed. They are a group of their
# own because the answer differs from that to any other error. The socket breaks, the operations
# queued behind get the same code with 0 bytes, and later starts get the first cause. Without that,
# what a follower is told would depend on when it asked: the kernel reports ECONNRESET once and
# EPIPE ever after (F217). After any other error the stream lives on, and is torn if the error came
# in the middle of a message.
CONNECTION_DEAD_ERRNOS: Final = _numbers_of(
    vars(_errno),
    "EPIPE",
    "ECONNRESET",
    "ETIMEDOUT",
    "ECONNABORTED",
    "ENOTCONN",
    "ESHUTDOWN",
)

# The kernel has no memory for the message just now. They are a group of their own because they
# pass, as EAGAIN does, but unlike EAGAIN no readiness event follows when they have passed: a
# waiting send would wait for ever. The remedy is to try again on a timer, a limited number of
# times.
NO_BUFFER_ERRNOS: Final = _numbers_of(vars(_errno), "ENOBUFS", "ENOMEM")


# The bits accepted on a send (F184), and what each is called in the `socket` module. The numbers of
# the first three happen to be the kernel's own, the others' are not (F185). TRUNCATED and
# CONTROL_DATA_TRUNCATED only mean something on a receive, and so does PEEK: the kernel ignores it
# on a send (F190).
_SEND_FLAG_NAMES: Final = {
    SocketFlags.OUT_OF_BAND: "MSG_OOB",
    SocketFlags.PEEK: "MSG_PEEK",
    SocketFlags.DONT_ROUTE: "MSG_DONTROUTE",
    SocketFlags.TRUNCATED: "MSG_TRUNC",
    SocketFlags.CONTROL_DATA_TRUNCATED: "MSG_CTRUNC",
}


# The bits accepted on a receive. TRUNCATED and CONTROL_DATA_TRUNCATED are not among them, though
# .NET passes them on (F184): asked for MSG_TRUNC, the kernel counts bytes that it has thrown away.
_RECEIVE_FLAG_NAMES: Final = {
    SocketFlags.OUT_OF_BAND: "MSG_OOB",
    SocketFlags.PEEK: "MSG_PEEK",
    SocketFlags.DONT_ROUTE: "MSG_DONTROUTE",
}


def _build_send_flags(names: Mapping[str, int]) -> dict[int, int]:
    """Build the kernel's flags for every legal send from a platform's MSG_ constants."""
    # A send to a peer that is gone must be the error EPIPE, also in a program that has given
    # SIGPIPE back its default action, which is to end the process. A platform without the flag
    # has no such signal, or is left to Python, which ignores it unless told otherwise.
    return _build_flags(names, _SEND_FLAG_NAMES, int(names.get("MSG_NOSIGNAL", 0)))


def _build_flags(
    names: Mapping[str, int], accepted: Mapping[SocketFlags, str], always: int
) -> dict[int, int]:
    """Build the kernel's flags for every combination of those accepted; with ``always`` in all."""
    # Plain ints: the constants of the socket module are enum members, which combine slowly.
    choices = [
        ((0, 0), (int(flag), int(names[name]))) for flag, name in accepted.items() if name in names
    ]
    table: dict[int, int] = {}
    for chosen in product(*choices):
        ours = theirs = 0
        for flag, bit in chosen:
            ours |= flag
            theirs |= bit
        table[ours] = theirs | always
    return table


# All legal combinations (32 where every constant exists), so that a send pays one lookup and an
# illegal bit is simply not found.
_SEND_FLAGS: Final = _build_send_flags(vars(_socket))
_RECEIVE_FLAGS: Final = _build_flags(vars(_socket), _RECEIVE_FLAG_NAMES, 0)


def require_flags(flags: object) -> None:
    """Raise `TypeError` unless ``flags`` can be flags, whether they are accepted or not."""
    if not isinstance(flags, int):
        raise TypeError(
            f"socket_flags must be SocketFlags, such as SocketFlags.NONE, not {flags!r}"
        )


def native_send_flags(flags: int) -> int | None:
    """Translate flags of a send into the kernel's MSG_ bits (F184, F185).

    ``MSG_NOSIGNAL`` is always among them where it exists.

    Args:
        flags: `SocketFlags`, or their number.

    Returns:
        The bits to hand to the system call, or None if one of the flags is not accepted on a send
        here; the send then ends with `SocketError.OPERATION_NOT_SUPPORTED`.
    """
    return _SEND_FLAGS.get(flags)


def native_receive_flags(flags: int) -> int | None:
    """Translate flags of a receive into the kernel's MSG_ bits.

    Args:
        flags: `SocketFlags`, or their number.

    Returns:
        The bits to hand to the system call, or None if one of the flags is not accepted on a receive
        here; the receive then ends with `SocketError.OPERATION_NOT_SUPPORTED`.
    """
    return _RECEIVE_FLAGS.get(flags)


# What happened, in words that go before "(CONNECTION_RESET, 10054)". They speak of the operation
# and its peer, and not of system calls, because that is what the reader of an error knows.
SENTENCES: Final[dict[SocketError, str]] = {
    SocketError.SOCKET_ERROR: "the system reported an error that has no code of its own",
    SocketError.SUCCESS: "the operation succeeded",
    SocketError.OPERATION_ABORTED: "the operation was stopped before it was done",
    SocketError.IO_PENDING: "the operation has started and is not done yet",
    SocketError.INTERRUPTED: "a signal interrupted the operation",
    SocketError.ACCESS_DENIED: "this process may not do that with the socket",
    SocketError.FAULT: "the system could not read or write the memory it was given",
    SocketError.INVALID_ARGUMENT: "an argument makes no sense for this socket in its present state",
    SocketError.TOO_MANY_OPEN_SOCKETS: "no more sockets can be opened, the limit is reached",
    SocketError.WOULD_BLOCK: "the operation cannot go on without waiting",
    SocketError.IN_PROGRESS: "the operation is still under way",
    SocketError.ALREADY_IN_PROGRESS: "such an operation is already under way on the socket",
    SocketError.NOT_SOCKET: "the file descriptor is not a socket",
    SocketError.DESTINATION_ADDRESS_REQUIRED: "the socket has no default remote address to send to",
    SocketError.MESSAGE_SIZE: "the message is too long to be sent in one piece",
    SocketError.PROTOCOL_TYPE: "the protocol does not fit the type of the socket",
    SocketError.PROTOCOL_OPTION: "the protocol does not know that option",
    SocketError.PROTOCOL_NOT_SUPPORTED: "the system does not support that protocol",
    SocketError.SOCKET_NOT_SUPPORTED: "the system does not support that type of socket",
    SocketError.OPERATION_NOT_SUPPORTED: "this socket does not support that operation or flag",
    SocketError.PROTOCOL_FAMILY_NOT_SUPPORTED: "the system does not support that protocol family",
    SocketError.ADDRESS_FAMILY_NOT_SUPPORTED: "the address is of a family the socket cannot use",
    SocketError.ADDRESS_ALREADY_IN_USE: "another socket already uses that address",
    SocketError.ADDRESS_NOT_AVAILABLE: "there is no such address to use on this machine",
    SocketError.NETWORK_DOWN: "the network of this machine is down",
    SocketError.NETWORK_UNREACHABLE: "there is no route to the peer's network",
    SocketError.NETWORK_RESET: "the network dropped the connection",
    SocketError.CONNECTION_ABORTED: "the connection was given up on this side",
    SocketError.CONNECTION_RESET: "the peer reset the connection",
    SocketError.NO_BUFFER_SPACE_AVAILABLE: "the system has no buffer space left for the message",
    SocketError.IS_CONNECTED: "the socket is already connected",
    SocketError.NOT_CONNECTED: "the socket is not connected",
    SocketError.SHUTDOWN: "the connection takes no more data from this side",
    SocketError.TIMED_OUT: "time ran out before the operation was done",
    SocketError.CONNECTION_REFUSED: "nobody listens at the peer's address",
    SocketError.HOST_DOWN: "the peer's machine is down",
    SocketError.HOST_UNREACHABLE: "there is no route to the peer's machine",
    SocketError.PROCESS_LIMIT: "too many processes use sockets at the same time",
    SocketError.SYSTEM_NOT_READY: "the network subsystem is not ready",
    SocketError.VERSION_NOT_SUPPORTED: "the system's socket library has the wrong version",
    SocketError.NOT_INITIALIZED: "the system's socket library has not been initialized",
    SocketError.DISCONNECTING: "the connection is being shut down",
    SocketError.TYPE_NOT_FOUND: "the system does not know that class of service",
    SocketError.HOST_NOT_FOUND: "there is no host of that name",
    SocketError.TRY_AGAIN: "the name could not be looked up just now",
    SocketError.NO_RECOVERY: "the name could not be looked up, and trying again will not help",
    SocketError.NO_DATA: "the name exists but has no address of the kind asked for",
}
