"""Reading values that have no Python type, with v8serialize.

Typed arrays, array buffers, errors, arrays with holes, boxed primitives, maps and sets of JavaScript's equality. Within
them the ordinary types are what they are everywhere else here.
"""

from __future__ import annotations

from typing import Any

from v8serialize import TagReader, V8SerializeError
from v8serialize.constants import JS_ARRAY_BUFFER_TAGS, JS_STRING_TAGS, SerializationTag
from v8serialize.decode import DecodeContext, DefaultDecodeContext, ReadableTagStream, TagReaderRegistry
from v8serialize.extensions import NodeJsArrayBufferViewHostObjectHandler
from v8serialize.jstypes import (
    JSArray,
    JSSet,
    JSUint8Array,
)

from provisioner.kv.codec import v8_reader
from provisioner.kv.codec.collisions import Collisions
from provisioner.kv.codec.v8_writer import HEADER
from provisioner.kv.model import UNDEFINED, BigInt


def loads(data: bytes, ordered: bool = False) -> Any:
    """The value of V8 bytes, maybe with sets that are `ordered`. Raises v8read.Broken."""
    try:
        stream = _SurrogateStream(HEADER + data[2:] if data[1] > 15 else data, ordered)
        ctx = DefaultDecodeContext(stream=stream, decode_steps=[_READER])
        ctx.stream.read_header()
        return ctx.decode_object()
    except (V8SerializeError, ValueError, TypeError, IndexError, AssertionError, ArithmeticError) as error:
        raise v8_reader.Broken from error


_VARINT_BITS = 64


class _SurrogateStream(ReadableTagStream):
    """The bytes of one value, whose strings may have halves of surrogate pairs, as JavaScript's may."""

    def __init__(self, data: bytes, ordered: bool) -> None:
        super().__init__(data)
        self.ordered = ordered
        self.referred_to: set[int] = set()  # arrays that are referred to while they are being read

    def read_string_twobyte(self, *, tag: bool = False) -> str:
        if tag:
            self.read_tag(SerializationTag.kTwoByteString)
        return bytes(self.read_bytes(self.read_varint())).decode("utf-16-le", "surrogatepass")

    def read_varint(self, max_bits: int | None = None) -> int:
        """V8 writes none of more than 64 bits. The library adds up any, in a time that grows with the square."""
        return super().read_varint(max_bits or _VARINT_BITS)

    def read_jsmap(self, ctx: DecodeContext, **options: Any) -> Any:
        collisions = Collisions()
        for key, item in super().read_jsmap(ctx, **options):
            collisions.add(key)
            yield key, item

    def read_jsset(self, ctx: DecodeContext, **options: Any) -> Any:
        collisions = Collisions()
        for item in super().read_jsset(ctx, **options):
            collisions.add(item)
            yield item


class _FallbackReader(TagReader):
    """The library's reader, which gives Python's own types where they lose nothing."""

    def register_tag_readers(self, tag_readers: TagReaderRegistry) -> None:
        super().register_tag_readers(tag_readers)
        for tag, reader in (
            (SerializationTag.kError, _FallbackReader.deserialize_js_error),
            (SerializationTag.kBeginJSObject, _FallbackReader.deserialize_js_object),
            (SerializationTag.kBeginDenseJSArray, _FallbackReader.deserialize_js_array_dense),
            (SerializationTag.kBeginSparseJSArray, _FallbackReader.deserialize_js_array_sparse),
            (SerializationTag.kBeginJSSet, _FallbackReader.deserialize_jsset),
            (JS_ARRAY_BUFFER_TAGS, _FallbackReader.deserialize_js_array_buffer),
            (SerializationTag.kHostObject, _FallbackReader.deserialize_host_object),
            (SerializationTag.kObjectReference, _FallbackReader.deserialize_object_reference),
            (SerializationTag.kBigInt, _FallbackReader.deserialize_js_bigint),
            (SerializationTag.kDate, _FallbackReader.deserialize_js_date),
            (SerializationTag.kDouble, _FallbackReader.deserialize_js_double),
            (SerializationTag.kRegExp, _FallbackReader.deserialize_js_regexp),
        ):
            tag_readers.register(tag, reader)  # type: ignore[arg-type]

    def deserialize_js_object(self, tag: Any, ctx: DecodeContext) -> Any:
        into: dict[str, Any] = {}
        for key, value in ctx.stream.read_js_object(ctx, identity=into):
            into[str(key)] = value
        return into

    def deserialize_js_error(self, tag: Any, ctx: DecodeContext) -> Any:
        error: Any = super().deserialize_js_error(tag, ctx)
        if error.name == "UriError":  # the library's slip
            error.name = "URIError"
        return error

    def deserialize_js_array_dense(self, tag: Any, ctx: DecodeContext) -> Any:
        number = _next_number(ctx)
        array = super().deserialize_js_array_dense(tag, ctx)
        return _replaced(ctx, number, _plain(array, ctx))

    def deserialize_js_array_sparse(self, tag: Any, ctx: DecodeContext) -> Any:
        number = _next_number(ctx)
        array = super().deserialize_js_array_sparse(tag, ctx)
        return _replaced(ctx, number, _plain(array, ctx))

    def deserialize_jsset(self, tag: Any, ctx: DecodeContext) -> Any:
        number = _next_number(ctx)
        items = super().deserialize_jsset(tag, ctx)
        if isinstance(ctx.stream, _SurrogateStream) and ctx.stream.ordered:
            return items
        gathered = v8_reader.gathered(list(items))
        return items if isinstance(gathered, JSSet) else _replaced(ctx, number, gathered)

    def deserialize_js_array_buffer(self, tag: Any, ctx: DecodeContext) -> Any:
        return _as_bytes(super().deserialize_js_array_buffer(tag, ctx))

    def deserialize_host_object(self, tag: Any, ctx: DecodeContext) -> Any:
        """Node's own form of a typed array, which the library gives no number."""
        view = super().deserialize_host_object(tag, ctx)
        ctx.stream.objects.record_reference(view)
        return _as_bytes(view)

    def deserialize_object_reference(self, tag: Any, ctx: DecodeContext) -> Any:
        found = super().deserialize_object_reference(tag, ctx)
        if isinstance(found, JSArray):
            _referred_to(ctx).add(id(found))
        return _as_bytes(found)

    def deserialize_js_bigint(self, tag: Any, ctx: DecodeContext) -> Any:
        return BigInt(ctx.stream.read_bigint())

    def deserialize_js_date(self, tag: Any, ctx: DecodeContext) -> Any:
        value = v8_reader.date(ctx.stream.read_double(tag=False))
        ctx.stream.objects.record_reference(value)
        return value

    def deserialize_js_double(self, tag: Any, ctx: DecodeContext) -> Any:
        return v8_reader.number(ctx.stream.read_double())

    def deserialize_js_regexp(self, tag: Any, ctx: DecodeContext) -> Any:
        source = ctx.decode_object(tag=ctx.stream.read_tag(tag=JS_STRING_TAGS))
        assert isinstance(source, str)  # noqa: S101 its tag says so
        expression = v8_reader.regex(source, ctx.stream.read_varint())
        ctx.stream.objects.record_reference(expression)
        return expression


def _next_number(ctx: DecodeContext) -> int:
    return len(ctx.stream.objects._object_by_serialized_id)


def _replaced(ctx: DecodeContext, number: int, value: Any) -> Any:
    """The object that later references mean; the library itself only replaces the last one."""
    ctx.stream.objects._object_by_serialized_id[number] = value
    return value


def _plain(array: JSArray[Any], ctx: DecodeContext) -> Any:
    """As a list, if it has neither holes nor properties, and does not contain itself."""
    if array.properties or array.array.elements_used != len(array.array) or id(array) in _referred_to(ctx):
        return array
    return list(array.array)


def _referred_to(ctx: DecodeContext) -> set[int]:
    stream = ctx.stream
    assert isinstance(stream, _SurrogateStream)  # noqa: S101 no other code creates one here
    return stream.referred_to


def _as_bytes(value: Any) -> Any:
    if type(value) is not JSUint8Array:
        return value
    with value.get_buffer() as data:
        return bytes(data)


_READER = _FallbackReader(
    js_constants={SerializationTag.kUndefined: UNDEFINED},
    js_primitive_objects=True,
    host_object_deserializer=NodeJsArrayBufferViewHostObjectHandler(),
)
