"""The command line as a whole: the commands there are, and one parser for all of them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NoReturn

from .. import __accelerated__, __version__
from .bench.command import BENCH
from .demo.command import DEMO
from .explore.command import EXPLORE
from .failures import USAGE
from .output import complain
from .transfer.send_command import SEND
from .transfer.sink_command import SINK

if TYPE_CHECKING:
    from .command import Command

#: All commands, in the order of the help text. To add one, write a module that makes a `Command`, and name it here.
COMMANDS: tuple[Command, ...] = (DEMO, SEND, SINK, BENCH, EXPLORE)


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one sentence."""

    def error(self, message: str) -> NoReturn:
        """Complain and exit."""
        complain(f"{self.prog}: {message} (try '{self.prog} --help')")
        raise SystemExit(USAGE)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; what it parses has the `Command` as ``command`` and its name as ``command_name``."""
    parser = _Parser(
        prog="trio-send",
        description="Send over real sockets, and see exactly what was accepted.",
        epilog="The exit status is 0 if all went well, 1 if not, 2 if the command line makes no sense, and 128 and the "
        "number of a signal if that ended the command: 130 after Ctrl-C.",
        allow_abbrev=False,
    )
    way = "with" if __accelerated__ else "without"
    parser.add_argument(
        "--version",
        action="version",
        version=f"trio-send {__version__}, {way} the accelerator",
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, dest="command_name")
    for command in COMMANDS:
        subparser = subparsers.add_parser(
            command.name,
            help=command.summary,
            description=command.description,
            allow_abbrev=False,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(command=command)
    return parser
