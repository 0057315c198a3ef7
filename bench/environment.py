"""What every result file says of the machine, the versions and the settings that its times were taken with."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import lkops
from lkops import _extension

# recycled memory: without it, half of eager's time at 64 x 64 is the page faults of fresh outputs
RECYCLED = "glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=4294967296"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, cwd=Path(__file__).parent, check=False
        )
    except OSError:  # no git here
        return ""
    return done.stdout.strip()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def environment() -> dict[str, Any]:
    """Commit, versions, CPU, threads and allocator."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        # a run that wrote results is no change of the code
        "clean": not _git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)bench/results"),
        "lkops": lkops.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpu": _cpu(),
        "isa": _extension.cpu_facts().get("isa", "no extension"),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "allocator": "recycled" if os.environ.get("GLIBC_TUNABLES") == RECYCLED else "default",
    }
