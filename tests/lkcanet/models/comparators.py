"""What the tests of SSPSR, ESSAformer and MSDformer share: small networks."""

from collections.abc import Callable
from typing import Any

import torch

import lkops.nn
from lkcanet.models import Network
from lkcanet.models.essaformer import ESSAformer
from lkcanet.models.msdformer import MSDformer
from lkcanet.models.sspsr import SSPSR

SMALL: dict[str, Callable[..., Network]] = {
    "sspsr": lambda bands=6, scale=2, **own: SSPSR(
        bands, scale, **{"channels": 8, "blocks": 2, "group": 4, "overlap": 1, "reduction": 4, **own}
    ),
    "essaformer": lambda bands=6, scale=2, **own: ESSAformer(bands, scale, **{"channels": 8, **own}),
    "msdformer": lambda bands=6, scale=2, **own: MSDformer(
        bands, scale, **{"channels": 8, "blocks": 2, "heads": 2, "group": 4, "overlap": 1, "reduction": 4, **own}
    ),
}


def woken(kind: str, *arguments: Any, seed: int = 0, **own: Any) -> Any:
    """A small network, every parameter of which does something, as after training; in eval mode."""
    torch.manual_seed(seed)
    model = SMALL[kind](*arguments, **own)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for module in model.modules():
            if isinstance(module, lkops.nn.ChannelAttention):
                module.reduce.get_parameter("bias").fill_(1)  # no gate may die of its ReLU
    return model.eval()
