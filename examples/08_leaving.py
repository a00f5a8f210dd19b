"""Who ends my sends? The initiator, when it is left; its exit policy says how."""

import trio

import trio_send
from trio_send import ExitPolicy, Socket, SocketAsyncEventArgs

MESSAGE = bytes(1_000_000)


async def read(peer: Socket) -> None:
    while await peer.receive():
        pass


async def leave(
    policy: ExitPolicy, *, reads: bool, limit: float = 60, grace: float | None = None
) -> None:
    """Start a send, leave the initiator at once, and print how the send has ended."""
    sender, peer = trio_send.socketpair()
    args = SocketAsyncEventArgs(MESSAGE)
    async with peer, trio.open_nursery() as nursery:
        if reads:
            nursery.start_soon(read, peer)
        with trio.move_on_after(limit) as scope:
            async with trio_send.open_initiator(policy, grace=grace):
                assert sender.send_async(args)
        # Here it has ended, in every case.
        assert not args.pending and sender.queued_operations == 0
        nursery.cancel_scope.cancel()
        sender.close()

    given_up = "cancelled" if scope.cancelled_caught else ""
    accepted = "all of it" if args.bytes_transferred == len(MESSAGE) else "a part"
    print(
        f"{policy.name:14} {'the peer reads' if reads else 'nobody reads':14} "
        f"{given_up:9} {args.socket_error.name}, {accepted}"
    )


async def main() -> None:
    await leave(ExitPolicy.ABORT, reads=True)
    await leave(ExitPolicy.JOIN, reads=True)
    await leave(ExitPolicy.JOIN, reads=False, limit=0.1)
    await leave(ExitPolicy.DRAIN, reads=True, grace=10)
    await leave(ExitPolicy.DRAIN, reads=False, grace=0.1)
    await leave(ExitPolicy.FINISH_STARTED, reads=True, grace=10)


if __name__ == "__main__":
    trio.run(main)
