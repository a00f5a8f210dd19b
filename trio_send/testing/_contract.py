"""What checks of a contract have in common: sentences that are tried one after the other, each on something fresh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn, final

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

#: For how many seconds one sentence may be tried, by Trio's clock. Nothing of it takes long, unless it hangs.
PATIENCE: Final = 60.0


@final
class ContractError(AssertionError):
    """Something does not do what its contract says.

    Attributes:
      rule: the name of the sentence that is broken, such as ``"counts_are_exact"``.
      sentence: the sentence.
      details: what was done instead.
    """

    def __init__(self, rule: str, sentence: str, details: str) -> None:
        super().__init__(f"{rule}: {sentence} But {details}.")
        self.rule = rule
        self.sentence = sentence
        self.details = details


class Broken(Exception):
    """Raised where a sentence is tried, with what was done instead."""


def require(condition: object, details: str) -> None:
    """Raise unless a sentence holds."""
    if not condition:
        raise Broken(details)


def _refuse(rule: Callable[..., Any], details: str, cause: BaseException | None) -> NoReturn:
    sentence = " ".join((rule.__doc__ or "").split())
    raise ContractError(rule.__name__, sentence, details) from cause


async def check_all(rules: Sequence[Callable[..., Awaitable[None]]], *makers: object) -> None:
    """Try each sentence; raise for the first one that is broken."""
    for rule in rules:
        hangs = True
        try:
            with trio.move_on_after(PATIENCE):
                await rule(*makers)
                hangs = False
        except Exception as error:
            inner: BaseException = error
            # From a nursery in which a sentence is tried.
            while len(getattr(inner, "exceptions", ())) == 1:
                inner = inner.exceptions[0]  # type: ignore[attr-defined]
            if isinstance(inner, Broken):
                _refuse(rule, str(inner), None)
            _refuse(rule, f"there was {type(inner).__name__}: {inner}", inner)
        if hangs:
            _refuse(rule, f"nothing came of it within {PATIENCE:g} seconds", None)
    await trio.lowlevel.checkpoint()
