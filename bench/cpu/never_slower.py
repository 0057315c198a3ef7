"""`python -m bench.cpu.never_slower`: on rows that span sizes, bands, scales and groups nothing may be slower than
eager.

Reads bench/results/cpu.json; ends with 1 where a row is slower or was not measured.
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cpu.rows import EAGER

RESULTS = Path(__file__).parents[1] / "results" / "cpu.json"


@dataclass(frozen=True)
class Verdict:
    """One row: its ratio of eager, in the faster memory format, to lkops; None where one of them has no time, and
    why."""

    row: str
    title: str
    eager: float | None
    ours: float | None
    reason: str = ""

    @property
    def ratio(self) -> float | None:
        return self.eager / self.ours if self.eager and self.ours else None

    @property
    def holds(self) -> bool:
        return self.ratio is not None and self.ratio >= 1


def verdicts(rows: Iterable[Mapping[str, Any]]) -> list[Verdict]:
    """Of the rows of kind "span" among a run's."""
    found = []
    for row in rows:
        if row["kind"] != "span":
            continue
        providers = row.get("providers", {})
        eager = [providers[name]["milliseconds"] for name in EAGER if name in providers]
        ours = providers.get("lkops", {})
        reason = row.get("failed") or ours.get("reason") or ""
        best = min((ms for ms in eager if ms), default=None)
        found.append(Verdict(row["row"], row["title"], best, ours.get("milliseconds"), reason))
    return found


def markdown(rows: Iterable[Mapping[str, Any]]) -> str:
    """A table, and the verdict in a line; empty without such rows."""
    found = verdicts(rows)
    if not found:
        return ""
    lines = ["| what | eager (ms) | lkops (ms) | ratio | |", "|---|---:|---:|---:|---|"]
    for row in found:
        times = [f"{ms:.2f}" if ms else "-" for ms in (row.eager, row.ours)]
        ratio = f"{row.ratio:.2f}x" if row.ratio else "-"
        said = "holds" if row.holds else "SLOWER" if row.ratio else f"NOT MEASURED: {row.reason}".replace("|", "\\|")
        lines.append(f"| {row.title} | {times[0]} | {times[1]} | {ratio} | {said} |")
    slower = [row.title for row in found if not row.holds]
    said = f"{len(found) - len(slower)} of {len(found)} rows are not slower than eager."
    return "\n".join([*lines, "", said, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    rows = json.loads(parser.parse_args().results.read_text())[0]["rows"]
    print(markdown(rows) or "no such rows in this file")
    if not (found := verdicts(rows)) or not all(row.holds for row in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
