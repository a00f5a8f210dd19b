"""Run the pieces of code that stand on the pages of the documentation, in docstrings and in the README.

The blocks of one page run one after another and share their names, as they do for a reader. A page that awaits
somewhere outside of a function runs inside of `trio.run`. What a block needs and a reader need not see stands in front
of it, in a comment::

    .. invisible-code-block: python

       message = b"hello"

Every page finds these names at hand:

``trio``, ``trio_send``
    the libraries;
``socket``, ``peer``
    two connected sockets, on a page that awaits;
``nursery``
    for tasks that run beside the page, and are cancelled at its end; on a page that awaits;
``initiator``
    the one in which a page that awaits is run, to which belongs what it starts;
``stop_when_all_wait``
    to be called in front of a block that waits for ever: the block is cancelled when every task waits;
``example_org``
    ``await example_org(handler)`` makes a server on this machine of the host "example.org", on whichever port it is
    asked for; ``handler`` is called with a `Socket` for each connection.

A docstring also finds the names of its module, and those of `trio_send` and `trio_send.testing`.
"""

from __future__ import annotations

import ast
import gc
import inspect
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import sybil
import trio
from sybil.parsers import markdown, rest

import trio_send
import trio_send.testing

#: No block takes as long as this, so one that does waits for ever.
MOST_SECONDS = 20

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

ROOT = Path(__file__).resolve().parent.parent


class Page(NamedTuple):
    """Text with blocks of code in it."""

    name: str
    text: str
    first_line: int = 1
    module: str | None = None


class Block(NamedTuple):
    """A piece of Python."""

    line: int
    source: str

    def compile(self, page: Page) -> Any:
        padded = "\n" * (self.line - 1) + self.source
        return compile(padded, page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


class BrokenSnippet(AssertionError):
    """A block on a page does not run."""


# What there is --------------------------------------------------------------------------------


def pages() -> Iterator[Page]:
    """Every page on which there may be code."""
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.rst"))):
        yield Page(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))
    for path in sorted((ROOT / "trio_send").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = ast.get_docstring(node)
                if text and "::" in text:
                    line = node.body[0].lineno
                    yield Page(f"{name}, line {line}", f"{text}\n", line, module)


def blocks(page: Page, language: str = "python") -> list[Block]:
    """What of a page is written in a language, from top to bottom."""
    package = markdown if page.name.endswith(".md") else rest
    document = sybil.Document(page.text, page.name)
    for region in package.CodeBlockParser(language, evaluator=print)(document):
        document.add(region)
    return [
        Block(
            page.first_line + example.line + example.parsed.line_offset,
            inspect.cleandoc(f"\n{example.parsed}"),
        )
        for example in document.examples()
    ]


LITERAL_BLOCK = re.compile(r"^(?! *\.\. \S+::).*::$", re.MULTILINE)


def unnamed_blocks(page: Page) -> list[str]:
    """Blocks of which nobody can tell what they are written in, as the line in front of them."""
    return [] if page.name.endswith(".md") else LITERAL_BLOCK.findall(page.text)


def commands(page: Page) -> list[str]:
    """What a page tells the reader to type, without the prompt; a line that goes on is one with the next."""
    prompted = re.findall(r"^ *\$ (.+)$", re.sub(r"\\\n", "", page.text), re.MULTILINE)
    scripts = "\n".join(block.source for block in blocks(page, "sh"))
    return prompted + re.sub(r"\\\n", "", scripts).split("\n")


# Running it -----------------------------------------------------------------------------------


class Resolver(trio.abc.HostnameResolver):
    """Knows example.org, and that it is here."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        assert host == b"example.org", f"a page must not ask for the addresses of {host!r}"
        here = trio.socket.AF_INET, trio.socket.SOCK_STREAM, 0, "", ("127.0.0.1", self.port)
        return [here]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise AssertionError("a page must not ask for a name")


@attrs.define
class Runner:
    """Runs the blocks of one page."""

    page: Page
    names: dict[str, Any] = attrs.field(factory=dict)
    is_stopped: bool = False

    def run(self) -> None:
        if self.page.module is not None:
            for module in ("trio_send", "trio_send.testing", self.page.module):
                self.names.update(vars(import_module(module)))
        self.names |= {"__name__": "__main__", "trio": trio, "trio_send": trio_send}
        found = blocks(self.page)
        if any(self._awaits(block) for block in found):
            trio.run(self._run_inside, found)
        else:
            for block in found:
                with self._naming(block):
                    exec(block.compile(self.page), self.names)
        self.names.clear()
        gc.collect()  # so that what a page leaves open is told of it and not of the next one

    def _awaits(self, block: Block) -> bool:
        with self._naming(block):
            return bool(block.compile(self.page).co_flags & inspect.CO_COROUTINE)

    async def _run_inside(self, found: list[Block]) -> None:
        broken = None
        socket, peer = trio_send.socketpair()
        try:
            async with trio.open_nursery() as nursery, trio_send.open_initiator() as initiator:
                self.names |= {
                    "socket": socket,
                    "peer": peer,
                    "nursery": nursery,
                    "initiator": initiator,
                    "stop_when_all_wait": self._stop,
                    "example_org": self._example_org,
                }
                try:
                    for block in found:
                        with self._naming(block), trio.fail_after(MOST_SECONDS):
                            await self._run_block(block, nursery)
                except BrokenSnippet as error:  # bare, and not in the group of a nursery
                    broken = error
                nursery.cancel_scope.cancel()
        finally:
            for end in (socket, peer, *self.names.values()):
                if isinstance(end, trio_send.Socket):
                    end.close()
        if broken is not None:
            raise broken

    async def _run_block(self, block: Block, nursery: trio.Nursery) -> None:
        code = block.compile(self.page)
        with trio.CancelScope() as scope:
            if self._awaits(block):
                if self.is_stopped:
                    nursery.start_soon(self._cancel_when_all_wait, scope)
                self.is_stopped = False
                await eval(code, self.names)
            else:
                exec(code, self.names)

    def _naming(self, block: Block) -> Naming:
        return Naming(self.page, block)

    def _stop(self) -> None:
        self.is_stopped = True

    async def _cancel_when_all_wait(self, scope: trio.CancelScope) -> None:
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()

    async def _example_org(self, handler: Callable[[trio_send.Socket], Awaitable[object]]) -> None:
        [listener] = await trio_send.open_tcp_listeners(0, host="127.0.0.1")
        trio.socket.set_custom_hostname_resolver(Resolver(listener.socket.local_end_point[1]))

        async def serve() -> None:
            async with listener:
                while True:
                    async with await listener.accept_socket() as connection:
                        await handler(connection)

        self.names["nursery"].start_soon(serve)


class Naming:
    """Says of an exception in which block of which page it came about."""

    def __init__(self, page: Page, block: Block) -> None:
        self.page = page
        self.block = block

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None or isinstance(error, (trio.Cancelled, BrokenSnippet)):
            return
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        hint = ""
        if isinstance(error, NameError):
            hint = (
                ". Give it in a comment in front of the block, '.. invisible-code-block: python'; tests/snippets.py "
                "says what else there is"
            )
        if isinstance(error, trio.TooSlowError):
            hint = ". If it is meant to wait for ever, call stop_when_all_wait() in such a comment"
        raise BrokenSnippet(
            f"{self.page.name}: the block at line {self.block.line} does not run: "
            f"{type(error).__name__}: {error}{hint}"
        ) from error
