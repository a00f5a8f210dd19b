"""Scenarios that are ready: worlds that are small enough to be tried in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from .. import ExitPolicy
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


#: The errors that worlds may meet: one that passes, one of the message alone, and one that ends a connection.
ERRORS: Final = ("ENOBUFS", "EINVAL", "ECONNRESET")


async def smallest_world(case: Case) -> None:
    """Send one or two messages, of 3 bytes at most in all: whatever such a `small_world` can do.

    Which sizes they have is chosen, like all else. An attempt may fail with ENOBUFS, EINVAL or ECONNRESET.

    Args:
      case: what the scenario is given.

    **Checkpoints**: always.

    **If cancelled**: all that it has started ends.

    **Threads**: only from the Trio thread.
    """
    await small_world(case, sizes=SMALLEST[case.choose(len(SMALLEST), "sizes")], errors=ERRORS)
