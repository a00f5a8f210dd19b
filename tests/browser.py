"""A browser without a window, to look at the pages of the documentation as readers see them.

It is driven by the DevTools protocol of Chromium and its relatives, so it needs nothing but one of them, and
`trio_websocket` to speak with it.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
from trio_websocket import WebSocketConnection, open_websocket_url

#: What the browser may be called.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--remote-debugging-port=0",
    "about:blank",
)


def find_browser() -> str | None:
    """Return the path of a browser; None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@attrs.define
class Tab:
    """One page at a time."""

    _connection: WebSocketConnection
    _numbers: Any = attrs.field(factory=itertools.count)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Have the browser do something, and return its answer."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        await self._connection.send_message(json.dumps(message))
        return await self._receive(lambda message: message.get("id") == number)

    async def resize(self, width: int) -> None:
        """Give the tab another width, in pixels."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=1000,
            deviceScaleFactor=1,
            mobile=False,
        )

    async def open(self, path: Path) -> None:
        """Show a file, and wait until it is there."""
        await self.call("Page.enable")
        await self.call("Page.navigate", url=path.as_uri())
        await self._receive(lambda message: message.get("method") == "Page.loadEventFired")

    async def run(self, script: str) -> Any:
        """Return the value of a piece of JavaScript."""
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def _receive(self, is_wanted: Any) -> dict[str, Any]:
        while True:
            message = json.loads(await self._connection.get_message())
            assert "error" not in message, message["error"]
            if is_wanted(message):
                return message.get("result", {})


@asynccontextmanager
async def open_tab(browser: str, profile: Path) -> AsyncIterator[Tab]:
    """Start a browser, and end it with the block.

    Args:
      browser: its path.
      profile: an empty folder for what it keeps.
    """
    process = await trio.lowlevel.open_process(
        [browser, f"--user-data-dir={profile}", *OPTIONS],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not (lines := await read_lines(profile / "DevToolsActivePort")):
            assert process.poll() is None, "the browser has ended"
            await trio.sleep(0.02)
        address = f"ws://127.0.0.1:{lines[0]}"
        async with connect(f"{address}{lines[1]}") as control:
            target = (await Tab(control).call("Target.createTarget", url="about:blank"))["targetId"]
        async with connect(f"{address}/devtools/page/{target}") as connection:
            yield Tab(connection)
    finally:
        process.terminate()
        with trio.CancelScope(shield=True):
            await process.wait()


def connect(url: str) -> Any:
    return open_websocket_url(url, max_message_size=2**26, message_queue_size=1000)


async def read_lines(path: Path) -> list[str]:
    """Return the two lines that the browser writes when it listens; none as long as it does not."""
    if not path.exists():
        return []
    lines = path.read_text("utf-8").splitlines()
    return lines if len(lines) == 2 else []
