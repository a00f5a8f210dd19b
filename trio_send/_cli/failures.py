"""How a command ends early: with a sentence for the user and a status for the shell."""

from __future__ import annotations

import sys

from .. import SocketException

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

#: The command was used wrongly: nothing was tried.
USAGE = 2
#: The command was tried and did not succeed.
FAILURE = 1


class Failure(Exception):
    """End the command with one sentence on standard error, and no traceback.

    Args:
      sentence: what went wrong and what to do, without the name of the program in front and without a full stop.
      status: the exit status.
    """

    def __init__(self, sentence: str, status: int = FAILURE) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.status = status


def describe(error: OSError) -> str:
    """Say what an error of the system means, as part of a sentence.

    The count of a `SocketException` is left out, because the commands tell counts of whole transfers.
    """
    if isinstance(error, SocketException):
        return str(
            SocketException(error.socket_error_code, native_error_code=error.native_error_code)
        )
    return error.strerror or str(error) or type(error).__name__


def innermost(error: BaseException) -> BaseException:
    """Return the exception that matters most in a group, or the one that is no group itself.

    Nurseries wrap whatever leaves them. An interruption matters most, then a bug, which has to be seen, then a failure
    that has a sentence of its own.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [innermost(inner) for inner in error.exceptions]
    return min(leaves, key=_importance)


def _importance(error: BaseException) -> int:
    if not isinstance(error, Exception):
        return 0
    return 2 if isinstance(error, Failure) else 1
