"""Runs all cases and writes bench/results/reliability.md: how many of each kind ended how."""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lkcanet.common.files import atomic_path

from . import checkpoints, envi, inputs, options, prepared, runs, scenes
from .runner import CHANGED, FAILED, REFUSED, UNAFFECTED, Case, Outcome, run

RESULTS = Path(__file__).parents[1] / "results" / "reliability.md"
ENDS = (REFUSED, UNAFFECTED, CHANGED, FAILED)


def all_cases() -> list[Case]:
    return [
        *(*scenes.cases(), *envi.cases(), *prepared.cases()),
        *(*checkpoints.cases(), *runs.cases(), *options.cases()),
    ]


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown: a row a kind, a column an end."""
    kinds = Counter((outcome.case.kind, outcome.end) for outcome in outcomes)
    lines = ["| malformed input | cases | refused | succeeded, unaffected | succeeded, value changed | failed |"]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    rows = [(kind, [kinds[kind, end] for end in ENDS]) for kind in dict.fromkeys(o.case.kind for o in outcomes)]
    rows.append(("**all**", [sum(column) for column in zip(*(counts for _, counts in rows), strict=True)]))
    lines += [
        f"| {kind} | {sum(counts)} | " + " | ".join(str(n or "-") for n in counts) + " |" for kind, counts in rows
    ]
    return "\n".join(lines) + "\n"


def report(outcomes: Sequence[Outcome]) -> str:
    slowest = max(outcome.seconds for outcome in outcomes)
    return f"""# Malformed inputs

{len(outcomes)} malformed scenes, checkpoints and options, made with fixed seeds, each given to a command of `lkca` by
`python -m bench.reliability`; `tests/lkcanet/commands/test_reliability.py` runs the same.

- *Refused*: exit code 1 or 2, exactly one line that begins with "error: ", no traceback, nothing on stdout, nothing
  printed by a library, no file written or changed.
- *Succeeded, unaffected*: what was read is identical to what the undamaged input holds.
- *Succeeded, value changed*: a byte was changed in a format that has no checksum there; no reader can notice.
- *Failed*: anything else, or longer than 30 s; the slowest took {slowest:.0f} s.

{table(outcomes)}"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.reliability", description=__doc__)
    parser.add_argument("-k", default="", metavar="TEXT", help="only cases whose kind or name holds TEXT; printed only")
    parser.add_argument("-v", action="store_true", help="print every outcome, not only failures")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        good = folder / "good"
        good.mkdir()
        inputs.write_all(good)
        outcomes = []
        for case in all_cases():
            if args.k not in f"{case.kind}, {case.name}":
                continue
            outcome = run(case, good, folder)
            outcomes.append(outcome)
            if args.v or outcome.end == FAILED:
                print(f"{outcome.end:14} {case.kind}, {case.name}: {outcome.text}", flush=True)
    if not outcomes:
        print(f"error: no case holds {args.k!r}", file=sys.stderr)
        return 2
    print(table(outcomes))
    if not args.k:
        with atomic_path(RESULTS) as temporary:
            temporary.write_text(report(outcomes))
        print(RESULTS)
    return int(any(outcome.end == FAILED for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
