"""Apps with their URLs as a part of the server: the manager that runs them, and the router that leads to them."""

from __future__ import annotations

import os
from collections.abc import Callable
from urllib.parse import urlsplit

from provisioner.core.errors import StorageFailed
from provisioner.core.ids import AppId
from provisioner.hosting.apps.context import Log
from provisioner.hosting.apps.manager import AppManager
from provisioner.hosting.linger import leave_router
from provisioner.hosting.router.binary import caddy
from provisioner.hosting.router.options import RouterOptions
from provisioner.hosting.router.router import Router
from provisioner.system.apps_lock import take_apps
from provisioner.system.home import Home
from provisioner.system.router_address import RouterAddress, record


class Previews:
    """`start` and `stop` are for the thread that made it. Without the router's program nothing is started, which the log says
    once."""

    def __init__(self, home: Home, options: RouterOptions, log: Log, dashboard: Callable[[], str], most: int) -> None:
        """At `most` this number of processes run at a time."""
        self._home, self._log = home, log
        self._address = RouterAddress(
            "https" if options.encrypted else "http",
            options.domain,
            options.port,
            everyone=options.local,
            dashboard=urlsplit(dashboard()).hostname or "",
        )
        self._manager = AppManager(home, self._address, log, most)
        self._router = Router(home, options, self._manager, log, dashboard)
        self._lock: int | None = None

    def start(self) -> None:
        try:
            caddy()
        except StorageFailed as error:
            self._log("info", f"previews are off: {error}")
            return
        self._lock = take_apps(self._home)
        if self._lock is None:
            self._log("error", f"another process runs the apps of {self._home.path}; this one does not")
            return
        record(self._home, self._address)
        self._manager.start()
        self._router.start()

    def look(self, app_id: AppId) -> None:
        """Something of an app may have changed."""
        if self._lock is not None:
            self._manager.look(app_id)

    def stop(self, keep_router: float = 0.0) -> None:
        """End the router, then the apps. With `keep_router` (s), the router runs on for this long, for the next daemon: what
        it sends to dev servers continues, and requests for apps wait."""
        if self._lock is not None:
            self._router.stop(keep_router=keep_router > 0)
            self._manager.close()
            os.close(self._lock)
            if keep_router > 0:
                leave_router(self._home, keep_router)
