"""`python -m bench.cpu.edge_int8 FIRST.lkops SECOND.lkops`: the time of two files of one network, in turns.

    lkca export net.safetensors bf16.lkops --dtype bfloat16
    lkca export net.safetensors int8.lkops --int8
    python -m bench.cpu.edge_int8 bf16.lkops int8.lkops --size 64,64 --threads 2

On a busy machine the CPU's time of a run says more than the clock's: both are printed, least and median of all turns,
and the ratio of the first file's to the second's.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np


def main(arguments: list[str] | None = None) -> None:
    import lkedge  # installed apart, from edge/

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs=2)
    parser.add_argument("--size", default="64,64", metavar="ROWS,COLUMNS")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=30)
    options = parser.parse_args(arguments)
    rows, columns = map(int, options.size.split(","))
    nets = [lkedge.load(path, threads=options.threads) for path in options.files]
    image = np.random.default_rng(0).random((nets[0].bands, rows, columns), np.float32)
    results = [net(image) for net in nets]
    times: dict[str, list[list[float]]] = {"clock": [[], []], "CPU": [[], []]}
    for _ in range(options.turns):
        for which, net in enumerate(nets):
            clock, cpu = time.perf_counter(), time.process_time()
            net(image, out=results[which])
            times["CPU"][which].append(time.process_time() - cpu)
            times["clock"][which].append(time.perf_counter() - clock)
    for name, both in times.items():
        for what, of in (("least", min), ("median", statistics.median)):
            first, second = (1e3 * of(found) for found in both)
            print(f"{name}, {what}: {first:.2f} ms and {second:.2f} ms, ratio {first / second:.3f}")


if __name__ == "__main__":
    main()
