"""The clients of an echo server, in a process of their own: each sends, and waits for the answers of all.

Called with the descriptors of the connections, separated by commas, how often each sends, how many bytes, and the
processor core to run on, or -1 for any.
"""

from __future__ import annotations

import os
import select
import socket
import sys


def main(descriptors: str, rounds: int, size: int, core: int) -> None:
    """Send and receive until all is done, or the server has gone."""
    if core >= 0:
        os.sched_setaffinity(0, {core})
    clients = {int(each): socket.socket(fileno=int(each)) for each in descriptors.split(",")}
    poll = select.poll()
    for client in clients.values():
        poll.register(client, select.POLLIN)
    for _ in range(rounds):
        for client in clients.values():
            client.sendall(bytes(size))
        missing = dict.fromkeys(clients, size)
        while missing:
            for descriptor, _ in poll.poll():
                received = len(clients[descriptor].recv(65536))
                if not received:
                    return
                missing[descriptor] -= received
                if not missing[descriptor]:
                    del missing[descriptor]


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
