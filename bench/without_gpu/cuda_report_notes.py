"""What the report of the CUDA kernels (`bench.without_gpu.cuda_ahead_of_time`) says besides ptxas' figures: how the
one-launch block is shared out, and which operators stay with Triton and why."""

import os
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]

# multiprocessors and bytes of shared memory that a block may have
GPUS = {"A100, sm_80": (108, 163 << 10), "H100, sm_90": (132, 227 << 10), "B200, sm_100": (148, 227 << 10)}
SHAPES = ((1, 16), (8, 16), (1, 32), (8, 32))

# the launcher's own plan, for LKCA-Net's block: 128 channels, 4 groups, a hidden layer of 24
PROGRAM = """
#include <cstdio>
#include <cstdlib>
#include "lk_block/cuda.cuh"
using namespace lkops;
struct Shown {
  long long processors_, limit_;
  long long processors() const { return processors_; }
  long long limit() const { return limit_; }
  template <class Body> void operator()(const Body& body, int64_t blocks, int64_t floats) {
    std::printf("%d %d %d %lld %lld\\n", body.in.side(), body.mix.side(), body.out.side(),
                static_cast<long long>(blocks), static_cast<long long>(4 * floats));
  }
};
int main(int, char** given) {
  const auto number = [&](int i) { return std::strtoll(given[i], nullptr, 10); };
  Shown shown{number(1), number(2) / 4};
  const int64_t n = number(3), side = number(4);
  block_inference(shown, BlockProblem{128, 1e-6f, {n, 128, side, side, 5, 5, 5, 7, 7, 7, 24, 4, false}},
                  BlockInference<float>{});
}
"""

LEFT_TO_TRITON = """\
`spectral_losses` and the tail of `upsample_add` have no CUDA kernel: what is known without a GPU shows no gain over \
Triton's. By [gpu_estimate.md](gpu_estimate.md) and [triton_ahead_of_time.md](triton_ahead_of_time.md):

- `spectral_losses`, forward and backward of 32x128x64x64: 3 launches move 338.7 MB in float32 and 170.9 MB in \
bfloat16, 1.01 and 1.02 times the least that anyone must move, so shared memory has no bytes to save; aligned loads \
and stores are 128 bits wide, with at most 145 registers, nothing spilled, 4 KiB of shared memory. The one launch \
that CUDA could save (the last block to finish adds up the parts) is some microseconds of a row that takes 100 at \
the datasheet's bandwidth, and needs a counter that is zero before each call.
- `upsample_add`, forward of 128 bands x4 in 8 groups, 1x128x128x128: conv, PixelShuffle and bicubic image are one \
launch already, which moves 152.2 MB in float32, 1.00 times the least, and 149.2 MB in bfloat16, 1.01 times. In \
float32 its products take longer than its bytes (0.149 ms against 0.045 at the datasheet's rates), in half precision \
they are on tensor cores (HMMA, HGMMA, UTCHMMA). A CUDA kernel of the tail alone would have the conv's result \
written and read again; one of the whole would be a matrix product for each generation of GPUs, which Triton writes. \
It has up to 255 registers, its bound, and nothing spilled: whether so few warps hide latency is what a GPU could \
show against it.

What would change this: a measured row of `make gpu` far below its bandwidth, for a cause that Triton can't express.
"""


def block_plans() -> list[dict[str, int | str]]:
    """Sides of tiles, blocks and bytes of shared memory of the one launch, by GPU, batch and side of planes."""
    names = ("project", "mix", "out", "blocks", "shared")
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder) / "plans")
        command = [*os.environ.get("CXX", "c++").split(), "-std=c++17", "-Icsrc", "-x", "c++", "-", "-o", program]
        subprocess.run(command, cwd=ROOT, input=PROGRAM, text=True, check=True)
        rows: list[dict[str, int | str]] = []
        for gpu, (processors, limit) in GPUS.items():
            for n, side in SHAPES:
                numbers = map(str, (processors, limit, n, side))
                said = subprocess.run([program, *numbers], capture_output=True, text=True, check=True).stdout
                plan: dict[str, int | str] = {"gpu": gpu, "batch": n, "side": side}
                rows.append(plan | dict(zip(names, map(int, said.split()), strict=True)))
    return rows


def block_text(rows: list[dict[str, int | str]]) -> list[str]:
    """Markdown."""
    lines = [
        "Inference of a small block (128 channels) is one cooperative launch (BlockInferenceBody), of four phases with "
        "a barrier of the grid between them. Sides of the tiles that the 1x1 convs are shared out in, blocks for all "
        "tiles (as many are launched as the GPU runs at once, at most) and a block's shared memory in bytes:",
        "",
        "| GPU | batch | plane | tiles of project / mix / out | blocks | shared memory |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for r in rows:
        tiles = " / ".join(str(r[name]) for name in ("project", "mix", "out"))
        plane = f"{r['side']}x{r['side']}"
        lines.append(f"| {r['gpu']} | {r['batch']} | {plane} | {tiles} | {r['blocks']} | {r['shared']} |")
    return lines
