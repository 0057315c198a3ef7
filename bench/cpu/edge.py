"""`python -m bench.cpu.edge`: the runtime without PyTorch: sizes, start, memory and times, beside other runtimes.

Every provider works in a process of its own, so that threads and memory are no other's; what it makes is compared with
float64 first, a large image with eager float32. Times are medians of calls in turns, memory recycled. Starts are those
of new processes whose files the system has in memory. Writes bench/results/edge.json and edge.md; wants an idle machine
for about five minutes, and longer where the library is not built yet.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from bench.cpu.edge_networks import Given
from bench.cpu.edge_processes import (
    Worker,
    compiled_example,
    fresh_python,
    in_turns,
    installed_bytes,
    library,
    run_example,
    wheel,
)
from bench.cpu.edge_report import markdown
from bench.cpu.run import RESULTS
from bench.environment import RECYCLED, environment
from lkcanet.benchmark import WrongOutput
from lkcanet.benchmark.runtimes import Unavailable
from lkcanet.common.files import atomic_path

PIECES = ("sizes", "start", "memory", "speed")
STARTING = ("lkedge", "torch", "openvino", "openvino cached", "onnxruntime", "ncnn")
HOLDING = ("lkedge", "lkedge bf16", "torch", "openvino", "openvino bf16", "onnxruntime", "ncnn")
TIMED = ("lkedge", "torch", "openvino", "onnxruntime", "ncnn", "lkedge bf16", "torch bf16", "openvino bf16")
INT8 = "lkedge int8"
PROVIDERS = tuple(dict.fromkeys((*STARTING, *HOLDING, *TIMED, INT8)))
SIDES = (16, 64)
# network, bands, side, form: beside LKCA-LR of 128 bands at 64 x 64, which all providers run
OTHERS = (
    ("lkca_net", 128, 64, "lkedge"),
    ("lkca_net", 128, 64, "lkedge bf16"),
    ("lkca_lr", 31, 16, "lkedge"),
    ("lkca_res", 31, 128, "lkedge"),
    ("lkca_lr", 128, 256, "lkedge"),
)
PACKAGES = {"torch": "torch", "openvino": "openvino", "onnxruntime": "onnxruntime", "ncnn": "ncnn"}


class Bench:
    """What the pieces share: the built library, an environment of Python, networks in files, what failed and why."""

    def __init__(self, folder: Path, threads: int, providers: Sequence[str], *, tiny: bool = False) -> None:
        self.folder, self.threads, self.providers, self.tiny = folder, threads, providers, tiny
        self.library = library()
        self.wheel = wheel(folder / "wheel")
        self.python = fresh_python(folder / "python", self.wheel)
        self.reasons: dict[str, str] = {}
        self._given: dict[tuple[str, int, int], Given] = {}

    def given(self, preset: str, bands: int, side: int) -> Given:
        """The network and its image, made once; tiny ones where the whole run is."""
        key = (preset, 5 if self.tiny else bands, max(4, side // 8) if self.tiny else side)
        if key not in self._given:
            self._given[key] = Given(*key, self.folder / "-".join(map(str, key)), tiny=self.tiny)
        return self._given[key]

    def chosen(self, names: Sequence[str]) -> list[str]:
        """Those of these providers that were asked for."""
        return [name for name in names if name in self.providers]

    def worker(self, provider: str, given: Given, tunables: str | None = None, *, check: bool = True) -> Worker | None:
        """A process whose first image is right; None where there is no such, and why in `reasons`."""
        try:
            own = Worker(self.python, provider, given.file(provider), given.lowres_file, self.threads, tunables)
            if check:
                try:
                    given.check(provider, own.image)
                except WrongOutput:
                    own.close()
                    raise
        except (Unavailable, RuntimeError) as error:  # a provider that fails costs no other its figures
            self.reasons[f"{provider}, {given.bands} bands, {given.side} x {given.side}"] = str(error)
            return None
        return own


def sizes(bench: Bench) -> dict[str, Any]:
    """Bytes of the libraries and of the wheel, and of other packages as they are installed."""
    found = {
        "library, all instruction sets": bench.library.stat().st_size,
        "library, portable alone": library("portable").stat().st_size,
        "wheel": bench.wheel.stat().st_size,
    }
    packages = {"lkedge": installed_bytes(next(bench.folder.glob("python/lib/python*/site-packages/lkedge")))}
    for name, package in PACKAGES.items():
        try:
            files = metadata.distribution(package).files or []
        except metadata.PackageNotFoundError:
            continue
        paths = [Path(str(file.locate())) for file in files]
        packages[name] = sum(path.stat().st_size for path in paths if path.is_file())
    return {"bytes": found, "installed": packages}


def start(bench: Bench, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds from the start of a process to its first image, LKCA-LR of 31 bands at 16 x 16: medians."""
    given = bench.given("lkca_lr", 31, 16)
    program = compiled_example(bench.folder, bench.library)
    names = bench.chosen(STARTING)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in (*names, "lkedge in C")}
    for i in range(rounds + 1):  # the first brings the files into memory
        for name in names:
            if i > 0 and not found[name]:  # it failed
                continue
            if (own := bench.worker(name, given, check=i == 0)) is None:
                continue
            own.close()
            marks = own.marks
            places = ("started", "begun", "numpy", "imported", "loaded", "first")
            taken = {b: 1e3 * (marks[b] - marks[a]) for a, b in pairwise(places)}
            of_package = {key: marks[key] for key in ("library bytes", "imported bytes")}
            found[name].append({**taken, "total": 1e3 * (marks["first"] - marks["started"]), **of_package})
        lowres = given.lowres[0].numpy()
        seconds, _, image = run_example(program, given.file("lkedge"), lowres, bench.folder, bench.threads)
        if i == 0:
            given.check("lkedge in C", image)
        found["lkedge in C"].append({"total": 1e3 * seconds, "library bytes": bench.library.stat().st_size})
    return [
        {"provider": name, **{key: statistics.median(each[key] for each in runs[1:] or runs) for key in runs[0]}}
        for name, runs in found.items()
        if runs
    ]


def memory(bench: Bench) -> list[dict[str, Any]]:
    """Resident bytes at the peak without image and result: of all providers for LKCA-LR of 128 bands at 64 x 64, of the
    runtime for others."""
    rows = []
    for preset, bands, side, name in [*(("lkca_lr", 128, 64, name) for name in HOLDING), *OTHERS]:
        if name not in bench.providers:
            continue
        given = bench.given(preset, bands, side)
        if (own := bench.worker(name, given)) is None:
            continue
        own.close()
        row: dict[str, Any] = {"network": preset, "bands": bands, "side": side, "provider": name}
        row |= {"bytes": own.marks["peak bytes"] - given.bytes, "imported": own.marks["imported bytes"]}
        if name.startswith("lkedge"):
            row |= _stated(bench, given, name)
        rows.append(row)
    given = bench.given("lkca_lr", 128, 64)
    program = compiled_example(bench.folder, bench.library)
    lowres = given.lowres[0].numpy()
    _, peak, image = run_example(program, given.file("lkedge"), lowres, bench.folder, bench.threads)
    given.check("lkedge in C", image)
    row = {"network": "lkca_lr", "bands": 128, "side": 64, "provider": "lkedge in C", "bytes": peak - given.bytes}
    return [*rows, {**row, "imported": None, **_stated(bench, given, "lkedge")}]


def _stated(bench: Bench, given: Given, provider: str) -> dict[str, int]:
    """What `lkedge info` says beforehand."""
    options = ["--json", "--size", f"{given.side},{given.side}", "--threads", str(bench.threads)]
    command = [str(bench.python), "-m", "lkedge.cli", "info", given.file(provider), *options]
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    said = json.loads(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout)
    return {"file": said["file_bytes"], "weights": said["weight_bytes"], "workspace": said["workspace_bytes"]}


def speed(bench: Bench, side: int, seconds: float) -> dict[str, Any]:
    """Milliseconds of LKCA-LR of 128 bands at one size by provider, medians of calls in turns."""
    given = bench.given("lkca_lr", 128, side)
    workers: dict[str, Worker] = {}
    try:
        for name in bench.chosen((*TIMED, INT8) if side == max(SIDES) else TIMED):
            if (own := bench.worker(name, given, RECYCLED)) is not None:
                workers[name] = own
        times = in_turns(workers, seconds)
    finally:
        for own in workers.values():
            own.close()
    ms = {name: 1e3 * statistics.median(taken) for name, taken in times.items()}
    return {"side": side, "milliseconds": ms, "calls": {name: len(taken) for name, taken in times.items()}}


def run(
    pieces: Sequence[str], *, seconds: float, rounds: int, threads: int, providers: Sequence[str], tiny: bool = False
) -> dict[str, Any]:
    """All that edge.json holds, or some pieces of it."""
    torch.set_num_threads(threads)
    found: dict[str, Any] = {"load": os.getloadavg()[0], "environment": environment(), "tiny": tiny}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), threads, providers, tiny=tiny)
        steps: Mapping[str, Any] = {
            "sizes": lambda: sizes(bench),
            "start": lambda: start(bench, rounds),
            "memory": lambda: memory(bench),
            "speed": lambda: [speed(bench, side, seconds) for side in SIDES],
        }
        for piece in pieces:
            found[piece] = steps[piece]()
            print(f"{piece}: {json.dumps(found[piece])}", flush=True)
        return {**found, "reasons": bench.reasons}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PIECES), help="pieces, separated by commas; writes only with --out")
    parser.add_argument("--providers", default=",".join(PROVIDERS), help="only these, separated by commas")
    parser.add_argument("--seconds", type=float, default=30.0, help="of timing a size")
    parser.add_argument("--rounds", type=int, default=5, help="starts of every process")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="small networks and images: to see that it runs")
    parser.add_argument("--out", type=Path, help="folder of the results; bench/results for a whole run")
    arguments = parser.parse_args()
    pieces = [piece.strip() for piece in arguments.only.split(",")]
    if unknown := set(pieces) - set(PIECES):
        parser.error(f"--only names {min(unknown)!r}; expected some of {', '.join(PIECES)}")
    providers = [name.strip() for name in arguments.providers.split(",")]
    if unknown := set(providers) - set(PROVIDERS):
        parser.error(f"--providers names {min(unknown)!r}; expected some of {', '.join(PROVIDERS)}")
    if arguments.threads < 1 or arguments.rounds < 1:
        parser.error("--threads and --rounds must be 1 or more")
    whole = pieces == list(PIECES) and providers == list(PROVIDERS) and not arguments.tiny
    out: Path | None = arguments.out or (RESULTS if whole else None)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)  # before minutes of measuring, not after
    options = {name: getattr(arguments, name) for name in ("seconds", "rounds", "threads", "tiny")}
    found = run(pieces, providers=providers, **options)
    text = markdown(found)
    print(text)
    if out is None:
        print("Nothing was written: this was a part of it (--out FOLDER writes it).")
        return
    for file, content in (("edge.json", json.dumps(found, indent=1) + "\n"), ("edge.md", text)):
        with atomic_path(out / file) as temporary:
            temporary.write_text(content)


if __name__ == "__main__":
    main()
