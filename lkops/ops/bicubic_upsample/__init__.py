"""`bicubic_upsample`: enlarge images by a whole factor with Keys' cubic."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..._core import checks, memory
from ..._core.operator import FLOAT32_AND_BFLOAT16, FLOATS, Kernels
from ..._core.registration import register
from . import reference

__all__ = ["bicubic_upsample", "reference"]


def _fake_forward(x: Tensor, scale: int, cubic_a: float, symmetric: bool) -> Tensor:
    n, c, h, w = x.shape
    return x.new_empty((n, c, h * scale, w * scale))


def _fake_backward(grad: Tensor, scale: int, cubic_a: float, symmetric: bool) -> Tensor:
    n, c, h, w = grad.shape
    return grad.new_empty((n, c, h // scale, w // scale))


OPERATOR = register(
    "bicubic_upsample",
    reference.bicubic_upsample,
    kernels={
        "cpu": Kernels(FLOAT32_AND_BFLOAT16),
        "triton": Kernels(FLOATS),
    },
    forward="(Tensor x, int scale, float cubic_a, bool symmetric) -> Tensor y",
    backward="(Tensor grad_y, int scale, float cubic_a, bool symmetric) -> Tensor",
    fake_forward=_fake_forward,
    fake_backward=_fake_backward,
)


def bicubic_upsample(
    x: Tensor,
    *,
    scale: int,
    cubic_a: float = -0.5,
    border: str = "symmetric",
    backend: str | Sequence[str] | None = None,
) -> Tensor:
    """Enlarge images `scale` times in both directions by bicubic interpolation.

    Output pixel i reads at u = (i + 0.5) / scale - 0.5 (half-pixel centres), separably over rows and columns:

        y[i] = sum over k = -1 .. 2 of  w(u - floor(u) - k) x[floor(u) + k]
        w(t) = (a+2)|t|^3 - (a+3)|t|^2 + 1  for |t| <= 1,   a|t|^3 - 5a|t|^2 + 8a|t| - 4a  for 1 < |t| < 2

    The defaults are MATLAB's imresize; `cubic_a=-0.75, border="replicate"` is
    `torch.nn.functional.interpolate(mode="bicubic", align_corners=False)`.

    Args:
        x: (N, C, H, W), floating.
        scale: r, whole, 1 or more.
        cubic_a: a of the kernel.
        border: what lies outside the image: "symmetric" mirrors it including the edge pixel,
            "replicate" repeats the edge pixel.
        backend: see `lkops.backends`.

    Returns:
        (N, C, scale H, scale W), contiguous, of the dtype of `x`, also under autocast.

    Raises:
        ValueError: a shape, scale or border that is not as above.
        TypeError: `x` is not floating; a number of another type.
        RuntimeError: a backend was asked for that can't run these arguments.
        torch.OutOfMemoryError: memory for the output or on the way to it is not there; a RuntimeError too.

    Source: R. Keys, "Cubic convolution interpolation for digital image processing", 1981, eq. 15;
    LKCA-Net (arXiv 2501.18664), eq. 5.
    """

    def options() -> tuple[Any, ...]:
        positive = checks.positive("scale", scale)
        return positive, checks.number("cubic_a", cubic_a), checks.border("border", border)

    return OPERATOR((x,), options, backend, _check)


def _check(tensors: Any, options: Any) -> None:
    (x,), scale = tensors, options[0]
    checks.image("x", x)
    n, c, h, w = x.shape
    memory.check_output("bicubic_upsample", (n, c, h * scale, w * scale), x.dtype, x.device)
