"""``trio-send bench``, and what it measures with. No test here looks at a time.

Modules: _cli.bench.command, _cli.bench.contenders, _cli.bench.interleave, _cli.bench.link, _cli.bench.peer.
"""

from __future__ import annotations

import os
import socket as stdlib_socket
import sys
from collections import Counter

import pytest
import trio

from trio_send import open_initiator
from trio_send._cli import main
from trio_send._cli.bench import command as _bench, link as _bench_link
from trio_send._cli.bench.contenders import FLOOR, SEND_ASYNC, open_contenders
from trio_send._cli.bench.interleave import Spread, interleave, ratio, spread
from trio_send._cli.bench.link import KINDS, capacity, level, on_one_core, open_link, twin
from trio_send._cli.failures import Failure

kinds = pytest.mark.parametrize("kind", KINDS)


# Sums -----------------------------------------------------------------------------------------


def test_a_spread_is_the_median_and_the_quartiles() -> None:
    assert spread([5, 1, 4, 2, 3]) == Spread(3, 2, 4)
    assert spread([7]) == Spread(7, 7, 7)
    assert str(Spread(1, 0.5, 2)) == "1.00 (0.50 to 2.00)"


def test_a_ratio_is_taken_within_each_round() -> None:
    # The machine is ten times as slow in the second round, and in the third something else was going on.
    assert ratio([2, 20, 3], [1, 10, 30]).median == 2


async def test_chunks_take_turns_and_are_cleaned_up() -> None:
    happened: list[tuple[str, int]] = []

    def chunk(name: str, cost: int):
        async def run(times: int) -> int:
            happened.append((name, times))
            return times * cost

        return run

    async def clean_up(times: int) -> None:
        happened.append(("clean", times))

    measured = await interleave(
        {"a": chunk("a", 10), "b": chunk("b", 100)},
        rounds=6,
        burst=30,
        clean_up=clean_up,
        chunk_ns=1000,
    )
    assert measured == {"a": [10.0] * 6, "b": [100.0] * 6}
    # Each burst is cleaned up at once, by its own size.
    assert all(each[0] == "clean" for each in happened[1::2])
    assert [each[1] for each in happened[::2]] == [each[1] for each in happened[1::2]]
    done = Counter()
    for name, times in happened[8::2]:
        assert times <= 30
        done[name] += times
    # 100 times 10 ns and 10 times 100 ns are 1,000 ns.
    assert done == {"a": 6 * 100, "b": 6 * 10}
    # Neither is always first.
    rounds = [name for name, times in happened[8::2] if times == 10]
    assert rounds != ["a", "b"] * 6


# Connections ----------------------------------------------------------------------------------


@kinds
async def test_as_many_messages_as_promised_fit_while_nobody_reads(kind: str) -> None:
    async with open_link(kind) as link:
        with await link.connect() as sock:
            for size in (1, 64, 65536):
                fitting = capacity(sock, size)
                assert fitting > 0
                for _ in range(fitting):
                    assert sock.send(bytes(size)) == size
                await link.drain(fitting * size)


@kinds
async def test_twins_share_a_connection(kind: str) -> None:
    async with open_link(kind) as link:
        with await link.connect() as sock:
            with twin(sock) as other:
                assert other.send(b"abc") == 3
                assert other.getpeername() == sock.getpeername()
            assert sock.send(b"def") == 3
            await link.drain(6)


async def test_the_peers_traces_are_removed() -> None:
    async with open_link("tcp") as link, open_initiator():
        with await link.connect() as sock:
            before = sock.getsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NODELAY)
            with open_contenders(sock, b"x"):
                option = stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NODELAY
                assert sock.getsockopt(*option)
                level(sock)
                assert sock.getsockopt(*option) == before == 0


async def test_several_connections_are_read_alike() -> None:
    async with open_link("tcp") as link:
        socks = list(link.connect_many(3, buffer_size=4096))
        await link.command("accept 3")
        for sock in socks:
            assert sock.send(b"12345") == 5
        await link.drain(15)
        for sock in socks:
            sock.close()
        await link.drain(1)  # it does not wait for those who have gone


async def test_a_slow_reader_reads_all_the_same() -> None:
    async with open_link("tcp") as link:
        with await link.connect() as sock:
            assert sock.send(bytes(1000)) == 1000
            await link.command("creep 1000")


async def test_a_receiver_that_goes_away_is_a_failure() -> None:
    async with open_link("tcp") as link:
        await link.tell("quit")
        with pytest.raises(Failure, match="gone away"):
            await link.done()


async def test_a_receiver_that_does_not_start_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bench_link.peer, "__file__", os.devnull)
    with pytest.raises(BaseException) as raised:
        async with open_link("tcp"):
            pytest.fail("there is nobody to connect to")
    assert raised.group_contains(Failure, match="did not start")


@pytest.mark.skipif(sys.platform != "linux", reason="cores can be chosen on Linux alone")
def test_the_cores_are_given_back() -> None:
    before = os.sched_getaffinity(0)
    with on_one_core() as other:
        assert len(os.sched_getaffinity(0)) == 1
        assert other not in os.sched_getaffinity(0)
    assert os.sched_getaffinity(0) == before


# Ways to send ---------------------------------------------------------------------------------


@kinds
async def test_every_contender_sends_what_it_says(kind: str) -> None:
    async with open_link(kind) as link, open_initiator():
        with await link.connect() as sock, open_contenders(sock, b"hello") as chunks:
            assert list(chunks)[:2] == [FLOOR, SEND_ASYNC]
            for chunk in chunks.values():
                assert await chunk(300) > 0  # more than a budget
                with trio.fail_after(60):
                    await link.drain(300 * 5)


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bench, "ROUNDS", 1)
    assert main(["bench"]) == 0
    output = capsys.readouterr().out
    for way in (FLOOR, SEND_ASYNC, "begin_send", "await send", "trio.socket.send", "trio send_all"):
        assert output.count(f"\n{way} ") == len(KINDS)
