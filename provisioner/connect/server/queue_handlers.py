"""The queue's extension as the server has it: messages in, messages out, by the server's clock.

A listener that dies is noticed as in one process: what it does not renew comes to another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from provisioner.connect.protocol import queue_pb2
from provisioner.connect.protocol.http_errors import BAD_REQUEST, Refused
from provisioner.kv.rules.queue import MOST_RUNNING
from provisioner.kv.store import Store, Subscription

T = TypeVar("T", bound=Message)

REQUEST_BYTES: Final = 16_384
ID_LENGTH: Final = 100
Handler = Callable[[Store, bytes, int], bytes]

_MESSAGE: Final = queue_pb2.News(maybe=True).SerializeToString()
_NEWS: Final = len(_MESSAGE).to_bytes(4, "little") + _MESSAGE


def claim(store: Store, body: bytes, now: int) -> bytes:
    wanted = _parsed(queue_pb2.Claim.FromString, body)
    if not 1 <= wanted.most <= MOST_RUNNING:
        raise Refused(BAD_REQUEST, f"a claim takes 1 to {MOST_RUNNING} messages, not {wanted.most}")
    messages, due = store.claim(now, wanted.most)
    answer = queue_pb2.Claimed(messages=[queue_pb2.Message(id=each.id, payload=each.payload) for each in messages])
    if due is not None:
        answer.next_in_ms = due - now
    return answer.SerializeToString()


def renew(store: Store, body: bytes, now: int) -> bytes:
    ids = _parsed(queue_pb2.Renew.FromString, body).ids
    if len(ids) > MOST_RUNNING:
        raise Refused(BAD_REQUEST, f"at most {MOST_RUNNING} messages are renewed at once, not {len(ids)}")
    store.renew([_id(each) for each in ids], now)
    return queue_pb2.Renewed().SerializeToString()


def finish(store: Store, body: bytes, now: int) -> bytes:
    finished = _parsed(queue_pb2.Finish.FromString, body)
    store.finish(_id(finished.id), finished.success, now)
    return queue_pb2.Finished().SerializeToString()


def revive(store: Store, body: bytes, now: int) -> bytes:
    _parsed(queue_pb2.Revive.FromString, body)
    count, following = store.revive(now)
    answer = queue_pb2.Revived(count=count)
    if following is not None:
        answer.next_in_ms = following - now
    return answer.SerializeToString()


def subscribe(store: Store, wake: Callable[[], None]) -> Subscription:
    return store.watch_queue(wake)


async def news(woken: bool) -> bytes | None:
    """A frame of the stream, which says that there may be a message. The first one is sent at once."""
    return _NEWS if woken else None


HANDLERS: Final[Mapping[str, Handler]] = {
    "queue/claim": claim,
    "queue/renew": renew,
    "queue/finish": finish,
    "queue/revive": revive,
}
"""By path under the endpoint: from a store, a body and the server's time to the answer's. They raise Refused, KvError."""

STREAM: Final = "queue/news"


def _parsed(parse: Callable[[bytes], T], body: bytes) -> T:
    try:
        return parse(body)
    except DecodeError as error:
        raise Refused(BAD_REQUEST, "the body is not a message of the queue") from error


def _id(text: str) -> str:
    if len(text) > ID_LENGTH:
        raise Refused(BAD_REQUEST, "this is not the id of a message")
    return text
