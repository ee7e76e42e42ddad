"""The commands of a revision: the operator's, or else the ones that the revision's files name.

A revision says it in the ``deploy`` block of its ``deno.json``, as on Deno Deploy, in the ``web`` line of a ``Procfile``, or
in the scripts of its ``package.json``, in this order. That is pushed code as all of it, and runs in the same sandbox.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import dataclass
from typing import Any

from provisioner.core.errors import ProvisionerError
from provisioner.core.hosting import RunCommand
from provisioner.core.untrusted_file import read_text

LONGEST_FILE = 1 << 20  # bytes
_PACKAGE_MANAGERS = (
    ("package-lock.json", "npm ci", "npm"),
    ("pnpm-lock.yaml", "pnpm install --frozen-lockfile", "pnpm"),
    ("yarn.lock", "yarn install --frozen-lockfile", "yarn"),
    ("bun.lock", "bun install --frozen-lockfile", "bun"),
)
_COMMENT_OR_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_TRAILING_COMMA = re.compile(r'"(?:[^"\\]|\\.)*"|,(?=\s*[}\]])')


@dataclass(frozen=True, slots=True)
class Commands:
    """Shell commands; ``install`` and ``build`` may be empty."""

    install: str
    build: str
    start: str


def commands_of(command: RunCommand, directory: str) -> Commands:
    """Of the revision that is checked out in `directory`. Raises ProvisionerError if nothing says how to start it."""
    said = _said_by_revision(directory) if command.from_repository else Commands("", "", "")
    found = Commands(command.install or said.install, command.build or said.build, command.command or said.start)
    if not found.start:
        raise ProvisionerError(
            "the revision does not say how to start it: it has no deploy block in deno.json, no web line in a Procfile,"
            " and no start script in package.json",
            "Add one of them, or set the command: provisioner app run --command CMD",
        )
    return found


def _said_by_revision(directory: str) -> Commands:
    for said in (_by_deno, _by_procfile, _by_package):
        found = said(directory)
        if found is not None:
            return found
    return Commands("", "", "")


def _by_deno(directory: str) -> Commands | None:
    text = _text(directory, "deno.json") or _text(directory, "deno.jsonc")
    block = _object(text, "deno.json").get("deploy") if text else None
    if not isinstance(block, dict):
        return None
    runtime = block.get("runtime")
    start = ""
    if isinstance(runtime, dict):
        if runtime.get("type", "dynamic") != "dynamic":
            raise ProvisionerError(
                f"deno.json asks for a {runtime['type']!r} runtime, and only a dynamic one can be started",
                "Set a command that serves the files: provisioner app run --command CMD",
            )
        entrypoint, arguments = runtime.get("entrypoint"), runtime.get("args", [])
        if isinstance(entrypoint, str) and isinstance(arguments, list):
            start = shlex.join(["deno", "run", "-A", "--unstable-kv", entrypoint, *map(str, arguments)])
    return Commands(_word(block, "install"), _word(block, "build"), start)


def _by_procfile(directory: str) -> Commands | None:
    for line in _text(directory, "Procfile").splitlines():
        name, colon, start = line.partition(":")
        if colon and name.strip() == "web" and start.strip():
            return Commands("", "", start.strip())
    return None


def _by_package(directory: str) -> Commands | None:
    text = _text(directory, "package.json")
    scripts = _object(text, "package.json").get("scripts") if text else None
    if not isinstance(scripts, dict) or "start" not in scripts:
        return None
    there = (
        (install, name) for lock, install, name in _PACKAGE_MANAGERS if os.path.isfile(os.path.join(directory, lock))
    )
    install, name = next(there, ("npm install", "npm"))
    return Commands(install, f"{name} run build" if "build" in scripts else "", f"{name} start")


def _word(block: dict[str, Any], name: str) -> str:
    value = block.get(name)
    return value if isinstance(value, str) else ""


def _text(directory: str, name: str) -> str:
    """A file of the revision itself; empty if there is none, or a link, which could lead out of it."""
    return read_text(os.path.join(directory, name), LONGEST_FILE)


def _object(text: str, name: str) -> dict[str, Any]:
    """A JSON object, in which comments and commas at the end are allowed as Deno allows them."""
    plain = _COMMENT_OR_STRING.sub(lambda match: match[0] if match[0].startswith('"') else " ", text)
    plain = _TRAILING_COMMA.sub(lambda match: match[0] if match[0].startswith('"') else "", plain)
    try:
        found = json.loads(plain)
    except ValueError as error:
        raise ProvisionerError(f"{name} of the revision is not JSON: {error}", "Correct it, and push it") from error
    return found if isinstance(found, dict) else {}
