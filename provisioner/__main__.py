"""The command `provisioner`. `exec` goes straight to its work: it must start about as fast as Python itself."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        _main()
    except KeyboardInterrupt:  # before there is a command that could say so
        sys.exit(130)


def _main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] == "exec":
        from provisioner.cli.exec import launch

        launch(sys.argv[2:])
    if len(sys.argv) > 1 and sys.argv[1] == "__complete":
        from provisioner.cli.completion.answer import answer

        answer(sys.argv[2:])
        return
    from provisioner.cli.main import run

    run()


if __name__ == "__main__":
    main()
