"""The exit policies beside one another.

Modules: testing._contenders.
"""

from __future__ import annotations

import pytest
import trio

from trio_send import ExitPolicy
from trio_send.testing import Compared, compare
from trio_send.testing._contenders import Scene, Workload
from trio_send.timeline import to_svg


@pytest.fixture(scope="module")
def rows() -> dict[str, Compared]:
    return {row.name: row for row in compare(range(10)).rows}


POLICIES = [policy.name for policy in ExitPolicy]
PLAIN = "Trio's send_all"
EDGE, ABANDON = "control: edge", "control: abandon"


def test_what_there_is(rows: dict[str, Compared]) -> None:
    assert list(rows) == [*POLICIES, PLAIN, EDGE, ABANDON]
    assert {row.runs for row in rows.values()} == {10}


@pytest.mark.parametrize("policy", POLICIES)
def test_no_policy_breaks_a_rule(rows: dict[str, Compared], policy: str) -> None:
    assert rows[policy].broken == {}


def test_each_policy_does_what_it_says(rows: dict[str, Compared]) -> None:
    abort, join, drain = rows["ABORT"], rows["JOIN"], rows["DRAIN"]
    assert abort.late.most == abort.seconds.most == 0
    assert abort.unsent.mean == join.late.mean > 0
    assert join.unsent.most == join.duplicated.most == 0
    assert drain.seconds.most == 2.0
    assert abort.unsent.mean > drain.unsent.mean > 0
    started = rows["FINISH_STARTED"]
    # No more than the rest of the one message that had begun.
    assert 0 < started.late.most < 8
    assert started.late.mean < drain.late.mean
    adopt = rows["ADOPT"]
    assert adopt.seconds.most == 0
    assert adopt.late == join.late


def test_plain_trio_writes_behind_a_cut_message(rows: dict[str, Compared]) -> None:
    plain = rows[PLAIN]
    assert set(plain.broken) == {"torn_streams_are_loud"}
    assert plain.late.most == 0
    assert plain.duplicated.mean == rows["ABORT"].duplicated.mean > 0


def test_the_controls_fail(rows: dict[str, Compared]) -> None:
    assert {"stops_are_prompt", "policies_are_kept"} <= set(rows[EDGE].broken)
    assert {"counts_are_exact", "nothing_outlives_an_initiator"} <= set(rows[ABANDON].broken)
    assert rows[EDGE].late.mean > 0
    # What the program takes for stopped goes out all the same, and then once more.
    assert rows[ABANDON].duplicated.mean > rows["ABORT"].duplicated.mean


def test_the_same_seeds_give_the_same() -> None:
    assert compare(range(3)) == compare(range(3))
    assert compare(range(3)).rows != compare(range(3, 6)).rows


def test_a_kernel_is_as_slow_for_all() -> None:
    def answers(times: list[float]) -> list[int]:
        scene = Scene(Workload(), 7)
        taken = []

        async def main() -> None:
            for time in times:
                await trio.sleep_until(time)
                try:
                    taken.append(scene.port.send(bytes(100), 0))
                except BlockingIOError:
                    taken.append(0)

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
        return taken

    assert answers([0, 1, 2, 3])[3] == answers([0, 3])[1] > 0
    assert answers([0, 0.5])[1] == 0


def test_the_picture_has_a_box_for_each() -> None:
    shapes = compare([0], messages=3).shapes
    assert [one.policy for one in shapes.initiators] == [*POLICIES, PLAIN, EDGE, ABANDON]
    by_row = [one.initiator for one in shapes.activations]
    assert by_row == sorted(by_row, key=lambda row: row or 0)
    assert all(by_row.count(row) == 3 for row in range(1, 6))
    times = [event.time for event in shapes.events]
    assert times == sorted(times)
    assert to_svg(shapes).count("</title>") > len(shapes.activations)


def test_all_is_sent_before_the_stop() -> None:
    rows = compare([1], messages=1, size=1, room=200, stop=5).rows
    assert all(row.unsent.most == row.duplicated.most == 0 for row in rows)
    assert all(row.broken == {} for row in rows)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seeds": []}, "seeds is empty"),
        ({"messages": 0}, "messages is 0 and size is 8, but there must be from 1 to 255"),
        ({"messages": 32, "size": 8}, "messages is 32 and size is 8"),
        ({"room": 0}, "room is 0, but a kernel that never"),
    ],
)
def test_what_cannot_be_compared(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compare(**options)  # type: ignore[arg-type]


async def test_not_from_inside_of_trio() -> None:
    with pytest.raises(RuntimeError, match="cannot be used from inside Trio"):
        compare([0])
