"""Send from threads that run no Trio: one of Trio's workers, and one of your own."""

from __future__ import annotations

import threading

import trio

import trio_send
from trio_send import Initiator, Socket, from_thread


def in_a_worker_thread(socket: Socket) -> int:
    """Send two messages. A thread started by Trio finds the initiator by itself."""
    first = from_thread.begin_send(socket, b"from a worker thread\n")
    second = from_thread.begin_send(socket, b"and once more\n")  # behind the first
    # These block this thread.
    return from_thread.end_send(first) + from_thread.end_send(second)


def in_my_own_thread(socket: Socket, host: Initiator, lines: list[str]) -> None:
    """Send a message. A thread of your own has to be told which initiator serves it."""
    result = from_thread.begin_send(socket, b"from a thread of my own\n", host=host)
    lines.append(f"my own thread has sent {from_thread.end_send(result)} bytes")


async def main() -> None:
    sender, peer = trio_send.socketpair()
    async with sender, peer, trio_send.open_initiator() as host:
        sent = await trio.to_thread.run_sync(in_a_worker_thread, sender)
        print("the worker thread has sent", sent, "bytes")

        lines: list[str] = []
        thread = threading.Thread(target=in_my_own_thread, args=(sender, host, lines))
        thread.start()
        # The initiator must stay open until the thread has ended.
        await trio.to_thread.run_sync(thread.join)
        print(*lines)

        receiver = trio_send.Receiver(peer)
        for _ in range(3):
            line = await receiver.receive_until(b"\n", max_bytes=100)
            print("read:", line.decode())


if __name__ == "__main__":
    trio.run(main)
