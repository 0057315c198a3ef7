"""The cuda backend against triton on the GPU here: the cascade of depthwise convs alone, the operators, and LKCA-LR.

    python -m bench.gpu.cascade out.json        time, print, write

Calls are timed in a CUDA graph that goes through more inputs than the cache holds, so that launches cost what they cost
there; outputs are compared with float64 first, and what is wrong gets no time. `make gpu` runs this beside its rows.
Bandwidth: of the cascade's forward, u read once and a1 and a2 written once, over the measured copy bandwidth.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import lkops
from bench.gpu.clock import Clock, input_sets, measured_limits
from lkcanet.common.files import atomic_path
from lkops import backends
from lkops.testing import Policy, WrongResult, share_of_allowed

SHAPES = ((32, 128, 16, 16), (1, 128, 16, 16), (32, 128, 32, 32), (1, 128, 64, 64), (1, 128, 128, 128))
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
DILATIONS = (5, 7)
TARGETS = {"bandwidth": 0.65, "ratio": 1.3}
OPERATORS = ("large_kernel_channel_attention", "depthwise_conv2d", "lk_block")


def graphed_ms(clock: Clock, calls: Sequence[Callable[[], Any]]) -> float:
    """Milliseconds of one of these calls, all of which one CUDA graph holds."""
    for call in calls:  # compiles
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = [call() for call in calls]
    taken = clock.times(lambda _: graph.replay())["ms"] / len(calls)
    del kept
    return taken


def off(ours: Sequence[Tensor], exact: Sequence[Tensor]) -> str:
    """How a result differs from the exact one by more than rounding; empty if none does."""
    try:
        share_of_allowed(ours, exact, exact, Policy(times=0, roundings=8))
    except WrongResult as wrong:
        return str(wrong)
    return ""


def cascade_rows(clock: Clock, bandwidth: float) -> Iterator[dict[str, Any]]:
    """The forward of the cascade alone, by both backends."""
    from lkops.ops.large_kernel_channel_attention import cuda_kernels, triton_forward

    cascades = {"cuda": cuda_kernels.cascade, "triton": triton_forward.cascade}
    for dtype in DTYPES:
        for n, c, h, w in SHAPES:
            shapes = ((c, 1, 5, 5), (c,), (c, 1, 7, 7), (c,))
            parameters = [(torch.randn(shape, device="cuda") / 5).to(dtype) for shape in shapes]
            size = 3 * n * c * h * w * dtype.itemsize
            inputs = [torch.randn(n, c, h, w, device="cuda").to(dtype) for _ in range(input_sets(size))]
            w1, b1, w2, b2 = (t.double() for t in parameters)
            a1 = F.conv2d(inputs[0].double(), w1, b1, padding=10, dilation=5, groups=c)
            exact = [a1, F.conv2d(a1, w2, b2, padding=21, dilation=7, groups=c)]
            row: dict[str, Any] = {"what": "cascade forward", "dtype": str(dtype)[6:], "shape": [n, c, h, w]}
            for name, cascade in cascades.items():
                if wrong := off(cascade(inputs[0], parameters, DILATIONS)[:2], exact):
                    row[f"{name}_wrong"] = wrong
                    continue
                row[f"{name}_ms"] = graphed_ms(clock, [partial(cascade, u, parameters, DILATIONS) for u in inputs])
            if "cuda_ms" in row:
                row["bandwidth"] = size / bandwidth / (1e-3 * row["cuda_ms"])
            yield row


def operator_rows(clock: Clock) -> Iterator[dict[str, Any]]:
    """Operators' forward, and forward and backward."""
    for operator in OPERATORS:
        for dtype in DTYPES:
            for n, c, h, w in SHAPES:
                attention, block = lkops.nn.LargeKernelChannelAttention(c), lkops.nn.LKBlock(c)
                modules = (attention, lkops.nn.DepthwiseConv2d(c, 7, dilation=7), block)
                module = modules[OPERATORS.index(operator)].to("cuda", dtype)
                count = input_sets(3 * n * c * h * w * dtype.itemsize)
                inputs = [torch.randn(n, c, h, w, device="cuda").to(dtype).requires_grad_() for _ in range(count)]
                leaves = [inputs[0], *module.parameters()]
                grad = torch.randn(n, c, h, w, device="cuda").to(dtype)

                def forward(u: Tensor, module: Any = module) -> Any:
                    with torch.no_grad():
                        return module(u)

                def both(u: Tensor, module: Any = module, grad: Tensor = grad, rest: Any = leaves[1:]) -> Any:
                    return torch.autograd.grad(module(u), [u, *rest], grad)

                for what, run in (("forward", forward), ("forward and backward", both)):
                    row: dict[str, Any] = {"what": f"{operator} {what}", "dtype": str(dtype)[6:], "shape": [n, c, h, w]}
                    for name, allowed in (("cuda", ("cuda",)), ("triton", ("triton",))):
                        with lkops.backend(*allowed):
                            row[f"{name}_ms"] = graphed_ms(clock, [partial(run, u) for u in inputs])
                    yield row


def network_rows(clock: Clock) -> Iterator[dict[str, Any]]:
    """Inference of LKCA-LR at batch 1 of 16x16, its blocks in one launch, and in a launch for each phase."""
    from lkcanet.models import lkca_lr
    from lkops.ops.lk_block import cuda_kernels

    for dtype in DTYPES:
        network = lkca_lr(128).eval().to("cuda", dtype)
        images = [torch.rand(1, 128, 16, 16, device="cuda").to(dtype) for _ in range(4)]

        def call(image: Tensor, network: Any = network) -> Any:
            with torch.no_grad():
                return network(image)

        calls = [partial(call, image) for image in images]
        with lkops.backend("triton", "reference"):
            triton = graphed_ms(clock, calls)
        for cooperative, what in ((True, "LKCA-LR x4 forward"), (False, "LKCA-LR x4 forward, a launch a phase")):
            before, cuda_kernels.COOPERATIVE = cuda_kernels.COOPERATIVE, cooperative
            try:
                with lkops.backend("cuda", "triton", "reference"):
                    cuda = graphed_ms(clock, calls)
            finally:
                cuda_kernels.COOPERATIVE = before
            yield {
                "what": what,
                "dtype": str(dtype)[6:],
                "shape": [1, 128, 16, 16],
                "cuda_ms": cuda,
                "triton_ms": triton,
            }


def measure() -> dict[str, Any]:
    """All rows; the operators' results are checked by the contract tests, which `make gpu` runs as well."""
    clock = Clock("cuda", seconds=0.1)
    bandwidth = measured_limits(clock).bandwidth
    rows = [*cascade_rows(clock, bandwidth), *operator_rows(clock), *network_rows(clock)]
    for row in rows:
        if "cuda_ms" in row and "triton_ms" in row:
            row["ratio"] = row["triton_ms"] / row["cuda_ms"]
    return {"device": torch.cuda.get_device_name(), "bandwidth": bandwidth, "rows": rows}


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    if "reason" in found:
        return f"cuda against triton: not measured: {found['reason']}"
    lines = [
        "| what | dtype | shape | cuda (ms) | triton (ms) | cuda is | of copy bandwidth |",
        "|---|---|---|" + "---:|" * 4,
    ]
    for row in found["rows"]:
        ms = [
            f"{row[k]:.4f}" if k in row else row.get(k.replace("_ms", "_wrong"), "-") for k in ("cuda_ms", "triton_ms")
        ]
        ratio = f"{row['ratio']:.2f}x" if "ratio" in row else "-"
        part = f"{row['bandwidth']:.2f} (target {TARGETS['bandwidth']})" if "bandwidth" in row else "-"
        shape = "x".join(map(str, row["shape"]))
        lines.append(f"| {row['what']} | {row['dtype']} | {shape} | {ms[0]} | {ms[1]} | {ratio} | {part} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="where to write")
    a = parser.parse_args(argv)
    missing = [r for op in OPERATORS if (r := backends.why_not(op, "cuda", "cuda", [torch.float32]))]
    if not torch.cuda.is_available() or missing:
        found: dict[str, Any] = {"reason": missing[0] if missing else "no CUDA device is here"}
    else:
        found = measure()
    with atomic_path(a.file) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
