"""The beginning of a value in the notation of `json_notation`, for lists: no more of it is looked at than is shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Set
from datetime import datetime
from itertools import chain
from typing import Any

from provisioner.kv.codec import json_notation
from provisioner.kv.model import UNDEFINED, BigInt, RegExp


def preview(value: Any, most: int) -> str:
    """At most `most` characters of it on one line, with an ellipsis at the end if there are more."""
    text, size = [], 0
    try:
        for piece in _pieces(value, most):
            text.append(piece)
            size += len(piece)
            if size > most:
                break
    except RecursionError:
        text.append("…")
    joined = "".join(text)
    return joined if len(joined) <= most else f"{joined[: most - 1]}…"


def _pieces(value: Any, most: int) -> Iterator[str]:
    if isinstance(value, dict):
        pairs = (
            chain((f"{json.dumps(name[:most], ensure_ascii=False)}: ",), _pieces(value[name], most)) for name in value
        )
        marked = len(value) == 1 and next(iter(value)).startswith("$")
        yield from _listed('{"$object": {' if marked else "{", pairs, "}}" if marked else "}")
    elif isinstance(value, list):
        yield from _listed("[", (_pieces(item, most) for item in value), "]")
    elif isinstance(value, Set):
        yield from _listed('{"$set": [', (_pieces(item, most) for item in value), "]}")
    elif type(value).__name__ == "JSMap":
        listed = (_listed("[", (_pieces(each, most) for each in pair), "]") for pair in value.items())
        yield from _listed('{"$map": [', listed, "]}")
    else:
        yield json.dumps(_leaf(value, most), ensure_ascii=False)


def _listed(begin: str, items: Iterable[Iterable[str]], end: str) -> Iterator[str]:
    yield begin
    for number, item in enumerate(items):
        if number:
            yield ", "
        yield from item
    yield end


def _leaf(value: Any, most: int) -> Any:
    """What has no notation by its type only: its text may be as long as it likes."""
    if isinstance(value, (str, bytes)):
        return json_notation.to_json(value[:most])
    if isinstance(value, RegExp):
        return {"$regexp": [value.source[:most], value.flags]}
    if isinstance(value, BigInt) and value.bit_length() > 8 * most:
        return {"$bigint": "…"}
    if value is None or value is UNDEFINED or isinstance(value, (int, float, datetime)):
        return json_notation.to_json(value)
    return {"$other": type(value).__name__}
