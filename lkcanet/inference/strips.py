"""A folded network on a whole image, its output made in strips of rows: the whole never lies beside the features."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..models import Lacking, Network, Strips
from ..models.capabilities import strips_of
from ..models.registry import enlarge

STRIP_BYTES = 128 << 20  # of output: small beside the features of an image for which it matters, large for a kernel

Report = Callable[[float, str], None]
Put = Callable[[int, Tensor], None]


def forward_in_strips(folded: Network, image: Tensor, put: Put, report: Report, msi: Tensor | None = None) -> None:
    """Run what sees the whole image on it, then the rest strip by strip; a network that has no strips as a whole.

    Each strip is made with as many rows beyond its own as it depends on, and the border is treated as a border only
    where the image has one. LKCA-Net's strips are those of the whole output, bit for bit. So are those of any network
    whose convs give the same for images of other sizes; torch's do up to rounding.

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
    how = strips_or_none(folded)
    if how is None:
        _check_finite(image, msi)
        report(0.0, "the whole image")
        put(0, enlarge(folded, image, msi))
        report(1.0, "done")
        return
    costs = [*(_cost(part) for _, part in how.whole), how.cost]
    done, total, features = 0, sum(costs), image
    if not how.whole:
        _check_finite(image, msi)
    for index, (what, part) in enumerate(how.whole):
        if index:
            done += costs[index - 1]
            report(done / total, what)
        features = part(features)
        if not index:
            _check_first(part, image, features, msi)
    done = total - costs[-1]
    rows, scale = image.shape[2], folded.scale
    step = strip_rows(folded, how, image.shape[0], rows, image.shape[3], image.element_size())
    for begin in range(0, rows, step):
        end = min(rows, begin + step)
        report((done + costs[-1] * begin / rows) / total, f"rows {begin} to {end} of {rows}")
        first, last = max(0, begin - how.halo), min(rows, end + how.halo)
        around = slice(first, last)
        sharp = None if msi is None else msi[:, :, scale * first : scale * last].contiguous()
        lowres = image[:, :, around].contiguous()
        kept = lowres if features is image else features[:, :, around].contiguous()
        strip = how.rest(kept, lowres, sharp)
        put(begin * scale, strip[:, :, (begin - first) * scale : (end - first) * scale])
        del strip  # not beside the next one
    report(1.0, "done")


def strips_or_none(network: Network) -> Strips | None:
    """How its image is made in strips; None where it is not."""
    try:
        return strips_of(network)
    except Lacking:
        return None


def why_none(network: Network) -> list[str]:
    """In words, why its image is not made in strips; nothing where it is."""
    try:
        strips_of(network)
    except Lacking as error:
        return [str(error)]
    return []


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


def strip_rows(model: Network, how: Strips, batch: int, rows: int, columns: int, element_bytes: int) -> int:
    """Low-resolution rows of a strip: all of them where the whole output is small, else strips of about one size."""
    row_bytes = batch * model.bands * model.scale**2 * columns * element_bytes
    most = max(how.least_rows, STRIP_BYTES // row_bytes)
    return -(-rows // -(-rows // most))


def _cost(module: torch.nn.Module) -> int:
    """Multiply-adds at a pixel: a conv has one for each weight."""
    return sum(parameter.numel() for parameter in module.parameters())


def _check_first(part: torch.nn.Module, image: Tensor, features: Tensor, msi: Tensor | None) -> None:
    """As `_check_finite`. Each channel of a dense conv's output is NaN or infinite wherever the image is: looking at
    one of them spares a pass over an image that may be mapped from a disk."""
    dense = isinstance(part, torch.nn.Conv2d) and part.groups == 1
    _check_finite(None if dense and features[:, 0].isfinite().all() else image, msi)


def _check_finite(image: Tensor | None, msi: Tensor | None) -> None:
    for what, given in (("image", image), ("MSI", msi)):
        # band by band: isfinite holds nearly twice what it looks at
        if given is not None and not all(band.isfinite().all() for band in given.flatten(0, 1)):
            raise ValueError(f"the {what} holds NaN or infinite pixels")
