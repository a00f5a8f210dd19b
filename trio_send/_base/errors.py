"""The errors: what went wrong, as a sentence for people and as numbers for programs.

There are two sorts. `SocketException` reports what became of the input and output itself, with a
code and with the exact count of bytes that were accepted in spite of it. The others report a call
that was wrong, changed nothing and can be made right by the caller; they are also the Trio
exceptions of the same meaning, so that code written for Trio handles them unchanged.
"""

from __future__ import annotations

import errno as _errno
from typing import Any

import trio

from .codes import SENTENCES, SocketError, errno_from_socket_error


class SocketException(OSError):
    """Report a failed or stopped socket operation: its code and its count of accepted bytes.

    The text says what happened, names the code and its number and, for an operation, how many bytes
    the kernel had accepted by then: an exact count, but accepted does not mean delivered.

    A reset is a code like any other here, and so is a timeout: unlike `OSError` itself, this class
    never turns into `ConnectionResetError` or `TimeoutError`, whatever the errno.

    Args:
        code: a `SocketError`, or the Winsock number of one. To report an errno, translate it first
            and pass it as ``native_error_code`` too.
        bytes_transferred: how many bytes of the operation the kernel accepted. Leave it out where
            no operation is concerned, and the text says nothing of bytes.
        native_error_code: the errno that the system reported; by default the errno that goes with
            ``code`` (F259), or 0 if there is none.
        detail: what else the reader should know, such as who stopped the operation or what to do
            now. It ends the text.

    Attributes:
        socket_error_code: the `SocketError`.
        error_code: its Winsock number, on every platform (F253).
        native_error_code: the errno (F253); also in `errno`.
        bytes_transferred: the number of bytes that the kernel accepted; 0 if none was given.

    Raises:
        TypeError: ``code`` is not an int.
        ValueError: ``code`` is not the number of a `SocketError`.
    """

    socket_error_code: SocketError
    native_error_code: int
    bytes_transferred: int

    def __init__(
        self,
        code: SocketError | int,
        *,
        bytes_transferred: int | None = None,
        native_error_code: int | None = None,
        detail: str | None = None,
    ) -> None:
        if not isinstance(code, int):
            raise TypeError(f"code must be a SocketError or an int, not {type(code).__name__}")
        try:
            code = SocketError(code)
        except ValueError:
            # The likeliest number to get here by mistake is an errno.
            raise ValueError(
                f"code must be the number of a SocketError, and {code} is not one; if it is an errno, pass it as "
                "native_error_code, with the SocketError that stands for it as code"
            ) from None
        if native_error_code is None:
            native_error_code = errno_from_socket_error(code) or 0
        # Fills errno, strerror and args, in the shape every other OSError has.
        super().__init__(native_error_code, SENTENCES[code])
        self.socket_error_code = code
        self.native_error_code = native_error_code
        self.bytes_transferred = bytes_transferred or 0
        self._counted = bytes_transferred is not None
        self._detail = detail

    @property
    def error_code(self) -> int:
        """The Winsock number of the code, the same on every platform (F253)."""
        return int(self.socket_error_code)

    def __str__(self) -> str:
        code = self.socket_error_code
        parts = [SENTENCES[code], f" ({code.name}, {int(code)}"]
        if code is SocketError.SOCKET_ERROR and self.native_error_code:
            # The code says nothing here, the errno is all there is to know.
            name = _errno.errorcode.get(self.native_error_code, "of no name")
            parts.append(f", errno {self.native_error_code} {name}")
        parts.append(")")
        if self._counted:
            count = self.bytes_transferred
            parts.append(f", with {count or 'no'} byte{'' if count <= 1 else 's'} accepted")
        if self._detail is not None:
            parts.append(f": {self._detail}")
        return "".join(parts)

    def __repr__(self) -> str:
        parts = [f"SocketError.{self.socket_error_code.name}"]
        if self._counted:
            parts.append(f"bytes_transferred={self.bytes_transferred}")
        parts.append(f"native_error_code={self.native_error_code}")
        if self._detail is not None:
            parts.append(f"detail={self._detail!r}")
        return f"{type(self).__name__}({', '.join(parts)})"

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError would call the class with its own arguments, errno and strerror, which are not
        # ours. What else the instance carries, notes included, travels as its state.
        arguments = (type(self), self.socket_error_code, self.native_error_code)
        return _rebuild, arguments, self.__dict__.copy()


def _rebuild(
    cls: type[SocketException], code: SocketError, native_error_code: int
) -> SocketException:
    """Make the exception anew for pickle and copy, which then put its state back."""
    # Not by calling the class: a subclass may take other arguments.
    error = cls.__new__(cls)
    SocketException.__init__(error, code, native_error_code=native_error_code)
    return error


class ObjectDisposedError(trio.ClosedResourceError):
    """Report the use of a socket, or of an operation object, after it was closed.

    Of a socket it is a `SocketException` with OPERATION_ABORTED too, whether the close came before the call or ended
    its wait. So one ``except`` clause, with either of the two names, meets the close of another task at any moment.

    Args:
        message: one sentence that says what was closed.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)


class SocketClosedError(SocketException, ObjectDisposedError):
    """Report that the socket was closed, before the call or during it.

    Who waits on a socket that another task closes cannot know which of the two it will meet, so both are this error.

    Args:
        detail: one sentence that says what the close has met.
        bytes_transferred: how many bytes of the operation the kernel accepted, if there was one.
        native_error_code: the errno. By default EBADF, which is what the system says of a call that comes too late;
            None stands for that of an operation that was pending.
    """

    def __init__(
        self,
        detail: str,
        *,
        bytes_transferred: int | None = None,
        native_error_code: int | None = _errno.EBADF,
    ) -> None:
        SocketException.__init__(
            self,
            SocketError.OPERATION_ABORTED,
            bytes_transferred=bytes_transferred,
            native_error_code=native_error_code,
            detail=detail,
        )

    def __str__(self) -> str:
        if self.native_error_code == _errno.EBADF and self._detail is not None:
            return self._detail  # nothing was pending, so nothing was aborted
        return SocketException.__str__(self)


class InvalidOperationError(RuntimeError):
    """Report a call that the present state of its object forbids; nothing was changed.

    Args:
        message: one sentence that says what forbids the call and what would make it legal.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)


class OperationInProgressError(InvalidOperationError, trio.BusyResourceError):
    """Report that an operation object was to be started or changed while it is in use.

    It is an `InvalidOperationError`, as in .NET, and a `trio.BusyResourceError`, as Trio has it
    for two tasks in one place.

    Args:
        message: one sentence that names the object and what it is busy with.
    """


def detail_of(error: SocketException) -> str | None:
    """Return what an error says besides its code, for those who make another one of it."""
    return error._detail
