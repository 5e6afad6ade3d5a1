"""The program `posa`: first sees to it that Python imports our code and speaks UTF-8, then runs the command."""

from __future__ import annotations

from posa_vla.interpreter import begin


def start() -> None:
    """Runs `posa` and exits."""
    begin()
    from posa_vla.cli.main import main  # only now: it imports much

    main()


if __name__ == "__main__":
    start()
