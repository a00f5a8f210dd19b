"""What leaves an initiator: the body's exception bare, those of handlers as a group."""

from __future__ import annotations

import sys

import trio

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup


def has_cancellation(error: BaseException | None) -> bool:
    """Tell whether ``error`` is a cancellation or a group with one in it."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(has_cancellation, error.exceptions))
    return isinstance(error, trio.Cancelled)


def _is_left_of(part: BaseException, whole: BaseExceptionGroup[BaseException]) -> bool:
    """Tell whether ``part`` is ``whole``, or what a split of it has left; that has the same traceback."""
    if not isinstance(part, BaseExceptionGroup):
        return False
    return part.message == whole.message and part.__traceback__ is whole.__traceback__


def combine(
    own: list[BaseException],
    passing: BaseException | None,
    escaped: BaseException | None,
    handler_errors: list[BaseException],
) -> BaseException | None:
    """Shape what leaves the initiator.

    The nursery is an inner matter: an exception of the body's own leaves as it came, bare. Those of handlers always
    come as a group, the body's first if there is one too.

    Args:
      own: what the body raised, or what interrupted the wait at its end, if it went around the nursery.
      passing: the same, if it went through the nursery.
      escaped: what the nursery made of that and of the exceptions of its tasks.
      handler_errors: exceptions of synchronous handlers.
    """
    through: list[BaseException] = []
    if escaped is not None:
        group = escaped is not passing and isinstance(escaped, BaseExceptionGroup)
        through = list(escaped.exceptions) if group else [escaped]  # type: ignore[attr-defined]
    if isinstance(passing, BaseExceptionGroup):
        # What is left of a group of the body's own, from which the nursery may have taken its cancellations.
        left = [part for part in through if _is_left_of(part, passing)]
        through = [part for part in through if part not in left]
        own = [*left, *own]
    cancellations = [part for part in through if isinstance(part, trio.Cancelled)]
    others = [part for part in through if not isinstance(part, trio.Cancelled)]
    others += handler_errors
    leaving = [*own, *others]
    if not leaving:
        return cancellations[0] if cancellations else None
    if leaving == own and len(own) == 1:
        return own[0]
    return BaseExceptionGroup("an initiator was left with these", [*leaving, *cancellations])
