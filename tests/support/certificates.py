"""Certificates for servers that speak TLS."""

from __future__ import annotations

import subprocess
from pathlib import Path


def certificate(directory: Path, *form: str) -> tuple[Path, Path]:
    """A new certificate for this machine, and its key."""
    made, private = directory / "cert.pem", directory / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subject += ["-addext", "basicConstraints=critical,CA:FALSE"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    subprocess.run([*command, *subject, "-keyout", private, "-out", made], check=True, capture_output=True)
    return made, private
