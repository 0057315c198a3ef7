"""Low-resolution images as MATLAB's imresize makes them."""

import torch
import torch.nn.functional as F
from torch import Tensor

import lkops

_PADDING = 2  # LR pixels. The widened kernel reaches 2 scale HR pixels from a centre: 1.5 LR pixels past the border


def bicubic_downsample(x: Tensor, scale: int) -> Tensor:
    """Shrink images `scale` times: imresize(x, 1 / scale) of MATLAB, with its default antialiasing.

    Separably over rows and columns, with the cubic widened by the scale and half-pixel centres:

        y[i] = sum over k of  w((u_i - k) / scale) x[k] / sum over k of  w((u_i - k) / scale)
        u_i = (i + 0.5) scale - 0.5
        w(t) = (a+2)|t|^3 - (a+3)|t|^2 + 1  for |t| <= 1,   a|t|^3 - 5a|t|^2 + 8a|t| - 4a  for 1 < |t| < 2,   a = -0.5

    Outside the image x is mirrored with the edge pixel repeated, over and over where the kernel is wider than it.
    torch's antialiased bicubic is the same in the interior but drops the taps outside; mirroring before and cropping
    after makes it exact at the border too. Differentiable. The kernel is symmetric: flips and rotations commute with
    it, up to rounding. R. Keys, "Cubic convolution interpolation for digital image processing", 1981, eq. 15.

    Args:
        x: (N, C, H, W), float32 or float64.
        scale: whole, 1 or more, dividing H and W.

    Returns:
        (N, C, H / scale, W / scale), dtype and device of x.

    Raises:
        TypeError: x is not a float32 or float64 tensor, or scale is not an int.
        ValueError: x is not 4-D or an image is empty, scale below 1, or not dividing H and W.
    """
    _check(x, scale)
    height, width = x.shape[-2:]
    if height % scale or width % scale:
        raise ValueError(f"scale must divide the image: {height} x {width} pixels by scale {scale}; crop x first")
    if scale == 1 or x.numel() == 0:
        return x[..., : height // scale, : width // scale].clone()
    padded = x.index_select(-2, _mirrored(height, _PADDING * scale, x.device))
    padded = padded.index_select(-1, _mirrored(width, _PADDING * scale, x.device))
    size = (height // scale + 2 * _PADDING, width // scale + 2 * _PADDING)
    small = F.interpolate(padded, size=size, mode="bicubic", align_corners=False, antialias=True)
    return small[..., _PADDING:-_PADDING, _PADDING:-_PADDING].contiguous()


def bicubic_upsample(x: Tensor, scale: int) -> Tensor:
    """Enlarge images `scale` times: imresize(x, scale) of MATLAB. This is `lkops.bicubic_upsample` with its defaults.

    Args:
        x: (N, C, H, W), float32 or float64.
        scale: whole, 1 or more.

    Returns:
        (N, C, H scale, W scale), dtype and device of x.

    Raises:
        TypeError: x is not a float32 or float64 tensor, or scale is not an int.
        ValueError: x is not 4-D or an image is empty, or scale below 1.
    """
    _check(x, scale)
    return lkops.bicubic_upsample(x, scale=scale)


def _check(x: Tensor, scale: int) -> None:
    if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"x must be a float32 or float64 tensor, got {getattr(x, 'dtype', type(x).__name__)}")
    if x.ndim != 4 or 0 in x.shape[-2:]:
        raise ValueError(f"x must be (N, C, H, W) with at least one pixel, got shape {tuple(x.shape)}")
    if not isinstance(scale, int) or isinstance(scale, bool):
        raise TypeError(f"scale must be an int, got {scale!r}")
    if scale < 1:
        raise ValueError(f"scale must be 1 or more, got {scale}")


def _mirrored(length: int, padding: int, device: torch.device) -> Tensor:
    """Indices -padding .. length + padding - 1, mirrored with the edge repeated, such as 1 0 0 1 2 2 1."""
    index = torch.arange(-padding, length + padding, device=device) % (2 * length)
    return torch.minimum(index, 2 * length - 1 - index)
