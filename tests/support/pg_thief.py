"""A program that takes the port of a PostgreSQL server and asks whoever connects for the password, in words that show it.

As root it is another user's. It prints its port, and then what it is sent as a password, a line each.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_NO_TLS, _PASSWORD = b"N", b"p"
_STARTUPS = {80877103, 80877104}  # for TLS and for GSS, which are refused
ASKS = {"clear": struct.pack("!cii", b"R", 8, 3), "md5": struct.pack("!cii4s", b"R", 12, 5, b"salt")}
_OTHER_USER = 65534


@dataclass(frozen=True, slots=True)
class Thief:
    process: subprocess.Popen[bytes]

    def heard(self) -> list[str]:
        """The words that it was sent as passwords until now, and for each connection that was made the word `came`."""
        found = b""
        assert self.process.stdout is not None
        while select.select([self.process.stdout], [], [], 0.2)[0] and (
            part := os.read(self.process.stdout.fileno(), 4096)
        ):
            found += part
        return found.decode().split()


@contextmanager
def stealing(port: int, ask: str) -> Iterator[Thief]:
    """It listens on the port for as long as this lasts, which has to be free."""
    other: dict[str, Any] = {"user": _OTHER_USER, "group": _OTHER_USER, "extra_groups": []} if not os.geteuid() else {}
    with open(__file__, "rb") as source:  # another user may not read where the tests are
        process = subprocess.Popen(
            [sys.executable if not other else "/usr/bin/python3", "-u", "-", str(port), ask],
            stdin=source,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            **other,
        )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"listening\n"
        yield Thief(process)
    finally:
        process.kill()
        process.wait()


def _main(port: int, ask: str) -> None:
    with socket.create_server(("127.0.0.1", port)) as server:
        print("listening")
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_steal, args=(connection, ASKS[ask]), daemon=True).start()


def _steal(connection: socket.socket, ask: bytes) -> None:
    print("came")
    with connection, connection.makefile("rb") as reader:
        while len(head := reader.read(8)) == 8:
            length, code = struct.unpack("!ii", head)
            reader.read(length - 8)
            if code not in _STARTUPS:
                break
            connection.sendall(_NO_TLS)
        connection.sendall(ask)
        if reader.read(1) == _PASSWORD:
            (length,) = struct.unpack("!i", reader.read(4))
            print(reader.read(length - 4).rstrip(b"\0").decode())


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2])
