"""What the capabilities of LKCA-Net, and of LKCA-Res with the same blocks, are computed by: reach, memory, and features
in another order."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import lkops.nn
from lkops import backends
from lkops._core import checks

from .capabilities import BICUBIC_ROWS, Strips, WorkingMemory

if TYPE_CHECKING:
    from .lkca_res import LKCARes
    from .lkcanet import LKCANet

_REFERENCE_MAPS, _REFERENCE_STRIPS = 12, 4  # that plain PyTorch holds at once in a block and in the upsampler: measured


def sizes(
    bands: int, scale: int, channels: int, upsample_groups: int, attention_groups: int, reduction: int
) -> dict[str, int]:
    """These arguments of a network by name, checked: whole, 1 or more, the upsampler's groups dividing C and B r^2."""
    given = {
        "bands": bands,
        "scale": scale,
        "channels": channels,
        "upsample_groups": upsample_groups,
        "attention_groups": attention_groups,
        "reduction": reduction,
    }
    given = {name: checks.positive(name, value) for name, value in given.items()}
    groups = given["upsample_groups"]
    for what, total in (("channels", given["channels"]), ("bands * scale^2", given["bands"] * given["scale"] ** 2)):
        if total % groups:
            raise ValueError(f"upsample_groups must divide {what}, {total}; got {groups}")
    return given


def block_macs(config: Mapping[str, Any]) -> tuple[int, int]:
    """Multiply-adds of a large-kernel block, as fvcore counts them: at each pixel, and once an image for the gate. The
    average pool of the gate counts one for each element that it reads."""
    c, kernels = config["channels"], config["kernel_sizes"]
    mix = 3 * c * c // config["attention_groups"]
    per_pixel = 2 * c * c + c * (kernels[0] ** 2 + kernels[1] ** 2) + mix + 3 * c
    return per_pixel, 2 * (3 * c) * (3 * c // config["reduction"])


def strips(upsample: lkops.nn.UpsampleAdd, whole: tuple[tuple[str, nn.Module], ...]) -> Strips:
    """Strips of the upsampler's output, of features that `whole` makes of the whole image."""
    return Strips(
        whole=whole,
        rest=lambda features, lowres, _: upsample(features, lowres),
        halo=max(upsample.reach, BICUBIC_ROWS),
        cost=sum(parameter.numel() for parameter in upsample.parameters()),
        residual=lambda features, lowres, _: upsample(features),
    )


def reach(model: "LKCANet") -> int:
    """The head's conv adds 1, a block the halves of its two dilated kernels (31 with 5x5 of dilation 5 and 7x7 of
    dilation 7), the upsampler's conv 1: 498 for 16 blocks."""
    head = model.head.weight.shape[2] // 2
    return max(head + len(model.blocks) * sum(margins(model)) + model.upsample.reach, BICUBIC_ROWS)


def memory(
    model: "LKCANet | LKCARes", shape: Sequence[int], made: int, *, held: int = 0, rank: int | None = None
) -> WorkingMemory:
    """With N images of P = H W pixels, B bands, C channels, scale r, e bytes an element and T threads:

        body        e ((held + 2) N + 3 M) C P + T planes   what is held for later; a block's input and output; u, a1
                    and a2 of M samples at a time
                    or, if more, the head: e N (C + max(B, C)) P, for torch reorders input or output
        strip       e N C P + e N (B r^2 + B + C) W s, of s rows

    `planes` are the three zero-padded planes of a thread in the depthwise convs; M is N, or T where whole samples are
    shared out to the threads (N is a multiple of T, or 8 T or more). Where lkops would run the blocks on its reference,
    in plain PyTorch (float64, or no compiled kernels), 12 maps count instead of 5, and the figure is rough: torch's
    convs of float64 take several times more where the image is small.

    Args:
        model: the network.
        shape: of the low-resolution image.
        made: s.
        held: maps besides that a network with skips around several blocks keeps.
        rank: channels between the convs of a factored upsampler.
    """
    batch, bands, rows, columns = shape
    parameter = next(model.parameters())
    element, channels = parameter.element_size(), model.blocks_config["channels"]
    plain = backends.choose("lk_block", None, [parameter]) == "reference"
    feature_map = element * channels * rows * columns
    seen = element * batch * bands * rows * columns
    blocks = (held + _REFERENCE_MAPS) * batch * feature_map
    if not plain:
        blocks = ((held + 2) * batch + 3 * _samples(parameter, batch)) * feature_map + _planes(model, rows, columns)
    strip = element * batch * bands * model.scale**2 * columns * made
    around = 0 if made == rows else element * batch * (bands + channels) * columns * made
    around += element * batch * (rank or 0) * columns * made
    return WorkingMemory(
        body=max(blocks, batch * feature_map + max(seen, batch * feature_map)),
        strip=batch * feature_map + (_REFERENCE_STRIPS if plain else 1) * strip + around,
    )


def margins(model: "LKCANet | LKCARes") -> list[int]:
    """Pixels around one that each depthwise conv of a block reads."""
    config = model.blocks_config  # not what tells of the upsampler, which lkops.compress may have changed
    return [dilation * (side // 2) for dilation, side in zip(config["dilations"], config["kernel_sizes"], strict=True)]


def _samples(parameter: Tensor, batch: int) -> int:
    """Samples of which a block's inner maps exist at the same time: `by_sample` of forward.h in
    csrc/large_kernel_channel_attention."""
    threads = torch.get_num_threads()
    shared_out = parameter.device.type == "cpu" and (batch % threads == 0 or batch >= 8 * threads)
    return min(batch, threads) if shared_out else batch


def _planes(model: "LKCANet | LKCARes", rows: int, columns: int) -> int:
    """Bytes of the padded planes in the depthwise convs of all threads."""
    if next(model.parameters()).device.type != "cpu":
        return 0
    return 4 * torch.get_num_threads() * sum((rows + 2 * m) * (columns + 2 * m) for m in (*margins(model), 0))


@torch.no_grad()
def renumber(model: "LKCANet", order: Tensor) -> None:
    """Make feature i what feature order[i] was, between the blocks. Inside of a block nothing moves."""
    _choose(model.head, 0, order)
    for block in model.blocks:
        part: Any = block
        _choose(part.projection.norm, 0, order)
        _choose(part.projection.conv, 1, order)
        _choose(part.out, 0, order)


def _choose(module: nn.Module, axis: int, order: Tensor) -> None:
    """Outputs (axis 0) or inputs (axis 1) of a layer in another order."""
    normalised = parametrize.is_parametrized(module, "weight")
    parameters = [] if normalised else [module.get_parameter("weight")]
    if normalised:  # gain and direction of a weight norm; a gain has one input
        parts = ("original0", "original1") if axis == 0 else ("original1",)
        parameters += [module.get_parameter(f"parametrizations.weight.{part}") for part in parts]
    if axis == 0:
        parameters.append(module.get_parameter("bias"))
    for parameter in parameters:
        parameter.copy_(parameter.index_select(axis, order))
