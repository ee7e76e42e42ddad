"""The process of the router: it is started, adopted from an earlier daemon, given a new configuration, and ended.

It runs apart from the daemon, which may end and start again without it. While it runs it holds a lock, which it inherits and
which ends with it, so no record of a process id is believed without it. What it was started with is recorded before it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from provisioner.core.errors import ProvisionerError, StorageFailed
from provisioner.hosting.router import admin
from provisioner.hosting.router.binary import caddy, version_mark
from provisioner.hosting.router.configuration import configuration, environment
from provisioner.hosting.router.listeners import listening
from provisioner.hosting.router.names import DATA, SESSIONS
from provisioner.hosting.router.options import CertificateFiles, RouterOptions
from provisioner.hosting.routes import CLOSED, LOOPBACK, OPEN
from provisioner.system.atomic_file import replace_file
from provisioner.system.file_lock import try_lock
from provisioner.system.home import DIRECTORY_MODE, FILE_MODE, Home, inherited_by_strangers

STOP_SECONDS = 5.0  # for requests that are being answered
_START_SECONDS = 10.0
_PID_SECONDS = 60.0  # until a process that has the lock says its id, which takes long on a busy machine
_LAST_WORDS = 400
# Go's collector takes a fifth of a request's time by default, because Caddy's heap is small. Near the limit it runs as usual.
_COLLECTED_LESS_OFTEN = {"GOGC": "400", "GOMEMLIMIT": "256MiB"}
_CONFIG, _PID, _RECORD, _STDERR, _LOCK = "caddy.json", "caddy.pid", "process.json", "caddy.stderr", "caddy.lock"


@dataclass(frozen=True, slots=True)
class Record:
    """What a router was started with: the program, the addresses, and a digest of the configuration."""

    program: str
    listen: str
    digest: str


class RouterProcess:
    """For one thread."""

    def __init__(self, home: Home, options: RouterOptions) -> None:
        self.directory = directory_of(home)
        self._options = options
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def root_certificate(self) -> str:
        """Of the local authority; Caddy makes it."""
        return self._path(os.path.join(DATA, "pki", "authorities", "local", "root.crt"))

    def run(self) -> int:
        """Have a router run with these options. The answer is a descriptor (pidfd) that is ready for reading when it has ended.

        Raises ProvisionerError if that cannot be done; a router that runs with other options keeps running if it can.
        """
        os.makedirs(os.path.join(self.directory, DATA), mode=DIRECTORY_MODE, exist_ok=True)
        program, (config, wanted) = caddy(), self._wanted()
        while True:
            lock = try_lock(self._path(_LOCK))
            if lock is not None:
                try:
                    return self._spawn(program, config, wanted, lock)
                finally:
                    os.close(lock)
            adopted = self._adopt(config, wanted)
            if adopted is not None:
                return adopted

    def renew(self) -> None:
        """Have the router read certificates that have changed. Raises StorageFailed; then it continues with the old ones."""
        config, wanted = self._wanted()
        found = _read(self._path(_RECORD))
        if found is not None and found.digest != wanted.digest:
            admin.load(self.directory, config)
            self._write(config, replace(found, digest=wanted.digest))

    def _wanted(self) -> tuple[bytes, Record]:
        config = json.dumps(configuration(self._options), indent=1).encode()
        listen = f"{' '.join(self._options.addresses)} {self._options.port} {self._options.http_port}".removesuffix(
            " 0"
        )
        digest = hashlib.sha256(config + _certificates(self._options)).hexdigest()
        return config, Record(version_mark(caddy()), listen, digest)

    def runs(self) -> bool:
        lock = try_lock(self._path(_LOCK))
        if lock is not None:
            os.close(lock)
        return lock is None

    def stop(self) -> None:
        """End the router, whichever daemon started it. Requests that are being answered have some seconds."""
        deadline = time.monotonic() + STOP_SECONDS
        if not os.path.isdir(self.directory):
            return
        sent = signal.SIGTERM
        while (pidfd := self._running()) is not None:
            try:
                _send(pidfd, sent)
                _ended(pidfd, deadline - time.monotonic())
            finally:
                os.close(pidfd)
            sent, deadline = signal.SIGKILL, time.monotonic() + STOP_SECONDS
        self._reap()

    def _adopt(self, config: bytes, wanted: Record) -> int | None:
        """The router that runs, with the options that are wanted; None if it has ended."""
        pidfd = self._running()
        if pidfd is None:
            return None
        found = _read(self._path(_RECORD))
        if found == wanted:
            return pidfd
        try:
            if found is None or (found.program, found.listen) != (wanted.program, wanted.listen):
                self.stop()
                os.close(pidfd)
                return None
            admin.load(self.directory, config)
            self._write(config, wanted)
        except BaseException:
            with suppress(OSError):
                os.close(pidfd)
            raise
        return pidfd

    def _spawn(self, program: str, config: bytes, wanted: Record, lock: int) -> int:
        self._reap()
        with listening(self._options) as (listeners, plain), socket.create_server((LOOPBACK, 0)) as asking:
            self._write(config, wanted)
            with suppress(FileNotFoundError):
                os.unlink(self._path(_PID))
            numbers, plain_numbers = ([each.fileno() for each in some] for some in (listeners, plain))
            sockets = environment(numbers, plain_numbers, asking.fileno(), asking.getsockname()[1])
            with open(
                os.open(self._path(_STDERR), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE), "wb"
            ) as stderr:
                self._child = subprocess.Popen(
                    [program, "run", "--config", _CONFIG, "--pidfile", _PID],
                    cwd=self.directory,
                    env={
                        **inherited_by_strangers(self.directory),
                        **_COLLECTED_LESS_OFTEN,
                        "XDG_DATA_HOME": self._path(DATA),
                        **sockets,
                    },
                    stdin=subprocess.DEVNULL,
                    stdout=stderr,
                    stderr=stderr,
                    pass_fds=(lock, asking.fileno(), *numbers, *plain_numbers),
                    start_new_session=True,
                    umask=0o077,
                )
        pidfd = os.pidfd_open(self._child.pid)
        try:
            self._must_answer(pidfd)
        except BaseException:
            os.close(pidfd)
            raise
        return pidfd

    def _must_answer(self, pidfd: int) -> None:
        """Wait until it has taken its configuration. Raises StorageFailed if it ends instead."""
        deadline = time.monotonic() + _START_SECONDS
        while not admin.answers(self.directory):
            if _ended(pidfd, 0.02):
                self._reap()
                raise StorageFailed(f"the router ended at once: {self._last_words()}", f"See: {self._path(_STDERR)}")
            if time.monotonic() > deadline:  # it may be slow, and is as good as one that was adopted
                return

    def _last_words(self) -> str:
        with open(self._path(_STDERR), errors="replace") as file:
            lines = file.read().strip().splitlines()
        last = lines[-1] if lines else "without a word"
        with suppress(ValueError, AttributeError):
            last = json.loads(last).get("msg", last)
        return last.removeprefix("Error: ")[-_LAST_WORDS:]

    def _running(self) -> int | None:
        """A descriptor of the router's process; None if none runs."""
        deadline = time.monotonic() + _PID_SECONDS
        while time.monotonic() < deadline:
            lock = try_lock(self._path(_LOCK))
            if lock is not None:
                os.close(lock)
                return None
            pidfd = _open(self._path(_PID))
            if pidfd is not None:
                lock = try_lock(self._path(_LOCK))
                if lock is None and not _ended(pidfd, 0):  # it had the lock all the time, so it is the one
                    return pidfd
                os.close(pidfd)
                if lock is not None:
                    os.close(lock)
                    return None
            time.sleep(0.01)  # it has only just been started
        raise StorageFailed(f"the process that holds {self._path(_LOCK)} isn't a router", "End it, then try again")

    def _write(self, config: bytes, record: Record) -> None:
        """The configuration, then what is recorded of it: the other way round, one that was not loaded would count as loaded."""
        try:
            replace_file(self._path(_CONFIG), config, FILE_MODE)
            replace_file(self._path(_RECORD), json.dumps(asdict(record)).encode(), FILE_MODE)
        except OSError as error:
            raise StorageFailed(f"cannot write to {self.directory}: {error.strerror}") from error

    def _reap(self) -> None:
        """An ended child leaves the table of processes."""
        if self._child is not None:
            self._child.poll()

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)


def remembered(home: Home) -> list[str]:
    """Directories that say where apps run and who has signed in, which is true of one home and not of its copy."""
    return [os.path.join(directory_of(home), name) for name in (OPEN, CLOSED, SESSIONS, "links", "bypass")]


def directory_of(home: Home) -> str:
    """The files of a home's router: besides those, its certificates and the keys of its accounts at certificate authorities."""
    return os.path.join(home.path, "router")


def _certificates(options: RouterOptions) -> bytes:
    """The contents of their files. One that cannot be read is Caddy's to complain about."""
    names = (options.tls.certificate, options.tls.key) if isinstance(options.tls, CertificateFiles) else ()
    found = []
    for name in names:
        with suppress(OSError), open(name, "rb") as file:
            found.append(file.read())
    return b"".join(found)


def _read(path: str) -> Record | None:
    try:
        with open(path, encoding="utf-8") as file:
            values: dict[str, Any] = json.load(file)
        return Record(**values)
    except (OSError, ValueError, TypeError):
        return None


def _open(path: str) -> int | None:
    """A descriptor of the process whose id is in the file."""
    try:
        with open(path, encoding="ascii") as file:
            return os.pidfd_open(int(file.read()))
    except (OSError, ValueError):
        return None


def _send(pidfd: int, number: int) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def _ended(pidfd: int, seconds: float) -> bool:
    """Has the process ended, within this time?"""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def failure_text(error: BaseException) -> str:
    return str(error) if isinstance(error, ProvisionerError) else repr(error)
