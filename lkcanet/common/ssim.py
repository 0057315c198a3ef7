"""The two structural similarities that published tables use: `lkcanet.evaluation.metrics.mssim` says what they are."""

from typing import Literal, get_args

SSIM = Literal["uniform", "matlab"]
SHORT: dict[SSIM, str] = {"uniform": "7x7", "matlab": "MATLAB"}  # in headings
WINDOWS: dict[SSIM, str] = {
    "uniform": "7 x 7 windows of equal weights",
    "matlab": "MATLAB's Gaussian windows of 11 x 11",
}


def check_ssim(ssim: str) -> None:
    """Raise a ValueError where `ssim` is none of them."""
    if ssim not in get_args(SSIM):
        raise ValueError(f"ssim must be {' or '.join(map(repr, get_args(SSIM)))}, got {ssim!r}")
