"""Scenarios that are ready: worlds that are small enough to be tried in full, and larger ones to be drawn by chance."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import trio

from .. import ExitPolicy, InvalidOperationError
from ._world import World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .. import Socket
    from ._case import Case

FACES: Final = ("send_async", "begin_send", "send")

#: The seconds that DRAIN and FINISH_STARTED give: more than the kernel blocks once, and less than twice.
GRACE: Final = 1.5


def grace_of(policy: ExitPolicy) -> float | None:
    """The grace that a policy needs."""
    return GRACE if policy in (ExitPolicy.DRAIN, ExitPolicy.FINISH_STARTED) else None


def start(world: World, nursery: trio.Nursery, socket: Socket, face: str, size: int) -> None:
    """Send by one of the faces."""
    if face == "send":
        nursery.start_soon(world.send, socket, size)
    elif face == "begin_send":
        world.begin_send(socket, size)
    else:
        world.send_async(socket, size)


async def small_world(
    case: Case,
    *,
    sizes: Sequence[int] = (2, 1),
    errors: Sequence[str] = (),
    is_stream: bool = True,
    policy: ExitPolicy | None = None,
) -> None:
    """Send a few small messages over one socket from one initiator, and leave it half a second later.

    Which face starts each message, how the kernel takes them, and the exit policy are chosen. So ``explore(small_world,
    limits={"kernel": 3})`` tries every split and every place of a cancel under every policy.

    Args:
      case: what the scenario is given.
      sizes: how many bytes each message has.
      errors: the names of the errnos that an attempt may fail with.
      is_stream: whether the socket is a stream; else what it carries are datagrams.
      policy: the exit policy, if it is not to be chosen.

    **Checkpoints**: always.

    **If cancelled**: all that it has started ends.

    **Threads**: only from the Trio thread.
    """
    if policy is None:
        policy = tuple(ExitPolicy)[case.choose(len(ExitPolicy), "policy")]
    faces = [FACES[case.choose(len(FACES), f"face {i}")] for i, _ in enumerate(sizes, 1)]
    async with World(case) as world, trio.open_nursery() as nursery:
        socket = world.socket(is_stream=is_stream, errors=errors)
        if policy is ExitPolicy.ADOPT:
            async with world.initiator(), world.initiator(policy):
                for face, size in zip(faces, sizes, strict=True):
                    start(world, nursery, socket, face, size)
                await trio.sleep(0.5)
        else:
            async with world.initiator(policy, grace=grace_of(policy)):
                for face, size in zip(faces, sizes, strict=True):
                    start(world, nursery, socket, face, size)
                await trio.sleep(0.5)


#: The sizes of at most two messages with at most 3 bytes in all, each with at least one.
SMALLEST: Final = ((1,), (2,), (3,), (1, 1), (1, 2), (2, 1))


async def smallest_world(case: Case) -> None:
    """Send one or two messages, of 3 bytes at most in all: whatever such a `small_world` can do.

    Which sizes they have is chosen, like all else.

    Args:
      case: what the scenario is given.

    **Checkpoints**: always.

    **If cancelled**: all that it has started ends.

    **Threads**: only from the Trio thread.
    """
    await small_world(case, sizes=SMALLEST[case.choose(len(SMALLEST), "sizes")])


#: What a random world does next, each as likely as it is often here.
ACTIONS: Final = (
    *("send_async",) * 4,
    *("begin_send",) * 2,
    *("send",) * 2,
    *("sleep",) * 3,
    "initiator",
)


async def random_world(case: Case) -> None:
    """Send over one or two sockets from nested initiators, with time limits, resumptions and errors.

    It has too many decisions to be tried in full. ``explore(random_world, cancels=2, orders=3, seeds=range(1000))``
    draws them.

    Args:
      case: what the scenario is given.

    **Checkpoints**: always.

    **If cancelled**: all that it has started ends.

    **Threads**: only from the Trio thread.
    """
    async with World(case) as world, trio.open_nursery() as nursery:
        sockets = []
        for number in range(1, 2 + case.choose(2, "more sockets")):
            is_stream = case.choose(6, f"socket {number} has datagrams") < 5
            errors = ("ECONNRESET", "ENOBUFS", "EINVAL")[: case.choose(4, f"errors of {number}")]
            sockets.append(world.socket(is_stream=is_stream, errors=errors))
        await _random_initiator(case, world, nursery, sockets, depth=0)


async def _random_initiator(
    case: Case, world: World, nursery: trio.Nursery, sockets: Sequence[Socket], depth: int
) -> None:
    """Do a few things by chance inside of an initiator of some policy."""
    policies = [policy for policy in ExitPolicy if depth or policy is not ExitPolicy.ADOPT]
    policy = policies[case.choose(len(policies), "policy")]
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(world.initiator(policy, grace=grace_of(policy)))
        except InvalidOperationError:
            # ADOPT, but the initiator around it has been stopped meanwhile, and takes nobody in.
            return
        for _ in range(1 + case.choose(7, "actions")):
            torn = [socket for socket in sockets if socket.torn is not None]
            if torn and case.choose(3, "leave it torn") < 2:
                if case.choose(2, "forget") or world.resume(torn[0]) is None:
                    world.forget_torn(torn[0])
                continue
            action = ACTIONS[case.choose(len(ACTIONS), "action")]
            socket = sockets[case.choose(len(sockets), "socket")]
            if action == "sleep":
                await trio.sleep((0.25, 0.5, 1.0, 3.0)[case.choose(4, "seconds")])
            elif action == "initiator":
                if depth < 2:
                    await _random_initiator(case, world, nursery, sockets, depth + 1)
            else:
                size = case.choose(6, "size")
                if action == "send_async" and case.choose(4, "has a limit") == 3:
                    world.send_async(socket, size, timeout=(0.0, 0.5, 1.5)[case.choose(3, "limit")])
                else:
                    start(world, nursery, socket, action, size)
