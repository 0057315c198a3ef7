"""Runs some rows of the CPU benchmarks in a process of its own, and writes what it found as JSON.

`bench.cpu.run` starts it: the allocator reads its settings at start, and one problem's threads, memory and failures are
no other's.
"""

import argparse
import gc
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from bench.cpu.limits import measure_limits
from bench.cpu.rows import Row, rows
from bench.environment import environment
from lkcanet.benchmark import measure, peak_memory, ready
from lkcanet.common.files import atomic_path


def _problem(row: Row) -> Any:
    torch.manual_seed(0)
    return row.make()


def times(row: Row, providers: Sequence[str], factor: float) -> dict[str, Any]:
    """Check and time one row."""
    start = time.perf_counter()
    result = measure(_problem(row), row.mode, providers, seconds=factor * row.seconds, least=5 if factor >= 0.5 else 1)
    return {
        "row": row.name,
        "providers": {name: asdict(measured) for name, measured in result.providers.items()},
        "backends": result.backends,
        "seconds": round(time.perf_counter() - start, 1),
    }


def memory(row: Row) -> dict[str, Any]:
    """Peak bytes of one call beyond what is there before, by provider; OpenVINO allocates when it compiles, so it is
    left out."""
    providers = [name for name in row.providers if not name.startswith("openvino")]
    runners = ready(_problem(row), row.mode, providers)[0]
    gc.collect()
    return {"row": row.name, "peak_bytes": {name: peak_memory(runners[name]) for name in list(runners)}}


def main(command: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="", help="names, separated by commas")
    parser.add_argument("--providers", default="", help="only these, separated by commas")
    parser.add_argument("--what", choices=("times", "memory", "limits"), default="times")
    parser.add_argument("--factor", type=float, default=1.0, help="on the seconds of timing")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(command)
    found: Any
    if arguments.what == "limits":
        limits = measure_limits(seconds=0.15 if arguments.factor >= 1 else 0.01)
        found = {"environment": environment(), "limits": limits}
    else:
        chosen = [row for row in rows(tiny=arguments.tiny) if row.name in arguments.rows.split(",")]
        wanted = arguments.providers.split(",") if arguments.providers else None
        found = []
        for row in chosen:
            providers = tuple(name for name in row.providers if wanted is None or name in wanted)
            row = replace(row, providers=providers)
            try:
                found.append(memory(row) if arguments.what == "memory" else times(row, providers, arguments.factor))
            except Exception as error:  # of this row only: eager itself is wrong, or memory is short
                found.append(
                    {"row": row.name, "failed": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
                )
            gc.collect()
    with atomic_path(arguments.out) as temporary:
        temporary.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
