"""`python -m bench.experiments.int8 cave-x4`: what files of bfloat16 and int8 lose on CAVE's validation scenes.

Networks of the package, each scene whole, the runtime's image against PyTorch's in float32. Needs lkedge. Both scenes
are of the 20, on which the last courses of the networks trained: it is the differences that count. Writes
bench/results/int8.json and int8.md; no time is measured.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from bench.cpu.run import RESULTS
from bench.environment import environment, said
from lkcanet.common.files import atomic_path
from lkcanet.data import PreparedSet, Scene, load_prepared
from lkcanet.deploy.edge import export_edge, int8_loss
from lkcanet.models import Network, pretrained

DTYPES = ("bfloat16", "int8")
NETWORKS = ("lkca-net-cave-x4", "lkca-kd-cave-x4", "lkca-res-cave-x4")


def losses(networks: dict[str, Network], scenes: list[Scene]) -> list[dict[str, Any]]:
    """MPSNR (dB) and SAM (degrees) in float32 and what each dtype changes, by network and scene."""
    import lkedge

    rows = []
    for name, network in networks.items():
        folded = network.fold().eval().requires_grad_(False)
        with tempfile.TemporaryDirectory() as folder:
            for dtype in DTYPES:
                file = Path(folder) / f"{dtype}.lkops"
                export_edge(network, file, dtype=dtype, check=False)
                for scene in scenes:
                    loss = int8_loss(lkedge.load(file), folded, scene.tensor()[0])
                    row: dict[str, Any] = {"network": name, "scene": scene.name, "dtype": dtype}
                    row |= {"mpsnr": loss.psnr_float32, "sam": loss.sam_float32}
                    change = {"mpsnr_change": loss.psnr - loss.psnr_float32, "sam_change": loss.sam - loss.sam_float32}
                    rows.append({**row, **change})
    return rows


def markdown(found: dict[str, Any]) -> str:
    """The table, and how it was made."""
    lines = [
        "# What files of bfloat16 and int8 lose",
        "",
        f"{said(found['environment'])}. Written by `python -m bench.experiments.int8`: the runtime's image of a whole "
        "scene against PyTorch's in float32, both against the scene; MPSNR (dB) and SAM (degrees).",
        "",
        "| network | scene | dtype | float32: MPSNR | SAM | MPSNR changes by | SAM by |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for row in found["rows"]:
        figures = f"{row['mpsnr']:.3f} | {row['sam']:.3f} | {row['mpsnr_change']:+.3f} | {row['sam_change']:+.3f}"
        lines.append(f"| {row['network']} | {row['scene']} | {row['dtype']} | {figures} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Parse the command line, and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=Path, help="the folder of `lkca prepare cave`")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    prepared = load_prepared(given.set)
    if not isinstance(prepared, PreparedSet) or not prepared.validation:
        raise SystemExit(f"{given.set} is not a folder of `lkca prepare cave` with validation scenes")
    networks = {name: pretrained.load(name) for name in NETWORKS}
    found = {"environment": environment(), "rows": losses(networks, list(prepared.validation))}
    for file, content in (("int8.json", json.dumps(found, indent=1) + "\n"), ("int8.md", markdown(found))):
        with atomic_path(given.out / file) as temporary:
            temporary.write_text(content)


if __name__ == "__main__":
    main()
