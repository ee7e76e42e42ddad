"""Run a file of SQL on a database: ``python -I script.py DATABASE FILE``. It imports no provisioner module."""

import contextlib
import sqlite3
import sys


def main(database: str, path: str) -> None:
    with open(path, encoding="utf-8") as file, contextlib.closing(sqlite3.connect(database)) as connection:
        connection.executescript(file.read())
        connection.commit()


if __name__ == "__main__":
    main(*sys.argv[1:])
