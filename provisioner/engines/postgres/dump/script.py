"""Loading an SQL script, as psql would but without psql: a script may hold commands of psql's, which run programs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg

from provisioner.core.errors import ProvisionerError, StorageFailed
from provisioner.engines.postgres.dump.statements import PsqlCommand, Statement, Statements
from provisioner.engines.postgres.session import Session

_BLOCK = 1 << 16
_TRANSACTION_TIMEOUT = (
    170000  # scripts for this version and newer ones set it first, whatever server they are loaded into
)
_NAME = rb'("(?:[^"]|"")+"|[A-Za-z_\x80-\xff][\w$\x80-\xff]*)'
_EXTENSION = re.compile(rb"create\s+extension\s+(?:if\s+not\s+exists\s+)?" + _NAME, re.IGNORECASE)
_SCHEMA = re.compile(rb"\sschema\s+" + _NAME, re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Extension:
    """An extension that a dump makes, and in which schema; None: where the extension itself or PostgreSQL puts it."""

    name: str
    schema: str | None


Install = Callable[[Extension], None]
"""Makes an extension in the database that is loaded into. Raises ProvisionerError where it is not trusted."""


def load(session: Session, lines: Iterator[bytes], what: str, install: Install) -> None:
    """Run the statements of a script, which is called `what` in errors. Raises ProvisionerError and StorageFailed."""
    statements = Statements(lines, lambda: session.info.parameter_status("standard_conforming_strings") == "off")
    session.execute("set synchronous_commit to off")  # it is on disk when the database takes its place
    try:
        for statement in statements:
            _run(session, statement, statements, what, install)
    except PsqlCommand as found:
        raise ProvisionerError(
            f"{what} has a psql command in line {found.line}, which provisioner does not run: {found.text[:80]}",
            "Remove the line, or create the dump with --format=custom",
        ) from found


def _run(session: Session, statement: Statement, statements: Statements, what: str, install: Install) -> None:
    if _is_unknown(session, statement) or statement.words[:3] == (b"comment", b"on", b"extension"):
        return
    if statement.words[:2] == (b"create", b"extension") and (found := _EXTENSION.match(statement.text)):
        schema = _SCHEMA.search(statement.text, found.end())
        install(Extension(_unquoted(found[1]), _unquoted(schema[1]) if schema else None))
        return
    try:
        if statement.words[:1] == (b"copy",) and b"stdin" in statement.words:
            _copy_in(session, statement, statements)
        elif statement.words[:1] == (b"copy",) and b"stdout" in statement.words:
            with session.cursor() as cursor, cursor.copy(statement.text) as copy:
                for _ in copy:
                    pass
        else:
            session.execute(statement.text)
    except psycopg.Error as error:
        said = " ".join(str(error).split())
        raise StorageFailed(f"{what} failed in line {statement.line}: {said}") from error


def _copy_in(session: Session, statement: Statement, statements: Statements) -> None:
    block: list[bytes] = []
    size = 0
    with session.cursor() as cursor, cursor.copy(statement.text) as copy:
        while (line := statements.take()) and line.rstrip(b"\r\n") != rb"\.":
            block.append(line)
            size += len(line)
            if size >= _BLOCK:
                copy.write(b"".join(block))
                block, size = [], 0
        copy.write(b"".join(block))


def _is_unknown(session: Session, statement: Statement) -> bool:
    older = session.info.server_version < _TRANSACTION_TIMEOUT
    return older and statement.text == b"SET transaction_timeout = 0;"


def _unquoted(name: bytes) -> str:
    text = name.decode(errors="surrogateescape")
    return text[1:-1].replace('""', '"') if text.startswith('"') else text.lower()
