"""Hold the numbers and the translations against tables of their own.

Modules: _base.error_numbers.
"""

from __future__ import annotations

import errno
import itertools
import pickle
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest

from trio_send._base import codes as _codes, error_numbers
from trio_send._base.codes import (
    CONNECTION_DEAD_ERRNOS,
    NO_BUFFER_ERRNOS,
    SENTENCES,
    SocketAsyncOperation,
    SocketError,
    SocketFlags,
    SocketShutdown,
    errno_from_socket_error,
    native_send_flags,
    socket_error_from_errno,
)

if TYPE_CHECKING:
    import enum

unix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has numbers of its own")

SOCKET_ERRORS = {
    "SOCKET_ERROR": -1,
    "SUCCESS": 0,
    "OPERATION_ABORTED": 995,
    "IO_PENDING": 997,
    "INTERRUPTED": 10004,
    "ACCESS_DENIED": 10013,
    "FAULT": 10014,
    "INVALID_ARGUMENT": 10022,
    "TOO_MANY_OPEN_SOCKETS": 10024,
    "WOULD_BLOCK": 10035,
    "IN_PROGRESS": 10036,
    "ALREADY_IN_PROGRESS": 10037,
    "NOT_SOCKET": 10038,
    "DESTINATION_ADDRESS_REQUIRED": 10039,
    "MESSAGE_SIZE": 10040,
    "PROTOCOL_TYPE": 10041,
    "PROTOCOL_OPTION": 10042,
    "PROTOCOL_NOT_SUPPORTED": 10043,
    "SOCKET_NOT_SUPPORTED": 10044,
    "OPERATION_NOT_SUPPORTED": 10045,
    "PROTOCOL_FAMILY_NOT_SUPPORTED": 10046,
    "ADDRESS_FAMILY_NOT_SUPPORTED": 10047,
    "ADDRESS_ALREADY_IN_USE": 10048,
    "ADDRESS_NOT_AVAILABLE": 10049,
    "NETWORK_DOWN": 10050,
    "NETWORK_UNREACHABLE": 10051,
    "NETWORK_RESET": 10052,
    "CONNECTION_ABORTED": 10053,
    "CONNECTION_RESET": 10054,
    "NO_BUFFER_SPACE_AVAILABLE": 10055,
    "IS_CONNECTED": 10056,
    "NOT_CONNECTED": 10057,
    "SHUTDOWN": 10058,
    "TIMED_OUT": 10060,
    "CONNECTION_REFUSED": 10061,
    "HOST_DOWN": 10064,
    "HOST_UNREACHABLE": 10065,
    "PROCESS_LIMIT": 10067,
    "SYSTEM_NOT_READY": 10091,
    "VERSION_NOT_SUPPORTED": 10092,
    "NOT_INITIALIZED": 10093,
    "DISCONNECTING": 10101,
    "TYPE_NOT_FOUND": 10109,
    "HOST_NOT_FOUND": 11001,
    "TRY_AGAIN": 11002,
    "NO_RECOVERY": 11003,
    "NO_DATA": 11004,
}

ASYNC_OPERATIONS = {
    "NONE": 0,
    "ACCEPT": 1,
    "CONNECT": 2,
    "DISCONNECT": 3,
    "RECEIVE": 4,
    "RECEIVE_FROM": 5,
    "RECEIVE_MESSAGE_FROM": 6,
    "SEND": 7,
    "SEND_PACKETS": 8,
    "SEND_TO": 9,
}

FLAGS = {
    "NONE": 0,
    "OUT_OF_BAND": 0x1,
    "PEEK": 0x2,
    "DONT_ROUTE": 0x4,
    "MAX_IO_VECTOR_LENGTH": 0x10,
    "TRUNCATED": 0x100,
    "CONTROL_DATA_TRUNCATED": 0x200,
    "BROADCAST": 0x400,
    "MULTICAST": 0x800,
    "PARTIAL": 0x8000,
}

# errno name, the code it becomes, the errno name that this code is shown as.
ERRNOS = [
    ("ECANCELED", "OPERATION_ABORTED", "ECANCELED"),
    ("EBADF", "OPERATION_ABORTED", "ECANCELED"),
    ("EINTR", "INTERRUPTED", "EINTR"),
    ("EACCES", "ACCESS_DENIED", "EACCES"),
    ("EPERM", "ACCESS_DENIED", "EACCES"),
    ("EFAULT", "FAULT", "EFAULT"),
    ("EINVAL", "INVALID_ARGUMENT", "EINVAL"),
    ("EMFILE", "TOO_MANY_OPEN_SOCKETS", "ENFILE"),
    ("ENFILE", "TOO_MANY_OPEN_SOCKETS", "ENFILE"),
    ("EAGAIN", "WOULD_BLOCK", "EAGAIN"),
    ("EWOULDBLOCK", "WOULD_BLOCK", "EAGAIN"),
    ("EINPROGRESS", "IN_PROGRESS", "EINPROGRESS"),
    ("EALREADY", "ALREADY_IN_PROGRESS", "EALREADY"),
    ("ENOTSOCK", "NOT_SOCKET", "ENOTSOCK"),
    ("EDESTADDRREQ", "DESTINATION_ADDRESS_REQUIRED", "EDESTADDRREQ"),
    ("EMSGSIZE", "MESSAGE_SIZE", "EMSGSIZE"),
    ("EPROTOTYPE", "PROTOCOL_TYPE", "EPROTOTYPE"),
    ("ENOPROTOOPT", "PROTOCOL_OPTION", "ENOPROTOOPT"),
    ("EPROTONOSUPPORT", "PROTOCOL_NOT_SUPPORTED", "EPROTONOSUPPORT"),
    ("ESOCKTNOSUPPORT", "SOCKET_NOT_SUPPORTED", "ESOCKTNOSUPPORT"),
    ("ENOTSUP", "OPERATION_NOT_SUPPORTED", "ENOTSUP"),
    ("EOPNOTSUPP", "OPERATION_NOT_SUPPORTED", "ENOTSUP"),
    ("EPFNOSUPPORT", "PROTOCOL_FAMILY_NOT_SUPPORTED", "EPFNOSUPPORT"),
    ("EAFNOSUPPORT", "ADDRESS_FAMILY_NOT_SUPPORTED", "EAFNOSUPPORT"),
    ("EADDRINUSE", "ADDRESS_ALREADY_IN_USE", "EADDRINUSE"),
    ("EADDRNOTAVAIL", "ADDRESS_NOT_AVAILABLE", "EADDRNOTAVAIL"),
    ("ENOENT", "ADDRESS_NOT_AVAILABLE", "EADDRNOTAVAIL"),
    ("ENETDOWN", "NETWORK_DOWN", "ENETDOWN"),
    ("ENETUNREACH", "NETWORK_UNREACHABLE", "ENETUNREACH"),
    ("ENETRESET", "NETWORK_RESET", "ENETRESET"),
    ("ECONNABORTED", "CONNECTION_ABORTED", "ECONNABORTED"),
    ("ECONNRESET", "CONNECTION_RESET", "ECONNRESET"),
    ("ENOBUFS", "NO_BUFFER_SPACE_AVAILABLE", "ENOBUFS"),
    ("EISCONN", "IS_CONNECTED", "EISCONN"),
    ("ENOTCONN", "NOT_CONNECTED", "ENOTCONN"),
    ("EPIPE", "SHUTDOWN", "EPIPE"),
    ("ETIMEDOUT", "TIMED_OUT", "ETIMEDOUT"),
    ("ECONNREFUSED", "CONNECTION_REFUSED", "ECONNREFUSED"),
    ("EHOSTDOWN", "HOST_DOWN", "EHOSTDOWN"),
    ("EHOSTUNREACH", "HOST_UNREACHABLE", "EHOSTUNREACH"),
    ("ESHUTDOWN", "DISCONNECTING", "ESHUTDOWN"),
    ("ENXIO", "HOST_NOT_FOUND", None),
    ("ENODATA", "NO_DATA", "ENODATA"),
]

# Codes that no errno becomes, and what they are shown as.
NEVER_FROM_ERRNO = {
    "SOCKET_ERROR": None,
    "IO_PENDING": "EINPROGRESS",
    "PROCESS_LIMIT": None,
    "SYSTEM_NOT_READY": None,
    "VERSION_NOT_SUPPORTED": None,
    "NOT_INITIALIZED": None,
    "TYPE_NOT_FOUND": None,
    "TRY_AGAIN": "EAGAIN",
    "NO_RECOVERY": None,
}

# A part of what CPython's errno module holds on Windows: POSIX numbers where the C library had the
# name first, Winsock's where it did not.
WINDOWS_ERRNO = {
    "EPERM": 1,
    "ENOENT": 2,
    "EINTR": 4,
    "ENXIO": 6,
    "EBADF": 9,
    "EAGAIN": 11,
    "ENOMEM": 12,
    "EACCES": 13,
    "EFAULT": 14,
    "EINVAL": 22,
    "ENFILE": 23,
    "EMFILE": 24,
    "EPIPE": 32,
    "ECANCELED": 105,
    "ENODATA": 120,
    "ENOTSUP": 129,
    "WSAEINTR": 10004,
    "WSAEBADF": 10009,
    "WSAEACCES": 10013,
    "EWOULDBLOCK": 10035,
    "WSAEWOULDBLOCK": 10035,
    "EINPROGRESS": 10036,
    "EOPNOTSUPP": 10045,
    "ECONNABORTED": 10053,
    "WSAECONNABORTED": 10053,
    "ECONNRESET": 10054,
    "WSAECONNRESET": 10054,
    "ENOBUFS": 10055,
    "WSAENOBUFS": 10055,
    "ENOTCONN": 10057,
    "WSAENOTCONN": 10057,
    "ESHUTDOWN": 10058,
    "WSAESHUTDOWN": 10058,
    "ETIMEDOUT": 10060,
    "WSAETIMEDOUT": 10060,
}


@pytest.mark.fact("F183", "F252", "F260", "F261")
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (SocketError, SOCKET_ERRORS),
        (SocketAsyncOperation, ASYNC_OPERATIONS),
        (SocketShutdown, {"RECEIVE": 0, "SEND": 1, "BOTH": 2}),
        (SocketFlags, FLAGS),
    ],
)
def test_members_and_numbers(kind: type[enum.Enum], expected: dict[str, int]) -> None:
    # __members__ and not iteration, which leaves out aliases and, of flags, NONE.
    assert {name: member.value for name, member in kind.__members__.items()} == expected
    for name, number in expected.items():
        member: Any = kind[name]
        assert member == number
        assert kind(number) is member
        # Tables keyed by number must find the member, and the other way round.
        assert {number}.issuperset({member})
        assert pickle.loads(pickle.dumps(member)) is member


@pytest.mark.fact("F252")
def test_there_are_47_codes() -> None:
    assert len(SOCKET_ERRORS) == 47
    assert len(SocketError) == 47


def test_shutdown_modes_are_the_ones_of_the_socket_module() -> None:
    assert SocketShutdown.RECEIVE == socket.SHUT_RD
    assert SocketShutdown.SEND == socket.SHUT_WR
    assert SocketShutdown.BOTH == socket.SHUT_RDWR


@pytest.mark.page("B08")
def test_flags_combine() -> None:
    both = SocketFlags.PEEK | SocketFlags.TRUNCATED
    assert both == 0x102
    assert isinstance(both, SocketFlags)
    assert SocketFlags.PEEK in both
    assert SocketFlags.PARTIAL not in both
    assert not SocketFlags.NONE


# errno to code and back


@pytest.mark.fact("F256", "F257", "F259")
@unix_only
@pytest.mark.parametrize(("name", "code", "shown_as"), ERRNOS)
def test_errno_to_code_and_back(name: str, code: str, shown_as: str | None) -> None:
    number = getattr(errno, name, None)
    if number is None:
        pytest.skip(f"no {name} on this platform")
    assert socket_error_from_errno(number) is SocketError[code]
    back = errno_from_socket_error(SocketError[code])
    assert back == (None if shown_as is None else getattr(errno, shown_as))


def test_success_is_errno_0_both_ways() -> None:
    assert socket_error_from_errno(0) is SocketError.SUCCESS
    # 0, and not None: there is an errno, and it says that nothing is wrong.
    assert errno_from_socket_error(SocketError.SUCCESS) == 0


@pytest.mark.fact("F258")
@unix_only
def test_the_tables_cover_every_code() -> None:
    assert {code for _, code, _ in ERRNOS} | set(NEVER_FROM_ERRNO) | {"SUCCESS"} == set(
        SOCKET_ERRORS
    )
    reached = {socket_error_from_errno(number) for number in errno.errorcode}
    reached.discard(SocketError.SOCKET_ERROR)
    assert reached <= {SocketError[code] for _, code, _ in ERRNOS}


@pytest.mark.fact("F258", "F259")
@unix_only
@pytest.mark.parametrize(("code", "shown_as"), NEVER_FROM_ERRNO.items())
def test_codes_that_no_errno_becomes(code: str, shown_as: str | None) -> None:
    back = errno_from_socket_error(SocketError[code])
    assert back == (None if shown_as is None else getattr(errno, shown_as))


@pytest.mark.fact("F255")
@unix_only
def test_errnos_that_mean_no_code() -> None:
    mapped = {getattr(errno, name) for name, _, _ in ERRNOS if hasattr(errno, name)}
    unmapped = set(errno.errorcode) - mapped
    assert errno.ENOMEM in unmapped
    assert errno.EIO in unmapped
    for number in unmapped:
        assert socket_error_from_errno(number) is SocketError.SOCKET_ERROR


@unix_only
@pytest.mark.parametrize("number", [-1, -2, 995, 10035, 10054, 131073])
def test_numbers_that_are_no_errno(number: int) -> None:
    # Winsock's numbers among them: here they can only be a mistake.
    assert socket_error_from_errno(number) is SocketError.SOCKET_ERROR


def test_the_way_back_takes_a_plain_number_and_knows_no_others() -> None:
    assert errno_from_socket_error(10061) == errno_from_socket_error(SocketError.CONNECTION_REFUSED)
    assert errno_from_socket_error(10061) is not None
    assert errno_from_socket_error(10009) is None
    assert errno_from_socket_error(12345) is None


@unix_only
def test_the_kernels_own_errors() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        with pytest.raises(OSError, match="Errno") as caught:
            sock.send(b"x")
        assert caught.value.errno is not None
        assert (
            socket_error_from_errno(caught.value.errno) is SocketError.DESTINATION_ADDRESS_REQUIRED
        )
        with pytest.raises(OSError, match="Errno") as caught:
            sock.getpeername()
        assert caught.value.errno is not None
        assert socket_error_from_errno(caught.value.errno) is SocketError.NOT_CONNECTED


def test_a_platform_that_lacks_names() -> None:
    from_errno, to_errno = _codes._build_errno_maps({"EPIPE": 32, "EMFILE": 24, "EOPNOTSUPP": 102})
    assert from_errno == {
        0: SocketError.SUCCESS,
        32: SocketError.SHUTDOWN,
        24: SocketError.TOO_MANY_OPEN_SOCKETS,
        102: SocketError.OPERATION_NOT_SUPPORTED,
    }
    # The next name takes the place of a missing one: ENFILE and ENOTSUP are the usual ways back.
    assert to_errno == {
        SocketError.SUCCESS: 0,
        SocketError.SHUTDOWN: 32,
        SocketError.TOO_MANY_OPEN_SOCKETS: 24,
        SocketError.OPERATION_NOT_SUPPORTED: 102,
    }


def test_enotsup_and_eopnotsupp_may_differ() -> None:
    # They do on macOS.
    from_errno, to_errno = _codes._build_errno_maps({"ENOTSUP": 45, "EOPNOTSUPP": 102})
    assert from_errno[45] is from_errno[102] is SocketError.OPERATION_NOT_SUPPORTED
    assert to_errno[SocketError.OPERATION_NOT_SUPPORTED] == 45


def test_errnos_of_windows() -> None:
    from_errno, to_errno = _codes._build_errno_maps(WINDOWS_ERRNO)
    for name, number in SOCKET_ERRORS.items():
        if number > 0:
            assert from_errno[number] is SocketError[name]
    # Not DISCONNECTING, although the name of the number 10058 is ESHUTDOWN there too.
    assert from_errno[10058] is SocketError.SHUTDOWN
    assert from_errno[10101] is SocketError.DISCONNECTING
    assert from_errno[32] is SocketError.SHUTDOWN
    assert from_errno[11] is SocketError.WOULD_BLOCK
    assert from_errno[13] is from_errno[1] is SocketError.ACCESS_DENIED
    assert from_errno[9] is from_errno[10009] is SocketError.OPERATION_ABORTED

    # The number that a socket's OSError has there: POSIX's for a few, Winsock's for the others.
    posix = {
        SocketError.SUCCESS: 0,
        SocketError.OPERATION_ABORTED: 105,
        SocketError.IO_PENDING: 10036,
        SocketError.INTERRUPTED: 4,
        SocketError.ACCESS_DENIED: 13,
        SocketError.FAULT: 14,
        SocketError.INVALID_ARGUMENT: 22,
        SocketError.TOO_MANY_OPEN_SOCKETS: 23,
    }
    others = {code: int(code) for code in SocketError if code > 0 and code not in posix}
    assert to_errno == {**posix, **others}


# Groups


@unix_only
def test_errnos_after_which_a_stream_is_dead() -> None:
    assert {
        errno.EPIPE,
        errno.ECONNRESET,
        errno.ETIMEDOUT,
        errno.ECONNABORTED,
        errno.ENOTCONN,
        errno.ESHUTDOWN,
    } == CONNECTION_DEAD_ERRNOS
    assert isinstance(CONNECTION_DEAD_ERRNOS, frozenset)


@unix_only
def test_errnos_of_a_passing_lack_of_memory() -> None:
    assert {errno.ENOBUFS, errno.ENOMEM} == NO_BUFFER_ERRNOS
    assert isinstance(NO_BUFFER_ERRNOS, frozenset)


def test_groups_do_not_overlap_and_hold_nothing_passing() -> None:
    assert not CONNECTION_DEAD_ERRNOS & NO_BUFFER_ERRNOS
    passing = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR, errno.EINPROGRESS, errno.EMSGSIZE}
    assert not passing & (CONNECTION_DEAD_ERRNOS | NO_BUFFER_ERRNOS)


def test_groups_hold_winsock_twins_and_skip_what_is_missing() -> None:
    names = {"EPIPE": 32, "ECONNRESET": 108, "WSAECONNRESET": 10054}
    assert _codes._numbers_of(names, "EPIPE", "ECONNRESET", "ESHUTDOWN") == {32, 108, 10054}
    assert _codes._numbers_of(WINDOWS_ERRNO, "ENOBUFS", "ENOMEM") == {10055, 12}


# Flags

NATIVE_FLAGS = {
    SocketFlags.OUT_OF_BAND: "MSG_OOB",
    SocketFlags.PEEK: "MSG_PEEK",
    SocketFlags.DONT_ROUTE: "MSG_DONTROUTE",
    SocketFlags.TRUNCATED: "MSG_TRUNC",
    SocketFlags.CONTROL_DATA_TRUNCATED: "MSG_CTRUNC",
}
NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)


@pytest.mark.page("B38")
@pytest.mark.fact("F184", "F185")
def test_each_accepted_flag() -> None:
    assert native_send_flags(SocketFlags.NONE) == NO_SIGNAL
    for flag, name in NATIVE_FLAGS.items():
        assert native_send_flags(flag) == getattr(socket, name) | NO_SIGNAL


@pytest.mark.fact("F185")
@pytest.mark.skipif(sys.platform != "linux", reason="Linux's numbers")
def test_flags_as_linux_has_them() -> None:
    expected = {0x0: 0x0, 0x1: 0x1, 0x2: 0x2, 0x4: 0x4, 0x100: 0x20, 0x200: 0x8, 0x307: 0x2F}
    for ours, theirs in expected.items():
        assert native_send_flags(SocketFlags(ours)) == theirs | 0x4000


@pytest.mark.page("B08")
def test_every_combination_of_all_flags() -> None:
    singles = [flag for flag in SocketFlags.__members__.values() if flag]
    assert len(singles) == 9
    for length in range(len(singles) + 1):
        for chosen in itertools.combinations(singles, length):
            combined = SocketFlags.NONE
            for flag in chosen:
                combined |= flag
            expected: int | None = None
            if set(chosen) <= set(NATIVE_FLAGS):
                expected = NO_SIGNAL
                for flag in chosen:
                    expected |= getattr(socket, NATIVE_FLAGS[flag])
            assert native_send_flags(combined) == expected
            # A plain number is as good.
            assert native_send_flags(int(combined)) == expected


@pytest.mark.fact("F184")
def test_every_16_bit_number_with_an_unknown_or_refused_bit_is_refused() -> None:
    for number in range(0x10000):
        assert (native_send_flags(number) is None) == bool(number & ~0x307)


@pytest.mark.parametrize("number", [-1, -0x8000, 0x1000, 0x4000, 0x10000, 1 << 40])
def test_numbers_far_from_any_flag_are_refused(number: int) -> None:
    assert native_send_flags(number) is None


def test_translated_flags_are_plain_ints() -> None:
    for number in (0x0, 0x1, 0x307):
        assert type(native_send_flags(number)) is int


def test_a_platform_that_lacks_flags() -> None:
    table = _codes._build_send_flags({"MSG_OOB": 1, "MSG_TRUNC": 0x10})
    assert table == {0x0: 0x0, 0x1: 0x1, 0x100: 0x10, 0x101: 0x11}


# Sentences


def test_every_code_has_a_sentence_of_its_own() -> None:
    assert set(SENTENCES) == set(SocketError)
    assert len(set(SENTENCES.values())) == 47
    for sentence in SENTENCES.values():
        # They are put in the middle of a text: no capital, no full stop.
        assert sentence[0].islower()
        assert sentence[-1].isalpha()
        assert sentence.isascii()


def test_the_plain_numbers_are_those_of_the_members_of_their_names() -> None:
    plain = {name: number for name, number in vars(error_numbers).items() if name.isupper()}
    assert plain == {name: SOCKET_ERRORS[name] for name in plain}
    assert {type(number) for number in plain.values()} == {int}
    assert plain["SUCCESS"] == 0
