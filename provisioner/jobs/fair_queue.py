"""A queue in which many requests of one app do not delay those of another: apps take turns."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from typing import Generic, Protocol, TypeVar

from provisioner.core.ids import AppId


class OfApp(Protocol):
    """A request that is made for an app."""

    @property
    def app_id(self) -> AppId: ...


_T = TypeVar("_T", bound=OfApp)


class FairQueue(Generic[_T]):
    """Requests of apps, of which each has at most `each` in progress at once."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._waiting: OrderedDict[AppId, deque[_T]] = OrderedDict()
        self._under_way: Counter[AppId] = Counter()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, request: _T) -> None:
        with self._changed:
            self._waiting.setdefault(request.app_id, deque()).append(request)
            self._changed.notify()

    def get(self) -> _T | None:
        """The next request, of the app with the earliest last turn; it waits for one. None once the queue is closed."""
        with self._changed:
            while not self._closed:
                for app_id, requests in self._waiting.items():
                    if self._under_way[app_id] < self._each:
                        return self._taken(app_id, requests)
                self._changed.wait()
        return None

    def done(self, request: _T) -> None:
        """It is over: another request of its app may start."""
        with self._changed:
            self._under_way[request.app_id] -= 1
            if not self._under_way[request.app_id]:
                del self._under_way[request.app_id]
            self._changed.notify()

    def waiting(self) -> bool:
        """Whether there is a request that no thread has taken."""
        with self._changed:
            return bool(self._waiting)

    def wanted(self) -> int:
        """How many threads could be busy."""
        with self._changed:
            apps = self._waiting.keys() | self._under_way.keys()
            return sum(min(self._each, len(self._waiting.get(app, ())) + self._under_way[app]) for app in apps)

    def close(self) -> None:
        """Hand out nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _taken(self, app_id: AppId, requests: deque[_T]) -> _T:
        request = requests.popleft()
        self._under_way[app_id] += 1
        if requests:
            self._waiting.move_to_end(app_id)
        else:
            del self._waiting[app_id]
        return request
