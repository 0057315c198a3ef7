"""The command `lkedge`."""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from . import __version__, scenes
from .network import instruction_set, load


def _run(options: argparse.Namespace) -> None:
    net = load(options.network, threads=options.threads)
    out = options.out
    if there := [path for path in scenes.files_of(out) if path.exists() and not options.overwrite]:
        raise FileExistsError(f"{there[0]} exists: choose another name or --overwrite")
    job = scenes.prepare(net, options.scene, peak=options.peak, strip_rows=options.strip_rows)
    available = scenes.available_memory()
    known = "" if available is None else f", {_megabytes(available)} are available"
    print(f"note: {out.name} takes {_megabytes(job.memory)} of memory{known}", file=sys.stderr, flush=True)
    most = options.memory * 1e6 if options.memory is not None else None if options.force else available
    if most is not None and job.memory > most:
        way = "--force" if options.memory is None else "a larger --memory"
        raise MemoryError(f"{_megabytes(job.memory)} are more than {_megabytes(most)}: a smaller scene, or {way}")
    start = time.perf_counter()
    scenes.run(net, job, out)
    bands, rows, columns = job.pixels.shape
    seconds = time.perf_counter() - start
    print(f"{out}: {bands} bands, {rows * net.scale} x {columns * net.scale} pixels, {seconds:.2f} s")


def _info(options: argparse.Namespace) -> None:
    net = load(options.network, threads=options.threads)
    memory = net.memory(*options.size)
    facts = {
        "bands": net.bands, "scale": net.scale, "dtype": net.dtype, "operators": net.operators,
        "parameters": net.parameters, "file_bytes": net.file_bytes, "instruction_set": instruction_set(),
        "size": options.size, "workspace_bytes": memory.workspace, "weight_bytes": memory.weights,
        "metadata": net.metadata,
    }  # fmt: skip
    if options.json:
        print(json.dumps(facts))
        return
    kind, rows, columns = net.metadata.get("kind", "network"), *options.size
    print(f"{options.network}: {kind}, {net.bands} bands, x{net.scale}, {net.parameters / 1e6:.3f} M parameters")
    print(f"{net.dtype}, {net.operators} operators, {_megabytes(net.file_bytes)}, runs with {instruction_set()}")
    print(
        f"{rows} x {columns} pixels on {net.threads} threads: {_megabytes(memory.workspace)} of workspace, "
        f"{_megabytes(memory.weights)} of packed weights"
    )
    for name in ("peak", "config"):
        if name in net.metadata:
            print(f"{name}: {json.dumps(net.metadata[name])}")


def _bench(options: argparse.Namespace) -> None:
    net = load(options.network, threads=options.threads)
    image = np.random.default_rng(0).random((net.bands, *options.size), np.float32)
    out = net(image)
    seconds = []
    for _ in range(options.repeat):
        start = time.perf_counter()
        net(image, out=out)
        seconds.append(time.perf_counter() - start)
    rows, columns = options.size
    print(
        f"{net.bands} x {rows} x {columns}, {net.threads} threads, {instruction_set()}: median "
        f"{1e3 * statistics.median(seconds):.3f} ms, least {1e3 * min(seconds):.3f} ms of {options.repeat}"
    )


def _megabytes(count: float) -> str:
    return f"{count / 1e6:.1f} MB"


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more, got {text!r}")
    return int(text)


def _size(text: str) -> list[int]:
    sides = text.replace("x", ",").split(",")
    if len(sides) != 2:
        raise argparse.ArgumentTypeError(f"must be two whole numbers such as 64,64; got {text!r}")
    return [_positive(side.strip()) for side in sides]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lkedge", description="Super-resolution networks without PyTorch.")
    parser.add_argument("--version", action="version", version=f"lkedge {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name, call, text):
        made = commands.add_parser(name, help=text, description=text)
        made.add_argument("network", type=Path, metavar="NET", help="A file of `lkca export`: .lkops.")
        made.add_argument("--threads", type=_positive, help="Of a run; default: the CPUs that there are.")
        made.set_defaults(call=call)
        return made

    run = command("run", _run, "Enlarge a low-resolution scene, in strips, and say before what memory it takes.")
    run.add_argument("scene", type=Path, metavar="SCENE", help="An .npy (bands, rows, columns), or an ENVI file.")
    run.add_argument("out", type=Path, metavar="OUT", help="The result, float32: .npy, or .hdr with an .img.")
    run.add_argument("--peak", type=float, help="Divide by it; default: floating pixels as they are, others by NET's.")
    run.add_argument("--strip-rows", type=_positive, help="Low-resolution rows of a strip; default: 16 MB of result.")
    run.add_argument("--memory", type=float, metavar="MB", help="Refuse a scene that takes more.")
    run.add_argument("--overwrite", action="store_true", help="Replace a result that exists.")
    run.add_argument("--force", action="store_true", help="Start even where less memory is available.")
    info = command("info", _info, "What a network is, and the memory that it takes.")
    info.add_argument("--json", action="store_true", help="As one JSON object.")
    bench = command("bench", _bench, "Time a network on random pixels.")
    bench.add_argument("--repeat", type=_positive, default=20, help="Runs; default: 20.")
    for made in (info, bench):
        made.add_argument("--size", type=_size, default=[64, 64], metavar="ROWS,COLUMNS", help="Default: 64,64.")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.call(options)
    except (ValueError, TypeError, OSError, MemoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
