"""Keys and values as JSON, for people and for programs that have JSON only.

What JSON lacks is an object of one name that starts with a dollar sign: {"$bigint": "5"}, {"$u64": "5"},
{"$bytes": "AAE="} (base64), {"$number": "NaN"}, {"$date": "2026-01-02T03:04:05.678Z"}, {"$undefined": true},
{"$regexp": ["a+", "i"]}, {"$set": […]}, {"$map": [[key, value], …]}. An object that happens to look like one of these
stands in {"$object": {…}}. What has no notation is shown as {"$other": …}, which cannot be written.

Nothing that is read here is executed: an expression stays the text that it is.
"""

from __future__ import annotations

import base64
import datetime
import json
import math
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, Final

from provisioner.kv import limits
from provisioner.kv.codec import collisions, regexp_syntax
from provisioner.kv.errors import KeyInvalid, ValueInvalid
from provisioner.kv.model import SAFE_INTEGER, UNDEFINED, BigInt, JSDate, KvEntry, KvKey, KvU64, RegExp

_UTC: Final = datetime.UTC
# Items, characters and bytes: no value has as many as three times its size, unless it refers to the same again and again.
_TIMES: Final = 3
_LEAST: Final = 1000
_SHOWN: Final = 1000  # characters of what has no notation
_INDENTED: Final = 200_000  # characters of what is spread over lines
_INDENTED_DEPTH: Final = 50  # and its levels: each line of the innermost starts with twice as many blanks
_DIGITS: Final = 4300  # https://docs.python.org/3/library/stdtypes.html#int-max-str-digits


def key_of(text: str) -> KvKey:
    """The key that a JSON array says. Raises KeyInvalid."""
    try:
        parts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise KeyInvalid(f'a key is a JSON array, for example ["users", 1]: {text!r:.200} is not JSON') from error
    if not isinstance(parts, list):
        raise KeyInvalid(f'a key is a JSON array, for example ["users", 1], not {text:.200}')
    try:
        return tuple(from_json(part) for part in parts)
    except ValueInvalid as error:
        raise KeyInvalid(str(error)) from error
    except RecursionError as error:
        raise KeyInvalid("the key is nested too deeply") from error


def value_of(text: str) -> Any:
    """The value that a JSON text says. Raises ValueInvalid."""
    try:
        return from_json(json.loads(text))
    except RecursionError as error:
        raise ValueInvalid("the value is nested too deeply") from error
    except ValueError as error:
        raise ValueInvalid(f"a value is JSON, and a text needs quotation marks: {text!r:.60} is not JSON") from error


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


def indented(document: Any) -> str:
    """On many lines, for people; on one where they would be too many, or too deep."""
    text = json.dumps(document, ensure_ascii=False)
    if len(text) > _INDENTED or _depth(document, 0) > _INDENTED_DEPTH:
        return text
    return json.dumps(document, ensure_ascii=False, indent=2)


def _depth(document: Any, above: int) -> int:
    """Levels of lists and objects, counted no further than is asked for."""
    if isinstance(document, dict):
        document = document.values()
    elif not isinstance(document, list):
        return above
    if above > _INDENTED_DEPTH:
        return above
    return max((_depth(item, above + 1) for item in document), default=above)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Left:
    """What of a value may still be said. A few references make billions of what they refer to.

    `items` counts items, characters and bytes, `texts` characters of what has no notation.
    """

    __slots__ = ("items", "texts")

    def __init__(self, most: int) -> None:
        self.items = self.texts = most

    def spend(self, count: int) -> None:
        self.items -= count
        if self.items < 0:
            raise ValueInvalid("the value refers to the same objects so often that JSON cannot say it")


def to_json(value: Any, size: int = limits.VALUE) -> Any:
    """What `json.dumps` takes, of a value that has `size` bytes where it is stored. Raises ValueInvalid for an object that
    contains itself, or others without end."""
    try:
        return _to_json(value, _Left(_TIMES * size + _LEAST))
    except RecursionError as error:
        raise ValueInvalid("the value contains itself, which JSON cannot say") from error


def _to_json(value: Any, left: _Left) -> Any:  # noqa: C901 a table, in order
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        left.spend(len(value))
        return value
    if isinstance(value, KvU64):
        return {"$u64": str(value)}
    if isinstance(value, BigInt):
        left.spend(value.bit_length() // 8)
        return {"$bigint": _digits(value)}
    if isinstance(value, JSDate):
        return {"$date": float(value) if math.isfinite(value) else None}
    if isinstance(value, (int, float)):
        return _number(value)
    if isinstance(value, bytes):
        left.spend(len(value))
        return {"$bytes": base64.b64encode(value).decode()}
    if value is UNDEFINED:
        return {"$undefined": True}
    if isinstance(value, datetime.datetime):
        return {"$date": value.astimezone(_UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")}
    if isinstance(value, RegExp):
        left.spend(len(value.source))
        return {"$regexp": [value.source, value.flags]}
    if hasattr(value, "__len__"):
        left.spend(len(value))
    if isinstance(value, dict):
        left.spend(sum(map(len, value)))
        plain = {name: _to_json(item, left) for name, item in value.items()}
        return {"$object": plain} if len(plain) == 1 and next(iter(plain)).startswith("$") else plain
    if isinstance(value, list):
        return [_to_json(item, left) for item in value]
    if isinstance(value, Set):
        return {"$set": [_to_json(item, left) for item in value]}
    if type(value).__name__ == "JSMap":
        left.spend(len(value))  # it has twice as many
        return {"$map": [[_to_json(key, left), _to_json(item, left)] for key, item in value.items()]}
    return {"$other": type(value).__name__ if _nests(value) else _shown(value, left)}


def _shown(value: Any, left: _Left) -> str:
    """The text of what has no notation; its type where that is too long, or was asked for too often, or Python refuses it."""
    name = type(value).__name__
    if left.texts < 0:
        return name
    try:
        text = repr(value)
    except ValueError:  # a bigint of thousands of digits
        return name
    left.texts -= len(text)
    return text if len(text) <= _SHOWN else name


def _nests(value: Any) -> bool:
    """Is it an array with holes or properties, or an error, that holds objects? Its text might have no end."""
    held = value.values() if isinstance(value, Mapping) else (getattr(value, "cause", None),)
    return any(isinstance(item, (Mapping, list, Set)) or hasattr(item, "cause") for item in held)


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
        raise ValueInvalid(f'{name} is not a notation; an object with this one name is {{"$object": {{"{name}": …}}}}')
    try:
        return reader(content)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ValueInvalid(f"{name} cannot be {text_of(content):.200}: {error}") from error


def _object(content: Any) -> Any:
    if not isinstance(content, Mapping):
        raise TypeError("an object is needed")
    return {name: from_json(item) for name, item in content.items()}


def _pairs(content: Sequence[Sequence[Any]]) -> Any:
    from v8serialize.jstypes import JSMap

    pairs = [(from_json(key), from_json(item)) for key, item in content]
    collisions.checked([key for key, _ in pairs])
    return JSMap(pairs)


def _set(content: Sequence[Any]) -> Any:
    from v8serialize.jstypes import JSSet

    return JSSet(collisions.checked([from_json(item) for item in content]))  # Python's would forget the order


def _moment(content: Any) -> Any:
    if isinstance(content, str):
        moment = datetime.datetime.fromisoformat(content)
        if moment.tzinfo is None:
            raise ValueError("it has no time zone")
        return moment.astimezone(_UTC)
    return JSDate(math.nan if content is None else float(content))


def _pattern(content: Any) -> Any:
    source, letters = content
    if not isinstance(source, str) or not isinstance(letters, str):
        raise TypeError("it is its source and its flags, two texts")
    expression = RegExp(source, letters)
    if problem := regexp_syntax.problem(expression):
        raise ValueError(problem)
    return expression


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
