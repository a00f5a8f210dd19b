"""One message to many peers. One does not read: nobody waits, the report names it."""

from __future__ import annotations

import trio

import trio_send
from trio_send import Socket

MESSAGES = 100
MESSAGE = bytes(10_000)


async def read(name: str, peer: Socket, counts: dict[str, int]) -> None:
    """Read everything, and note how many bytes it has been so far."""
    async with peer:
        while data := await peer.receive():
            counts[name] += len(data)


async def main() -> None:
    pairs = [trio_send.socketpair() for _ in range(10)]
    members = {sender: f"peer {number}" for number, (sender, _) in enumerate(pairs)}
    counts = dict.fromkeys(list(members.values())[1:], 0)

    async with trio_send.open_initiator(), trio.open_nursery() as nursery:
        # Nobody reads for peer 0.
        for name, (_, peer) in zip(counts, pairs[1:], strict=True):
            nursery.start_soon(read, name, peer, counts)

        for number in range(1, MESSAGES + 1):
            report = trio_send.broadcast(
                members, MESSAGE, max_queued_bytes=200_000, when_behind="close"
            )
            for socket in {*report.behind, *report.failed}:
                print("given up:", members.pop(socket))
            # In a program time goes by between two messages. Here it is the time that
            # those need who read.
            while min(counts.values()) < number * len(MESSAGE):
                await trio.lowlevel.checkpoint()

        for socket in members:
            await socket.aclose()

    print("peers that stayed:", len(members))
    everything = MESSAGES * len(MESSAGE)
    print("each has read everything:", set(counts.values()) == {everything})
    pairs[0][1].close()


if __name__ == "__main__":
    trio.run(main)
