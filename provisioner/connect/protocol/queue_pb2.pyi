from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Claim(_message.Message):
    __slots__ = ("most",)
    MOST_FIELD_NUMBER: _ClassVar[int]
    most: int
    def __init__(self, most: _Optional[int] = ...) -> None: ...

class Claimed(_message.Message):
    __slots__ = ("messages", "next_in_ms")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_IN_MS_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    next_in_ms: int
    def __init__(self, messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ..., next_in_ms: _Optional[int] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("id", "payload")
    ID_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    id: str
    payload: bytes
    def __init__(self, id: _Optional[str] = ..., payload: _Optional[bytes] = ...) -> None: ...

class Renew(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ids: _Optional[_Iterable[str]] = ...) -> None: ...

class Renewed(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Finish(_message.Message):
    __slots__ = ("id", "success")
    ID_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    id: str
    success: bool
    def __init__(self, id: _Optional[str] = ..., success: _Optional[bool] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Revive(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Revived(_message.Message):
    __slots__ = ("count", "next_in_ms")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    NEXT_IN_MS_FIELD_NUMBER: _ClassVar[int]
    count: int
    next_in_ms: int
    def __init__(self, count: _Optional[int] = ..., next_in_ms: _Optional[int] = ...) -> None: ...

class News(_message.Message):
    __slots__ = ("maybe",)
    MAYBE_FIELD_NUMBER: _ClassVar[int]
    maybe: bool
    def __init__(self, maybe: _Optional[bool] = ...) -> None: ...
