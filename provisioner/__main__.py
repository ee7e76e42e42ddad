"""The command `provisioner`. `exec` and `env` go straight to their work: they must start about as fast as Python itself."""

from __future__ import annotations

import os
import sys


def main() -> None:
    try:
        _main()
    except KeyboardInterrupt:  # before there is a command that could say so
        sys.exit(130)


def _main() -> None:
    if fault := os.environ.get("PROVISIONER_FAULT"):
        from provisioner.system import failpoints

        failpoints.arm(fault)
    if len(sys.argv) > 1 and sys.argv[1] == "exec":
        from provisioner.cli.quick.exec import launch

        launch(sys.argv[2:])
    if len(sys.argv) > 1 and sys.argv[1] == "env":
        from provisioner.cli.quick.env import print_environment

        print_environment(sys.argv[2:])
    if len(sys.argv) > 1 and sys.argv[1] == "__complete":
        from provisioner.cli.completion.answer import answer

        answer(sys.argv[2:])
        return
    from provisioner.cli.main import run

    run()


if __name__ == "__main__":
    main()
