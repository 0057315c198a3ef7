"""`lkca` as the tests call it, in their own process."""

from typing import Any

import pytest

testing = pytest.importorskip("typer.testing", reason="typer is not installed")


def lkca(*args: object) -> Any:
    """The command's `exit_code`, `stdout`, `stderr` and `output`, both together."""
    from lkcanet.cli import build_app

    return testing.CliRunner().invoke(build_app(), [str(arg) for arg in args])


def succeeds(*args: object) -> str:
    """What it prints."""
    result = lkca(*args)
    assert result.exit_code == 0, result.output
    return result.stdout


def fails(*args: object, code: int = 1) -> str:
    """The one line of the error, after notes and warnings; nothing is printed."""
    result = lkca(*args)
    assert result.exit_code == code, result.output
    lines = result.stderr.strip().splitlines()
    assert lines[-1].startswith("error: "), result.stderr
    assert all(line.startswith(("error: ", "note: ", "warning: ")) for line in lines), result.stderr
    assert result.stdout == ""
    return lines[-1]
