"""What a hook starts: it hands a push over to the daemon, or does the daemon's work if none runs.

Run as a file by ``python -E -P -S``, and compiled at every start, so it is short and imports nothing unless it must, not
even ``os``. The rest is in `provisioner.daemon.worker` and `provisioner.daemon.worker_bootstrap`. It never
fails git: it reports every failure, with exit code 0. Installed hooks name this path, so the file never moves.

The protocol with the daemon, over a stream socket whose path is in ``<home>/daemon``: the hook sends the app's id and
its directory, which is the repository, and ``<commit> <branch>`` for each pushed branch, a line each,
and closes its side; the daemon answers with the lines for the pusher, and a NUL at the end.
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
    """Let the daemon do it and print its answer. False if no daemon runs."""
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
        print("provisioner: the daemon is still working, or has ended; see 'provisioner status'")  # noqa: T201
    return True


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:
        print(f"provisioner: {error}", file=sys.stderr)  # noqa: T201
