"""What every result file says of the machine, the versions and the settings that its times were taken with."""

import subprocess
from pathlib import Path
from typing import Any

from lkcanet.benchmark import RECYCLED, facts

__all__ = ["RECYCLED", "environment"]


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, cwd=Path(__file__).parent, check=False
        )
    except OSError:  # no git here
        return ""
    return done.stdout.strip()


def environment() -> dict[str, Any]:
    """Commit, versions, CPU, threads and allocator."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        # a run that wrote results is no change of the code
        "clean": not _git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)bench/results"),
        **facts(),
    }
