"""A folded network on a whole image, its output made in strips of rows: the whole never lies beside the features."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..models import LKCANet, Network
from ..models.registry import enlarge

STRIP_BYTES = 128 << 20  # of output: small beside the features of an image for which it matters, large for a kernel
_LEAST_ROWS = 8  # of the low-resolution image: at each end a strip computes `halo` rows in vain
BICUBIC_ROWS = 2  # that the bicubic image reads on each side of a pixel

Report = Callable[[float, str], None]
Put = Callable[[int, Tensor], None]


def forward_in_strips(folded: Network, image: Tensor, put: Put, report: Report, msi: Tensor | None = None) -> None:
    """Run head and blocks on the whole image, then the upsampler strip by strip; a network of another kind as a whole.

    The strips are those of the whole output, bit for bit: each is made with as many rows beyond its own as conv and
    bicubic read, and the border is treated as a border only where the image has one.

    Args:
        folded: in eval mode, without weight normalisation.
        image: (N, B, H, W), of the network's dtype, on its device.
        put: called as put(row, strip) with the strip (N, B, h, r W) that begins at this row of the output, from top to
            bottom; it may overwrite the strip.
        report: called as report(share, what) after each part, with the share of the multiply-adds that are done.
        msi: (N, b, r H, r W) for a network that fuses.

    Raises:
        ValueError: NaN or infinite pixels.
    """
    if not isinstance(folded, LKCANet):
        for what, given in (("image", image), ("MSI", msi)):
            if given is not None and not given.isfinite().all():
                raise ValueError(f"the {what} holds NaN or infinite pixels")
        report(0.0, "the whole image")
        put(0, enlarge(folded, image, msi))
        report(1.0, "done")
        return
    costs = [_cost(folded.head), *map(_cost, folded.blocks), _cost(folded.upsample)]
    done, total = 0, sum(costs)
    features = folded.head(image)
    _check_finite(image, features)
    for index, block in enumerate(folded.blocks):
        done += costs[index]
        report(done / total, f"block {index + 1} of {len(folded.blocks)}")
        features = block(features)
    done = total - costs[-1]
    rows = image.shape[2]
    step = strip_rows(folded, image.shape[0], rows, image.shape[3], image.element_size())
    for begin in range(0, rows, step):
        end = min(rows, begin + step)
        report((done + costs[-1] * begin / rows) / total, f"rows {begin} to {end} of {rows}")
        first, last = max(0, begin - halo(folded)), min(rows, end + halo(folded))
        around = slice(first, last)
        strip = folded.upsample(features[:, :, around].contiguous(), image[:, :, around].contiguous())
        put(begin * folded.scale, strip[:, :, (begin - first) * folded.scale : (end - first) * folded.scale])
        del strip  # not beside the next one
    report(1.0, "done")


def write(
    how: Callable[[Tensor, Tensor], Tensor], place: Tensor, strip: Tensor, release: Callable[[], None] | None
) -> None:
    """how(place, strip), the tensor's method for it. A mapped file is written band by band, and `release` called after
    each: around every page that is touched, the system may map megabytes of a band."""
    if release is None:
        how(place, strip)
        return
    for band in range(strip.shape[1]):
        how(place[:, band], strip[:, band])
        release()


def halo(model: LKCANet) -> int:
    """Rows of the low-resolution image that a row of the output reads on each side, of the features or of the image."""
    return max(model.upsample.reach, BICUBIC_ROWS)


def strip_rows(model: LKCANet, batch: int, rows: int, columns: int, element_bytes: int) -> int:
    """Low-resolution rows of a strip: all of them where the whole output is small, else strips of about one size."""
    row_bytes = batch * model.bands * model.scale**2 * columns * element_bytes
    most = max(_LEAST_ROWS, STRIP_BYTES // row_bytes)
    return -(-rows // -(-rows // most))


def _cost(module: torch.nn.Module) -> int:
    """Multiply-adds at a pixel: a conv has one for each weight."""
    return sum(parameter.numel() for parameter in module.parameters())


def _check_finite(image: Tensor, features: Tensor) -> None:
    """Each channel of the head's output is NaN or infinite wherever the image is: looking at one of them spares a pass
    over an image that may be mapped from a disk."""
    if not features[:, 0].isfinite().all() and not image.isfinite().all():
        raise ValueError("the image holds NaN or infinite pixels")
