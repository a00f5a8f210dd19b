"""Everything that a fuzzed sequence can do, and how it is run.

The actions of `SYNC` and `AWAITED` stand in the modules that are gathered here. Those of `CONTROL` open and leave
scopes and let others run; they are for the main task.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import trio
from trio.testing import wait_all_tasks_blocked

import trio_send
from tests import fuzz_awaits, fuzz_starts, fuzz_things
from tests.fuzz_things import LINES
from tests.fuzz_toolbox import AWAITED, SYNC, FuzzWorld, Task
from tests.fuzz_world import MOST_TASKS, PATIENCE, Boom, Pick, Step
from trio_send import ExitPolicy, open_initiator

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup


#: The modules of actions. To import one is to have its actions in the lists.
GATHERED = (fuzz_things, fuzz_starts, fuzz_awaits)

CONTROL = ("checkpoint", "settle", "sleep", "open", "leave", "fail", "scope", "in_initiator")

NAMES = sorted([*SYNC, *AWAITED, *CONTROL])


class Run:
    """Runs a sequence of steps in a world."""

    def __init__(self, world: FuzzWorld, steps: Sequence[Step]) -> None:
        self.world = world
        self.steps: Iterator[Step] = iter(steps)
        self.depth = 0

    async def main(self) -> None:
        world = self.world
        for kind in world.first_sockets:
            world.add_socket(kind, [LINES[(kind + n) % len(LINES)] for n in range(kind % 7)])
        for number in (1, 1, 3):
            world.add_args(Pick(bytes([number, 1, number])), None)
        with trio.fail_after(10_000):
            async with trio.open_nursery() as self.nursery:
                while await self.block() is not None:
                    pass
                for scope in world.scopes:
                    scope.deadline = trio.current_time() + 1
        for watched in world.sockets:
            watched.socket.close()
        for follower in world.followers:
            if follower.args.accept_socket is not None:
                follower.args.accept_socket.close()
        await wait_all_tasks_blocked()
        world.check_over()

    async def block(self) -> str | None:
        """Do steps up to the end of a scope; return why it ended, None at the end of the sequence."""
        for name, data in self.steps:
            pick = Pick(data)
            if name in SYNC:
                self.world.act((name, data))
            elif name in AWAITED:
                if self.world.tasks < MOST_TASKS:
                    self.nursery.start_soon(self.task, AWAITED[name](self.world, pick))
            elif name == "checkpoint":
                await trio.lowlevel.checkpoint()
            elif name == "settle":
                await wait_all_tasks_blocked()
                self.world.check_bytes()
            elif name == "sleep":
                await trio.sleep(1 + pick.number(3))
            elif name == "leave":
                return name
            elif name == "fail":
                if self.depth:
                    raise Boom
            elif name == "scope":
                await self.scope()
            elif self.depth < 4:
                await self.initiator(pick)
        return None

    async def task(self, run: Task) -> None:
        self.world.tasks += 1
        try:
            await run()
        finally:
            self.world.tasks -= 1

    async def scope(self) -> None:
        with trio.CancelScope() as scope:
            self.world.scopes.append(scope)
            await self.block()
        self.world.scopes.remove(scope)

    async def initiator(self, pick: Pick) -> None:
        world = self.world
        policy = pick.of(tuple(ExitPolicy))
        patient = policy in (ExitPolicy.DRAIN, ExitPolicy.FINISH_STARTED)
        if policy is ExitPolicy.ADOPT and not self.may_adopt():
            policy = ExitPolicy.ABORT
        initiator = None
        self.depth += 1
        try:
            with trio.CancelScope() as guard:
                async with open_initiator(policy, grace=2 if patient else None) as initiator:
                    world.log.append(f"{policy.name} {{")
                    world.initiators.append(initiator)
                    world.happened["initiators"] += 1
                    try:
                        await self.block()
                    finally:
                        guard.deadline = trio.current_time() + PATIENCE
                        world.log.append("leaving")
        except BaseException as error:
            if not only_boom(error):
                raise
        finally:
            self.depth -= 1
            world.log.append("}")
            if initiator is not None:
                world.check_left(initiator)
                world.initiators.remove(initiator)
        world.check()

    def may_adopt(self) -> bool:
        try:
            initiator = trio_send.current_initiator()
        except trio_send.InvalidOperationError:
            return False
        return initiator._owner.stopped is None


def only_boom(error: BaseException) -> bool:
    """Tell whether an exception is what bodies and handlers raise, and nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(only_boom, error.exceptions))
    return isinstance(error, Boom)


def run_sequence(header: bytes, steps: Sequence[Step]) -> FuzzWorld:
    """Run a sequence; raise if anything is not as it should be, with all that was called in a note."""
    world = FuzzWorld(header)
    try:
        world.run(Run(world, steps).main)
    except BaseException as error:
        error.__dict__.setdefault("log", world.log)
        raise
    return world
