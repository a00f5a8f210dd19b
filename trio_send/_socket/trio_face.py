"""A `trio_send.Socket` seen as a trio socket, for everything that is not here."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, final

import trio

from .._base.checks import NotCopied

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self


@final
class TrioFace(NotCopied, trio.socket.SocketType):
    """A trio socket on the same descriptor, whose closing is the closing of ours.

    A trio socket that closed the descriptor by itself would leave pending sends waiting for a socket that is no more.
    """

    def __init__(
        self,
        inner: trio.socket.SocketType,
        close: Callable[[], None],
        note_shutdown: Callable[[int], None],
        require_own: Callable[[], None],
    ) -> None:
        super().__init__()
        self._inner = inner
        self._close = close
        self._note_shutdown = note_shutdown
        self._require_own = require_own

    def __repr__(self) -> str:
        return f"<{self._inner!r} of a trio_send.Socket>"

    def close(self) -> None:
        """Close the `trio_send.Socket`."""
        self._close()

    @trio.lowlevel.enable_ki_protection
    def shutdown(self, flag: int) -> None:
        """Shut the socket down, and let the `trio_send.Socket` know."""
        self._require_own()
        self._inner.shutdown(flag)
        self._note_shutdown(flag)

    def detach(self) -> int:
        """Refuse to take the descriptor away from the `trio_send.Socket`."""
        raise RuntimeError(
            "this descriptor belongs to a trio_send.Socket; close that, or use fileno()"
        )

    def __enter__(self) -> Self:
        return self

    @trio.lowlevel.enable_ki_protection
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


#: What changes nothing, and so may be asked of a socket that is closed or another process's.
_LOOKS: Final = frozenset({"dup", "fileno", "getpeername", "getsockname", "getsockopt"})


def _forward(name: str, member: object) -> object:
    """Make a member of `TrioFace` that hands everything to the inner socket."""
    if isinstance(member, property):
        return property(lambda self: getattr(self._inner, name), doc=member.__doc__)

    looks = name in _LOOKS

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not looks:
            self._require_own()
        return getattr(self._inner, name)(*args, **kwargs)

    method.__name__ = name
    return method


for _name, _member in vars(trio.socket.SocketType).items():
    if (
        _name not in vars(TrioFace)
        and not _name.startswith("__")
        and (isinstance(_member, property) or inspect.isfunction(_member))
    ):
        setattr(TrioFace, _name, _forward(_name, _member))
