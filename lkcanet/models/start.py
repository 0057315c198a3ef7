"""Weights of one network for another that is like it: other bands, another scale, other groups, folded or not."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .registry import Network

__all__ = ["Start", "start_from"]


@dataclass(frozen=True)
class Start:
    """What `start_from` did.

    Attributes:
        taken: names of the parameters that are the source's now.
        left: names of those that are as they were: the source has none of that name, or one of another shape.
    """

    taken: tuple[str, ...]
    left: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether every parameter was taken."""
        return not self.left


@torch.no_grad()
def start_from(model: Network, source: Network) -> Start:
    """Give `model` the weights of `source` wherever name and shape agree; the others stay as they are.

    Weights count as they are used: normalised weights (torch's weight normalisation) are taken from plain ones and the
    other way round, with the effect that they have. A filter of zeros leaves the direction of a normalised weight as it
    is and sets its gain to 0.

    Args:
        model: changed in place.
        source: of any kind; left as it is.

    Raises:
        ValueError: nothing fits; `model` is as it was.
    """
    found, own = dict(_weights(source)), dict(_weights(model))
    fits = {name: found[name] for name, value in own.items() if name in found and found[name].shape == value.shape}
    if not fits:
        raise ValueError(
            f"none of the {len(own)} parameters of this network ({model.kind}) has the name and shape of one of the "
            f"{len(found)} of the network to start from ({source.kind})"
        )
    for name, value in fits.items():
        _set(model, name, value)
    return Start(tuple(fits), tuple(name for name in own if name not in fits))


def _weights(network: nn.Module) -> list[tuple[str, Tensor]]:
    """Every parameter as it is used, by the name that it has without parametrization."""
    named = []
    for path, module in network.named_modules():
        if "parametrizations" in path.split("."):
            continue
        names = [*dict(module.named_parameters(recurse=False))]
        names += [*module.parametrizations] if parametrize.is_parametrized(module) else []
        named += [(f"{path}.{name}".lstrip("."), getattr(module, name).detach().clone()) for name in names]
    return named


def _set(network: nn.Module, name: str, value: Tensor) -> None:
    path, _, last = name.rpartition(".")
    module = network.get_submodule(path)
    if not parametrize.is_parametrized(module, last):
        getattr(module, last).copy_(value)
        return
    gain, direction = (module.get_parameter(f"parametrizations.{last}.original{i}") for i in (0, 1))
    norms = torch.linalg.vector_norm(value.flatten(1).double(), dim=1).to(value.dtype)
    gain.copy_(norms.view_as(gain))
    some = norms > 0
    direction[some] = value[some]
