"""`Tries`: whether to try what helps with some peers and is in vain with others.

Which kind the peer is, is found out by trying, and forgotten after a while.
"""

from __future__ import annotations

from typing import Final

#: After a second try in vain, 1, 3, 7 and at last this many are left out.
MAX_SKIPS: Final = 15


class Tries:
    """What tries of one kind have come to.

    Attributes:
      skips: how many of the next ones to leave out.
    """

    __slots__ = ("_in_vain", "skips")

    def __init__(self) -> None:
        self.skips: int = 0
        #: How many were left out when the latest one was in vain.
        self._in_vain: int = 0

    def may_try(self) -> bool:
        """Tell whether to try now; if not, one of those that are left out is."""
        if self.skips:
            self.skips -= 1
            return False
        return True

    def learn(self, *, in_vain: bool) -> None:
        """Take note of whether a try was of any use."""
        self._in_vain = min(2 * self._in_vain + 1, MAX_SKIPS) if in_vain else 0
        self.skips = self._in_vain
