"""A world that is drawn by chance: too large to be tried in full, with all that programs do with sends."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, final

import attrs
import trio

from .. import ExitPolicy, InvalidOperationError, Socket, add_instrument
from ._ledger import Ledger
from ._world import MOST_BYTES, World
from ._worlds import ERRORS, grace_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._case import Case
    from ._record import Sent

#: What is done next, each as likely as it is often here.
ACTIONS: Final = (
    *("send_async",) * 5,
    *("begin_send",) * 3,
    *("send",) * 3,
    *("sleep",) * 4,
    "stop",
    "end",
    "initiator",
)

#: What follows the event of a send, each as likely as it is often here.
FOLLOWS: Final = (*("nothing",) * 5, "again", "resume", "stop", "later", "raise")

#: Nothing in a random world is longer.
MOST_IN_ONE: Final = 5


class _RaisedByHandler(Exception):
    """What a handler raises."""


@final
@attrs.frozen
class _Close:
    """Something that the explorer may do: close a socket."""

    world: World
    socket: Socket

    @property
    def cancel_called(self) -> bool:
        return self.world.is_closed(self.socket)

    def cancel(self) -> None:
        self.world.close(self.socket)


async def random_world(case: Case) -> None:
    """Send over one or two sockets from nested initiators, with time limits, resumptions and errors.

    It has too many decisions to be tried in full. ``explore(random_world, cancels=2, orders=3, seeds=range(1000))``
    draws them. Handlers send again by the same args, stop others, raise or are asynchronous; some messages are lists of
    buffers; some sends are awaited by args, or their ends are; sockets are shut down and closed. In one world of four a
    `Ledger` watches, and its books have to add up; in the others sends take their fast path.

    Args:
      case: what the scenario is given.

    **Checkpoints**: always.

    **If cancelled**: all that it has started ends.

    **Threads**: only from the Trio thread.
    """
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(World(case))
        sockets = []
        for number in range(1, 2 + case.choose(2, "more sockets")):
            is_stream = case.choose(6, f"socket {number} has datagrams") < 5
            errors = ERRORS[: max(0, case.choose(6, f"errors of {number}") - 2)]
            socket = world.socket(is_stream=is_stream, errors=errors)
            sockets.append(socket)
            if case.choose(6, f"{number} may be closed anywhere") == 5:
                case.cancellable(_Close(world, socket), f"socket {number}")
        if case.choose(4, "is watched") == 3:
            ledger = Ledger()
            stack.enter_context(add_instrument(ledger))
            stack.callback(_check_books, case, ledger, sockets)
        nursery = await stack.enter_async_context(trio.open_nursery())
        await _RandomWorld(case, world, nursery, sockets).open_initiator(0)


def _check_books(case: Case, ledger: Ledger, sockets: list[Socket]) -> None:
    try:
        ledger.check(*sockets)
    except AssertionError as error:
        case._say(str(error), "books_add_up")


@final
class _RandomWorld:
    """What is done in it."""

    def __init__(
        self, case: Case, world: World, nursery: trio.Nursery, sockets: list[Socket]
    ) -> None:
        self._case = case
        self._world = world
        self._nursery = nursery
        self._sockets = sockets
        self._sends: list[Sent] = []
        self._left = MOST_BYTES

    async def open_initiator(self, depth: int) -> None:
        """Do a few things by chance inside of an initiator of some policy."""
        case, world = self._case, self._world
        policies = [policy for policy in ExitPolicy if depth or policy is not ExitPolicy.ADOPT]
        policy = policies[case.choose(len(policies), "policy")]
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(world.initiator(policy, grace=grace_of(policy)))
            except InvalidOperationError:
                # ADOPT, but the initiator around it has been stopped meanwhile, and takes nobody in.
                return
            for _ in range(2 + case.choose(8, "actions")):
                if self._mend():
                    continue
                action = ACTIONS[case.choose(len(ACTIONS), "action")]
                if action == "sleep":
                    await trio.sleep((0.25, 0.5, 1.0, 3.0)[case.choose(4, "seconds")])
                elif action == "initiator":
                    if depth < 2:
                        await self.open_initiator(depth + 1)
                elif action == "stop":
                    self._stop_one()
                elif action == "end":
                    self._end(self._some_socket())
                else:
                    self._send(action, self._some_socket())

    def _some_socket(self) -> Socket:
        return self._sockets[self._case.choose(len(self._sockets), "socket")]

    def _size(self) -> int:
        size = min(self._case.choose(1 + MOST_IN_ONE, "size"), self._left)
        self._left -= size
        return size

    def _mend(self) -> bool:
        """Perhaps do something about a stream that is torn; return whether that was done."""
        case, world = self._case, self._world
        torn = [
            each for each in self._sockets if each.torn is not None and not world.is_closed(each)
        ]
        if not torn or case.choose(3, "leave it torn") == 2:
            return False
        how = case.choose(3, "mend")
        if how == 2:
            self._nursery.start_soon(world.send_rest, torn[0])
        elif how == 1 or world.resume(torn[0]) is None:
            world.forget_torn(torn[0])
        return True

    def _stop_one(self) -> None:
        """Stop a send, which may be over."""
        if self._sends:
            self._world.stop(self._sends[self._case.choose(len(self._sends), "which to stop")])

    def _end(self, socket: Socket) -> None:
        if self._world.is_closed(socket):
            return
        if self._case.choose(2, "shut down"):
            self._world.shutdown(socket)
        else:
            self._world.close(socket)

    def _send(self, face: str, socket: Socket) -> None:
        case, world = self._case, self._world
        size = self._size()
        if face == "send":
            by_args = case.choose(3, "by args") == 2
            self._nursery.start_soon(self._await_send, socket, size, by_args)
            return
        parts = 1 + (case.choose(4, "parts") == 3)
        if face == "begin_send":
            callback = case.choose(3, "no callback") < 2
            sent = world.begin_send(socket, size, parts=parts, callback=callback)
        else:
            sent = self._send_args(socket, size, parts)
        self._sends.append(sent)
        if case.choose(3, "await its end") == 2:
            self._nursery.start_soon(world.wait, sent)

    async def _await_send(self, socket: Socket, size: int, by_args: bool) -> None:
        await self._world.send(socket, size, by_args=by_args)

    def _send_args(self, socket: Socket, size: int, parts: int) -> Sent:
        case, world = self._case, self._world
        if self._sends and case.choose(5, "the same args") == 4:
            earlier = self._sends[case.choose(len(self._sends), "which args")]
            return world.send_async(socket, size, parts=parts, again=earlier)
        timeout = stall_timeout = None
        limit = case.choose(6, "has a limit")
        if limit > 3:
            seconds = (0.0, 0.5, 1.5)[case.choose(3, "limit")]
            timeout, stall_timeout = (seconds, None) if limit == 4 else (None, seconds)
        return world.send_async(
            socket, size, parts=parts, timeout=timeout, stall_timeout=stall_timeout,
            then=self._follow(socket),
        )  # fmt: skip

    def _follow(self, socket: Socket) -> Callable[[Sent], object] | None:
        """Return what the handler of a send does, if it does anything."""
        follow = FOLLOWS[self._case.choose(len(FOLLOWS), "follow")]
        world = self._world

        def again(sent: Sent) -> None:
            self._sends.append(world.send_async(socket, self._size(), again=sent))

        def resume(sent: Sent) -> None:
            if not sent.resumed:  # or one whose time is over at once would be resumed for ever
                world.resume(socket)

        def stop(sent: Sent) -> None:
            self._stop_one()

        async def later(sent: Sent) -> None:
            await trio.lowlevel.checkpoint()
            self._sends.append(world.begin_send(socket, self._size()))

        def fail(sent: Sent) -> None:
            raise _RaisedByHandler

        follows: dict[str, Callable[[Sent], object]] = {
            "again": again,
            "resume": resume,
            "stop": stop,
            "later": later,
            "raise": fail,
        }
        return follows.get(follow)
