"""Examples of `bicubic_upsample`: see `lkops.testing`."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._core import examples as common


def draw(draw: common.Draw, case: common.Example) -> common.Arguments:
    return {"x": draw(*case.shape)}


def eager(x: Tensor, *, scale: int, cubic_a: float = -0.5, border: str = "symmetric") -> Tensor:
    """torch's own bicubic where the options are its own, else (MATLAB's) its antialiased one on a mirrored image."""
    if (cubic_a, border) == (-0.75, "replicate"):
        return F.interpolate(x, scale_factor=scale, mode="bicubic")
    if (cubic_a, border) != (-0.5, "symmetric"):
        raise ValueError(f"cubic_a and border must be torch's or MATLAB's, got {cubic_a} and {border!r}")
    padded = torch.cat((x[..., :2, :].flip(-2), x, x[..., -2:, :].flip(-2)), -2)
    padded = torch.cat((padded[..., :2].flip(-1), padded, padded[..., -2:].flip(-1)), -1)
    large = F.interpolate(padded, scale_factor=scale, mode="bicubic", antialias=True)
    return large[..., 2 * scale : -2 * scale, 2 * scale : -2 * scale]


def work(case: common.Example, size: int) -> common.Work:
    """Separably: 4 products a value of (rh, w) and 4 a value of (rh, rw)."""
    n, c, h, w = case.shape
    scale, small = case.options["scale"], n * c * h * w
    large = small * scale**2
    return common.Work(size * (large + small), vector=4 * large + 4 * large // scale)


EXAMPLES = common.Examples(
    draw,
    eager,
    work,
    (
        *(replace(case, options={"scale": 4}) for case in (*common.SHAPES, common.ONE_CHANNEL)),
        *(common.example(f"scale_{r}", 2, 3, 7, 6, scale=r) for r in (1, 2, 3, 5, 8)),
        common.example("torch", 2, 3, 7, 9, scale=4, **common.TORCH_BICUBIC),
        common.example("torch_tiny", 2, 3, 1, 2, scale=2, **common.TORCH_BICUBIC),
        common.example("large", 1, 5, 40, 37, scale=4),
        common.example("megabytes", 1, 1, 1, 40000, use="large", scale=16),
        *common.benchmarks(options={"scale": 4}),
        *common.benchmarks(common.TIMED, "_torch", options={"scale": 4, **common.TORCH_BICUBIC}),
        *(
            case
            for scale in (2, 8)
            for case in common.benchmarks(("patches_16", "image_64"), f"_x{scale}", options={"scale": scale})
        ),
        common.example("odd", *common.ODD, use="benchmark", scale=3),
    ),
    images=("x",),
)
