"""One message to many peers, of whom one does not read: nobody waits for it, and the report names it."""

from __future__ import annotations

import trio

import trio_send
from trio_send import Socket

MESSAGES = 100
MESSAGE = bytes(10_000)


async def read(peer: Socket, counts: list[int]) -> None:
    """Read everything, and note how many bytes it was."""
    count = 0
    async with peer:
        while data := await peer.receive():
            count += len(data)
    counts.append(count)


async def main() -> None:
    pairs = [trio_send.socketpair() for _ in range(10)]
    members = {sender: f"peer {number}" for number, (sender, _) in enumerate(pairs)}
    counts: list[int] = []

    async with trio_send.open_initiator(), trio.open_nursery() as nursery:
        for _, peer in pairs[1:]:  # nobody reads for peer 0
            nursery.start_soon(read, peer, counts)

        for _ in range(MESSAGES):
            report = trio_send.broadcast(
                members, MESSAGE, max_queued_bytes=200_000, when_behind="close"
            )
            for socket in {*report.behind, *report.failed}:
                print("given up:", members.pop(socket))
            # A message now and then, which is no problem for those who read.
            await trio.sleep(0.005)

        for socket in members:
            await socket.aclose()

    print("peers that stayed:", len(members))
    print("each has read everything:", counts == [MESSAGES * len(MESSAGE)] * len(members))
    pairs[0][1].close()


if __name__ == "__main__":
    trio.run(main)
