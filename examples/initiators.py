"""All I/O initiated by a given thread is canceled when that thread exits.

Both begin to send a message that is longer than the kernel takes at once, to a peer
that reads nothing yet, and leave without waiting for the end. Look at the last two
lines: each message ended with OPERATION_ABORTED, the count is exactly what its peer
finds to read afterwards, and nothing of it went on behind anybody's back.
"""

import threading

import trio

import trio_send
from trio_send import AsyncResult, Initiator, Socket, from_thread

MESSAGE = bytes(1_000_000)


def in_a_thread(sender: Socket, host: Initiator, results: list[AsyncResult]) -> None:
    """Be a thread. All it knows of Trio is the socket and the initiator."""
    hello = from_thread.begin_send(sender, b"hello", host=host)
    print("thread: sent", from_thread.end_send(hello), "bytes, and waited for it")

    results.append(from_thread.begin_send(sender, MESSAGE, host=host))  # does not wait
    # The thread exits with the send pending.


async def in_a_task(sender: Socket, results: list[AsyncResult]) -> None:
    """Be the same as a task. On Trio, the initiating thread is a scope."""
    async with trio_send.open_initiator():
        hello = sender.begin_send(b"hello")
        print("task:   sent", await sender.end_send(hello), "bytes, and waited for it")

        results.append(sender.begin_send(MESSAGE))
        # The scope is left with the send pending.


async def report(who: str, result: AsyncResult, sender: Socket, peer: Socket) -> None:
    """Compare what was counted with what the peer finds to read."""
    sender.close(reset=False)
    found = 0
    while piece := await peer.receive():
        found += len(piece)
    peer.close()
    try:
        await sender.end_send(result)
        ended = "SUCCESS"
    except trio_send.SocketException as error:
        ended = error.socket_error_code.name
    counted = len(b"hello") + result.bytes_transferred
    as_many = "as many" if counted == found else "not as many"
    print(f"{who} {ended}, {as_many} bytes read as counted")


async def main() -> None:
    results: list[AsyncResult] = []

    thread_sender, thread_peer = trio_send.socketpair()
    async with trio_send.open_initiator() as host:
        thread = threading.Thread(target=in_a_thread, args=(thread_sender, host, results))
        thread.start()
        await trio.to_thread.run_sync(thread.join)
        print("thread: gone, pending on its socket:", thread_sender.queued_operations)

    task_sender, task_peer = trio_send.socketpair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_a_task, task_sender, results)
    print("task:   gone, pending on its socket:", task_sender.queued_operations)

    await report("thread:", results[0], thread_sender, thread_peer)
    await report("task:  ", results[1], task_sender, task_peer)


trio.run(main)
