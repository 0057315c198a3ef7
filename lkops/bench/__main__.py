"""`python -m lkops.bench`: the operators at your sizes, against eager PyTorch and torch.compile."""

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import torch

import lkops

from . import Sizes, operator_speeds
from .report import plot, table


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, time, print. 0, or 1 where something was refused or wrong."""
    parser = argparse.ArgumentParser(prog="python -m lkops.bench", description=__doc__)
    parser.add_argument("operators", nargs="*", help=f"of {', '.join(lkops.backends.operators())}; default: all")
    default = Sizes()
    for name, text in {
        "batch": "images", "channels": "of the features", "bands": "of the image", "rows": "low-resolution pixels",
        "columns": "low-resolution pixels", "scale": "times larger", "groups": "of the upsampler",
    }.items():  # fmt: skip
        told = f"{text}; default: {getattr(default, name)}"
        parser.add_argument(f"--{name}", type=int, default=getattr(default, name), help=told)
    parser.add_argument("--compile", action="store_true", help="torch.compile, too: it compiles for a while")
    parser.add_argument("--seconds", type=float, default=1.5, help="of timing for each operator; default: 1.5")
    parser.add_argument("--threads", type=int, help="of torch; default: torch's choice")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file, too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them (.png, .svg, .pdf); needs matplotlib")
    given = parser.parse_args(arguments)
    try:
        for file in (given.json, given.plot):
            if file is not None and not file.parent.is_dir():
                raise FileNotFoundError(f"{file}: the folder {file.parent} does not exist")
        if not 0 < given.seconds < float("inf"):
            raise ValueError(f"--seconds must be above 0 and finite, got {given.seconds}")
        if given.threads is not None:
            torch.set_num_threads(given.threads)
        sizes = Sizes(**{name: getattr(given, name) for name in vars(default)})
        names = given.operators or None
        rows = []
        for row in operator_speeds(names, sizes=sizes, compiled=given.compile, seconds=given.seconds):
            print(f"{row.name}: {row.ratio:.2f}x", file=sys.stderr)
            rows.append(row)
        print(f"float32, CPU, {torch.get_num_threads()} threads, medians; every output was compared with float64 first")
        print(table(rows))
        if given.json is not None:
            temporary = given.json.with_name(f"{given.json.name}.{os.getpid()}")
            temporary.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
            temporary.replace(given.json)
        if given.plot is not None:
            plot(rows, given.plot)
    except (ValueError, RuntimeError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
