"""Check the types of the programs that users copy: every example, and every program in the README; and some calls more.

    python -m tests.typed_programs

They are checked as a user's own would be: in a folder of their own, against the package that is installed, by mypy and
pyright at their strictest. It needs the dependency group `typing`. The exit status is that of the first that complains.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent

#: What each program must run on, so what it is checked for.
OLDEST_PYTHON = "3.10"

CHECKERS = (
    ("mypy", "--strict", "--python-version", OLDEST_PYTHON, "--config-file=", "."),
    ("pyright", "--pythonpath", sys.executable),
)

PYRIGHT_CONFIGURATION = {
    "typeCheckingMode": "strict",
    "pythonVersion": OLDEST_PYTHON,
    # Each checker has comments of its own in what follows, and complains of those for which there is no need.
    "enableTypeIgnoreComments": False,
    "reportUnnecessaryTypeIgnoreComment": True,
}

#: Right and wrong things that no example does. To take a wrong one for right is a mistake of the annotations.
CALLS = """\
from trio_send import AsyncResult, Socket, SocketAsyncEventArgs, from_thread, socketpair


def handler(socket: Socket, args: SocketAsyncEventArgs) -> bool:
    return args.pending


async def slow_handler(socket: Socket, args: SocketAsyncEventArgs) -> None:
    await args.wait()


def other_way_round(args: SocketAsyncEventArgs, socket: Socket) -> None: ...


def callback(result: AsyncResult) -> None: ...


async def slow_callback(result: AsyncResult) -> int:
    return result.bytes_transferred


args = SocketAsyncEventArgs()
args.completed += handler
args.completed += slow_handler
args.completed -= handler
SocketAsyncEventArgs().completed += callback  # type: ignore[arg-type]  # pyright: ignore[reportOperatorIssue]
SocketAsyncEventArgs().completed += other_way_round  # type: ignore[arg-type]  # pyright: ignore[reportOperatorIssue]

# Of a handler in place pyright infers nothing behind +=, which is why the programs have none.
args.completed += lambda socket, args: args.nothing  # type: ignore[attr-defined]  # pyright: ignore

sender, _ = socketpair(on_torn="allow")
Socket(on_torn="ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
sender.begin_send(b"", callback=callback)
sender.begin_send([b"", bytearray(), memoryview(b"")], callback=slow_callback)
sender.begin_send(b"", callback=handler)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

started: AsyncResult = from_thread.start(sender.begin_receive, bytearray(1), callback=callback)
pending: bool = from_thread.start(sender.receive_async, args)
from_thread.start(sender.receive_async, 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
from_thread.start(sender.begin_receive)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
"""


def programs() -> dict[str, str]:
    """Return the text of each program by the name of the file to put it in."""
    found = {path.name: path.read_text("utf-8") for path in (ROOT / "examples").glob("*.py")}
    readme = (ROOT / "README.md").read_text("utf-8")
    for number, text in enumerate(re.findall(r"```python\n(.*?)```", readme, re.DOTALL), 1):
        found[f"readme_{number}.py"] = text
    return found


def main() -> int:
    """Check them all; return the exit status."""
    with tempfile.TemporaryDirectory() as directory:
        for name, text in {**programs(), "calls.py": CALLS}.items():
            Path(directory, name).write_text(text, "utf-8")
        Path(directory, "pyrightconfig.json").write_text(json.dumps(PYRIGHT_CONFIGURATION), "utf-8")
        for tool, *arguments in CHECKERS:
            status = subprocess.run(
                [sys.executable, "-m", tool, *arguments], check=False, cwd=directory
            ).returncode
            if status:
                return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
