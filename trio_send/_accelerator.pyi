from typing import Any

#: The digest of what it was compiled from.
SOURCE: str

def install(**things: Any) -> None: ...
