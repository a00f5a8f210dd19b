"""The classic pooled echo server: whatever a client sends, it gets back.

Everything that a client needs, an args object and its piece of one big buffer, is made
before the first client comes, and taken from a pool and put back ever after. Receives
and sends are driven by the ``Completed`` event alone: no client has a task of its own.
A counting semaphore holds back the clients for whom there is no place.

    python examples/pooled_echo_server.py [--port PORT] [--max-clients N]

It prints where it listens, serves until Ctrl-C or SIGTERM, lets the answers that are on
their way finish, and prints what there was to do and whether all args are back in the
pool. Try it with ``callback_client.py``, or with telnet.
"""

import argparse
import signal
import socket as stdlib_socket
import sys

import trio

from trio_send import (
    BufferManager,
    ExitPolicy,
    Socket,
    SocketAsyncEventArgs,
    SocketAsyncEventArgsPool,
    SocketAsyncOperation,
    SocketError,
    SocketException,
    SocketShutdown,
    open_initiator,
)

#: The size of each client's buffer, in bytes. A longer message is answered in pieces.
BUFFER_SIZE = 4096

#: For how many seconds, once the server stops, clients may go on reading what they were
#: being sent.
GRACE = 5


class Client:
    """The user token of args: whom they serve at the moment.

    It stays with its args for the life of the server, so that nothing is made when a
    client comes.
    """

    def __init__(self) -> None:
        self.socket: Socket | None = None


class EchoServer:
    """The server, all its args and all its memory.

    Args:
      max_clients: how many clients it serves at once. Others wait until one leaves.
    """

    def __init__(self, max_clients: int) -> None:
        self.max_clients = max_clients
        self.places = trio.Semaphore(max_clients, max_value=max_clients)
        self.pool = SocketAsyncEventArgsPool()
        self.buffers = BufferManager(max_clients * BUFFER_SIZE, BUFFER_SIZE)
        for _ in range(max_clients):
            args = SocketAsyncEventArgs(user_token=Client())
            # Once for the life of the args, not once for each client or operation.
            args.completed += self.on_completed
            self.buffers.set_buffer(args)
            self.pool.push(args)
        self.accept_args = SocketAsyncEventArgs()
        self.accept_args.completed += self.on_accepted
        self.serving = trio.CancelScope()
        self.stopping = False
        # Handlers all run in one thread, and not even Ctrl-C comes between two of their
        # lines: plain numbers will do where the classic server needs atomic ones.
        self.connected = self.most_connected = self.served = 0
        self.bytes_received = self.bytes_sent = 0

    async def serve(self, listener: Socket) -> None:
        """Serve the clients of a listening socket until `stop`, and close it."""
        # Leaving the initiator ends what is pending. The policy ends receives and
        # accepts at once, as nothing is lost by that, and lets sends that the clients
        # have begun to read come to their end.
        with self.serving:
            async with open_initiator(ExitPolicy.FINISH_STARTED, grace=GRACE):
                try:
                    await self.accept_clients(listener)
                    await trio.sleep_forever()
                finally:
                    self.stopping = True
                    listener.close()

    def stop(self) -> None:
        """Serve nobody else, and let `serve` come to its end."""
        # Before anything is cancelled: handlers that run from here on start nothing
        # that would have to be awaited.
        self.stopping = True
        self.serving.cancel(reason="the server stops")

    # -- accepting ---------------------------------------------------------------------

    async def accept_clients(self, listener: Socket) -> None:
        """Accept the clients that are there; `on_accepted` goes on with the next one."""
        while True:
            await self.places.acquire()
            if self.stopping:  # which may have come while this was the next in line
                self.places.release()
                return
            # An accept refuses args that still hold the client before.
            self.accept_args.accept_socket = None
            if listener.accept_async(self.accept_args):
                return
            # False: it has ended already, nobody will call the handler, and the result
            # is here to be taken.
            await self.process_accept()

    async def on_accepted(self, listener: Socket, args: SocketAsyncEventArgs) -> None:
        """Handle ``Completed`` of an accept.

        It is asynchronous, and so has a task of its own, because it may have to wait
        for a place.
        """
        await self.process_accept()
        await self.accept_clients(listener)

    async def process_accept(self) -> None:
        """Give a client that was accepted its args, and start to receive."""
        if self.accept_args.socket_error is not SocketError.SUCCESS:
            self.places.release()
            if not self.stopping:
                print(
                    "accept failed:",
                    self.accept_args.socket_error.name,
                    file=sys.stderr,
                )
                # Most likely there are no descriptors left. Asking again at once would
                # only ask in a circle.
                await trio.sleep(0.1)
            return
        socket = self.accept_args.accept_socket
        assert socket is not None  # an accept that succeeded has made one
        self.served += 1
        self.connected += 1
        self.most_connected = max(self.most_connected, self.connected)
        args = self.pool.pop()  # not empty: there are as many args as places
        args.user_token.socket = socket
        if self.stopping:
            self.close_client(args)
        elif not self.receive(args):
            self.on_completed(socket, args)

    # -- serving a client --------------------------------------------------------------

    def on_completed(self, socket: Socket, args: SocketAsyncEventArgs) -> None:
        """Handle ``Completed`` of a client's args: take the result, start what is next.

        What comes next may end on the spot, and then nobody calls this handler for it.
        To call itself is what the classic server does, and a client that is fast enough
        overflows its stack. A loop has no such limit; and the library says "pending"
        now and then, even if all is done, so that other clients have their turn.
        """
        while self.process(args):
            pass

    def process(self, args: SocketAsyncEventArgs) -> bool:
        """Take a result; return whether the next operation has ended on the spot."""
        if args.last_operation is SocketAsyncOperation.RECEIVE:
            return self.process_receive(args)
        if args.last_operation is SocketAsyncOperation.SEND:
            return self.process_send(args)
        raise ValueError(
            f"the last operation was {args.last_operation.name}, not RECEIVE or SEND"
        )

    def receive(self, args: SocketAsyncEventArgs) -> bool:
        """Start to receive; return whether that is pending."""
        # The echo has narrowed the range to what it sent. The classic server leaves it
        # so, and from then on receives no more at once than in its shortest message so
        # far.
        args.set_range(args.offset, BUFFER_SIZE)
        return self.socket_of(args).receive_async(args)

    def process_receive(self, args: SocketAsyncEventArgs) -> bool:
        """Echo what was received. No bytes without an error: the client has finished."""
        self.bytes_received += args.bytes_transferred
        if args.socket_error is not SocketError.SUCCESS or args.bytes_transferred == 0:
            self.close_client(args)
            return False
        args.set_range(args.offset, args.bytes_transferred)
        return not self.socket_of(args).send_async(args)

    def process_send(self, args: SocketAsyncEventArgs) -> bool:
        """Receive again. A send that succeeded has sent all; half a success is none."""
        self.bytes_sent += args.bytes_transferred
        if args.socket_error is not SocketError.SUCCESS or self.stopping:
            self.close_client(args)
            return False
        return not self.receive(args)

    def socket_of(self, args: SocketAsyncEventArgs) -> Socket:
        """Return the socket of the client whom args serve."""
        client: Client = args.user_token
        assert client.socket is not None
        return client.socket

    def close_client(self, args: SocketAsyncEventArgs) -> None:
        """Say goodbye to a client, and put its args back for the next one."""
        socket = self.socket_of(args)
        args.user_token.socket = None
        # An echo that was cut must not look complete. Without a goodbye, closing resets
        # the connection then.
        if socket.torn is None:
            try:
                socket.shutdown(SocketShutdown.SEND)
            except SocketException:
                pass  # the client is gone already
        socket.close()
        self.connected -= 1
        # The place comes last: whoever gets it finds args in the pool.
        self.pool.push(args)
        self.places.release()

    def summary(self) -> str:
        """Say what there was to do."""
        return (
            f"clients served: {self.served}, at most {self.most_connected} at once\n"
            f"bytes received: {self.bytes_received}, sent: {self.bytes_sent}\n"
            f"args in the pool: {self.pool.count} of {self.max_clients}"
        )


async def main(port: int, max_clients: int) -> None:
    server = EchoServer(max_clients)
    async with Socket() as listener:
        # Connections inherit it: what is echoed is complete as it is, and need not wait
        # for more to fill a packet.
        listener.setsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NODELAY, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(max_clients)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, listener)
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                host, port = listener.local_end_point
                print(
                    f"listening on {host}:{port}, clients at once: {max_clients}",
                    flush=True,
                )
                async for _ in signals:
                    break
            server.stop()
    print(server.summary())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Echo what clients send, from pools made at the start."
    )
    parser.add_argument(
        "--port",
        type=int,
        default=0,
        help="where to listen; 0 stands for any free port",
    )
    parser.add_argument(
        "--max-clients", type=int, default=100, help="how many clients to serve at once"
    )
    chosen = parser.parse_args()
    trio.run(main, chosen.port, chosen.max_clients)
