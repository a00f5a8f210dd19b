"""The command line ``trio-send``, also run as ``python -m trio_send``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import trio

from .failures import Failure, innermost
from .interruption import INTERRUPTED, hearing_as_before, ignore_signals
from .output import complain, finish
from .parser import make_parser

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
      argv: the arguments without the name of the program; None stands for those of the process.

    Returns:
      The exit status: 0 if all went well, 1 if not, 2 if the arguments make no sense, 130 after Ctrl-C.
    """
    if argv is not None:
        with hearing_as_before():
            return _run(argv)
    try:
        return _run(sys.argv[1:])
    finally:
        ignore_signals()


def _run(argv: Sequence[str]) -> int:
    name = "trio-send"
    try:
        try:
            options = make_parser().parse_args(argv)
        except SystemExit as ended:  # by argparse, which has said why
            finish()
            return ended.code if isinstance(ended.code, int) else 0
        except OSError:  # before Python 3.11 it minded when nobody took the help text
            finish()
            return 0
        name = f"{name} {options.command.name}"
        status: int = trio.run(
            options.command.run, options, restrict_keyboard_interrupt_to_checkpoints=True
        )
        return status
    except BaseException as error:
        cause = innermost(error)
        if isinstance(cause, Failure):
            if cause.sentence:
                complain(f"{name}: {cause.sentence}")
            return cause.status
        if isinstance(cause, KeyboardInterrupt):
            complain(f"{name}: interrupted by Ctrl-C")
            return INTERRUPTED
        raise
