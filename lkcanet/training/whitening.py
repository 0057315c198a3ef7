"""A first conv that starts with whitened features of the images that it will see."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..models import Network
from ..models.capabilities import head_of
from .material import ScenePatches

__all__ = ["EPS", "whiten"]

EPS = 1e-4  # of the largest eigenvalue, under the roots: noise is not blown up to the size of the rest
_PATCHES = 320  # low-resolution patches that the covariance is taken of


def whiten(model: Network, patches: ScenePatches, scale: float, eps: float = EPS) -> None:
    """Let the features of the network's first conv start uncorrelated and alike in size, whatever the spectra are.

    With u the k k B values that the conv sees at a pixel, their mean m, and the eigenvalues w_1 >= w_2 >= ... and
    eigenvectors v_i of their covariance over the training images, filter i becomes

        W_i = scale v_i / sqrt(w_i + eps w_1),   b = -W m

    for as many filters as there are eigenvectors; further ones stay as they are. Bands and neighbouring pixels say
    nearly the same: nearly all random filters give the local mean spectrum, and what a network adds to the bicubic
    image hides in small differences between them, which gradient descent, whose convergence goes with the condition
    number of the features, finds late. The network is the same function of its weights: only its start is chosen.

    Args:
        model: its first conv, see `lkcanet.models.Capabilities`, is changed in place.
        patches: the training patches; evenly spread ones are read.
        scale: standard deviation of the first features.
        eps: see above.

    Raises:
        Lacking: the network names no such conv.

    Source: LeCun et al., Efficient BackProp (1998), section 4.3: inputs that are whitened converge faster.
    """
    conv = head_of(model)
    count = min(len(patches), _PATCHES)
    chosen = torch.linspace(0, len(patches) - 1, count).long().tolist()
    mean, covariance = _moments(conv, (patches.lowres(patches.crop(index)) for index in chosen))
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    filters = scale * vectors / (values + eps * values[0]).sqrt()
    filters = filters.T[: conv.out_channels]
    with torch.no_grad():
        conv.weight[: len(filters)] = filters.view(-1, *conv.weight.shape[1:]).to(conv.weight)
        if conv.bias is not None:
            conv.bias[: len(filters)] = -(filters @ mean).to(conv.bias)


def _moments(conv: nn.Conv2d, images: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and covariance of what the conv sees, over all pixels whose neighbours lie inside their image; float64."""
    values = conv.weight[0].numel()
    total, sums = 0, torch.zeros(values, dtype=torch.float64)
    products = torch.zeros(values, values, dtype=torch.float64)
    for image in images:
        seen = nn.functional.unfold(image[None], conv.weight.shape[2:], conv.dilation)[0].double()
        total += seen.shape[1]
        sums += seen.sum(1)
        products += seen @ seen.T
    mean = sums / total
    return mean, products / total - torch.outer(mean, mean)
