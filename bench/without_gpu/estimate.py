"""`python -m bench.without_gpu.estimate`: what the rows of the GPU gate move, multiply and launch, at an H100's
datasheet rates.

An estimate, not a measurement: bench/results/gpu_estimate.json and .md. Traffic is counted on meta tensors
(`bench.without_gpu.traffic`), of lkops as it would run on a GPU and of eager PyTorch op by op; the least that
anyone must move and the products come from formulas (`bench.without_gpu.work`).
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import lkops.nn
from bench.cpu.run import RESULTS
from bench.gpu.rows import Case, rows, step
from bench.launchers import precision
from bench.without_gpu.traffic import Traffic, count
from bench.without_gpu.work import H100
from lkcanet.common.files import atomic_path


class _Half(nn.Module):
    """A module whose float32 parameters are cast in each call, as autocast does it, without its cache."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *activations: Tensor) -> Any:
        cast = {name: parameter.to(torch.bfloat16) for name, parameter in self.module.named_parameters()}
        return torch.func.functional_call(self.module, cast, activations)


def _count(module: nn.Module, case: Case, activations: tuple[Tensor, ...]) -> Traffic:
    run = step(module, case, activations)
    count(run)  # makes what later calls find: gradients of the outputs, the optimiser's state
    return count(run)


def _milliseconds(seconds: float) -> float:
    return float(f"{1e3 * seconds:.4g}")


@precision("float32")
def estimate() -> dict[str, Any]:
    """The figures of all rows, and the launches of a block; tf32 is off, as in the gate."""
    results = []
    for row in rows():
        for half in (False, True):
            case = row.make("meta", half)
            dtype = torch.bfloat16 if half else torch.float32
            mixed = row.name == "upsample_add"  # a float32 image beside features in bfloat16, as under autocast
            activations = tuple(
                t if mixed else t.detach().to(dtype).requires_grad_(t.requires_grad) for t in case.draw()
            )
            both = {}
            for name, module in (("lkops", case.ours), ("eager", case.plain)):
                both[name] = _count(_Half(module) if half else module, case, activations)
            moved, products = H100.seconds(case.work, "bfloat16" if half else "float32")
            results.append(
                {
                    "row": row.name,
                    "title": row.title,
                    "dtype": "bfloat16" if half else "float32",
                    "least_bytes": case.work.bytes,
                    "matrix_products": case.work.matrix,
                    "vector_products": case.work.vector,
                    "least_bytes_ms": _milliseconds(moved),
                    "products_ms": _milliseconds(products),
                    "products_tf32_ms": None if half else _milliseconds(H100.seconds(case.work, "tf32")[1]),
                    **{
                        name: {
                            "bytes": traffic.bytes,
                            "bytes_ms": _milliseconds(traffic.bytes / H100.bandwidth),
                            "triton_launches": sum(traffic.kernels.values()),
                            "torch_ops": sum(traffic.ops.values()),
                        }
                        for name, traffic in both.items()
                    },
                }
            )
    return {
        "what": "estimate, not measured",
        "torch": torch.__version__.partition("+")[0],
        "rates": {"bandwidth": H100.bandwidth, **H100.operations},
        "rows": results,
        "block": block_launches(),
    }


def block_launches(channels: int = 128, side: int = 16) -> dict[str, dict[str, Any]]:
    """Launches of one block at batch 1: inference, and forward and backward as in training; by Triton kernel, and
    torch's ops beside them (each at least one launch)."""
    with torch.device("meta"):
        block, x = lkops.nn.LKBlock(channels), torch.rand(1, channels, side, side)

    def inference() -> None:
        with torch.inference_mode():
            block(x)

    kept: list[Tensor] = []
    grad = torch.empty_like(x)
    counted = {
        "inference": count(inference),
        "forward": count(lambda: kept.append(block(x))),
        "backward": count(lambda: torch.autograd.grad(kept[0], list(block.parameters()), grad)),
    }
    return {
        name: {
            "launches": traffic.launches,
            "triton": dict(sorted(traffic.kernels.items())),
            "torch": dict(sorted(traffic.ops.items())),
        }
        for name, traffic in counted.items()
    }


def markdown(result: dict[str, Any]) -> str:
    """The report."""
    lines = [
        "**Estimate, not measured**: counted on tensors that hold nothing, at an H100 SXM's datasheet rates "
        "(3.35 TB/s; dense 67 TFLOP/s float32, 494.7 tf32, 989.4 bfloat16). Written by "
        "`python -m bench.without_gpu.estimate`.",
        "",
        "Least: what anyone must move (each pass reads its inputs and writes its results once) and multiply. lkops and "
        "eager: every tensor of every launch once, whether or not it is still in the cache (an H100's holds 50 MB: a "
        "row whose tensors fit is bound by launches or products, not by these bytes). Launches: Triton kernels + "
        "torch's ops. bfloat16: activations, but for the image of upsample_add; parameters are float32 and cast in "
        "each call, as under autocast without its cache, whose other casts are left out. Operators without a Triton "
        "kernel run on their references here, as they would on a GPU.",
        "",
        "| row | dtype | least (MB) | at 3.35 TB/s (ms) | products (G) | at peak (ms) | lkops (MB) | (ms) | launches "
        "| eager (MB) | (ms) | launches | bytes, eager / lkops |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in result["rows"]:
        ours, eager = row["lkops"], row["eager"]
        none_yet = "" if ours["triton_launches"] else ", no Triton kernel yet"
        tf32 = "" if row["products_tf32_ms"] is None else f" (tf32 {row['products_tf32_ms']:g})"
        cells = [
            row["title"],
            row["dtype"],
            f"{row['least_bytes'] / 1e6:.1f}",
            f"{row['least_bytes_ms']:g}",
            f"{(row['matrix_products'] + row['vector_products']) / 1e9:.2f}",
            f"{row['products_ms']:g}{tf32}",
            f"{ours['bytes'] / 1e6:.1f}",
            f"{ours['bytes_ms']:g}",
            f"{ours['triton_launches']} + {ours['torch_ops']}{none_yet}",
            f"{eager['bytes'] / 1e6:.1f}",
            f"{eager['bytes_ms']:g}",
            f"{eager['torch_ops']}",
            f"{eager['bytes'] / ours['bytes']:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Launches of one block (128 channels) at batch 1 of 16x16:", ""]
    for name, part in result["block"].items():
        kernels = ", ".join(f"{kernel} {number}" for kernel, number in part["triton"].items()) or "none"
        ops = ", ".join(f"{op} {number}" for op, number in part["torch"].items()) or "none"
        lines.append(f"- {name}: {part['launches']}. Triton: {kernels}. torch: {ops}.")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of gpu_estimate.json and gpu_estimate.md")
    arguments = parser.parse_args()
    result = estimate()
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = markdown(result)
    for name, content in (("gpu_estimate.json", json.dumps(result, indent=1) + "\n"), ("gpu_estimate.md", text)):
        with atomic_path(arguments.out / name) as temporary:
            temporary.write_text(content)
    print(text)


if __name__ == "__main__":
    main()
