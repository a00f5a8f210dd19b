"""What a pooled server makes once and uses for every client: args, and the buffers that they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import trio

from .._base.checks import NotCopied, require_whole_number
from .._base.errors import InvalidOperationError
from .event_args import SocketAsyncEventArgs

if TYPE_CHECKING:
    from .event_args_operation import EventArgsOperation


def _operation_of(args: SocketAsyncEventArgs) -> EventArgsOperation:
    """Return the operation of args, which may be closed."""
    if not isinstance(args, SocketAsyncEventArgs):
        raise TypeError(
            "args is None, but must be a SocketAsyncEventArgs"
            if args is None
            else f"args must be a SocketAsyncEventArgs, not {type(args).__name__}"
        )
    return args._operation


@final
class SocketAsyncEventArgsPool(NotCopied):
    """A stack of args that nobody uses at the moment.

    It makes none: push all that a server will ever need before its first client comes, pop one for each client, and
    push it back when the client is gone. What was pushed last, and so is warm in the caches, is popped first.

    Source: F284.
    """

    __slots__ = ("_args",)

    def __init__(self) -> None:
        # By identity, because what looks like the same args may be others. A dict gives back what came last.
        self._args: dict[int, SocketAsyncEventArgs] = {}

    def __repr__(self) -> str:
        return f"<SocketAsyncEventArgsPool: {len(self._args)} args>"

    @trio.lowlevel.enable_ki_protection
    def push(self, args: SocketAsyncEventArgs) -> None:
        """Put args into the pool.

        Their handlers, buffer and user token stay as they are, and so does `SocketAsyncEventArgs.accept_socket`. Their
        `SocketAsyncEventArgs.connect_socket` is set to None, so that they do not keep a connection alive that is over.
        Leave them alone until they are popped.

        Args:
          args: what to put there; free, because whoever pops them will start them at once.

        Raises:
          TypeError: ``args`` is None (F284) or something else.
          InvalidOperationError: ``args`` is in the pool already; or its message was cut, and its torn stream has yet to
            be closed, resumed or forgotten.
          OperationInProgressError: ``args`` is in use.
          ObjectDisposedError: ``args`` was closed.

        **Threads**: only from the Trio thread that uses the args.
        """
        operation = _operation_of(args)
        operation.require_configurable()
        if id(args) in self._args:
            raise InvalidOperationError(
                "these args are in the pool already; push them once, when whoever popped them is done with them"
            )
        operation.connect_socket = None
        self._args[id(args)] = args

    @trio.lowlevel.enable_ki_protection
    def pop(self) -> SocketAsyncEventArgs:
        """Take the args that were pushed last.

        Returns:
          The args; nobody else has them until they are pushed back.

        Raises:
          InvalidOperationError: the pool is empty.

        **Threads**: only from the Trio thread that uses the args.
        """
        if not self._args:
            raise InvalidOperationError(
                "the pool is empty; push more args before the start, or hold clients back until some are pushed"
            )
        return self._args.popitem()[1]

    @property
    def count(self) -> int:
        """How many args are in the pool."""
        return len(self._args)

    def __len__(self) -> int:
        return len(self._args)


@final
class BufferManager(NotCopied):
    """One block of memory, cut into buffers of the same size for args to receive into and send from.

    A server that makes it at its start has all the memory that its clients will ever use, in one piece.

    Args:
      total_bytes: the size of the block. What is left over behind the last whole buffer is not used.
      buffer_size: the size of each buffer, in bytes.

    Raises:
      TypeError: one of the two is no whole number.
      ValueError: ``buffer_size`` is not positive, or not one buffer fits into ``total_bytes``.

    Source: F285.
    """

    __slots__ = ("_block", "_buffer_size", "_free", "_held")

    def __init__(self, total_bytes: int, buffer_size: int) -> None:
        total_bytes = require_whole_number("total_bytes", total_bytes, "bytes")
        buffer_size = require_whole_number("buffer_size", buffer_size, "bytes")
        if buffer_size < 1:
            raise ValueError(f"buffer_size is {buffer_size}, but must be at least 1")
        if total_bytes < buffer_size:
            raise ValueError(
                f"total_bytes is {total_bytes}, but must have room for at least one buffer of {buffer_size} bytes"
            )
        self._block = bytearray(total_bytes)
        self._buffer_size = buffer_size
        #: Where the free buffers begin, the next one to be given last.
        self._free = [
            number * buffer_size for number in reversed(range(total_bytes // buffer_size))
        ]
        #: Who holds which buffer, by identity. A handler may choose any range of it, so `offset` cannot tell.
        self._held: dict[int, tuple[SocketAsyncEventArgs, int]] = {}

    def __repr__(self) -> str:
        return (
            f"<BufferManager: {len(self._free)} of {len(self._free) + len(self._held)} buffers "
            f"of {self._buffer_size} bytes are free>"
        )

    @property
    def buffer_size(self) -> int:
        """The size of each buffer, in bytes."""
        return self._buffer_size

    @property
    def available(self) -> int:
        """How many buffers are free."""
        return len(self._free)

    @trio.lowlevel.enable_ki_protection
    def set_buffer(self, args: SocketAsyncEventArgs) -> bool:
        """Give args a buffer of their own, as `SocketAsyncEventArgs.set_buffer` does.

        ``args.buffer`` is then the whole block, ``args.offset`` where the buffer begins in it, and ``args.count`` its
        size. Choose ranges inside of it with `SocketAsyncEventArgs.set_range`.

        Args:
          args: who is to have it. A buffer of their own that they have is replaced.

        Returns:
          True; or False, and ``args`` is as it was, if no buffer is free.

        Raises:
          TypeError: ``args`` is None or something else.
          ValueError: ``args`` has a buffer list (F098).
          InvalidOperationError: ``args`` holds a buffer of this manager already, or its message was cut and its stream
            is torn.
          OperationInProgressError: ``args`` is in use (F106).
          ObjectDisposedError: ``args`` was closed (F108).

        **Threads**: only from the Trio thread that uses the args.
        """
        operation = _operation_of(args)
        operation.require_configurable()
        if id(args) in self._held:
            raise InvalidOperationError(
                "these args hold a buffer of this manager already; free it first, or keep it"
            )
        if not self._free:
            return False
        offset = self._free[-1]
        args.set_buffer(self._block, offset, self._buffer_size)
        self._held[id(args)] = args, self._free.pop()
        return True

    @trio.lowlevel.enable_ki_protection
    def free_buffer(self, args: SocketAsyncEventArgs) -> None:
        """Take the buffer of args back, so that others can have it.

        The args have no buffer then, unless they were given one from elsewhere meanwhile. Whoever gets the buffer next
        finds zeros in it.

        Args:
          args: who has it; closed ones may give it back too.

        Raises:
          TypeError: ``args`` is None or something else.
          ValueError: ``args`` holds no buffer of this manager.
          InvalidOperationError: the message of ``args`` was cut and its stream is torn, so the rest may still be sent.
          OperationInProgressError: ``args`` is in use (F106).

        **Threads**: only from the Trio thread that uses the args.
        """
        operation = _operation_of(args)
        if id(args) not in self._held:
            raise ValueError(
                "args hold no buffer of this manager: they were never given one here, or it was freed already"
            )
        operation.require_free()
        if not operation.is_closed:
            operation.require_idle()
            if operation.buffer is self._block:
                args.set_buffer(None)
        _, offset = self._held.pop(id(args))
        self._block[offset : offset + self._buffer_size] = bytes(self._buffer_size)
        self._free.append(offset)
