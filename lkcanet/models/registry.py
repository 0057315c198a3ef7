"""The networks that training, checkpoints and commands know, by name."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from .capabilities import Capabilities

__all__ = ["KINDS", "PRESETS", "Network", "Preset", "enlarge", "register"]

UNNAMED = "lkcanet"  # the kind of records that name none: older ones don't, and those of LKCA-Nets stay as they are


class Network(nn.Module):
    """What a registered network has. To inherit from it is the simplest way; a class that has the same serves too.

    What the constructor makes of constants alone (kernels, masks) must be buffers, not plain tensors: a checkpoint's
    network is built without memory first.

    Attributes:
        kind: under which checkpoints name the class.
        config: the constructor's arguments, JSON-serialisable.
        bands: B of the hyperspectral image.
        scale: r, of its result.
        msi_bands: of the multispectral image that is fused with it; 0 where there is none.
    """

    kind: ClassVar[str]
    config: dict[str, Any]
    bands: int
    scale: int
    msi_bands: int = 0

    def fold(self) -> "Network":
        """A copy in eval mode for inference: without weight normalisation and what serves training only."""
        raise NotImplementedError

    def parameter_count(self) -> int:
        """The number of trainable values."""
        return sum(parameter.numel() for parameter in self.parameters())

    def macs(self, height: int, width: int) -> int:
        """Multiply-adds of one low-resolution image of this size, by the convention of the network's paper."""
        raise NotImplementedError

    def capabilities(self) -> Capabilities:
        """What it can do besides: strips, an estimate of its memory, rank, ... All are absent, or follow from
        `forward` and `fold`, where a network says nothing."""
        return Capabilities()


Kind = TypeVar("Kind", bound=Network)


def copied(network: Kind, **changes: Any) -> Kind:
    """A network of the same arguments but for `changes`, with those weights of this one that it has, frozen parameters
    and mode as there; it shares nothing."""
    with torch.device("meta"):  # its own values are not needed: copying draws no random numbers
        twin = type(network)(**{**network.config, **changes})
    own = network.state_dict()
    twin.load_state_dict({key: own[key].detach().clone() for key in twin.state_dict()}, assign=True)
    for key, parameter in twin.named_parameters():
        parameter.requires_grad_(network.get_parameter(key).requires_grad)
    return twin.train(network.training)


def check_image(network: Network, x: Tensor) -> Tensor:
    """The low-resolution image itself; raises a ValueError where it is no (N, B, H, W) of the network's bands."""
    if x.dim() != 4 or x.shape[1] != network.bands:
        raise ValueError(f"x must be (N, {network.bands}, H, W) for this network, got {tuple(x.shape)}")
    return x


def enlarge(model: Network, lowres: Tensor, msi: Tensor | None = None) -> Tensor:
    """The network's image (N, B, r H, r W) of one of (N, B, H, W), and of its MSI (N, b, r H, r W) where it fuses."""
    return model(lowres) if msi is None else model(lowres, msi)


class _Kinds(Mapping[str, type[Network]]):
    """Kind to class; a module is imported when its class is asked for."""

    def __init__(self, places: dict[str, str | type[Network]]) -> None:
        self._places = places

    def __getitem__(self, kind: str) -> type[Network]:
        place = self._places[kind]
        if not isinstance(place, str):
            return place
        module, _, name = place.partition(":")
        found: type[Network] = getattr(import_module(f".{module}", __package__), name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


_PLACES: dict[str, str | type[Network]] = {
    "lkcanet": "lkcanet:LKCANet",
    "edlgfs": "edlgfs:EDLGFS",
    "csakd": "csakd:CSAKD",
    "vdsr_lr": "baselines:VDSRLR",
    "cnn3d_lr": "baselines:CNN3DLR",
    "lkca_res": "lkca_res:LKCARes",
    "sspsr": "sspsr:SSPSR",
    "essaformer": "essaformer:ESSAformer",
    "msdformer": "msdformer:MSDformer",
}
KINDS: Mapping[str, type[Network]] = _Kinds(_PLACES)
_OBJECTIVES: dict[str, Callable[..., nn.Module]] = {}  # those of this package come from `lkcanet.objectives`


@dataclass(frozen=True)
class Preset:
    """A network by the name that the command line gives it.

    Attributes:
        kind: its kind.
        place: "module:name" of what makes it, in `lkcanet.models`, or the callable itself. It is called as
            make(bands, scale, **options), or make(bands, msi_bands, scale, **options) where `fuses`.
        fuses: whether it takes a multispectral image too.
    """

    kind: str
    place: str | Callable[..., Network]
    fuses: bool = False

    def make(self, bands: int, scale: int, msi_bands: int = 0, **options: Any) -> Network:
        """A fresh network. Raises ModuleNotFoundError where this version does not have it."""
        make: Any = self.place
        if isinstance(make, str):
            module, _, name = make.partition(":")
            make = getattr(import_module(f".{module}", __package__), name)
        network: Network = make(bands, msi_bands, scale, **options) if self.fuses else make(bands, scale, **options)
        return network


PRESETS: dict[str, Preset] = {
    "lkca_lr": Preset("lkcanet", "lkcanet:lkca_lr"),
    "lkca_net": Preset("lkcanet", "lkcanet:lkca_net"),
    "lkca_res": Preset("lkca_res", "lkca_res:LKCARes"),
    "edlgfs": Preset("edlgfs", "edlgfs:EDLGFS"),
    "vdsr_lr": Preset("vdsr_lr", "baselines:VDSRLR"),
    "cnn3d_lr": Preset("cnn3d_lr", "baselines:CNN3DLR"),
    "sspsr": Preset("sspsr", "sspsr:SSPSR"),
    "essaformer": Preset("essaformer", "essaformer:ESSAformer"),
    "msdformer": Preset("msdformer", "msdformer:MSDformer"),
    "csakd-student": Preset("csakd", "csakd:csakd_student", fuses=True),
    "csakd-student-as-described": Preset("csakd", "csakd:csakd_student_as_described", fuses=True),
    "csakd-student-l": Preset("csakd", "csakd:csakd_student_l", fuses=True),
    "csakd-student-l-as-described": Preset("csakd", "csakd:csakd_student_l_as_described", fuses=True),
    "csakd-teacher": Preset("csakd", "csakd:csakd_teacher", fuses=True),
    "csakd-teacher-l": Preset("csakd", "csakd:csakd_teacher_l", fuses=True),
}


def register(
    kind: str,
    network: type[Network],
    *,
    objective: Callable[..., nn.Module] | None = None,
    fuses: bool = False,
) -> None:
    """Make a network of your own known: its checkpoints load, and the commands take it as `--model kind`.

    Args:
        kind: its name, which `network.kind` must be.
        network: a class that has what `Network` has. Its constructor takes bands and scale first; bands, msi_bands and
            scale where it fuses.
        objective: what makes its own `lkcanet.objectives.Objective`, see `register_objective`. Networks without one
            train on the H loss.
        fuses: whether its forward takes a multispectral image.

    Raises:
        ValueError: the kind is taken by another class, or is not the class's.
        TypeError: `objective` can't be called.
    """
    if getattr(network, "kind", None) != kind:
        raise ValueError(f"{network.__name__}.kind must be {kind!r}, got {getattr(network, 'kind', None)!r}")
    if _PLACES.get(kind, network) is not network:
        raise ValueError(f"kind {kind!r} is taken by {_PLACES[kind]}")
    if objective is not None:
        register_objective(kind, objective)
    _PLACES[kind] = network
    PRESETS[kind] = Preset(kind, network, fuses)


def register_objective(kind: str, make: Callable[..., nn.Module], *, default: bool = False) -> None:
    """Give the networks of a kind an objective of their own, in place of the H loss.

    Args:
        kind: of the networks.
        make: called as make(network, options, **own) with the network, the `TrainOptions` of the run and what
            `--objective NAME=VALUE` gives; returns a `lkcanet.objectives.Objective`. A TypeError that it raises, such
            as Python's of an argument that there is not, is told as a ValueError.
        default: leave the one that the kind has already.

    Raises:
        TypeError: `make` can't be called.
    """
    if not callable(make):
        raise TypeError(f"the objective of {kind} must be a callable that makes it, got {make!r}")
    if not (default and kind in _OBJECTIVES):
        _OBJECTIVES[kind] = make


def own_objective(network: Network) -> Callable[..., nn.Module] | None:
    """What makes the objective of a network of this kind; None where it has none of its own."""
    return _OBJECTIVES.get(network.kind)


def named_kind(network: Network) -> dict[str, str]:
    """{"kind": ...} for a record of the network; nothing for the kind of records that name none."""
    return {} if network.kind == UNNAMED else {"kind": network.kind}
