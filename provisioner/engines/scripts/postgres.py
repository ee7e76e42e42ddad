"""Run a file of SQL on the database of libpq's variables: ``python -I postgres.py FILE``. It imports no provisioner module."""

import sys

import psycopg


def main(path: str) -> None:
    with open(path, "rb") as file, psycopg.connect() as connection:
        connection.execute(file.read())


if __name__ == "__main__":
    main(*sys.argv[1:])
