"""Processes, Deno's and ours, that use one database at the same time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from kv_worker import ACCOUNTS, SUM
from paths import SUPPORT
from support import DENO

from provisioner.kv import Kv

NIGHTLY = "KV_NIGHTLY" in os.environ

TRANSFERS_SECONDS = 60 if NIGHTLY else 5

Process = subprocess.Popen[str]


@contextmanager
def running(*command: str) -> Iterator[Process]:
    """A process with pipes, killed at the end if it is still there."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def has_open(process: Process, path: Path) -> bool:
    """Has it started as far as to have opened the file?"""
    descriptors = Path(f"/proc/{process.pid}/fd")
    for descriptor in descriptors.iterdir():
        with suppress(FileNotFoundError):  # closed since
            if descriptor.readlink() == path:
                return True
    return False


def python(work: str, path: Path | str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, str(SUPPORT / "kv_worker.py"), work, str(path), *arguments)


def deno(script: str, path: Path | str, *arguments: str) -> tuple[str, ...]:
    return (
        DENO,
        "run",
        "-A",
        "--quiet",
        "--no-check",
        "--no-config",
        "--unstable-kv",
        str(SUPPORT / script),
        str(path),
        *arguments,
    )


def total(kv: Kv) -> int:
    """The sum of all accounts in one snapshot."""
    return sum(entry.value["balance"] for entry in kv.list(("account",), batch_size=ACCOUNTS))


def transferred(kv: Kv, commands: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """What each process reports at its end. The sum is looked at all the while."""
    with ExitStack() as stack:
        processes = {name: stack.enter_context(running(*command)) for name, command in commands.items()}
        for process in processes.values():
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        until = time.monotonic() + TRANSFERS_SECONDS
        while time.monotonic() < until:
            assert total(kv) == SUM
        reports = {}
        for name, process in processes.items():
            out, errors = process.communicate(timeout=60)
            assert process.returncode == 0, f"{name}: {errors}"
            reports[name] = json.loads(out)
        assert total(kv) == SUM
    return reports
