"""``trio-send send``: send a file or standard input, and say exactly what was accepted."""

from __future__ import annotations

import argparse
import math

import trio

from ..addresses import Address, parse_peer
from ..command import Command
from ..failures import FAILURE, Failure
from ..interruption import interruptible
from ..output import say
from ..timeline import add_timeline_option, drawn
from ..trace import add_trace_option, traced
from ..values import parse_count, parse_positive_size, parse_seconds, parse_size, show_seconds
from .endpoints import connect
from .faces import FACES
from .report import summary, verdict
from .source import open_source
from .transmission import Transmission

DEFAULT_CHUNK = 256 * 1024
DEFAULT_IN_FLIGHT = 4

DESCRIPTION = """\
Send a file, or standard input, and say how many bytes were accepted, and their SHA-256. Accepted means taken by this
machine's kernel; whether the receiver ever reads them, only the receiver can say. If the transfer is stopped, by
Ctrl-C or a time limit, it says from which offset to go on with --from; if the connection broke, where to look that
offset up. It ends with a status other than 0 then.
"""


class _Options(argparse.Namespace):
    file: str
    address: Address
    face: str
    chunk: int
    in_flight: int
    timeout: float
    stall_timeout: float
    offset: int
    trace: str | None
    timeline: str | None


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="what to send; - stands for standard input")
    parser.add_argument(
        "address",
        metavar="ADDRESS",
        type=parse_peer,
        help="where to send it: HOST:PORT, [V6]:PORT or unix:PATH",
    )
    parser.add_argument(
        "--face",
        choices=FACES,
        default="event",
        help="which of the library's three ways to use: event for send_async, begin for begin_send, "
        "await for await send (default: %(default)s)",
    )
    parser.add_argument(
        "--chunk",
        metavar="SIZE",
        type=parse_positive_size,
        default=DEFAULT_CHUNK,
        help="how many bytes each operation sends, such as 64K or 1M (default: 256K)",
    )
    parser.add_argument(
        "--in-flight",
        metavar="N",
        type=parse_count,
        default=DEFAULT_IN_FLIGHT,
        help="how many operations may be under way at once (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=parse_seconds,
        default=math.inf,
        help="stop if all of it, connecting included, takes longer than this (default: no limit)",
    )
    parser.add_argument(
        "--stall-timeout",
        metavar="SECONDS",
        type=parse_seconds,
        default=math.inf,
        help="stop if no byte was accepted for so long (default: no limit)",
    )
    parser.add_argument(
        "--from",
        dest="offset",
        metavar="OFFSET",
        type=parse_size,
        default=0,
        help="leave out the first OFFSET bytes, to go on with a transfer that was stopped (default: 0)",
    )
    add_trace_option(parser)
    add_timeline_option(parser)


async def _run(options: _Options) -> int:
    transmission: Transmission | None = None
    limit = trio.CancelScope()
    async with interruptible() as interruption:
        async with (
            open_source(options.file, options.offset) as source,
            traced(options.trace, options.file),
            drawn(options.timeline, options.file, f"trio-send send {options.file}"),
        ):
            limit.deadline = trio.current_time() + options.timeout
            with limit:
                socket = await connect(options.address)
                transmission = Transmission(
                    socket,
                    source,
                    FACES[options.face],
                    chunk_size=options.chunk,
                    in_flight=options.in_flight,
                    label=source.name,
                )
                await transmission.run(stall_timeout=options.stall_timeout)
    if interruption.signal is not None:
        cause = f"stopped by {interruption.name}"
    elif limit.cancelled_caught:
        cause = f"stopped after {show_seconds(options.timeout)}, the limit of --timeout"
    else:
        cause = ""
    status = interruption.status if interruption.signal is not None else FAILURE
    if transmission is None:
        raise Failure(
            f"{cause}, before there was a connection to {options.address}; nothing was sent", status
        )
    for line in summary(transmission, options.face, options.offset):
        say(line)
    fault = verdict(transmission, options.offset, cause)
    if fault is None and interruption.signal is None:
        return 0
    raise Failure(
        fault or f"{cause}, when all had been accepted and the receiver was waited for", status
    )


SEND = Command("send", "send a file or standard input", DESCRIPTION, _add_arguments, _run)
