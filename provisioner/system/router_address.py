"""The address of a home's router, for commands that print a URL: written by the process that starts the router."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass

from provisioner.core.custom_domains import is_below
from provisioner.core.host_names import DOMAIN, PORT
from provisioner.system.atomic_file import replace_file
from provisioner.system.home import DIRECTORY_MODE, FILE_MODE, Home

_USUAL_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class RouterAddress:
    """URLs of apps are ``scheme://<host>.<domain>:port``. ``everyone``: it is for this machine alone, so no one signs in.
    ``dashboard`` is the dashboard's host, which no app may have; empty without one."""

    scheme: str = "http"
    domain: str = DOMAIN
    port: int = PORT
    everyone: bool = True
    dashboard: str = ""

    def url(self, host: str) -> str:
        port = "" if self.port == _USUAL_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    def reserved(self, name: str) -> str:
        """Why a custom domain cannot have this name; empty if it can."""
        if is_below(name, self.domain):
            return f"{name} is in {self.domain}, the domain of previews"
        if self.dashboard and name == self.dashboard:
            return f"{name} is the dashboard's host, and an app there could use its cookies"
        return ""


def address(home: Home) -> RouterAddress:
    """Of the router that was started last; the usual one where none ever was."""
    try:
        with open(_path(home)) as file:
            return RouterAddress(**json.load(file))
    except (OSError, ValueError, TypeError):
        return RouterAddress()


def record(home: Home, found: RouterAddress) -> None:
    os.makedirs(os.path.dirname(_path(home)), mode=DIRECTORY_MODE, exist_ok=True)
    replace_file(_path(home), json.dumps(asdict(found)).encode(), FILE_MODE)


def _path(home: Home) -> str:
    return os.path.join(home.path, "router", "address")
