"""Give package indexes a README whose links work there, away from the checkout.

In the README the files of the checkout are linked by their paths. Where the project is shown elsewhere, these links go
to the project's home, the URL ``Homepage`` in ``pyproject.toml``. As long as there is none, their words stay without a
link, and pictures are left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

#: A link or a picture, of which the address is no URL and no place on the same page.
LOCAL = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)]+)\)")


def readme(text: str, home: str | None) -> str:
    """Return the README as it is shown elsewhere.

    Args:
      text: the README of the checkout.
      home: where the project is, for example at GitHub or GitLab.
    """

    def link(found: re.Match[str]) -> str:
        mark, words, path = found.groups()
        if home is None:
            return "" if mark else words
        kind = "raw" if mark else "blob"
        return f"{mark}[{words}]({home.rstrip('/')}/{kind}/HEAD/{path})"

    return LOCAL.sub(link, text)


class CustomMetadataHook(MetadataHookInterface):
    """What hatchling calls for the metadata that `pyproject.toml` leaves open."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = Path(self.root, "README.md").read_text("utf-8")
        home = metadata.get("urls", {}).get("Homepage")
        metadata["readme"] = {"content-type": "text/markdown", "text": readme(text, home)}
