"""A chain of sends with one args object: where one ends, the next one starts."""

from __future__ import annotations

from collections import Counter

import trio

import trio_send
from trio_send import Socket, SocketAsyncEventArgs, SocketError

MESSAGES = [bytes(size) for size in (10, 500_000, 20, 400_000, 30) * 20]


class Chain:
    """Sends messages one after the other; no task of its own does it."""

    def __init__(self, socket: Socket, messages: list[bytes]) -> None:
        self.socket = socket
        self.messages = iter(messages)
        self.finished = trio.Event()
        self.ended: Counter[str] = Counter()
        self.args = SocketAsyncEventArgs()
        self.args.completed += self.on_completed

    def go_on(self) -> None:
        """Start messages until one is pending, or there are no more."""
        for message in self.messages:
            self.args.set_buffer(message)
            if self.socket.send_async(self.args):
                return  # on_completed will go on
            self.take_result()  # no event will come
        self.finished.set()

    def on_completed(self, socket: Socket, args: SocketAsyncEventArgs) -> None:
        """Go on behind a send that was pending."""
        self.take_result()
        if args.socket_error != SocketError.OPERATION_ABORTED:  # nobody stops us
            self.go_on()

    def take_result(self) -> None:
        """Handle every end in one place, whichever way it is told."""
        self.ended[self.args.socket_error.name] += 1


async def main() -> None:
    sender, peer = trio_send.socketpair()
    async with sender, peer, trio_send.open_initiator():
        chain = Chain(sender, MESSAGES)
        chain.go_on()
        count = 0
        while count < sum(map(len, MESSAGES)):
            count += len(await peer.receive())
        await chain.finished.wait()
        print("sends that ended:", dict(chain.ended))
        print("bytes that were read:", count)


if __name__ == "__main__":
    trio.run(main)
