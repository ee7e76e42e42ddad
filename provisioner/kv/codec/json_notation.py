"""Keys and values as JSON, for people and for programs that have JSON only.

What JSON lacks is an object of one name that begins with a dollar sign: {"$bigint": "5"}, {"$u64": "5"},
{"$bytes": "AAE="} (base64), {"$number": "NaN"}, {"$date": "2026-01-02T03:04:05.678Z"}, {"$undefined": true},
{"$regexp": ["a+", "i"]}, {"$set": […]}, {"$map": [[key, value], …]}. An object that by itself looks like one of these
stands in {"$object": {…}}. What has no notation is shown as {"$other": …}, which cannot be written.
"""

from __future__ import annotations

import base64
import datetime
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, Final

from provisioner.kv import limits
from provisioner.kv.errors import KeyInvalid, ValueInvalid
from provisioner.kv.model import SAFE_INTEGER, UNDEFINED, BigInt, JSDate, KvEntry, KvKey, KvU64

_FLAGS: Final = (("i", re.IGNORECASE), ("m", re.MULTILINE), ("s", re.DOTALL))
_UTC: Final = datetime.UTC
_MOST: Final = 4 * limits.VALUE  # items and bytes: no value has more, unless it refers to the same ones again and again
_DIGITS: Final = 4300  # https://docs.python.org/3/library/stdtypes.html#int-max-str-digits


def key_of(text: str) -> KvKey:
    """The key that a JSON array says. Raises KeyInvalid."""
    try:
        parts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise KeyInvalid(f'a key is a JSON array, as ["users", 1]: {text!r} is no JSON') from error
    if not isinstance(parts, list):
        raise KeyInvalid(f'a key is a JSON array, as ["users", 1], not {text}')
    try:
        return tuple(from_json(part) for part in parts)
    except ValueInvalid as error:
        raise KeyInvalid(str(error)) from error


def value_of(text: str) -> Any:
    """The value that a JSON text says. Raises ValueInvalid."""
    try:
        return from_json(json.loads(text))
    except RecursionError as error:
        raise ValueInvalid("the value is nested too deeply") from error
    except ValueError as error:
        raise ValueInvalid(f"a value is JSON, and a text stands in quotation marks: {text!r:.60} is no JSON") from error


def entry_to_json(entry: KvEntry[Any]) -> dict[str, Any]:
    """`key`, `value` and `versionstamp`, which is null for a key that is absent."""
    return {
        "key": [to_json(part) for part in entry.key],
        "value": to_json(entry.value),
        "versionstamp": entry.versionstamp,
    }


def text_of(document: object) -> str:
    """On one line. Characters stay as they are, except halves of surrogate pairs, which no output can encode."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    return text if text.isascii() or _encodes(text) else json.dumps(document, allow_nan=False)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def to_json(value: Any) -> Any:
    """What `json.dumps` takes. Raises ValueInvalid for an object that contains itself, or others without end."""
    try:
        return _to_json(value, [_MOST])
    except RecursionError as error:
        raise ValueInvalid("the value contains itself, which JSON cannot say") from error


def _to_json(value: Any, left: list[int]) -> Any:  # noqa: C901 a table, in order
    """`left` is how many items and bytes it may still have: a few references make billions of what they refer to."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, KvU64):
        return {"$u64": str(value)}
    if isinstance(value, BigInt):
        return {"$bigint": _digits(value)}
    if isinstance(value, JSDate):
        return {"$date": float(value) if math.isfinite(value) else None}
    if isinstance(value, (int, float)):
        return _number(value)
    if isinstance(value, bytes):
        _spend(left, len(value))
        return {"$bytes": base64.b64encode(value).decode()}
    if value is UNDEFINED:
        return {"$undefined": True}
    if isinstance(value, datetime.datetime):
        return {"$date": value.astimezone(_UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")}
    if isinstance(value, re.Pattern):
        return {"$regexp": [value.pattern, "".join(letter for letter, flag in _FLAGS if value.flags & flag)]}
    if hasattr(value, "__len__"):
        _spend(left, len(value))
    if isinstance(value, dict):
        plain = {name: _to_json(item, left) for name, item in value.items()}
        return {"$object": plain} if len(plain) == 1 and next(iter(plain)).startswith("$") else plain
    if isinstance(value, list):
        return [_to_json(item, left) for item in value]
    if isinstance(value, Set):
        return {"$set": [_to_json(item, left) for item in value]}
    if type(value).__name__ == "JSMap":
        return {"$map": [[_to_json(key, left), _to_json(item, left)] for key, item in value.items()]}
    return {"$other": type(value).__name__ if _nests(value) else repr(value)}


def _nests(value: Any) -> bool:
    """Is it an array with holes or properties, or an error, that holds objects? Its text might have no end."""
    held = value.values() if isinstance(value, Mapping) else (getattr(value, "cause", None),)
    return any(isinstance(item, (Mapping, list, Set)) or hasattr(item, "cause") for item in held)


def _spend(left: list[int], count: int) -> None:
    left[0] -= count
    if left[0] < 0:
        raise ValueInvalid("the value refers to the same objects so often that JSON cannot say it")


def _digits(number: BigInt) -> str:
    """Of very many, hexadecimal ones: others take Python time that grows with the square."""
    return hex(number) if number.bit_length() > 3 * _DIGITS else str(number)


def _bigint(content: Any) -> BigInt:
    text = str(content)
    return BigInt(int(text, 16) if text.lstrip("-").startswith(("0x", "0X")) else int(text))


def _number(value: float) -> Any:
    if isinstance(value, float) and (not math.isfinite(value) or (value == 0 and math.copysign(1, value) < 0)):
        names = {math.inf: "Infinity", -math.inf: "-Infinity", 0.0: "-0"}
        return {"$number": names.get(value, "NaN")}
    return value


def from_json(document: Any) -> Any:
    """The value that a JSON document stands for. Raises ValueInvalid."""
    if isinstance(document, list):
        return [from_json(item) for item in document]
    if not isinstance(document, dict):
        return float(document) if isinstance(document, int) and abs(document) > SAFE_INTEGER else document
    if len(document) == 1:
        ((name, content),) = document.items()
        if name.startswith("$"):
            return _tagged(name, content)
    return {name: from_json(item) for name, item in document.items()}


def _tagged(name: str, content: Any) -> Any:
    reader = _READERS.get(name)
    if reader is None:
        raise ValueInvalid(f'{name} is no notation; an object with this one name is {{"$object": {{"{name}": …}}}}')
    try:
        return reader(content)
    except (ValueError, TypeError, KeyError, OverflowError, re.error) as error:
        raise ValueInvalid(f"{name} cannot be {text_of(content):.200}: {error}") from error


def _object(content: Any) -> Any:
    if not isinstance(content, Mapping):
        raise TypeError("an object is needed")
    return {name: from_json(item) for name, item in content.items()}


def _pairs(content: Sequence[Sequence[Any]]) -> Any:
    from v8serialize.jstypes import JSMap

    return JSMap((from_json(key), from_json(item)) for key, item in content)


def _set(content: Sequence[Any]) -> Any:
    from v8serialize.jstypes import JSSet

    return JSSet(from_json(item) for item in content)  # Python's would forget the order


def _moment(content: Any) -> Any:
    if isinstance(content, str):
        moment = datetime.datetime.fromisoformat(content)
        if moment.tzinfo is None:
            raise ValueError("it has no time zone")
        return moment.astimezone(_UTC)
    return JSDate(math.nan if content is None else float(content))


def _pattern(content: Any) -> Any:
    source, letters = content
    known = dict(_FLAGS)
    return re.compile(source, sum(known[letter] for letter in letters))


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "$bigint": _bigint,
    "$u64": lambda content: KvU64(int(str(content))),
    "$bytes": lambda content: base64.b64decode(content, validate=True),
    "$number": lambda content: {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf, "-0": -0.0}[content],
    "$date": _moment,
    "$undefined": lambda _: UNDEFINED,
    "$regexp": _pattern,
    "$set": _set,
    "$map": _pairs,
    "$object": _object,
}
