"""Hold the error types to their attributes, their texts and their places among other errors."""

from __future__ import annotations

import copy
import errno
import pickle
import sys
from typing import Any

import outcome
import pytest
import trio

from trio_send._base.codes import SENTENCES, SocketError
from trio_send._base.errors import (
    InvalidOperationError,
    ObjectDisposedError,
    OperationInProgressError,
    SocketException,
)

unix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has numbers of its own")


class Picky(SocketException):
    """A subclass that cannot be called as its parent can."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(SocketError.TIMED_OUT, bytes_transferred=3, detail=first + second)
        self.second = second


def facts(error: SocketException) -> dict[str, Any]:
    return {
        "type": type(error),
        "code": error.socket_error_code,
        "number": error.error_code,
        "native": error.native_error_code,
        "count": error.bytes_transferred,
        "errno": error.errno,
        "strerror": error.strerror,
        "args": error.args,
        "str": str(error),
        "repr": repr(error),
        "state": vars(error),
    }


# Attributes


@pytest.mark.page("B39", "B40")
@pytest.mark.fact("F253", "F254")
@unix_only
def test_attributes() -> None:
    error = SocketException(SocketError.CONNECTION_RESET, bytes_transferred=4096)
    assert error.socket_error_code is SocketError.CONNECTION_RESET
    assert error.error_code == 10054
    assert type(error.error_code) is int
    assert error.native_error_code == errno.ECONNRESET
    assert error.bytes_transferred == 4096
    assert error.errno == errno.ECONNRESET
    assert error.strerror == "the peer reset the connection"
    assert error.args == (errno.ECONNRESET, "the peer reset the connection")
    assert error.filename is None


def test_a_plain_number_becomes_the_code() -> None:
    error = SocketException(10040)
    assert error.socket_error_code is SocketError.MESSAGE_SIZE
    assert type(error.socket_error_code) is SocketError


def test_defaults() -> None:
    error = SocketException(SocketError.HOST_NOT_FOUND, native_error_code=None)
    assert error.bytes_transferred == 0
    if sys.platform != "win32":
        assert error.native_error_code == 0
        assert error.errno == 0


@unix_only
def test_a_given_errno_wins() -> None:
    error = SocketException(SocketError.ACCESS_DENIED, native_error_code=errno.EPERM)
    assert error.native_error_code == errno.EPERM
    assert error.errno == errno.EPERM
    assert SocketException(SocketError.ACCESS_DENIED).native_error_code == errno.EACCES
    # 0 is given, too.
    assert SocketException(SocketError.ACCESS_DENIED, native_error_code=0).native_error_code == 0


@unix_only
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (SocketError.OPERATION_ABORTED, errno.ECANCELED),
        (SocketError.IO_PENDING, errno.EINPROGRESS),
        (SocketError.SHUTDOWN, errno.EPIPE),
        (SocketError.SUCCESS, 0),
        (SocketError.SOCKET_ERROR, 0),
        (SocketError.NO_RECOVERY, 0),
    ],
)
def test_errno_by_default(code: SocketError, expected: int) -> None:
    assert SocketException(code).native_error_code == expected


@pytest.mark.parametrize("number", [10009, 104, 1, -2, 2**40])
def test_a_number_that_is_no_code_is_refused(number: int) -> None:
    with pytest.raises(
        ValueError, match=rf"code .*{number}.* errno, .*native_error_code"
    ) as caught:
        SocketException(number)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("wrong", [None, "10054", 10054.0])
def test_a_code_that_is_no_number_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"code .*{type(wrong).__name__}"):
        SocketException(wrong)


def test_only_the_code_is_positional() -> None:
    with pytest.raises(TypeError):
        SocketException(SocketError.SHUTDOWN, 5)  # type: ignore[call-arg]


# Text


@pytest.mark.fact("F254")
@pytest.mark.parametrize(
    ("count", "words"),
    [
        (None, ""),
        (0, ", with no byte accepted"),
        (1, ", with 1 byte accepted"),
        (2, ", with 2 bytes accepted"),
        (4789053, ", with 4789053 bytes accepted"),
    ],
)
@pytest.mark.parametrize("detail", [None, "connect it first"])
def test_text(count: int | None, words: str, detail: str | None) -> None:
    error = SocketException(SocketError.NOT_CONNECTED, bytes_transferred=count, detail=detail)
    end = "" if detail is None else ": connect it first"
    assert str(error) == f"the socket is not connected (NOT_CONNECTED, 10057){words}{end}"
    # What goes on in the text is not part of what the code means.
    assert error.strerror == "the socket is not connected"


@pytest.mark.parametrize("code", SocketError)
def test_every_code_says_what_happened_and_its_name_and_number(code: SocketError) -> None:
    assert str(SocketException(code)) == f"{SENTENCES[code]} ({code.name}, {code.value})"


@unix_only
def test_an_error_without_a_code_names_its_errno() -> None:
    text = str(SocketException(SocketError.SOCKET_ERROR, native_error_code=errno.ENOMEM))
    assert text.endswith(f"(SOCKET_ERROR, -1, errno {errno.ENOMEM} ENOMEM)")
    text = str(SocketException(SocketError.SOCKET_ERROR, native_error_code=99999))
    assert text.endswith("(SOCKET_ERROR, -1, errno 99999 of no name)")
    # Where the code says it all, a second number would only be in the way.
    assert "errno" not in str(SocketException(SocketError.SHUTDOWN))


def test_repr_makes_an_equal_one() -> None:
    for error in (
        SocketException(SocketError.SHUTDOWN),
        SocketException(SocketError.SHUTDOWN, bytes_transferred=0, native_error_code=7),
        SocketException(SocketError.MESSAGE_SIZE, bytes_transferred=9, detail="cut 'it' up"),
    ):
        assert facts(eval(repr(error))) == facts(error)
    assert repr(Picky("a", "b")).startswith("Picky(SocketError.TIMED_OUT, bytes_transferred=3, ")


# Copies

SAMPLES = [
    SocketException(SocketError.SUCCESS),
    SocketException(SocketError.CONNECTION_RESET, bytes_transferred=0),
    SocketException(
        SocketError.ACCESS_DENIED,
        bytes_transferred=12,
        native_error_code=errno.EPERM,
        detail="ask the administrator",
    ),
    Picky("so ", "slow"),
]


@pytest.mark.parametrize("error", SAMPLES, ids=repr)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_faithfully(error: SocketException, protocol: int) -> None:
    again = pickle.loads(pickle.dumps(error, protocol))
    assert again is not error
    assert facts(again) == facts(error)


@pytest.mark.parametrize("error", SAMPLES, ids=repr)
def test_copies_faithfully(error: SocketException) -> None:
    for again in (copy.copy(error), copy.deepcopy(error)):
        assert again is not error
        assert facts(again) == facts(error)


def test_a_copy_keeps_what_was_added_and_its_own_state() -> None:
    error: Any = SocketException(SocketError.SHUTDOWN, bytes_transferred=1)
    error.where = ["line 1"]
    error.__notes__ = ["seen at noon"]
    again: Any = pickle.loads(pickle.dumps(error))
    assert again.where == ["line 1"]
    assert again.__notes__ == ["seen at noon"]
    shallow: Any = copy.copy(error)
    shallow.bytes_transferred = 99
    assert error.bytes_transferred == 1
    assert copy.deepcopy(error).where is not error.where


@pytest.mark.parametrize(
    "kind", [ObjectDisposedError, InvalidOperationError, OperationInProgressError]
)
def test_the_others_copy_faithfully_too(kind: type[Exception]) -> None:
    error = kind("these args are in use")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is kind
        assert again.args == ("these args are in use",)
    assert copy.copy(error).args == error.args


# Being raised


def test_keeps_everything_when_raised_from_another() -> None:
    cause = OSError(errno.EPIPE, "broken")
    error = SocketException(SocketError.SHUTDOWN, bytes_transferred=77, detail="why")
    before = facts(error)
    with pytest.raises(SocketException) as caught:
        raise error from cause
    assert caught.value is error
    assert error.__cause__ is cause
    assert facts(error) == before


def test_comes_out_of_an_outcome_whole() -> None:
    error = SocketException(SocketError.OPERATION_ABORTED, bytes_transferred=5)
    with pytest.raises(SocketException) as caught:
        outcome.Error(error).unwrap()
    assert caught.value is error
    assert error.bytes_transferred == 5


# Places among other errors


@pytest.mark.parametrize("code", SocketError)
def test_never_becomes_one_of_the_special_oserrors(code: SocketError) -> None:
    error = SocketException(code)
    assert type(error) is SocketException
    assert not isinstance(error, (ConnectionError, BlockingIOError, TimeoutError, PermissionError))


def test_never_becomes_one_whatever_the_errno() -> None:
    for number in errno.errorcode:
        error = SocketException(SocketError.SOCKET_ERROR, native_error_code=number)
        assert type(error) is SocketException
        assert error.errno == number


@pytest.mark.parametrize(
    ("kind", "mro"),
    [
        (SocketException, [SocketException, OSError, Exception]),
        (ObjectDisposedError, [ObjectDisposedError, trio.ClosedResourceError, Exception]),
        (InvalidOperationError, [InvalidOperationError, RuntimeError, Exception]),
        (
            OperationInProgressError,
            [
                OperationInProgressError,
                InvalidOperationError,
                RuntimeError,
                trio.BusyResourceError,
                Exception,
            ],
        ),
    ],
)
def test_ancestors(kind: type[Exception], mro: list[type]) -> None:
    assert list(kind.__mro__) == [*mro, BaseException, object]


@pytest.mark.parametrize(
    ("kind", "caught_as"),
    [
        (ObjectDisposedError, [trio.ClosedResourceError]),
        (InvalidOperationError, [RuntimeError]),
        (
            OperationInProgressError,
            [InvalidOperationError, trio.BusyResourceError, RuntimeError],
        ),
    ],
)
def test_one_sentence_and_all_its_names(kind: type[Exception], caught_as: list[type]) -> None:
    for base in caught_as:
        with pytest.raises(base) as caught:
            raise kind("these args are in use")
        assert type(caught.value) is kind
        assert str(caught.value) == "these args are in use"
    with pytest.raises(TypeError):
        kind()
    with pytest.raises(TypeError):
        kind("one", "two")


def test_a_disposed_object_is_no_invalid_operation() -> None:
    assert not issubclass(ObjectDisposedError, InvalidOperationError)
    assert not issubclass(InvalidOperationError, trio.BusyResourceError)
