"""Pairs for fusion by Wald's protocol: a low-resolution hyperspectral image and a multispectral one of full resolution.

L. Wald, T. Ranchin and M. Mangolini, "Fusion of satellite images of different spatial resolutions", 1997: both are made
from one scene, which then is what their fusion should give.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lkcanet.data.degrade import _check, _mirrored, bicubic_downsample
from lkcanet.data.responses import SpectralResponse
from lkcanet.data.scenes import Scene, check_positive

REACH = 4  # standard deviations, beyond which the point spread function is cut off: 1 - 6e-5 of it


class FusionPair(NamedTuple):
    """`lowres` (B, H / scale, W / scale) and `msi` (b, H, W)."""

    lowres: Scene
    msi: Scene


def gaussian_downsample(x: Tensor, scale: int, sigma: float) -> Tensor:
    """Shrink images `scale` times as a sensor with a Gaussian point spread function would: blur, then decimation.

        y[i] = sum over k of  w(u_i - k) x[k] / sum over k of  w(u_i - k)
        u_i = (i + 0.5) scale - 0.5,   w(t) = exp(-t^2 / (2 sigma^2))  for |t| <= 4 sigma

    separably over rows and columns. The function is centred on the LR pixel, that is, on the middle of the scale x
    scale pixels that it stands for, as `bicubic_downsample` and every georeference have it, and flips and rotations
    commute with it. (Code that blurs with an odd kernel and keeps every scale-th pixel from the first shifts the image
    by (scale - 1) / 2 pixels instead.) Outside the image x is mirrored with the edge pixel repeated. Differentiable.

    Args:
        x: (N, C, H, W), float32 or float64.
        scale: whole, 1 or more, dividing H and W.
        sigma: standard deviation, in pixels of x.

    Returns:
        (N, C, H / scale, W / scale), dtype and device of x. The same bits for any batch and number of threads.

    Raises:
        TypeError: x is not a float32 or float64 tensor, or scale is not an int.
        ValueError: x is not 4-D or an image is empty, scale below 1 or not dividing H and W, or sigma is not positive.
    """
    _check(x, scale)
    sigma = check_positive(sigma, "sigma")
    height, width = x.shape[-2:]
    if height % scale or width % scale:
        raise ValueError(f"scale must divide the image: {height} x {width} pixels by scale {scale}; crop x first")
    centre = (scale - 1) / 2
    padding = max(0, math.floor(REACH * sigma - centre))
    distances = torch.arange(-padding, scale + padding, dtype=torch.float64) - centre
    weights = torch.exp(-0.5 * (distances / sigma) ** 2)
    weights = torch.where(distances.abs() <= REACH * sigma, weights, 0.0)
    if not weights.any():  # narrower than the distance from the middle to the nearest pixels: these alone
        weights = (distances.abs() == distances.abs().min()).double()
    taps = (weights / weights.sum()).tolist()
    for axis in (-2, -1):
        length = x.shape[axis]
        padded = x.index_select(axis, _mirrored(length, padding, x.device))
        # not a conv: sums in this order have the same bits on any number of threads
        total: Tensor | None = None
        for first, tap in enumerate(taps):
            index = [slice(None)] * 4
            index[axis] = slice(first, first + length - scale + 1, scale)
            part = padded[tuple(index)] * tap
            total = part if total is None else total + part
        assert total is not None
        x = total
    return x.contiguous()


def degraded(x: Tensor, scale: int, psf_sigma: float | None = None) -> Tensor:
    """`gaussian_downsample` with this sigma, or `bicubic_downsample` where it is None."""
    return bicubic_downsample(x, scale) if psf_sigma is None else gaussian_downsample(x, scale, psf_sigma)


def with_noise(x: Tensor, snr: float, generator: torch.Generator | None = None) -> Tensor:
    """x with white Gaussian noise of a signal-to-noise ratio of `snr` dB.

        x + sigma n,   sigma = sqrt(mean x^2) 10^(-snr / 20),   n ~ N(0, 1)

    so that 10 log10(mean x^2 / sigma^2) = snr. The mean is that of each image of the batch, over bands and pixels.

    Args:
        x: (N, C, H, W), floating.
        snr: in dB, finite; more is less noise.
        generator: of the draws, on the CPU or on x's device; None draws from torch's own.

    Raises:
        ValueError: snr is not a finite number.

    Source: CSAKD, eq. 16, which has the sign wrong (its noise grows with the SNR), 10 for 20, and no random draw; this
    is what its code does.
    """
    if isinstance(snr, bool) or not isinstance(snr, (int, float)) or not math.isfinite(snr):
        raise ValueError(f"snr must be a finite number of dB, got {snr!r}")
    power = x.float().square().mean(dim=(1, 2, 3), keepdim=True, dtype=torch.float64)
    sigma = (power.sqrt() * 10 ** (-snr / 20)).to(x.dtype)
    device = x.device if generator is None else generator.device
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float32, device=device)
    return x + sigma * noise.to(x.device, x.dtype)


def noisy_scene(scene: Scene, snr: float | None, seed: int = 0) -> Scene:
    """The scene with `with_noise` of these draws; where `snr` is None, as it is."""
    if snr is None:
        return scene
    pixels = with_noise(scene.tensor(), snr, torch.Generator().manual_seed(seed))
    return replace(scene, pixels=pixels[0].numpy())


def simulate_lowres(
    scene: Scene, scale: int, *, psf_sigma: float | None = None, snr: float | None = None, seed: int = 0
) -> Scene:
    """The LR image of a scene, with its peak, wavelengths, mask and georeference.

    Args:
        scene: the reference, of (B, H, W).
        scale: r, dividing its rows and columns: see `lkcanet.data.whole_pixels`.
        psf_sigma: standard deviation of a Gaussian point spread function, in pixels of the scene, see
            `gaussian_downsample`; None takes the MATLAB-exact bicubic, `bicubic_downsample`.
        snr: dB of white noise, see `with_noise`; None for none.
        seed: of the noise, as in `simulate_pair`.

    Returns:
        A scene of (B, H / r, W / r), float32; a pixel is valid where all r x r of the reference are.

    Raises:
        ValueError: as `gaussian_downsample` and `with_noise`; no pixel is valid.
    """
    lowres = scene.shrunk(degraded(scene.tensor(), scale, psf_sigma)[0].numpy(), scale)
    return noisy_scene(lowres, snr, 2 * seed)


def simulate_msi(scene: Scene, response: SpectralResponse) -> Scene:
    """The multispectral image of a scene: each of its bands a weighted mean of the scene's.

    Args:
        scene: with wavelengths, where the response needs them.
        response: see `lkcanet.data.responses.named_response`.

    Returns:
        A scene of the same rows, columns, peak, mask and georeference; its wavelengths are the response's centres.

    Raises:
        ValueError: the response needs wavelengths that the scene has not, or none of its bands lies in a range.
    """
    weights = response.weights(scene.bands, scene.wavelengths, scene.name or "the scene")
    pixels = np.empty((len(weights), *scene.size), np.float32)
    # band by band, which a map of a file asks for; not a matrix product, whose bits follow from the image's size
    for band, row in zip(pixels, weights, strict=True):
        total = np.zeros(scene.size)
        for index in np.flatnonzero(row):
            total += row[index] * scene.pixels[index]
        band[:] = total
    return replace(
        scene,
        pixels=pixels,
        name=f"{scene.name} MSI".strip(),
        wavelengths=response.centres(scene.wavelengths, scene.bands),
        band_names=response.band_names,
        source=f"{scene.source} through {response.name}",
        band_choice=None,
        encoding=scene.encoding and scene.encoding.of_other_bands(),
    )


def simulate_pair(
    scene: Scene,
    scale: int,
    response: SpectralResponse,
    *,
    psf_sigma: float | None = 3.0,
    snr: float | None = None,
    msi_snr: float | None = None,
    seed: int = 0,
) -> FusionPair:
    """The LR-HSI and the HR-MSI of a scene.

    Args:
        scene: the reference.
        scale: r, dividing its rows and columns.
        response: of the multispectral sensor.
        psf_sigma: standard deviation of the Gaussian point spread function, in pixels of the scene; None takes the
            MATLAB-exact bicubic. CSAKD has "a variance of sigma = 3": we read a standard deviation of 3; a variance
            of 3 is sqrt(3), 1.732. It does not say where the function is cut off, here at 4 sigma: a demo of CO-CNMF
            cuts it to scale x scale pixels, which comes close to plain averages and blurs far less.
        snr, msi_snr: dB of noise in the LR-HSI and in the HR-MSI; None for none.
        seed: of the noise; the two images have draws of their own.

    Raises:
        ValueError: as `gaussian_downsample`, `simulate_msi` and `with_noise`.
    """
    lowres = simulate_lowres(scene, scale, psf_sigma=psf_sigma, snr=snr, seed=seed)
    return FusionPair(lowres, noisy_scene(simulate_msi(scene, response), msi_snr, 2 * seed + 1))
