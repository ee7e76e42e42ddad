"""The values that Python has no type of its own for: v8serialize writes and reads them.

Typed arrays, array buffers, errors, arrays with holes, boxed primitives, maps and sets of JavaScript's equality. Within
them the ordinary types are what they are everywhere else here.
"""

from __future__ import annotations

import datetime
import re
from typing import Any

from v8serialize import Decoder, Encoder, TagReader, V8SerializeError
from v8serialize.constants import JS_ARRAY_BUFFER_TAGS, JSRegExpFlag, SerializationFeature, SerializationTag
from v8serialize.decode import DecodeContext, TagReaderRegistry
from v8serialize.encode import EncodeContext, EncodeNextFn, TagWriter
from v8serialize.jstypes import JSArray, JSArrayBuffer, JSBigInt, JSRegExp, JSUint8Array, JSUndefined

from provisioner.kv import v8read
from provisioner.kv.errors import ValueInvalid
from provisioner.kv.model import SAFE_INTEGER, UNDEFINED, BigInt, JSDate, KvU64
from provisioner.kv.v8write import HEADER, REGEX_FLAGS, Rare, is_small, milliseconds


def dumps(value: object) -> bytes:
    """The V8 bytes of a value that holds types of v8serialize. Raises ValueInvalid."""
    try:
        return bytes(_ENCODER.encode(value))
    except (V8SerializeError, ValueError, TypeError, AssertionError) as error:
        raise ValueInvalid(f"no JavaScript counterpart: {error}") from error


def loads(data: bytes) -> Any:
    """The value of V8 bytes. Raises v8read.Broken."""
    try:
        return _DECODER.decodes(HEADER + data[2:] if data[1] > 15 else data)
    except (V8SerializeError, ValueError, TypeError, IndexError, AssertionError, OverflowError) as error:
        raise v8read.Broken from error


def _referred(value: Any, /, ctx: EncodeContext, next: EncodeNextFn) -> None:  # noqa: A002 the library's name
    """What was written before is referred to. The library's own step takes equal values for the same: 0.0 and -0.0."""
    if (isinstance(value, JSDate) or not isinstance(value, (str, int, float))) and value in ctx.stream.objects:
        ctx.stream.write_object_reference(obj=value)
    else:
        next(value)


def _written(value: Any, /, ctx: EncodeContext, next: EncodeNextFn) -> None:  # noqa: A002, C901 the library's name
    """Our types on their way to the library's writer."""
    if isinstance(value, dict):
        plain = all(isinstance(key, str) for key in value)
        if plain:
            ctx.stream.write_js_object(value.items(), ctx, identity=value)
        else:
            ctx.stream.write_jsmap(value.items(), ctx, identity=value)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        ctx.encode_object(JSUint8Array(JSArrayBuffer(bytes(value))))
    elif isinstance(value, str):
        try:
            ctx.stream.write_string_onebyte(value)
        except ValueError:
            ctx.stream.write_string_twobyte(value)
    elif isinstance(value, KvU64):
        raise ValueInvalid(f"{value!r} inside of another value. A KvU64 is stored by itself only")
    elif isinstance(value, BigInt):
        next(JSBigInt(value))
    elif value is UNDEFINED:
        next(JSUndefined)
    elif isinstance(value, (JSDate, datetime.datetime)):
        ctx.stream.objects.record_reference(value)
        ctx.stream.write_tag(SerializationTag.kDate)
        ctx.stream.write_double(value if isinstance(value, JSDate) else milliseconds(value), tag=None)
    elif isinstance(value, float) and is_small(value):
        ctx.stream.write_int32(int(value))
    elif isinstance(value, int) and not isinstance(value, (bool, JSBigInt)):
        _integer(value, ctx)
    elif isinstance(value, re.Pattern):
        next(JSRegExp(value.pattern, _flags(value)))
    else:
        next(value)


def _integer(value: int, ctx: EncodeContext) -> None:
    if is_small(value):
        ctx.stream.write_int32(value)
    elif -SAFE_INTEGER <= value <= SAFE_INTEGER:
        ctx.stream.write_double(value)
    else:
        raise ValueInvalid(f"{value} is no exact JavaScript number. Use BigInt({value}) for a bigint")


def _flags(pattern: re.Pattern[Any]) -> Any:
    return JSRegExpFlag(sum(bit for flag, bit in REGEX_FLAGS if pattern.flags & flag))


class _Reader(TagReader):
    """The library's reader, which gives Python's own types where they lose nothing."""

    def register_tag_readers(self, tag_readers: TagReaderRegistry) -> None:
        super().register_tag_readers(tag_readers)
        for tag, reader in (
            (SerializationTag.kBeginJSObject, _Reader.deserialize_js_object),
            (SerializationTag.kBeginDenseJSArray, _Reader.deserialize_js_array_dense),
            (SerializationTag.kBeginSparseJSArray, _Reader.deserialize_js_array_sparse),
            (SerializationTag.kBeginJSSet, _Reader.deserialize_jsset),
            (JS_ARRAY_BUFFER_TAGS, _Reader.deserialize_js_array_buffer),
            (SerializationTag.kObjectReference, _Reader.deserialize_object_reference),
            (SerializationTag.kBigInt, _Reader.deserialize_js_bigint),
            (SerializationTag.kDate, _Reader.deserialize_js_date),
            (SerializationTag.kDouble, _Reader.deserialize_js_double),
            (SerializationTag.kRegExp, _Reader.deserialize_js_regexp),
        ):
            tag_readers.register(tag, reader)  # type: ignore[arg-type]

    def deserialize_js_object(self, tag: Any, ctx: DecodeContext) -> Any:
        into: dict[str, Any] = {}
        for key, value in ctx.stream.read_js_object(ctx, identity=into):
            into[str(key)] = value
        return into

    def deserialize_js_array_dense(self, tag: Any, ctx: DecodeContext) -> Any:
        number = _next_number(ctx)
        array = super().deserialize_js_array_dense(tag, ctx)
        return _replaced(ctx, number, _plain(array))

    def deserialize_js_array_sparse(self, tag: Any, ctx: DecodeContext) -> Any:
        number = _next_number(ctx)
        array = super().deserialize_js_array_sparse(tag, ctx)
        return _replaced(ctx, number, _plain(array))

    def deserialize_jsset(self, tag: Any, ctx: DecodeContext) -> Any:
        number = _next_number(ctx)
        items = super().deserialize_jsset(tag, ctx)
        return _replaced(ctx, number, v8read.gathered(list(items)))

    def deserialize_js_array_buffer(self, tag: Any, ctx: DecodeContext) -> Any:
        return _as_bytes(super().deserialize_js_array_buffer(tag, ctx))

    def deserialize_object_reference(self, tag: Any, ctx: DecodeContext) -> Any:
        return _as_bytes(super().deserialize_object_reference(tag, ctx))

    def deserialize_js_bigint(self, tag: Any, ctx: DecodeContext) -> Any:
        return BigInt(ctx.stream.read_bigint())

    def deserialize_js_date(self, tag: Any, ctx: DecodeContext) -> Any:
        value = v8read.date(ctx.stream.read_double(tag=False))
        ctx.stream.objects.record_reference(value)
        return value

    def deserialize_js_double(self, tag: Any, ctx: DecodeContext) -> Any:
        return v8read.number(ctx.stream.read_double())

    def deserialize_js_regexp(self, tag: Any, ctx: DecodeContext) -> Any:
        number = _next_number(ctx)
        expression = super().deserialize_js_regexp(tag, ctx)
        try:
            return _replaced(ctx, number, v8read.regex(expression.source, int(expression.flags)))
        except Rare:
            return expression


def _next_number(ctx: DecodeContext) -> int:
    return len(ctx.stream.objects._object_by_serialized_id)


def _replaced(ctx: DecodeContext, number: int, value: Any) -> Any:
    """What later references to this object shall mean; the library itself only replaces the last one."""
    ctx.stream.objects._object_by_serialized_id[number] = value
    return value


def _plain(array: JSArray[Any]) -> Any:
    """As a list, if it has neither holes nor properties."""
    if array.properties or array.array.elements_used != len(array.array):
        return array
    return list(array.array)


def _as_bytes(value: Any) -> Any:
    if type(value) is not JSUint8Array:
        return value
    with value.get_buffer() as data:
        return bytes(data)


_FEATURES = (
    SerializationFeature.CircularErrorCause
    | SerializationFeature.ResizableArrayBuffers
    | SerializationFeature.Float16Array
)
_ENCODER = Encoder(encode_steps=[_referred, _written, TagWriter()], features=_FEATURES)
_DECODER = Decoder(
    decode_steps=[_Reader(js_constants={SerializationTag.kUndefined: UNDEFINED}, js_primitive_objects=True)]
)
