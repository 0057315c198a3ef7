"""`lkca`: hyperspectral super-resolution from the command line."""

import os
import sys
from typing import TYPE_CHECKING

from .common.optional import require

if TYPE_CHECKING:
    from typer import Typer

__all__ = ["build_app", "main"]


def build_app() -> "Typer":
    """The typer application with all commands.

    Raises:
        ModuleNotFoundError: typer or rich is not installed.
    """
    require("rich", extra="io")
    require("typer", extra="io")
    from .commands import app

    return app.build()


def main() -> None:
    """Entry point of `lkca`. Ends the process: 0, 1 after an error, 2 after a usage error, 130 after Ctrl-C."""
    # Threads that wait for each other spin for milliseconds by default: on cores shared with other work, a training
    # step then takes 2 s instead of 0.25 s (measured). Read when torch loads its OpenMP, so before any command.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        build_app()()
    except ModuleNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:  # while modules were loading; commands handle their own
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
