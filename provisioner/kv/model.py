"""The words of a key-value database: what a program sees, and the encoded forms that stores deal in.

Entries and ranges are named tuples: they are made by the hundred thousand, and a frozen dataclass costs three times as
much to make.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from provisioner.kv.errors import ValueInvalid

if TYPE_CHECKING:
    import re

T = TypeVar("T")

U64_MAX: Final = 2**64 - 1
SAFE_INTEGER: Final = 2**53 - 1  # JavaScript's Number.MAX_SAFE_INTEGER


class BigInt(int):
    """A JavaScript bigint. Equal to the `int` of its value; as a part of a key it is another part than the number."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"BigInt({int(self)})"

    def __str__(self) -> str:
        return int.__repr__(self)


class KvU64(int):
    """An unsigned integer of 64 bits, which `sum`, `min` and `max` work on; `sum` wraps around."""

    __slots__ = ()

    def __new__(cls, value: int = 0) -> KvU64:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueInvalid(f"KvU64 takes an int, not {type(value).__name__}")
        if not 0 <= value <= U64_MAX:
            raise ValueInvalid(f"KvU64 takes 0 to 2**64 - 1, not {value}")
        return super().__new__(cls, value)

    def __repr__(self) -> str:
        return f"KvU64({int(self)})"

    def __str__(self) -> str:
        return int.__repr__(self)


class Versionstamp(str):
    """When a value was written: 20 hexadecimal digits. Later writes have greater ones."""

    __slots__ = ()


class Undefined(enum.Enum):
    """JavaScript's `undefined`, which is not `null` (None)."""

    UNDEFINED = "undefined"

    def __repr__(self) -> str:
        return "UNDEFINED"

    def __bool__(self) -> bool:
        return False


UNDEFINED: Final = Undefined.UNDEFINED


class JSDate(float):
    """A JavaScript Date that no `datetime` can hold, in milliseconds since 1970; NaN is an invalid Date."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"JSDate({float.__repr__(self)})"


@dataclass(frozen=True, slots=True)
class RegExp:
    """A JavaScript regular expression, as it is written: `flags` are JavaScript's letters.

    Nothing compiles it unless code asks for that: a writer must not control how long reading takes.
    """

    source: str
    flags: str = ""

    FLAGS: ClassVar[str] = "dgimsuvy"  # in JavaScript's order

    def __post_init__(self) -> None:
        if len(set(self.flags)) != len(self.flags) or not set(self.FLAGS).issuperset(self.flags):
            raise ValueInvalid(f"the flags of a RegExp are of the letters {self.FLAGS}, each once, not {self.flags!r}")
        if {"u", "v"}.issubset(self.flags):
            raise ValueInvalid("a RegExp has one of the flags u and v")
        object.__setattr__(self, "source", self.source or "(?:)")
        object.__setattr__(self, "flags", "".join(sorted(self.flags)))

    def compile(self) -> re.Pattern[str]:
        """Python's expression with this source and the flags i, m and s. Raises ValueInvalid where Python has none.

        It takes as long as the source makes it: minutes, for a hostile source.
        """
        import re

        known = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL}
        if others := set(self.flags).difference(known):
            raise ValueInvalid(f"Python's regular expressions lack the flags {''.join(sorted(others))}")
        try:
            return re.compile("" if self.source == "(?:)" else self.source, sum(known[flag] for flag in self.flags))
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueInvalid(f"Python has no such regular expression: {error}") from error


class CommitVersionstamp(enum.Enum):
    """A placeholder at the end of a key to set, for the versionstamp of the commit."""

    COMMIT_VERSIONSTAMP = "commit versionstamp"

    def __repr__(self) -> str:
        return "COMMIT_VERSIONSTAMP"


COMMIT_VERSIONSTAMP: Final = CommitVersionstamp.COMMIT_VERSIONSTAMP

KvKeyPart: TypeAlias = bytes | str | int | float  # bool and BigInt are ints
KvKey: TypeAlias = tuple[KvKeyPart, ...]
KeyLike: TypeAlias = Sequence[KvKeyPart | bytearray | memoryview]
KeyToSet: TypeAlias = Sequence[KvKeyPart | bytearray | memoryview | CommitVersionstamp]
Consistency: TypeAlias = Literal["strong", "eventual"]


class KvEntry(NamedTuple, Generic[T]):
    """A key with its value. If the key is absent, value and versionstamp are None."""

    key: KvKey
    value: T
    versionstamp: Versionstamp | None


class Encoding(enum.IntEnum):
    """The numbers in the column `v_encoding`."""

    V8 = 1
    LE64 = 2
    BYTES = 3


class RawEntry(NamedTuple):
    """An entry as stored: `versionstamp` is 10 bytes, `encoding` one of `Encoding` unless the row is damaged."""

    key: bytes
    value: bytes
    encoding: int
    versionstamp: bytes


StoredRow: TypeAlias = tuple[bytes, bytes, int, int | None, int]
"""All of an entry: key, value, encoding, version as a number (None: not known), and when it expires, in milliseconds since
1970 (NEVER: it does not)."""

NEVER: Final = -1


class ReadRange(NamedTuple):
    """Keys from `start` to before `end`, at most `limit`; the last ones first if `reverse`."""

    start: bytes
    end: bytes
    limit: int
    reverse: bool = False


class Check(NamedTuple):
    """Holds if the entry of `key` has this versionstamp of 10 bytes, or is absent if None."""

    key: bytes
    versionstamp: bytes | None


class MutationKind(enum.Enum):
    SET = "set"
    DELETE = "delete"
    SUM = "sum"
    MIN = "min"
    MAX = "max"
    SET_VERSIONSTAMPED = "setSuffixVersionstampedKey"


class Mutation(NamedTuple):
    """One change. `expire_at` in milliseconds since 1970, or -1; the sum's bounds are V8 values, empty for none."""

    kind: MutationKind
    key: bytes
    value: bytes = b""
    encoding: int = Encoding.V8
    expire_at: int = -1
    sum_min: bytes = b""
    sum_max: bytes = b""
    sum_clamp: bool = False


class Enqueue(NamedTuple):
    """A message of V8 bytes, due at `deliver_at` (milliseconds since 1970); `backoff` None is Deno's default."""

    payload: bytes
    deliver_at: int
    keys_if_undelivered: tuple[bytes, ...] = ()
    backoff: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class AtomicWrite:
    """All or nothing: the checks hold, and then all of this happens in order under one versionstamp."""

    checks: tuple[Check, ...] = ()
    mutations: tuple[Mutation, ...] = ()
    enqueues: tuple[Enqueue, ...] = ()


@dataclass(frozen=True, slots=True)
class Committed:
    """`versionstamp` is 10 bytes."""

    versionstamp: bytes


@dataclass(frozen=True, slots=True)
class ChecksFailed:
    """Nothing was written. `indexes` are those of the checks that did not hold, in order."""

    indexes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the queue in the hands of this process, until it is finished or its deadline passes."""

    id: str
    payload: bytes


class CommitResult(NamedTuple):
    """A commit that happened. True in a condition."""

    versionstamp: Versionstamp

    def __bool__(self) -> bool:
        return True


class CommitFailed(NamedTuple):
    """A commit that its checks refused, by their indexes in the order of `check` calls. False in a condition."""

    failed: tuple[int, ...]

    def __bool__(self) -> bool:
        return False


AnyEntry: TypeAlias = KvEntry[Any]
