"""The order of a supervisor, in one line of JSON: the command, its limits, and what it may reach."""

from __future__ import annotations

import json
from dataclasses import dataclass

from provisioner.core.redaction import Secret
from provisioner.runs.sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class Order:
    """``environment`` is all of it; ``secrets`` are masked in its output; ``user`` is the account, if it is another.

    ``limit_ms`` is its time limit, 0 for none. ``keep_free``: bytes that stay free on the disk of its directory, else it
    is ended; ``memory`` the bytes that it and its children may have in memory, and ``processes`` how many they may be, 0 for
    any number. ``log`` is the path of its
    output; ``rotated``: it continues in a new file when it is full. ``given`` is its standard input.
    """

    words: tuple[str, ...]
    directory: str
    limit_ms: int
    environment: dict[str, str]
    secrets: tuple[Secret, ...]
    sandbox: Sandbox | None
    user: str
    keep_free: int
    log: str
    memory: int = 0
    processes: int = 0
    rotated: bool = False
    given: str = ""

    def line(self) -> bytes:
        document = {
            "words": self.words,
            "directory": self.directory,
            "limit_ms": self.limit_ms,
            "environment": self.environment,
            "secrets": [(secret.value, secret.name) for secret in self.secrets],
            "sandbox": self.sandbox and self.sandbox.document(),
            "user": self.user,
            "keep_free": self.keep_free,
            "log": self.log,
            "memory": self.memory,
            "processes": self.processes,
            "rotated": self.rotated,
            "given": self.given,
        }
        return json.dumps(document).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Order:
        found = json.loads(line)
        return cls(
            words=tuple(found["words"]),
            directory=found["directory"],
            limit_ms=found["limit_ms"],
            environment=found["environment"],
            secrets=tuple(Secret(*each) for each in found["secrets"]),
            sandbox=None if found["sandbox"] is None else Sandbox.of(found["sandbox"]),
            user=found["user"],
            keep_free=found["keep_free"],
            log=found["log"],
            memory=found["memory"],
            processes=found["processes"],
            rotated=found["rotated"],
            given=found["given"],
        )
