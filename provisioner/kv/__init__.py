"""Deno KV in Python: the same database, usable alone.

Names arrive when they are asked for: programs that only need the schema import nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from provisioner.kv.client import async_client as aio
    from provisioner.kv.client.sync_client import AtomicOperation, Kv, KvList, open_kv
    from provisioner.kv.errors import (
        AccessDenied,
        Busy,
        Closed,
        CursorInvalid,
        KeyInvalid,
        KvError,
        LimitExceeded,
        Malformed,
        OptionInvalid,
        OutOfRange,
        ReadOnly,
        StoreFailed,
        TypeMismatch,
        Uncertain,
        Unreachable,
        Unsupported,
        ValueInvalid,
    )
    from provisioner.kv.model import (
        COMMIT_VERSIONSTAMP,
        UNDEFINED,
        BigInt,
        CommitFailed,
        CommitResult,
        JSDate,
        KvEntry,
        KvKey,
        KvU64,
        RegExp,
        Versionstamp,
    )

_HOMES = {
    "client.sync_client": ("AtomicOperation", "Kv", "KvList", "open_kv"),
    "errors": (
        *("AccessDenied", "Busy", "Closed", "CursorInvalid", "KeyInvalid", "KvError", "LimitExceeded", "Malformed"),
        *("OptionInvalid", "OutOfRange", "ReadOnly", "StoreFailed", "TypeMismatch", "Uncertain", "Unreachable"),
        *("Unsupported", "ValueInvalid"),
    ),
    "model": (
        *("COMMIT_VERSIONSTAMP", "UNDEFINED", "BigInt", "CommitFailed", "CommitResult", "JSDate", "KvEntry", "KvKey"),
        *("KvU64", "RegExp", "Versionstamp"),
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "COMMIT_VERSIONSTAMP",
    "UNDEFINED",
    "AccessDenied",
    "AtomicOperation",
    "BigInt",
    "Busy",
    "Closed",
    "CommitFailed",
    "CommitResult",
    "CursorInvalid",
    "JSDate",
    "KeyInvalid",
    "Kv",
    "KvEntry",
    "KvError",
    "KvKey",
    "KvList",
    "KvU64",
    "LimitExceeded",
    "Malformed",
    "OptionInvalid",
    "OutOfRange",
    "ReadOnly",
    "RegExp",
    "StoreFailed",
    "TypeMismatch",
    "Uncertain",
    "Unreachable",
    "Unsupported",
    "ValueInvalid",
    "Versionstamp",
    "aio",
    "open_kv",
]


def __getattr__(name: str) -> Any:
    if name == "aio":
        return import_module(f"{__name__}.client.async_client")
    if (home := _HOME_OF.get(name)) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
