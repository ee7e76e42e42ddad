"""HTTP/2 by hand, frame by frame: https://www.rfc-editor.org/rfc/rfc9113 has the frames, rfc7541 the headers."""

from __future__ import annotations

import socket

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING = 0, 1, 4, 6
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def settings() -> bytes:
    return frame(_SETTINGS, 0, 0) + frame(_SETTINGS, _ACK, 0)


def opened(port: int, source: str = "127.0.0.1") -> socket.socket:
    """A connection that speaks HTTP/2 and has asked for nothing."""
    client = socket.create_connection(("127.0.0.1", port), 60, source_address=(source, 0))
    client.sendall(PREFACE + settings())
    return client


def headers_frame(stream: int, method: str, path: str, *, end: bool = True, whole: bool = True) -> bytes:
    """A request; not the `end` where data follows, not `whole` where more headers do."""
    block = b"\x02" + _text(method) + b"\x86" + b"\x04" + _text(path) + b"\x01" + _text("localhost")
    return frame(_HEADERS, _END_STREAM * end | _END_HEADERS * whole, stream, block)


def data_frame(stream: int, data: bytes) -> bytes:
    return frame(_DATA, 0, stream, data)


def _text(text: str) -> bytes:
    return bytes((len(text),)) + text.encode()
