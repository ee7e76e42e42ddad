"""Code that is made by a program is what that program makes of its source today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import provisioner

ROOT = Path(provisioner.__file__).parent.parent
SOURCES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("provisioner/**/*.proto"))


def test_the_messages_of_the_wire_are_made_from_their_definitions(tmp_path: Path) -> None:
    assert SOURCES
    options = ["--proto_path=.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, *SOURCES], cwd=ROOT, check=True)
    made = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*_pb2.py*")}
    assert made == {name: (ROOT / name).read_text() for name in made}
    assert len(made) == 2 * len(SOURCES)
