"""`spectral_losses`: L1, spectral angle, cosine and 3-D gradient loss together."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..._core import checks
from ..._core.library import gradients_like
from ..._core.operator import FLOAT32_AND_BFLOAT16, FLOATS, Kernels
from ..._core.registration import register
from . import reference

__all__ = ["SpectralLosses", "cosine_loss", "gradient_loss", "reference", "sam_loss", "spectral_losses"]


class SpectralLosses(NamedTuple):
    """Four scalar losses, each differentiable on its own."""

    l1: Tensor
    sam: Tensor
    cosine: Tensor
    gradient: Tensor


def _fake_forward(prediction: Tensor, target: Tensor, floor: float) -> tuple[Tensor, ...]:
    n, _, h, w = prediction.shape
    means = [prediction.new_empty((), dtype=torch.float32) for _ in range(4)]
    return *means, prediction.new_empty((n, 3, h, w), dtype=torch.float32)


def _fake_backward(*arguments: Any) -> list[Tensor]:
    *_, prediction, target, _spectra, _floor, needs = arguments
    return gradients_like(needs, prediction, target)


OPERATOR = register(
    "spectral_losses",
    reference.spectral_losses,
    kernels={
        "cpu": Kernels(FLOAT32_AND_BFLOAT16, mixes=True),
        "triton": Kernels(FLOATS, mixes=True),
    },
    forward="(Tensor prediction, Tensor target, float floor)"
    " -> (Tensor l1, Tensor sam, Tensor cosine, Tensor gradient, Tensor spectra)",
    backward="(Tensor grad_l1, Tensor grad_sam, Tensor grad_cosine, Tensor grad_gradient, Tensor prediction, "
    "Tensor target, Tensor spectra, float floor, bool[] needs) -> (Tensor, Tensor)",
    fake_forward=_fake_forward,
    fake_backward=_fake_backward,
)


def spectral_losses(
    prediction: Tensor, target: Tensor, *, floor: float = 0.0, backend: str | Sequence[str] | None = None
) -> SpectralLosses:
    """L1, spectral angle, cosine and gradient loss of two cubes; all means run over the whole batch.

        l1       = mean |p - t|
        sam      = mean over pixels of w arccos(clamp(cos, -1 + 1e-6, 1 - 1e-6)) / pi          in [0, 1]
        cosine   = mean over pixels of w (1 - cos),   cos = <p, t> / (|p| |t|) between the spectra of a pixel
        gradient = mean |g(p) - g(t)|,                g = sqrt(db^2 + dh^2 + dw^2 + 1e-6)
        w        = max(0, 1 - floor^2 / (|t|^2 / C)), and 1 if floor = 0

    where db, dh, dw are backward differences along bands, rows and columns on their common crop
    (N, C-1, H-1, W-1). A pixel in which a spectrum has a norm below 1e-6 counts cos = 0 (sam 0.5, cosine 1) and
    gives no gradient. A mean over nothing is 0. sam of identical cubes is 4.5e-4, not 0, by its clamp. NaN in either
    cube is NaN in l1, sam and cosine, whatever the floor, and in gradient if its crop sees it.

    The angle knows no scale: without a floor, a pixel that is nearly black (water, shadow) counts as much as a bright
    one, and a network may ruin it for an angle that is all noise. With one, a pixel counts by how far the root mean
    square over the bands of its target, |t| / sqrt(C), is above the floor: nothing up to the floor, 3/4 at twice the
    floor. Means still divide by all pixels. w is a constant for all gradients: none goes through it to the target.

    In float32, and half precision, all backends know cos to a few roundings, eps = 1.2e-7, and so an angle of x radians
    only to a few eps / x: where 1 - cos is 1e-6, to some hundredths of itself. Whether such a pixel is beyond the
    clamp, and so without a gradient of sam, may then be decided either way. float64 on the reference is exact there.

    Args:
        prediction, target: (N, C, H, W), floating, one shape and device. Half precision is widened to float32.
        floor: in the units of the cubes, finite, 0 or more.
        backend: see `lkops.backends`.

    Returns:
        `SpectralLosses(l1, sam, cosine, gradient)`, scalars in float32 (float64 for float64 input).

    Raises:
        ValueError, TypeError: an argument that is not as above.
        RuntimeError: a backend was asked for that can't run these arguments.
        torch.OutOfMemoryError: memory for the output or on the way to it is not there; a RuntimeError too.

    Source: the H loss of MSDformer (Chen et al., TGRS 2023) that LKCA-Net (arXiv 2501.18664) takes in eq. 17, and its
    eq. 18, whose printed cosine of a cosine is read as 1 - mean cosine. The floor is no paper's: floor = 0 is theirs.
    """

    def options() -> tuple[float]:
        return (checks.at_least_zero("floor", floor),)

    return SpectralLosses(*OPERATOR((prediction, target), options, backend, _check))


def _check(tensors: Any, options: Any) -> None:
    prediction, target = tensors
    checks.image("prediction", prediction)
    checks.image("target", target)
    if target.shape != prediction.shape:
        raise ValueError(
            f"target must have the shape of prediction, {tuple(prediction.shape)}, got {tuple(target.shape)}"
        )
    checks.like("target", target, "prediction", prediction, dtype=False)


def sam_loss(
    prediction: Tensor, target: Tensor, *, floor: float = 0.0, backend: str | Sequence[str] | None = None
) -> Tensor:
    """`spectral_losses(prediction, target, floor=floor).sam`."""
    return spectral_losses(prediction, target, floor=floor, backend=backend).sam


def cosine_loss(
    prediction: Tensor, target: Tensor, *, floor: float = 0.0, backend: str | Sequence[str] | None = None
) -> Tensor:
    """`spectral_losses(prediction, target, floor=floor).cosine`."""
    return spectral_losses(prediction, target, floor=floor, backend=backend).cosine


def gradient_loss(prediction: Tensor, target: Tensor, *, backend: str | Sequence[str] | None = None) -> Tensor:
    """`spectral_losses(prediction, target).gradient`."""
    return spectral_losses(prediction, target, backend=backend).gradient
