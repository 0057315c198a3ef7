"""What every result file says of the machine, the versions and the settings that its times were taken with."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lkcanet.benchmark import RECYCLED, facts

__all__ = ["RECYCLED", "environment", "said"]


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


def said(facts: Mapping[str, Any]) -> str:
    """These facts in a line, for the head of a table."""
    runtimes = {"openvino": "OpenVINO", "onnxruntime": "onnxruntime", "ncnn": "ncnn"}
    versions = [f"{name} {facts.get(key) or 'not installed'}" for key, name in runtimes.items()]
    commit = str(facts.get("commit"))[:12] + ("" if facts.get("clean", True) else " with changes")
    parts = [
        facts.get("cpu", "a CPU"),
        f"{facts.get('threads')} threads",
        f"instruction set {facts.get('isa')}",
        f"torch {facts.get('torch')}",
        f"Python {facts.get('python')}",
        *versions,
        f"lkops {facts.get('lkops')}",
        f"commit {commit}",
    ]
    return ", ".join(parts)
