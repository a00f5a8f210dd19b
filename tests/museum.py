"""A museum of bugs: what was wrong in other libraries once, and in this one, planted in the code that is shipped.

Each exhibit is a small change of the package's own text. The explorer has to find every one of them, and every rule of
the worlds has to be the only one that finds some exhibit, or it would not be needed.

Run in the checkout, ``python -m tests.museum`` explores every exhibit by every strategy and writes after how many runs
it was found to ``docs/museum.csv``. With names as arguments it prints those alone, and writes nothing.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from tests.planting import Change, planted
from trio_send import (
    ExitPolicy,
    InvalidOperationError,
    Socket,
    SocketAsyncEventArgs,
    add_instrument,
)
from trio_send.testing import Case, Ledger, Sent, World, explore, random_world, small_world
from trio_send.testing._case import describe_exception

ROOT: Final = Path(__file__).resolve().parent.parent
TABLE: Final = ROOT / "docs" / "museum.csv"

Scenario = Callable[[Case], Awaitable[object]]


@attrs.frozen
class Strategy:
    """A way to explore.

    Attributes:
      name: what the table calls it.
      scenario: what is run.
      options: of `explore`.
    """

    name: str
    scenario: Scenario
    options: Mapping[str, Any]


@attrs.frozen
class Found:
    """What an exploration came to.

    Attributes:
      runs: how many runs there were, with the one in which something was wrong.
      broken: the rules that were broken in it, or the sentences of what is no rule; empty if nothing was.
      exhausted: whether there was nothing more to try.
    """

    runs: int
    broken: frozenset[str]
    exhausted: bool


def search(strategy: Strategy, most_runs: int, *, to_the_end: bool = False) -> Found:
    """Explore until something is wrong, or all that there is."""
    runs = 0
    wrong: set[str] = set()
    first: list[Found] = []

    async def watched(case: Case) -> None:
        nonlocal runs
        runs += 1
        try:
            await strategy.scenario(case)
        except Exception as error:
            wrong.update(one.sentence for one in describe_exception(error))
            raise
        finally:
            wrong.update(words_of(case))
            if wrong and not first:
                first.append(Found(runs, frozenset(wrong), False))

    options = {key: value for key, value in strategy.options.items() if key != "seeds"}
    if "seeds" in strategy.options:
        options["seeds"] = range(most_runs)
    report = explore(
        watched,
        most_runs=most_runs,
        progress=lambda _: bool(wrong) and not to_the_end,
        **options,
    )
    if first and not to_the_end:
        return first[0]
    # A scenario that had to be ended by force has said nothing itself.
    wrong.update(finding.sentence for finding in report.findings if finding.checked is None)
    return Found(report.runs, frozenset(wrong), report.exhausted)


def words_of(case: Case) -> set[str]:
    """What is wrong in a run so far: the name of a rule, else a sentence."""
    return {
        broken.place.function
        if broken.place is not None and broken.place.file == "rules"
        else broken.sentence
        for broken in case._broken
    }


# Scenarios ------------------------------------------------------------------------------------


async def sends(
    case: Case,
    sizes: Sequence[int] = (2, 1),
    policy: ExitPolicy = ExitPolicy.ABORT,
    face: str = "send_async",
    is_stream: bool = True,
) -> None:
    """A few messages wait for one socket, while the initiator is left half a second later."""
    async with World(case) as world:
        socket = world.socket(is_stream=is_stream)
        async with world.initiator(policy, grace=1.5 if policy is ExitPolicy.DRAIN else None):
            for size in sizes:
                getattr(world, face)(socket, size)
            await trio.sleep(0.5)


async def nested(case: Case) -> None:
    """What an inner initiator has started waits while it is left, and the outer one goes on."""
    async with World(case) as world:
        socket = world.socket()
        async with world.initiator(ExitPolicy.JOIN):
            async with world.initiator(ExitPolicy.ABORT):
                world.send_async(socket, 2)
            await trio.sleep(2)


async def the_same_args_again(case: Case) -> None:
    """A send is stopped when it is over, and its args are in use again."""
    async with World(case) as world:
        socket = world.socket()
        async with world.initiator(ExitPolicy.JOIN):
            first = world.send_async(socket, 2)
            await world.wait(first)
            world.send_async(socket, 2, again=first)
            world.stop(first)


async def a_handler_fails(case: Case) -> None:
    """A handler raises while another one has yet to be told."""

    def fail(_: Sent) -> None:
        raise ValueError

    async with World(case) as world:
        socket = world.socket()
        async with world.initiator(ExitPolicy.JOIN):
            world.send_async(socket, 1, then=fail)
            world.send_async(socket, 1)


async def awaited_side_by_side(case: Case) -> None:
    """Two tasks send, and one of them sends for the other."""
    async with World(case) as world, trio.open_nursery() as nursery:
        socket = world.socket()
        for _ in range(2):
            nursery.start_soon(world.send, socket, 1)


async def watched(case: Case) -> None:
    """Somebody keeps books."""
    async with World(case) as world:
        socket = world.socket()
        with add_instrument(Ledger()) as ledger:
            async with world.initiator(ExitPolicy.JOIN):
                world.send_async(socket, 2)
                world.begin_send(socket, 1)
            assert isinstance(ledger, Ledger)
            ledger.check(socket)


@attrs.define
class StartFromInside:
    """Something that sends, once, wherever it is called."""

    world: World
    socket: Socket
    cancel_called: bool = False

    def cancel(self) -> None:
        self.cancel_called = True
        self.world.begin_send(self.socket, 1, callback=False)


async def a_start_from_inside(case: Case) -> None:
    """A finaliser that runs inside of a system call sends something."""
    async with World(case) as world:
        socket = world.socket()
        async with world.initiator(ExitPolicy.JOIN):
            case.cancellable(StartFromInside(world, socket), "finaliser")
            world.send_async(socket, 2)


async def a_handler_that_never_ends(case: Case) -> None:
    """A handler sends again whatever it is told, until a start is refused."""
    async with World(case) as world:
        socket = world.socket()
        args = SocketAsyncEventArgs(b"x")

        def handler(*_: object) -> None:
            try:
                while not socket.send_async(args):
                    pass
            except InvalidOperationError:
                pass

        args.completed += handler
        async with world.initiator():
            if not socket.send_async(args):
                handler()


async def many_small_messages(case: Case) -> None:
    """A producer pauses while the queue is full."""
    async with World(case) as world:
        socket = world.socket()
        socket.low_water, socket.high_water = 0, 100
        async with world.initiator():
            sent = world.send_async(socket, 1)
            if sent.pending:
                with trio.move_on_after(0.5) as limit:
                    await socket.wait_below_low_water()
                case.check(limit.cancelled_caught, "a queue of small messages is never full")


async def whose_message_was_cut(case: Case) -> None:
    """Two tasks send on one stream, and have to know how much of their own message went out."""
    async with World(case) as world:
        socket = world.socket()
        stream = socket.as_stream(shared=True)
        counts = []

        async def send(message: bytes) -> None:
            with trio.move_on_after(0.5):
                try:
                    await stream.send_all(message)
                    counts.append(len(message))
                    return
                except trio.BrokenResourceError:
                    pass  # the other message was cut
            report = stream.last_send
            counts.append(-1 if report is None else report.bytes_transferred)

        async with trio.open_nursery() as nursery:
            for message in (b"first", b"next"):
                nursery.start_soon(send, message)
        accepted = sum(len(taken.data) for taken in world._record.sockets[0].taken)
        case.check(sum(counts) == accepted, "who was cut is told of another count")
        if socket.torn is not None:
            world.forget_torn(socket)


async def a_send_after_another(case: Case) -> None:
    """The same args are started again as soon as they are told of."""
    async with World(case) as world:
        socket = world.socket()
        args = SocketAsyncEventArgs(b"first")
        seen: list[tuple[bytes, int]] = []

        async def handler(_: object, args: SocketAsyncEventArgs) -> None:
            seen.append((bytes(args.buffer or b""), args.bytes_transferred))

        args.completed += handler
        async with world.initiator(ExitPolicy.JOIN):
            if socket.send_async(args):
                await args.wait()
                if not args.remaining:
                    args.set_buffer(b"the next")
                    socket.send_async(args)
        if seen:
            same = seen[0] == (b"first", 5) or args.remaining
            case.check(same, "the event of one send was told of the next one")


async def shielded(case: Case) -> None:
    """The body of an initiator goes on behind a shield while its scope is cancelled."""
    async with World(case) as world:
        socket = world.socket()
        async with world.initiator():
            world.send_async(socket, 3)
            with trio.CancelScope(shield=True):
                await trio.sleep(3)


async def closed(case: Case) -> None:
    """A socket is closed while messages wait for it."""
    async with World(case) as world:
        socket = world.socket()
        async with world.initiator():
            sends = [world.send_async(socket, 2) for _ in range(2)]
            await trio.sleep(0.5)
            socket.close()
            await trio.sleep(0.5)
            told = all(not sent.pending or sent.told for sent in sends)
            case.check(told, "what waited for a socket that was closed was not told of it")


async def a_loop_of_starts(case: Case) -> None:
    """A task sends and waits, again and again, and another one has its turn."""
    async with World(case) as world:
        socket = world.socket()
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with world.initiator(), trio.open_nursery() as nursery:
            nursery.start_soon(other)
            args = SocketAsyncEventArgs(b"x")
            for _ in range(1000):
                if socket.send_async(args):
                    await args.wait()
            nursery.cancel_scope.cancel()
        case.check(turns, "a task that loops over sends lets no other task run")


JOINED: Final = partial(sends, policy=ExitPolicy.JOIN)
BEGUN: Final = partial(sends, face="begin_send")
DATAGRAMS: Final = partial(sends, policy=ExitPolicy.JOIN, is_stream=False)

#: The strategies that the table compares.
STRATEGIES: Final = (
    Strategy("small", small_world, {"limits": {"kernel": 2}}),
    Strategy("small, out of turn", small_world, {"orders": 1, "limits": {"kernel": 1}}),
    Strategy("small, inside", small_world, {"limits": {"kernel": 1, "inside": 1}}),
    Strategy("random", random_world, {"seeds": ()}),
    Strategy("random, out of turn", random_world, {"cancels": 2, "orders": 3, "seeds": ()}),
    Strategy("random, inside", random_world, {"cancels": 2, "limits": {"inside": 2}, "seeds": ()}),
)

#: After how many runs the table gives up.
MOST_RUNS: Final = 1000


# The exhibits ---------------------------------------------------------------------------------

QUEUE: Final = "_operations.queue:OperationQueue"
BULK_ENDS: Final = "_operations.bulk_ends:BulkEnds"
STEPS: Final = "_operations.steps:Steps"
SEND_QUEUE: Final = "_operations.send_queue:SendQueue"
ATTEMPTS: Final = "_operations.send_calls:SendCalls"
OPERATION: Final = "_operations.operation:Operation"
EXITING_OWNER: Final = "_owners.exiting_owner:ExitingOwner"
SCOPE_OWNER: Final = "_owners.scope_owner:ScopeOwner"
DISPATCHER: Final = "_owners.dispatcher:Dispatcher"
ARGS: Final = "_socket.event_args:SocketAsyncEventArgs"


@attrs.frozen
class Exhibit:
    """A bug.

    Attributes:
      name: what it does, in a few words.
      source: where it was once; empty if it was never anywhere but in this library.
      changes: of the package.
      broken: what an exploration of its own finds, and nothing else: a rule, or a sentence; None if it finds several.
      scenario: what is explored then.
      options: of `explore` then.
    """

    name: str
    source: str
    changes: Sequence[Change]
    broken: str | None = None
    scenario: Scenario = sends
    options: Mapping[str, Any] = {"limits": {"kernel": 1}}

    @property
    def own(self) -> Strategy:
        """The exploration of its own."""
        return Strategy("its own", self.scenario, self.options)


MUSEUM: Final = (
    Exhibit(
        "the part that went out at once is not counted",
        "corefx#19791",
        [
            Change(
                "_socket.send:Sending._send_async_stuck",
                "operation.transferred = sent",
                "operation.transferred = 0",
            )
        ],
    ),
    Exhibit(
        "a stop counts 0 bytes instead of a part",
        "corefx#23672, smux#51",
        [
            Change(
                f"{OPERATION}.abort",
                "self.drop_limit()",
                "self.drop_limit(); self.transferred = 0",
            )
        ],
        "counts_are_exact",
    ),
    Exhibit(
        "a rest begins a byte too early",
        "",
        [
            Change(
                f"{ATTEMPTS}._attempt_call",
                "[operation.transferred :]",
                "[operation.transferred - 1 : -1]",
            ),
            Change("_operations.lone_sends:LoneSends.drain", "[done:]", "[done - 1 : -1]"),
        ],
        "bytes_are_a_prefix",
        BEGUN,
    ),
    Exhibit(
        "what comes last is sent first",
        "swift-nio#308",
        [
            Change(
                f"{QUEUE}._join",
                "self._append(operation)",
                "last = self.tail\n"
                "    self._append(operation)\n"
                "    if last is not None and last is not self.head:\n"
                "        self._unlink(last); self._append(last)",
            )
        ],
        "order_is_kept",
        partial(sends, sizes=(1, 1, 1), policy=ExitPolicy.JOIN),
        {"cancels": 0, "limits": {"kernel": 2}},
    ),
    Exhibit(
        "datagrams share a system call as messages of a stream do",
        "",
        [Change(f"{ATTEMPTS}._attempt_head", "and self.port.is_stream", "")],
        "datagrams_are_whole",
        DATAGRAMS,
    ),
    Exhibit(
        "a cancel beats a completion",
        "",
        [
            Change(
                f"{OPERATION}.request_stop",
                "if self.state != POSTED and self.state != QUEUED:",
                "if self.state == DONE:\n        self.code = code\n    if self.state not in (POSTED, QUEUED):",
            )
        ],
        "there_is_one_outcome",
    ),
    Exhibit(
        "a handler is called twice",
        "runtime#45673, SSH.NET#913",
        [
            Change(
                "_socket.completed_event:CompletedEvent._call",
                "result = handlers[0](socket, args)",
                "result = handlers[0](socket, args); handlers[0](socket, args)",
            )
        ],
        "events_come_once",
    ),
    Exhibit(
        "an event is raised though the start has answered that it is not pending",
        "corefx#16737",
        [
            Change(
                "_socket.send:Sending.send_async",
                "operation.state = IDLE\n",
                "operation.state = IDLE; operation.socket = self; args.on_completed()\n",
            )
        ],
    ),
    Exhibit(
        "a callback is called from inside of the start",
        "corefx#16737",
        [
            Change(
                "_socket.results:conclude",
                "owner.ended(operation, None)",
                "operation.tell(owner.host.dispatcher)",
            )
        ],
        "events_come_after_the_start",
        BEGUN,
    ),
    Exhibit(
        "a buffer stays locked after an attempt that was not accepted whole",
        "",
        [
            Change(
                f"{ATTEMPTS}._attempt_call",
                "release(opened)",
                "operation.trace = opened",
            )
        ],
        "buffers_are_free",
    ),
    Exhibit(
        "an initiator that is left hands its sends to the one around it, whatever its policy",
        "",
        [
            Change(
                "_owners.scope:_OpenInitiator._find_adopter",
                "if self._on_exit is not ExitPolicy.ADOPT:",
                "if find_owner() is None:",
            ),
            Change(
                f"{SCOPE_OWNER}.exit",
                "self.on_exit is ExitPolicy.ADOPT",
                "self.adopter is not None",
            ),
        ],
        "nothing_outlives_an_initiator",
        nested,
        {"cancels": 0, "limits": {"kernel": 1}},
    ),
    Exhibit(
        "a stop of a message that has begun is forgotten",
        "",
        [
            Change(
                f"{QUEUE}._stop",
                "cut = self._is_cut(operation)",
                "if self._is_cut(operation):\n        return True\n    cut = False",
            )
        ],
        "stops_are_prompt",
        JOINED,
    ),
    Exhibit(
        "the time of grace is twice as long",
        "",
        [
            Change(
                f"{EXITING_OWNER}.begin_grace",
                "_Grace(self, self.grace)",
                "_Grace(self, 2 * self.grace)",
            )
        ],
        "policies_are_kept",
        partial(sends, sizes=(1,), policy=ExitPolicy.DRAIN),
        {"cancels": 0, "limits": {"kernel": 3}},
    ),
    Exhibit(
        "a send that leaves the queue is still counted there",
        "",
        [Change(f"{QUEUE}._unlink", "self.length -= 1", "self.length -= before is None")],
        "all_ends",
    ),
    Exhibit(
        "a message that was cut does not tear its stream",
        "",
        [Change(f"{SEND_QUEUE}._is_cut", "self.port.is_stream", "False")],
        "torn_streams_are_loud",
    ),
    Exhibit(
        "what waits when the initiator is left is dropped",
        "swift-nio#2757",
        [
            Change(
                f"{BULK_ENDS}._end_some",
                "self._abort(operation, end.code, end.detail)",
                "self._unlink(operation); operation.owner.parted(self)",
            )
        ],
    ),
    Exhibit(
        "a close forgets what waits behind the first",
        "corefx#29785",
        [
            Change(
                f"{BULK_ENDS}._end_in_bulk",
                "end.first, end.last = self.head, self.tail",
                "end.first = end.last = self.head",
            )
        ],
        scenario=closed,
    ),
    Exhibit(
        "a cancel hits the next use of the args",
        "libxev#233",
        [Change(f"{ARGS}.cancel", "if activation is not None", "if False")],
        "stops_are_for_one_activation",
        the_same_args_again,
        {"cancels": 0, "limits": {"kernel": 2}},
    ),
    Exhibit(
        "an event is told of the next use of the args",
        "mono#4389",
        [
            Change(f"{DISPATCHER}.run", "if self._is_beginning:", "if False:"),
            Change(
                "_socket.event_args_operation:EventArgsOperation.tell",
                "if is_to_begin and not self.in_flight:",
                "if False:",
            ),
        ],
        "the event of one send was told of the next one",
        a_send_after_another,
        {"cancels": 0, "orders": 1, "limits": {"kernel": 1}},
    ),
    Exhibit(
        "nobody waits for the socket after a stop",
        "",
        [Change(f"{QUEUE}._stop", "self.look_after()", "")],
        scenario=partial(sends, sizes=(1, 1), policy=ExitPolicy.JOIN),
    ),
    Exhibit(
        "a loop of sends never lets others run",
        "",
        [
            Change(f"{EXITING_OWNER}.spend", "if self.budget > 0 or self.refill():", "if True:"),
            Change(
                "_socket.send:Sending._send_async_ended",
                "if owner.budget or owner.refill():",
                "if True:",
            ),
        ],
        "a task that loops over sends lets no other task run",
        a_loop_of_starts,
        {"cancels": 0, "limits": {"kernel": 0}},
    ),
    Exhibit(
        "a stop from inside of a system call does not keep the next one from being made",
        "",
        [Change(f"{STEPS}.ask", "if self.halted:", "if False:")],
        None,
        DATAGRAMS,
        {"limits": {"kernel": 1, "inside": 1}},
    ),
    Exhibit(
        "a stop from inside of a system call changes the queue at once",
        "",
        [
            Change(
                f"{STEPS}.request",
                "if self.gate & STEP and not self._take_over():",
                "if False:",
            )
        ],
        None,
        JOINED,
        {"limits": {"kernel": 1, "inside": 1}},
    ),
    Exhibit(
        "what a handler raises is forgotten",
        "",
        [Change(f"{SCOPE_OWNER}.handler_failed", "self.errors.append(error)", "pass")],
        "errors_of_handlers_surface",
        a_handler_fails,
    ),
    Exhibit(
        "a handler that raises takes with it what is told behind it",
        "",
        [
            Change(
                f"{DISPATCHER}.run",
                "self._on_error(error)",
                "self._on_error(error); self.outstanding -= len(batch) - 1; batch.clear()",
            )
        ],
        None,
        a_handler_fails,
    ),
    Exhibit(
        "a cancel that comes in the middle of a step is told as an error",
        "",
        [
            Change(
                "_owners.awaiting_task:AwaitingTask.see_through",
                "if self._interruption is not None:",
                "if False:",
            )
        ],
        "cancels_are_told_as_such",
        awaited_side_by_side,
        {"cancels": 0, "limits": {"kernel": 2, "inside": 1}},
    ),
    Exhibit(
        "an instrument is not told of what a wait has made room for",
        "",
        [
            Change(
                f"{ATTEMPTS}._account",
                "self.instruments.accepted(operation, self, sent)",
                "pass",
            )
        ],
        None,
        watched,
    ),
    Exhibit(
        "a send from inside of a system call goes first",
        "",
        [
            Change(
                "_socket.begin_send:BeginSending.begin_send",
                "or queue.gate",
                "",
            )
        ],
        "order_is_kept",
        a_start_from_inside,
        {"cancels": 0, "limits": {"kernel": 0, "inside": 1}},
    ),
    Exhibit(
        "an initiator that was left answers each start, without end",
        "",
        [Change(f"{EXITING_OWNER}.round_over", "== MAX_ROUNDS", "< 0")],
        None,
        a_handler_that_never_ends,
        {"cancels": 0, "limits": {"kernel": 0}, "most_steps": 500},
    ),
    Exhibit(
        "a queue of small messages is never full",
        "",
        [Change(f"{QUEUE}._join", " + self.length * OPERATION_WEIGHT", "")],
        "a queue of small messages is never full",
        many_small_messages,
        {"cancels": 0},
    ),
    Exhibit(
        "who was cut on a shared stream is not told how much went out",
        "",
        [
            Change(
                "_owners.awaiting_task:note_failure",
                "trio.lowlevel.current_task()",
                "trio.lowlevel.current_root_task()",
            )
        ],
        "who was cut is told of another count",
        whose_message_was_cut,
        {"cancels": 0, "limits": {"kernel": 2}},
    ),
    Exhibit(
        "control: an initiator abandons what it has started",
        "",
        [
            Change(
                f"{EXITING_OWNER}.stop_pending",
                "queues = self.occupied_queues()",
                "queues = self.queues.clear() or ()",
            )
        ],
        scenario=nested,
    ),
    Exhibit(
        "control: a cancel that comes in the middle of a message is lost",
        "",
        [
            Change(
                f"{SCOPE_OWNER}.cancelled",
                "self.stop(f",
                "any(q.head is not None and q.head.transferred for q in self.queues) or self.stop(f",
            )
        ],
        "stops_are_prompt",
        shielded,
        {"limits": {"kernel": 2}},
    ),
)


def main(arguments: Sequence[str]) -> None:
    """Make the table, or print a part of it."""
    rows = []
    for exhibit in MUSEUM:
        if arguments and not any(word in exhibit.name for word in arguments):
            continue
        cells = []
        with planted(exhibit.changes):
            for strategy in (*STRATEGIES, exhibit.own):
                found = search(strategy, MOST_RUNS)
                none = f"not in all {found.runs}" if found.exhausted else f"not in {found.runs}"
                cells.append(str(found.runs) if found.broken else none)
                if arguments:
                    print(strategy.name, found, flush=True)
        rows.append([exhibit.name, exhibit.source, *cells])
        print(*rows[-1], sep=", ", flush=True)
    if not arguments:
        with TABLE.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["bug", "once in", *(each.name for each in STRATEGIES), "its own"])
            writer.writerows(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
