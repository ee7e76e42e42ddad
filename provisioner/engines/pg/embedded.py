"""A server of the home's own. TODO."""

from __future__ import annotations


def start(directory: str) -> None:
    raise NotImplementedError


def admin_url(directory: str) -> str:
    raise NotImplementedError
