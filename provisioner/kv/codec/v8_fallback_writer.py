"""Writing values that have no Python type, with v8serialize: those that `v8_fallback_reader` reads."""

from __future__ import annotations

import datetime
import re
from typing import Any

from v8serialize import Encoder, V8SerializeError
from v8serialize.constants import SerializationFeature, SerializationTag
from v8serialize.encode import EncodeContext, EncodeNextFn, TagWriter
from v8serialize.jstypes import (
    JSArray,
    JSArrayBuffer,
    JSBigInt,
    JSError,
    JSPrimitiveObject,
    JSRegExp,
    JSUint8Array,
)

from provisioner.kv.codec import v8_writer
from provisioner.kv.errors import ValueInvalid
from provisioner.kv.model import UNDEFINED, BigInt, JSDate, KvU64, RegExp


def dumps(value: object) -> bytes:
    """The V8 bytes of a value that holds types of v8serialize. Raises ValueInvalid."""
    try:
        return bytes(_ENCODER.encode(value))
    except (V8SerializeError, ValueError, TypeError, AssertionError) as error:
        raise ValueInvalid(f"no JavaScript counterpart: {error}") from error


def _referred(value: Any, /, ctx: EncodeContext, next: EncodeNextFn) -> None:  # noqa: A002 the library's name
    """What was written before is referred to. The library's own step takes equal values for the same: 0.0 and -0.0."""
    if (isinstance(value, JSDate) or not isinstance(value, (str, int, float))) and value in ctx.stream.objects:
        ctx.stream.write_object_reference(obj=value)
    else:
        next(value)


def _written(value: Any, /, ctx: EncodeContext, next: EncodeNextFn) -> None:  # noqa: A002 the library's name
    """What V8 writes otherwise than the library does, or what the library does not know."""
    for kinds, writer in _WRITERS:
        if isinstance(value, kinds):
            writer(value, ctx)
            return
    if isinstance(value, (list, tuple)) and v8_writer.are_doubles(value):
        _doubles(value, ctx)
    elif isinstance(value, JSError) and value.cause is None:
        _error(value, ctx)
    elif isinstance(value, JSArray) and not value.properties and value.array.elements_used != len(value.array):
        _holed(value, ctx)
    else:
        next(value)


def _dict(value: dict[Any, Any], ctx: EncodeContext) -> None:
    if all(isinstance(key, str) for key in value):
        ctx.stream.write_js_object(v8_writer.properties(value), ctx, identity=value)
    else:
        ctx.stream.write_jsmap(value.items(), ctx, identity=value)


def _bytes(value: bytes | bytearray | memoryview, ctx: EncodeContext) -> None:
    ctx.encode_object(JSUint8Array(JSArrayBuffer(bytes(value))))


def _constant(value: object, ctx: EncodeContext) -> None:
    """A string, a bigint, a KvU64 (which is refused): no objects, so no references among them."""
    v8_writer.write(ctx.stream.data, value, {})


def _number(value: float, ctx: EncodeContext) -> None:
    if isinstance(value, JSBigInt):
        v8_writer.write(ctx.stream.data, BigInt(value), {})
    else:
        v8_writer.write(ctx.stream.data, value, {})


def _date(value: JSDate | datetime.datetime, ctx: EncodeContext) -> None:
    ctx.stream.objects.record_reference(value)
    v8_writer.write(ctx.stream.data, value, {})


def _regexp(value: JSRegExp, ctx: EncodeContext) -> None:
    ctx.stream.objects.record_reference(value)
    ctx.stream.write_tag(SerializationTag.kRegExp)
    _constant(value.source, ctx)
    ctx.stream.write_varint(int(value.flags))


def _pattern(value: RegExp | re.Pattern[Any], ctx: EncodeContext) -> None:
    ctx.stream.objects.record_reference(value)
    v8_writer.write(ctx.stream.data, value, {})


def _boxed(value: JSPrimitiveObject[Any, Any], ctx: EncodeContext) -> None:
    ctx.stream.objects.record_reference(value)
    ctx.stream.write_tag(value.tag)
    if isinstance(value.value, str):
        _constant(value.value, ctx)
    elif isinstance(value.value, JSBigInt):
        at = len(ctx.stream.data)
        _number(value.value, ctx)
        del ctx.stream.data[at]  # the tag of a bigint, which is otherwise a separate value
    elif not isinstance(value.value, bool):
        ctx.stream.write_double(value.value, tag=None)


def _error(value: JSError, ctx: EncodeContext) -> None:
    data = ctx.stream.data
    ctx.stream.objects.record_reference(value)
    ctx.stream.write_tag(SerializationTag.kError)
    data += _ERRORS.get(str(value.name), b"")
    for tag, text in ((b"m", value.message), (b"s", value.stack)):
        if text is not None:
            data += tag
            _constant(text, ctx)
    data += b"."


def _doubles(value: list[Any] | tuple[Any, ...], ctx: EncodeContext) -> None:
    ctx.stream.objects.record_reference(value)
    v8_writer.write(ctx.stream.data, value, {})


def _holed(value: JSArray[Any], ctx: EncodeContext) -> None:
    """An array with holes, as V8 has it: the items that are there, each behind its index."""
    ctx.stream.objects.record_reference(value)
    data = ctx.stream.data
    ctx.stream.write_tag(SerializationTag.kBeginSparseJSArray)
    v8_writer.varint(data, len(value.array))
    for index, item in value.array.elements().items():
        ctx.encode_object(index)
        ctx.encode_object(item)
    ctx.stream.write_tag(SerializationTag.kEndSparseJSArray)
    v8_writer.varint(data, value.array.elements_used)
    v8_writer.varint(data, len(value.array))


_ERRORS = {
    "EvalError": b"E",
    "RangeError": b"R",
    "ReferenceError": b"F",
    "SyntaxError": b"S",
    "TypeError": b"T",
    "URIError": b"U",
}

# The first that fits; a bool is an int, and both libraries' bigints are.
_WRITERS: list[tuple[Any, Any]] = [
    ((bool, type(None)), _constant),
    ((str, KvU64, BigInt, type(UNDEFINED)), _constant),
    ((JSDate, datetime.datetime), _date),
    ((int, float), _number),
    (dict, _dict),
    ((bytes, bytearray, memoryview), _bytes),
    ((RegExp, re.Pattern), _pattern),
    (JSRegExp, _regexp),
    (JSPrimitiveObject, _boxed),
]

_FEATURES = (
    SerializationFeature.CircularErrorCause
    | SerializationFeature.ResizableArrayBuffers
    | SerializationFeature.Float16Array
)
_ENCODER = Encoder(encode_steps=[_referred, _written, TagWriter()], features=_FEATURES)
