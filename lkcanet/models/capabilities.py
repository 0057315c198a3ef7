"""What a network can do besides making an image, said by itself: strips, memory, ONNX, rank, compression, features."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import lkops.nn

from .chain import Link

if TYPE_CHECKING:
    from .registry import Network

__all__ = ["Capabilities", "Compression", "Lacking", "Strips", "Upsampler", "WorkingMemory"]

BICUBIC_ROWS = 2  # that the bicubic image reads on each side of a pixel
LEAST_ROWS = 8  # of a strip, in low-resolution pixels: at each end it computes `halo` rows in vain
Found = TypeVar("Found")


class Lacking(ValueError):
    """A network has not what was asked of it; says which network, what, and why."""


@dataclass(frozen=True, kw_only=True)
class Strips:
    """How a network's image is made in strips of rows: what sees the whole image first, then the rest by strips.

        features = whole_n(... whole_1(lowres)),   strip = rest(features, lowres, msi)   on the rows of a strip

    Attributes:
        rest: called with features and low-resolution image, (N, C, h, W) and (N, B, h, W), of a strip's rows and `halo`
            more on each side where the image has them; and with the same rows of the MSI, (N, b, r h, r W), or None.
            Returns (N, B, r h, r W). Without `whole` the features are the image.
        halo: rows of the low-resolution image that a row of the output depends on, on each side.
        whole: words for the progress, and what runs on the whole image.
        cost: multiply-adds of `rest` at a low-resolution pixel, for the progress: `whole` counts its parameters.
        least_rows: of a strip, in low-resolution pixels.
        residual: called as `rest`, returns what the network adds to the bicubic image of the strip; None: it is found
            by subtracting that.
    """

    rest: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    halo: int
    whole: tuple[tuple[str, nn.Module], ...] = ()
    cost: int = 1
    least_rows: int = LEAST_ROWS
    residual: Callable[[Tensor, Tensor, Tensor | None], Tensor] | None = None


class WorkingMemory(NamedTuple):
    """Bytes of what a network computes on the way.

    Attributes:
        body: what the parts that see the whole image hold at once, besides that image; free again when the strips
            start. 0 where there are no such parts.
        strip: while a strip is made, besides the image: what is kept of `body`, the strip's maps and its output.
    """

    body: int
    strip: int


@dataclass(frozen=True, kw_only=True)
class Upsampler:
    """The conv before the PixelShuffle that enlarges.

    Attributes:
        weight: (O, C / g, k, k), detached.
        groups: g.
        parameters: trainable values of the upsampler.
        products: multiply-adds of it for a pixel of the low-resolution image, as the network's `macs` counts them.
        kind: "weight"; or "direction" where `weight` is the direction of a weight normalisation whose gains are all 0,
            each row of norm 1.
    """

    weight: Tensor
    groups: int
    parameters: int
    products: int
    kind: str = "weight"

    @staticmethod
    def of(module: lkops.nn.UpsampleAdd) -> "Upsampler":
        """That of the module of lkops; factored convs count as the conv that both are together."""
        conv, first = module.conv, module.first
        weight, kind = conv.weight.detach(), "weight"
        if isinstance(first, nn.Conv2d):
            weight = torch.einsum("or,rikl->oikl", weight[:, :, 0, 0], first.weight.detach())
        elif parametrize.is_parametrized(conv) and not weight.any():
            direction = conv.get_parameter("parametrizations.weight.original1").detach().flatten(1).double()
            if direction.any():
                weight, kind = nn.functional.normalize(direction, dim=1).view(weight.shape), "direction"
        convs = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
        return Upsampler(
            weight=weight,
            groups=conv.groups,
            parameters=sum(parameter.numel() for parameter in module.parameters()),
            products=sum(each.weight.numel() for each in convs),
            kind=kind,
        )


def in_steps(steps: Iterable[nn.Module], scale: int = 1, times: int = 1, name: str = "step") -> dict[str, Upsampler]:
    """Modules of lkops that enlarge one after the other, for `Capabilities.upsamplers`.

    Args:
        steps: in their order.
        scale: how much larger than the low-resolution image the first one's input is.
        times: how often the network runs them.
        name: what they are called, with their number.
    """
    found: dict[str, Upsampler] = {}
    for number, step in enumerate(steps, 1):
        assert isinstance(step, lkops.nn.UpsampleAdd)
        own = Upsampler.of(step)
        found[f"{name} {number}"] = replace(own, products=own.products * scale**2 * times)
        scale *= step.scale
    return found


@dataclass(frozen=True, kw_only=True)
class Compression:
    """What `lkcanet.deploy.compression.compress` needs of a network, whose `config` must tell of another upsampler.

    Attributes:
        upsampler: the module that `lkops.compress` finds and changes.
        renumber: called as renumber(order) makes feature i, as the upsampler gets it, what feature order[i] was, in the
            weights before it.
    """

    upsampler: lkops.nn.UpsampleAdd
    renumber: Callable[[Tensor], None]


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What `Network.capabilities` returns. A text in a field's place says why the network has it not; so do defaults.

    One object, not attributes of the network: those would take names, such as `upsampler`, that a network has for parts
    of its own.

    Attributes:
        trains_every_parameter: every loss gives every parameter a gradient: training on several devices need not look
            for those without.
        receptive_field: low-resolution pixels, in each direction, that a pixel of the output depends on and no further,
            bicubic's 2 included. It is what strips are made of that agree with the whole image.
        reach: the same for convs and interpolations alone, where something else averages over the whole image; the
            receptive field if left out. It tells what a tile lacks.
        strips: how strips are made; by the receptive field if left out.
        memory: called as memory((N, B, H, W), rows) with the low-resolution image's shape and the rows of a strip, its
            halo included: the bytes that computing takes. Without strips `rows` is H, and a strip the whole image.
        head: the conv that the low-resolution image goes through first, for `lkcanet.training.whitening`.
        upsampler: the conv that enlarges, for its rank.
        upsamplers: the same of a network that enlarges in several steps, each by a conv of its own, by name; the
            `upsampler` alone if left out.
        residual_image: called with (N, B, H, W): what is added to the bicubic image, and the image, both
            (N, B, r H, r W). For distillation on features.
        onnx: the module that is traced for ONNX in float32 on the CPU, of the signature of `forward`; a folded copy of
            the network if left out. Whatever it is, its images in onnxruntime are compared.
        compression: for `lkcanet.deploy.compression.compress`.
        chain: the operators of a folded copy of the network, which compute its image, for runtimes without PyTorch.
    """

    trains_every_parameter: bool = False
    receptive_field: int | str = "it names no receptive field"
    reach: int | str | None = None
    strips: Strips | str | None = None
    memory: Callable[[Sequence[int], int], WorkingMemory] | str = "it names no formula of its activations"
    head: nn.Conv2d | str = "it names no conv that sees the bands alone"
    upsampler: Callable[[], Upsampler] | str = "it names no conv before a PixelShuffle"
    upsamplers: Callable[[], Mapping[str, Upsampler]] | None = None
    residual_image: Callable[[Tensor], tuple[Tensor, Tensor]] | str = "it names none"
    onnx: Callable[[], nn.Module] | str | None = None
    compression: Compression | str = "its config does not follow what lkops.compress makes of an upsampler"
    chain: Callable[[], list[Link]] | str = "it is no chain of the operators that the runtime has"


def capabilities_of(network: "Network") -> Capabilities:
    """Those of the network; none where its class, which need not inherit from `Network`, says nothing of them."""
    told: Callable[[], Capabilities] | None = getattr(network, "capabilities", None)
    return Capabilities() if told is None else told()


def strips_of(network: "Network") -> Strips:
    """How the network's image is made in strips. Raises Lacking."""
    own = capabilities_of(network)
    if own.strips is not None:
        return _found(network, "can't be computed in strips", own.strips)
    halo = _found(network, "can't be computed in strips", own.receptive_field)

    def rest(_: Tensor, lowres: Tensor, msi: Tensor | None) -> Tensor:
        image: Tensor = network(lowres) if msi is None else network(lowres, msi)
        return image

    # of the rows that are computed two thirds, at least, are not in vain
    return Strips(rest=rest, halo=halo, least_rows=max(LEAST_ROWS, 4 * halo))


def reach_of(network: "Network") -> int:
    """Low-resolution pixels, in each direction, that convs and interpolations read around one. Raises Lacking."""
    own = capabilities_of(network)
    return _found(network, "has no reach", own.receptive_field if own.reach is None else own.reach)


def working_memory_of(network: "Network", shape: Sequence[int], rows: int) -> WorkingMemory:
    """Bytes for a low-resolution image (N, B, H, W) in strips of so many rows, halo included. Raises Lacking."""
    return _found(network, "has no estimate of its memory", capabilities_of(network).memory)(shape, rows)


def head_of(network: "Network") -> nn.Conv2d:
    """The conv that the image goes through first. Raises Lacking."""
    return _found(network, "has no head to whiten", capabilities_of(network).head)


def upsampler_of(network: "Network") -> Upsampler:
    """The conv that enlarges. Raises Lacking."""
    return _found(network, "has no upsampler", capabilities_of(network).upsampler)()


def upsamplers_of(network: "Network") -> dict[str, Upsampler]:
    """The convs that enlarge, by name; of a network that has one, "" is its name. Raises Lacking."""
    several = capabilities_of(network).upsamplers
    return {"": upsampler_of(network)} if several is None else dict(several())


def residual_image_of(network: "Network") -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """What gives what is added to the bicubic image, and the image. Raises Lacking."""
    return _found(network, "has no features beside the bicubic image", capabilities_of(network).residual_image)


def onnx_form_of(network: "Network") -> nn.Module:
    """What is traced for ONNX, a module of its own. Raises Lacking."""
    form = capabilities_of(network).onnx
    return network.fold() if form is None else _found(network, "can't be written as ONNX", form)()


def chain_of(network: "Network") -> list[Link]:
    """The operators of a folded network. Raises Lacking."""
    return _found(network, "can't be run without PyTorch", capabilities_of(network).chain)()


def compression_of(network: "Network") -> Compression:
    """What compressing needs. Raises Lacking."""
    return _found(network, "can't be compressed", capabilities_of(network).compression)


def _found(network: "Network", lacks: str, value: Found | str) -> Found:
    if isinstance(value, str):
        raise Lacking(f"{getattr(network, 'kind', type(network).__name__)} {lacks}: {value}")
    return value
