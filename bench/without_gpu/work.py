"""What must be computed and moved, whoever does it, and how fast a GPU could do that: the limits that reports name.

Bytes: each pass (forward, backward) reads its inputs once and writes its results once; what lies between is free. So a
backward reads the gradients of the outputs and the inputs again, and writes the gradients. Products: multiply-adds of
the formula, twice more in a backward (for the gradients of input and weight); recomputing is not counted. `matrix`
products (1x1, 3x3) may run on tensor cores, `vector` ones (depthwise, bicubic, losses) run on FMA units.
"""

from dataclasses import dataclass

BACKWARD = 3  # products of forward and backward together, to those of forward


@dataclass(frozen=True)
class Work:
    """Bytes that must be moved, and multiply-adds."""

    bytes: float = 0
    matrix: float = 0
    vector: float = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.bytes + other.bytes, self.matrix + other.matrix, self.vector + other.vector)

    def __mul__(self, times: float) -> "Work":
        return Work(self.bytes * times, self.matrix * times, self.vector * times)


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


def losses(n: int, c: int, h: int, w: int, size: int) -> Work:
    """spectral_losses, forward and backward to the prediction: two cubes read twice, one gradient written. About 30
    operations a value forward, twice that backward."""
    values = n * c * h * w
    return Work(5 * values * size, vector=BACKWARD * 15 * values)


def attention(n: int, c: int, h: int, w: int, size: int, *, groups: int = 4, reduction: int = 16) -> Work:
    """large_kernel_channel_attention with kernels of 5 and 7, forward: u read, y written, parameters read."""
    pixels, hidden = n * h * w, 3 * c // reduction
    parameters = c * (25 + 49 + 3) + 2 * 3 * c * hidden + hidden + 3 * c + 3 * c * c // groups
    vector = pixels * c * (25 + 49 + 3) + n * 2 * 3 * c * hidden
    return Work(2 * pixels * c * size + 4 * parameters, pixels * 3 * c * c // groups, vector)


def block(n: int, c: int, h: int, w: int, size: int) -> Work:
    """lk_block, forward: as attention, with the two 1x1 convs and the norm."""
    pixels = n * h * w
    extra = Work(4 * (2 * c * c + 4 * c), 2 * pixels * c * c, pixels * 10 * c)
    return attention(n, c, h, w, size) + extra


def upsample_add(n: int, c: int, h: int, w: int, size: int, *, bands: int, scale: int, groups: int) -> Work:
    """upsample_add with a 3x3 conv, forward; the image and the result are float32. The bicubic image, separably: 4
    products a value of (rh, w) and 4 a value of (rh, rw)."""
    values, large = n * h * w, n * bands * h * w * scale * scale
    products = values * 9 * c * bands * scale * scale // groups
    parameters = 9 * c * bands * scale * scale // groups + bands * scale * scale
    moved = values * c * size + 4 * (values * bands + large + parameters)
    return Work(moved, products, 4 * large + 4 * large // scale)


def head(n: int, bands: int, c: int, h: int, w: int, size: int) -> Work:
    """The network's first 3x3 conv, forward, of a float32 image."""
    pixels, weights = n * h * w, 9 * bands * c
    return Work(pixels * (4 * bands + size * c) + 4 * weights, pixels * weights)


def network(
    n: int, h: int, w: int, size: int, *, bands: int, channels: int, blocks: int, scale: int, groups: int = 8
) -> Work:
    """LKCA-LR (with one group LKCA-Net), forward: its parts one after the other, features moved between them."""
    image = (n, channels, h, w, size)
    body = block(*image) * blocks
    return head(n, bands, channels, h, w, size) + body + upsample_add(*image, bands=bands, scale=scale, groups=groups)


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
