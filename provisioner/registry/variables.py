"""An app's variables, per context. The registry stores values as they are, because users who run the app can read them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from provisioner.core.connection import NOT_AN_APPS, instance_variables
from provisioner.core.errors import UsageError
from provisioner.core.ids import AppId
from provisioner.core.model import App, Context
from provisioner.registry.errors import member
from provisioner.registry.schema.row_type import upsert
from provisioner.registry.store import Registry

LONGEST_NAME = 128  # bytes
LONGEST_VALUE = 16 * 1024
_COLUMNS = ("app_id", "name", "context", "value", "secret", "changed_at")
_MERGED = "secret = max(secret, excluded.secret)"
RESERVED_PREFIXES = ("DENO_", "DYLD_", "LD_", "OTEL_", "PROVISIONER_")
RESERVED = ("DATABASE_URL", "PGDATABASE", "PGHOST", "PGPASSWORD", "PGPORT", "PGUSER")

_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_REST = _FIRST | frozenset("0123456789")


@dataclass(frozen=True, slots=True)
class Variable:
    """``changed_at`` is in milliseconds since 1970. The value of a secret is shown only to the app."""

    name: str
    context: Context
    value: str
    secret: bool
    changed_at: int

    def __repr__(self) -> str:
        return f"Variable({self.name!r}, {self.context}, {'…' if self.secret else repr(self.value)})"


def check(name: str, value: str, taken: Iterable[str] = ()) -> None:
    """Raises UsageError where a user cannot set this; `taken` are names that the app's instances fill."""
    if not name or name[0] not in _FIRST or not all(char in _REST for char in name):
        raise UsageError(
            f"{name!r} cannot be the name of a variable", "Use letters, digits and _, and no digit in front"
        )
    if len(name) > LONGEST_NAME:
        raise UsageError(f"{name[:20]}… has {len(name)} bytes, more than the {LONGEST_NAME} of a name", "Shorten it")
    for prefix in RESERVED_PREFIXES:
        if name.startswith(prefix):
            raise UsageError(
                f"{name} cannot be set: names that start with {prefix} are reserved", "Choose another name"
            )
    if name in RESERVED or name in taken:
        raise UsageError(f"{name} cannot be set: it contains the location of the app's database", "Choose another name")
    if name in NOT_AN_APPS:
        raise UsageError(f"{name} cannot be set: it says where programs are found", "Set it where the app is started")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise UsageError(f"the value of {name} is not UTF-8", "Encode it, for example with base64") from error
    if size > LONGEST_VALUE:
        raise UsageError(
            f"the value of {name} has {size} bytes, more than {LONGEST_VALUE}", "Keep it in a file, and its path here"
        )
    if "\0" in value:
        raise UsageError(f"the value of {name} has a zero byte in it, which no environment can hold", "Encode it")


def taken(registry: Registry, app: App) -> set[str]:
    """The names that the app's instances fill."""
    return {name for instance in registry.assigned(app.id) for name in instance_variables(instance.slug)}


def save(
    registry: Registry, app: App, values: dict[str, str], contexts: Iterable[Context], now: int, *, secret: bool
) -> None:
    """Set all of them or none. What is secret stays so until it is unset, and is not shown by way of another context.

    Raises UsageError.
    """
    theirs = taken(registry, app)
    for name, value in values.items():
        check(name, value, theirs)
    with registry.change():
        secrets = {item.name for item in listing(registry, app.id) if item.secret}
        for context in contexts:
            for name, value in values.items():
                registry.write(
                    upsert("variable", _COLUMNS, ("value", "changed_at"), _MERGED, key="app_id, name, context"),
                    *(app.id, name, context, value, int(secret or name in secrets), now),
                )
                registry.record(now, "var.set", registry.who, app_id=app.id, detail=f"{name} in {context}")


def listing(registry: Registry, app_id: AppId) -> list[Variable]:
    """All of an app's, by name and context."""
    rows = registry.rows(
        "select name, context, value, secret, changed_at from variable where app_id = ? order by name, context", app_id
    )
    return [
        Variable(str(name), member(Context, context), str(value), bool(secret), int(str(changed_at)))
        for name, context, value, secret, changed_at in rows
    ]


def unset(registry: Registry, app: App, variables: Iterable[Variable], now: int) -> None:
    """Forget them, with their values."""
    with registry.change():
        for variable in variables:
            registry.write(
                "delete from variable where app_id = ? and name = ? and context = ?",
                *(app.id, variable.name, variable.context),
            )
            registry.record(
                now, "var.unset", registry.who, app_id=app.id, detail=f"{variable.name} in {variable.context}"
            )
