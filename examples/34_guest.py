"""Trio as a guest in the loop of a user interface: a button starts sends."""

from __future__ import annotations

import queue
from collections.abc import Callable

import trio

import trio_send
from trio_send import Initiator, Receiver, Socket

#: What a user interface's loop does: it calls one function after the other. `None` ends
#: it.
to_call: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()


class Button:
    """A button of the user interface, which knows nothing of Trio."""

    clicked: Callable[[], object] | None = None

    def click(self) -> None:
        """Be clicked by the user: the loop will call what `clicked` says."""
        assert self.clicked is not None
        to_call.put(self.clicked)


async def main(button: Button) -> None:
    sender, peer = trio_send.socketpair()
    async with sender, peer, trio_send.open_initiator() as initiator:
        button.clicked = lambda: on_clicked(sender, initiator)
        button.click()  # the user
        button.click()

        receiver = Receiver(peer)
        for _ in range(2):
            print("the peer:", await receiver.receive_until(b"\n", max_bytes=100))


def on_clicked(sender: Socket, initiator: Initiator) -> None:
    """Start a send. This runs in Trio's thread, but in no task."""
    result = initiator.run_sync(sender.begin_send, b"pressed\n")
    print("the button:", result.bytes_transferred, "bytes accepted at once")


def on_done(outcome: object) -> None:
    print("Trio is done")
    to_call.put(None)


if __name__ == "__main__":
    trio.lowlevel.start_guest_run(
        main, Button(), run_sync_soon_threadsafe=to_call.put, done_callback=on_done
    )
    while (function := to_call.get()) is not None:
        function()
