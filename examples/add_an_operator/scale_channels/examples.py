"""Arguments for tests and benchmarks, the eager form, and the least work that the operator can be."""

import torch

from lkops.testing import Arguments, Draw, Example, Examples, Work, example


def draw(draw: Draw, case: Example) -> Arguments:
    """An image of the example's shape, and a weight of its channels."""
    return {"x": draw(*case.shape), "weight": draw(1, case.shape[1], 1, 1)}


EXAMPLES = Examples(
    draw,
    lambda x, weight, times=2: times * x * weight,
    lambda case, size: Work(2 * size * torch.Size(case.shape).numel()),  # bytes: read once, written once
    (
        example("plain", 2, 3, 8, 8, use="small"),
        example("odd sizes", 1, 5, 7, 3, use="awkward", times=3),
        example("one pixel", 1, 1, 1, 1, use="awkward"),
    ),
    images=("x",),
)
