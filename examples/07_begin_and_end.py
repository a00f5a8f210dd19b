"""Begin a send, do something else, end it: with a callback, or with a wait."""

import trio

import trio_send
from trio_send import AsyncResult, ManualResetEvent, Socket

MESSAGE = bytes(1_000_000)


def on_sent(result: AsyncResult) -> None:
    """End a send. It is over when this is called, so there is nothing to wait for."""
    socket, name, done = result.async_state
    print("callback:", name, socket.end_send_nowait(result), "bytes")
    done.set()


async def read(peer: Socket, count: int) -> None:
    await trio_send.Receiver(peer).receive_exactly(count)


async def main() -> None:
    sender, peer = trio_send.socketpair()
    async with sender, peer, trio_send.open_initiator(), trio.open_nursery() as nursery:
        done = ManualResetEvent()
        first = sender.begin_send(MESSAGE)
        state = (sender, "second", done)
        second = sender.begin_send(b"second", callback=on_sent, state=state)
        print("completed so far:", first.is_completed, second.is_completed)

        nursery.start_soon(read, peer, 1_000_006)
        await done.wait_one()  # set by the callback
        print("awaited: first", await sender.end_send(first), "bytes")


if __name__ == "__main__":
    trio.run(main)
