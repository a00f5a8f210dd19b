"""``python -m trio_send`` is the command line ``trio-send``."""

from __future__ import annotations

import sys

from ._cli import main

if __name__ == "__main__":
    sys.exit(main())
