from contextvars import ContextVar
from typing import Any

#: The digest of what it was compiled from.
SOURCE: str

def install(
    *,
    socket: type[Any],
    core: type[Any],
    args: type[Any],
    operation: type[Any],
    result: type[Any],
    owner: type[Any],
    queue: type[Any],
    piece: type[Any],
    socket_class: type[Any],
    current_owner: ContextVar[Any],
    no_flags: Any,
    send: Any,
    idle: int,
    trying: int,
    step: int,
    success: int,
    plain_flags: int,
) -> None: ...
