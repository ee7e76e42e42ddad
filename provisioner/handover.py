"""What a hook starts: hand a push over to the daemon, or do the daemon's work where there is none.

Run as a file by ``python -E -P -S``, which starts in 12 ms and sees nothing but the standard library; what needs more
is imported only where no daemon answers. Never fails git: whatever goes wrong is said and the exit code is 0.

The talk with the daemon, over a stream socket whose path is in ``<home>/daemon``: the hook sends the app's id and the
refs that were pushed, a line each, and closes its side; the daemon answers with what the pusher is to read.
"""

from __future__ import annotations

import os
import sys

ANSWER_SECONDS = 30.0


def main(arguments: list[str]) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        del os.environ[name]  # they speak of the repository that the hook runs in
    if arguments[0] == "drain":
        drain(arguments[1])
    elif arguments[0] == "checkout":
        _import_everything()
        from provisioner.worker import checked_out

        checked_out(arguments[1], arguments[2])
    else:
        home, app_id = arguments[1:3]
        refs = [line.rstrip(b"\n").split(b" ", 2)[2] for line in sys.stdin.buffer if line.count(b" ") >= 2]
        branches = [ref.removeprefix(b"refs/heads/") for ref in refs if ref.startswith(b"refs/heads/")]
        if branches and not ask_daemon(home, app_id, branches):
            _import_everything()
            from provisioner.worker import receive

            receive(home, app_id, branches)


def drain(home: str) -> None:
    """Act on every wake-up in the inbox, then on what falls due soon; leave as soon as a daemon or nobody needs it.

    One at a time: who finds another at work leaves, before it has imported what takes ten times as long as the rest, and
    that one looks into the inbox once more after it has let go.
    """
    _find_package()
    from provisioner import inbox
    from provisioner.config import Home
    from provisioner.lock import try_lock

    os.setsid()
    paths = Home(home)
    while inbox.pending(paths.inbox):
        lock = try_lock(os.path.join(paths.locks, "worker.lock"))
        if lock is None:
            return
        try:
            _import_everything()
            from provisioner.worker import work_through

            work_through(paths)
        finally:
            os.close(lock)


def ask_daemon(home: str, app_id: str, branches: list[bytes]) -> bool:
    """Let the daemon do it and print its answer. False where none is there to do it."""
    import _socket

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        with open(os.path.join(home, "daemon")) as file:
            path = file.read().split(" ", 2)[2].rstrip("\n")
        connection.connect(path)
        connection.settimeout(ANSWER_SECONDS)
        _send(connection, b"\n".join([app_id.encode(), *branches]) + b"\n")
        connection.shutdown(_socket.SHUT_WR)
    except (OSError, IndexError):
        return False
    answered = b""
    try:
        while piece := connection.recv(65536):
            answered = answered[-1:] + piece
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
    except OSError:
        answered = b""
    if not answered.endswith(b"\n"):
        print("provisioner: the daemon is still at work; see 'provisioner status'")  # noqa: T201
    return True


def _send(connection: object, data: bytes) -> None:
    connection.sendall(data)  # type: ignore[attr-defined]


def _import_everything() -> None:
    """Catch up on what ``-S`` left out, so that the package and what it needs can be imported."""
    import site

    site.main()
    _find_package()


def _find_package() -> None:
    parent = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if parent not in sys.path:
        sys.path.insert(0, parent)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Exception as error:
        print(f"provisioner: {error}", file=sys.stderr)  # noqa: T201
