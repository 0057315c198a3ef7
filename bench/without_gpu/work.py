"""What must be computed and moved, whoever does it, and how fast a GPU could do that: the limits that reports name.

Bytes: each pass (forward, backward) reads its inputs once and writes its results once; what lies between is free. So a
backward reads the gradients of the outputs and the inputs again, and writes the gradients. Products: multiply-adds of
the formula, twice more in a backward (for the gradients of input and weight); recomputing is not counted. `matrix`
products (1x1, 3x3) may run on tensor cores, `vector` ones (depthwise, bicubic, losses) run on FMA units.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lkops import testing
from lkops.testing import Work

__all__ = [
    "BACKWARD",
    "H100",
    "Rates",
    "Work",
    "head",
    "least",
    "losses",
    "network",
    "of",
    "training_step",
    "with_backward",
]

BACKWARD = 3  # products of forward and backward together, to those of forward


@dataclass(frozen=True)
class Rates:
    """Of a GPU: bytes a second of a copy, read and written; and operations a second (a multiply-add is two), by what
    multiplies: "float32" on FMA units, "tf32" and "bfloat16" on tensor cores."""

    bandwidth: float
    operations: dict[str, float]

    def seconds(self, work: Work, products: str) -> tuple[float, float]:
        """Least time for the bytes and for the products: one after the other where all run on FMA units, else the
        longer of the two kinds, since tensor cores work beside the FMA units."""
        matrix = 2 * work.matrix / self.operations[products]
        vector = 2 * work.vector / self.operations["float32"]
        return work.bytes / self.bandwidth, matrix + vector if products == "float32" else max(matrix, vector)


# NVIDIA's datasheet of the H100 SXM, dense
H100 = Rates(3.35e12, {"float32": 67e12, "tf32": 494.7e12, "bfloat16": 989.4e12})


def of(
    operator: str, n: int, c: int, h: int, w: int, size: int, sizes: Mapping[str, int] | None = None, **options: Any
) -> Work:
    """An operator's forward on an image (n, c, h, w) of values of `size` bytes: `lkops.testing.Examples.work`.

    Args:
        sizes: of the example.
        options: of the public function.
    """
    return testing.examples(operator).work(testing.Example("", (n, c, h, w), options, sizes or {}), size)


def least(operator: str, example: testing.Example, mode: str, size: int) -> Work:
    """What one call of an operator must do: "forward", "backward" or "full", both."""
    known = testing.examples(operator)
    forward = known.work(example, size)
    if mode == "forward":
        return forward
    if not testing.operator(operator).saves:  # linear, without weights: the same work again
        return forward * (1 if mode == "backward" else 2)
    if operator == "spectral_losses":  # the target gets no gradient
        full = losses(*example.shape, size)
    else:
        meta = known.arguments(example, testing.Draw(device="meta"))
        outputs = testing.invoke(operator, meta, example.options, "reference")
        full = with_backward(forward, size * sum(output.numel() for output in outputs))
    return full if mode == "full" else full + forward * -1


def losses(n: int, c: int, h: int, w: int, size: int) -> Work:
    """spectral_losses, forward and backward to the prediction: two cubes read twice, one gradient written; three times
    the products, and the target gets no gradient."""
    forward = of("spectral_losses", n, c, h, w, size)
    return Work(forward.bytes * 5 / 2, vector=BACKWARD * forward.vector)


def head(n: int, bands: int, c: int, h: int, w: int, size: int) -> Work:
    """The network's first 3x3 conv, forward, of a float32 image."""
    pixels, weights = n * h * w, 9 * bands * c
    return Work(pixels * (4 * bands + size * c) + 4 * weights, pixels * weights)


def network(
    n: int, h: int, w: int, size: int, *, bands: int, channels: int, blocks: int, scale: int, groups: int = 8
) -> Work:
    """LKCA-LR (with one group LKCA-Net), forward: its parts one after the other, features moved between them."""
    image = (n, channels, h, w, size)
    body = of("lk_block", *image) * blocks
    tail = of("upsample_add", *image, {"bands": bands, "groups": groups}, scale=scale)
    return head(n, bands, channels, h, w, size) + body + tail


def with_backward(forward: Work, outputs: float) -> Work:
    """Forward and backward of parts that get and give gradients: `outputs` are the bytes of forward's results, which
    backward does not write again but reads as gradients. Gradients of inputs and parameters are written."""
    inputs = forward.bytes - outputs
    return Work(forward.bytes + outputs + 2 * inputs, BACKWARD * forward.matrix, BACKWARD * forward.vector)


def training_step(n: int, h: int, w: int, size: int, *, parameters: int, **sizes: int) -> Work:
    """Forward, H loss, backward and Adam (reads value, gradient and two moments, writes three), float32 parameters."""
    forward, scale, bands = network(n, h, w, size, **sizes), sizes["scale"], sizes["bands"]
    image = n * bands * h * w * scale * scale
    outputs = n * h * w * sizes["channels"] * size * (sizes["blocks"] + 1) + 4 * image
    cubes = losses(n, bands, h * scale, w * scale, 4)
    return with_backward(forward, outputs) + cubes + Work(7 * 4 * parameters, vector=6 * parameters)
