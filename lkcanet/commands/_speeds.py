"""Operators beside plain PyTorch, as the commands show them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from lkops.bench import OperatorSpeed


def speed_table(rows: "list[OperatorSpeed]") -> "Table":
    """The rows of `lkops.bench.operator_speeds` as a rich table."""
    import torch
    from rich import box
    from rich.table import Table

    title = f"Operators, float32, CPU, {torch.get_num_threads()} threads, medians; outputs checked first"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("Operator", no_wrap=True)
    compiled = any(row.compiled_milliseconds is not None for row in rows)
    others = ("Eager (ms)", "Compile (ms)", "Than eager", "Than compile") if compiled else ("Eager (ms)", "Faster")
    for heading in ("Input", "Backend", "Time (ms)", *others, "Error"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        shape = "x".join(map(str, row.shape))
        times = [f"{row.milliseconds:.2f}", f"{row.eager_milliseconds:.2f}", f"{row.ratio:.2f}x"]
        if row.compiled_milliseconds is not None:
            times[2:] = [f"{row.compiled_milliseconds:.2f}", times[2], f"{row.compiled_ratio:.2f}x"]
        table.add_row(row.name, shape, row.backend, *times, f"{row.error:.1e}")
    return table
