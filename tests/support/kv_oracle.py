"""Real Deno as the oracle of Deno KV: one long-lived process that answers commands.

Keys and values travel in a notation of JSON that loses nothing. A string, a boolean, null, and a safe integer stand for
themselves (lone surrogates as JSON's escapes), a list is an Array; everything else is an object with its kind under `$`:

    {"$": "number", "v": "NaN"}            also -0, Infinity, -Infinity, fractions, integers beyond 2^53
    {"$": "bigint", "v": "123"}            {"$": "u64", "v": "123"}           {"$": "undefined"}   {"$": "hole"} (in lists)
    {"$": "bytes", "v": "00ff"}            {"$": "buffer", "v": "00ff"}       {"$": "view", "type": "Int16Array", "v": "00ff"}
    {"$": "date", "v": 0}                  {"$": "regexp", "source": "a", "flags": "g"}
    {"$": "object", "v": [["name", …]]}    {"$": "map", "v": [[…, …]]}        {"$": "set", "v": […]}
    {"$": "boxed", "v": 1}                 {"$": "error", "name": "TypeError", "message": "…", "stack": "…"}
    {"$": "ref", "v": 0}                   the list, object, map or set that was opened as number 0 from the outside in
    {"$": "versionstamp"}                  as the last part of a key: its suffix at commit (only sent)
    {"$": "symbol"} {"$": "function"}      what no value may be (only sent)
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support import DENO

PROGRAM = Path(__file__).with_suffix(".ts")
INTERPRETED = (
    "--v8-flags=--no-opt,--no-maglev"  # optimized code turns some small integers into doubles, and so writes them
)


class OracleError(Exception):
    """What Deno threw: `kind` is the name of the error's constructor."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message


class Oracle:
    """A Deno process with databases by name (`db`, "db" unless told). One thread may use it at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [DENO, "run", "-A", INTERPRETED, "--quiet", "--no-check", "--no-config", "--unstable-kv", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1"},
        )
        self._sent = 0
        self._answers: dict[int, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self, op: str, **arguments: Any) -> int:
        """Send a command without waiting; `wait` takes the number."""
        assert self._process.stdin is not None
        self._sent += 1
        command = {"id": self._sent, "op": op, **arguments}
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        return self._sent

    def wait(self, number: int) -> Any:
        """The result of a command that was started, or OracleError."""
        assert self._process.stdout is not None
        while number not in self._answers:
            line = self._process.stdout.readline()
            if not line:
                raise EOFError(f"Deno ended with {self._process.wait()}")
            answer = json.loads(line)
            self._answers[answer["id"]] = answer
        answer = self._answers.pop(number)
        if "error" in answer:
            raise OracleError(**answer["error"])
        return answer["ok"]

    def send(self, op: str, **arguments: Any) -> Any:
        """Run one command to its end."""
        return self.wait(self.start(op, **arguments))

    def kill(self) -> None:
        self._process.kill()
        self.close()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
