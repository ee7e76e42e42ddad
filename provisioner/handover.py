"""What a hook starts: hand a push over to the daemon, or do the daemon's work where there is none.

Run as a file by ``python -E -P -S``: compiled anew at every start, so it is short, and it imports nothing before it has
to, not even ``os``. What needs more is in `provisioner.daemon.worker` and `provisioner.daemon.worker_bootstrap`. Never
fails git: whatever goes wrong is said and the exit code is 0. Installed hooks name this path: the file never moves.

The talk with the daemon, over a stream socket whose path is in ``<home>/daemon``: the hook sends the app's id and
the directory it runs in, which is the repository, and ``<commit> <branch>`` for each branch that was pushed, a line each,
and closes its side; the daemon answers with what the pusher is to read, and a NUL when that is all.
"""

import sys

ANSWER_SECONDS = 30.0


def main(job: str, home: str, app_id: str = "") -> None:
    pushed: list[bytes] = []
    if job == "receive":
        changes = [line.rstrip(b"\n").partition(b" ")[2].split(b" refs/heads/", 1) for line in sys.stdin.buffer]
        pushed = [b" ".join(change) for change in changes if len(change) == 2]
        if not pushed or ask_daemon(home, app_id, pushed):
            return
    sys.path.insert(0, __file__.rsplit("/", 2)[0])
    if job == "drain":
        from provisioner.daemon.worker_bootstrap import drain

        drain(home)
        return
    import site

    site.main()  # catch up on what -S left out
    from provisioner.core.ids import AppId
    from provisioner.daemon.worker import work

    work(job, home, AppId(app_id), pushed)


def ask_daemon(home: str, app_id: str, pushed: list[bytes]) -> bool:
    """Let the daemon do it and print its answer. False where none is there to do it."""
    import _socket
    import posix

    place = posix.getcwdb().replace(b"\n", b"?")
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        with open(home + "/daemon") as file:
            connection.connect(file.read().split(" ", 2)[2].rstrip("\n"))
        connection.settimeout(ANSWER_SECONDS)
        connection.sendall(b"\n".join([app_id.encode() + b" " + place, *pushed]) + b"\n")
        connection.shutdown(_socket.SHUT_WR)
    except (OSError, IndexError):
        return False
    answered = False
    try:
        while piece := connection.recv(65536):
            answered = piece.endswith(b"\0")
            sys.stdout.buffer.write(piece.removesuffix(b"\0"))
            sys.stdout.buffer.flush()
    except OSError:
        answered = False
    if not answered:
        print("provisioner: the daemon is still at work, or has ended; see 'provisioner status'")  # noqa: T201
    return True


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:
        print(f"provisioner: {error}", file=sys.stderr)  # noqa: T201
