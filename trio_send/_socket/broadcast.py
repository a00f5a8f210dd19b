"""One message to many sockets, with a limit to what waits for each, so that a slow reader costs others nothing."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Literal, final

import attrs
import trio

from .._base.checks import require_whole_number
from .._base.error_numbers import NO_BUFFER_SPACE_AVAILABLE
from .._base.errors import ObjectDisposedError, SocketException
from .._operations.watermarks import OPERATION_WEIGHT
from .._owners.current import require_owner
from .async_result import EndedResult
from .core import core_of
from .results import record_of
from .socket import Socket

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .._base.codes import SocketError
    from .async_result import ResultOperation
    from .core import SocketCore

_WAYS: Final = ("skip", "drop_oldest", "close")


@final
@attrs.frozen
class BroadcastReport:
    """What became of one message at each of the sockets, as `broadcast` returns it."""

    #: On how many sockets the message was started: it has gone, or waits in the queue.
    started: int
    #: The sockets for which too much waits. The message was not started there, and with ``"close"`` they are closed.
    behind: tuple[Socket, ...]
    #: How many messages of earlier broadcasts were given up, none of which had begun to go.
    dropped: int
    #: The sockets that refused the message, and why; OPERATION_ABORTED stands for one that is closed.
    failed: Mapping[Socket, SocketError]


@trio.lowlevel.enable_ki_protection
def broadcast(
    sockets: Iterable[Socket],
    data: bytes,
    *,
    max_queued_bytes: int,
    when_behind: Literal["skip", "drop_oldest", "close"] = "skip",
) -> BroadcastReport:
    """Start to send one message on many sockets, except where too much waits already.

    It is `Socket.begin_send` for each of them, in order with all other sends there. Where nothing waits the message is
    always started, however long it is.

    Args:
      sockets: where to send; each one once.
      data: the message. Only `bytes`, because it may wait in many queues and must not change there.
      max_queued_bytes: how many bytes may wait for each socket, this message included. As with `Socket.high_water`,
        each operation that waits counts as 512 bytes besides its own.
      when_behind: what to do where more than that would wait. ``"skip"`` leaves this message out. ``"drop_oldest"``
        gives up messages of earlier broadcasts for it, the oldest first, if no byte of them was accepted; they end with
        NO_BUFFER_SPACE_AVAILABLE and 0 bytes. If that is not enough, this message is left out. ``"close"`` closes the
        socket.

    Returns:
      On how many sockets it was started, and which ones it was not and why.

    Raises:
      TypeError: ``sockets`` holds something that is no `Socket`, ``data`` is not `bytes`, or ``max_queued_bytes`` is no
        whole number.
      ValueError: ``max_queued_bytes`` is negative, or ``when_behind`` is none of the three.
      InvalidOperationError: no initiator is open, or one of the sockets belongs to another thread or another call of
        `trio.run`. Nothing was started.

    **Checkpoints**: never.

    **If cancelled**: nothing is raised here. What waits belongs to the initiator and ends with it.

    **Threads**: only from the Trio thread that uses the sockets.
    """
    if type(data) is not bytes:
        raise TypeError(
            f"data must be bytes, because what waits in many queues must not change, not {type(data).__name__}"
        )
    max_queued_bytes = require_whole_number("max_queued_bytes", max_queued_bytes, "bytes")
    if max_queued_bytes < 0:
        raise ValueError(
            f"max_queued_bytes is {max_queued_bytes}, but must be a number of bytes from 0 on"
        )
    if when_behind not in _WAYS:
        raise ValueError(
            f"when_behind must be one of {', '.join(map(repr, _WAYS))}, not {when_behind!r}"
        )
    owner = require_owner()
    targets = dict.fromkeys(sockets)
    cores: list[SocketCore] = []
    for socket in targets:
        if not isinstance(socket, Socket):
            raise TypeError(
                f"sockets must hold trio_send.Socket objects only, not {type(socket).__name__}"
            )
        core = core_of(socket)
        cores.append(core)
        if core.checked is owner:
            continue  # the latest start there was one of the same initiator, so the socket is one of its run
        try:
            core.require_usable()
        except ObjectDisposedError:
            pass  # nobody's mistake: a peer may go at any time
    dropped = 0
    behind: list[Socket] = []
    failed: dict[Socket, SocketError] = {}
    room = max_queued_bytes - len(data) - OPERATION_WEIGHT
    for socket, core in zip(targets, cores, strict=True):
        if core.broadcasts:
            _forget_begun(core.broadcasts)
        if core.sends.length and core.sends.weight > room:
            if when_behind == "drop_oldest":
                dropped += _drop_oldest(core, room)
            if core.sends.length and core.sends.weight > room:
                behind.append(socket)
                if when_behind == "close":
                    socket.close()
                continue
        try:
            result = socket.begin_send(data)
        except SocketException as error:
            failed[socket] = error.socket_error_code
        else:
            if type(result) is not EndedResult and not result.completed_synchronously:
                operation = record_of(result)
                # Nobody else will ask for it, and what becomes of the socket the next report tells.
                operation.take()
                if core.broadcasts is None:
                    core.broadcasts = deque()
                core.broadcasts.append(operation)
    started = len(cores) - len(behind) - len(failed)
    return BroadcastReport(started, tuple(behind), dropped, failed)


def _forget_begun(waiting: deque[ResultOperation]) -> None:
    """Forget the broadcasts that have ended or begun to go; a queue goes from its front."""
    while waiting and (waiting[0].is_completed or waiting[0].transferred):
        waiting.popleft()


def _drop_oldest(core: SocketCore, room: int) -> int:
    """Give up broadcasts that have not begun until there is room, as far as that goes; return how many."""
    waiting = core.broadcasts
    dropped = 0
    while waiting and core.sends.weight > room:
        dropped += waiting.popleft().request_stop(
            NO_BUFFER_SPACE_AVAILABLE, "a later broadcast took its place"
        )
    return dropped
