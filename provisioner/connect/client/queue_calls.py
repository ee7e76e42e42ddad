"""The queue's extension as a client has it. The server's clock counts: what is said here of times is how long until."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Wire

from provisioner.connect.client import codec
from provisioner.connect.client.metadata import ProtocolViolation
from provisioner.connect.client.retries import Remote, RequestRefused
from provisioner.connect.protocol import queue_pb2
from provisioner.kv.errors import Unsupported
from provisioner.kv.model import Message
from provisioner.kv.rules.queue import MOST_RUNNING

T = TypeVar("T", bound=Wire)

CLAIM: Final = "/queue/claim"
RENEW: Final = "/queue/renew"
FINISH: Final = "/queue/finish"
REVIVE: Final = "/queue/revive"
NEWS: Final = "/queue/news"
ABSENT: Final = (404, 405)


def claim(remote: Remote, now: int, most: int) -> tuple[list[Message], int | None]:
    """As `Store.claim`. A claim whose answer was lost is made again: what it took comes back when its time is over."""
    answer = _called(remote, CLAIM, queue_pb2.Claim(most=min(most, MOST_RUNNING)), queue_pb2.Claimed)
    due = now + answer.next_in_ms if answer.HasField("next_in_ms") else None
    return [Message(each.id, each.payload) for each in answer.messages], due


def renew(remote: Remote, ids: Sequence[str]) -> None:
    for some in _batches(ids):
        _called(remote, RENEW, queue_pb2.Renew(ids=some), queue_pb2.Renewed)


def finish(remote: Remote, id: str, success: bool) -> None:  # noqa: A002
    _called(remote, FINISH, queue_pb2.Finish(id=id, success=success), queue_pb2.Finished)


def revive(remote: Remote, now: int) -> tuple[int, int | None]:
    answer = _called(remote, REVIVE, queue_pb2.Revive(), queue_pb2.Revived)
    return answer.count, now + answer.next_in_ms if answer.HasField("next_in_ms") else None


def news(frame: bytes) -> None:
    """Judge a frame of the stream of news. Raises Strange."""
    _parsed(queue_pb2.News.FromString, frame)


def _called(remote: Remote, path: str, request: Wire, answer: type[T]) -> T:
    try:
        return _parsed(answer.FromString, remote.call(path, request.SerializeToString()))
    except RequestRefused as error:
        if error.status in ABSENT:
            raise Unsupported(
                "this server does not let its queue be listened to: that is an extension of `provisioner serve`."
                " Listen where the database is"
            ) from error
        raise codec.error_of(error, writing=True) from error
    except ProtocolViolation as error:
        raise remote.strange(str(error)) from error


def _parsed(parse: Callable[[bytes], T], body: bytes) -> T:
    try:
        return parse(body)
    except DecodeError as error:
        raise ProtocolViolation("its answer of the queue is not such a message") from error


def _batches(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[at : at + MOST_RUNNING] for at in range(0, len(ids), MOST_RUNNING))
