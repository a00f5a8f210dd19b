"""`Cut`: which message was cut on a stream, while that is torn by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from .operation import Operation


@attrs.frozen(eq=False)
class Cut:
    """What tore a stream.

    Attributes:
      operation: whose message was cut.
      face: what the program holds of it; None if that is nothing.
      detail: why it was cut.
    """

    operation: Operation
    face: Any
    detail: str | None
