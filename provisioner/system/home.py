"""The home's directory. The only reader of ``os.environ`` besides ``cli/``."""

from __future__ import annotations

import os
import sys

from provisioner.core.errors import StorageFailed

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
_OURS = ("PROVISIONER_FAULT", "PROVISIONER_SKIP")
_HARMLESS = (
    *("PATH", "LANG", "LANGUAGE", "TZ", "USER", "LOGNAME", "SHELL", "TERM", "DENO_CERT"),
    *("DENO_TLS_CA_STORE", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    *("CURL_CA_BUNDLE", "PIP_CERT", "PIP_INDEX_URL", "UV_INDEX_URL", "NPM_CONFIG_REGISTRY", "npm_config_registry"),
)
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def home_directory(environ: os._Environ[str] | dict[str, str]) -> str:
    """``PROVISIONER_HOME``, else ``provisioner`` in the platform's data directory; absolute."""
    if explicit := environ.get("PROVISIONER_HOME"):
        return os.path.abspath(explicit)
    if sys.platform == "linux":  # what platformdirs answers, without its 20 ms: `exec` asks this every time
        data = environ.get("XDG_DATA_HOME", "").strip() or os.path.expanduser("~/.local/share")
        return os.path.join(data, "provisioner")
    from platformdirs import user_data_dir

    return user_data_dir("provisioner", appauthor=False)


def inherited() -> dict[str, str]:
    """This process's environment for a user's commands: without git's variables for hooks, and without provisioner's."""
    return {key: value for key, value in without_git().items() if key not in _OURS}


def without_git(*kept: str) -> dict[str, str]:
    """This process's environment without what git sets for its hooks, which describes the hook's repository. Variables that
    are `kept` stay."""
    return {key: value for key, value in os.environ.items() if not key.startswith("GIT_") or key in kept}


def forget_git() -> None:
    """Take that out of this process's own environment."""
    for name in os.environ.keys() - without_git().keys():
        del os.environ[name]


def inherited_by_strangers(directory: str) -> dict[str, str]:
    """The part of it that every program needs, with this as its home directory: for commands that must not get the rest of
    this process's environment."""
    kept = {
        key: value
        for key, value in inherited().items()
        if key in _HARMLESS or key.startswith("LC_") or key.lower() in _PROXIES
    }
    return {**kept, "HOME": directory, "TMPDIR": os.path.join(directory, "tmp")}


class Home:
    """The paths of one organization's directory."""

    __slots__ = (
        *(
            "backups",
            "daemon",
            "follows",
            "identity",
            "inbox",
            "instances",
            "key",
            "locks",
            "log",
            "logins",
            "path",
            "registry",
            "reserve",
            "runs",
            "server",
            "sessions",
            "work",
            "worker",
        ),
    )

    def __init__(self, path: str) -> None:
        self.path = path
        self.registry = os.path.join(path, "registry.db")
        self.identity = os.path.join(path, "identity")
        self.inbox = os.path.join(path, "inbox")
        self.locks = os.path.join(path, "locks")
        self.instances = os.path.join(path, "instances")
        self.log = os.path.join(path, "log")
        self.logins = os.path.join(path, "logins")
        self.daemon = os.path.join(path, "daemon")
        self.follows = os.path.join(path, "follows")
        self.backups = os.path.join(path, "backups")
        self.reserve = os.path.join(path, "reserve")
        self.key = os.path.join(path, "keys", "connect")
        self.server = os.path.join(path, "server")
        self.runs = os.path.join(path, "log", "runs")
        self.sessions = os.path.join(path, "sessions")
        self.work = os.path.join(path, "work")
        self.worker = os.path.join(path, "worker")

    def absolute(self, location: str) -> str:
        """The path of a location in the registry: locations in the home are recorded relative to it."""
        if not location or location.startswith("/") or "://" in location:
            return location
        return os.path.join(os.path.realpath(self.path), location)

    def recorded(self, location: str) -> str:
        """A location as the registry has it: a directory in the home relative to that, so that it moves with the home."""
        return relative(location, os.path.realpath(self.path))

    def create(self) -> None:
        """Create the missing directories, private to their owner."""
        for path in (self.path, self.inbox, self.locks, self.instances, self.log):
            os.makedirs(path, mode=DIRECTORY_MODE, exist_ok=True)
        os.chmod(self.path, DIRECTORY_MODE)

    def has_registry(self) -> bool:
        """Raises StorageFailed if this user cannot find out, which differs from a home without a registry."""
        try:
            os.stat(self.registry)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StorageFailed(
                f"the registry {self.registry} cannot be read: {error.strerror}",
                f"Make the user that runs provisioner the owner of {self.path}, or set PROVISIONER_HOME",
            ) from error
        return True


def relative(location: str, home: str) -> str:
    """A directory inside of `home` relative to that; any other location as it is."""
    inside = location.startswith(f"{home.rstrip('/')}/")
    return location[len(home.rstrip("/")) + 1 :] if inside else location
