"""A request and its answer over HTTP/1.1 on one connection, in one call to send and as few as can be to receive.

What a general client does for each request (building heads from parts, parsing them as mail) costs four times as much as
all the rest of a point get. Connecting and TLS are the standard library's.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

ONE_PACKET: Final = 16_384  # bytes of a body that are sent together with the head
LONGEST_HEAD: Final = 65_536
LONGEST_BODY: Final = 128 * 1024 * 1024  # a thousand entries of the greatest size have about 68 MB
AT_ONCE: Final = 65_536  # bytes to receive
_END: Final = b"\r\n\r\n"
_HEXADECIMAL: Final = frozenset(b"0123456789abcdefABCDEF")


class Unsent(Exception):  # noqa: N818 - named for what happened
    """Not all of the request could be sent, so no server can have carried it out."""


class Unanswered(Exception):  # noqa: N818 - named for what happened
    """The request was sent, and the answer is incomplete."""


class Answer(NamedTuple):
    """`kind` is the content type as it came; after `closing` the connection is of no more use."""

    status: int
    kind: str
    body: bytes
    closing: bool


class Socket(Protocol):
    def sendall(self, data: bytes, /) -> None: ...

    def recv(self, size: int, /) -> bytes: ...

    def recv_into(self, buffer: memoryview, size: int, /) -> int: ...


def asked(sock: Socket, head: bytes, body: bytes) -> Answer:
    """Send a request whose head lacks the length of its body, and receive what it is answered."""
    head = b"%bContent-Length: %d\r\n\r\n" % (head, len(body))
    try:
        if len(body) <= ONE_PACKET:
            sock.sendall(head + body)
        else:
            sock.sendall(head)
            sock.sendall(body)
    except OSError as error:
        return _early(sock, error)
    try:
        return _received(sock)
    except OSError as error:
        raise Unanswered(str(error) or type(error).__name__) from error


def _early(sock: Socket, failure: OSError) -> Answer:
    """The answer of a server that answers before it has read everything, and stops reading."""
    try:
        answer = _received(sock)
    except (OSError, Unanswered):
        raise Unsent(str(failure)) from failure
    return answer._replace(closing=True)


def _received(sock: Socket) -> Answer:
    rest = b""
    status = 0
    while status < 200:  # behind an interim answer comes another
        head, rest = _head(sock, rest)
        lines = head.split(b"\r\n")
        status = _status(lines[0])
    fields = dict(map(_field, lines[1:]))
    closing = fields.get(b"connection", b"").lower() == b"close" or lines[0].startswith(b"HTTP/1.0")
    kind = fields.get(b"content-type", b"").decode("latin-1")
    coding = fields.get(b"transfer-encoding")
    length = fields.get(b"content-length")
    if coding is not None:
        if coding.lower() != b"chunked":
            raise Unanswered(f"the answer is coded as {coding!r}")
        return Answer(status, kind, _chunks(sock, rest), closing)
    if length is None:
        if status == 200:
            raise Unanswered("nothing says where the answer ends, so nothing that it is whole")
        return Answer(status, kind, _all(sock, rest), closing=True)
    if not length.isdigit():
        raise Unanswered(f"the answer's length is {length!r}")
    return Answer(status, kind, _exactly(sock, rest, int(length)), closing)


def _head(sock: Socket, got: bytes) -> tuple[bytes, bytes]:
    """The head of an answer of which some came already, and what came behind it."""
    while (end := got.find(_END)) < 0:
        if len(got) > LONGEST_HEAD:
            raise Unanswered("the head of the answer does not end")
        got += _some(sock)
    return got[:end], got[end + len(_END) :]


def _status(line: bytes) -> int:
    version, _, rest = line.partition(b" ")
    digits = rest.partition(b" ")[0]
    if not version.startswith(b"HTTP/1.") or not digits.isdigit() or len(digits) != 3:
        raise Unanswered(f"the answer starts with {line[:50]!r}")
    return int(digits)


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.lower(), value.strip()


def _exactly(sock: Socket, got: bytes, length: int) -> bytes:
    if len(got) == length:
        return got
    if len(got) > length:
        raise Unanswered("the answer is longer than it says")
    if length > LONGEST_BODY:
        raise Unanswered(f"the answer says that it has {length} bytes")
    body = bytearray(length)
    body[: len(got)] = got
    view = memoryview(body)
    at = len(got)
    while at < length:
        count = sock.recv_into(view[at:], min(length - at, 1 << 20))
        if not count:
            raise Unanswered(f"the answer ended after {at} of {length} bytes")
        at += count
    return bytes(body)


def _all(sock: Socket, got: bytes) -> bytes:
    pieces = [got]
    size = len(got)
    while piece := sock.recv(AT_ONCE):
        pieces.append(piece)
        size = _bounded(size + len(piece))
    return b"".join(pieces)


def _bounded(size: int) -> int:
    if size > LONGEST_BODY:
        raise Unanswered(f"the answer has more than {LONGEST_BODY} bytes")
    return size


def _chunks(sock: Socket, got: bytes) -> bytes:
    pieces = []
    whole = 0
    while True:
        line, got = _until(sock, got, b"\r\n")
        digits = line.partition(b";")[0].strip()
        if not digits or not _HEXADECIMAL.issuperset(digits):
            raise Unanswered(f"a piece of the answer starts with {line[:50]!r}")
        size = int(digits, 16)
        if not size:
            break
        whole = _bounded(whole + size)
        while size >= len(got):  # piece by piece: joined to one text again and again, they would cost the square of it
            pieces.append(got)
            size -= len(got)
            got = _some(sock)
        pieces.append(got[:size])
        got = got[size:]
        while len(got) < 2:
            got += _some(sock)
        got = got[2:]
    while line:
        line, got = _until(sock, got, b"\r\n")  # fields behind the body, which say nothing here
    return b"".join(pieces)


def _until(sock: Socket, got: bytes, end: bytes) -> tuple[bytes, bytes]:
    while end not in got:
        if len(got) > LONGEST_HEAD:
            raise Unanswered("a line of the answer does not end")
        got += _some(sock)
    line, _, rest = got.partition(end)
    return line, rest


def _some(sock: Socket) -> bytes:
    if not (piece := sock.recv(AT_ONCE)):
        raise Unanswered("the connection was closed without an answer")
    return piece
