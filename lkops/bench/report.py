"""What was measured, as a table of text, and as a picture of bars."""

from collections.abc import Sequence
from pathlib import Path

import torch

from . import OperatorSpeed

__all__ = ["plot", "table"]


def table(rows: Sequence[OperatorSpeed]) -> str:
    """A line an operator: times in milliseconds, and how many times as fast as the others lkops is."""
    compiled = any(row.compiled_milliseconds is not None for row in rows)
    head = ["operator", "input", "backend", "lkops (ms)", "eager (ms)", *(["compile (ms)"] if compiled else [])]
    head += ["against eager", *(["against compile"] if compiled else []), "error"]
    lines = [head]
    for row in rows:
        cells = [row.name, "x".join(map(str, row.shape)), row.backend]
        cells += [f"{row.milliseconds:.3f}", f"{row.eager_milliseconds:.3f}"]
        if row.compiled_milliseconds is not None:
            cells.append(f"{row.compiled_milliseconds:.3f}")
        cells.append(f"{row.ratio:.2f}x")
        if row.compiled_ratio is not None:
            cells.append(f"{row.compiled_ratio:.2f}x")
        lines.append([*cells, f"{row.error:.1e}"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    left = ("operator", "input", "backend")
    return "\n".join(
        "  ".join(
            cell.ljust(width) if name in left else cell.rjust(width)
            for cell, width, name in zip(line, widths, head, strict=True)
        ).rstrip()
        for line in lines
    )


def plot(rows: Sequence[OperatorSpeed], file: Path) -> None:
    """Bars of how many times as fast as eager PyTorch, and as torch.compile where it was timed, lkops is.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        OSError, ValueError: the file can't be written, or its ending names no format.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("a plot needs matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(8, 1 + 0.45 * len(rows)), layout="constrained")
    axis = figure.subplots()
    ratios: dict[str, list[float | None]] = {"eager PyTorch": [row.ratio for row in rows]}
    ratios["torch.compile"] = [row.compiled_ratio for row in rows]
    drawn = {name: [value or 0.0 for value in values] for name, values in ratios.items() if any(values)}
    height = 0.8 / max(1, len(drawn))
    for i, ((name, values), colour) in enumerate(zip(drawn.items(), ("#0072b2", "#e69f00"), strict=False)):
        places = [place + (i - (len(drawn) - 1) / 2) * height for place in range(len(rows))]
        bars = axis.barh(places, values, height, label=name, color=colour)
        axis.bar_label(bars, [f"{value:.1f}x" for value in values], padding=3, fontsize=8)
    axis.set_yticks(range(len(rows)), [f"{row.name}\n{'x'.join(map(str, row.shape))}" for row in rows], fontsize=8)
    axis.invert_yaxis()
    axis.axvline(1, color="#888888", linewidth=1, linestyle="--")
    axis.set_xlabel(f"Times as fast, float32, {torch.get_num_threads()} threads")
    axis.spines[["top", "right"]].set_visible(False)
    if drawn:
        axis.legend(frameon=False, loc="lower right")
    figure.savefig(file)
