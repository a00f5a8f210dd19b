"""`CompletedEvent`: the handlers that are told when an operation of one args object has ended."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias, final

from .._base.checks import NotCopied, counted
from .._owners.dispatcher import call_in_order

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from .event_args import SocketAsyncEventArgs
    from .socket import Socket

    #: Whatever an async function returns is an object too.
    Handler: TypeAlias = Callable[[Socket, SocketAsyncEventArgs], object]


@final
class CompletedEvent(NotCopied):
    """The handlers of one args object, as ``args.completed``.

    Add one with ``args.completed += handler`` and take it off with ``args.completed -= handler``. A handler is called
    as ``handler(socket, args)`` and may be a function or an async function. Handlers run in the order they were added
    (F127); from the first asynchronous one on, in a task of their own.

    That is a task of the initiator's nursery, unshielded, so it ends with the initiator, and in a cancelled one at its
    first checkpoint. Up to there it runs in any case, and comes before everything else. The args are in use until it
    has its first turn, so nobody can have started them anew by then. Tasks in `SocketAsyncEventArgs.wait` and the
    handlers of later events go on after that. What it wants to know of the args it has to read before its first
    checkpoint, because they are free after that.
    """

    __slots__ = ("_handlers",)

    def __init__(self) -> None:
        self._handlers: tuple[Handler, ...] = ()

    def __iadd__(self, handler: Handler) -> Self:
        if not callable(handler):
            raise TypeError(
                f"handler must be a function of (socket, args), not {type(handler).__name__}"
            )
        self._handlers = (*self._handlers, handler)
        return self

    def __isub__(self, handler: Handler) -> Self:
        handlers = list(self._handlers)
        for index in range(len(handlers) - 1, -1, -1):
            # The latest of equal ones, as .NET has it; an unknown one is ignored.
            if handlers[index] == handler:
                del handlers[index]
                break
        self._handlers = tuple(handlers)
        return self

    def _call(
        self, socket: object, args: SocketAsyncEventArgs
    ) -> Coroutine[Any, Any, object] | None:
        """Call the handlers; return a coroutine that still has to run, if one of them is asynchronous."""
        handlers: tuple[Callable[..., object], ...] = self._handlers
        if len(handlers) == 1:
            result = handlers[0](socket, args)
            # To ask None whether it is a coroutine takes longer than to call a small handler.
            return result if result is not None and isinstance(result, Coroutine) else None
        return call_in_order(iter(handlers), socket, args)

    def __len__(self) -> int:
        return len(self._handlers)

    def __bool__(self) -> bool:
        return bool(self._handlers)

    def __repr__(self) -> str:
        return f"<CompletedEvent: {counted(len(self._handlers), 'handler')}>"
