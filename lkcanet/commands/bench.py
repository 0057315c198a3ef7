"""`lkca bench`."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from . import _shared as shared
from ._speeds import speed_table

if TYPE_CHECKING:
    from rich.table import Table

    from lkcanet.benchmark.providers import Mode


def bench(
    bands: Annotated[int, typer.Option(help="Bands of the image.")] = 128,
    size: Annotated[
        str, typer.Option(metavar="ROWS,COLUMNS", help="Low-resolution pixels; one number: square.")
    ] = "64",
    scale: Annotated[int, typer.Option(help="Times larger in both directions.")] = 4,
    batch: Annotated[int, typer.Option(help="Images of a forward.")] = 1,
    train_batch: Annotated[int, typer.Option(help="Patches of a training step.")] = 16,
    train_size: Annotated[
        str, typer.Option(metavar="ROWS,COLUMNS", help="Low-resolution pixels of a training patch.")
    ] = "16",
    network: Annotated[
        shared.NetworkName, typer.Option(help="The paper's LKCA-LR (8 groups) or LKCA-Net (1).")
    ] = "lkca_lr",
    groups: Annotated[int | None, typer.Option(help="Of the upsampler; default: the network's.")] = None,
    channels: Annotated[int, typer.Option(help="Width of the features.")] = 128,
    blocks: Annotated[int, typer.Option(help="Large-kernel blocks.")] = 16,
    backend: Annotated[str | None, typer.Option(help="Of lkops: reference or cpu; default: the automatic one.")] = None,
    what: Annotated[Literal["both", "forward", "training"], typer.Option(help="What to time.")] = "both",
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile, too; compiles for a minute.")] = False,
    openvino: Annotated[bool, typer.Option("--openvino", help="OpenVINO, too, for the forward.")] = False,
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="lkops under autocast to bfloat16, too.")] = False,
    operators: Annotated[bool, typer.Option("--operators", help="Every operator at this shape, too.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the operators (.png, .svg, .pdf); with --operators.")] = None,
    seconds: Annotated[float, typer.Option(help="Of timing, for the forward and for the training step.")] = 40,
    out: Annotated[
        Path | None, typer.Option(show_default="not written", help="Write the result as JSON to this file.")
    ] = None,
    threads: shared.Threads = None,
    json: shared.Json = False,
) -> None:
    """Time the network for your own shape: lkops against eager PyTorch and others. About two minutes.

    Outputs and gradients are compared with a float64 reference first (large ones with eager float32); what is wrong is
    not timed. A training step is forward, H loss, backward and Adam. Exit code 1 if lkops has no time.

    Example: lkca bench --bands 102 --size 128,96 --scale 8 --compile --out bench.json
    """
    import torch

    import lkops
    from lkcanet import models
    from lkcanet.benchmark import CHANNELS_LAST, RECYCLED, facts
    from lkcanet.benchmark.report import network_report
    from lkops.bench import Sizes, operator_speeds
    from lkops.bench.report import plot as draw

    shared.set_threads(threads)
    if out is not None and not out.parent.is_dir():
        raise FileNotFoundError(f"{out}: the folder {out.parent} does not exist")
    if plot is not None:
        shared.check_output(plot, shared.FIGURES)
        if not operators:
            raise ValueError("--plot draws the operators: give --operators, too")
    if not 0 < seconds < float("inf"):
        raise ValueError(f"--seconds must be above 0 and finite, got {seconds}")
    extra = {"compile": compiled, "openvino": openvino, "openvino bf16": openvino, "lkops bf16": bfloat16}
    wanted = ["eager", CHANNELS_LAST, "lkops", *(name for name, chosen in extra.items() if chosen)]
    options: dict[str, Any] = {
        "channels": channels,
        "blocks": blocks,
        **({} if groups is None else {"upsample_groups": groups}),
    }
    sizes: dict[Mode, tuple[int, int, int]] = {
        "forward": (batch, *_size(size, "--size")),
        "training": (train_batch, *_size(train_size, "--train-size")),
    }
    for option, (n, height, width) in zip(("batch", "train-batch"), sizes.values(), strict=True):
        if min(n, height, width) < 1:
            raise ValueError(f"--{option} and its size must be 1 or more, got {n} of {height},{width}")
        if (values := n * bands * height * width * scale**2) > 2**38:
            raise ValueError(f"--{option} {n} of {height},{width} makes {values:.2g} values: more than a terabyte")
    if backend is not None:
        with lkops.backend(*backend.split(",")):
            pass  # a name that is none of them is said now, and not after a minute; so is a network that can't be
    with torch.device("meta"):
        getattr(models, network)(bands, scale, **options)
    height, width = sizes["forward"][1:]
    upsampler = groups or (8 if network == "lkca_lr" else 1)
    at = {"batch": batch, "channels": channels, "bands": bands, "rows": height, "columns": width, "scale": scale}
    shape = Sizes(**at, groups=upsampler) if operators else None
    if facts()["allocator"] != "recycled":
        shared.note("note: with the default allocator much of a time may be page faults; to keep memory, set")
        shared.note(f"note: GLIBC_TUNABLES={RECYCLED}")
    report = network_report(
        bands,
        {mode: shape for mode, shape in sizes.items() if what in ("both", mode)},
        scale,
        network=network,
        providers=wanted,
        backend=backend,
        seconds=seconds,
        progress=shared.note,
        **options,
    )
    modes = report["modes"]
    speeds = list(operator_speeds(sizes=shape, compiled=compiled, seconds=min(seconds, 1.5))) if operators else []
    report |= {"operators": [asdict(row) for row in speeds]} if operators else {}
    if plot is not None:
        draw(speeds, plot)
    if out is not None:
        shared.write_json(out, report)
    if json:
        shared.print_json(report)
    else:
        for mode in modes:
            shared.print_table(bench_table(report, mode))
        if operators:
            shared.print_table(speed_table(speeds))
    for mode, found in modes.items():
        if reason := found["providers"]["lkops"]["reason"]:
            shared.note(f"WARNING: {mode}: lkops was not timed: {reason}")
            raise typer.Exit(1)


def _size(text: str, option: str) -> tuple[int, int]:
    if re.fullmatch(r"\s*\d+\s*", text):
        return int(text), int(text)
    return shared.parse_pair(text, option)


def bench_table(report: Mapping[str, Any], mode: str) -> "Table":
    """One mode of a benchmark as a rich table."""
    from rich import box
    from rich.table import Table

    result = report["modes"][mode]
    name = {"lkca_lr": "LKCA-LR", "lkca_net": "LKCA-Net"}[report["network"]]
    shape = "x".join(map(str, result["shape"]))
    used = ", ".join(f"{operator}: {backend}" for operator, backend in result["backends"].items())
    title = (
        f"{name} x{report['scale']}, {'training step' if mode == 'training' else mode}, {shape}, "
        f"{report['threads']} threads, {report['allocator']} memory; medians, results checked first\n"
        f"lkops runs {used or 'nothing'}"
    )
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("Provider", no_wrap=True)
    for heading in ("Time (ms)", "Least (ms)", "Calls", "Time / lkops'"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    own = result["providers"]["lkops"]["milliseconds"]
    for provider, measured in result["providers"].items():
        if (ms := measured["milliseconds"]) is None:
            table.add_row(provider, "-", "-", "-", "-", measured["reason"])
            continue
        faster = f"{ms / own:.2f}" if own else "-"
        table.add_row(provider, f"{ms:.2f}", f"{measured['least']:.2f}", str(measured["samples"]), faster, "")
    return table
